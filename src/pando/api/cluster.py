"""The routes about nodes and databases: /health, /metrics and /cluster/....

`/health`, `/metrics` and `GET /cluster/status` are open; everything else wants an administrator's token. What only the
primary can do is passed on to it. Not here: SQL, the link (`pando.node.http_protocol` hands it to the store).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec

from pando.api.http import Handler, Request, Response, error_body, json_response
from pando.api.transfers import Transfers
from pando.errors import InvalidRequest, NotReady, PandoError, PrimaryUnavailable
from pando.node.http_client import exchange
from pando.node.store_client import NodeStoreClient
from pando.node.tokens import Authenticator
from pando.store.link_open import UPGRADE_NAME
from pando.store.protocol import NodeStatus
from pando.types import SYSTEM_DATABASE, Checksum, format_checksum, parse_database_name

PRIMARY_STATUS_S: Final = 1.0
"""How long /cluster/status of a replica waits for what the primary knows of the cluster."""
IMPORT_S: Final = 3600.0
"""How long the primary may take to take a file over."""
FORWARDED: Final = b"pando-forwarded-by"
"""Header of a request that a replica passed on; it is not passed on again."""


class _Name(msgspec.Struct, forbid_unknown_fields=True):
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterServices:
    """What the routes need."""

    store: NodeStoreClient
    auth: Authenticator
    transfers: Transfers
    own_url: str
    processes_file: Path
    connections: Callable[[], int]
    is_open: Callable[[], bool]
    """Whether this process answers SQL already."""


def cluster_routes(services: ClusterServices) -> dict[str, dict[str, Handler]]:
    """Give the handlers by path and method."""
    routes = _Routes(services)
    return {
        "/health": {"GET": routes.health},
        "/metrics": {"GET": routes.metrics},
        "/cluster/status": {"GET": routes.status},
        "/cluster/databases": {"GET": routes.list_databases, "POST": routes.create_database},
        "/cluster/import": {"POST": routes.import_database},
        "/cluster/export": {"GET": routes.export_database},
        "/cluster/verify": {"GET": routes.verify},
        "/cluster/sync": {"POST": routes.sync},
        "/cluster/link": {"GET": routes.link},
    }


class _Routes:
    def __init__(self, services: ClusterServices) -> None:
        self._store = services.store
        self._auth = services.auth
        self._services = services

    async def health(self, _request: Request) -> Response:
        """200 once the node can serve."""
        topology = self._store.topology
        facts = {"node": topology.node, "role": topology.role, "epoch": topology.epoch}
        if self._store.is_ready and self._services.is_open():
            return json_response({"status": "ok", **facts})
        reason = self._store.reason or "this web process is starting"
        words = f"the node cannot serve yet: {reason}"
        answer = {"status": "starting", "reason": reason, **facts, "error": words, "message": words}
        return json_response({**answer, "code": NotReady.code, "retryable": True}, NotReady.status)

    async def metrics(self, _request: Request) -> Response:
        """Gauges for Prometheus."""
        from pando.api.metrics import CONTENT_TYPE, render_metrics  # a megabyte that most nodes never need

        try:
            status = await self._store.status()
        except NotReady:
            status = None
        body = render_metrics(
            is_ready=self._store.is_ready,
            is_primary=self._store.is_primary,
            connections=self._services.connections(),
            status=status,
        )
        return Response(200, [(b"content-type", CONTENT_TYPE)], body)

    # -- nodes --

    async def status(self, request: Request) -> Response:
        """What the node says of itself, and which nodes it knows."""
        status = await self._store.status()
        if not self._is_admin(request):
            status.databases = [found for found in status.databases if found.name != SYSTEM_DATABASE]
            for replica in status.replicas:
                replica.databases.pop(SYSTEM_DATABASE, None)
        view: dict[str, Any] = {name: getattr(status, name) for name in status.__struct_fields__ if name != "id"}
        view["url"] = self._services.own_url
        view["ready"] = self._store.is_ready
        view["reason"] = self._store.reason
        view["processes"] = read_processes(self._services.processes_file) or status.processes
        view["nodes"] = await self._nodes(status)
        return json_response(view)

    def _is_admin(self, request: Request) -> bool:
        try:
            self._auth.authenticate_admin(request.headers)
        except PandoError:
            return False
        return True

    async def _nodes(self, own: NodeStatus) -> list[dict[str, str]]:
        nodes = {own.node: {"node": own.node, "url": self._services.own_url, "role": own.role}}
        known = own
        if not self._store.is_primary:
            try:
                async with asyncio.timeout(PRIMARY_STATUS_S):
                    known = await self._store.primary_status()
                nodes = {known.node: {"node": known.node, "url": own.primary_url, "role": "primary"}, **nodes}
            except (TimeoutError, PandoError):
                primary = {"node": "", "url": own.primary_url, "role": "primary"}
                nodes = {"": primary, **nodes}  # that it does not answer is for the caller to find out
        for replica in known.replicas:
            nodes.setdefault(replica.node, {"node": replica.node, "url": replica.url, "role": "replica"})
        return list(nodes.values())

    async def sync(self, request: Request) -> Response:
        """Fetch from the primary what is missing now."""
        self._auth.authenticate_admin(request.headers)
        await self._store.sync_now()
        return json_response({"synced": True})

    async def link(self, _request: Request) -> Response:
        """What came here is no upgrade; those never reach the application."""
        words = f"this address is for links between nodes: send `Connection: Upgrade` and `Upgrade: {UPGRADE_NAME}`"
        headers = [(b"content-type", b"application/json"), (b"upgrade", UPGRADE_NAME.encode())]
        return Response(426, headers, error_body(words, "UPGRADE_REQUIRED"))

    # -- databases --

    async def list_databases(self, request: Request) -> Response:
        """Names of all databases of the node but the system's."""
        self._auth.authenticate_admin(request.headers)
        names = set(await self._store.list_databases()) - {SYSTEM_DATABASE}
        return json_response({"databases": sorted(names)})

    async def create_database(self, request: Request) -> Response:
        """Make an empty database, on the primary."""
        self._auth.authenticate_admin(request.headers)
        try:
            wanted = msgspec.json.decode(await request.body(), type=_Name)
        except msgspec.MsgspecError as error:
            raise InvalidRequest(f'the body must be {{"name": NAME}}: {error}') from error
        name = parse_database_name(wanted.name)
        check_not_system(name)
        await self._store.create_database(name)
        return json_response({"created": name}, 201)

    async def verify(self, request: Request) -> Response:
        """Read every page of a database here and give its checksum beside the one the node believes."""
        self._auth.authenticate_admin(request.headers)
        name = _database(request)
        found = await self._store.verify_database(name)
        return json_response(
            {
                "database": name,
                "node": self._store.topology.node,
                "epoch": found.epoch,
                "txid": found.txid,
                "checksum": format_checksum(Checksum(found.checksum)),
                "believed": format_checksum(Checksum(found.believed)),
                "pages": found.pages,
            }
        )

    async def export_database(self, request: Request) -> Response:
        """A copy of the SQLite file as it is now."""
        self._auth.authenticate_admin(request.headers)
        name = _database(request)
        opened = await self._store.open_database(name)
        size, chunks = await self._services.transfers.copy(Path(opened.path))
        headers = [
            (b"content-type", b"application/vnd.sqlite3"),
            (b"content-length", str(size).encode()),
            (b"content-disposition", f'attachment; filename="{name}.db"'.encode()),
        ]
        return Response(200, headers, stream=chunks)

    async def import_database(self, request: Request) -> Response:
        """Take a SQLite file as the content of a database; a replica passes the body on to the primary."""
        self._auth.authenticate_admin(request.headers)
        name = _database(request)
        check_not_system(name)
        is_replacing = request.query().get("replace", "false").lower() in {"true", "1", "yes"}
        if not self._store.is_primary:
            return await pass_on(self._store, request)
        path = await self._services.transfers.receive(request.chunks())
        try:
            await self._store.import_database(name, str(path), replace=is_replacing)
        finally:
            self._services.transfers.forget(path)
        return json_response({"imported": name}, 201)


