"""The processes of a node, in the order in which they are started.

Not here: what each is given (`pando.node.processes`, `pando.api.web`), starting and watching them (`supervisor`).
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from pando.node.processes import applier_main, store_main
from pando.node.runtime import Runtime

WEB_MODULE: Final = "pando.api.web"
"""Named, not imported: the web process is built above this package."""
PRELOADED: Final = (
    "asyncio",
    "uvloop",
    "msgspec",
    "uvicorn",
    "uvicorn.protocols.http.httptools_impl",
    "uvicorn.lifespan.off",
    "uvicorn.main",
    "pando.node.websocket_protocol",
    "pando.node.store_client",
    "pando.node.http_protocol",
    "pando.node.http_client",
    "pando.node.tokens",
    "pando.store.applier_protocol",
    "pando.replication.messages",
    "pando.settings",
    "pando.store.logreader",
    "pando.store.positions",
    "pando.sql.batons",
    "pando.sql.embedded_log",
    "pando.sql.own_writes",
    "pando.sql.protobuf_messages",
    "pando.sql.pull_pages",
    "pando.sql.pull_revisions",
    "pando.sql.streams",
    "pando.sql.ws_messages",
    "pando.api.token_routes",
    "pando.records.desk",
    "pando.records.files.sweeping",
    "pando.records.realtime.forgetting",
    "pando.api.records_app",
    "pando.api.records_changes",
    "pando.api.records_fetch",
    "pando.api.records_prompt",
    "pando.api.records_realtime",
    "pando.api.records_table",
    "pando.records.guarding.expiring",
)
"""Imported before the first fork, so that the processes share the memory and a killed one is soon replaced.

None of them brings a SQLite library: store and web processes use one, the applier another, and no process may hold
both.
"""

PRELOADED_BY_STORES: Final = (
    "asyncio",
    "uvloop",
    "msgspec",
    "pando.store.applier_protocol",
    "pando.replication.messages",
)
"""The same for a node without web processes."""


@dataclass(frozen=True, slots=True)
class Child:
    """A process of the node: its name, and what it runs."""

    name: str
    run: Callable[[Runtime], None]


def node_children(runtime: Runtime, web_count: int) -> list[Child]:
    """Give the processes of a node."""
    webs = [Child(f"web-{index}", _web_runner(index, web_count)) for index in range(web_count)]
    return [*store_children(runtime, web_count), *webs]


def store_children(_runtime: Runtime, _web_count: int) -> list[Child]:
    """Give the processes of a node that answers no requests itself."""
    return [Child("store", store_main), Child("applier", applier_main)]


def _web_runner(index: int, count: int) -> Callable[[Runtime], None]:
    def run(runtime: Runtime) -> None:
        importlib.import_module(WEB_MODULE).main(runtime, index, count)

    return run
