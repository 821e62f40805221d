"""Pando from Python: a node for a program of one's own (see `pando.embedded.application`)."""
