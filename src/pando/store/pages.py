"""A database file as numbered pages, read and written through SQLite's `sqlite_dbpage` table: the only module that uses
`sqlean`, and the one place where its errors become ours.

Writing through SQLite keeps what SQLite promises: one transaction, visible at once and as a whole, readers in other
processes keep their snapshot. What had to be learned about `sqlite_dbpage` is in `APPLIER.md`. Not here: what the pages
mean, checksums, positions.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import wraps
from typing import Any, Final, ParamSpec, TypeVar
from urllib.parse import quote

import sqlean

from pando.errors import CorruptionError, InternalError, NotReady, PandoError, StorageError, StorageFull, invariant

_P = ParamSpec("_P")
_R = TypeVar("_R")

FILE_BUSY: Final = "FILE_BUSY"
"""Code of the NotReady that says another program holds the file's lock."""

_CACHE_KIB: Final = 1024
"""SQLite page cache of an open file: the pages that each commit touches again, not a working set."""
_INSERT: Final = "INSERT INTO sqlite_dbpage(pgno, data) VALUES(?, ?)"
_INSERT_LAST: Final = "INSERT INTO sqlite_dbpage(pgno, data) VALUES(1, ?), (?, NULL)"
_SELECT: Final = "SELECT pgno, data FROM sqlite_dbpage"
_SELECT_ONE: Final = "SELECT data FROM sqlite_dbpage WHERE pgno = ?"

_ZERO: Final = bytes(4)
_BUSY_CODES: Final = frozenset({5, 6, 15, 17})  # busy, locked, protocol, schema
_FULL_CODE: Final = 13
_STORAGE_CODES: Final = frozenset({3, 8, 10, 14, 22, 23})  # perm, readonly, ioerr, cantopen, nolfs, auth
_CORRUPT_CODES: Final = frozenset({11, 26})  # corrupt, not a database


