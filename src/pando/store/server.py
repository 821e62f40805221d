"""The store process: opens what is needed, accepts links, and routes their messages.

Start: take the store's lock, empty the temporary folder, make the table of positions, listen; databases are opened
when somebody asks. Roles: a primary writes; a replica follows its upstream. Not here: what databases do, HTTP,
restarting (the supervisor's)."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pando import limits
from pando.clock import Clock, SystemClock, sleep_blocking, system_random
from pando.errors import NotPrimary, NotReady, PandoError, PrimaryUnavailable
from pando.store import applier_protocol, protocol
from pando.store.adopt import Taker
from pando.store.applier_client import ApplierClient, Notice
from pando.store.catalog import Catalog
from pando.store.commands import Outcome
from pando.store.commitlog import LogEntry
from pando.store.confirming import Confirming
from pando.store.context import StoreContext
from pando.store.database import Database
from pando.store.files import FileLock, RealFileSystem
from pando.store.following import ReplicaDatabase
from pando.store.handlers import ClientLink, shrink
from pando.store.handshake import LinkKind, Peer
from pando.store.history import Slot
from pando.store.importing import import_file
from pando.store.layout import Layout
from pando.store.link import Link, LinkEnd, make_decoder
from pando.store.link_open import LinkHandlers, accept_link, adopt_socket, new_acceptor
from pando.store.node_state import NodeState
from pando.store.positions import PositionTable
from pando.store.primary import Hearers, PrimaryDatabase, PrimaryOptions
from pando.store.quotas import NO_QUOTA, Quota, read_quotas
from pando.store.receiving import Upstream, UpstreamOptions
from pando.store.retaining import Retaining
from pando.store.sending import Downstream
from pando.store.snapshotting import Snapshots
from pando.store.stopping import LEAVE_S, finish_writes, until_shown
from pando.store.verifying import verify_database
from pando.store.watching import Watching
from pando.types import DEFAULT_DATABASE, SYSTEM_DATABASE, Durability, Epoch, Position, Role
from pando.waiting import until

_TICK_S = 0.1
_TRIM_S = 5.0
_LOCK_TRIES = 100
_LOCK_PAUSE_S = 0.05
_READ_THREADS = 4
_CLIENT_DECODER = make_decoder(protocol.StoreRequest)
_APPLIER_DECODER = make_decoder(applier_protocol.ApplierAnswer)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How a store process is run. `link_key` proves nodes to each other; `alive_fd` ends the process when it closes."""

    directory: Path
    sockets: Path
    link_key: bytes
    role: Role
    node: str = ""
    public_url: str = ""
    upstream: UpstreamOptions | None = None
    primary: PrimaryOptions
    durability: Durability = Durability.ASYNC
    voters: int = 0
    quorum_wait_s: float = limits.QUORUM_WAIT_S
    shown_wait_s: float = limits.SHOWN_WAIT_S
    alive_fd: int = -1
    positions_slots: int = limits.OPEN_DATABASES_MAX * 2


