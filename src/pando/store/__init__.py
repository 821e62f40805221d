"""The store process: one writer per database, the log, replication, and the applier.

Import from the modules; this package re-exports nothing so that a web process loads only what it uses.
"""
