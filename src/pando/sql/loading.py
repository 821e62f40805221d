"""Reads a SQL script into a new database file: a dump of this server, of sqld, or of SQLite's shell.

The script must be one transaction, with nothing outside of it but PRAGMAs, and cannot leave the file: no ATTACH, no
extension. It comes in pieces; only a statement that has not ended yet is held. Blocking, for a thread. Not here: where
scripts come from (`pando.api.admin_loading`), what becomes of the file.
"""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Final

import apsw

from pando import limits
from pando.errors import InvalidRequest, RequestTooLarge
from pando.store.tokens import first_keyword

STATEMENT_CHARS_MAX: Final = 256 * limits.MIB
"""Longest statement of a script; it is held in memory."""
CUT_CHARS: Final = 512 * limits.KIB
"""About as much is run at once."""
_TRIES: Final = 64
"""Semicolons that are looked at, from the last one on, for one that ends a statement."""
_TOKEN = re.compile(
    r"""'[^']*'|"[^"]*"|`[^`]*`|\[[^\]]*\]|--[^\n]*\n|/\*.*?\*/|(?P<end>;)|(?P<open>['"`\[]|--|/\*)""", re.DOTALL
)
"""What may hold semicolons that end nothing; `open` is one whose end has not come."""
_PRAGMAS: Final = frozenset(
    {
        *("foreign_keys", "defer_foreign_keys", "legacy_alter_table", "writable_schema"),
        *("user_version", "application_id", "encoding", "journal_mode", "synchronous"),
    }
)
_NO_TRANSACTION: Final = "A dump should execute within a transaction."  # sqld's words
_EXCERPT: Final = 200


class Loader:
    """A script on its way into a file. Close it, whatever happens."""

    def __init__(self, path: Path, *, size_bytes_max: int | None = None) -> None:
        """Make the file. `size_bytes_max`: how large it may become."""
        self._connection = apsw.Connection(str(path))
        self._size_bytes_max = size_bytes_max
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
        self._pending = ""
        self._next_cut = CUT_CHARS
        self._looked = 0
        self._ends: list[int] = []
        self._has_begun = False
        self._commits = 0
        self._statement = ""
        connection = self._connection
        for pragma in ("journal_mode=OFF", "synchronous=OFF", "foreign_keys=OFF", "cache_size=-16384"):
            connection.execute(f"PRAGMA {pragma}")
        if size_bytes_max is not None:
            connection.execute(f"PRAGMA max_page_count={max(1, size_bytes_max // 4096)}")
        connection.set_commit_hook(self._committed)
        connection.authorizer = _authorize
        self._cursor = connection.cursor()
        self._cursor.exec_trace = self._before

    def feed(self, data: bytes) -> None:
        """Take a piece. Raises InvalidRequest, RequestTooLarge."""
        try:
            self._pending += self._decoder.decode(data)
        except UnicodeDecodeError as error:
            raise InvalidRequest(f"the dump is no UTF-8 text: {error.reason}") from error
        if len(self._pending) >= self._next_cut:
            self._run_complete()

    def finish(self) -> None:
        """Take what is left; the file is whole then. Raises InvalidRequest."""
        try:
            rest = self._pending + self._decoder.decode(b"", final=True)
        except UnicodeDecodeError as error:
            raise InvalidRequest("the dump ends within a character") from error
        self._pending = ""
        self._run(rest)
        if not self._has_begun:
            raise InvalidRequest(_NO_TRANSACTION)
        if self._connection.in_transaction or not self._commits:
            raise InvalidRequest("the dump ends without COMMIT: it is not whole; nothing was loaded")
        self._connection.execute("PRAGMA journal_mode=DELETE").fetchall()

    def close(self) -> None:
        """Close the file."""
        self._connection.close(True)

    def _run_complete(self) -> None:
        """Run up to the end of the last statement that has ended."""
        self._look_for_ends()
        for end in reversed(self._ends[-_TRIES:]):  # one within the body of a trigger ends nothing
            if apsw.complete(self._pending[:end]):
                ready, self._pending = self._pending[:end], self._pending[end:]
                self._looked -= end
                self._ends = [other - end for other in self._ends if other > end]
                self._next_cut = max(CUT_CHARS, 2 * len(self._pending))
                self._run(ready)
                return
        if len(self._pending) > STATEMENT_CHARS_MAX:
            raise RequestTooLarge(f"a statement of the dump is longer than {STATEMENT_CHARS_MAX} characters")
        self._next_cut = 2 * len(self._pending)

    def _look_for_ends(self) -> None:
        """Note semicolons outside of texts, names and comments, in what has come since the last time."""
        for found in _TOKEN.finditer(self._pending, self._looked):
            if found.lastgroup == "open":
                return  # it goes on in what is to come
            self._looked = found.end()
            if found.lastgroup == "end":
                self._ends.append(self._looked)

    def _run(self, script: str) -> None:
        try:
            for _ in self._cursor.execute(script, can_cache=False):
                pass
        except apsw.FullError as error:
            if self._size_bytes_max is None:
                raise InvalidRequest(f"there is no space for the loaded database: {error}") from error
            raise InvalidRequest(f"the dump is larger than max_db_size, {self._size_bytes_max} bytes") from error
        except apsw.AuthError as error:
            raise InvalidRequest(f"a dump may not do this: {self._near()}") from error
        except (apsw.Error, ValueError) as error:
            raise InvalidRequest(f"the dump cannot be loaded: {error}; near {self._near()}") from error

    def _near(self) -> str:
        return repr(self._statement[:_EXCERPT])

    def _committed(self) -> bool:
        self._commits += self._has_begun
        return False

    def _before(self, _cursor: apsw.Cursor, text: str, _bindings: object) -> bool:
        """Look at a statement that is about to run."""
        self._statement = text
        if self._connection.in_transaction:
            self._has_begun = True
            return True
        word = first_keyword(text)
        if self._has_begun and word:
            raise InvalidRequest("the dump goes on after the end of its transaction; nothing was loaded")
        if word == "BEGIN":
            self._has_begun = True
        elif word not in {"PRAGMA", ""}:
            raise InvalidRequest(_NO_TRANSACTION)
        return True


def _authorize(code: int, first: str | None, _second: str | None, _database: str | None, _trigger: str | None) -> int:
    if code in (apsw.SQLITE_ATTACH, apsw.SQLITE_DETACH):
        return apsw.SQLITE_DENY
    if code == apsw.SQLITE_PRAGMA and (first or "").lower() not in _PRAGMAS:
        return apsw.SQLITE_DENY
    return apsw.SQLITE_OK
