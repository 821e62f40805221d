"""LZ4 blocks in plain Python: a bounded decoder, and a writer that stores literals only."""

from __future__ import annotations

from functools import lru_cache

from pando.errors import LtxError
from pando.ltx.failures import broken

_MATCH_MIN = 4


@lru_cache(maxsize=16)
def _literal_prefix(size: int) -> bytes:
    if size < 15:
        return bytes((size << 4,))
    full, rest = divmod(size - 15, 255)
    return b"\xf0" + b"\xff" * full + bytes((rest,))


def literal_block(data: bytes) -> bytes:
    """Give an LZ4 block that holds the data as it is: one token, the length, the bytes."""
    return _literal_prefix(len(data)) + data


def _bad(why: str) -> LtxError:
    return broken("page data", why, "is no LZ4 block of a page")


def _long_length(block: bytes, at: int, length: int) -> tuple[int, int]:
    while True:
        if at >= len(block):
            raise _bad("ends inside a length")
        byte = block[at]
        at += 1
        length += byte
        if byte != 255:
            return length, at


def _copy_match(out: bytearray, offset: int, length: int) -> None:
    """Append `length` bytes that start `offset` back; they may overlap what is being written."""
    start = len(out) - offset
    if length <= offset:
        out += out[start : start + length]
    else:
        pattern = out[start:]
        repeats, rest = divmod(length, offset)
        out += pattern * repeats + pattern[:rest]


def decompress_block_pure(block: bytes, size_max: int, history: bytes = b"") -> bytes:
    """Decode a block that may refer back to `history`; raises LtxError when it is broken or longer than `size_max`."""
    out = bytearray(history)
    out_end = len(out) + size_max
    at = 0
    while at < len(block):
        token = block[at]
        literals, at = token >> 4, at + 1
        if literals == 15:
            literals, at = _long_length(block, at, literals)
        if at + literals > len(block) or len(out) + literals > out_end:
            raise _bad(f"{literals} literals do not fit")
        out += block[at : at + literals]
        at += literals
        if at == len(block):
            return bytes(out[len(history) :])
        if at + 2 > len(block):
            raise _bad("ends inside an offset")
        offset = block[at] | block[at + 1] << 8
        at += 2
        length = token & 15
        if length == 15:
            length, at = _long_length(block, at, length)
        length += _MATCH_MIN
        if not 0 < offset <= len(out) or len(out) + length > out_end:
            raise _bad(f"a match of {length} bytes {offset} back does not fit")
        _copy_match(out, offset, length)
    raise _bad("ends without its last literals")
