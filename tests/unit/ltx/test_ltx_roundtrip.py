"""What is written is read, with every combination of optional libraries on either side."""

import io
import random
import subprocess
import sys
import tempfile
import tracemalloc
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ltx_variants import COMBINATIONS, load_variant

import pando
from pando.errors import InvariantError, LtxError
from pando.types import lock_pgno

FLAG = 1 << 63


def content(seed, size):
    generator = random.Random(seed)
    kind = seed % 3
    if kind == 0:
        return bytes(size)
    return generator.randbytes(size) if kind == 1 else (generator.randbytes(16) * (size // 16))


@st.composite
def files(draw):
    """Header fields and pages of a sound file of one kind or another."""
    page_size = draw(st.sampled_from([512, 1024, 4096, 65536]))
    snapshot = draw(st.booleans())
    commit = draw(st.integers(1, 12))
    numbers = range(1, commit + 1) if snapshot else sorted(draw(st.sets(st.integers(1, commit))))
    pages = [(pgno, content(draw(st.integers(0, 1000)), page_size)) for pgno in numbers]
    low = 1 if snapshot else draw(st.integers(2, 2**40))
    fields = {
        "page_size": page_size,
        "commit": commit,
        "min_txid": low,
        "max_txid": low + draw(st.integers(0, 3)),
        "timestamp_ms": draw(st.integers(0, 2**42)),
        "pre_apply_checksum": 0 if snapshot else draw(st.integers(0, 2**63 - 1)) | FLAG,
    }
    return fields, pages


def post_apply(ltx, fields, pages):
    return ltx.rolling_checksum(pages, fields["page_size"]) if fields["min_txid"] == 1 else FLAG | 7


def stream(ltx, header, pages, post, encoding):
    out = io.BytesIO()
    encoder = ltx.LtxEncoder(out.write, header, encoding)
    for pgno, page in pages:
        encoder.write_page(pgno, page)
    return out.getvalue(), encoder.close(post), out


@pytest.mark.slow
@given(files())
@settings(deadline=None, max_examples=30)
def test_round_trip_of_all_combinations(made):
    fields, pages = made
    for writing, name in product(COMBINATIONS, ("STREAM", "BACKUP")):
        ltx = load_variant(*writing)
        encoding = ltx.Encoding[name]
        header = ltx.LtxHeader(**fields)
        post = post_apply(ltx, fields, pages)
        data = ltx.encode_ltx(header, pages, post, encoding=encoding)
        _, trailer, out = stream(ltx, header, pages, post, encoding)
        assert out.getvalue() == data
        for reading in COMBINATIONS:
            reader = load_variant(*reading)
            file = reader.decode_ltx(data)
            assert file.pages == pages
            assert file.header.encode() == header.in_encoding(encoding).encode()
            assert file.trailer.encode() == trailer.encode() == data[-16:]
            decoder = reader.LtxDecoder(io.BytesIO(data).read)
            assert list(decoder) == pages
            assert decoder.verified_trailer == file.trailer
            decoder.expect_end()


def test_both_encodings_hold_the_same(ltx):
    pages = [(n, content(n, 4096)) for n in (2, 5, 9)]
    header = ltx.LtxHeader(page_size=4096, commit=9, min_txid=4, max_txid=4, pre_apply_checksum=FLAG | 3)
    as_stream = ltx.decode_ltx(ltx.encode_ltx(header, pages, FLAG | 9))
    as_backup = ltx.decode_ltx(ltx.encode_ltx(header, pages, FLAG | 9, encoding=ltx.Encoding.BACKUP))
    assert as_stream.pages == as_backup.pages == pages
    assert as_stream.trailer.post_apply_checksum == FLAG | 9
    assert as_backup.trailer.post_apply_checksum == as_backup.header.pre_apply_checksum == 0


def test_decoders_take_memoryviews_and_readers_of_single_bytes(ltx):
    pages = [(1, content(1, 512)), (2, content(2, 512))]
    header = ltx.LtxHeader(page_size=512, commit=2, min_txid=1, max_txid=1)
    for encoding in ltx.Encoding:
        data = ltx.encode_ltx(header, pages, ltx.rolling_checksum(pages, 512), encoding=encoding)
        assert ltx.decode_ltx(memoryview(data)).pages == pages
        source = io.BytesIO(data)
        assert list(ltx.LtxDecoder(lambda size, source=source: source.read(min(size, 1)))) == pages


def test_the_reader_stops_at_the_trailer(ltx):
    header = ltx.LtxHeader(page_size=512, commit=1, min_txid=1, max_txid=1)
    page = content(1, 512)
    data = ltx.encode_ltx(header, [(1, page)], ltx.rolling_checksum([(1, page)], 512))
    source = io.BytesIO(data + data)
    for _ in range(2):
        decoder = ltx.LtxDecoder(source.read)
        decoder.finish()
    decoder.expect_end()
    with pytest.raises(LtxError) as caught:
        ltx.LtxDecoder(source.read)
    assert caught.value.code == ltx.LTX_EMPTY


def test_the_trailer_is_not_given_before_the_end(ltx):
    header = ltx.LtxHeader(page_size=512, commit=1, min_txid=1, max_txid=1)
    data = ltx.encode_ltx(header, [(1, bytes(512))], ltx.page_checksum(1, bytes(512)))
    decoder = ltx.LtxDecoder(io.BytesIO(data).read)
    next(iter(decoder))
    with pytest.raises(InvariantError):
        _ = decoder.verified_trailer
    with pytest.raises(InvariantError):
        next(iter(decoder))


def test_a_page_may_be_any_buffer(ltx):
    page = bytearray(content(2, 512))
    header = ltx.LtxHeader(page_size=512, commit=1, min_txid=1, max_txid=1)
    post = ltx.page_checksum(1, bytes(page))
    for encoding in ltx.Encoding:
        data = ltx.encode_ltx(header, [(1, memoryview(page))], post, encoding=encoding)
        assert ltx.decode_ltx(data).pages == [(1, bytes(page))]


def test_pages_on_both_sides_of_the_lock_page(ltx):
    lock = lock_pgno(65536)
    pages = [(lock - 1, content(1, 65536)), (lock + 1, content(2, 65536))]
    header = ltx.LtxHeader(page_size=65536, commit=lock + 1, min_txid=2, max_txid=2, pre_apply_checksum=FLAG)
    data = ltx.encode_ltx(header, pages, FLAG | 1, previous_commit=lock - 2)
    file = ltx.decode_ltx(data)
    assert file.pages == pages
    file.check_growth(lock - 2)
    with pytest.raises(LtxError, match="grew"):
        file.check_growth(lock - 3)


def test_memory_is_bounded_by_the_index():
    """24 MiB go through encoder and decoder; what they hold stays far below."""
    ltx = load_variant(True, True)
    page_size, count = 65536, 384
    pattern = random.Random(1).randbytes(page_size)
    header = ltx.LtxHeader(page_size=page_size, commit=count, min_txid=1, max_txid=1)
    with tempfile.TemporaryFile(buffering=0) as file:
        tracemalloc.start()
        encoder = ltx.LtxEncoder(file.write, header, ltx.Encoding.BACKUP)
        for pgno in range(1, count + 1):
            encoder.write_page(pgno, pattern)
        encoder.close(0)
        file.seek(0)
        decoder = ltx.LtxDecoder(file.read)
        assert sum(1 for _ in decoder) == count
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert file.tell() > count * page_size
    assert peak < 2 * 1024 * 1024


def test_needs_the_standard_library_only():
    """Without site-packages the package is imported and does its work."""
    source = Path(pando.__file__).parents[1]
    program = f"""
import sys
sys.path.insert(0, {str(source)!r})
from pando.ltx import *
header = LtxHeader(page_size=4096, commit=2, min_txid=1, max_txid=1)
pages = [(1, bytes(4096)), (2, bytes(range(256)) * 16)]
for encoding in Encoding:
    data = encode_ltx(header, pages, rolling_checksum(pages, 4096), encoding=encoding)
    assert decode_ltx(data).pages == pages
assert not any(name.split('.')[0] in ('lz4', 'fastcrc', 'msgspec') for name in sys.modules)
"""
    result = subprocess.run([sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True)
    assert (result.returncode, result.stderr) == (0, "")
