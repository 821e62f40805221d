"""The encoder refuses what a reader would refuse, before it has written it."""

import io

import pytest

from pando.errors import InvariantError, LtxError
from pando.ltx import Encoding, LtxEncoder, LtxHeader, decode_ltx, encode_ltx, rolling_checksum
from pando.types import EMPTY_CHECKSUM, lock_pgno

FLAG = 1 << 63
POST = FLAG | 9
PAGE = bytes(range(256)) * 2


def delta(**fields):
    return LtxHeader(
        **{"page_size": 512, "commit": 4, "min_txid": 3, "max_txid": 3, "pre_apply_checksum": FLAG} | fields
    )


def snapshot(commit, **fields):
    return LtxHeader(page_size=512, commit=commit, min_txid=1, max_txid=3, **fields)


def write_stream(header, pages, post, *, encoding=Encoding.STREAM, previous_commit=None):
    out = io.BytesIO()
    encoder = LtxEncoder(out.write, header, encoding, previous_commit=previous_commit)
    for pgno, page in pages:
        encoder.write_page(pgno, page)
    encoder.close(post)
    return out.getvalue()


@pytest.fixture(params=[encode_ltx, write_stream], ids=["encode_ltx", "LtxEncoder"])
def write(request):
    return request.param


def numbered(*numbers):
    return [(number, PAGE) for number in numbers]


@pytest.mark.parametrize("encoding", Encoding)
@pytest.mark.parametrize(
    ("header", "pages", "word"),
    [
        (delta(), numbered(2, 1), "page number"),
        (delta(), numbered(2, 2), "page number"),
        (delta(), numbered(0), "page number"),
        (delta(), numbered(-1), "page number"),
        (delta(), numbered(5), "commit"),
        (delta(), [(1, PAGE[:-1])], "page size"),
        (delta(), [(1, PAGE + b"x")], "page size"),
        (delta(), [(1, b"")], "page size"),
        (snapshot(3), numbered(1, 3), "snapshot"),
        (snapshot(3), numbered(2, 3), "snapshot"),
        (snapshot(3), numbered(1, 2), "snapshot"),
        (snapshot(3), [], "snapshot"),
        (delta(min_txid=0), [], "min_txid"),
    ],
)
def test_refused(write, encoding, header, pages, word):
    with pytest.raises(LtxError, match=word):
        write(header, pages, POST, encoding=encoding)


def test_the_lock_page_is_refused(write):
    lock = lock_pgno(512)
    with pytest.raises(LtxError, match="lock page"):
        write(delta(commit=lock + 5), numbered(lock), POST)


@pytest.mark.parametrize("post", [0, 5, 1 << 64, -1])
def test_a_stream_file_needs_its_post_apply_checksum(write, post):
    with pytest.raises(LtxError, match="post_apply_checksum"):
        write(delta(), numbered(1), post)


def test_a_stream_snapshot_must_have_the_checksum_of_its_pages(write):
    pages = numbered(1, 2)
    right = rolling_checksum(pages, 512)
    assert decode_ltx(write(snapshot(2), pages, right)).pages == pages
    with pytest.raises(LtxError, match="post_apply_checksum"):
        write(snapshot(2), pages, right ^ 1)


def test_an_empty_database_and_a_deletion(write):
    assert decode_ltx(write(snapshot(0), [], EMPTY_CHECKSUM)).pages == []
    assert decode_ltx(write(delta(commit=0), [], EMPTY_CHECKSUM)).header.commit == 0
    with pytest.raises(LtxError, match="post_apply_checksum"):
        write(delta(commit=0), [], POST)
    with pytest.raises(LtxError, match="commit"):
        write(delta(commit=0), [], EMPTY_CHECKSUM, encoding=Encoding.BACKUP)


@pytest.mark.parametrize(
    ("previous", "commit", "pages", "fits"),
    [
        (4, 4, (1,), True),
        (2, 4, (1, 3, 4), True),
        (2, 4, (3, 4), True),
        (2, 4, (1, 3), False),
        (2, 4, (1, 4), False),
        (0, 2, (2,), False),
        (9, 4, (1,), True),
        (9, 4, (), True),
    ],
)
def test_growth_pages_must_be_there(write, previous, commit, pages, fits):
    header = delta(commit=commit)
    if fits:
        assert decode_ltx(write(header, numbered(*pages), POST, previous_commit=previous)).header == header
    else:
        with pytest.raises(LtxError, match="grew"):
            write(header, numbered(*pages), POST, previous_commit=previous)


def test_growth_over_the_lock_page_counts_without_it(write):
    lock = lock_pgno(65536)
    big = bytes(65536)
    header = delta(page_size=65536, commit=lock + 1)
    write(header, [(lock + 1, big)], POST, previous_commit=lock - 1)
    write(delta(page_size=65536, commit=lock), [], POST, previous_commit=lock - 1)
    with pytest.raises(LtxError, match="grew"):
        write(header, [], POST, previous_commit=lock - 1)


def test_a_snapshot_steps_over_the_lock_page():
    from pando.ltx import PageSequence

    lock = lock_pgno(65536)
    for commit, last in ((lock - 1, lock - 1), (lock, lock - 1), (lock + 1, lock + 1)):
        sequence = PageSequence(LtxHeader(page_size=65536, commit=commit, min_txid=1, max_txid=1))
        for pgno in range(1, last + 1):
            if pgno != lock:
                sequence.accept(pgno)
        sequence.finish()
    short = PageSequence(LtxHeader(page_size=65536, commit=lock + 1, min_txid=1, max_txid=1))
    for pgno in range(1, lock):
        short.accept(pgno)
    with pytest.raises(LtxError, match="snapshot"):
        short.finish()


def test_a_closed_encoder_takes_nothing():
    encoder = LtxEncoder(lambda _: None, delta())
    encoder.close(POST)
    with pytest.raises(InvariantError):
        encoder.write_page(1, PAGE)
    with pytest.raises(InvariantError):
        encoder.close(POST)


def test_nothing_is_written_for_a_header_that_breaks_a_rule():
    out = io.BytesIO()
    with pytest.raises(LtxError):
        LtxEncoder(out.write, delta(page_size=1000))
    assert out.getvalue() == b""


def test_large_files_are_hashed_in_parts():
    """More pages than are hashed at once."""
    pages = [(number, PAGE) for number in range(1, 1200)]
    data = encode_ltx(snapshot(1199), pages, rolling_checksum(pages, 512))
    assert decode_ltx(data).pages == pages
    assert write_stream(snapshot(1199), pages, rolling_checksum(pages, 512)) == data
