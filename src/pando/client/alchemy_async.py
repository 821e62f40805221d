"""The dialect of `pando.client.alchemy` for asyncio: `create_async_engine("pando+asyncio://...")`. Needs greenlet.

SQLAlchemy runs its own code in greenlets and hands what must be awaited to the event loop; this module gives it
`pando.client.async_connection` in that form. Not here: everything else of the dialect.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import pool
from sqlalchemy.connectors.asyncio import (
    AsyncAdapt_dbapi_connection,
    AsyncAdapt_dbapi_cursor,
    AsyncAdapt_dbapi_ss_cursor,
    AsyncAdapt_terminate,
)
from sqlalchemy.dialects.sqlite.base import SQLiteExecutionContext
from sqlalchemy.engine import URL

from pando import client
from pando.client.alchemy import PandoDialect
from pando.client.async_connection import AsyncConnection
from pando.client.targets import Target

try:
    from sqlalchemy.util.concurrency import await_
except ImportError:  # SQLAlchemy 2.0 has it under another name
    from sqlalchemy.util.concurrency import await_only as await_


class AdaptedCursor(AsyncAdapt_dbapi_cursor):
    """A cursor whose calls wait."""

    __slots__ = ()


class AdaptedStreamCursor(AsyncAdapt_dbapi_ss_cursor):
    """A cursor for `stream()`: its rows are here already."""

    __slots__ = ()


class AdaptedConnection(AsyncAdapt_terminate, AsyncAdapt_dbapi_connection):
    """A connection whose calls wait."""

    __slots__ = ()
    _cursor_cls = AdaptedCursor
    _ss_cursor_cls = AdaptedStreamCursor
    _connection: AsyncConnection  # type: ignore[assignment]

    @property
    def autocommit(self) -> bool:
        """Whether each statement stands alone."""
        return self._connection.autocommit

    @autocommit.setter
    def autocommit(self, value: bool) -> None:
        self._connection.autocommit = value

    @property
    def isolation(self) -> str:
        """What begins a transaction."""
        return self._connection.isolation

    @isolation.setter
    def isolation(self, value: str) -> None:
        self._connection.isolation = value

    @property
    def target(self) -> Target:
        """Where the connection goes."""
        return self._connection.target

    async def _terminate_graceful_close(self) -> None:
        await self._connection.close()

    def _terminate_force_close(self) -> None:
        self._connection.terminate()


class AdaptedModule:
    """`pando.client` with connections whose calls wait."""

    def __init__(self) -> None:
        self.exceptions_module = client

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever the module has
        return getattr(client, name)

    def connect(self, url: str, *, async_creator_fn: Any = None, **options: Any) -> AdaptedConnection:  # noqa: ANN401
        """Make a connection; nothing is sent yet."""
        opening = async_creator_fn(url, **options) if async_creator_fn else client.aconnect(url, **options)
        return AdaptedConnection(self, await_(opening))


class PandoExecutionContext(SQLiteExecutionContext):
    """Makes the cursor for `stream()`."""

    def create_server_side_cursor(self) -> Any:  # noqa: ANN401
        """Make one."""
        return self._dbapi_connection.cursor(server_side=True)


class AsyncPandoDialect(PandoDialect):
    """SQLite over Pando's nodes, for asyncio."""

    driver = "asyncio"
    is_async = True
    has_terminate = True
    supports_server_side_cursors = True
    execution_ctx_cls = PandoExecutionContext
    supports_statement_cache = True

    @classmethod
    def import_dbapi(cls) -> Any:  # noqa: ANN401 - what SQLAlchemy takes for a module
        """Give the module of PEP 249 in SQLAlchemy's form."""
        return AdaptedModule()

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """Keep connections, one for each user at a time."""
        return pool.AsyncAdaptedQueuePool

    def get_driver_connection(self, connection: Any) -> AsyncConnection:  # noqa: ANN401
        """Give the connection of ours."""
        found: AsyncConnection = connection._connection
        return found

    def do_terminate(self, dbapi_connection: Any) -> None:  # noqa: ANN401
        """Close as well as one can from where that happens."""
        dbapi_connection.terminate()


dialect = AsyncPandoDialect
