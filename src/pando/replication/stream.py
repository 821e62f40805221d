"""What an upstream does about one database for one replica (used by `sender.Sender` only).

`Outbound` is what the streams of one link share. Each method is a transition: it changes the state and adds actions to
`Outbound.out`. Not here: which streams there are, epochs, heartbeats (see `sender`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pando.errors import invariant
from pando.replication.actions import (
    Acknowledged,
    Disowned,
    EndSnapshot,
    ReadLog,
    ReadSnapshot,
    ReplicaApplied,
    Send,
    SenderAction,
    StartSnapshot,
)
from pando.replication.entry import Entry
from pando.replication.messages import (
    Applied,
    CaughtUp,
    Entries,
    Follow,
    Have,
    Head,
    Refusal,
    RefuseCode,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    SnapshotHave,
    position_fields,
    position_of,
)
from pando.replication.snapshot_slots import SnapshotSlots
from pando.replication.stream_state import SNAPSHOT_MODES, Mode, StreamState
from pando.replication.turns import Turns
from pando.replication.windows import Windows
from pando.types import TXID, Epoch, Position


class Outbound:
    """What the streams of one link share: heads, epoch, windows, snapshot slots, and the actions so far."""

    __slots__ = ("entry_bytes_max", "epoch", "heads", "is_primary", "out", "snapshots", "turns", "until_head")

    def __init__(self, *, epoch: Epoch, heads: Mapping[str, Position], is_primary: bool, windows: Windows) -> None:
        self.epoch = epoch
        self.heads = dict(heads)
        self.is_primary = is_primary
        self.until_head = False
        self.turns = Turns(windows)
        self.snapshots = SnapshotSlots(windows.snapshots)
        self.entry_bytes_max = windows.entry_bytes
        self.out: list[SenderAction] = []

    def send(self, message: Entries | CaughtUp | SnapshotBegin | SnapshotChunk | SnapshotEnd, reason: str) -> None:
        """Add a message."""
        self.out.append(Send(message, reason))

    def pump(self) -> None:
        """Ask the shell for the next bytes of the databases whose turn it is."""
        for stream, size in self.turns.grant():
            name, number = stream.database, stream.number
            if stream.mode is Mode.SNAP_SENDING:
                at = stream.offset
                self.out.append(ReadSnapshot(database=name, stream=number, offset=at, max_bytes=size))
                continue
            reason = "catch-up" if stream.is_verified else "does the log hold the replica's position?"
            self.out.append(ReadLog(database=name, stream=number, after=stream.cursor, max_bytes=size, reason=reason))

    def start_snapshots(self) -> None:
        """Order the snapshots for which there is a slot."""
        for stream in self.snapshots.start():
            self.out.append(StartSnapshot(database=stream.database, stream=stream.number, reason=stream.reason))


class Stream(StreamState):
    """One database on one link."""

    __slots__ = ("_link",)

    def __init__(self, link: Outbound, follow: Follow) -> None:
        super().__init__(follow.database, follow.stream, position_of(follow), link.heads[follow.database].txid)
        self._link = link
        self.applied_claim = TXID(min(follow.applied_txid, follow.txid))
        self.is_fresh = follow.fresh
        self.reason = follow.reason
        self.judge()

    @property
    def head(self) -> Head:
        """What a heartbeat says of it."""
        at = self._link.heads[self.database]
        sent = self.cursor.txid if self.is_verified else 0
        return Head(self.database, at.epoch, at.txid, self.number, sent, self.unsent_bytes)

    # -- the log -----------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Find out how a replica at `cursor` can go on."""
        head, cursor = self._link.heads[self.database], self.cursor
        if self.is_fresh:
            self._need_snapshot(self.reason or "the replica asked for a snapshot")
        elif cursor == head:
            self._own()
            self._settle()
        elif not self._link.is_primary and (cursor.epoch, cursor.txid) > (head.epoch, head.txid):
            self.mode = Mode.AHEAD
        elif cursor.txid >= head.txid:
            self._need_snapshot(f"replica at {cursor}, the head is {head}", is_divergent=True)
        else:
            self._read_on()
        self.check()

    def advanced(self, durable: Position, entries: Sequence[Entry]) -> None:
        """The head moved to `durable`."""
        self.head_moved = True
        if self.mode is Mode.LIVE:
            self._push(durable, entries)
        elif self.mode is Mode.AHEAD:
            self.judge()
        elif self.mode is not Mode.DONE:
            self.unsent_bytes += sum([len(entry.data) for entry in entries])
            if self.mode is Mode.LOG:
                self._read_on()
            elif not entries:
                self.is_divergent = True  # perhaps: the head was not led here by entries
        self.check()

    def _push(self, durable: Position, entries: Sequence[Entry]) -> None:
        """Send what has just become durable to a replica that has everything before."""
        size = sum([len(entry.data) for entry in entries])
        if (
            entries
            and self._link.turns.has_room(self, size, len(entries))
            and entries[0].follows(self.cursor)
            and entries[-1].post_checksum == durable.checksum
            and entries[-1].max_txid == durable.txid
        ):
            if self._send_entries(entries, size, durable, "live"):
                return
        else:
            self.unsent_bytes = size
            self._read_on()

    def _send_entries(self, entries: Sequence[Entry], size: int, last: Position, reason: str) -> bool:
        """Send entries after the cursor and move it. False: one does not fit a frame, a snapshot goes instead."""
        data = tuple([entry.data for entry in entries])
        longest = self._link.entry_bytes_max
        if size > longest and max(map(len, data)) > longest:
            self._need_snapshot(f"an entry after {self.cursor} does not fit a frame")
            return False
        after, link = self.cursor, self._link
        message = Entries(link.epoch, self.database, self.number, after.epoch, after.txid, after.checksum, data)
        link.out.append(Send(message, reason))
        self.cursor = last
        self.sent_txid = max(self.sent_txid, last.txid)
        link.turns.sent_entries(self, last.txid, size)
        return True

    def _read_on(self) -> None:
        self.mode = Mode.LOG
        self._link.turns.ask(self)
        self._link.pump()

    def log_read(self, entries: Sequence[Entry], remaining_bytes: int) -> None:
        """The log holds the cursor, and these entries follow it."""
        invariant(self.reading and self.mode is Mode.LOG, "log read, not asked for", database=self.database)
        self._link.turns.answered(self)
        if not self.is_verified:
            self._own()
        head = self._link.heads[self.database]
        durable = tuple(entry for entry in entries if entry.max_txid <= head.txid)
        is_explained = bool(durable) or self.cursor.txid >= head.txid or self.head_moved
        invariant(is_explained, "the log gave nothing", at=self.cursor, head=head)
        if durable:
            invariant(durable[0].follows(self.cursor), "the log gave what does not follow", at=self.cursor)
            self.unsent_bytes = remaining_bytes
            size = sum([len(entry.data) for entry in durable])
            if self._send_entries(durable, size, durable[-1].position, "catch-up"):
                self._settle()
        else:
            self._settle()
        self._link.pump()
        self.check()

    def log_lacks(self, base: Position) -> None:
        """The log, which starts at `base`, does not hold the cursor."""
        invariant(self.reading and self.mode is Mode.LOG, "log lacks, not asked for", database=self.database)
        self._link.turns.answered(self)
        cursor = self.cursor
        why = "holds other bytes there" if cursor.txid >= base.txid else f"begins at {base}"
        is_on_line = cursor.txid < base.txid and cursor.epoch == base.epoch  # an epoch has one primary, so one line
        self._need_snapshot(f"replica at {cursor}, the log {why}", is_divergent=not is_on_line)
        self._link.pump()

    def _settle(self) -> None:
        """Nothing is being read: go live, go on reading, or notice that the head is not where the log led."""
        head, cursor = self._link.heads[self.database], self.cursor
        if cursor.txid >= head.txid and cursor != head:
            self._need_snapshot(f"replica at {cursor}, the head is {head}", is_divergent=True)
            return
        if self._link.until_head and (cursor == head or cursor.txid >= self.target):
            self.mode = Mode.DONE
        elif cursor == head:
            self.mode = Mode.LIVE
            self.unsent_bytes = 0
        else:
            self._read_on()
            return
        if not self.is_told_caught_up:
            self.is_told_caught_up = True
            message = CaughtUp(self._link.epoch, self.database, self.number, *position_fields(cursor))
            self._link.send(message, "caught up")

    # -- what the replica has ----------------------------------------------------------------------------------------

    def _own(self) -> None:
        """The replica is at the cursor, which is in our history: from here on its acknowledgements count."""
        self.is_verified = True
        self.acked = self.cursor.txid
        self._link.out.append(Acknowledged(database=self.database, epoch=self.cursor.epoch, txid=self.acked))
        if self.applied_claim > self.applied:
            self.applied = self.applied_claim
            self._link.out.append(ReplicaApplied(database=self.database, txid=self.applied))

    def _disown(self, reason: str) -> None:
        self.is_verified = False
        self.acked = self.applied = self.applied_claim = TXID(0)
        self._link.out.append(Disowned(database=self.database, reason=reason))

    def have(self, message: Have) -> None:
        """The replica's log is fsynced up to here, or its snapshot is installed."""
        if message.txid > self.sent_txid:
            text = f"{self.database}: has {message.txid}, was sent {self.sent_txid}"
            raise Refusal(RefuseCode.PROTOCOL, text)
        link, position = self._link, self.snapshot_position
        if self.mode is Mode.SNAP_INSTALL and message.txid == position.txid and message.epoch == position.epoch:
            link.snapshots.installed(self)
            link.turns.confirm_all(self)
            self._own()
            link.start_snapshots()
            self._settle()
        else:
            if self.is_verified and message.txid > self.acked:
                self.acked = TXID(message.txid)
                acked = Acknowledged(database=self.database, epoch=Epoch(message.epoch), txid=self.acked)
                link.out.append(acked)
            link.turns.confirm_entries(self, message.txid)
            if self.mode is not Mode.LIVE:
                link.turns.ask(self)
        link.pump()
        self.check()

    def has_applied(self, message: Applied) -> None:
        """Readers of the replica see this commit."""
        if self.is_verified and self.applied < message.txid <= self.sent_txid:
            self.applied = TXID(message.txid)
            self._link.out.append(ReplicaApplied(database=self.database, txid=self.applied))

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def _need_snapshot(self, reason: str, *, is_divergent: bool = False) -> None:
        self.reason = reason
        self.is_divergent = is_divergent
        if is_divergent:
            self._disown(reason)
        self._link.snapshots.want(self)
        self._link.start_snapshots()

    def snapshot_ready(self, position: Position, size: int, page_size: int, checksum: int) -> None:
        """The snapshot can be read."""
        invariant(self.mode is Mode.SNAP_MAKING, "snapshot that was not asked for", database=self.database)
        durable = self._link.heads[self.database].txid
        invariant(position.txid <= durable, "snapshot of what is not durable", at=position, durable=durable)
        self.mode = Mode.SNAP_SENDING
        self.offset, self.snapshot_size = 0, size
        self.snapshot_position, self.snapshot_checksum = position, checksum
        begin = SnapshotBegin(
            self._link.epoch,
            self.database,
            self.number,
            *position_fields(position),
            size,
            page_size,
            self.is_divergent,
            self.reason[:1000],
        )
        self._link.send(begin, self.reason)
        self._advance_snapshot()

    def snapshot_read(self, offset: int, data: bytes) -> None:
        """The next bytes of the snapshot."""
        is_asked = self.reading and self.mode is Mode.SNAP_SENDING
        invariant(is_asked and offset == self.offset and len(data) > 0, "snapshot bytes, not asked for", offset=offset)
        self._link.turns.answered(self)
        self.offset += len(data)
        self._link.turns.sent_chunk(self, self.offset, len(data))
        self._link.send(SnapshotChunk(self._link.epoch, self.database, self.number, offset, data), "snapshot")
        self._advance_snapshot()
        self.check()

    def _advance_snapshot(self) -> None:
        """Ask for the next bytes, or say that it is all."""
        if self.offset < self.snapshot_size:
            self._link.turns.ask(self)
        else:
            name, number = self.database, self.number
            end = SnapshotEnd(self._link.epoch, name, number, self.snapshot_size, self.snapshot_checksum)
            self._link.send(end, "snapshot complete")
            self._link.out.append(EndSnapshot(database=name, stream=number, reason="sent"))
            self.mode = Mode.SNAP_INSTALL
            self.cursor = self.snapshot_position
            self.sent_txid = max(self.sent_txid, self.cursor.txid)
        self._link.pump()

    def snapshot_have(self, message: SnapshotHave) -> None:
        """The replica has written the snapshot's bytes before an offset."""
        if self.mode not in SNAPSHOT_MODES:
            return
        if message.offset > self.offset:
            text = f"{self.database}: has snapshot bytes to {message.offset}, was sent {self.offset}"
            raise Refusal(RefuseCode.PROTOCOL, text)
        self._link.turns.confirm_chunks(self, message.offset)
        self._link.turns.ask(self)
        self._link.pump()

    def snapshot_failed(self, reason: str) -> None:
        """The snapshot cannot be made; it is tried again later."""
        invariant(self.mode is Mode.SNAP_MAKING, "a snapshot that was not asked for failed", database=self.database)
        self.reason = f"again, after: {reason}"
        self._link.snapshots.failed(self)
        self._link.start_snapshots()

    # -- end ---------------------------------------------------------------------------------------------------------

    def discard(self, reason: str) -> None:
        """Take back what the stream holds of the link."""
        self._link.turns.discard(self)
        self._link.snapshots.discard(self)
        if self.mode in (Mode.SNAP_MAKING, Mode.SNAP_SENDING):
            self._link.out.append(EndSnapshot(database=self.database, stream=self.number, reason=reason))

    def restarted(self, reason: str) -> None:
        """The replica asked anew: what it has acknowledged so far no longer counts."""
        self.discard(reason)
        self._disown(reason)

    def check(self) -> None:
        """What must hold after each transition; cheap."""
        if self.mode is Mode.LIVE:
            head = self._link.heads[self.database]
            invariant(self.cursor == head and self.is_verified, "live, but not at the head", at=self.cursor, head=head)
        invariant(self.acked <= self.sent_txid >= self.applied, "has what was not sent", database=self.database)
        invariant(self.in_flight_bytes >= 0, "negative bytes in flight", database=self.database)
