"""Reads the log of this node's databases for clients that keep a local file: frames of a generation, commits after one.

Every commit that is read must follow the one before it by its checksum, from the position that the client's copy is
at; so what a log lost, dropped or replaced is noticed before a byte of it goes out. Blocking: call it in threads. Not
here: what clients are told (`pando.sql.embedded_generations`), which commits are visible (callers say `up_to`).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pando import limits
from pando.errors import LogCorruption, NotReady
from pando.sql.embedded_frames import Commit, read_commit
from pando.sql.embedded_generations import (
    GENERATION_FRAMES,
    CommitSize,
    Ending,
    FrameIndex,
    Generation,
    Standing,
    make_following,
    standing,
)
from pando.store.files import FileMissing, FileSystem
from pando.store.logreader import LogReader
from pando.store.segments import LogEntry
from pando.types import TXID, Checksum, Position

DATABASES_MAX: Final = 64
"""Logs that a process keeps open for this; each has up to three descriptors."""
INDEXES_MAX: Final = 8
"""Generations of one database that are counted at the same time."""
READ_BYTES: Final = 4 * limits.MIB
_KEPT_BYTES_MIN: Final = limits.MIB
"""A commit as large as this is kept until another one comes: clients fetch it in many pieces."""


@dataclass(frozen=True, slots=True)
class Look:
    """What a client that asked for frames of a generation finds."""

    standing: Standing
    following: Generation
    """The generation after it, if it has ended."""
    has_ended: bool
    frames: bytes = b""


@dataclass(slots=True)
class _Log:
    """One database's log and what is known of it."""

    reader: LogReader
    lock: threading.Lock
    indexes: OrderedDict[int, FrameIndex]
    large: tuple[LogEntry, Commit] | None = None


class FrameLog:
    """The logs of a node, as one process reads them."""

    def __init__(
        self, directory: Callable[[str], Path], fs: FileSystem, *, generation_frames: int = GENERATION_FRAMES
    ) -> None:
        self._directory = directory
        self._fs = fs
        self._generation_frames = generation_frames
        self._lock = threading.Lock()
        self._logs: OrderedDict[str, _Log] = OrderedDict()
        self._keeps_large: _Log | None = None

    def close(self) -> None:
        """Give descriptors back."""
        with self._lock:
            logs = list(self._logs.values())
            self._logs.clear()
        for log in logs:
            with log.lock:
                log.reader.close()

    # -- positions --

    def position_at(self, database: str, txid: TXID) -> Position | None:
        """Give the position after a commit; None if the log does not know it."""
        with self._open(database) as log:
            return _position_at(log.reader, txid)

    def leads_on(self, database: str, txid: TXID, checksum: Checksum) -> bool:
        """Tell whether the log has all commits after a position of its history."""
        with self._open(database) as log:
            log.reader.refresh()
            return txid >= log.reader.base.txid and _is_at(log.reader, txid, checksum)

    def commits(self, database: str, after: TXID, checksum: Checksum, up_to: TXID) -> list[LogEntry] | None:
        """Give some commits that follow a position, none if there are none yet; None if the log does not follow it."""
        with self._open(database) as log:
            entries = log.reader.read(after, max_bytes=READ_BYTES, up_to=up_to)
            if not entries:
                return [] if _is_at(log.reader, after, checksum) else None
            return entries if _follows(entries[0], after, checksum) else None

    # -- generations --

    def look(self, database: str, generation: Generation, frames: range, up_to: TXID) -> Look:
        """Give frames of a generation, ending with a commit where that is possible. Raises PandoError."""
        with self._open(database) as log:
            index = self._index(log, generation)
            _count(log.reader, index, up_to)
            found = standing(index, frames.start)
            if found is Standing.CAUGHT_UP and generation.txid > up_to:
                found = Standing.AHEAD  # nothing here says that it is of this history
            data = b""
            if found is Standing.FRAMES:
                data = b"".join(_frames(log, index, frames, up_to))
                self._keep_one_large(log)
                found = Standing.FRAMES if data else Standing.LOST
            return Look(found, make_following(index), index.ending in {Ending.FULL, Ending.EPOCH}, data)

    def _keep_one_large(self, log: _Log) -> None:
        """Let only the log that was read last keep a large commit."""
        if log.large is not None and self._keeps_large is not log:
            if self._keeps_large is not None:
                self._keeps_large.large = None
            self._keeps_large = log

    def _index(self, log: _Log, generation: Generation) -> FrameIndex:
        """Give the index of a generation; one that counted what the log took back is begun anew."""
        index = log.indexes.get(generation.number)
        if index is None or index.generation != generation or _is_outdated(log.reader, index):
            index = FrameIndex(generation, self._generation_frames)
            log.indexes[generation.number] = index
        log.indexes.move_to_end(generation.number)
        if len(log.indexes) > INDEXES_MAX:
            log.indexes.popitem(last=False)
        return index

    @contextmanager
    def _open(self, database: str) -> Iterator[_Log]:
        with self._lock:
            log = self._logs.get(database)
            if log is None:
                try:
                    reader = LogReader.open(self._directory(database), self._fs)
                except FileMissing as error:
                    raise NotReady(f"the log of database {database!r} is not there yet; try again") from error
                log = self._logs[database] = _Log(reader, threading.Lock(), OrderedDict())
                self._drop_idle()
            self._logs.move_to_end(database)
        with log.lock:
            try:
                yield log
            except (FileMissing, LogCorruption):
                self._forget(database, log)
                raise

    def _forget(self, database: str, log: _Log) -> None:
        """Open it anew the next time: another database may have taken the name."""
        with self._lock:
            if self._logs.get(database) is log:
                del self._logs[database]
        log.reader.close()

    def _drop_idle(self) -> None:
        while len(self._logs) > DATABASES_MAX:
            _, log = self._logs.popitem(last=False)
            with log.lock:
                log.reader.close()


