"""Whole databases: written as a snapshot file, installed from one, scanned. All in steps, so that applying goes on.

A snapshot is an LTX file in the stream encoding with min_txid 1. Its rolling checksum is compared with the position
that was asked for, when it is written and when it is installed. Not here: messages (see `pando.store.applier_jobs`).
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pando import limits
from pando.errors import ChecksumMismatch, CorruptionError, LtxError
from pando.ltx import LtxDecoder, LtxEncoder, LtxHeader, normalise_page_one
from pando.store.apply import Change
from pando.store.checksums import PageChecksums
from pando.store.files import FileHandle, FileSystem, remove_if_possible
from pando.store.newfile import build_steps
from pando.store.pages import PageFile
from pando.store.replica import Replica, ReplicaState, scan_steps
from pando.store.steps import SLICE_BYTES, Steps
from pando.types import TXID, Pgno, Position, lock_pgno

_BUFFER_BYTES: Final = 1 * limits.MIB


class _Output:
    """Gathers small writes; the bytes of an LTX encoder."""

    def __init__(self, handle: FileHandle) -> None:
        self._handle = handle
        self._pending = bytearray()
        self.size = 0

    def write(self, data: bytes) -> None:
        self._pending += data
        self.size += len(data)
        if len(self._pending) >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        self._handle.write(self._pending)
        self._pending.clear()


class _Input:
    """Reads ahead; the bytes for an LTX decoder."""

    def __init__(self, handle: FileHandle) -> None:
        self._handle = handle
        self._offset = 0
        self._view = memoryview(b"")

    def read(self, size: int) -> bytes:
        if not self._view:
            self._view = memoryview(self._handle.pread(self._offset, max(size, _BUFFER_BYTES)))
            self._offset += len(self._view)
        part = bytes(self._view[:size])
        self._view = self._view[size:]
        return part


@dataclass(frozen=True, slots=True)
class Written:
    """A finished snapshot file."""

    size_bytes: int
    page_count: int


def write_snapshot_steps(
    fs: FileSystem,
    file: PageFile,
    out_path: Path,
    position: Position,
    *,
    timestamp_ms: int,
) -> Generator[None, None, Written]:
    """Write the pinned state of `file` to `out_path`; raises ChecksumMismatch if it is not at the position.

    Not synced: a snapshot in flight is worth nothing after a crash (the folder is emptied at start).
    """
    remove_if_possible(fs, out_path)
    handle = fs.open_append(out_path)
    output = _Output(handle)
    try:
        page_count = file.page_count()
        header = LtxHeader(
            page_size=file.page_size,
            commit=page_count,
            min_txid=TXID(1),
            max_txid=position.txid,
            timestamp_ms=timestamp_ms,
        )
        encoder = LtxEncoder(output.write, header)
        yield from _encode_pages(encoder, file)
        if encoder.rolling != position.checksum:
            raise ChecksumMismatch(f"the file's pages give checksum {encoder.rolling:016x}, the position is {position}")
        encoder.close(position.checksum)
        output.flush()
    except BaseException:
        handle.close()
        remove_if_possible(fs, out_path)
        raise
    handle.close()
    return Written(output.size, page_count)


def _encode_pages(encoder: LtxEncoder, file: PageFile) -> Steps:
    lock = lock_pgno(file.page_size)
    pages_per_slice = max(1, SLICE_BYTES // file.page_size)
    pages = file.read_pages()
    write_page = encoder.write_page
    try:
        for number, data in pages:
            if number != lock:
                write_page(Pgno(number), normalise_page_one(data) if number == 1 else data)
            if number % pages_per_slice == 0:
                yield
    finally:
        pages.close()


@dataclass(frozen=True, slots=True)
class Installed:
    """What installing did. `was_replaced`: the file is a new one, who had the old one open still sees the old state."""

    pages_written: int
    was_replaced: bool


def install_snapshot_steps(
    fs: FileSystem, replica: Replica, ltx_path: Path, position: Position
) -> Generator[None, None, Installed]:
    """Make the file of a replica equal to the snapshot and start it at `position`.

    Readers keep their snapshots, unless the page size changes or there was no usable file. Raises LtxError,
    ChecksumMismatch (the file is as it was then), StorageError, NotReady (someone else holds the file's lock).
    """
    handle = fs.open_read(ltx_path)
    try:
        decoder = LtxDecoder(_Input(handle).read)
        header = decoder.header
        if not header.is_snapshot or header.max_txid != position.txid:
            raise LtxError(f"{ltx_path} holds {header.min_txid}..{header.max_txid}, not a snapshot at {position}")
        change = Change(
            before=replica.position,
            after=position,
            page_size=header.page_size,
            page_count=header.commit,
            pages=_verified(decoder),
        )
        return (yield from _install_steps(fs, replica, change))
    finally:
        handle.close()


def _verified(decoder: LtxDecoder) -> Iterator[tuple[Pgno, bytes]]:
    yield from decoder
    decoder.expect_end()


def _install_steps(fs: FileSystem, replica: Replica, change: Change) -> Generator[None, None, Installed]:
    if replica.page_size == change.page_size and change.page_count > 0 and (yield from _is_usable(replica)):
        written = yield from replica.write_differing_steps(change)
        return Installed(written, was_replaced=False)
    table = PageChecksums()
    built = yield from build_steps(fs, Path(replica.path), change.page_size, change.page_count, change.pages, table)
    replica.take_new_file(built, table, change.after)
    return Installed(change.page_count, was_replaced=True)


def _is_usable(replica: Replica) -> Generator[None, None, bool]:
    """Learn what is in the file now, under its lock; False when it cannot be read or is not in WAL mode."""
    replica.state = ReplicaState.UNKNOWN
    file = replica.file
    if file is None or file.journal_mode() != "wal":
        return False
    replica.require_lock()
    try:
        yield from replica.rescan_steps()
    except CorruptionError:
        return False
    return True


def scan_file_steps(file: PageFile) -> Generator[None, None, PageChecksums]:
    """Give the checksum of every page of the pinned state."""
    table = PageChecksums()
    yield from scan_steps(file, table)
    return table
