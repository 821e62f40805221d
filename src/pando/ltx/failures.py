"""How a broken LTX file is reported: always LtxError, with a code that tells torn from corrupt.

`LTX_EMPTY`: not one byte was there (a clean end, where files follow each other). `LTX_TRUNCATED`: the bytes end before
the file does (a torn tail). `LTX_INVALID`: the bytes cannot be right.
"""

from __future__ import annotations

from pando.errors import LtxError

LTX_EMPTY = "LTX_EMPTY"
LTX_TRUNCATED = "LTX_TRUNCATED"


def broken(field: str, value: object, rule: str) -> LtxError:
    """Make the error for a field whose value breaks a rule of the format."""
    return LtxError(f"LTX {field} is {value!r}: {rule}")


def truncated(field: str, wanted: int, found: int) -> LtxError:
    """Make the error for a file that ends inside `field`."""
    return LtxError(f"LTX file ends inside {field}: {wanted} bytes expected, {found} found", code=LTX_TRUNCATED)


def empty() -> LtxError:
    """Make the error for a file without a byte."""
    return LtxError("LTX file is empty", code=LTX_EMPTY)


def hex64(value: int) -> str:
    """Show a checksum the way the rest of Pando does."""
    return f"{value:016x}"
