"""What is configured for the writers of databases: how large a file may become, how long a transaction may stay open.

Read from the file of the system database in the primary's store process, so that it holds whoever writes, from the
first write after a start or a promotion on. Not here: the other configurations (`pando.sql.rules`), writing them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import apsw
import msgspec

SIZE_PAGES_MIN: Final = 1
_BUSY_MS: Final = 1000


class Quota(msgspec.Struct, frozen=True, kw_only=True):
    """Of one database; None: as for every database."""

    max_db_size: int | None = None
    txn_timeout_s: float | None = None


NO_QUOTA: Final = Quota()
_DECODER = msgspec.json.Decoder(Quota)


def read_quotas(path: Path) -> Mapping[str, Quota] | None:
    """Read all of them, blocking; None if the file cannot be read now: what is known holds on."""
    if not path.exists():
        return {}
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
    except apsw.Error:
        return None
    try:
        connection.set_busy_timeout(_BUSY_MS)
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name = 'databases'").fetchall():
            return {}
        rows = connection.execute("SELECT name, config FROM databases").fetchall()
    except apsw.Error:
        return None
    finally:
        connection.close()
    found = {str(name): _decoded(text) for name, text in rows}
    return {name: quota for name, quota in found.items() if quota != NO_QUOTA}


def _decoded(text: object) -> Quota:
    try:
        return _DECODER.decode(str(text))
    except msgspec.MsgspecError:
        return NO_QUOTA


def limit_size(connection: apsw.Connection, size_bytes_max: int | None) -> None:
    """Bound the file that a write connection may make; it is never cut. Only while nothing runs on the connection."""
    if size_bytes_max is None:
        connection.execute("PRAGMA max_page_count=4294967294").fetchall()
        return
    page_size = int(str(connection.execute("PRAGMA page_size").get))
    pages = max(SIZE_PAGES_MIN, size_bytes_max // page_size)
    connection.execute(f"PRAGMA max_page_count={pages}").fetchall()
