"""Damaged files: cut at every byte, flipped at every byte, with huge claims. The answer is always LtxError."""

import io
import struct
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.errors import LtxError
from pando.ltx import Encoding, LtxDecoder, LtxHeader, decode_ltx, encode_ltx, rolling_checksum

FLAG = 1 << 63
PAGES = [(1, bytes(range(256)) * 2), (2, b"ab" * 256), (3, bytes(512))]


def stream_whole(ltx, data):
    decoder = ltx.LtxDecoder(io.BytesIO(data).read)
    pages = list(decoder)
    decoder.expect_end()
    return ltx.LtxFile(decoder.header, pages, decoder.verified_trailer)


def in_memory(ltx, data):
    return ltx.decode_ltx(data)


def make(ltx, encoding, snapshot):
    fields = {"min_txid": 1} if snapshot else {"min_txid": 7, "pre_apply_checksum": FLAG | 1}
    header = ltx.LtxHeader(page_size=512, commit=3, max_txid=8, wal_offset=32, wal_salt1=1, node_id=5, **fields)
    return ltx.encode_ltx(header, PAGES, ltx.rolling_checksum(PAGES, 512), encoding=ltx.Encoding[encoding])


@pytest.mark.parametrize("encoding", ["STREAM", "BACKUP"])
@pytest.mark.parametrize("decode", [in_memory, stream_whole])
def test_cut_at_every_byte(ltx, encoding, decode):
    data = make(ltx, encoding, True)
    for size in range(len(data)):
        with pytest.raises(LtxError) as caught:
            decode(ltx, data[:size])
        assert caught.value.code == (ltx.LTX_TRUNCATED if size else ltx.LTX_EMPTY), size
    assert decode(ltx, data).pages == PAGES


@pytest.mark.parametrize("encoding", ["STREAM", "BACKUP"])
@pytest.mark.parametrize("snapshot", [True, False])
@pytest.mark.parametrize("decode", [in_memory, stream_whole])
def test_flipped_at_every_byte(ltx, encoding, snapshot, decode):
    """A flip is found, or it was in a payload byte that decompresses to the very same page."""
    data = make(ltx, encoding, snapshot)
    sound = decode(ltx, data)
    unnoticed = 0
    for at in range(len(data)):
        for mask in (0xFF, 1 << at % 8):
            damaged = data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]
            try:
                found = decode(ltx, damaged)
            except LtxError:
                continue
            assert found == sound, (at, mask)
            unnoticed += 1
    assert unnoticed < 20


@pytest.mark.parametrize("encoding", ["STREAM", "BACKUP"])
def test_what_the_file_checksum_covers(ltx, encoding):
    """Swapping two sound pages' frames, or taking header and trailer from another file, is found."""
    one = make(ltx, encoding, True)
    other = make(ltx, encoding, False)
    for damaged in (other[:100] + one[100:], one[:-16] + other[-16:]):
        with pytest.raises(LtxError):
            ltx.decode_ltx(damaged)


@pytest.mark.parametrize("size", [0, 531, 1 << 20, 0xFFFF_FFFF])
@pytest.mark.parametrize("decode", [in_memory, stream_whole])
def test_a_claimed_page_length_is_checked_before_it_is_read(ltx, size, decode):
    data = bytearray(make(ltx, "STREAM", True))
    data[106:110] = struct.pack(">I", size)
    asked = []

    class Source(io.BytesIO):
        def read(self, size=-1):
            asked.append(size)
            return super().read(size)

    with pytest.raises(LtxError, match="page data size"):
        if decode is in_memory:
            decode(ltx, bytes(data))
        else:
            list(ltx.LtxDecoder(Source(bytes(data)).read))
    assert max(asked, default=0) <= 600


@pytest.mark.parametrize("commit", [0xFFFF_FFFF])
@pytest.mark.parametrize("decode", [in_memory, stream_whole])
def test_a_huge_commit_allocates_nothing(ltx, commit, decode):
    header = ltx.LtxHeader(page_size=65536, commit=commit, min_txid=1, max_txid=1)
    head = header.encode() + struct.pack(">IHI", 1, 1, 65000)
    tracemalloc.start()
    with pytest.raises(LtxError):
        decode(ltx, head)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 500_000


def test_a_frame_never_gives_more_than_a_page(ltx):
    import lz4.frame

    frame = lz4.frame.compress(bytes(4 << 20), block_size=7, store_size=False, content_checksum=True)
    header = ltx.LtxHeader(page_size=65536, commit=1, min_txid=1, max_txid=1)
    tracemalloc.start()
    with pytest.raises(LtxError):
        ltx.decode_ltx(header.encode() + struct.pack(">IH", 1, 0) + frame)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1 << 20


@given(st.binary(max_size=300), st.sampled_from([b"", b"LTX1", "header", "page"]))
@settings(deadline=None)
def test_any_bytes_give_ltx_error(junk, start):
    if start == "header":
        start = LtxHeader(page_size=512, commit=2, min_txid=1, max_txid=1).encode()
    elif start == "page":
        start = encode_ltx(
            LtxHeader(page_size=512, commit=3, min_txid=1, max_txid=1), PAGES, rolling_checksum(PAGES, 512)
        )[:-30]
    with pytest.raises(LtxError):
        decode_ltx(start + junk)
    with pytest.raises(LtxError):
        LtxDecoder(io.BytesIO(start + junk).read).finish()


@given(st.data())
@settings(deadline=None)
def test_several_changes_at_once_are_found(data):
    encoding = data.draw(st.sampled_from(list(Encoding)))
    header = LtxHeader(page_size=512, commit=3, min_txid=1, max_txid=1)
    sound = encode_ltx(header, PAGES, rolling_checksum(PAGES, 512), encoding=encoding)
    damaged = bytearray(sound)
    for at in data.draw(st.sets(st.integers(0, len(sound) - 1), min_size=1, max_size=5)):
        damaged[at] = data.draw(st.integers(0, 255))
    try:
        found = decode_ltx(bytes(damaged))
    except LtxError:
        return
    assert found == decode_ltx(sound)
