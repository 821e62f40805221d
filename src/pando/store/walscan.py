"""Reads the WAL of a database that this process writes: new frames after a commit, all commits at start.

Two ways with different trust. `WalTail` follows commits while SQLite has the file open: the WAL index says which
frames are committed, so salts, page numbers and the last frame are compared with it and the running checksum is not
computed. `read_all_commits` trusts nothing. Format and rules: `pando.wal`.

Between two looks another program may have committed too. That is no matter while the WAL goes on: its frames are taken
along. If the WAL has begun anew, the number of commits in it must be the number that the index has counted; else frames
are lost, and only a look at every page tells what changed (`capture.Capture` does that).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from pando.errors import CorruptionError
from pando.store.rawfile import RawFile, WalState
from pando.types import Pgno
from pando.wal import ReadEnd, WalCommit, WalReader

_HEADER_BYTES = 32
_FRAME_BYTES = 24
_FRAME = struct.Struct(">II8sII")
_SALTS = struct.Struct(">II")
_READ_BYTES_MAX = 4 << 20
_CHANGES_MASK = 0xFFFF_FFFF


class FramesLost(Exception):
    """Frames that were committed since the last look are no longer in the WAL."""


class WalTail:
    """Follows the WAL from commit to commit. `accept` moves on; nothing else does."""

    def __init__(self, raw: RawFile) -> None:
        self._raw = raw
        self._seen: WalState | None = None
        self._salts = b""
        self.frames = 0

    def start(self, salts: bytes, frames: int) -> None:
        """Take the first `frames` frames of this generation as read already (recovery has read them)."""
        self._seen, self._salts, self.frames = None, salts, frames

    def look(self) -> WalState | None:
        """Give what there is to be read, None when nothing was committed since the last `accept`. Raises
        StorageError.
        """
        state = self._raw.read_state()
        if state is None or state == self._seen:
            return None
        if self._seen is None:
            # The first look after recovery. The index of an empty WAL need not know the salts.
            is_known = state.frames == self.frames and (state.salts == self._salts or not state.frames)
        else:
            is_known = state.changes == self._seen.changes and not state.frames  # only emptied
        if is_known:
            self.accept(state)
            return None
        return state

    def backlog_frames(self, state: WalState) -> int:
        """How many frames `frames_to` will read."""
        return state.frames - (self.frames if state.salts == self._salts else 0)

    def frames_to(self, state: WalState) -> Iterator[tuple[Pgno, bytes]]:
        """Give page number and content of the frames up to `state`, oldest first; raises FramesLost at any point."""
        raw, salts = self._raw, state.salts
        goes_on = salts == self._salts
        number = self.frames if goes_on else 0
        stride = _FRAME_BYTES + raw.page_size
        most = max(1, _READ_BYTES_MAX // stride)
        commits = commit = sum1 = sum2 = 0
        if number > state.frames:
            raise FramesLost
        while number < state.frames:
            count = min(most, state.frames - number)
            data = raw.pread_wal(_HEADER_BYTES + number * stride, count * stride)
            if len(data) < count * stride:
                raise FramesLost
            for at in range(0, count * stride, stride):
                pgno, commit, found, sum1, sum2 = _FRAME.unpack_from(data, at)
                if found != salts or not pgno:
                    raise FramesLost
                if commit:
                    commits += 1
                yield Pgno(pgno), data[at + _FRAME_BYTES : at + stride]
            number += count
        if commits and (commit, sum1, sum2) != (state.page_count, *state.checksum):
            raise FramesLost
        if not goes_on and commits != self.commits_to(state):
            raise FramesLost

    def commits_to(self, state: WalState) -> int:
        """How many commits there were since the last `accept`, as the index has counted them; -1: not known."""
        return -1 if self._seen is None else state.changes - self._seen.changes & _CHANGES_MASK

    def accept(self, state: WalState) -> None:
        """Everything up to this state has been taken."""
        self._seen, self._salts, self.frames = state, state.salts, state.frames


class WalPages:
    """Which committed version of each page the WAL holds in a state: what readers see instead of the file's page."""

    def __init__(self, raw: RawFile, state: WalState) -> None:
        """Go through all frame headers; raises FramesLost if the WAL begins anew meanwhile."""
        self._raw = raw
        self._offsets: dict[int, int] = {}
        stride = _FRAME_BYTES + raw.page_size
        for number in range(state.frames):
            offset = _HEADER_BYTES + number * stride
            head = raw.pread_wal(offset, _FRAME_BYTES)
            if len(head) < _FRAME_BYTES or head[8:16] != state.salts:
                raise FramesLost
            self._offsets[int.from_bytes(head[:4], "big")] = offset + _FRAME_BYTES

    def read(self, pgno: Pgno) -> bytes:
        """Give the page as readers see it."""
        offset = self._offsets.get(pgno)
        return self._raw.read_page(pgno) if offset is None else read_frame(self._raw, offset)


def read_frame(raw: RawFile, offset: int) -> bytes:
    """Read the page of a frame; raises CorruptionError if it is not there any more."""
    data = raw.pread_wal(offset, raw.page_size)
    if len(data) < raw.page_size:
        raise CorruptionError(f"{raw.path}-wal became shorter while it was read")
    return data


class WalContent(NamedTuple):
    """The commits of a WAL that count, how many frames they have, the salts, and why there are no more."""

    commits: list[WalCommit]
    frames: int
    salts: bytes
    end: ReadEnd
    reason: str


def read_all_commits(raw: RawFile, state: WalState | None) -> WalContent:
    """Read and verify the WAL as far as `state` calls it committed, all of it if that is not known.

    What SQLite would not take is left out: a torn tail, and all behind damage.

    About 30 us a frame of 4 KiB, and 100 bytes of memory.
    """
    reader = WalReader(raw.pread_wal, page_size=raw.page_size or None, keep_data=False)
    commits: list[WalCommit] = []
    while True:
        read = reader.read_commits(frames=None if state is None else state.frames)
        commits += read.commits
        if read.end is not ReadEnd.MORE:
            return WalContent(commits, reader.frames, _SALTS.pack(*reader.salts), read.end, read.reason)
