"""What writer and readers of a log have in common: its segments, where entries are in them, and reading.

Only every 32 KiB of log has a point in the index; from there envelopes are walked. So a full log of 1 GiB costs half a
megabyte, older segments are looked into only when asked about, and reading on from where the last read ended costs no
search at all. Not here: writing (`commitlog`), noticing what another process did (`logreader`).
"""

from __future__ import annotations

import re
import threading
from array import array
from bisect import bisect_right
from collections.abc import Iterator
from pathlib import Path

from pando.errors import LogCorruption
from pando.store.files import FileHandle, FileMissing, FileSystem
from pando.store.segments import (
    HEADER_SIZE,
    EntryInfo,
    LogEntry,
    SegmentScan,
    decode_envelope,
    decode_header,
    decode_payload,
    join,
    read_entry,
)
from pando.types import TXID, Checksum, Position

RESET_NAME = "reset.next"
"""The header of the log's next life. While it is there, it is the log, and all segments are about to go."""

_NAME = re.compile(r"[0-9a-f]{16}\.log")
_POINT_STRIDE = 32 * 1024
_READ_CHUNK = 4 * 1024 * 1024


def segment_name(base: Position) -> str:
    """Give the file name of the segment whose first entry follows `base`."""
    return f"{base.txid + 1:016x}.log"


def segment_names(fs: FileSystem, directory: Path) -> list[str]:
    """Give the names of a log's segments, oldest first; empty when there is no log."""
    try:
        names = fs.listdir(directory)
    except FileMissing:
        return []
    if RESET_NAME in names:
        return [RESET_NAME]
    return sorted(name for name in names if _NAME.fullmatch(name))


def read_header(handle: FileHandle, path: Path) -> Position:
    """Read a segment's header and check it against the name; raises LogCorruption."""
    try:
        base = decode_header(handle.pread(0, HEADER_SIZE))
    except LogCorruption as error:
        raise LogCorruption(f"{path}: {error.message}") from error
    if path.name not in {segment_name(base), RESET_NAME}:
        raise LogCorruption(f"{path}: its header says that it begins behind {base}")
    return base


class Segment:
    """One file of the log: where it begins and ends, and some points between."""

    __slots__ = ("base", "end", "first_txid", "last", "path", "point_offsets", "point_txids")

    def __init__(self, path: Path, base: Position | None, end: int) -> None:
        self.path = path
        self.base = base
        self.last = base
        self.end = end
        self.first_txid = base.txid + 1 if base is not None else int(path.stem, 16)
        self.point_txids = array("Q", [self.first_txid])
        self.point_offsets = array("Q", [HEADER_SIZE])

    def note(self, txid: TXID, offset: int) -> None:
        """Remember where an entry begins, if the last such note is far enough away."""
        if offset >= self.point_offsets[-1] + _POINT_STRIDE:
            self.point_txids.append(txid)
            self.point_offsets.append(offset)

    def point(self, txid: int) -> int:
        """Give the offset of an entry that is not behind the one with this TXID."""
        return self.point_offsets[max(0, bisect_right(self.point_txids, txid) - 1)]

    def cut(self, end: int, last: Position) -> None:
        """Forget what lies behind `end`."""
        self.end = end
        self.last = last
        while len(self.point_offsets) > 1 and self.point_offsets[-1] >= end:
            self.point_offsets.pop()
            self.point_txids.pop()


