"""The web process: uvicorn on the node's one port, the application, and the links to the stores.

Several of these share the port (SO_REUSEPORT). Each has a unix socket too, for siblings that got a request for a stream
which lives here. Not here: who starts it (`pando.node.supervisor`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from pando.api.app import App
from pando.api.baton_forwarder import BatonForwarder
from pando.api.cluster import ClusterServices, cluster_routes
from pando.api.pipeline import PipelineHandler
from pando.api.prompt import PATHS, PromptPipelines
from pando.api.records_app import RecordsApp, Router
from pando.api.records_changes import CHANGES_WRITES, ChangesRoutes
from pando.api.records_fetch import NodeFiles
from pando.api.records_forward import PrimaryForwarder
from pando.api.records_prompt import PREFIX, PromptRecords
from pando.api.records_realtime import Realtime
from pando.api.records_table import ROUTES, WRITES
from pando.api.stream_forwarder import StreamForwarder
from pando.api.transfers import Transfers
from pando.api.websocket import WebSocketHandler
from pando.clock import SystemClock, random_bytes, system_random
from pando.errors import InternalError, PandoError
from pando.log import EventLog, bridge_logger
from pando.node.http_protocol import SWEEP_S, Gate, bind_gate
from pando.node.runtime import Runtime
from pando.node.secret import BATON_LABEL, FILE_LABEL, STREAM_LABEL, derive_key
from pando.node.store_client import NodeStoreClient, StoreClientOptions
from pando.node.tokens import Authenticator
from pando.node.websocket_protocol import PING_S, bind_limit
from pando.records.auth.passwords import PasswordWorker
from pando.records.desk import Desk
from pando.records.files.cabinet import Cabinet
from pando.records.files.proofs import FileProofs
from pando.records.files.sweeping import EVERY_S, sweep
from pando.records.realtime.forgetting import forget_old
from pando.records.realtime.pump import Commits
from pando.records.sqlite_engine import SqliteEngine
from pando.sql.batons import BatonCodec
from pando.sql.service import SqlService
from pando.sql.streams import StreamTable
from pando.store.adopt import Giver
from pando.store.positions import PositionTable
from pando.types import DEFAULT_DATABASE

KEEP_ALIVE_S: Final = 75
"""How long a connection may be idle between two requests; longer than the pools of usual clients keep theirs."""
BACKLOG: Final = 2048
BCRYPT_THREADS: Final = 1
"""Of each web process, of which there is one per core."""
GC_ALLOCATIONS: Final = 20_000
"""Objects between two garbage collections: requests make few cycles, and looking for them costs time each time."""
FORGET_S: Final = 60.0
"""Between two looks for changes of the feed that nobody needs any more."""
STOP_S: Final = 5
"""How long requests may go on after the process was told to stop."""


def main(runtime: Runtime, index: int, count: int) -> None:
    """Be web process `index` of `count`; returns when told to stop by SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _already_handled)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    runner.run(_WebProcess(runtime, index, count).run())
    sys.stderr.flush()
    os._exit(0)  # the loop is not closed: that may wait for connections that nobody will end


def _already_handled(_number: int, _frame: FrameType | None) -> None:
    """Uvicorn stops on a signal and then raises it again, for a handler of ours: there is nothing left to do."""


def listen_tcp(address: tuple[str, int]) -> socket.socket:
    """Open a listening socket on the node's port beside those of the siblings; raises OSError."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setblocking(False)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def listen_unix(path: Path) -> socket.socket:
    """Open a listening unix socket; one left behind by a dead process is replaced."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.setblocking(False)
    listening.bind(str(path))
    listening.listen(BACKLOG)
    return listening


