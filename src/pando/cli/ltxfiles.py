"""What the `pando ltx` commands do with files: describe LTX files, checksum a SQLite file, apply LTX files to one.

Works on plain files that no program has open; a database with a write-ahead log or journal beside it is refused. Not
here: arguments and tables (see `ltx`), running databases (the store applies those through SQLite).
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import msgspec

from pando.errors import CallerError, ChecksumMismatch, CorruptionError, LtxError
from pando.ltx import LtxDecoder, LtxHeader, PageSequence, check_adjacent, normalise_page_one, page_checksum
from pando.store.checksums import PageChecksums
from pando.store.files import RealFileSystem, remove_if_possible, temporary_path, translate
from pando.types import TXID, Checksum, Pgno, format_checksum, format_txid, is_page_size, lock_pgno

_SQLITE_MAGIC = b"SQLite format 3\0"
_SQLITE_HEADER_BYTES = 100


class PageFacts(msgspec.Struct, frozen=True):
    """One page of a file."""

    pgno: int
    checksum: str


class LtxFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One LTX file that was read to its end. TXIDs and checksums are 16 hex digits; a checksum that is not there is
    empty.
    """

    path: str
    ok: bool
    error: str = ""
    code: str = ""
    size_bytes: int = 0
    min_txid: str = ""
    max_txid: str = ""
    page_size: int = 0
    commit: int = 0
    page_count: int = 0
    snapshot: bool = False
    checksums: bool = False
    time: str = ""
    timestamp_ms: int = 0
    pre_apply_checksum: str = ""
    post_apply_checksum: str = ""
    file_checksum: str = ""
    wal_offset: int = 0
    wal_size: int = 0
    wal_salt1: str = ""
    wal_salt2: str = ""
    node_id: str = ""
    pages: list[PageFacts] | None = None


class DatabaseFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The checksum of a SQLite file: as its bytes are, and as Pando counts it (bytes 24-27 and 92-99 of page 1 as
    zero).
    """

    path: str
    page_size: int
    page_count: int
    checksum: str
    normalised_checksum: str


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """What applying files made of a database."""

    path: str
    files: int
    pages_written: int
    page_count: int
    txid: str
    checksum: str


def _checksum_text(checksum: int) -> str:
    return format_checksum(Checksum(checksum)) if checksum else ""


def _time_text(timestamp_ms: int) -> str:
    try:
        return datetime.fromtimestamp(timestamp_ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError, OSError):
        return ""


@contextmanager
def open_ltx(path: Path) -> Iterator[LtxDecoder]:
    """Open an LTX file for one pass; raises LtxError, StorageError."""
    try:
        with path.open("rb") as file:
            yield LtxDecoder(file.read)
    except OSError as error:
        raise translate(error, "reading", path) from error


def describe_file(path: Path, *, with_pages: bool = False) -> LtxFacts:
    """Read and verify a whole file and say what it holds; raises LtxError, StorageError."""
    pages: list[PageFacts] | None = [] if with_pages else None
    count = 0
    with open_ltx(path) as decoder:
        for pgno, page in decoder:
            count += 1
            if pages is not None:
                pages.append(PageFacts(pgno, format_checksum(page_checksum(pgno, page))))
        decoder.expect_end()
        size_bytes = path.stat().st_size
        header, trailer = decoder.header, decoder.verified_trailer
    return LtxFacts(
        path=str(path),
        ok=True,
        size_bytes=size_bytes,
        min_txid=format_txid(header.min_txid),
        max_txid=format_txid(header.max_txid),
        page_size=header.page_size,
        commit=header.commit,
        page_count=count,
        snapshot=header.is_snapshot,
        checksums=header.has_checksums,
        time=_time_text(header.timestamp_ms),
        timestamp_ms=header.timestamp_ms,
        pre_apply_checksum=_checksum_text(header.pre_apply_checksum),
        post_apply_checksum=_checksum_text(trailer.post_apply_checksum),
        file_checksum=_checksum_text(trailer.file_checksum),
        wal_offset=header.wal_offset,
        wal_size=header.wal_size,
        wal_salt1=f"{header.wal_salt1:08x}",
        wal_salt2=f"{header.wal_salt2:08x}",
        node_id=f"{header.node_id:016x}",
        pages=pages,
    )


def verify_file(path: Path) -> LtxFacts:
    """Like `describe_file`, but a broken file is a result, not an error."""
    try:
        return describe_file(path)
    except LtxError as error:
        return LtxFacts(path=str(path), ok=False, error=error.message, code=error.code)


class _Image:
    """The checksums of a SQLite file: of its bytes, and with page 1 normalised."""

    def __init__(self) -> None:
        self.page_size = 0
        self.table = PageChecksums()
        self._normalising = 0

    @property
    def rolling(self) -> Checksum:
        return self.table.rolling

    @property
    def normalised(self) -> Checksum:
        return Checksum(self.table.rolling ^ self._normalising)

    def put(self, pgno: Pgno, page: bytes) -> None:
        checksum = page_checksum(pgno, page)
        self.table.put(pgno, checksum)
        if pgno == 1:
            self._normalising = checksum ^ page_checksum(pgno, normalise_page_one(page))

    def resize(self, page_count: int) -> None:
        self.table.resize(page_count)
        if not page_count:
            self._normalising = 0

    def expect(self, checksum: Checksum, when: str, path: Path) -> None:
        """Compare with what an LTX file says; 0 says nothing. Raises ChecksumMismatch."""
        if checksum and checksum not in (self.rolling, self.normalised):
            raise ChecksumMismatch(
                f"{when} {str(path)!r} the database's checksum must be {format_checksum(checksum)}, "
                f"but is {format_checksum(self.rolling)} ({format_checksum(self.normalised)} normalised)"
            )


def _check_at_rest(path: Path) -> None:
    for suffix in ("-wal", "-journal"):
        beside = path.with_name(path.name + suffix)
        if beside.exists() and beside.stat().st_size:
            raise CallerError(
                f"{str(beside)!r} is not empty: close the database, or checkpoint it, first", code="DATABASE_IN_USE"
            )


def _page_size_of(head: bytes, path: Path) -> int:
    page_size = int.from_bytes(head[16:18], "big")
    page_size = 65536 if page_size == 1 else page_size
    if head[:16] != _SQLITE_MAGIC or not is_page_size(page_size):
        raise CorruptionError(f"{str(path)!r} is not a SQLite database")
    return page_size


def _read_image(file: BinaryIO, path: Path) -> _Image:
    image = _Image()
    head = file.read(_SQLITE_HEADER_BYTES)
    if not head:
        return image
    image.page_size = _page_size_of(head, path)
    lock = lock_pgno(image.page_size)
    file.seek(0)
    pgno = Pgno(0)
    while page := file.read(image.page_size):
        pgno = Pgno(pgno + 1)
        if len(page) != image.page_size:
            raise CorruptionError(f"{str(path)!r} ends inside page {pgno}")
        if pgno != lock:
            image.put(pgno, page)
    image.resize(pgno)
    return image


def database_facts(path: Path) -> DatabaseFacts:
    """Compute the rolling checksum of a SQLite file; raises CallerError, CorruptionError, StorageError."""
    _check_at_rest(path)
    try:
        with path.open("rb") as file:
            image = _read_image(file, path)
    except OSError as error:
        raise translate(error, "reading", path) from error
    return DatabaseFacts(
        path=str(path),
        page_size=image.page_size,
        page_count=image.table.page_count,
        checksum=format_checksum(image.rolling),
        normalised_checksum=format_checksum(image.normalised),
    )


def apply_files(path: Path, files: Sequence[Path]) -> Applied:
    """Apply LTX files, oldest first, to a SQLite file (made when it is missing): all of them or, on an error, none.

    Rolling checksums, where files carry them, are compared with the whole database before and after each. The work is
    done on a copy, which then takes the database's place durably. Raises LtxError, ChecksumMismatch, CallerError,
    StorageError.
    """
    _check_at_rest(path)
    fs = RealFileSystem()
    copy = temporary_path(path)
    try:
        applied = _apply_to_copy(path, copy, files)
        handle = fs.open_append(copy, create=False)
        try:
            handle.fdatasync()
        finally:
            handle.close()
        fs.replace(copy, path)
    except OSError as error:
        raise translate(error, "writing", copy) from error
    finally:
        remove_if_possible(fs, copy)
    fs.fsync_dir(path.absolute().parent)
    return applied


def _apply_to_copy(path: Path, copy: Path, files: Sequence[Path]) -> Applied:
    if path.exists():
        shutil.copyfile(path, copy)
        shutil.copymode(path, copy)
    else:
        copy.touch(mode=0o600)
    pages_written = 0
    before: LtxHeader | None = None
    with copy.open("r+b") as target:
        image = _read_image(target, path)
        for source in files:
            with open_ltx(source) as decoder:
                if before is not None:
                    check_adjacent(before, decoder.header)
                pages_written += _apply_one(decoder, source, target, image)
                before = decoder.header
    return Applied(
        path=str(path),
        files=len(files),
        pages_written=pages_written,
        page_count=image.table.page_count,
        txid=format_txid(before.max_txid if before else TXID(0)),
        checksum=format_checksum(image.rolling),
    )


def _apply_one(decoder: LtxDecoder, source: Path, target: BinaryIO, image: _Image) -> int:
    header = decoder.header
    if image.page_size not in (0, header.page_size):
        raise CallerError(f"{str(source)!r} has pages of {header.page_size} bytes, the database of {image.page_size}")
    image.page_size = header.page_size
    image.expect(header.pre_apply_checksum, "before", source)
    sequence = PageSequence(header, image.table.page_count)
    count = 0
    for pgno, page in decoder:
        sequence.accept(pgno)
        target.seek((pgno - 1) * header.page_size)
        target.write(page)
        image.put(pgno, page)
        count += 1
    sequence.finish()
    decoder.expect_end()
    target.truncate(header.commit * header.page_size)
    image.resize(header.commit)
    image.expect(decoder.verified_trailer.post_apply_checksum, "after", source)
    return count
