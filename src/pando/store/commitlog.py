"""The log of one database as its only writer sees it: append, sync, cut back after a failure, reset, retention.

Rules that crash safety rests on:

- A segment gets its name when its header is durable, and only after everything before it is. So only the newest segment
  can be torn, and a bad header or a bad entry in an older segment is damage.
- After a failed append or sync everything behind the last sync is cut off and the cut is synced; if that fails too,
  the log refuses to be written until it is opened again.
- `open` writes the bytes that may not have been synced once more before it syncs: after a failed sync the system may
  hold pages for clean that never reached the disk.
- A reset first puts the new header durably under `reset.next`, then removes the segments, then renames. Whoever opens
  the log and finds that name goes on with the removal.

`sync` may run in one thread while another appends. Format: `segments`. Reading: `logview`, and `logreader` for other
processes.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from pando.errors import InvariantError, LogCorruption, StorageError
from pando.limits import SEGMENT_SIZE_BYTES_MAX
from pando.store.files import (
    FileHandle,
    FileMissing,
    FileSystem,
    is_temporary,
    make_directories,
    remove_if_possible,
    write_durably,
)
from pando.store.logreader import LogReader, open_last
from pando.store.logview import RESET_NAME, LogView, Segment, read_header, segment_name, segment_names
from pando.store.segments import (
    HEADER_SIZE,
    EntryInfo,
    LogEntry,
    SegmentScan,
    Verdict,
    encode_entry,
    encode_header,
)
from pando.types import NO_POSITION, TXID, Position

__all__ = ["CommitLog", "EntryInfo", "LogEntry", "LogOptions", "LogReader"]

_COPY_CHUNK = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class LogOptions:
    """What may differ from log to log."""

    segment_size_bytes: int = SEGMENT_SIZE_BYTES_MAX


class CommitLog(LogView):
    """The log of one database, open for writing. One process, one appending thread."""

    def __init__(self, directory: Path, fs: FileSystem, options: LogOptions) -> None:
        super().__init__(directory, fs)
        self._options = options
        self._sync_lock = threading.Lock()  # taken before _lock, never while holding it
        self._is_broken = False
        self._durable = NO_POSITION
        self._durable_end = 0

    @classmethod
    def open(cls, directory: Path, fs: FileSystem, *, options: LogOptions | None = None) -> Self:
        """Open for writing: finish a reset, cut a torn tail, make the rest durable. Without a log, makes an empty one.

        Raises LogCorruption when a damaged entry has valid ones behind it, StorageError.
        """
        make_directories(fs, directory)
        _finish_reset(fs, directory)
        _remove_leftovers(fs, directory)
        if not segment_names(fs, directory):
            write_durably(fs, directory / segment_name(NO_POSITION), encode_header(NO_POSITION))
        fs.fsync_dir(directory)
        fs.fsync_dir(directory.parent)
        log = cls(directory, fs, options or LogOptions())
        log._load()
        return log

    @classmethod
    def begin(cls, directory: Path, fs: FileSystem, base: Position, *, options: LogOptions | None = None) -> Self:
        """Open an empty log at `base`, whatever is there now, damaged or not. Crash safe: the old log or the new."""
        make_directories(fs, directory)
        _plan_reset(fs, directory, base)
        return cls.open(directory, fs, options=options)

    @staticmethod
    def reader(directory: Path, fs: FileSystem) -> LogReader:
        """Open for reading in a process that does not write this log."""
        return LogReader.open(directory, fs)

    @staticmethod
    def peek_last(directory: Path, fs: FileSystem) -> Position | None:
        """Give the last position of a log that is not open, None if there is no log.

        Reads one entry, or one segment if the end is torn. Raises LogCorruption, StorageError.
        """
        names = segment_names(fs, directory)
        if not names:
            return None
        path = directory / names[-1]
        handle = fs.open_read(path)
        try:
            return open_last(handle, path).last
        finally:
            handle.close()

    @property
    def durable(self) -> Position:
        """What the last sync covered."""
        return self._durable

    def append(self, entry: LogEntry) -> None:
        """Write an entry at the end; it is durable after the next `sync`.

        Raises InvariantError if it does not follow `last`, and StorageError, StorageFull: then everything since the
        last sync is gone from the log and `last == durable`.
        """
        if self._segments[-1].end >= self._options.segment_size_bytes:
            self._roll()
        with self._lock:
            if self._is_broken:
                raise self._refusal()
            segment = self._segments[-1]
            last = self.last
            if (
                entry.min_txid != last.txid + 1
                or entry.pre_checksum != last.checksum
                or entry.max_txid < entry.min_txid
                or entry.epoch < last.epoch
            ):
                raise InvariantError("an entry does not follow the log", entry=entry.position, last=last)
            offset = segment.end
            data = encode_entry(entry, offset, self._durable_end)
            try:
                self._writer().write(data)
            except StorageError as error:
                failure = error
            else:
                segment.end = offset + len(data)
                segment.last = entry.position
                segment.note(entry.min_txid, offset)
                return
        with self._sync_lock:
            self._cut_back()
        raise failure

    def sync(self) -> Position:
        """Make everything appended so far durable and give `durable`; may run in a thread beside `append`.

        Raises StorageError: then everything since the last good sync is gone from the log and `last == durable`.
        """
        with self._sync_lock:
            return self._sync()

    def reset(self, base: Position) -> None:
        """Drop all entries and start anew at `base`. After a crash there is the old log or the new, never a mix."""
        with self._sync_lock, self._lock:
            if self._is_broken:
                raise self._refusal()
            try:
                _plan_reset(self._fs, self._directory, base)
            except StorageError:
                self._is_broken = not _abandon_reset(self._fs, self._directory)
                raise
            self._is_broken = True  # until what was planned is done
            self.close()
            _finish_reset(self._fs, self._directory)
            self._load()
            self._is_broken = False

    def drop_before(self, txid: TXID) -> int:
        """Remove the oldest segments without an entry behind `txid`, never the newest. Gives how many; `base` moves."""
        dropped = 0
        with self._sync_lock, self._lock:
            while len(self._segments) > 1 and self._segments[1].first_txid - 1 <= txid:
                self._forget_old()
                remove = self._segments[0].path
                if self._fs.exists(remove):
                    self._fs.unlink(remove)
                self._fs.fsync_dir(self._directory)  # each by itself, so that no crash leaves a gap between segments
                del self._segments[0]
                dropped += 1
        return dropped

    # -- inside --

    def _load(self) -> None:
        paths = [self._directory / name for name in segment_names(self._fs, self._directory)]
        older = [Segment(path, None, self._fs.stat(path).size) for path in paths[:-1]]
        handle = self._fs.open_append(paths[-1], create=False)
        try:
            last = _recover(handle, paths[-1])
        except BaseException:
            handle.close()
            raise
        assert last.last is not None
        self._segments = [*older, last]
        self._last_handle = handle
        self._cursor = None
        self._durable, self._durable_end = last.last, last.end

    def _writer(self) -> FileHandle:
        if self._last_handle is None:
            raise StorageError(f"the log in {self._directory} is closed")
        return self._last_handle

    def _refusal(self) -> StorageError:
        return StorageError(
            f"the log in {self._directory} could not be brought back to its durable end after a failed write; "
            "open it again when the disk is well"
        )

    def _sync(self) -> Position:
        """Sync; the caller holds the sync lock and not the other."""
        with self._lock:
            if self._is_broken:
                raise self._refusal()
            segment, handle = self._segments[-1], self._writer()
            last, end = self.last, segment.end
        if end == self._durable_end:
            return self._durable
        try:
            handle.fdatasync()
        except StorageError:
            self._cut_back()
            raise
        with self._lock:
            self._durable, self._durable_end = last, end
        return last

    def _cut_back(self) -> None:
        """Take the log back to what is durable; the caller holds the sync lock. If it fails the log is broken."""
        with self._lock:
            self._segments[-1].cut(self._durable_end, self._durable)
            self._cursor = None
            self._is_broken = True
            try:
                handle = self._writer()
                handle.truncate(self._durable_end)
                handle.fdatasync()
            except StorageError:
                return  # the caller raises the first failure; later calls are refused
            self._is_broken = False

    def _roll(self) -> None:
        """Sync the newest segment and begin another one behind it."""
        with self._sync_lock:
            self._sync()
            with self._lock:
                base = self._durable
                path = self._directory / segment_name(base)
                write_durably(self._fs, path, encode_header(base))
                handle = self._fs.open_append(path, create=False)
                self._writer().close()
                self._last_handle = handle
                self._segments.append(Segment(path, base, HEADER_SIZE))
                self._durable_end = HEADER_SIZE


def _recover(handle: FileHandle, path: Path) -> Segment:
    """Verify the newest segment, cut what is torn, and make the rest durable."""
    segment = Segment(path, read_header(handle, path), HEADER_SIZE)
    size = handle.stat().size
    scan = SegmentScan(handle.pread, size, offset=HEADER_SIZE, position=segment.base)
    unsynced = HEADER_SIZE
    for info in scan:
        segment.note(info.min_txid, info.offset)
        unsynced = info.synced_size
    if scan.verdict is Verdict.CORRUPT:
        raise LogCorruption(f"{path}: {scan.reason}")
    segment.end, segment.last = scan.offset, scan.position
    if size > segment.end:
        handle.truncate(segment.end)
    while unsynced < segment.end:
        chunk = handle.pread(unsynced, min(_COPY_CHUNK, segment.end - unsynced))
        handle.write_at(unsynced, chunk)
        unsynced += len(chunk)
    handle.fdatasync()
    return segment


def _remove_leftovers(fs: FileSystem, directory: Path) -> None:
    for name in fs.listdir(directory):
        if is_temporary(name):
            fs.unlink(directory / name)


def _plan_reset(fs: FileSystem, directory: Path, base: Position) -> None:
    """Decide that the log begins anew; from here on `_finish_reset` must come before anything else."""
    write_durably(fs, directory / RESET_NAME, encode_header(base))


def _abandon_reset(fs: FileSystem, directory: Path) -> bool:
    """Undo a plan that may not have become durable; tell whether that is certain."""
    if not remove_if_possible(fs, directory / RESET_NAME):
        return False
    try:
        fs.fsync_dir(directory)
    except StorageError:
        return False
    return True


def _finish_reset(fs: FileSystem, directory: Path) -> None:
    """Do what a planned reset has left to do, if there is one."""
    path = directory / RESET_NAME
    if not fs.exists(path):
        return
    fs.fsync_dir(directory)  # the plan may be there only by name: it must be certain before anything goes
    handle = fs.open_read(path)
    try:
        base = read_header(handle, path)
    finally:
        handle.close()
    for name in fs.listdir(directory):
        if name.endswith(".log"):
            try:
                fs.unlink(directory / name)
            except FileMissing:
                continue
    fs.fsync_dir(directory)
    fs.replace(path, directory / segment_name(base))
    fs.fsync_dir(directory)
