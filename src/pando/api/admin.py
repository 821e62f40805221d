"""Databases as tenants: sqld's admin API under /v1/namespaces on the node's one port, with a list.

An administrator's token opens it, or HTTP basic with the node's `admin_auth_key`. What changes something is the
primary's: a replica passes it on. Not here: bodies (`admin_config`), scripts (`admin_loading`), statistics
(`admin_stats`), what the configuration does (`pando.sql.rules`, `pando.store.quotas`).
"""

from __future__ import annotations

import hmac
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pando.api.admin_config import ConfigBody, CreateBody, ForkBody, changed, config_view, decode_body, wanted_config
from pando.api.admin_loading import fetch_script, load_file
from pando.api.admin_stats import AdminStats
from pando.api.cluster import check_not_system, pass_on
from pando.api.http import Headers, Request, Response, error_body, json_response
from pando.api.threads import in_thread
from pando.api.transfers import Transfers
from pando.clock import Clock
from pando.errors import CallerError, DatabaseExists, InvalidRequest, NotFound, PandoError, UnknownDatabase
from pando.node.store_client import NodeStoreClient
from pando.sql.config import NO_CONFIG, DatabaseConfig, encode_config
from pando.sql.embedded_table import GenerationTable
from pando.sql.system import SystemDatabase
from pando.store.layout import Layout
from pando.store.requests import Statement
from pando.types import DEFAULT_DATABASE, SYSTEM_DATABASE, parse_database_name

PREFIX: Final = "/v1/namespaces"
NAMES_MAX: Final = 10_000
"""Databases in one answer of the list."""
_NAMES_USUAL: Final = 1000
_PUT: Final = (
    "INSERT INTO databases(name, config, changed) VALUES (?1, ?2, ?3) "
    "ON CONFLICT(name) DO UPDATE SET config = ?2, changed = ?3"
)
_TAKE: Final = "DELETE FROM databases WHERE name = ?"

