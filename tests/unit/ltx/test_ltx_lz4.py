"""LZ4 in plain Python against the library, both ways, and against bytes that were never LZ4."""

import io
import random

import lz4.block
import lz4.frame
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pando.errors import LtxError
from pando.ltx import lz4codec, lz4frame
from pando.ltx.lz4pure import decompress_block_pure, literal_block
from pando.ltx.xxh32 import xxh32

CHUNKS = st.one_of(
    st.binary(max_size=40), st.builds(lambda b, n: b * n, st.binary(min_size=1, max_size=5), st.integers(1, 400))
)
DATA = st.lists(CHUNKS, min_size=1, max_size=12).map(b"".join)


def read_exactly(data):
    source = io.BytesIO(data)

    def take(size):
        part = source.read(size)
        if len(part) != size:
            raise LtxError("short")
        return part

    return take


@given(DATA)
def test_python_reads_the_librarys_blocks(data):
    for mode in ({}, {"mode": "high_compression", "compression": 12}):
        packed = lz4.block.compress(data, store_size=False, **mode)
        assert decompress_block_pure(packed, len(data)) == data


@given(DATA)
def test_the_library_reads_literal_blocks(data):
    packed = literal_block(data)
    assert lz4.block.decompress(packed, len(data)) == data
    assert decompress_block_pure(packed, len(data)) == data


@pytest.mark.parametrize("size", [0, 1, 14, 15, 16, 269, 270, 271, 512, 4096, 65536])
def test_literal_lengths(size):
    data = random.Random(size).randbytes(size)
    assert lz4.block.decompress(literal_block(data), size) == data
    assert decompress_block_pure(literal_block(data), size) == data
    assert len(literal_block(bytes(size))) <= lz4codec.block_size_max(size)


@given(
    DATA.filter(len),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sampled_from([4, 5, 6, 7]),
)
@example(random.Random(1).randbytes(65536), True, True, True, True, 4)
@example(bytes(65536), False, True, True, False, 7)
def test_python_reads_the_librarys_frames(data, linked, content, blocks, sized, block_size):
    packed = lz4.frame.compress(
        data,
        block_size=block_size,
        block_linked=linked,
        content_checksum=content,
        block_checksum=blocks,
        store_size=sized,
    )
    frame = lz4frame.read_frame(read_exactly(packed + b"next"), len(data))
    assert frame.raw == packed
    assert lz4frame.decompress_frame_pure(frame, len(data)) == data
    assert lz4codec.decompress_frame(frame, len(data)) == data


def test_linked_blocks_of_a_flushed_frame_refer_back():
    first, second = random.Random(1).randbytes(2048), random.Random(1).randbytes(2048)
    context = lz4.frame.LZ4FrameCompressor(block_linked=True, content_checksum=True, block_size=4, auto_flush=True)
    packed = context.begin() + context.compress(first) + context.compress(second) + context.flush()
    assert len(packed) < 2300
    frame = lz4frame.read_frame(read_exactly(packed), 4096)
    assert len(frame.blocks) == 2 and frame.linked
    assert lz4frame.decompress_frame_pure(frame, 4096) == first + second
    assert lz4codec.decompress_frame(frame, 4096) == first + second


@pytest.mark.parametrize("size", [1, 512, 4096, 65536])
def test_the_library_reads_stored_frames(size):
    data = random.Random(size).randbytes(size)
    packed = lz4frame.stored_frame(data)
    assert lz4.frame.decompress(packed) == data
    assert (
        packed[:7]
        == lz4.frame.compress(data, block_size=4, block_linked=False, content_checksum=True, store_size=False)[:7]
    )


@given(st.binary(max_size=80))
def test_any_bytes_as_a_block_give_data_or_ltx_error(junk):
    try:
        data = decompress_block_pure(junk, 300)
    except LtxError:
        with pytest.raises(LtxError):
            lz4codec.decompress_block(junk, 300)
    else:
        assert len(data) <= 300


@given(st.binary(max_size=60), st.sampled_from([b"", b"\x04\x22\x4d\x18", b"\x04\x22\x4d\x18\x64\x40\xa7"]))
def test_any_bytes_as_a_frame_give_a_frame_or_ltx_error(junk, start):
    try:
        frame = lz4frame.read_frame(read_exactly(start + junk), 512)
        lz4frame.decompress_frame_pure(frame, 512)
    except LtxError:
        pass


def test_a_block_is_never_decoded_past_the_page():
    bomb = b"\x1fA\1\0" + b"\xff" * 100_000 + b"\0\x50AAAAA"
    for decompress in (decompress_block_pure, lz4codec.decompress_block):
        with pytest.raises(LtxError):
            decompress(bomb, 4096)


def test_frame_checksums_are_verified_by_both():
    data = bytes(range(256)) * 2
    good = lz4.frame.compress(data, content_checksum=True, block_checksum=True, store_size=False)
    body = len(good) - 8 - 4
    for at in (6, body, len(good) - 1):
        bad = good[:at] + bytes((good[at] ^ 1,)) + good[at + 1 :]
        frame = lz4frame.read_frame(read_exactly(bad), 512)
        for decompress in (lz4frame.decompress_frame_pure, lz4codec.decompress_frame):
            with pytest.raises(LtxError):
                decompress(frame, 512)


@given(st.binary(max_size=100))
def test_xxh32_is_the_one_in_frames(data):
    packed = lz4.frame.compress(data + b"x", content_checksum=True, store_size=False)
    assert int.from_bytes(packed[-4:], "little") == xxh32(data + b"x")