class _WebProcess:
    def __init__(self, runtime: Runtime, index: int, count: int) -> None:
        self._runtime = runtime
        self._index = index
        self._count = count
        settings = runtime.settings
        self._log = EventLog(f"web-{index}", level=settings.log_level, form=settings.log_format)
        self._auth = Authenticator(runtime.secret, is_open=settings.sql_auth == "open")
        self._service: SqlService | None = None
        self._passwords: PasswordWorker | None = None
        self._files: Cabinet | None = None
        self._desk: Desk | None = None
        self._realtime: Realtime | None = None
        self._changes: ChangesRoutes | None = None

    @property
    def _connections_max(self) -> int:
        return max(8, self._runtime.settings.connections_max // self._count)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        if self._runtime.alive_fd >= 0:
            loop.add_reader(self._runtime.alive_fd, os._exit, 1)
        async with self._store() as store:
            gate = Gate(
                connections_max=self._connections_max,
                giver=Giver(str(self._runtime.adopt_socket)),
                log=self._log,
                keep_alive_s=KEEP_ALIVE_S,
            )
            app = App(cluster_routes(self._services(store, gate)), self._log, lambda: store.reason)
            tasks = [
                loop.create_task(self._serve_sql(app, store, gate)),
                loop.create_task(_every(SWEEP_S, lambda: gate.sweep(loop.time()))),
                loop.create_task(_every(1.0, self._sweep_streams)),
                loop.create_task(self._forget_changes()),
                loop.create_task(self._sweep_files()),
            ]
            for task in tasks:
                task.add_done_callback(self._ended)
            try:
                await self._serve(app, gate)
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)
                if self._service is not None:
                    self._service.close()
                if self._passwords is not None:
                    self._passwords.close()
                if self._files is not None:
                    await self._files.close()

    @contextlib.asynccontextmanager
    async def _store(self) -> AsyncIterator[NodeStoreClient]:
        options = StoreClientOptions(
            store_socket=str(self._runtime.store_socket),
            link_key=self._runtime.link_key,
            index=self._index,
            own_url=self._runtime.settings.own_url,
        )
        store = NodeStoreClient(options, self._log)
        store.start()
        try:
            yield store
        finally:
            await store.close()

    def _services(self, store: NodeStoreClient, gate: Gate) -> ClusterServices:
        return ClusterServices(
            store=store,
            auth=self._auth,
            transfers=Transfers(self._runtime.layout.temporary),
            own_url=self._runtime.settings.own_url,
            processes_file=self._runtime.processes_file,
            connections=lambda: len(gate.connections),
            is_open=lambda: self._service is not None,
        )

    async def _serve_sql(self, app: App, store: NodeStoreClient, gate: Gate) -> None:
        """Open the SQL routes once the store has said who the node is."""
        await store.until(lambda: bool(store.topology.node))
        settings = self._runtime.settings
        streams = StreamTable(
            node=store.topology.node,
            web=self._index,
            codec=BatonCodec(derive_key(self._runtime.secret, BATON_LABEL)),
            new_id=lambda: int.from_bytes(random_bytes(8), "big"),
        )
        self._service = SqlService(
            store=store,
            positions=PositionTable.attach(self._runtime.layout.positions),
            streams=streams,
            clock=SystemClock(),
            bookmark_wait_s=settings.bookmark_wait_s,
        )
        app.sql = PipelineHandler(
            self._service,
            self._auth.authenticate,
            forwarder=BatonForwarder(store, self._runtime.web_socket),
            body_bytes_max=settings.body_size_max,
        )
        prompt = PromptPipelines(self._service, self._auth.authenticate, body_bytes_max=settings.body_size_max)
        gate.prompts = dict.fromkeys(PATHS, prompt)
        app.records = records = self._records(self._service, store)
        gate.prompt_under, gate.prefix = PromptRecords(records), PREFIX
        app.websocket = WebSocketHandler(self._service, self._auth.authenticate, self._log)

    def _records(self, service: SqlService, store: NodeStoreClient) -> RecordsApp:
        self._passwords = PasswordWorker(threads=BCRYPT_THREADS)
        layout = self._runtime.layout
        proofs = FileProofs(derive_key(self._runtime.secret, FILE_LABEL))
        fetch = NodeFiles(store, proofs, SystemClock())
        self._files = Cabinet(layout.storage, layout.temporary, self._log, fetch=fetch, proofs=proofs)
        self._desk = desk = Desk(
            engine=SqliteEngine(service, DEFAULT_DATABASE, durability=self._runtime.settings.api_durability),
            clock=SystemClock(),
            random=system_random(),
            passwords=self._passwords,
            files=self._files,
        )
        commits = Commits(lambda: store.watch(DEFAULT_DATABASE), lambda: store.unwatch(DEFAULT_DATABASE))
        store.on_committed = lambda told: commits.wake() if told.database == DEFAULT_DATABASE else None
        self._realtime = realtime = self._streams(desk, store, commits)
        self._changes = changes = ChangesRoutes(desk, commits)
        router = Router({**ROUTES, **realtime.routes, **changes.routes}, writes=WRITES | CHANGES_WRITES)
        return RecordsApp(desk, router, PrimaryForwarder(store, service), self._log)

    def _streams(self, desk: Desk, store: NodeStoreClient, commits: Commits) -> Realtime:
        """Make the event streams; the store tells of commits while somebody listens."""
        key = derive_key(self._runtime.secret, STREAM_LABEL)
        forwarder = StreamForwarder(store, self._runtime.web_socket, index=self._index, key=key)
        return Realtime(desk, commits, forwarder, clock=SystemClock(), random_bytes=random_bytes, on_ended=self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A background task that fails ends the process: the supervisor starts another one."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.emit("process.failed", error=repr(error))
            os._exit(1)

    async def _sweep_files(self) -> None:
        """Remove copies of files that are not needed any more: from one process of the node."""
        while self._index == 0:
            await asyncio.sleep(EVERY_S)
            if self._desk is not None:
                with contextlib.suppress(PandoError):  # the node is not ready, the disk refuses: it has time
                    await sweep(self._desk, SystemClock())

    async def _forget_changes(self) -> None:
        """Keep the change feed within bounds: from one process of the primary."""
        while True:
            await asyncio.sleep(FORGET_S)
            if self._index == 0 and self._desk is not None and self._desk.engine.is_primary:
                try:
                    await forget_old(self._desk.engine, self._desk.clock.wall_ms())
                except InternalError:
                    raise
                except PandoError:  # the store is busy or away: there will be another time
                    continue

    def _sweep_streams(self) -> None:
        if self._service is not None:
            self._service.sweep()

    async def _serve(self, app: App, gate: Gate) -> None:
        config = uvicorn.Config(
            app,
            http=bind_gate(gate),
            ws=bind_limit(self._connections_max // 2),
            ws_max_size=self._runtime.settings.body_size_max,
            ws_per_message_deflate=False,  # a short message could grow without end, and SQL answers are fast to send
            ws_ping_interval=PING_S,
            ws_ping_timeout=None,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            backlog=BACKLOG,
        )
        bridge_logger("uvicorn.error", self._log)
        sockets = [
            listen_tcp(self._runtime.settings.http),
            listen_unix(self._runtime.web_socket(self._index)),
        ]
        await _Server(config, self._stopping).serve(sockets=sockets)

    def _stopping(self) -> None:
        """End what never ends by itself; requests have a while longer."""
        if self._realtime is not None:
            self._realtime.stop()
        if self._changes is not None:
            self._changes.stop()


class _Server(uvicorn.Server):
    """Says when it begins to stop: it would wait for event streams like for any answer."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking connections, and wait for answers."""
        self._stopping()
        await super().shutdown(sockets)


async def _every(seconds: float, work: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        work()
