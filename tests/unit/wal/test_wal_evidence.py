"""The search behind damage: what counts as proof of a commit, and what does not."""

import random

from wal_files import build_wal, preader

from pando.wal.evidence import has_commit_behind, has_commit_behind_header
from pando.wal.format import FRAME_HEADER_SIZE, HEADER_SIZE, decode_header

STRIDE = FRAME_HEADER_SIZE + 512


def _page(seed: int) -> bytes:
    return random.Random(seed).randbytes(512)


def _frames(marks: list[int]) -> list[tuple[int, int, bytes]]:
    return [(number + 1, commit, _page(number)) for number, commit in enumerate(marks)]


def _behind(wal: bytes, damaged: int) -> bool:
    header = decode_header(wal)
    assert header is not None
    return has_commit_behind(preader(wal), header, damaged, (0, 0))


def test_a_chained_commit_of_this_generation_is_proof():
    wal = build_wal(_frames([0, 0, 0, 4]))
    assert [_behind(wal, number) for number in range(5)] == [True, True, True, False, False]


def test_frames_without_a_commit_mark_are_no_proof():
    assert not _behind(build_wal(_frames([1, 0, 0, 0])), 0)


def test_a_commit_of_an_older_generation_is_no_proof():
    old = build_wal(_frames([1, 2, 3, 4]), salts=(6, 1))
    new = build_wal(_frames([1]), salts=(7, 2))
    assert not _behind(new + old[len(new) :], 1)


def test_a_commit_mark_without_its_chain_is_no_proof():
    wal = bytearray(build_wal(_frames([0, 0, 3])))
    wal[-1] ^= 1
    assert not _behind(bytes(wal), 0)
    assert not _behind(build_wal(_frames([0, 0, 3]))[:-1], 0)


def test_the_chain_may_go_on_from_what_the_damaged_frame_should_have_said():
    wal = build_wal(_frames([0, 2]))
    stated = HEADER_SIZE + 16
    sums = tuple(int.from_bytes(wal[at : at + 4], "big") for at in (stated, stated + 4))
    bad = wal[:stated] + b"12345678" + wal[stated + 8 :]
    header = decode_header(bad)
    assert header is not None
    assert has_commit_behind(preader(bad), header, 0, sums)
    assert not has_commit_behind(preader(bad), header, 0, (1, 2))


def test_behind_a_damaged_header_any_page_size_and_byte_order_is_tried():
    for big_endian in (False, True):
        wal = build_wal(_frames([0, 0, 3]), big_endian=big_endian)
        for page_size in (None, 512):
            assert has_commit_behind_header(preader(b"?" * 32 + wal[32:]), b"?" * 32, page_size)
        assert not has_commit_behind_header(preader(b"?" * 32 + wal[32:]), b"?" * 32, 1024)
        open_ended = build_wal(_frames([0, 0, 0]), big_endian=big_endian)
        assert not has_commit_behind_header(preader(b"?" * 32 + open_ended[32:]), b"?" * 32, None)


def test_a_file_that_ends_in_its_header_holds_nothing():
    for size in range(HEADER_SIZE + 1):
        raw = build_wal([])[:size]
        assert not has_commit_behind_header(preader(raw), raw, None)
