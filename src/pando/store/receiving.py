"""Follows an upstream: the shell around `pando.replication.receiver`, one `Upstream` per replica.

Entries of one batch of messages are appended first and fsynced once per database, then acknowledged; the applier is
told at once. Databases that are not open yet are opened first, in order. Not here: what to do (the machine decides),
pages (the applier)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pando.clock import system_random
from pando.errors import CorruptionError, NotReady, PandoError, StorageError
from pando.replication import actions as act
from pando.replication.entry import Entry
from pando.replication.following_state import LocalLog
from pando.replication.messages import CaughtUp, Entries, Heartbeat, UpstreamMessage
from pando.replication.receiver import Receiver
from pando.store import applier_protocol as wire
from pando.store.catalog import Catalog
from pando.store.context import StoreContext
from pando.store.database import Database
from pando.store.evidence import EVIDENCE_BYTES_MAX, save_evidence
from pando.store.files import FileHandle
from pando.store.following import ReplicaDatabase
from pando.store.handshake import LinkKind, Peer
from pando.store.link import Link, LinkEnd, make_decoder
from pando.store.link_open import LinkHandlers, dial_tcp, new_dialer
from pando.store.sending import Downstream
from pando.store.travelling import crc_of_file, decode_travelling, describe
from pando.types import DEFAULT_DATABASE, NO_POSITION, TXID, Checksum, Epoch, Position

_DECODER = make_decoder(UpstreamMessage)
_TICK_S = 0.1
_SYNC_WAIT_S = 60
_EVIDENCE_ENTRIES = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamOptions:
    """Whom a replica follows and how. `sync_interval_s`: None is live push, 0 manual, else seconds between fetches."""

    url: str
    primary_url: str
    public_url: str = ""
    is_voter: bool = True
    omit: frozenset[str] = frozenset()
    sync_interval_s: float | None = None


class Upstream:
    """The connection of a replica to its upstream, and what comes from there."""

    def __init__(
        self,
        *,
        context: StoreContext,
        catalog: Catalog,
        options: UpstreamOptions,
        key: bytes,
        downstream: Downstream,
        on_change: Callable[[], None],
        watch: Callable[[asyncio.Task[Any]], None],
    ) -> None:
        self._context = context
        self._catalog = catalog
        self._options = options
        self._key = key
        self._downstream = downstream
        self._on_change = on_change
        self._watch = watch
        self._loop = asyncio.get_running_loop()
        self._machine: Receiver | None = None
        self._link: Link | None = None
        self._dialling: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._ticker: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._dirty: dict[str, None] = {}
        self._queued: dict[str, deque[Callable[[ReplicaDatabase], None]]] = {}
        self._is_closed = False
        self._locks: dict[str, asyncio.Lock] = {}
        self._files: dict[tuple[str, int], tuple[Path, FileHandle]] = {}
        self._syncs: list[asyncio.Future[None]] = []
        self.reason = "the applier has not started yet"
        self._heard_at = self._now()
        """When the upstream last said where all databases stand."""
        self._heard_of: dict[str, float] = {}
        """When it last sent commits of a database, or said that there are no more."""
        self._told_ready = False
        self._told_reason = ""

    # -- what others ask --

    @property
    def primary_url(self) -> str:
        """Where writes go."""
        return self._options.primary_url

    @property
    def is_connected(self) -> bool:
        """Whether the upstream has taken us in."""
        return self._machine is not None and self._machine.is_connected

    @property
    def is_ready(self) -> bool:
        """Whether this node can answer reads: the default database shows something, or is not replicated here."""
        if self._machine is None:
            return False
        if DEFAULT_DATABASE in self._options.omit:
            return True
        database = self._catalog.get(DEFAULT_DATABASE)
        return isinstance(database, ReplicaDatabase) and database.is_readable

    async def sync_now(self) -> None:
        """Fetch what is missing now; returns when the upstream's head was reached. Raises NotReady."""
        if self._machine is None:
            raise NotReady("the replica has not started yet")
        if self._machine.is_connected and self._options.sync_interval_s is None:
            return
        waiter = self._loop.create_future()
        self._syncs.append(waiter)
        self.do(self._machine.sync_now(self._now()))
        try:
            await asyncio.wait_for(asyncio.shield(waiter), _SYNC_WAIT_S)
        except TimeoutError as error:
            raise NotReady(
                f"the head was not reached within {_SYNC_WAIT_S} s; it goes on in the background: {self.reason}"
            ) from error

    # -- start and end --

    def start(self) -> None:
        """Begin to follow; called when the applier is there (again)."""
        if self._machine is None and self._ticker is None:
            self._ticker = self._loop.create_task(self._run())
            self._ticker.add_done_callback(self._watch)

    async def _run(self) -> None:
        logs: dict[str, LocalLog] = {}
        for name, position in self._downstream.heads().items():
            with suppress(PandoError):
                database = await self._catalog.open(name)
                applied, distrust = TXID(0), ""
                if isinstance(database, ReplicaDatabase):
                    applied = database.shown.txid
                    distrust = database.reason if database.state == "snapshot" else ""
                logs[name] = LocalLog(durable=position, applied=applied, distrust=distrust)
        self._machine = Receiver(
            node=self._context.state.node,
            url=self._options.public_url,
            is_voter=self._options.is_voter,
            epoch=self._context.state.epoch,
            logs=logs,
            describe=describe,
            random=system_random(),
            omit=self._options.omit,
            sync_interval_s=self._options.sync_interval_s,
        )
        self.reason = "fetching from the upstream"
        self.do(self._machine.start(self._now()))
        if self._options.sync_interval_s == 0 and not self.is_ready:
            self.do(self._machine.sync_now(self._now()))  # there is nothing to serve before the first fetch
        while True:
            await asyncio.sleep(_TICK_S)
            now = self._now()
            if now >= self._machine.next_deadline:
                self.do(self._machine.tick(now, self._context.clock.wall_ms()))
            self._note_state()

    def _note_state(self) -> None:
        machine = self._machine
        assert machine is not None
        for name, following in machine.databases.items():
            database = self._catalog.get(name)
            if isinstance(database, ReplicaDatabase):
                heard_at = max(self._heard_at, self._heard_of.get(name, 0.0))
                database.heard(following.head, following.unsent_bytes, self._now() - heard_at)
        if machine.is_caught_up:
            self._end_syncs()
        if machine.knows_all and not self._downstream.knows_all:
            self._downstream.list_completed()
        self._tell_state()

    def _tell_state(self) -> None:
        """Say when it can serve, or why it cannot, if that has changed."""
        is_ready = self.is_ready
        if is_ready and not self._told_ready:
            self.reason = ""
        if (is_ready, self.reason) != (self._told_ready, self._told_reason):
            self._told_ready, self._told_reason = is_ready, self.reason
            self._on_change()

    def _end_syncs(self) -> None:
        """Tell those who asked for what is missing that it is here."""
        syncs, self._syncs = self._syncs, []
        for waiter in syncs:
            if not waiter.done():
                waiter.set_result(None)

    async def close(self) -> None:
        """Stop following; whatever comes in after this is ignored."""
        self._is_closed = True
        for task in (self._ticker, self._dialling, *self._tasks):
            if task is not None:
                task.cancel()
        if self._timer is not None:
            self._timer.cancel()
        if self._link is not None:
            self._link.close("this node stops")

    def _now(self) -> float:
        return self._context.clock.monotonic()

    # -- events --

    def _opened(self, link: Link, _peer: Peer) -> LinkHandlers:
        self._link = link

        def on_closed(end: LinkEnd) -> None:
            if self._link is link:
                self._link = None
                self._down(str(end))

        self._loop.call_soon(self._up, link)
        return LinkHandlers(decoder=_DECODER, on_messages=self._receive, on_closed=on_closed)

    def _up(self, link: Link) -> None:
        if self._link is link and self._machine is not None:
            self.reason = "fetching from the upstream"
            self.do(self._machine.link_up(self._now()))

    def _down(self, reason: str) -> None:
        if self._machine is not None:
            self.do(self._machine.link_down(self._now(), reason))

    def _receive(self, messages: list[Any]) -> None:
        machine = self._machine
        assert machine is not None
        now = self._now()
        for message in messages:
            if isinstance(message, Heartbeat):
                self._heard_at = now
            elif isinstance(message, Entries | CaughtUp):
                self._heard_of[message.database] = now
            self.do(machine.receive(message, now))
        self._sync_dirty()

    def _sync_dirty(self) -> None:
        """One fsync per database for all that this batch brought; then say so."""
        machine = self._machine
        assert machine is not None
        while self._dirty:
            name = next(iter(self._dirty))
            del self._dirty[name]
            database = self._catalog.get(name)
            if not isinstance(database, ReplicaDatabase):
                continue
            try:
                database.log.sync()
            except StorageError as error:
                self.do(machine.append_failed(name, database.log.durable, error.message, self._now()))
            else:
                self.do(machine.appended(name, database.log.durable, self._now()))
        if self._link is not None:
            self._link.flush_now()

    def applier_says(self, notice: Any) -> None:  # noqa: ANN401 - any notice of the union
        """The applier made commits visible, or found something wrong."""
        machine = self._machine
        if machine is None:
            return
        if isinstance(notice, wire.Applied):
            self.do(machine.applied(notice.database, TXID(notice.txid)))
        elif isinstance(notice, wire.Diverged):
            self._distrust(notice.database, f"{notice.code}: {notice.reason}")
        elif isinstance(notice, wire.ForeignWrite):
            self._distrust(notice.database, f"another program wrote to the file: pages {list(notice.pages[:10])}")

    def reopened(self, database: ReplicaDatabase) -> None:
        """A new applier has opened the file again."""
        if database.state == "snapshot":
            self._distrust(database.name, database.reason)

    def _distrust(self, name: str, reason: str) -> None:
        machine = self._machine
        database = self._catalog.get(name)
        if isinstance(database, ReplicaDatabase):
            database.state, database.reason = "healing", reason
        if machine is not None:
            self.do(machine.diverged(name, reason))

    # -- actions --

    def do(self, actions: Iterable[act.ReceiverAction]) -> None:
        """Carry out actions in order."""
        if self._is_closed:
            return
        for action in actions:
            if isinstance(action, act.Send):
                if self._link is not None:
                    self._link.send(action.message)
            elif isinstance(action, act.AppendEntries):
                self._with(action.database, partial(self._append, action))
            elif isinstance(action, act.ApplyTo):
                self._with(action.database, partial(_applied_to, action.txid))
            else:
                self._other(action)

    def _other(self, action: act.ReceiverAction) -> None:
        if isinstance(action, act.BeginSnapshot):
            self._begin_snapshot(action)
        elif isinstance(action, act.WriteSnapshot):
            self._write_snapshot(action)
        elif isinstance(action, act.InstallSnapshot):
            self._start(self._install(action))
        elif isinstance(action, act.DropSnapshot):
            self._drop_file((action.database, action.stream))
        elif isinstance(action, act.Freeze):
            self._start(self._freeze(action))
        elif isinstance(action, act.DropDatabase):
            self._start(self._drop(action))
        elif isinstance(action, act.AdoptEpoch):
            self._context.state.raise_epoch(action.epoch)
            self._downstream.epoch_changed(action.epoch)
        elif isinstance(action, act.Reconnect):
            self._reconnect(action)

    def _with(self, name: str, use: Callable[[ReplicaDatabase], None]) -> None:
        """Use an open database now, or once it is open; in the order of the calls."""
        database = self._catalog.get(name)
        queued = self._queued.get(name)
        if queued is None and isinstance(database, ReplicaDatabase):
            use(database)
        elif queued is not None:
            queued.append(use)
        else:
            self._queued[name] = deque([use])
            self._start(self._open_and_use(name))

    async def _open_and_use(self, name: str) -> None:
        try:
            database = await self._catalog.open(name, may_be_new=True)
        finally:
            queued = self._queued.pop(name)
        assert isinstance(database, ReplicaDatabase)
        for use in queued:
            use(database)
        self._sync_dirty()

    def _append(self, action: act.AppendEntries, database: ReplicaDatabase) -> None:
        entries = [decode_travelling(entry.data) for entry in action.entries]
        try:
            for entry in entries:
                database.log.append(entry)
        except StorageError as error:
            assert self._machine is not None
            self.do(self._machine.append_failed(database.name, database.log.durable, error.message, self._now()))
            return
        self._dirty[database.name] = None
        self._loop.call_soon(self._forward, database, action.entries)

    def _forward(self, database: ReplicaDatabase, entries: tuple[Entry, ...]) -> None:
        """Hand durable entries on to replicas of this replica."""
        durable = database.log.durable
        if entries[-1].max_txid <= durable.txid:
            self._downstream.advanced(database.name, entries[-1].position, entries)

    # -- snapshots --

    def _begin_snapshot(self, action: act.BeginSnapshot) -> None:
        for key in [key for key in self._files if key[0] == action.database]:
            self._drop_file(key)
        path = self._context.layout.temporary / f"{action.database}-{action.stream}.incoming.ltx"
        path.unlink(missing_ok=True)
        self._files[action.database, action.stream] = (path, self._context.fs.open_append(path))

    def _write_snapshot(self, action: act.WriteSnapshot) -> None:
        key = (action.database, action.stream)
        machine = self._machine
        assert machine is not None
        try:
            self._files[key][1].write(action.data)
        except StorageError as error:
            position = self._position(action.database)
            self.do(machine.snapshot_failed(*key, position, error.message, self._now()))
            return
        self.do(machine.snapshot_written(*key, action.offset + len(action.data)))

    def _lock(self, name: str) -> asyncio.Lock:
        """Installing and dropping one database come one after the other, as they were asked for."""
        return self._locks.setdefault(name, asyncio.Lock())

    async def _install(self, action: act.InstallSnapshot) -> None:
        async with self._lock(action.database):
            await self._install_locked(action)

    async def _install_locked(self, action: act.InstallSnapshot) -> None:
        machine = self._machine
        assert machine is not None
        key = (action.database, action.stream)
        try:
            await self._install_file(action, self._files[key][0])
        except PandoError as error:
            self._drop_file(key)
            position = self._position(action.database)
            self.do(machine.snapshot_failed(*key, position, error.message, self._now()))
            return
        self._drop_file(key)
        self.do(machine.snapshot_installed(*key, self._now()))
        self._downstream.advanced(action.database, action.position)
        self._note_state()

    async def _install_file(self, action: act.InstallSnapshot, path: Path) -> None:
        context = self._context
        run = self._loop.run_in_executor
        crc = await run(context.executor, crc_of_file, path)
        if crc != action.checksum:
            raise CorruptionError("the snapshot changed on its way: its checksum is wrong")
        database = await self._catalog.open(action.database, may_be_new=True)
        assert isinstance(database, ReplicaDatabase)
        if action.evidence:
            await run(context.executor, self._save_evidence, database, action.evidence)
        database.state, database.reason = "snapshot", "installing a snapshot"
        await run(context.executor, database.log.reset, action.position)
        request = wire.InstallSnapshot(
            context.applier.next_id(),
            action.database,
            database.path,
            str(path),
            action.position.epoch,
            action.position.txid,
            action.position.checksum,
        )
        installed = await context.applier.ask(request, wire.SnapshotInstalled)
        self._catalog.bump(database)  # the file may be another one, and what was read of the old bytes must not be kept
        database.state, database.reason = "open", ""
        database.show(
            Position(epoch=Epoch(installed.epoch), txid=TXID(installed.txid), checksum=Checksum(installed.checksum))
        )

    def _save_evidence(self, database: Database, reason: str) -> None:
        """Keep the end of our log. Not being able to must not keep the database from healing."""
        with suppress(PandoError):
            position = database.position
            after = TXID(max(0, position.txid - _EVIDENCE_ENTRIES))
            entries = database.log.read(after, max_bytes=EVIDENCE_BYTES_MAX)
            if not entries:  # as after a crash within the install of a snapshot
                return
            save_evidence(
                self._context.fs,
                self._context.layout.evidence,
                database=database.name,
                wall_ms=self._context.clock.wall_ms(),
                reason=reason,
                position=position,
                bad_pages=(),
                entries=entries,
            )

    def _position(self, name: str) -> Position:
        database = self._catalog.get(name)
        return database.position if database is not None else NO_POSITION

    def _drop_file(self, key: tuple[str, int]) -> None:
        found = self._files.pop(key, None)
        if found is not None:
            found[1].close()
            found[0].unlink(missing_ok=True)

    async def _freeze(self, action: act.Freeze) -> None:
        database = self._catalog.get(action.database)
        if database is not None:
            run = self._loop.run_in_executor
            await run(self._context.executor, self._save_evidence, database, action.reason)
        assert self._machine is not None
        self.do(self._machine.evidence_saved(action.database, self._now()))

    async def _drop(self, action: act.DropDatabase) -> None:
        async with self._lock(action.database):
            with suppress(PandoError):
                await self._catalog.remove(action.database, keep_in=self._context.layout.evidence)
        self._downstream.database_dropped(action.database)

    # -- the link --

    def _reconnect(self, action: act.Reconnect) -> None:
        if action.is_done:
            self._end_syncs()
        link, self._link = self._link, None
        if link is not None:
            link.close(action.reason)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if action.after_s is not None:
            self._timer = self._loop.call_later(action.after_s, self._dial)

    def _dial(self) -> None:
        if self._dialling is None or self._dialling.done():
            self._dialling = self._loop.create_task(self._dial_once())

    async def _dial_once(self) -> None:
        dialer = new_dialer(LinkKind.REPLICA, self._context.state.node, key=self._key, url=self._options.public_url)
        try:
            await dial_tcp(self._options.url, dialer, self._opened)
        except (PandoError, OSError) as error:
            self.reason = f"the upstream {self._options.url} cannot be reached: {error}"
            self._down(str(error))

    def _start(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        task = self._loop.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        try:
            await work
        except (PandoError, OSError) as error:
            self.reason = str(error)
            if self._link is not None:
                self._link.close(str(error))


def _applied_to(txid: TXID, database: ReplicaDatabase) -> None:
    database.appended(txid)