async def pass_on(store: NodeStoreClient, request: Request) -> Response:
    """Have the primary answer a request, once. Raises PrimaryUnavailable, OutcomeUnknown."""
    url = store.topology.primary_url
    if not url or request.header(FORWARDED):
        raise PrimaryUnavailable(f"the primary is not known now: {store.primary_reason}; nothing was done")
    query: bytes = request.scope["query_string"]
    target = quote(request.scope["path"]) + (f"?{query.decode('ascii', 'replace')}" if query else "")
    headers = [pair for pair in request.headers if pair[0] != b"host"]
    headers.append((FORWARDED, store.topology.node.encode()))
    status, answer_headers, body = await exchange(
        url, request.scope["method"], target, headers, request.chunks(), timeout_s=IMPORT_S
    )
    return Response(status, [pair for pair in answer_headers if pair[0] == b"content-type"], body)


def check_not_system(name: str) -> None:
    """Raise InvalidRequest for the database that nobody makes or replaces."""
    if name == SYSTEM_DATABASE:
        raise InvalidRequest(f"the database {SYSTEM_DATABASE!r} is Pando's own and cannot be changed")


def _database(request: Request) -> str:
    query = request.query()
    return parse_database_name(query.get("name") or query.get("database") or "")


def read_processes(path: Path) -> dict[str, int]:
    """Give the process ids that the supervisor wrote, by role; empty when it has not."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, int])
    except (OSError, msgspec.MsgspecError):
        return {}
