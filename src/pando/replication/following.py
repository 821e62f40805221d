"""What a replica does about one database (used by `receiver.Receiver` only).

`Inbound` is what the databases of one receiver share. Each method is a transition: it changes the state and adds
actions to `Inbound.out`. Raises Refusal when the upstream said what it must not. Not here: which databases there are,
epochs, the link (see `receiver`).
"""

from __future__ import annotations

from pando.errors import CorruptionError, invariant
from pando.replication.actions import (
    AppendEntries,
    ApplyTo,
    BeginSnapshot,
    DropSnapshot,
    Freeze,
    InstallSnapshot,
    ReceiverAction,
    Send,
    WriteSnapshot,
)
from pando.replication.backoff import Backoff
from pando.replication.entry import Describe, Entry
from pando.replication.following_state import FollowingState, Incoming, LocalLog, Phase
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
from pando.types import TXID, Checksum, Epoch, Position


class Inbound:
    """What the databases of one receiver share."""

    __slots__ = ("describe", "epoch", "is_welcome", "last_stream", "out", "pending_bytes_max", "waiting")

    def __init__(self, *, epoch: Epoch, describe: Describe, pending_bytes_max: int) -> None:
        self.pending_bytes_max = pending_bytes_max
        """More than an upstream that heeds the window can have on its way for one database."""
        self.epoch = epoch
        self.describe = describe
        self.is_welcome = False
        """Whether the upstream answers questions: there is a link, and it has sent its list."""
        self.last_stream = 0
        self.waiting: dict[str, Following] = {}
        """Databases in phase IDLE that will ask at their `follow_at`."""
        self.out: list[ReceiverAction] = []


