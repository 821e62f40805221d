"""Pando: an application backend that grows from one process on one SQLite file into a cluster."""

__version__ = "0.1.0"
