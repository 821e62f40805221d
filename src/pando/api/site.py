"""What one process of a node answers requests with: links to the stores, SQL, records and event streams.

A web process has one (`pando.api.web`), and so has each event loop of a program that uses Pando from Python
(`pando.embedded`). It has an index that no other process of the node has. Not here: the HTTP server, and who starts the
node.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from functools import partial
from types import TracebackType
from typing import Any, Final

from pando.api.admin_site import TenantParts, Tenants
from pando.api.app import App
from pando.api.baton_forwarder import BatonForwarder
from pando.api.cluster import ClusterServices, cluster_routes
from pando.api.embedded_node import EmbeddedServices
from pando.api.embedded_routes import Embedded
from pando.api.pipeline import PipelineHandler
from pando.api.pull_updates import PullServices, PullUpdates
from pando.api.records_app import RecordsApp, Router
from pando.api.records_changes import CHANGES_WRITES, ChangesRoutes
from pando.api.records_fetch import NodeFiles
from pando.api.records_forward import PrimaryForwarder
from pando.api.records_realtime import Realtime
from pando.api.records_replica import ReadOnlyReplica, replica_routes
from pando.api.records_table import ROUTES, WRITES
from pando.api.sql_routes import sql_routes
from pando.api.stream_forwarder import StreamForwarder
from pando.api.token_routes import token_routes
from pando.api.transfers import Transfers
from pando.api.websocket import WebSocketHandler
from pando.clock import SystemClock, random_bytes, system_random
from pando.errors import InternalError, NotReady, PandoError
from pando.log import EventLog
from pando.node.runtime import Runtime
from pando.node.secret import BATON_LABEL, CLIENT_LABEL, FILE_LABEL, STREAM_LABEL, derive_key
from pando.node.store_client import NodeStoreClient, StoreClientOptions
from pando.node.tokens import Authenticator, database_keys
from pando.records.auth.passwords import PasswordWorker
from pando.records.desk import Desk
from pando.records.files.cabinet import Cabinet
from pando.records.files.proofs import FileProofs
from pando.records.files.sweeping import EVERY_S, sweep
from pando.records.guarding.counts import CountTable
from pando.records.guarding.expiring import EVERY_S as EXPIRED_S
from pando.records.guarding.expiring import delete_expired
from pando.records.guarding.guard import Guard
from pando.records.guarding.peers import PeerProofs
from pando.records.realtime.forgetting import forget_old
from pando.records.realtime.pump import Commits
from pando.records.sqlite_engine import SqliteEngine
from pando.sql.batons import BatonCodec
from pando.sql.notices import Notices
from pando.sql.own_writes import OwnWrites
from pando.sql.rules import rules_of, usual_rule
from pando.sql.service import SqlService
from pando.sql.streams import StreamTable
from pando.sql.system import Snapshot, SystemDatabase
from pando.sql.write_ring import WriteRing
from pando.store.positions import PositionTable
from pando.store.reading import ReadOptions
from pando.types import DEFAULT_DATABASE

BCRYPT_THREADS: Final = 1
"""Of each process, of which there is one per core."""
FIRST_LOOK_S: Final = 5.0
"""How long a process that starts waits for what the system database says."""
FIRST_LOOK_PAUSE_S: Final = 0.05
FORGET_S: Final = 60.0
"""Between two looks for changes of the feed that nobody needs any more."""


class OpenSite:
    """What there is once the store has said who the node is."""

    def __init__(self, site: Site) -> None:
        self._runtime = runtime = site.runtime
        self._site = site
        self.store = site.store
        settings = runtime.settings
        positions = PositionTable.attach(runtime.layout.positions)
        self._own_writes = OwnWrites(WriteRing.shared(runtime.layout.own_writes), SystemClock().monotonic())
        self.service = self._sql_service(positions)
        self.sql = PipelineHandler(
            self.service,
            site.auth.authenticate,
            forwarder=BatonForwarder(site.store, runtime.web_socket),
            body_bytes_max=settings.body_size_max,
        )
        self.websocket = WebSocketHandler(self.service, site.auth.authenticate, site.log)
        self.passwords = PasswordWorker(threads=BCRYPT_THREADS)
        self.files = self._cabinet()
        self.desk = self._desk()
        self.notices = Notices(site.store)
        self.commits = commits = self._commits()
        self.system = SystemDatabase(self.service, site.store, self.notices, site.log)
        self.embedded = self._embedded(positions)
        self.tenants = self._tenants()
        self._usual_rule = usual_rule(settings.sql_freshness)
        self.system.subscribe(self._configured)
        self.pulls = self._pulls(positions)
        self.realtime = self._streams(commits)
        self.changes = ChangesRoutes(self.desk, commits)
        replica = replica_routes(site.store, settings.replica_writes)
        routes = {**ROUTES, **replica, **self.realtime.routes, **self.changes.routes}
        self.router = Router(routes, writes=WRITES | CHANGES_WRITES)
        self.forward = PrimaryForwarder(site.store, self.service)
        self.records = self._records(settings.replica_writes)

    # -- the parts --

    def _sql_service(self, positions: PositionTable) -> SqlService:
        settings = self._runtime.settings
        return SqlService(
            store=self.store,
            positions=positions,
            streams=self._stream_table(),
            clock=SystemClock(),
            bookmark_wait_s=settings.bookmark_wait_s,
            shown_wait_s=settings.shown_wait_s,
            own_writes=self._own_writes,
            read_options=ReadOptions(statement_s=settings.statement_time_s, foreign_keys=settings.foreign_keys),
        )

    def _desk(self) -> Desk:
        settings = self._runtime.settings
        engine = SqliteEngine(
            self.service, DEFAULT_DATABASE, durability=settings.api_durability, late_s=settings.shown_wait_s
        )
        return Desk(
            engine=engine,
            clock=SystemClock(),
            random=system_random(),
            passwords=self.passwords,
            files=self.files,
            guard=self._guard(),
        )

    def _commits(self) -> Commits:
        """Make what tells of commits of records; the store tells it while somebody listens."""

        def wake(_notice: object) -> None:
            commits.wake()

        notices = self.notices
        commits = Commits(
            lambda: notices.listen(DEFAULT_DATABASE, wake), lambda: notices.unlisten(DEFAULT_DATABASE, wake)
        )
        return commits

    def _pulls(self, positions: PositionTable) -> PullUpdates:
        services = PullServices(
            store=self.store,
            service=self.service,
            authenticate=self._site.auth.authenticate,
            positions=positions,
            notices=self.notices,
            layout=self._runtime.layout,
            wait_s=self._runtime.settings.bookmark_wait_s,
        )
        return PullUpdates(services)

    def _configured(self, snapshot: Snapshot) -> None:
        """Have what is configured for databases, and revoked, hold in this process."""
        self.service.set_rules(rules_of(snapshot.configs, self._usual_rule), self._usual_rule)
        auth = self._site.auth
        auth.revoke(snapshot.revoked)
        auth.use_database_keys(database_keys({name: c.jwt_key for name, c in snapshot.configs.items() if c.jwt_key}))

    def _embedded(self, positions: PositionTable) -> Embedded:
        runtime, site = self._runtime, self._site
        services = EmbeddedServices(
            store=self.store,
            service=self.service,
            authenticate=site.auth.authenticate,
            positions=positions,
            layout=runtime.layout,
            clock=SystemClock(),
            random_bytes=random_bytes,
        )
        return Embedded(
            services,
            self.service,
            self.system,
            index=site.index,
            web_socket=runtime.web_socket,
            processes_file=runtime.processes_file,
        )

    def _tenants(self) -> Tenants:
        parts = TenantParts(
            runtime=self._runtime,
            index=self._site.index,
            auth=self._site.auth,
            store=self.store,
            service=self.service,
            system=self.system,
            notices=self.notices,
        )
        return Tenants(parts)

    def _records(self, replica_writes: str) -> RecordsApp:
        log = self._site.log
        if replica_writes == "reject":
            topology = lambda: self.store.topology  # noqa: E731 - it changes
            return ReadOnlyReplica(self.desk, self.router, self.forward, log, topology=topology)
        return RecordsApp(self.desk, self.router, self.forward, log)

    def _stream_table(self) -> StreamTable:
        return StreamTable(
            node=self.store.topology.node,
            web=self._site.index,
            codec=BatonCodec(derive_key(self._runtime.secret, BATON_LABEL)),
            new_id=lambda: int.from_bytes(random_bytes(8), "big"),
        )

    def _guard(self) -> Guard:
        peers = PeerProofs(derive_key(self._runtime.secret, CLIENT_LABEL))
        return Guard(counts=CountTable.shared(self._runtime.layout.counters), peers=peers)

    def _cabinet(self) -> Cabinet:
        layout = self._runtime.layout
        proofs = FileProofs(derive_key(self._runtime.secret, FILE_LABEL))
        fetch = NodeFiles(self.store, proofs, SystemClock())
        return Cabinet(layout.storage, layout.temporary, self._site.log, fetch=fetch, proofs=proofs)

    def _streams(self, commits: Commits) -> Realtime:
        """Make the event streams; the store tells of commits while somebody listens."""
        key = derive_key(self._runtime.secret, STREAM_LABEL)
        forwarder = StreamForwarder(self.store, self._runtime.web_socket, index=self._site.index, key=key)
        return Realtime(
            self.desk,
            commits,
            forwarder,
            clock=SystemClock(),
            random_bytes=random_bytes,
            on_ended=self._site.on_ended,
            until_shown=partial(self.service.until_shown_everywhere, DEFAULT_DATABASE),
        )

    def stop(self) -> None:
        """End what never ends by itself; requests have a while longer."""
        self.realtime.stop()
        self.changes.stop()
        self.pulls.stop()
        self.tenants.stop()

    async def close(self) -> None:
        """End everything."""
        self.stop()
        self.pulls.close()
        self.embedded.close()
        self.service.close()
        self.passwords.close()
        await self.desk.aside.close()
        self.desk.guard.close()
        await self.files.close()
        self._own_writes.close()


class Site:
    """An async context: inside it the links are open, and `app` answers."""

    def __init__(
        self,
        runtime: Runtime,
        index: int,
        log: EventLog,
        *,
        on_ended: Callable[[asyncio.Task[None]], None],
        keeps_house: Callable[[], bool],
        connections: Callable[[], int] = lambda: 0,
        on_open: Callable[[OpenSite], None] = lambda _: None,
    ) -> None:
        """`on_ended` is told of each background task that ends, with its error or because it was stopped.

        `keeps_house`: whether this is the process of the node that does what needs to be done now and then.
        """
        self.runtime = runtime
        self.index = index
        self.log = log
        self.on_ended = on_ended
        settings = runtime.settings
        self.auth = Authenticator(
            runtime.secret,
            is_open=settings.sql_auth == "open",
            basic=settings.sql_http_auth,
            keys=settings.sql_jwt_key,
            tag=settings.sql_token_tag,
        )
        self.open: OpenSite | None = None
        self.store = NodeStoreClient(
            StoreClientOptions(
                store_socket=str(runtime.store_socket),
                link_key=runtime.link_key,
                index=index,
                own_url=runtime.settings.own_url,
            ),
            log,
        )
        services = ClusterServices(
            store=self.store,
            auth=self.auth,
            transfers=Transfers(runtime.layout.temporary),
            own_url=runtime.settings.own_url,
            processes_file=runtime.processes_file,
            connections=connections,
            is_open=lambda: self.open is not None,
        )
        tokens = token_routes(self._system, self.auth, runtime.secret, SystemClock())
        self.app = App({**cluster_routes(services), **tokens}, log, lambda: self.store.reason)
        self._keeps_house = keeps_house
        self._on_open = on_open
        self._opened = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Site:
        """Begin to open links; returns at once."""
        loop = asyncio.get_running_loop()
        self.store.start()
        self._tasks = [
            loop.create_task(self._open()),
            loop.create_task(_every(1.0, self._sweep_streams)),
            loop.create_task(self._forget_changes()),
            loop.create_task(self._delete_expired()),
            loop.create_task(self._sweep_files()),
        ]
        for task in self._tasks:
            task.add_done_callback(self.on_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End everything."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self.open is not None:
            await self.open.close()
        await self.store.close()

    def stop(self) -> None:
        """End what never ends by itself; requests have a while longer."""
        if self.open is not None:
            self.open.stop()

    def _system(self) -> SystemDatabase:
        if self.open is None:
            raise NotReady(f"the node cannot serve yet: {self.store.reason}")
        return self.open.system

    async def until_open(self) -> OpenSite:
        """Wait until the store has said who the node is."""
        await self._opened.wait()
        assert self.open is not None
        return self.open

    async def until_ready(self) -> None:
        """Wait until the node can serve."""
        await self.store.until(lambda: self.store.is_ready)

    async def _open(self) -> None:
        """Open the routes once the store has said who the node is."""
        await self.store.until(lambda: bool(self.store.topology.node))
        found = OpenSite(self)
        try:
            await self._look_first(found.system)
        except BaseException:
            await found.close()
            raise
        self.open = found
        self.app.by_first = sql_routes(found)
        self.app.sql, self.app.records, self.app.websocket = found.sql, found.records, found.websocket
        keeping_up = asyncio.get_running_loop().create_task(found.system.run())
        keeping_up.add_done_callback(self.on_ended)
        self._tasks.append(keeping_up)
        self._on_open(found)
        self._opened.set()

    async def _look_first(self, system: SystemDatabase) -> None:
        """Learn what is revoked and configured before the first answer; a node that cannot for long serves without."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_LOOK_S):
                await self.until_ready()
                while not await _succeeds(system.refresh()):
                    await asyncio.sleep(FIRST_LOOK_PAUSE_S)

    # -- now and then --

    def _sweep_streams(self) -> None:
        if self.open is not None:
            self.open.service.sweep()

    async def _sweep_files(self) -> None:
        """Remove copies of files that are not needed any more: from one process of the node."""
        while True:
            await asyncio.sleep(EVERY_S)
            if self.open is not None and self._keeps_house():
                with contextlib.suppress(PandoError):  # the node is not ready, the disk refuses: it has time
                    await sweep(self.open.desk, SystemClock())

    async def _forget_changes(self) -> None:
        """Keep the change feed within bounds: from one process of the primary."""
        while True:
            await asyncio.sleep(FORGET_S)
            if self.open is not None and self.open.desk.engine.is_primary and self._keeps_house():
                try:
                    await forget_old(self.open.desk.engine, self.open.desk.clock.wall_ms())
                except InternalError:
                    raise
                except PandoError:  # the store is busy or away: there will be another time
                    continue

    async def _delete_expired(self) -> None:
        """Delete what sign-ins have left: from one process of the primary."""
        while True:
            await asyncio.sleep(EXPIRED_S)
            if self.open is not None and self.open.desk.engine.is_primary and self._keeps_house():
                desk = self.open.desk
                try:
                    known = await desk.cache.current()
                    if known is not None:
                        await delete_expired(desk.engine, known.schema, desk.clock.wall_ms())
                except InternalError:
                    raise
                except PandoError:  # there will be another time
                    continue


async def _succeeds(work: Coroutine[Any, Any, None]) -> bool:
    try:
        await work
    except InternalError:
        raise
    except PandoError:
        return False
    return True


async def _every(seconds: float, work: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        work()