class StoreServer:
    """One store process; implements `handlers.Services`."""

    def __init__(self, options: StoreOptions, clock: Clock) -> None:
        self.options = options
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._layout = Layout(options.directory)
        self._fs = RealFileSystem()
        self.context = StoreContext(
            layout=self._layout,
            fs=self._fs,
            clock=clock,
            executor=ThreadPoolExecutor(max_workers=16, thread_name_prefix="store"),
            read_executor=ThreadPoolExecutor(_READ_THREADS, thread_name_prefix="store-read"),
            state=NodeState.load(self._fs, self._layout.node_state, chance=system_random(), node=options.node),
            applier=ApplierClient(on_notice=self._applier_says, on_connected=self._applier_came),
        )
        self.watching = Watching(self._loop.call_later)
        self.positions = PositionTable.create(self._layout.positions, options.positions_slots)
        self.catalog = Catalog(
            layout=self._layout, fs=self._fs, positions=self.positions, open_database=self._open_database
        )
        state = self.context.state
        self.confirming = Confirming(
            me=state.node,
            known=state.replicas,
            clock=clock,
            default=options.durability,
            voters=options.voters,
            wait_s=options.quorum_wait_s,
            shown_wait_s=options.shown_wait_s,
        )
        self.snapshots = Snapshots(self.context, self.catalog)
        self.downstream = Downstream(
            context=self.context,
            catalog=self.catalog,
            snapshots=self.snapshots,
            confirming=self.confirming,
            is_primary=options.role is Role.PRIMARY,
            on_stale=self._stale,
        )
        self.upstream = (
            Upstream(
                context=self.context,
                catalog=self.catalog,
                options=options.upstream,
                key=options.link_key,
                downstream=self.downstream,
                on_change=self.push_topology,
                watch=self.watch,
            )
            if options.upstream is not None
            else None
        )
        self.retaining = Retaining(
            context=self.context,
            catalog=self.catalog,
            downstream=self.downstream,
            log_bytes_max=options.primary.log_bytes_max,
        )
        self._quotas: Mapping[str, Quota] | None = None
        self._renewing = asyncio.Lock()
        self._clients: dict[int, ClientLink] = {}
        self._number = 0
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.stale = ""
        self._is_ending = False
        self._failure: BaseException | None = None
        self._reason = "starting"
        self._trim_at = clock.monotonic() + _TRIM_S
        self._trimming = False

    # -- services for links (see `handlers.Services`) --

    def now(self) -> float:
        """Monotonic seconds."""
        return self._clock.monotonic()

    def topology(self) -> protocol.Topology:
        """Who is who, now."""
        upstream = self.upstream
        return protocol.Topology(
            node=self.context.state.node,
            role=self.options.role.value,
            epoch=self.context.state.epoch,
            primary_url=upstream.primary_url if upstream is not None else self.options.public_url,
            ready=self._is_ready(),
            reason=self._reason or ("" if upstream is None else upstream.reason),
            stopping=self._is_ending,
        )

    def _is_ready(self) -> bool:
        """Whether the node can serve: reads at least, and on a primary the default database is open."""
        if self._is_ending:
            return False
        if self.upstream is not None:
            return self.upstream.is_ready
        return self.catalog.get(DEFAULT_DATABASE) is not None

    def push_topology(self) -> None:
        """Tell every client that something changed."""
        topology = self.topology()
        for client in self._clients.values():
            client.push(topology)

    def node_status(self, request_id: int) -> protocol.NodeStatus:
        """What the node says of itself."""
        topology = self.topology()
        return protocol.NodeStatus(
            id=request_id,
            node=topology.node,
            role=topology.role,
            epoch=topology.epoch,
            primary_url=topology.primary_url,
            upstream_connected=self.upstream is not None and self.upstream.is_connected,
            databases=[database.status() for database in self.catalog.opened()],
            replicas=self.downstream.status(),
            processes={"store": os.getpid()},
        )

    async def create_database(self, name: str) -> Database:
        """Make an empty database."""
        self._require_primary()
        database = await self.catalog.create(name)
        self.downstream.database_opened(database)
        return database

    async def import_database(self, name: str, path: str, *, replace: bool) -> Database:
        """Take a SQLite file as the content of a database."""
        self._require_primary()
        database = await import_file(self.context, self.catalog, name, path, replace=replace)
        self.downstream.database_opened(database)
        return database

    async def delete_database(self, name: str) -> None:
        """Remove a database."""
        self._require_primary()
        await self.catalog.remove(name)
        self.downstream.database_dropped(name)
        self.confirming.dropped(name, NotReady(f"the database {name!r} was deleted"))

    async def verify_database(self, name: str) -> protocol.Verified:
        """Read all pages and compare with the rolling checksum."""
        return await verify_database(self.context, self.catalog, name)

    async def checkpoint_database(self, name: str) -> None:
        """Move a database's WAL into its file."""
        self._require_primary()
        database = await self.catalog.open(name)
        if isinstance(database, PrimaryDatabase):
            await database.checkpoint()

    async def sync_now(self) -> None:
        """Fetch what is missing from the upstream."""
        if self.upstream is not None:
            await self.upstream.sync_now()

    def _require_primary(self) -> None:
        if self.options.role is not Role.PRIMARY:
            raise NotPrimary("this node is a replica; ask the primary")

    # -- databases --

    async def _open_database(self, name: str, slot: Slot, generation: int) -> Database:
        if self.options.role is Role.PRIMARY:
            quotas = {} if name == SYSTEM_DATABASE else await self._know_quotas()
            hearers = Hearers(confirm=partial(self._confirm, name), on_durable=self._durable, on_new_base=self._visible)
            quota = quotas.get(name, NO_QUOTA)
            database = await PrimaryDatabase.open(name, self.context, self.options.primary, slot, hearers, quota)
            if self._quotas is not None and name != SYSTEM_DATABASE:  # they may have changed meanwhile
                await database.limit(self._quotas.get(name, NO_QUOTA))
            self._visible(name, database.position)
            return database
        return await ReplicaDatabase.open(name, self.context, slot, generation, self._visible)

    async def _know_quotas(self) -> Mapping[str, Quota]:
        """Give what is configured for writers, read when the first database is opened; a fault there stops nobody."""
        if self._quotas is None:
            path = self._layout.database(SYSTEM_DATABASE)
            if path.exists():
                with suppress(PandoError):  # what it held last is in its file all the same
                    await self.catalog.open(SYSTEM_DATABASE)
            self._quotas = await self._read_quotas()
        return self._quotas or {}

    async def _read_quotas(self) -> Mapping[str, Quota] | None:
        path = self._layout.database(SYSTEM_DATABASE)
        return await self._loop.run_in_executor(self.context.executor, read_quotas, path)

    async def _renew_quotas(self) -> None:
        """The system database has changed: have open databases keep to what it says now."""
        async with self._renewing:
            found = await self._read_quotas()
            if found is None or found == self._quotas:
                return
            self._quotas = found
            for database in self.catalog.opened():
                if isinstance(database, PrimaryDatabase) and database.name != SYSTEM_DATABASE:
                    self._background(database.limit(found.get(database.name, NO_QUOTA)))  # one may be busy for long

    def _confirm(self, name: str, outcome: Outcome, ran: protocol.Ran) -> None:
        self.confirming.confirm(name, outcome.command, ran, has_written=outcome.has_written)

    def _durable(self, name: str, entry: LogEntry) -> None:
        self.downstream.push(name, entry)
        self.confirming.durable(name, entry.max_txid)
        self.watching.committed(name, entry.epoch, entry.max_txid, entry.tables)
        if name == SYSTEM_DATABASE:
            self._background(self._renew_quotas())

    def _visible(self, name: str, position: Position) -> None:
        """Readers see this now; what changed on the way is not known."""
        self.watching.committed(name, position.epoch, position.txid, ())

    def _stale(self, epoch: Epoch, reason: str) -> None:
        """Somebody knows a newer epoch: this primary must not go on writing in its own."""
        self.stale = f"a newer epoch {epoch} is known: {reason}"
        for database in self.catalog.opened():
            if isinstance(database, PrimaryDatabase):
                database.writer.stop(NotPrimary(self.stale))

    def _applier_says(self, notice: Notice) -> None:
        database = self.catalog.get(notice.database)
        if not isinstance(database, ReplicaDatabase):
            return
        if isinstance(notice, applier_protocol.Applied):
            database.applied(notice)
        if self.upstream is not None:
            self.upstream.applier_says(notice)

    def _applier_came(self) -> None:
        if self.upstream is not None:
            self._reason = ""  # from here on the upstream says why not
        self.push_topology()
        for database in self.catalog.opened():
            if isinstance(database, ReplicaDatabase):
                self._background(self._reopen(database))
        if self.upstream is not None:
            self.upstream.start()
        elif self.catalog.get(DEFAULT_DATABASE) is None:
            self._background(self._open_default())

    async def _open_default(self) -> None:
        """Recover the default database before anybody asks, so that readiness means something."""
        try:
            await self.catalog.open(DEFAULT_DATABASE)
            self._reason = ""
        except PandoError as error:
            self._reason = f"the default database cannot be opened: {error.message}"
        self.push_topology()

    async def _reopen(self, database: ReplicaDatabase) -> None:
        with suppress(NotReady):  # the applier went away again; it will be told again
            await database.open_file()
            if self.upstream is not None:
                self.upstream.reopened(database)

    def _background(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- links --

    def _on_open(self, link: Link, peer: Peer) -> LinkHandlers:
        if peer.kind is LinkKind.APPLIER:
            return self._open_applier(link)
        if peer.kind is LinkKind.REPLICA:
            return self.downstream.accept(link, peer)
        if self._is_ending:
            raise NotReady("this store stops")
        if len(self._clients) >= limits.LINKS_MAX:
            raise NotReady(f"this store has {limits.LINKS_MAX} links, which is the limit")
        self._number += 1
        number = self._number
        client = ClientLink(number, link, self, peer.kind)
        self._clients[number] = client

        def on_closed(end: LinkEnd) -> None:
            self._clients.pop(number, None)
            client.on_closed(end)

        return LinkHandlers(
            decoder=_CLIENT_DECODER, on_messages=client.on_messages, on_closed=on_closed, replace_oversized=shrink
        )

    def _open_applier(self, link: Link) -> LinkHandlers:
        applier = self.context.applier

        def on_closed(end: LinkEnd) -> None:
            applier.detach(link, end)
            self.push_topology()

        self._loop.call_soon(applier.attach, link)
        return LinkHandlers(decoder=_APPLIER_DECODER, on_messages=applier.receive, on_closed=on_closed)

    def _adopt(self, sock: Any, data: bytes) -> None:  # noqa: ANN401 - a socket
        acceptor = new_acceptor(self.context.state.node, key=self.options.link_key)
        self._background(self._adopt_one(sock, data, acceptor))

    async def _adopt_one(self, sock: Any, data: bytes, acceptor: Any) -> None:  # noqa: ANN401
        with suppress(OSError, PandoError):  # the other node hung up already
            await adopt_socket(sock, data, acceptor, self._on_open)

    # -- life --

    async def run(self) -> None:
        """Serve until told to stop."""
        sockets = self.options.sockets
        path = sockets / "store.sock"
        with suppress(FileNotFoundError):
            path.unlink()
        node = self.context.state.node
        server = await self._loop.create_unix_server(
            lambda: accept_link(new_acceptor(node), self._on_open), path=str(path)
        )
        taker = Taker(str(sockets / "adopt.sock"), self._adopt)
        taker.start()
        ticker = self._loop.create_task(self._tick())
        ticker.add_done_callback(self.watch)
        try:
            await self._stopping.wait()
        finally:
            ticker.cancel()
            taker.close()
            server.close()
            await self._close()
        if self._failure is not None:
            raise self._failure

    async def _close(self) -> None:
        await self._end_work()
        if self.upstream is not None:
            await self.upstream.close()
        self.downstream.close()
        with suppress(PandoError):
            await self.catalog.close_all()
        await until(lambda: not self._clients, LEAVE_S)
        for client in self._clients.values():
            client.close()
        self.context.applier.close()
        self.context.executor.shutdown(wait=False)
        if self.context.read_executor is not None:
            self.context.read_executor.shutdown(wait=False)

    async def _end_work(self) -> None:
        """Begin nothing more, and let what was begun come to its end; see `pando.store.stopping`."""
        is_primary = self.options.role is Role.PRIMARY
        words = f"the store of node {self.context.state.node} stops; nothing was done, try again"
        error = PrimaryUnavailable(words) if is_primary else NotReady(words)
        self._is_ending, self._reason = True, "the store stops"
        for client in self._clients.values():
            client.refuse_work(error)
        self.push_topology()
        if is_primary:
            await finish_writes(self.catalog.opened(), error)
            await until_shown(self.catalog, self.downstream.progress)

    def watch(self, task: asyncio.Task[Any]) -> None:
        """A task that must not end has ended: if by an error, the process ends too, and is started anew."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            self.stop()

    def stop(self) -> None:
        """Ask the process to end."""
        self._stopping.set()

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._clock.monotonic()
            for database in self.catalog.opened():
                database.tick(now)
            self.confirming.tick(now)
            self.downstream.tick(now)
            if now >= self._trim_at and not self._trimming:
                self._trim_at = now + _TRIM_S
                self._background(self._trim())

    async def _trim(self) -> None:
        self._trimming = True
        try:
            await self.retaining.look()
        finally:
            self._trimming = False


def run_store(options: StoreOptions) -> None:
    """Be the store process of a node; returns when it was told to stop."""
    import uvloop

    layout = Layout(options.directory)
    layout.make_folders()
    lock = FileLock(layout.own / "store.lock")
    _acquire(lock)
    try:
        shutil.rmtree(layout.temporary, ignore_errors=True)
        layout.temporary.mkdir()
        uvloop.run(_serve(options))
    finally:
        lock.release()


def _acquire(lock: FileLock) -> None:
    """Wait a little for an earlier store of this directory to end; raises NotReady."""
    for _ in range(_LOCK_TRIES):
        if lock.try_acquire():
            return
        sleep_blocking(_LOCK_PAUSE_S)
    raise NotReady(f"process {lock.holder()} is the store of this directory already; stop it first")


async def _serve(options: StoreOptions) -> None:
    server = StoreServer(options, SystemClock())
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stop)
    if options.alive_fd >= 0:
        loop.add_reader(options.alive_fd, _exit_orphan)
    await server.run()


def _exit_orphan() -> None:
    """The supervisor is gone: end at once, as after a crash; the next start recovers."""
    os._exit(1)