class Following(FollowingState):
    """One database."""

    __slots__ = ("_node",)

    def __init__(self, node: Inbound, database: str, local: LocalLog, backoff: Backoff) -> None:
        super().__init__(database, local, backoff)
        self._node = node

    # -- asking ------------------------------------------------------------------------------------------------------

    def follow(self) -> Follow:
        """Begin a new stream from the durable end of our log."""
        invariant(self.phase is Phase.IDLE and self.pending.is_empty, "a question while busy", at=self.tail)
        self._node.last_stream += 1
        self.stream = self._node.last_stream
        self.phase = Phase.FOLLOWING
        self._stop_waiting()
        return Follow(
            self.database,
            self.stream,
            *position_fields(self.durable),
            self.applied,
            bool(self.distrust),
            (self.distrust or self.reason)[:1000],
        )

    def ask_again(self, now: float, reason: str, *, at_once: bool = False) -> None:
        """Give up the present stream and ask anew: now, or after a pause that grows while nothing gets better."""
        if self.phase is Phase.INSTALLING:
            self.stream = 0  # the question comes when it is installed
            return
        self.let_go(reason)
        self.follow_at = now if at_once else now + self.backoff.next_s()
        self.reason = reason
        self._node.waiting[self.database] = self
        self.ask_if_due(now)

    def ask_if_due(self, now: float) -> None:
        """Ask, if it is time, the upstream listens, and nothing is being appended."""
        is_due = self.follow_at is not None and self.follow_at <= now
        if is_due and self._node.is_welcome and self.phase is Phase.IDLE and self.pending.is_empty:
            self._node.out.append(Send(self.follow(), self.reason))

    def let_go(self, reason: str) -> None:
        """Leave the stream; what still arrives of it is ignored. A snapshot that is being installed goes on."""
        self.stream = 0
        self._stop_waiting()
        if self.phase is Phase.RECEIVING and self.incoming is not None:
            number = self.incoming.stream
            self._node.out.append(DropSnapshot(database=self.database, stream=number, reason=reason))
            self.incoming = None
        if self.phase in (Phase.FOLLOWING, Phase.RECEIVING):
            self.phase = Phase.IDLE

    def _stop_waiting(self) -> None:
        self.follow_at = None
        self._node.waiting.pop(self.database, None)

    # -- entries -----------------------------------------------------------------------------------------------------

    def entries(self, message: Entries, now: float) -> None:
        """Log entries came."""
        if self.phase is not Phase.FOLLOWING:
            return
        tail = self.tail
        if message.after_txid < tail.txid:
            return  # a duplicate
        if message.after_txid > tail.txid:
            self.ask_again(now, f"gap: entries after {message.after_txid}, the log ends at {tail}")
            return
        if message.after_checksum != tail.checksum or message.after_epoch != tail.epoch:
            self.ask_again(now, f"entries after another commit {tail.txid} than ours, {tail}")
            return
        size = sum(map(len, message.entries))
        if not message.entries or self.pending.bytes + size > self._node.pending_bytes_max:
            text = f"{self.database}: {len(message.entries)} entries of {size} bytes, none, or more than the window"
            raise Refusal(RefuseCode.PROTOCOL, text)
        entries = self._decode(message.entries, tail)
        self.tail = entries[-1].position
        self.head = max(self.head, self.tail.txid)
        self.pending.add(self.tail.txid, size)
        self._node.out.append(AppendEntries(database=self.database, entries=entries))
        self.check()

    def _decode(self, raw: tuple[bytes, ...], tail: Position) -> tuple[Entry, ...]:
        """Read the entries and prove that they follow each other from our position on."""
        entries = []
        position = tail
        for data in raw:
            try:
                entry = self._node.describe(data)
            except CorruptionError as error:
                raise Refusal(RefuseCode.CORRUPT, f"{self.database} after {position}: {error}") from error
            if not entry.follows(position) or entry.epoch > self._node.epoch:
                text = f"{self.database}: an entry {entry.epoch}/{entry.min_txid} does not follow {position}"
                raise Refusal(RefuseCode.CORRUPT, text)
            entries.append(entry)
            position = entry.position
        return tuple(entries)

    def appended(self, position: Position, now: float) -> None:
        """The log is fsynced up to `position`."""
        invariant(self.durable.txid < position.txid <= self.tail.txid, "appended what?", at=position, tail=self.tail)
        self.pending.confirm(position.txid)
        self.durable = position
        if self.hears:
            self._node.out.append(Send(Have(self.database, self.stream, position.epoch, position.txid), "fsynced"))
        if self.phase is not Phase.INSTALLING and not self.distrust:
            self._node.out.append(ApplyTo(database=self.database, txid=position.txid))
        if self.phase is Phase.FOLLOWING:
            self.backoff.reset()
        elif self.phase is Phase.IDLE:
            self.ask_if_due(now)
        self.check()

    def append_failed(self, durable: Position, reason: str, now: float) -> None:
        """The log could not take the entries; it ends at `durable`."""
        self.pending.clear()
        self.durable = self.tail = durable
        if self.phase in (Phase.FOLLOWING, Phase.IDLE):
            self.ask_again(now, f"append failed: {reason}")
        self.check()

    def has_applied(self, txid: TXID) -> None:
        """Readers see the database at this commit."""
        if txid <= self.applied:
            return
        self.applied = txid
        self.check()
        if self.hears:
            self._node.out.append(Send(Applied(self.database, self.stream, txid), "applied"))

    def caught_up(self, message: CaughtUp, now: float) -> None:
        """Everything that the upstream had has been sent."""
        if self.phase is not Phase.FOLLOWING:
            return
        if message.txid > self.tail.txid:
            self.ask_again(now, f"gap: caught up at {message.txid}, the log ends at {self.tail}")
            return
        self.is_caught_up = True
        self.backoff.reset()

    def heard(self, head: Head, now: float) -> None:
        """A heartbeat told where the upstream's database stands."""
        self.head = TXID(head.txid)
        self.unsent_bytes = head.unsent_bytes
        is_ours = head.stream == self.stream and self.phase is Phase.FOLLOWING
        if is_ours and head.sent_txid > self.tail.txid:
            self.ask_again(now, f"gap: was sent {head.sent_txid}, the log ends at {self.tail}")

    # -- divergence --------------------------------------------------------------------------------------------------

    def diverged(self, reason: str) -> None:
        """The applier found other bytes than the log says; of a file that waits for a snapshot that is no news."""
        if self.phase in (Phase.FROZEN, Phase.INSTALLING) or (self.distrust and self.is_kept):
            return
        self.let_go(reason)
        self.phase = Phase.FROZEN
        self.distrust = reason
        self._node.out.append(Freeze(database=self.database, reason=reason))
        self.check()

    def evidence_saved(self, now: float) -> None:
        """What there was to keep of a frozen database is kept."""
        if self.phase is Phase.FROZEN:
            self.phase = Phase.IDLE
            self.is_kept = True
            self.ask_again(now, self.distrust, at_once=True)

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def snapshot_begin(self, message: SnapshotBegin) -> None:
        """A snapshot is coming."""
        if self.phase is not Phase.FOLLOWING:
            return
        position, tail = position_of(message), self.tail
        is_behind = position.epoch < tail.epoch or position.txid <= tail.txid
        evidence = ""
        loses = message.is_divergent or (is_behind and position != tail) or self.distrust != ""
        if loses and not self.is_kept and tail.txid > 0:
            evidence = f"log at {tail} gives way to a snapshot at {position}: {message.reason}"
        self.phase = Phase.RECEIVING
        self.incoming = Incoming(stream=self.stream, position=position, size=message.size, evidence=evidence)
        self._node.out.append(
            BeginSnapshot(
                database=self.database,
                stream=self.stream,
                position=position,
                size=message.size,
                page_size=message.page_size,
                reason=message.reason,
            )
        )
        self.check()

    def snapshot_chunk(self, message: SnapshotChunk, now: float) -> None:
        """Snapshot bytes came."""
        incoming = self.incoming
        if incoming is None or message.offset > incoming.received:
            self.ask_again(now, f"gap: snapshot bytes from {message.offset}")
            return
        if message.offset < incoming.received:
            return  # a duplicate
        end = message.offset + len(message.data)
        if end > incoming.size or end - incoming.written > self._node.pending_bytes_max:
            raise Refusal(RefuseCode.PROTOCOL, f"{self.database}: more snapshot bytes than announced or allowed")
        incoming.received = end
        self._node.out.append(
            WriteSnapshot(database=self.database, stream=self.stream, offset=message.offset, data=message.data)
        )

    def snapshot_end(self, message: SnapshotEnd, now: float) -> None:
        """All snapshot bytes were sent."""
        if self.phase is Phase.INSTALLING:
            return  # a duplicate
        incoming = self.incoming
        if incoming is None or not incoming.received == incoming.size == message.size:
            self.ask_again(now, "gap: the snapshot ended early")
            return
        self.phase = Phase.INSTALLING
        self._node.out.append(
            InstallSnapshot(
                database=self.database,
                stream=self.stream,
                position=incoming.position,
                checksum=Checksum(message.checksum),
                evidence=incoming.evidence,
            )
        )

    def snapshot_written(self, offset: int) -> None:
        """The temporary file holds the bytes before `offset`."""
        incoming = self.incoming
        if incoming is None or offset <= incoming.written:
            return
        invariant(offset <= incoming.received, "wrote what was not received", offset=offset)
        incoming.written = offset
        if self.phase is Phase.RECEIVING:
            self._node.out.append(Send(SnapshotHave(self.database, self.stream, offset), "written"))

    def snapshot_installed(self, number: int, now: float) -> None:
        """File and log are at the snapshot's position, durably."""
        incoming = self.incoming
        if incoming is None or incoming.stream != number:
            return
        invariant(self.phase is Phase.INSTALLING, "installed what is not complete", database=self.database)
        position = incoming.position
        self.incoming = None
        self.pending.clear()
        self.durable = self.tail = position
        self.applied = position.txid
        self.head = max(self.head, position.txid)
        self.distrust = ""
        self.is_kept = False
        self.backoff.reset()
        if self.stream == number:
            self.phase = Phase.FOLLOWING
            have = Have(self.database, number, position.epoch, position.txid)
            self._node.out.append(Send(have, "snapshot installed"))
            self._node.out.append(Send(Applied(self.database, number, position.txid), "snapshot installed"))
        else:
            self.phase = Phase.IDLE
            self.ask_again(now, "a snapshot was installed after its stream had ended", at_once=True)
        self.check()

    def snapshot_failed(self, number: int, durable: Position, reason: str, now: float) -> None:
        """The snapshot could not be written or installed; the log is (still) at `durable`."""
        if self.incoming is None or self.incoming.stream != number:
            return
        if self.phase is Phase.INSTALLING and durable == self.incoming.position:
            # The log has begun anew and the file may be anything. No entry may follow before it is whole, and there is
            # nothing to keep: what the log held was kept before, if it was to be lost.
            self.distrust, self.is_kept = f"a snapshot was not installed to its end: {reason}", True
        self.incoming = None
        self.phase = Phase.IDLE
        self.pending.clear()
        self.durable = self.tail = durable
        self.applied = min(self.applied, durable.txid)
        self.ask_again(now, f"snapshot failed: {reason}")
        self.check()