class LogView:
    """Reading a log. One thread, or several: each method takes `_lock`."""

    def __init__(self, directory: Path, fs: FileSystem) -> None:
        self._directory = directory
        self._fs = fs
        self._lock = threading.RLock()
        self._segments: list[Segment] = []
        self._last_handle: FileHandle | None = None
        self._old: tuple[Segment, FileHandle] | None = None
        self._cursor: tuple[int, Segment, int] | None = None

    @property
    def base(self) -> Position:
        """Position before the first retained entry."""
        with self._lock:
            return self._base_of(self._segments[0])

    @property
    def last(self) -> Position:
        """Position after the last entry that this object knows of; `base` when there is none."""
        last = self._segments[-1].last
        assert last is not None
        return last

    @property
    def size_bytes(self) -> int:
        """Bytes of all segments."""
        with self._lock:
            return sum(segment.end for segment in self._segments)

    def segment_sizes(self) -> list[tuple[TXID, int]]:
        """Give the last TXID and the size in bytes of each segment, oldest first."""
        with self._lock:
            nexts = [TXID(segment.first_txid - 1) for segment in self._segments[1:]]
            return list(zip([*nexts, self.last.txid], [segment.end for segment in self._segments], strict=True))

    def read(self, after: TXID, *, max_bytes: int, up_to: TXID | None = None) -> list[LogEntry]:
        """Give entries with `min_txid > after` in order: at least one if there is one, then what fits in `max_bytes`.

        With `up_to` only those with `max_txid <= up_to`; who must not see what is not durable yet gives
        `durable.txid`. Raises LogCorruption, StorageError.
        """
        with self._lock:
            place = self._locate(after)
            return [] if place is None else self._read_from(*place, max_bytes, up_to)

    def find(self, txid: TXID) -> EntryInfo | None:
        """Give the envelope of the entry with `max_txid == txid`, None if no retained entry ends there."""
        with self._lock:
            if not self._segments[0].first_txid <= txid <= self.last.txid:
                return None
            segment = self._segments[self._index_of(txid)]
            for info in self._walk(segment, segment.point(txid)):
                if info.max_txid >= txid:
                    return info if info.max_txid == txid else None
            return None

    def find_checksum(self, checksum: Checksum) -> Position | None:
        """Give the newest position of the log with this checksum, None if it has none. Walks the whole log at worst."""
        with self._lock:
            if self.last.checksum == checksum:
                return self.last
            for segment in reversed(self._segments):
                found = None
                for info in self._walk(segment, HEADER_SIZE):
                    found = info if info.post_checksum == checksum else found
                if found is not None:
                    return found.position
            return self.base if self.base.checksum == checksum else None

    def holds(self, position: Position) -> bool:
        """Tell whether the log knows exactly this position: its base, or the state after one of its entries."""
        if position in (self.last, self.base):
            return True
        info = self.find(position.txid)
        return info is not None and info.position == position

    def close(self) -> None:
        """Give descriptors back."""
        with self._lock:
            self._forget_old()
            self._cursor = None
            if self._last_handle is not None:
                self._last_handle.close()
                self._last_handle = None

    # -- inside --

    def _index_of(self, txid: int) -> int:
        return max(0, bisect_right(self._segments, txid, key=lambda segment: segment.first_txid) - 1)

    def _base_of(self, segment: Segment) -> Position:
        if segment.base is None:
            segment.base = read_header(self._handle(segment), segment.path)
        return segment.base

    def _handle(self, segment: Segment) -> FileHandle:
        """Give an open file; beside the last segment one older stays open."""
        if segment is self._segments[-1] and self._last_handle is not None:
            return self._last_handle
        if self._old is None or self._old[0] is not segment:
            self._forget_old()
            self._old = (segment, self._fs.open_read(segment.path))
        return self._old[1]

    def _forget_old(self) -> None:
        if self._old is not None:
            self._old[1].close()
            self._old = None

    def _walk(self, segment: Segment, offset: int) -> Iterator[EntryInfo]:
        """Give the envelopes of a segment from an entry's offset to the end."""
        scan = SegmentScan(self._handle(segment).pread, segment.end, offset=offset, position=None, payloads=False)
        for info in scan:
            segment.note(info.min_txid, info.offset)
            yield info
        if scan.offset != segment.end:
            raise LogCorruption(f"{segment.path}: {scan.reason}")

    def _locate(self, after: int) -> tuple[int, int] | None:
        """Find the first entry with `min_txid > after`: number of its segment, and offset."""
        if after >= self.last.txid:
            return None
        if after < self._segments[0].first_txid:
            return 0, HEADER_SIZE
        index = self._index_of(after)
        segment = self._segments[index]
        if self._cursor is not None and self._cursor[0] == after and self._cursor[1] is segment:
            return index, self._cursor[2]
        for info in self._walk(segment, segment.point(after)):
            if info.min_txid > after:
                return index, info.offset
        return index + 1, HEADER_SIZE

    def _read_from(self, index: int, offset: int, max_bytes: int, up_to: int | None) -> list[LogEntry]:
        entries: list[LogEntry] = []
        left = max_bytes
        while index < len(self._segments):
            segment = self._segments[index]
            while offset < segment.end:
                before = offset
                left, offset = self._read_chunk(segment, offset, left, up_to, entries)
                if entries:
                    self._cursor = (entries[-1].max_txid, segment, offset)
                if offset == before:
                    return entries
            index, offset = index + 1, HEADER_SIZE
        return entries

    def _read_chunk(
        self, segment: Segment, offset: int, left: int, up_to: int | None, entries: list[LogEntry]
    ) -> tuple[int, int]:
        """Add the entries of one stretch of a segment; gives what is left of the bytes, and where it stopped."""
        handle = self._handle(segment)
        data = handle.pread(offset, min(segment.end - offset, _READ_CHUNK, max(left, HEADER_SIZE * 4)))
        start = offset
        while True:
            at = offset - start
            info = decode_envelope(data, at, offset)
            if info is not None and _is_beyond(info, up_to, left if entries else None):
                return left, offset
            payload = None if info is None else decode_payload(data, at, info)
            if payload is None and not at:
                info, payload = self._read_one(segment, handle, offset)
                if _is_beyond(info, up_to, left if entries else None):
                    return left, offset
            if info is None or payload is None:
                return left, offset
            size = info.end - offset
            entries.append(join(info, payload))
            left -= size
            offset += size

    def _read_one(self, segment: Segment, handle: FileHandle, offset: int) -> tuple[EntryInfo, bytes]:
        found = read_entry(handle.pread, offset)
        if found is None:
            raise LogCorruption(f"{segment.path}: the entry at {offset} is damaged")
        return found


def _is_beyond(info: EntryInfo, up_to: int | None, left: int | None) -> bool:
    """Tell from its envelope that an entry is not to be read: it is too new, or too large for what is `left`."""
    return (up_to is not None and info.max_txid > up_to) or (left is not None and info.end - info.offset > left)
