"""Definitions of collections: reading, checking, changing and storing them. Pure; see `pando.records` DESIGN.md."""
