"""`pando.ltx` imported afresh with and without its two optional libraries, side by side in one process."""

import contextlib
import functools
import importlib
import sys
from itertools import product

import pando

COMBINATIONS = list(product((True, False), (True, False)))
BLOCKED = {"lz4": ("lz4", "lz4.block", "lz4.frame"), "fastcrc": ("fastcrc", "fastcrc.crc64")}


@functools.cache
def load_variant(with_lz4, with_fastcrc):
    """Give a copy of the package of its own; the one that other tests use stays as it is."""
    blocked = (() if with_lz4 else BLOCKED["lz4"]) + (() if with_fastcrc else BLOCKED["fastcrc"])
    with modules_put_back():
        for name in [name for name in sys.modules if name == "pando.ltx" or name.startswith("pando.ltx.")]:
            del sys.modules[name]
        sys.modules.update(dict.fromkeys(blocked))
        variant = importlib.import_module("pando.ltx")
        codec = importlib.import_module("pando.ltx.lz4codec")
        checksum = importlib.import_module("pando.ltx.checksum")
    assert with_lz4 == codec.HAS_LZ4
    assert (checksum.crc64 is checksum.crc64_folding) != with_fastcrc
    return variant


@contextlib.contextmanager
def modules_put_back():
    modules, package = dict(sys.modules), importlib.import_module("pando.ltx")
    try:
        yield
    finally:
        sys.modules.clear()
        sys.modules.update(modules)
        pando.ltx = package


def variant_name(combination):
    with_lz4, with_fastcrc = combination
    return f"{'lz4' if with_lz4 else 'no-lz4'}+{'fastcrc' if with_fastcrc else 'no-fastcrc'}"
