"""Sends this node's log to replicas: the shell around `pando.replication.sender`, one `SendingLink` per replica.

The live path is short: the entry that the store has just made durable goes from memory to the link in the same loop
turn. Catching up reads the log through a reader of its own, in a thread. Not here: what to send (the machine
decides), accepting the link."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from pando.errors import CorruptionError, PandoError
from pando.replication import actions as act
from pando.replication.entry import Entry
from pando.replication.lag import LagMeter
from pando.replication.messages import ReplicaMessage
from pando.replication.sender import Sender
from pando.store.catalog import Catalog
from pando.store.commitlog import CommitLog, LogEntry, LogReader
from pando.store.confirming import Confirming
from pando.store.context import StoreContext
from pando.store.database import Database
from pando.store.handshake import Peer
from pando.store.link import Link, LinkEnd, make_decoder
from pando.store.link_open import LinkHandlers
from pando.store.node_state import KnownReplica
from pando.store.protocol import ReplicaStatus
from pando.store.segments import encode_entry
from pando.store.snapshotting import Snapshot, Snapshots
from pando.store.travelling import crc_of_file, travelling
from pando.types import NO_POSITION, TXID, Epoch, Position

_DECODER = make_decoder(ReplicaMessage)


class Downstream:
    """All replicas that follow this node."""

    def __init__(
        self,
        *,
        context: StoreContext,
        catalog: Catalog,
        snapshots: Snapshots,
        confirming: Confirming,
        is_primary: bool,
        on_stale: Callable[[Epoch, str], None],
    ) -> None:
        self.context = context
        self.catalog = catalog
        self.snapshots = snapshots
        self.confirming = confirming
        self.is_primary = is_primary
        self.knows_all = is_primary
        self.on_stale = on_stale
        self._links: dict[str, SendingLink] = {}
        self._meters: dict[str, LagMeter] = {}

    def heads(self) -> dict[str, Position]:
        """Durable positions of all databases, without opening any."""
        found: dict[str, Position] = {}
        for name in self.catalog.names():
            database = self.catalog.get(name)
            if database is not None:
                found[name] = database.position
                continue
            last = CommitLog.peek_last(self.context.layout.log(name), self.context.fs)
            if last is not None:
                found[name] = last
        return {name: position for name, position in found.items() if position != NO_POSITION}

    def accept(self, link: Link, peer: Peer) -> LinkHandlers:
        """A replica has connected and proved who it is."""
        earlier = self._links.pop(peer.node, None)
        if earlier is not None:
            earlier.close("the replica has connected again")
        sending = SendingLink(self, link, peer)
        self._links[peer.node] = sending

        def on_closed(end: LinkEnd) -> None:
            sending.closed(end)
            if self._links.get(peer.node) is sending:  # else it has connected again, and that link counts now
                del self._links[peer.node]
                self.confirming.left(peer.node)

        return LinkHandlers(decoder=_DECODER, on_messages=sending.receive, on_closed=on_closed)

    def push(self, name: str, entry: LogEntry) -> None:
        """A commit became durable: send it to everybody who follows live."""
        self._measure(name, entry.max_txid, len(entry.payload))
        if self._links:
            entries = (travelling(entry, encode_entry(entry, 0, 0)),)
            for link in list(self._links.values()):
                link.log_advanced(name, entry.position, entries)

    def advanced(self, name: str, position: Position, entries: Sequence[Entry] = ()) -> None:
        """The log of a database moved on: by entries that came from an upstream, or to a new history."""
        self._measure(name, position.txid, sum(len(entry.data) for entry in entries))
        for link in list(self._links.values()):
            link.log_advanced(name, position, entries)

    def database_opened(self, database: Database) -> None:
        """A database is new, or has a new history."""
        self.advanced(database.name, database.position)

    def database_dropped(self, name: str) -> None:
        """A database is no more."""
        self._meters.pop(name, None)
        for link in list(self._links.values()):
            link.database_dropped(name)

    def list_completed(self) -> None:
        """This replica has heard the whole list of databases from its own upstream."""
        self.knows_all = True
        for link in list(self._links.values()):
            link.do(link.machine.list_completed())

    def epoch_changed(self, epoch: Epoch) -> None:
        """This node lives in a newer epoch."""
        for link in list(self._links.values()):
            link.do(link.machine.epoch_changed(epoch))

    def _measure(self, name: str, head: TXID, size_bytes: int) -> None:
        """Remember when the head of a database was where, for the lag of replicas in seconds."""
        now = self.context.clock.monotonic()
        meter = self._meters.get(name)
        if meter is None:
            self._meters[name] = LagMeter(head, now)
        elif head < meter.head:
            meter.reset(head, now)
        else:
            meter.advanced(head, size_bytes, now)

    def tick(self, now: float) -> None:
        """Let machines do what is due."""
        wall_ms = self.context.clock.wall_ms()
        for link in list(self._links.values()):
            if now >= link.machine.next_deadline:
                link.do(link.machine.tick(now, wall_ms))

    def hold(self, name: str) -> TXID | None:
        """Give the TXID behind which some connected replica still needs the log; None: nobody does."""
        needed = [hold for link in self._links.values() if (hold := link.machine.hold(name)) is not None]
        return min(needed) if needed else None

    def status(self) -> list[ReplicaStatus]:
        """Say how every known replica stands."""
        found: dict[str, ReplicaStatus] = {
            known.node: ReplicaStatus(node=known.node, url=known.url) for known in self.context.state.replicas
        }
        heads = self.heads()
        now = self.context.clock.monotonic()
        for node, link in self._links.items():
            progress = link.machine.progress()
            lag = max((heads[name].txid - seen[1] for name, seen in progress.items() if name in heads), default=0)
            lags = (
                self._meters[name].lag(seen[1], now).lag_s for name, seen in progress.items() if name in self._meters
            )
            found[node] = ReplicaStatus(
                node=node,
                url=link.url,
                connected=True,
                lag_txids=max(0, lag),
                lag_bytes=link.machine.in_flight_bytes,
                lag_s=max(lags, default=0.0),
                databases={name: [have, applied] for name, (have, applied) in progress.items()},
            )
        return list(found.values())

    def progress(self) -> list[dict[str, tuple[TXID, TXID]]]:
        """For each connected replica: per database what it has in its log and what its readers see."""
        return [link.machine.progress() for link in self._links.values()]

    def close(self) -> None:
        """End all links."""
        for link in list(self._links.values()):
            link.close("this node stops")


class SendingLink:
    """One replica: carries out what its machine asks for."""

    def __init__(self, downstream: Downstream, link: Link, peer: Peer) -> None:
        self._down = downstream
        self._link = link
        self.node = peer.node
        self.url = peer.url
        self._loop = asyncio.get_running_loop()
        self._readers: dict[str, LogReader] = {}
        self._snapshots: dict[tuple[str, int], Snapshot] = {}
        self._ended: set[tuple[str, int]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        context = downstream.context
        heads = downstream.heads()
        self._missing = [name for name in downstream.catalog.names() if name not in heads]
        """Databases that the machine does not know: never opened when the link began, perhaps opened since."""
        self.machine = Sender(
            epoch=context.state.epoch,
            heads=heads,
            now=context.clock.monotonic(),
            is_primary=downstream.is_primary,
            knows_all=downstream.knows_all and not self._missing,
        )

    # -- events --

    def receive(self, messages: list[Any]) -> None:
        """Treat what the replica says."""
        known = self.machine.subscription is not None
        now = self._down.context.clock.monotonic()
        for message in messages:
            self.do(self.machine.receive(message, now))
        subscription = self.machine.subscription
        if not known and subscription is not None:
            self.url = subscription.url
            if not self.machine.is_closed:
                self._down.context.state.meet_replica(KnownReplica(self.node, subscription.url, subscription.is_voter))
                self._down.confirming.joined(self.node, is_voter=subscription.is_voter)
                self._open_unknown()

    def log_advanced(self, name: str, position: Position, entries: Sequence[Entry]) -> None:
        """A log moved on; what follows from it leaves in this loop turn."""
        self.do(self.machine.log_advanced(name, position, entries))

    def database_dropped(self, name: str) -> None:
        """A database is no more."""
        self.do(self.machine.database_dropped(name))

    def closed(self, _end: LinkEnd) -> None:
        """The link is gone."""
        self.do(self.machine.close())
        for task in self._tasks:
            task.cancel()
        for snapshot in self._snapshots.values():
            self._down.snapshots.release(snapshot)
        self._snapshots.clear()
        for reader in self._readers.values():
            reader.close()
        self._readers.clear()

    def close(self, reason: str) -> None:
        """End the link."""
        self._link.close(reason)

    def _open_unknown(self) -> None:
        """Databases that were never opened have no position yet; opening gives them one, and completes the list."""
        if self._down.is_primary:
            self._start(self._open_all(self._missing))

    async def _open_all(self, names: Iterable[str]) -> None:
        for name in names:
            self._down.database_opened(await self._down.catalog.open(name))
        self.do(self.machine.list_completed())

    # -- actions --

    def do(self, actions: Iterable[act.SenderAction]) -> None:
        """Carry out actions in order."""
        sent = False
        for action in actions:
            if isinstance(action, act.Send):
                self._link.send(action.message)
                sent = True
            else:
                self._other(action)
        if sent:
            self._link.flush_now()

    def _other(self, action: act.SenderAction) -> None:
        if isinstance(action, act.Acknowledged):
            self._down.confirming.acknowledged(self.node, action.database, action.epoch, action.txid)
        elif isinstance(action, act.Disowned):
            self._down.confirming.disowned(self.node, action.database)
        elif isinstance(action, act.ReplicaApplied):
            self._down.confirming.applied(self.node, action.database, action.txid)
        elif isinstance(action, act.ReadLog):
            self._start(self._read_log(action))
        elif isinstance(action, act.StartSnapshot):
            self._start(self._make_snapshot(action))
        elif isinstance(action, act.ReadSnapshot):
            self._start(self._read_snapshot(action))
        elif isinstance(action, act.EndSnapshot):
            self._end_snapshot(action)
        elif isinstance(action, act.Stale):
            self._down.on_stale(action.epoch, action.reason)
        elif isinstance(action, act.Close):
            self._link.close(action.reason)

    async def _read_log(self, action: act.ReadLog) -> None:
        found = await self._loop.run_in_executor(self._down.context.executor, self._read_blocking, action)
        if isinstance(found, Position):
            self.do(self.machine.log_lacks(action.database, action.stream, found))
        else:
            entries, remaining = found
            self.do(self.machine.log_read(action.database, action.stream, entries, remaining))

    def _read_blocking(self, action: act.ReadLog) -> tuple[list[Entry], int] | Position:
        reader = self._readers.get(action.database)
        if reader is None:
            layout = self._down.context.layout
            reader = CommitLog.reader(layout.log(action.database), self._down.context.fs)
            self._readers[action.database] = reader
        try:
            if not reader.holds(action.after):
                return reader.base
            database = self._down.catalog.get(action.database)
            durable = database.position.txid if database is not None else reader.last.txid
            entries = [
                travelling(entry, encode_entry(entry, 0, 0))
                for entry in reader.read(action.after.txid, max_bytes=action.max_bytes)
                if entry.max_txid <= durable
            ]
        except CorruptionError:
            self._readers.pop(action.database).close()
            raise
        return entries, 0

    async def _make_snapshot(self, action: act.StartSnapshot) -> None:
        key = (action.database, action.stream)
        try:
            snapshot = await self._down.snapshots.make(action.database)
        except PandoError as error:
            self.do(self.machine.snapshot_failed(*key, error.message))
            return
        if key in self._ended:
            self._ended.discard(key)
            self._down.snapshots.release(snapshot)
            return
        self._snapshots[key] = snapshot
        crc = await self._loop.run_in_executor(self._down.context.executor, crc_of_file, snapshot.path)
        self.do(
            self.machine.snapshot_ready(
                *key,
                position=snapshot.position,
                size=snapshot.size_bytes,
                page_size=snapshot.page_size,
                checksum=crc,
            )
        )

    async def _read_snapshot(self, action: act.ReadSnapshot) -> None:
        key = (action.database, action.stream)
        snapshot = self._snapshots.get(key)
        if snapshot is None:
            return
        await self._link.drain()
        try:
            data = await self._loop.run_in_executor(
                self._down.context.executor, _read_part, snapshot, action.offset, action.max_bytes
            )
        except OSError as error:
            self.do(self.machine.snapshot_failed(*key, f"{error.strerror}"))
            return
        self.do(self.machine.snapshot_read(*key, action.offset, data))

    def _end_snapshot(self, action: act.EndSnapshot) -> None:
        key = (action.database, action.stream)
        snapshot = self._snapshots.pop(key, None)
        if snapshot is not None:
            self._down.snapshots.release(snapshot)
        else:
            self._ended.add(key)
            if len(self._ended) > 1000:
                self._ended.clear()  # streams are numbered anew with every link; these were never made

    def _start(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        task = self._loop.create_task(self._guard(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _guard(self, work: Any) -> None:  # noqa: ANN401 - any coroutine
        try:
            await work
        except PandoError as error:
            self._link.close(f"{error.code}: {error.message}")
        except Exception as error:  # noqa: BLE001 - a supervisor of tasks: the link ends with the reason
            self._link.close(f"{type(error).__name__}: {error}")


def _read_part(snapshot: Snapshot, offset: int, size: int) -> bytes:
    with snapshot.path.open("rb") as file:
        file.seek(offset)
        return file.read(size)
