"""Puts the routes about databases as tenants together, for one process.

Not here: what they do (`pando.api.admin`, `dump`, `listen`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pando.api.admin import AdminRoutes, AdminServices
from pando.api.admin_stats import AdminStats
from pando.api.dump import DumpRoute, DumpServices
from pando.api.http import Handler
from pando.api.listen import ListenRoute, ListenServices
from pando.api.transfers import Transfers
from pando.clock import SystemClock
from pando.node.runtime import Runtime
from pando.node.store_client import NodeStoreClient
from pando.node.tokens import Authenticator
from pando.sql.notices import Notices
from pando.sql.service import SqlService
from pando.sql.system import SystemDatabase


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantParts:
    """What the routes are made of; `index` is the process's among the node's."""

    runtime: Runtime
    index: int
    auth: Authenticator
    store: NodeStoreClient
    service: SqlService
    system: SystemDatabase
    notices: Notices


class Tenants:
    """The routes of one process."""

    def __init__(self, parts: TenantParts) -> None:
        layout, store, service = parts.runtime.layout, parts.store, parts.service
        transfers = Transfers(layout.temporary)
        authenticate = parts.auth.authenticate

        clock = SystemClock()
        stats = AdminStats(store, service, siblings=lambda: siblings(parts.runtime.sockets, parts.index), clock=clock)
        self._admin = AdminRoutes(
            AdminServices(
                store=store,
                authenticate=parts.auth.authenticate_admin,
                system=parts.system,
                transfers=transfers,
                stats=stats,
                layout=layout,
                clock=clock,
                forget=service.forget_database,
                auth_key=parts.runtime.settings.admin_auth_key,
            )
        )
        self._dump = DumpRoute(
            DumpServices(store=store, service=service, authenticate=authenticate, transfers=transfers)
        )
        self._listen = ListenRoute(
            ListenServices(store=store, service=service, notices=parts.notices, authenticate=authenticate)
        )

    def routes(self) -> Mapping[str, Handler]:
        """Give the handlers by the first name of a path, two for admin routes."""
        admin = {f"v1/{name}": self._admin for name in ("namespaces", "diagnostics", "jobs")}
        return {**admin, "dump": self._dump, "beta": self._listen}

    def stop(self) -> None:
        """End what never ends by itself."""
        self._listen.stop()


def siblings(sockets: Path, index: int) -> Iterable[Path]:
    """Give the sockets of the node's other web processes."""
    return [path for path in sorted(sockets.glob("web-*.sock")) if path.name != f"web-{index}.sock"]
