"""One database on a replica: its log, what the applier has shown to readers, and who waits for more.

The receiver appends to the log and calls `appended`; the applier's notices come in by `applied`. Not here: the
connection to the upstream (`pando.store.receiving`), pages (`pando.store.applier`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from pando import limits
from pando.clock import Clock
from pando.errors import NotPrimary, NotReady, PandoError
from pando.replication.lag import LagMeter
from pando.store import applier_protocol as wire
from pando.store.applier_client import ApplierClient
from pando.store.commands import Command, SessionKey
from pando.store.commitlog import CommitLog
from pando.store.context import StoreContext
from pando.store.history import Slot
from pando.store.protocol import DatabaseStatus
from pando.store.waiters import PositionWaiters
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Position, format_checksum

HEARTBEAT_LATE_S: Final = 2 * limits.HEARTBEAT_S
"""After so much silence of its upstream a replica must think that it is behind, by as long as the silence."""


def _ignore(name: str, position: Position) -> None:
    """For who does not care."""


class ReplicaDatabase:
    """An open database of a replica."""

    def __init__(
        self,
        name: str,
        context: StoreContext,
        log: CommitLog,
        slot: Slot,
        generation: int,
        on_shown: Callable[[str, Position], None] = _ignore,
    ) -> None:
        """`on_shown` hears what readers see from now on."""
        self.name = name
        self.path = str(context.layout.database(name))
        self.slot = slot
        self.log = log
        self.waiters = PositionWaiters()
        self.state = "opening"
        self.reason = ""
        self.shown = NO_POSITION
        self.head_txid = TXID(0)
        self.lag_bytes = 0
        self.lag_s = 0.0
        self._meter = LagMeter(TXID(0), context.clock.monotonic())
        self._generation = generation
        self._on_shown = on_shown
        self._applier: ApplierClient = context.applier
        self._clock: Clock = context.clock
        self._layout = context.layout
        self.last_used = context.clock.monotonic()

    @classmethod
    async def open(
        cls,
        name: str,
        context: StoreContext,
        slot: Slot,
        generation: int,
        on_shown: Callable[[str, Position], None] = _ignore,
    ) -> ReplicaDatabase:
        """Open the log and let the applier open the file. Raises PandoError."""
        run = asyncio.get_running_loop().run_in_executor
        log = await run(context.executor, CommitLog.open, context.layout.log(name), context.fs)
        database = cls(name, context, log, slot, generation, on_shown)
        try:
            await database.open_file()
        except BaseException:
            log.close()
            raise
        return database

    async def open_file(self) -> None:
        """Have the applier open the file and find its place in the log; also after a new applier has started."""
        self.state = "opening"
        request = wire.OpenReplica(
            self._applier.next_id(),
            self.name,
            self.path,
            str(self._layout.log(self.name)),
            self.slot.number,
            self._generation,
        )
        opened = await self._applier.ask(request, wire.ReplicaOpened)
        if opened.is_known:
            self.state, self.reason = "open", ""
            self.show(wire.position_of(opened))
            self._applier.notify(wire.ApplyTo(self.name, self.log.durable.txid))
        else:
            self.state = "snapshot"
            self.reason = "the file is at no position of the log; a snapshot is needed"

    @property
    def position(self) -> Position:
        """What is durable in the log."""
        return self.log.durable

    @property
    def is_idle(self) -> bool:
        """Replicas keep their databases open: entries may come at any time."""
        return False

    @property
    def must_reopen(self) -> bool:
        """The applier heals the file, the receiver the log."""
        return False

    @property
    def is_readable(self) -> bool:
        """Whether the file shows something of the primary's."""
        return self.shown != NO_POSITION and Path(self.path).exists()

    def appended(self, txid: TXID) -> None:
        """The log is durable up to here: have it applied."""
        self._applier.notify(wire.ApplyTo(self.name, txid))

    def show(self, position: Position) -> None:
        """Readers see this position now."""
        self.shown = position
        if position.txid > self.head_txid:
            self.head_txid = position.txid
        self.waiters.advance(position.epoch, position.txid)
        self._on_shown(self.name, position)

    def heard(self, head: TXID, unsent_bytes: int, silent_s: float) -> None:
        """Note the newest commit that the upstream is known to have, and how long ago that was heard."""
        now = self._clock.monotonic()
        head = max(head, self.log.durable.txid, self.shown.txid)
        if head < self._meter.head:
            self._meter.reset(head, now)
        self._meter.advanced(head, 0, now)
        self.head_txid, self.lag_bytes = head, unsent_bytes
        silent_s = max(0.0, silent_s)
        self.lag_s = max(self._meter.lag(self.shown.txid, now).lag_s, silent_s if silent_s > HEARTBEAT_LATE_S else 0.0)
        self.slot.table.publish_head(self.slot.number, head, self._clock.wall_ms() - int(silent_s * 1000))

    def applied(self, notice: wire.Applied) -> None:
        """The applier has made commits visible."""
        self.state, self.reason = "open", ""
        self.show(Position(epoch=Epoch(notice.epoch), txid=TXID(notice.txid), checksum=Checksum(notice.checksum)))

    def submit(self, command: Command) -> None:
        """Refuse: writes go to the primary."""
        raise NotPrimary("this node is a replica; the write belongs to the primary")

    def cancel(self, link: int, run_id: int) -> None:
        """Nothing runs here."""

    def end_session(self, key: SessionKey) -> None:
        """No sessions here."""

    def end_link(self, link: int) -> None:
        """Nothing of a link is kept here."""

    def tick(self, now: float) -> None:
        """Look at deadlines."""
        self.waiters.expire(now)

    def wait(self, epoch: Epoch, txid: TXID, deadline: float, answer: Callable[[PandoError | None], None]) -> None:
        """Answer once the commit is visible here."""
        if self.shown.epoch >= epoch and self.shown.txid >= txid:
            answer(None)
        else:
            self.waiters.add(epoch=epoch, txid=txid, deadline=deadline, answer=answer)

    def status(self) -> DatabaseStatus:
        """Say how it stands, against the newest commit that was heard of."""
        path = Path(self.path)
        wal = Path(self.path + "-wal")
        return DatabaseStatus(
            name=self.name,
            epoch=self.shown.epoch,
            txid=self.shown.txid,
            checksum=format_checksum(self.shown.checksum),
            head_txid=max(self.head_txid, self.shown.txid),
            lag_txids=max(0, self.head_txid - self.shown.txid),
            lag_bytes=self.lag_bytes,
            lag_s=self.lag_s,
            size_bytes=path.stat().st_size if path.exists() else 0,
            wal_size_bytes=wal.stat().st_size if wal.exists() else 0,
            log_size_bytes=self.log.size_bytes,
            state=self.state,
            reason=self.reason,
        )

    async def pinned(self, use: Callable[[Position], Awaitable[None]]) -> Position:
        """The applier pins what it has applied; the position is the one shown last."""
        if not self.is_readable:
            raise NotReady(f"the database {self.name!r} is still being fetched")
        position = self.shown
        await use(position)
        return position

    async def close(self) -> None:
        """Have the applier close the file, and close the log."""
        self.waiters.refuse_all(NotReady(f"the database {self.name!r} is being closed; try again"))
        try:
            if self._applier.is_connected:
                await self._applier.ask(wire.CloseReplica(self._applier.next_id(), self.name), wire.JobDone)
        finally:
            self.log.close()
