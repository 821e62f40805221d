"""Reading a log that another process writes: sees appends, and notices new, dropped and replaced segments.

It never writes. What lies torn at the end is not there yet. Entries that were appended and not synced may be taken back
by the writer; who must not see them reads `up_to` a TXID that the writer said is durable.
"""

from __future__ import annotations

from pathlib import Path
from typing import Self

from pando.errors import LogCorruption
from pando.store.files import FileHandle, FileMissing, FileSystem
from pando.store.logview import LogView, Segment, read_header, segment_names
from pando.store.segments import HEADER_SIZE, EntryInfo, LogEntry, SegmentScan, Verdict, read_last_entry
from pando.types import TXID, Position

_LOAD_TRIES = 16


def open_last(handle: FileHandle, path: Path) -> Segment:
    """Find where the newest segment ends, from its tail if that is whole, else by walking it. Cuts nothing.

    Raises LogCorruption, StorageError.
    """
    segment = Segment(path, read_header(handle, path), HEADER_SIZE)
    size = handle.stat().size
    tail = read_last_entry(handle.pread, size)
    if tail is not None and _is_whole_from(handle, size, tail.synced_size):
        segment.end, segment.last = size, tail.position
    else:
        extend(segment, handle, size)
    return segment


def _is_whole_from(handle: FileHandle, size: int, synced_size: int) -> bool:
    """Tell whether what may not have been synced is whole: lost power may spare the last entry alone."""
    scan = SegmentScan(handle.pread, size, offset=max(synced_size, HEADER_SIZE), position=None)
    for _ in scan:
        pass
    return scan.verdict is Verdict.CLEAN


def extend(segment: Segment, handle: FileHandle, size: int) -> Verdict:
    """Walk and verify what a segment holds behind its known end; moves the end. Raises LogCorruption."""
    scan = SegmentScan(handle.pread, size, offset=segment.end, position=segment.last)
    for _ in scan:
        segment.end, segment.last = scan.offset, scan.position
    if scan.verdict is Verdict.CORRUPT:
        raise LogCorruption(f"{segment.path}: {scan.reason}")
    return scan.verdict or Verdict.CLEAN


class LogReader(LogView):
    """A log as a process sees it that does not write it. One thread."""

    @classmethod
    def open(cls, directory: Path, fs: FileSystem) -> Self:
        """Open for reading; raises FileMissing when there is no log, LogCorruption, StorageError."""
        reader = cls(directory, fs)
        reader._load()
        return reader

    def refresh(self) -> Position:
        """Take notice of everything that the writer did until now; gives the new `last`."""
        while self._advance():
            pass
        return self.last

    def read(self, after: TXID, *, max_bytes: int, up_to: TXID | None = None) -> list[LogEntry]:
        """As `LogView.read`, with what the writer appended meanwhile."""
        if after >= self.last.txid:
            self._advance()
        try:
            return super().read(after, max_bytes=max_bytes, up_to=up_to)
        except (FileMissing, LogCorruption):
            self._load()  # dropped, reset or taken back under our feet; damage is found again
            return super().read(after, max_bytes=max_bytes, up_to=up_to)

    def find(self, txid: TXID) -> EntryInfo | None:
        """As `LogView.find`, with what the writer appended meanwhile."""
        if txid > self.last.txid:
            self.refresh()
        try:
            return super().find(txid)
        except (FileMissing, LogCorruption):
            self._load()
            return super().find(txid)

    def holds(self, position: Position) -> bool:
        """As `LogView.holds`, with what the writer did meanwhile."""
        return super().holds(position) or (self._advance() and super().holds(position))

    # -- inside --

    def _advance(self) -> bool:
        """Take notice of appends, or else of new segments; tell whether something was new."""
        segment = self._segments[-1]
        handle = self._handle(segment)
        size = handle.stat().size
        if size > segment.end:
            before = segment.end
            try:
                extend(segment, handle, size)
            except LogCorruption:
                self._load()  # perhaps our end was taken back; damage is found again
                return True
            if segment.end > before:
                return True
        if size < segment.end or self._is_outdated(handle):
            self._load()
            return True
        return False

    def _is_outdated(self, handle: FileHandle) -> bool:
        """Look into the directory: is our newest segment still the newest, and still that file?"""
        names = segment_names(self._fs, self._directory)
        segment = self._segments[-1]
        if not names or names[-1] != segment.path.name or names[0] != self._segments[0].path.name:
            return True
        try:
            return self._fs.stat(segment.path).identity != handle.stat().identity
        except FileMissing:
            return True

    def _load(self) -> None:
        """Read everything anew. Names may change under our feet, hence the tries."""
        for attempt in range(_LOAD_TRIES):
            self.close()
            try:
                return self._load_once()
            except FileMissing:
                if attempt == _LOAD_TRIES - 1:
                    raise

    def _load_once(self) -> None:
        names = segment_names(self._fs, self._directory)
        if not names:
            raise FileMissing(f"there is no log in {str(self._directory)!r}")
        path = self._directory / names[-1]
        handle = self._fs.open_read(path)
        try:
            last = open_last(handle, path)
            older = [self._directory / name for name in names[:-1]]
            segments = [Segment(path, None, self._fs.stat(path).size) for path in older]
        except BaseException:
            handle.close()
            raise
        self._segments = [*segments, last]
        self._last_handle = handle
