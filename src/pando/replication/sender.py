"""Decides what an upstream sends to one replica: one `Sender` per link, without I/O, clock or randomness.

How a shell drives it. Every method is an event and gives a list of actions (`pando.replication.actions`), to be
carried out in order before the next event; what they ask for is answered by another event.

    receive(message, now)                              a ReplicaMessage came
    log_advanced(database, durable, entries)           commits became durable: at once, with the entries from memory
    log_read / log_lacks                               answers to ReadLog
    snapshot_ready / snapshot_read / snapshot_failed   answers to StartSnapshot and ReadSnapshot
    database_dropped, list_completed, epoch_changed    the node changed
    tick(now, wall_ms)                                 at `next_deadline` (heartbeats, silence)
    close()                                            the link is gone

Answers to questions that a stream no longer asks are ignored. Rules. Entries are sent only when the log holds exactly
the replica's position (epoch, TXID, checksum); else a snapshot. Only what is durable here is sent. What is in flight is
bounded by windows that acknowledgements open; nothing else is kept in memory: a live entry that finds no room is
forgotten and read from the log later. Databases that catch up take turns. Not here: one database (see `stream`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pando import limits
from pando.errors import invariant
from pando.replication.actions import Close, EndSnapshot, Send, SenderAction, Stale
from pando.replication.entry import Entry
from pando.replication.messages import (
    REPLICATION_VERSION,
    Applied,
    DatabaseDropped,
    DatabaseList,
    Follow,
    Have,
    Head,
    Heartbeat,
    Refusal,
    Refuse,
    RefuseCode,
    ReplicaMessage,
    SnapshotHave,
    Subscribe,
)
from pando.replication.stream import Outbound, Stream
from pando.replication.stream_state import Mode
from pando.replication.windows import DEFAULT_WINDOWS, Windows
from pando.types import TXID, Epoch, Position

Actions = list[SenderAction]


class Sender:
    """What one replica gets. `heads` are the durable positions of all databases of this node when the link begins.

    `is_primary`: nobody can be ahead of us, so a replica that is has diverged. `knows_all`: `heads` names every
    database there is (False on a replica that has not heard the whole list from its own upstream yet).
    """

    def __init__(
        self,
        *,
        epoch: Epoch,
        heads: Mapping[str, Position],
        now: float,
        is_primary: bool = True,
        knows_all: bool = True,
        windows: Windows = DEFAULT_WINDOWS,
    ) -> None:
        self.subscription: Subscribe | None = None
        """What the replica said of itself; None until it did."""
        self._link = Outbound(epoch=epoch, heads=heads, is_primary=is_primary, windows=windows)
        self._knows_all = knows_all
        self._streams: dict[str, Stream] = {}
        self._wanted: dict[str, Follow] = {}
        """Databases that were asked for and do not exist here (yet)."""
        self._omit: frozenset[str] = frozenset()
        self._changed: set[str] = set()
        """Followed databases whose head moved since the last heartbeat."""
        self._heard_at = now
        self._said_at = now
        self._is_closed = False
        self._handlers: dict[type, Callable[[Any], None]] = {
            Have: self._on_have,
            Applied: self._on_applied,
            SnapshotHave: self._on_snapshot_have,
            Follow: self._on_follow,
            Heartbeat: self._on_heartbeat,
            Refuse: self._on_refuse,
            Subscribe: self._on_subscribe,
        }

    # -- what others want to know ------------------------------------------------------------------------------------

    @property
    def is_closed(self) -> bool:
        """Whether this machine has ended."""
        return self._is_closed

    @property
    def in_flight_bytes(self) -> int:
        """Bytes sent and not confirmed, or being read, of all databases."""
        return self._link.turns.in_flight

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do, at the latest."""
        silence = self._heard_at + limits.LINK_SILENCE_S
        return silence if self.subscription is None else min(silence, self._said_at + limits.HEARTBEAT_S)

    def hold(self, database: str) -> TXID | None:
        """Retention: the replica needs the log after this commit. None: nothing of it."""
        stream = self._streams.get(database)
        return stream.hold if stream is not None else None

    def progress(self) -> dict[str, tuple[TXID, TXID]]:
        """Per database what the replica has in its log and what its readers see."""
        return {name: (stream.acked, stream.applied) for name, stream in self._streams.items()}

    def mode(self, database: str) -> Mode | None:
        """What is being done about a database, for status and tests."""
        stream = self._streams.get(database)
        return stream.mode if stream is not None else None

    # -- the link ----------------------------------------------------------------------------------------------------

    def receive(self, message: ReplicaMessage, now: float) -> Actions:
        """A message came from the replica."""
        if self._is_closed:
            return []
        self._heard_at = now
        try:
            if self.subscription is None and not isinstance(message, Subscribe | Refuse):
                raise Refusal(RefuseCode.PROTOCOL, f"{type(message).__name__} came before Subscribe")
            self._handlers[type(message)](message)
        except Refusal as refusal:
            self._refuse(refusal)
        return self._done()

    def tick(self, now: float, wall_ms: int) -> Actions:
        """Time has passed: heartbeats, silence, another try of snapshots that failed."""
        if self._is_closed:
            return []
        if now - self._heard_at >= limits.LINK_SILENCE_S:
            self._close(f"the replica was silent for {now - self._heard_at:.1f} s")
        elif self.subscription is not None and now - self._said_at >= limits.HEARTBEAT_S:
            self._said_at = now
            heads = tuple(self._head(name) for name in sorted(self._changed))
            self._changed.clear()
            self._say(Heartbeat(self._link.epoch, wall_ms, heads), "heartbeat")
            self._link.snapshots.retry()
            self._link.start_snapshots()
        return self._done()

    def close(self) -> Actions:
        """The link is gone."""
        if not self._is_closed:
            self._end("the link is gone")
        return self._done()

    # -- the node ----------------------------------------------------------------------------------------------------

    def log_advanced(self, database: str, durable: Position, entries: Sequence[Entry] = ()) -> Actions:
        """The durable end of a log moved to `durable`, by these entries, or (none given) by something else."""
        heads = self._link.heads
        is_new = database not in heads
        heads[database] = durable
        stream = self._streams.get(database)
        if stream is not None:
            self._changed.add(database)
            stream.advanced(durable, entries)
        elif is_new and self.subscription is not None and not self._is_closed:
            self._announce(database)
        return self._done()

    def database_dropped(self, database: str) -> Actions:
        """A database of this node is no more."""
        known = self._link.heads.pop(database, None)
        self._changed.discard(database)
        stream = self._streams.pop(database, None)
        if stream is not None:
            stream.discard("database dropped")
            self._link.start_snapshots()
            self._link.pump()
        if known is not None and self.subscription is not None and not self._is_closed and database not in self._omit:
            self._say(DatabaseDropped(self._link.epoch, database), "database dropped")
        return self._done()

    def list_completed(self) -> Actions:
        """This node now knows every database there is."""
        self._knows_all = True
        if self.subscription is not None and not self._is_closed:
            self._send_list("the list is complete now")
        return self._done()

    def epoch_changed(self, epoch: Epoch) -> Actions:
        """This node lives in a newer epoch now; from here on messages carry it."""
        invariant(epoch >= self._link.epoch, "epoch goes back", epoch=epoch, known=self._link.epoch)
        self._link.epoch = epoch
        return []

    # -- answers of the shell ----------------------------------------------------------------------------------------

    def log_read(self, database: str, number: int, entries: Sequence[Entry], remaining_bytes: int = 0) -> Actions:
        """Answer to ReadLog: the log holds the position asked for, and these entries follow it.

        `remaining_bytes` is what the log holds after them, for the lag.
        """
        stream = self._current(database, number)
        if stream is not None:
            stream.log_read(entries, remaining_bytes)
        return self._done()

    def log_lacks(self, database: str, number: int, base: Position) -> Actions:
        """Answer to ReadLog: the log, which starts at `base`, does not hold the position asked for."""
        stream = self._current(database, number)
        if stream is not None:
            stream.log_lacks(base)
        return self._done()

    def snapshot_ready(
        self, database: str, number: int, *, position: Position, size: int, page_size: int, checksum: int
    ) -> Actions:
        """Answer to StartSnapshot: `size` bytes can be read (0: an empty database) of a durable `position`."""
        stream = self._current(database, number)
        if stream is None:
            return [EndSnapshot(database=database, stream=number, reason="nobody waits for it any more")]
        stream.snapshot_ready(position, size, page_size, checksum)
        return self._done()

    def snapshot_read(self, database: str, number: int, offset: int, data: bytes) -> Actions:
        """Answer to ReadSnapshot."""
        stream = self._current(database, number)
        if stream is not None:
            stream.snapshot_read(offset, data)
        return self._done()

    def snapshot_failed(self, database: str, number: int, reason: str) -> Actions:
        """The snapshot cannot be made: it is tried again after a heartbeat. Or not be read: the link ends."""
        stream = self._current(database, number)
        if stream is not None and stream.mode is Mode.SNAP_SENDING:
            self._close(f"{database}: the snapshot cannot be read: {reason}")
        elif stream is not None:
            stream.snapshot_failed(reason)
        return self._done()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _on_subscribe(self, message: Subscribe) -> None:
        if self.subscription is not None:
            raise Refusal(RefuseCode.PROTOCOL, "Subscribe came twice")
        if message.version != REPLICATION_VERSION:
            raise Refusal(RefuseCode.VERSION, f"version {message.version} is not {REPLICATION_VERSION}")
        self._heed_epoch(message.sender_epoch, f"replica {message.node}")
        self.subscription = message
        self._omit = frozenset(message.omit)
        self._link.until_head = message.until_head
        self._send_list("subscribed")
        for follow in message.follows:
            self._on_follow(follow)

    def _on_follow(self, message: Follow) -> None:
        name = message.database
        if name in self._omit:
            return
        self._heed_epoch(message.epoch, f"the replica's position in {name}")
        if name not in self._link.heads:
            if len(self._wanted) >= limits.DATABASES_MAX:
                raise Refusal(RefuseCode.PROTOCOL, "too many unknown databases were asked for")
            self._wanted[name] = message
            return
        old = self._streams.get(name)
        if old is not None:
            if old.number >= message.stream:
                return
            old.restarted(message.reason or "the replica asked anew")
        self._streams[name] = Stream(self._link, message)
        self._link.start_snapshots()
        self._link.pump()

    def _on_have(self, message: Have) -> None:
        stream = self._current(message.database, message.stream)
        if stream is not None:
            stream.have(message)

    def _on_applied(self, message: Applied) -> None:
        stream = self._current(message.database, message.stream)
        if stream is not None:
            stream.has_applied(message)

    def _on_snapshot_have(self, message: SnapshotHave) -> None:
        stream = self._current(message.database, message.stream)
        if stream is not None:
            stream.snapshot_have(message)

    def _on_heartbeat(self, message: Heartbeat) -> None:
        self._heed_epoch(message.sender_epoch, "the replica")

    def _on_refuse(self, message: Refuse) -> None:
        text = f"refused by the replica with {message.code}: {message.message}"
        self._heed_epoch(message.sender_epoch, text)
        self._close(text)

    # -- small things ------------------------------------------------------------------------------------------------

    def _announce(self, database: str) -> None:
        if database not in self._omit:
            self._say(DatabaseList(self._link.epoch, (database,)), "new database")
        wanted = self._wanted.pop(database, None)
        if wanted is not None:
            self._on_follow(wanted)

    def _send_list(self, reason: str) -> None:
        names = tuple(name for name in sorted(self._link.heads) if name not in self._omit)
        self._say(DatabaseList(self._link.epoch, names, self._knows_all), reason)

    def _head(self, database: str) -> Head:
        return self._streams[database].head

    def _current(self, database: str, number: int) -> Stream | None:
        stream = self._streams.get(database)
        return stream if stream is not None and stream.number == number else None

    def _heed_epoch(self, epoch: int, who: str) -> None:
        """Notice that somebody knows a newer epoch than ours: report it, and end."""
        if epoch > self._link.epoch:
            text = f"{who} knows epoch {epoch}, this node is in {self._link.epoch}"
            self._link.out.append(Stale(epoch=Epoch(epoch), reason=text))
            raise Refusal(RefuseCode.STALE_EPOCH, text)

    def _say(self, message: DatabaseList | DatabaseDropped | Heartbeat | Refuse, reason: str) -> None:
        self._link.out.append(Send(message, reason))

    def _refuse(self, refusal: Refusal) -> None:
        text = refusal.message[:1000]
        self._say(Refuse(refusal.refuse_code, text, self._link.epoch), text)
        self._close(f"{refusal.refuse_code}: {text}")

    def _close(self, reason: str) -> None:
        self._end(reason)
        self._link.out.append(Close(reason=reason))

    def _end(self, reason: str) -> None:
        self._is_closed = True
        self._changed.clear()
        self._wanted.clear()
        while self._streams:
            self._streams.popitem()[1].discard(reason)

    def _done(self) -> Actions:
        out, self._link.out = self._link.out, []
        return out

    def check_invariants(self) -> None:
        """Check everything; for tests and the simulator, after each event."""
        streams = self._streams.values()
        for stream in streams:
            stream.check()
        self._link.turns.check(streams)
        self._link.snapshots.check(streams)
        invariant(self._streams.keys() <= self._link.heads.keys(), "a stream of a database that is not there")
        invariant(not self._wanted.keys() & self._link.heads.keys(), "a database that is there is waited for")
        invariant(not self._link.out, "actions are left over")