_Handler = Callable[..., Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminServices:
    """What the routes need."""

    store: NodeStoreClient
    authenticate: Callable[[Headers], object]
    """Raises Unauthorized or Forbidden unless the token is an administrator's."""
    system: SystemDatabase
    transfers: Transfers
    stats: AdminStats
    layout: Layout
    clock: Clock
    forget: Callable[[str], None]
    """Closes this process's connections to a database that is gone."""
    auth_key: str = ""
    """What HTTP basic may bring instead of a token; empty: nothing."""


@dataclass(frozen=True, slots=True)
class _Route:
    handler: _Handler
    names: tuple[str, ...]
    is_primarys: bool = True


class AdminRoutes:
    """Everything under /v1/namespaces, and /v1/diagnostics."""

    def __init__(self, services: AdminServices) -> None:
        self._services = services
        self._store = services.store
        self._system = services.system
        self._transfers = services.transfers

    async def __call__(self, request: Request) -> Response:
        """Answer a request. Raises PandoError."""
        self.check_admin(request.headers)
        method, path = request.scope["method"], request.scope["path"]
        found = self._find("GET" if method == "HEAD" else method, path)
        if isinstance(found, Response):
            return found
        if found.is_primarys and not self._store.is_primary:
            return await pass_on(self._store, request)
        return await found.handler(request, *found.names)

    def check_admin(self, headers: Headers) -> None:
        """Raise Unauthorized or Forbidden unless it is an administrator who asks."""
        key = self._services.auth_key.encode()
        given = next((value for name, value in headers if name == b"authorization"), b"")
        scheme, _, credentials = given.partition(b" ")
        if key and scheme.lower() == b"basic" and hmac.compare_digest(credentials.strip(), key):
            return
        self._services.authenticate(headers)

    # -- which one --

    def _find(self, method: str, path: str) -> _Route | Response:
        """Give the route of a path, or the answer that there is none. Raises NotFound."""
        if path == "/v1/diagnostics":
            return self._pick(method, {"GET": (self._services.stats.diagnostics, False)}, ())
        if path.startswith("/v1/jobs"):
            raise NotFound("there are no jobs: shared schemas are not supported")
        parts = tuple(path.removeprefix(PREFIX).strip("/").split("/")) if path.startswith(PREFIX) else ("", "", "", "")
        stats = self._services.stats
        name, names = parts[0], parts[:1]
        match parts:
            case ("",):
                return self._pick(method, {"GET": (self.list_databases, False)}, ())
            case (_,):
                return self._pick(method, {"DELETE": (self.delete, True)}, names)
            case (_, "create"):
                return self._pick(method, {"POST": (self.create, True)}, names)
            case (_, "load"):
                return self._pick(method, {"POST": (self.load, True)}, names)
            case (_, "fork", other):
                return self._pick(method, {"POST": (self.fork, True)}, (name, other))
            case (_, "config"):
                return self._pick(method, {"GET": (self.config, False), "POST": (self.configure, True)}, names)
            case (_, "checkpoint"):
                return self._pick(method, {"POST": (self.checkpoint, True)}, names)
            case (_, "stats"):
                return self._pick(method, {"GET": (stats.of_node, False)}, names)
            case (_, "stats", ("top" | "slowest") as which):
                return self._pick(method, {"DELETE": (stats.reset, False)}, (name, which))
        raise NotFound(f"there is nothing at {path[:200]}")

    def _pick(
        self, method: str, methods: dict[str, tuple[_Handler, bool]], names: tuple[str, ...]
    ) -> _Route | Response:
        found = methods.get(method)
        if found is None:
            allowed = ", ".join(methods)
            headers = [(b"content-type", b"application/json"), (b"allow", allowed.encode())]
            return Response(405, headers, error_body(f"use {allowed}", "METHOD_NOT_ALLOWED"))
        return _Route(found[0], tuple(tenant_name(name) for name in names[:1]) + names[1:], found[1])

    # -- databases --

    async def list_databases(self, request: Request) -> Response:
        """Names in order, with sizes and what is configured; `after` and `limit` for more than one answer holds."""
        query = request.query()
        limit = _limit(query.get("limit", ""))
        names = sorted(name for name in await self._store.list_databases() if name != SYSTEM_DATABASE)
        prefix, after = query.get("prefix", ""), query.get("after", "")
        wanted = [name for name in names if name > after and name.startswith(prefix)]
        sizes = await in_thread(lambda: [self._size(name) for name in wanted[:limit]])
        found = zip(wanted[:limit], sizes, strict=True)
        shown = [{"name": name, "size_bytes": size, **self._marks(name)} for name, size in found]
        return json_response({"namespaces": shown, "next": wanted[limit - 1] if len(wanted) > limit else None})

    def _size(self, name: str) -> int:
        try:
            return self._services.layout.database(name).stat().st_size
        except OSError:  # deleted a moment ago
            return 0

    def _marks(self, name: str) -> dict[str, object]:
        config = self._system.config(name)
        return {
            "block_reads": config.block_reads,
            "block_writes": config.block_writes,
            "max_db_size": config.max_db_size,
        }

    async def create(self, request: Request, name: str) -> Response:
        """Make a database, empty or from a dump."""
        body = decode_body(await request.body(), CreateBody)
        config = wanted_config(body)
        await self._require_free(name)
        if body.dump_url is None:
            await self._make(name, config, lambda: self._store.create_database(name))
        else:
            await self._load(name, config, fetch_script(body.dump_url))
        return Response(200, [])

    async def load(self, request: Request, name: str) -> Response:
        """Make a database of the dump that is the body."""
        await self._require_free(name)
        await self._load(name, NO_CONFIG, request.chunks())
        return Response(200, [])

    async def _load(self, name: str, config: DatabaseConfig, chunks: AsyncIterator[bytes]) -> None:
        path = await load_file(self._transfers, chunks, config.max_db_size)
        await self._take(name, config, path)

    async def _take(self, name: str, config: DatabaseConfig, path: Path) -> None:
        """Make a database of a file, which is gone then."""
        try:
            await self._make(name, config, lambda: self._store.import_database(name, str(path), replace=False))
        finally:
            self._transfers.forget(path)

    async def _make(self, name: str, config: DatabaseConfig, make: Callable[[], Awaitable[None]]) -> None:
        """Configure first, so that there is no moment at which a limit does not hold yet."""
        await self._keep(name, config)
        try:
            await make()
        except DatabaseExists as error:
            raise _exists(name) from error
        except PandoError:
            await self._keep(name, NO_CONFIG)
            raise

    async def _keep(self, name: str, config: DatabaseConfig) -> None:
        """Write a database's configuration; the usual one is no row."""
        if config == self._system.snapshot.configs.get(name, NO_CONFIG):
            return
        statement = Statement(_TAKE, (name,))
        if config != NO_CONFIG:
            statement = Statement(_PUT, (name, encode_config(config), self._services.clock.wall_ms()))
        await self._system.write([statement])

    async def delete(self, request: Request, name: str) -> Response:
        """Delete a database on every node."""
        await request.drop()
        if name == DEFAULT_DATABASE:
            raise InvalidRequest(f"the default database {DEFAULT_DATABASE!r} cannot be deleted")
        await GenerationTable(self._system).forget(name)
        await self._store.delete_database(name)
        self._services.forget(name)
        self._services.stats.forget(name)
        await self._keep(name, NO_CONFIG)
        return Response(200, [])

    async def fork(self, request: Request, name: str, other: str) -> Response:
        """Copy a database as it is now; its blocks are not copied."""
        body = decode_body(await request.body(), ForkBody)
        if body.timestamp:
            raise InvalidRequest("timestamp is not supported: a fork is a copy of the present, there are no backups")
        target = tenant_name(other)
        await self._require_free(target)
        opened = await self._store.open_database(name)
        path = await self._transfers.snapshot(Path(opened.path))
        config = self._system.config(name)
        await self._take(target, _unblocked(config), path)
        return Response(200, [])

    async def checkpoint(self, request: Request, name: str) -> Response:
        """Move the WAL into the file, as far as readers allow."""
        await request.drop()
        await self._store.checkpoint_database(name)
        return Response(200, [])

    # -- configuration --

    async def config(self, _request: Request, name: str) -> Response:
        """What is configured."""
        await self._require(name)
        return json_response(config_view(self._system.config(name)))

    async def configure(self, request: Request, name: str) -> Response:
        """Configure anew."""
        body = decode_body(await request.body(), ConfigBody)
        await self._require(name)
        await self._keep(name, changed(self._system.config(name), body))
        return Response(200, [])

    async def _require(self, name: str) -> None:
        """Raise UnknownDatabase if there is no such database on this node."""
        if name not in await self._store.list_databases():
            raise UnknownDatabase(f"there is no database {name!r}; create it with `pando databases create {name}`")

    async def _require_free(self, name: str) -> None:
        if name == DEFAULT_DATABASE or name in await self._store.list_databases():
            raise _exists(name)


def _exists(name: str) -> CallerError:
    return CallerError(f"there is a database {name!r} already", code=DatabaseExists.code)  # 400, as sqld


def _unblocked(config: DatabaseConfig) -> DatabaseConfig:
    fields = {"max_db_size", "txn_timeout_s", "jwt_key", "freshness"}
    return DatabaseConfig(**{field: getattr(config, field) for field in fields})


def tenant_name(text: str) -> str:
    """Check the name of a database that an administrator means; raises InvalidDatabaseName, InvalidRequest."""
    name = parse_database_name(text)
    check_not_system(name)
    return name


def _limit(text: str) -> int:
    if not text:
        return _NAMES_USUAL
    if not text.isdecimal() or not 0 < int(text[:9]) <= NAMES_MAX:
        raise InvalidRequest(f"limit is {text[:20]!r}; it must be a number from 1 to {NAMES_MAX}")
    return int(text)
