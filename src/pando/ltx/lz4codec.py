"""LZ4 for single pages: raw blocks and whole frames, with `lz4` when it is installed and in plain Python otherwise.

Both ways read everything that the other writes. Without `lz4` nothing is compressed when writing: blocks are literals
only, frames hold one stored block. Nothing is decoded past the size that the caller expects, and a frame is cut out of
a stream by its own lengths, each checked first. `lz4frame` has the frame's structure. Not here: which of the two a page
uses (`encoder`, `decoder`).
"""

from __future__ import annotations

from functools import lru_cache

from pando.ltx import lz4frame
from pando.ltx.failures import broken
from pando.ltx.lz4frame import Frame
from pando.ltx.lz4pure import decompress_block_pure, literal_block

try:
    import lz4.block as _block
    import lz4.frame as _frame
except ImportError:
    HAS_LZ4 = False
else:
    HAS_LZ4 = True


@lru_cache(maxsize=16)
def block_size_max(page_size: int) -> int:
    """Give the longest block that an LZ4 compressor makes of a page."""
    return page_size + page_size // 255 + 16


def _compress_block_lz4(data: bytes) -> bytes:
    packed: bytes = _block.compress(data, store_size=False)
    return packed


def _decompress_block_lz4(block: bytes, size: int) -> bytes:
    try:
        data: bytes = _block.decompress(block, size)
    except _block.LZ4BlockError as error:
        raise broken("page data", f"{len(block)} bytes", f"is no LZ4 block of a page ({error})") from error
    if len(data) != size:
        raise broken("page data", f"{len(data)} bytes", f"decompressed to another size than the page's {size}")
    return data


def _decompress_block_python(block: bytes, size: int) -> bytes:
    data = decompress_block_pure(block, size)
    if len(data) != size:
        raise broken("page data", f"{len(data)} bytes", f"decompressed to another size than the page's {size}")
    return data


def _compress_frame_lz4(data: bytes) -> bytes:
    packed: bytes = _frame.compress(
        data, block_size=_frame.BLOCKSIZE_MAX64KB, block_linked=False, content_checksum=True, store_size=False
    )
    return packed


def _decompress_frame_lz4(frame: Frame, size: int) -> bytes:
    context = _frame.create_decompression_context()
    try:
        data: bytes
        data, consumed, ended = _frame.decompress_chunk(context, frame.raw, max_length=size + 1)
    except RuntimeError as error:
        raise broken("page data", f"{len(frame.raw)} bytes", f"is no sound LZ4 frame ({error})") from error
    if len(data) != size or not ended or consumed != len(frame.raw):
        raise broken("page data", f"{len(data)} bytes", f"decompressed to another size than the page's {size}")
    return data


compress_block = _compress_block_lz4 if HAS_LZ4 else literal_block
"""`compress_block(data)`: one raw LZ4 block, without its size."""

decompress_block = _decompress_block_lz4 if HAS_LZ4 else _decompress_block_python
"""`decompress_block(block, size)`: exactly `size` bytes, or LtxError."""

compress_frame = _compress_frame_lz4 if HAS_LZ4 else lz4frame.stored_frame
"""`compress_frame(data)`: one LZ4 frame with a content checksum and no size; at most 64 KiB of data."""

decompress_frame = _decompress_frame_lz4 if HAS_LZ4 else lz4frame.decompress_frame_pure
"""`decompress_frame(frame, size)`: exactly `size` bytes, or LtxError; the frame's own checksums are verified."""
