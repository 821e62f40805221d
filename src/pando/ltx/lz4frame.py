"""The structure of an LZ4 frame: cutting one out of a stream, and reading and writing it without the `lz4` package.

What is read: version 1 frames with any block size, linked or independent blocks, optional checksums and content size.
Refused: dictionaries, skippable frames, anything longer than a page can need.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from pando.errors import LtxError
from pando.ltx.failures import broken
from pando.ltx.lz4pure import decompress_block_pure
from pando.ltx.xxh32 import xxh32

FRAME_MAGIC: Final = b"\x04\x22\x4d\x18"
_STORED: Final = 0x8000_0000
_END_MARK: Final = bytes(4)
_HISTORY_BYTES: Final = 64 * 1024
_BLOCK_SIZES: Final = {4: 64 * 1024, 5: 256 * 1024, 6: 1024 * 1024, 7: 4096 * 1024}

_FRAME_SIZE_MIN: Final = 11
_PAGE_FRAME_HEADER: Final = FRAME_MAGIC + b"\x64\x40\xa7"
"""Version 1, independent blocks of at most 64 KiB, content checksum, no size: what the reference writes."""


class Frame(NamedTuple):
    """One frame, cut out but not decoded. A block is its bytes and whether it is stored as it is."""

    raw: bytes
    descriptor: bytes
    descriptor_check: int
    blocks: tuple[tuple[bool, bytes], ...]
    block_checks: tuple[int, ...]
    content_check: int | None
    linked: bool


def _bad(what: str, value: object, rule: str) -> LtxError:
    return broken(f"LZ4 frame {what}", value, rule)


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")


class _Taker:
    """Takes bytes, first those that were seen already, and keeps them, up to a bound."""

    def __init__(self, take: Callable[[int], bytes], size_max: int, seen: bytes) -> None:
        self._take = take
        self._left = size_max
        self._seen = seen
        self.parts: list[bytes] = []

    def __call__(self, size: int) -> bytes:
        self._left -= size
        if self._left < 0:
            raise _bad("size", f"{-self._left} bytes too long", "one page does not need so much")
        part, self._seen = self._seen[:size], self._seen[size:]
        if len(part) < size:
            part += self._take(size - len(part))
        self.parts.append(part)
        return part


def read_frame(take: Callable[[int], bytes], page_size: int) -> Frame:
    """Cut the frame of one page out of a stream; `take(n)` gives exactly n bytes or raises. Raises LtxError."""
    block_max = page_size + page_size // 255 + 16
    seen = take(_FRAME_SIZE_MIN)
    size_field = _number(seen[7:])
    size = size_field & ~_STORED
    if seen[:7] == _PAGE_FRAME_HEADER and 0 < size <= block_max:
        # The form that everybody writes for a page: one block, end mark, content checksum.
        rest = take(size + 8)
        if rest[size:-4] == _END_MARK:
            block = (size != size_field, rest[:size])
            return Frame(seen + rest, seen[4:6], seen[6], (block,), (), _number(rest[-4:]), False)
        seen += rest
    # A writer may flush a page in several blocks; twice the worst case is far more than any known one needs.
    return _read_any_frame(_Taker(take, 2 * block_max + 64, seen), page_size, block_max)


def _read_any_frame(taker: _Taker, page_size: int, block_max: int) -> Frame:
    magic = taker(4)
    if magic != FRAME_MAGIC:
        raise _bad("magic", magic.hex(), f"must be {FRAME_MAGIC.hex()}")
    descriptor = _read_descriptor(taker, page_size)
    flags = descriptor[0]
    descriptor_check = taker(1)[0]
    block_max = min(block_max, _BLOCK_SIZES[descriptor[1] >> 4])
    blocks: list[tuple[bool, bytes]] = []
    block_checks: list[int] = []
    while (size := _number(taker(4))) != 0:
        stored, size = bool(size & _STORED), size & ~_STORED
        if not 0 < size <= block_max:
            raise _bad("block size", size, f"must be from 1 to {block_max}")
        blocks.append((stored, taker(size)))
        if flags & 0x10:
            block_checks.append(_number(taker(4)))
    content_check = _number(taker(4)) if flags & 0x04 else None
    raw = b"".join(taker.parts)
    return Frame(raw, descriptor, descriptor_check, tuple(blocks), tuple(block_checks), content_check, not flags & 0x20)


def _read_descriptor(taker: _Taker, page_size: int) -> bytes:
    descriptor = taker(2)
    flags, sizes = descriptor
    if flags & 0xC2 != 0x40:
        raise _bad("flags", flags, "must be version 1 with no reserved bit")
    if flags & 0x01:
        raise _bad("flags", flags, "dictionaries are not used here")
    if sizes & 0x8F or sizes >> 4 not in _BLOCK_SIZES:
        raise _bad("block descriptor", sizes, "must be a block size code from 4 to 7")
    if flags & 0x08:
        content_size = taker(8)
        if _number(content_size) != page_size:
            raise _bad("content size", _number(content_size), f"must be the page size {page_size}")
        descriptor += content_size
    return descriptor


def stored_frame(data: bytes) -> bytes:
    """Give a frame that holds the data in one stored block; `data` has 1 to 65536 bytes."""
    size = (len(data) | _STORED).to_bytes(4, "little")
    return b"".join((_PAGE_FRAME_HEADER, size, data, _END_MARK, xxh32(data).to_bytes(4, "little")))


def decompress_frame_pure(frame: Frame, size: int) -> bytes:
    """Decode a frame to exactly `size` bytes, verifying all its checksums; raises LtxError."""
    expected = xxh32(frame.descriptor) >> 8 & 0xFF
    if frame.descriptor_check != expected:
        raise _bad("descriptor checksum", frame.descriptor_check, f"must be {expected}")
    for check, (_, data) in zip(frame.block_checks, frame.blocks, strict=False):
        if check != xxh32(data):
            raise _bad("block checksum", check, "does not match the block")
    out = b""
    for stored, data in frame.blocks:
        history = out[-_HISTORY_BYTES:] if frame.linked else b""
        out += data if stored else decompress_block_pure(data, size - len(out), history)
    if len(out) != size:
        raise broken("page data", f"{len(out)} bytes", f"decompressed to another size than the page's {size}")
    if frame.content_check is not None and frame.content_check != xxh32(out):
        raise _bad("content checksum", frame.content_check, "does not match the content")
    return out
