"""Frames are the pages of commits, and a frame's number names its commit."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import LocalCopyRefused, LtxError
from pando.ltx import Encoding, LtxHeader, decode_ltx, encode_ltx, rolling_checksum
from pando.sql.embedded_frames import (
    EPOCHS_MAX,
    TXIDS_MAX,
    commit_number,
    libsql_frame,
    parse_number,
    read_commit,
)
from pando.types import TXID, Checksum, Pgno

PAGES = [(Pgno(1), b"a" * 4096), (Pgno(2), bytes(range(256)) * 16), (Pgno(3), b"c" * 4096)]


def ltx(pages=PAGES, page_size=4096, encoding=Encoding.STREAM):
    checksum = rolling_checksum(pages, page_size)
    header = LtxHeader(
        page_size=page_size,
        commit=len(pages),
        min_txid=TXID(1),
        max_txid=TXID(1),
        timestamp_ms=0,
        pre_apply_checksum=Checksum(0),
    )
    return encode_ltx(header, pages, checksum, encoding=encoding)


def test_a_commit_has_the_pages_of_its_file():
    data = ltx()
    commit = read_commit(data)
    assert [(span.pgno, commit.page(index)) for index, span in enumerate(commit.spans)] == decode_ltx(data).pages
    assert commit.page_count == 3


def test_only_the_last_frame_of_a_commit_ends_it():
    commit = read_commit(ltx())
    frames = commit.wal_frames(0, 3, is_commit=True)
    assert [struct.unpack_from(">II", frame) for frame in frames] == [(1, 0), (2, 0), (3, 3)]
    assert [frame[24:] for frame in frames] == [page for _, page in PAGES]
    assert struct.unpack_from(">II", commit.wal_frames(1, 2, is_commit=True)[0]) == (2, 0)
    assert struct.unpack_from(">II", commit.wal_frames(2, 3, is_commit=False)[0]) == (3, 0)


def test_libsql_frames_count_up_to_their_commit():
    frames = read_commit(ltx()).libsql_frames(1000)
    assert [struct.unpack_from("<QQII", frame) for frame in frames] == [(998, 0, 1, 0), (999, 0, 2, 0), (1000, 0, 3, 3)]
    assert frames[2] == libsql_frame(1000, 3, 3, b"c" * 4096)


def test_other_page_sizes_and_torn_files_are_refused():
    with pytest.raises(LocalCopyRefused, match="8192"):
        read_commit(ltx([(Pgno(1), bytes(8192))], 8192))
    with pytest.raises(LtxError, match="encoding"):
        read_commit(ltx(encoding=Encoding.BACKUP))
    data = ltx()
    for end in range(0, len(data) - 40, 7):
        with pytest.raises(LtxError):
            commit = read_commit(data[:end])
            for index in range(len(commit.spans)):
                commit.page(index)
            raise LtxError("the pages were whole")


@given(st.integers(0, EPOCHS_MAX - 1), st.integers(0, TXIDS_MAX - 1))
def test_a_number_names_its_commit(epoch, txid):
    number = commit_number(epoch, txid)
    assert parse_number(number) == (epoch, txid)
    assert 0 < number < 1 << 63


@given(st.integers(0, EPOCHS_MAX - 1), st.integers(0, EPOCHS_MAX - 1), st.integers(1, TXIDS_MAX - 1))
def test_numbers_grow_with_commits_and_leave_room_for_their_frames(before, after, txid):
    assert commit_number(after, txid) - commit_number(before, txid - 1) > 262_144


@given(st.integers(0, (1 << 64) - 1))
def test_any_number_is_a_commits_or_none(number):
    found = parse_number(number)
    assert found is None or commit_number(*found) == number


def test_what_cannot_be_counted_is_refused():
    for epoch, txid in ((EPOCHS_MAX, 1), (1, TXIDS_MAX), (-1, 1)):
        with pytest.raises(LocalCopyRefused):
            commit_number(epoch, txid)
