"""A dialect of SQLAlchemy on `pando.client`: `create_engine("pando://:TOKEN@HOST:PORT/DATABASE?node=HOST:PORT")`.

Types, SQL and reflection are those of SQLAlchemy's SQLite dialect, so what is written for `sqlite` works here. Engines
share bookmarks among their connections unless told otherwise. Found by SQLAlchemy through entry points.
Not here: asyncio (`pando.client.alchemy_async`), the connection itself (`pando.client.connection`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any, Final
from urllib.parse import urlencode

from sqlalchemy import pool
from sqlalchemy.dialects.sqlite.base import SQLiteDialect
from sqlalchemy.engine import URL

from pando import client
from pando.client.targets import DEFAULT_URL

AUTOCOMMIT: Final = "AUTOCOMMIT"
READ_COMMITTED: Final = "READ COMMITTED"
SERIALIZABLE: Final = "SERIALIZABLE"


class PandoDialect(SQLiteDialect):
    """SQLite over Pando's nodes."""

    driver = "pando"
    supports_statement_cache = True
    default_paramstyle = "qmark"
    returns_native_bytes = True
    supports_native_boolean = False

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """Give the module of PEP 249."""
        return client

    @classmethod
    def get_pool_class(cls, url: URL) -> type[pool.Pool]:
        """Keep connections, one for each user at a time."""
        return pool.QueuePool

    def create_connect_args(self, url: URL) -> tuple[list[Any], dict[str, Any]]:
        """Turn SQLAlchemy's URL into ours; options of its query are those of `pando.connect`."""
        query: Mapping[str, Any] = url.query
        given = query.get("node", ())
        nodes = [f"{_host(url.host)}:{url.port}" if url.port else _host(url.host)] if url.host else []
        nodes += [given] if isinstance(given, str) else given
        options = {name: value for name, value in query.items() if name != "node"}
        named: dict[str, Any] = {} if "share" in options else {"share": True}
        if token := url.password or url.username:
            named["token"] = str(token)
        if url.database:
            named["database"] = url.database
        place = f"pando://{','.join(nodes)}" if nodes else DEFAULT_URL if options else ""
        return [f"{place}?{urlencode(options, doseq=True)}" if options else place], named

    def _get_server_version_info(self, connection: Any) -> tuple[int, ...]:  # noqa: ANN401
        found = connection.exec_driver_sql("SELECT sqlite_version()").scalar()
        return tuple(int(part) for part in found.split("."))

    # -- isolation ----------------------------------------------------------------------------------------------------

    def get_isolation_level_values(self, dbapi_connection: Any) -> Any:  # noqa: ANN401
        """Name the levels: see `pando.client.targets.Target`."""
        return [AUTOCOMMIT, READ_COMMITTED, SERIALIZABLE]

    def set_isolation_level(self, dbapi_connection: Any, level: str) -> None:  # noqa: ANN401
        """Set one of them."""
        dbapi_connection.autocommit = level == AUTOCOMMIT
        if level != AUTOCOMMIT:
            dbapi_connection.isolation = level

    def get_isolation_level(self, dbapi_connection: Any) -> Any:  # noqa: ANN401
        """Say which is set."""
        return AUTOCOMMIT if dbapi_connection.autocommit else str(dbapi_connection.isolation)

    def get_default_isolation_level(self, dbapi_connection: Any) -> Any:  # noqa: ANN401
        """Say which a connection has when nobody sets one."""
        return self.get_isolation_level(dbapi_connection)

    def detect_autocommit_setting(self, dbapi_conn: Any) -> bool:  # noqa: ANN401
        """Tell whether each statement stands alone."""
        return bool(dbapi_conn.autocommit)

    def is_disconnect(self, e: Exception, connection: Any, cursor: Any) -> bool:  # noqa: ANN401
        """Say no: a connection finds its way to a node by itself; what is lost is a transaction."""
        return False


def _host(host: str | None) -> str:
    return f"[{host}]" if host and ":" in host else host or ""


dialect = PandoDialect