def _position_at(reader: LogReader, txid: TXID) -> Position | None:
    info = reader.find(txid)
    if info is not None:
        return info.position
    return next((place for place in (reader.base, reader.last) if place.txid == txid), None)


def _is_at(reader: LogReader, txid: TXID, checksum: Checksum) -> bool:
    place = _position_at(reader, txid)
    return place is not None and place.checksum == checksum


def _is_outdated(reader: LogReader, index: FrameIndex) -> bool:
    """Tell whether the last commit that was counted is in the log no more, though its place is."""
    if index.ending is Ending.LOST:
        return True
    reader.refresh()
    if index.txid < reader.base.txid:
        return False  # dropped, as old commits are; what was counted stays right
    return not _is_at(reader, index.txid, index.checksum)


def _count(reader: LogReader, index: FrameIndex, up_to: TXID) -> None:
    while index.ending is Ending.OPEN:
        entries = reader.read(index.txid, max_bytes=READ_BYTES, up_to=up_to)
        if not entries:
            if index.txid <= up_to and not _is_at(reader, index.txid, index.checksum):
                index.ending = Ending.LOST  # a history that does not come from there
            return
        for entry in entries:
            if not index.add(_size_of(entry)):
                return


def _size_of(entry: LogEntry) -> CommitSize:
    return CommitSize(
        entry.epoch,
        entry.min_txid,
        entry.max_txid,
        entry.pre_checksum,
        entry.post_checksum,
        len(read_commit(entry.payload).spans),
    )


def _frames(log: _Log, index: FrameIndex, frames: range, up_to: TXID) -> list[bytes]:
    """Give the frames, none if the log does not have them. Of several commits only the last is marked as one.

    Clients make each marked commit durable on its own, so one mark for an answer spares them most of their work; they
    look at nothing between.
    """
    wanted = range(frames.start, min(frames.stop, index.frames + 1))
    pieces: list[tuple[Commit, int, int]] = []
    for commit, first in _commits_from(log, index, wanted.start, min(up_to, index.txid)):
        low, high = max(wanted.start - first, 0), min(wanted.stop - first, len(commit.spans))
        is_part = high < len(commit.spans)
        if low < high and not (is_part and pieces):
            pieces.append((commit, low, high))
        if is_part or first + high >= wanted.stop:
            break
    last = len(pieces) - 1
    return [
        frame
        for number, (commit, low, high) in enumerate(pieces)
        for frame in commit.wal_frames(low, high, is_commit=number == last)
    ]


def _commits_from(log: _Log, index: FrameIndex, frame: int, up_to: TXID) -> Iterator[tuple[Commit, int]]:
    """Give the commits from some before a frame on, with the numbers of their first frames, as long as they follow."""
    txid, before, checksum = index.place(frame)
    first = before + 1
    if log.large is not None and log.large[0].max_txid <= txid:
        log.large = None  # who fetched it has it
    while txid < up_to:
        kept = log.large
        if kept is not None and _follows(kept[0], txid, checksum):
            entries = [kept[0]]
        else:  # up to what is kept: the log would read that once more to see that it is too large
            end = up_to if kept is None or kept[0].min_txid <= txid else min(up_to, TXID(kept[0].min_txid - 1))
            entries = log.reader.read(txid, max_bytes=READ_BYTES, up_to=end)
        if not entries:
            return
        for entry in entries:
            if not _follows(entry, txid, checksum):
                return
            commit = kept[1] if kept is not None and entry is kept[0] else read_commit(entry.payload)
            if len(entry.payload) >= _KEPT_BYTES_MIN:
                log.large = (entry, commit)
            yield commit, first
            first += len(commit.spans)
            txid, checksum = entry.max_txid, entry.post_checksum


def _follows(entry: LogEntry, txid: TXID, checksum: Checksum) -> bool:
    return entry.min_txid == txid + 1 and entry.pre_checksum == checksum
