"""Benchmarks of Core: `make bench`, or `python -m benchmarks [--quick] [parts]` from the checkout."""