def _translated(error: sqlean.Error) -> PandoError:
    """Give our error for one of SQLite's, by its result code."""
    code = (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
    name = getattr(error, "sqlite_errorname", None) or "no code"
    words = f"SQLite says {error} ({name})"
    if code in _BUSY_CODES:
        return NotReady(words, code=FILE_BUSY)
    if code == _FULL_CODE:
        return StorageFull(f"{words}; free space on this disk")
    if code in _STORAGE_CODES:
        return StorageError(words)
    if code in _CORRUPT_CODES:
        return CorruptionError(words)
    return InternalError(words)


def _guarded(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """Translate SQLite's errors at the edge of this module."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return function(*args, **kwargs)
        except sqlean.Error as error:
            raise _translated(error) from error

    return call


class CheckpointMode(StrEnum):
    """How hard a checkpoint tries. PASSIVE waits for nobody; TRUNCATE also shortens the WAL if no reader is there."""

    PASSIVE = "PASSIVE"
    TRUNCATE = "TRUNCATE"


@dataclass(frozen=True, slots=True)
class CheckpointResult:
    """What a checkpoint left. `is_complete`: everything in the WAL is in the file too."""

    wal_frames: int
    is_complete: bool


class PageFile:
    """One connection to one database file. Pages go in and come out as SQLite shows them, page 1 as it is.

    `lock` takes the write lock (`BEGIN IMMEDIATE`); pages are then written, and `commit` makes them visible and gives
    the lock up. Raises NotReady (FILE_BUSY), StorageError, CorruptionError, InternalError.
    """

    __slots__ = (
        "_connection",
        "_cursor",
        "_is_schema_new",
        "_is_vacuumed_at_commit",
        "_schema_cookie",
        "is_locked",
        "page_size",
        "path",
    )

    def __init__(self, path: str, *, read_only: bool = False, busy_timeout_s: float = 0.0) -> None:
        """Open an existing file; it is an error when there is none."""
        mode = "ro" if read_only else "rw"
        self.path = path
        self.is_locked = False
        self._connection: Any = _open(f"file:{quote(path)}?mode={mode}", busy_timeout_s)
        self._cursor: Any = self._connection.cursor()
        try:
            self.page_size: int = self._prepare()
        except PandoError:
            self._connection.close()
            raise
        self._is_vacuumed_at_commit = False
        self._is_schema_new = False
        self._schema_cookie = b""
        self._note_header(self.read_page(1))

    @_guarded
    def _prepare(self) -> int:
        run = self._cursor.execute
        # A schema that this SQLite cannot parse (the primary's is newer) must not keep us from copying pages.
        run("PRAGMA writable_schema=ON")
        run("PRAGMA synchronous=NORMAL")
        run("PRAGMA wal_autocheckpoint=0")
        run(f"PRAGMA cache_size=-{_CACHE_KIB}")
        return int(run("PRAGMA page_size").fetchone()[0])

    @_guarded
    def wait_for_locks(self, seconds: float) -> None:
        """Wait so long for a lock that another program holds, from now on."""
        self._cursor.execute(f"PRAGMA busy_timeout={round(seconds * 1000)}").fetchone()

    @_guarded
    def journal_mode(self) -> str:
        """Give the journal mode of the file, `wal` for every file of ours."""
        return str(self._cursor.execute("PRAGMA journal_mode").fetchone()[0])

    @_guarded
    def page_count(self) -> int:
        """Give the size in pages as this connection sees it now."""
        return int(self._cursor.execute("PRAGMA page_count").fetchone()[0])

    @_guarded
    def read_page(self, pgno: int) -> bytes | None:
        """Give one page, None past the end."""
        row = self._cursor.execute(_SELECT_ONE, (pgno,)).fetchone()
        return None if row is None else row[0]

    def read_pages(self) -> Generator[tuple[int, bytes], None, None]:
        """Give all pages in order, the lock page as zeros. Call within `lock` or `pin` to get one state."""
        cursor = self._connection.cursor()
        try:
            yield from cursor.execute(_SELECT)
        except sqlean.Error as error:
            raise _translated(error) from error
        finally:
            cursor.close()

    @_guarded
    def pin(self) -> None:
        """Fix what later reads see."""
        self._cursor.execute("BEGIN")
        self._cursor.execute(_SELECT_ONE, (1,)).fetchone()

    @_guarded
    def lock(self) -> int:
        """Take the write lock and give the data version: it differs from last time when someone else wrote between."""
        self._cursor.execute("BEGIN IMMEDIATE")
        self.is_locked = True
        return int(self._cursor.execute("PRAGMA data_version").fetchone()[0])

    @_guarded
    def write_pages(self, pages: Iterable[tuple[int, bytes]]) -> None:
        """Write pages other than page 1, in any order; call `finish_write` after the last ones."""
        self._cursor.executemany(_INSERT, pages)

    @_guarded
    def finish_write(self, page_one: bytes | None, shrink_to: int | None) -> None:
        """Write page 1 (None: it did not change), then cut the file to `shrink_to` pages (None: it does not shrink).

        The cut must come last: any page written after it takes it back.
        """
        if page_one is None:
            invariant(shrink_to is None, "a database shrinks without a new page 1", path=self.path)
            return
        cursor = self._cursor
        if self._is_vacuumed_at_commit and (page_one[36:40] != _ZERO or not _is_full_auto_vacuum(page_one)):
            # At COMMIT SQLite would move pages, or miss a page of pointers, since the old state says "vacuum" and the
            # new one has free pages, or none of what vacuuming needs.
            cursor.execute("PRAGMA auto_vacuum=INCREMENTAL")
        if shrink_to is None:
            cursor.execute(_INSERT, (1, page_one))
        else:
            # One statement: between two, SQLite could want to read the schema of a database that is half written.
            cursor.execute(_INSERT_LAST, (page_one, shrink_to + 1))
        self._is_schema_new = page_one[40:44] != self._schema_cookie
        self._note_header(page_one)

    def _note_header(self, page_one: bytes | None) -> None:
        page_one = page_one or bytes(100)
        self._is_vacuumed_at_commit = _is_full_auto_vacuum(page_one)
        self._schema_cookie = page_one[40:44]

    @_guarded
    def commit(self) -> None:
        """Make visible what was written, and give the write lock up."""
        self._cursor.execute("COMMIT")
        self.is_locked = False
        if self._is_schema_new:
            # SQLite reads the schema again at its next statement, with what it remembers of the cells of cached pages;
            # that is of the time before we wrote them. Without the cache it looks at the pages.
            self._is_schema_new = False
            self._cursor.execute("PRAGMA shrink_memory")

    @_guarded
    def roll_back(self) -> None:
        """Undo what was written since `lock`, and give the write lock up."""
        if self._connection.in_transaction:
            self._cursor.execute("ROLLBACK")
        self.is_locked = False
        self._is_schema_new = False
        self._note_header(self.read_page(1))

    @_guarded
    def release(self) -> None:
        """Give the write lock up, nothing having been written."""
        if self._connection.in_transaction:
            self._cursor.execute("ROLLBACK")
        self.is_locked = False

    @_guarded
    def checkpoint(self, mode: CheckpointMode) -> CheckpointResult:
        """Move frames of the WAL into the file; the write lock must not be held by us."""
        invariant(not self.is_locked, "a checkpoint needs the write lock given up", path=self.path)
        _blocked, frames, moved = self._cursor.execute(f"PRAGMA wal_checkpoint({mode.value})").fetchone()
        return CheckpointResult(max(frames, 0), moved == frames)

    @_guarded
    def close(self) -> None:
        """Close; what was written and not committed is undone."""
        self.is_locked = False
        self._connection.close()


def _is_full_auto_vacuum(page_one: bytes) -> bool:
    """Tell whether this page 1 makes SQLite vacuum at each COMMIT: largest root page set, incremental flag not set."""
    return page_one[52:56] != _ZERO and page_one[64:68] == _ZERO


@_guarded
def _open(uri: str, busy_timeout_s: float) -> Any:  # noqa: ANN401 - sqlean has no types
    return sqlean.connect(uri, uri=True, isolation_level=None, timeout=busy_timeout_s, cached_statements=16)
