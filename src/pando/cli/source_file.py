"""A SQLite file that is to be imported, read as one moment of it: whoever else has it open, whatever lies beside it.

Pages that are in a WAL are read through SQLite into a copy; without a WAL the file is read as it is, while a lock keeps
writers away. The file itself is never changed. Not here: sending it (see `cli.importing`).
"""

from __future__ import annotations

import sqlite3
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from pando.errors import InvalidRequest, StorageError

SQLITE_MAGIC = b"SQLite format 3\x00"
HEADER_BYTES = 100
"""Length of a SQLite file's header; a shorter file is none."""
LOCK_WAIT_S = 5.0
"""How long another program may hold the file's lock."""
COPY_PAGES = 4096
"""Pages of one step of a copy, after which progress is told."""
_WAL_FORMAT = 2
_SQL_WORDS = (b"PRAGMA", b"BEGIN", b"CREATE", b"INSERT", b"--", b"/*")
_LOCKED = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_MAX_PAGE_SIZE_CODE = 1

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Source:
    """Bytes to send. `check` raises when they are not what they were at the beginning."""

    stream: BinaryIO
    size: int
    check: Callable[[], None]


@contextmanager
def open_source(file: Path, tell: Tell) -> Iterator[Source]:
    """Open a SQLite file to be read whole; `tell` gets a sentence if a copy is made first. Raises InvalidRequest."""
    try:
        header = read_header(file)
        beside = {suffix: _size(file.with_name(file.name + suffix)) for suffix in ("-wal", "-journal")}
        if not beside["-wal"] and not beside["-journal"] and header[18] == _WAL_FORMAT:
            with _as_it_is(file, header) as source:
                yield source
            return
        with _held(file) as connection:
            if beside["-wal"]:
                tell(f"{file.name}-wal holds commits, too: reading {file.name} as SQLite does")
                with _copied(connection, file) as source:
                    yield source
            else:
                with _as_it_is(file, header) as source:
                    yield source
    except OSError as error:
        raise InvalidRequest(f"{file} cannot be read: {error.strerror or error}") from error


def read_header(file: Path) -> bytes:
    """Read the first bytes of a SQLite file; raises InvalidRequest for what is none, OSError."""
    with file.open("rb") as opened:
        header = opened.read(HEADER_BYTES)
    if not header:
        raise InvalidRequest(f"{file} is empty: `pando databases create NAME` makes an empty database")
    if len(header) >= HEADER_BYTES and header.startswith(SQLITE_MAGIC):
        return header
    if header.lstrip().upper().startswith(_SQL_WORDS):
        raise InvalidRequest(
            f"{file} is no SQLite database file but looks like SQL: `pando databases load NAME {file}` makes a "
            f"database of a dump, `pando sql < {file}` runs it in one that is there"
        )
    raise InvalidRequest(f"{file} is no SQLite database file, or it is encrypted")


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


@contextmanager
def _as_it_is(file: Path, header: bytes) -> Iterator[Source]:
    with file.open("rb") as stream:
        before = file.stat()
        expected = _stated_size(header)
        if before.st_size < expected:
            raise InvalidRequest(f"{file} is cut short: it has {before.st_size} bytes and should have {expected}")

        def check() -> None:
            after = file.stat()
            if (after.st_size, after.st_mtime_ns) != (before.st_size, before.st_mtime_ns):
                raise InvalidRequest(
                    f"another program changed {file} while it was read: nothing was imported, try again"
                )

        yield Source(stream, before.st_size, check)


def _stated_size(header: bytes) -> int:
    """Give the size that the header states; 0 where an old SQLite left it out of date."""
    (size,) = struct.unpack_from(">H", header, 16)
    changes, pages = struct.unpack_from(">II", header, 24)
    (valid_for,) = struct.unpack_from(">I", header, 92)
    return int(pages * (65536 if size == _MAX_PAGE_SIZE_CODE else size)) if changes == valid_for else 0


@contextmanager
def _held(file: Path) -> Iterator[sqlite3.Connection]:
    """Hold a read transaction on the file: nobody changes it meanwhile, and no unfinished transaction is in it."""
    address = f"file:{quote(str(file.absolute()))}?mode=ro"
    connection = sqlite3.connect(address, uri=True, timeout=LOCK_WAIT_S, isolation_level=None)
    try:
        try:
            connection.execute("BEGIN")
            connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as error:
            raise _refusal(file, error) from error
        yield connection
    finally:
        connection.close()


def _refusal(file: Path, error: sqlite3.Error) -> InvalidRequest:
    code = getattr(error, "sqlite_errorcode", 0)
    if code == sqlite3.SQLITE_READONLY_ROLLBACK:
        return InvalidRequest(
            f"{file}-journal holds a transaction that was not finished: open {file} once with the program that uses "
            f"it, or `sqlite3 {file} .tables`, which takes back what was begun, then import"
        )
    if code & 0xFF in _LOCKED:
        return InvalidRequest(f"another program is writing to {file}: try again when it has finished")
    return InvalidRequest(f"{file} cannot be read as a SQLite database: {error}")


@contextmanager
def _copied(connection: sqlite3.Connection, file: Path) -> Iterator[Source]:
    with tempfile.TemporaryDirectory(prefix="pando-import-") as folder:
        copy = Path(folder) / "copy.db"
        made = sqlite3.connect(copy, isolation_level=None)
        try:
            connection.backup(made, pages=COPY_PAGES)
            made.execute("PRAGMA journal_mode = DELETE")  # all in one file
        except sqlite3.Error as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}:
                raise StorageError(
                    f"no copy of {file} can be made in {folder}: {error}; TMPDIR names another place"
                ) from error
            raise InvalidRequest(f"{file} cannot be read as a SQLite database: {error}") from error
        finally:
            made.close()
        with copy.open("rb") as stream:
            yield Source(stream, copy.stat().st_size, _unchanged)


def _unchanged() -> None:
    """Nobody else knows of the copy."""
