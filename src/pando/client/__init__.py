"""Pando's SQL from Python: a module of PEP 249, and the same for asyncio.

    with pando.connect("pando://node1:8090,node2:8090/shop") as connection:
        connection.execute("INSERT INTO notes(text) VALUES (?)", ("hello",))

See docs/python-sql.md. What asyncio or SQLAlchemy needs is imported when it is used.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

from pando.client.connection import Connection as Connection
from pando.client.connection import Cursor as Cursor
from pando.client.exceptions import DatabaseError as DatabaseError
from pando.client.exceptions import DataError as DataError
from pando.client.exceptions import Error as Error
from pando.client.exceptions import IntegrityError as IntegrityError
from pando.client.exceptions import InterfaceError as InterfaceError
from pando.client.exceptions import InternalError as InternalError
from pando.client.exceptions import NotSupportedError as NotSupportedError
from pando.client.exceptions import OperationalError as OperationalError
from pando.client.exceptions import OutcomeUnknown as OutcomeUnknown
from pando.client.exceptions import ProgrammingError as ProgrammingError
from pando.client.exceptions import TransactionLost as TransactionLost
from pando.client.exceptions import Warning as Warning
from pando.client.results import Row as Row
from pando.client.targets import Target, make_target
from pando.client.values import BINARY as BINARY
from pando.client.values import DATETIME as DATETIME
from pando.client.values import NUMBER as NUMBER
from pando.client.values import ROWID as ROWID
from pando.client.values import STRING as STRING
from pando.client.values import Binary as Binary
from pando.client.values import Date as Date
from pando.client.values import DateFromTicks as DateFromTicks
from pando.client.values import Time as Time
from pando.client.values import TimeFromTicks as TimeFromTicks
from pando.client.values import Timestamp as Timestamp
from pando.client.values import TimestampFromTicks as TimestampFromTicks

if TYPE_CHECKING:
    from pando.client.async_connection import AsyncConnection as AsyncConnection
    from pando.client.async_connection import AsyncCursor as AsyncCursor
    from pando.client.async_connection import Opening

apilevel: Final = "2.0"
threadsafety: Final = 2
"""Threads may share the module and connections."""
sqlite_version_info: Final = (3, 50, 0)
"""The SQLite that every node has at least."""
paramstyle: Final = "qmark"
"""`?`; `:name`, `@name` and `$name` with a mapping work, too."""

_LAZY: Final = {"AsyncConnection": "AsyncConnection", "AsyncCursor": "AsyncCursor"}


def connect(
    url: str | Iterable[str] = "",
    *,
    token: str | None = None,
    database: str | None = None,
    autocommit: bool | None = None,
    isolation: str | None = None,
    freshness: str | None = None,
    durability: str | None = None,
    retry_s: float | None = None,
    timeout_s: float | None = None,
    connect_timeout_s: float | None = None,
    share: bool | None = None,
) -> Connection:
    """Give a connection to one or several nodes; nothing is sent yet. Raises ProgrammingError for what cannot be.

    Without a URL it is PANDO_URL, else `pando://127.0.0.1:8090`; without a token PANDO_TOKEN. See docs/python-sql.md.
    """
    return Connection(_target(url, locals()))


def aconnect(
    url: str | Iterable[str] = "",
    *,
    token: str | None = None,
    database: str | None = None,
    autocommit: bool | None = None,
    isolation: str | None = None,
    freshness: str | None = None,
    durability: str | None = None,
    retry_s: float | None = None,
    timeout_s: float | None = None,
    connect_timeout_s: float | None = None,
    share: bool | None = None,
) -> Opening:
    """Give an asyncio connection: `async with` (which closes it) or `await`. The options are those of `connect`."""
    target = _target(url, locals())
    from pando.client.async_connection import Opening

    return Opening(target)


def _target(url: str | Iterable[str], options: dict[str, Any]) -> Target:
    return make_target(url, {name: value for name, value in options.items() if name != "url"}, os.environ)


def __getattr__(name: str) -> object:
    """Import what asyncio needs."""
    if name not in _LAZY:
        raise AttributeError(f"module 'pando.client' has no attribute {name!r}")
    from pando.client import async_connection

    return getattr(async_connection, name)
