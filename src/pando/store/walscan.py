"""Reads the WAL of a database that this process writes: new frames after a commit, all commits at start.

Two ways with different trust. `WalTail` follows our own commits: the frames were written by this very process a moment ago, so
salts, page numbers and commit marks are checked and the running checksum is not. That is sound because frames behind
the last commit that carry the current salts can only come from transactions that were rolled back, which never wrote
a commit mark. `read_all_commits` trusts nothing. Format and rules: `pando.wal`.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from pando.errors import CorruptionError
from pando.store.rawfile import RawFile
from pando.types import Pgno

_HEADER_BYTES = 32
_FRAME_BYTES = 24
_FRAME = struct.Struct(">IIII")
_SALTS = struct.Struct(">II")
_GUESS_FRAMES = 8
_READ_BYTES_MAX = 4 << 20


class WalTail:
    """Follows the WAL from commit to commit."""

    def __init__(self, raw: RawFile) -> None:
        self._raw = raw
        self._salts = b""
        self._offset = _HEADER_BYTES
        self.frames = 0

    def skip_to_end(self) -> None:
        """Go behind the last commit that is there."""
        self.read_new()

    def read_new(self) -> tuple[dict[Pgno, bytes], int]:
        """Give the pages of new commits (last version each) and the database size in pages after them; ({}, 0): none."""
        raw = self._raw
        salts = raw.pread_wal(16, 8)
        if len(salts) < 8:
            return {}, 0
        if salts != self._salts:
            self._salts = salts
            self._offset = _HEADER_BYTES
            self.frames = 0
        pages: dict[Pgno, bytes] = {}
        pending: dict[Pgno, bytes] = {}
        page_count = 0
        offset = self._offset
        for pgno, commit, data in self._frames():
            pending[pgno] = data
            offset += _FRAME_BYTES + raw.page_size
            if commit:
                pages.update(pending)
                pending.clear()
                page_count = commit
                self._offset = offset
        self.frames = (self._offset - _HEADER_BYTES) // (_FRAME_BYTES + raw.page_size)
        return pages, page_count

    def _frames(self) -> Iterator[tuple[Pgno, int, bytes]]:
        """Give frames with the current salts from the current offset on: (page, size after commit or 0, data)."""
        raw, salts = self._raw, self._salts
        stride = _FRAME_BYTES + raw.page_size
        offset, count = self._offset, _GUESS_FRAMES
        while True:
            data = raw.pread_wal(offset, count * stride)
            for at in range(0, len(data) - stride + 1, stride):
                if data[at + 8 : at + 16] != salts:
                    return
                pgno, commit, _, _ = _FRAME.unpack_from(data, at)
                if pgno == 0:
                    raise CorruptionError(f"{raw.path}-wal: a frame at {offset + at} names page 0")
                yield Pgno(pgno), commit, data[at + _FRAME_BYTES : at + stride]
            if len(data) < count * stride:
                return
            offset += count * stride
            count = min(count * 4, max(1, _READ_BYTES_MAX // stride))


@dataclass(frozen=True, slots=True)
class WalCommit:
    """One commit in the WAL: where the data of its frames begins, and the size of the database after it, in pages."""

    frames: tuple[tuple[Pgno, int], ...]
    page_count: int

    def pages(self, raw: RawFile) -> dict[Pgno, bytes]:
        """Read the last version of each page that is still within the database; page 1 normalised."""
        return _read_pages(raw, dict(self.frames), self.page_count)


def _read_pages(raw: RawFile, offsets: dict[Pgno, int], page_count: int) -> dict[Pgno, bytes]:
    from pando.ltx import normalise_page_one

    pages = {pgno: raw.pread_wal(offset, raw.page_size) for pgno, offset in offsets.items() if pgno <= page_count}
    first = pages.get(Pgno(1))
    if first is not None:
        pages[Pgno(1)] = normalise_page_one(first)
    return pages


def find_newest_frame(raw: RawFile, pgno: Pgno) -> bytes | None:
    """Give the newest committed version of a page in the WAL, None when it holds none. Rare, so it just scans."""
    stride = _FRAME_BYTES + raw.page_size
    salts = raw.pread_wal(16, 8)
    offset, newest, pending = _HEADER_BYTES, 0, 0
    while True:
        head = raw.pread_wal(offset, _FRAME_BYTES)
        if len(head) < _FRAME_BYTES or head[8:16] != salts:
            return raw.pread_wal(newest + _FRAME_BYTES, raw.page_size) if newest else None
        number, commit, _, _ = _FRAME.unpack_from(head)
        if number == pgno:
            pending = offset
        if commit:
            newest = pending or newest
        offset += stride


def read_all_commits(raw: RawFile) -> list[WalCommit]:
    """Read and verify the whole WAL; gives its commits in order. A torn tail is no commit; corruption before it raises."""
    head = raw.pread_wal(0, _HEADER_BYTES)
    if len(head) < _HEADER_BYTES:
        return []
    order = ">" if int.from_bytes(head[:4], "big") & 1 else "<"
    page_size = raw.page_size
    sums = _sum(head[:24], 0, 0, order)
    if sums != struct.unpack_from(">II", head, 24):
        return []
    commits: list[WalCommit] = []
    frames: list[tuple[Pgno, int]] = []
    offset = _HEADER_BYTES
    while True:
        frame = raw.pread_wal(offset, _FRAME_BYTES + page_size)
        if len(frame) < _FRAME_BYTES + page_size or frame[8:16] != head[16:24]:
            return commits
        sums = _sum(frame[24:], *_sum(frame[:8], *sums, order), order)
        if sums != struct.unpack_from(">II", frame, 16):
            return commits
        pgno, commit = struct.unpack_from(">II", frame)
        frames.append((Pgno(pgno), offset + _FRAME_BYTES))
        if commit:
            commits.append(WalCommit(tuple(frames), commit))
            frames = []
        offset += _FRAME_BYTES + page_size


def _sum(data: bytes, first: int, second: int, order: str) -> tuple[int, int]:
    for one, two in struct.iter_unpack(order + "II", data):
        first = (first + one + second) & 0xFFFFFFFF
        second = (second + two + first) & 0xFFFFFFFF
    return first, second
