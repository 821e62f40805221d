"""Decides what a replica does with what its upstream sends: one `Receiver` per node, without I/O, clock or randomness.

How a shell drives it. Every method is an event and gives a list of actions (`pando.replication.actions`), to be carried
out in order before the next event.

    start(now)                               once; then connect when Reconnect says so
    link_up(now) / link_down(now, reason)    connected / not connected or lost (but not: closed by Reconnect)
    receive(message, now)                    an UpstreamMessage came on the present link
    appended / append_failed                 answers to AppendEntries
    applied / diverged                       notices of the applier
    snapshot_written / snapshot_installed / snapshot_failed
    evidence_saved                           answer to Freeze
    sync_now(now)                            somebody wants what is missing now
    tick(now, wall_ms)                       at `next_deadline`

Rules. An entry is appended only if it follows exactly the last position of our log (epoch, TXID, checksum, as the
message says it, and the checksums inside); what we have already is ignored, a gap makes us ask again, other bytes at
our position too, and then the upstream decides for a snapshot. A message of an older epoch than we know ends the link.
What a snapshot would take away that the upstream does not have is kept as evidence first. A question is asked only
when nothing is being appended, so a position that we name is always durable. Not here: one database (`following`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from pando import limits
from pando.clock import Random
from pando.errors import InvalidDatabaseName, invariant
from pando.replication.actions import AdoptEpoch, ApplyTo, DropDatabase, ReceiverAction, Reconnect, Send
from pando.replication.backoff import Backoff
from pando.replication.entry import Describe
from pando.replication.following import Following, Inbound
from pando.replication.following_state import NEW_LOG, FollowingState, LocalLog, Phase
from pando.replication.messages import (
    REPLICATION_VERSION,
    CaughtUp,
    DatabaseDropped,
    DatabaseList,
    Entries,
    Heartbeat,
    Refusal,
    Refuse,
    RefuseCode,
    SnapshotBegin,
    SnapshotChunk,
    SnapshotEnd,
    Subscribe,
    UpstreamMessage,
)
from pando.replication.windows import DEFAULT_WINDOWS, Windows
from pando.types import TXID, Epoch, Position, parse_database_name

Actions = list[ReceiverAction]


class Receiver:
    """What a replica does. `logs` is what it holds; `epoch` the highest it has ever heard of (durable).

    `sync_interval_s`: None follows live; a number connects every so many seconds, fetches what there is and leaves; 0
    does so only when asked. `omit` names databases that are not replicated.
    """

    def __init__(
        self,
        *,
        node: str,
        url: str,
        is_voter: bool,
        epoch: Epoch,
        logs: Mapping[str, LocalLog],
        describe: Describe,
        random: Random,
        omit: Collection[str] = (),
        sync_interval_s: float | None = None,
        windows: Windows = DEFAULT_WINDOWS,
    ) -> None:
        self._node = node
        self._url = url
        self._is_voter = is_voter
        self._random = random
        self._omit = frozenset(omit)
        self._sync_interval_s = sync_interval_s
        self._backoff = Backoff(random)
        self._in = Inbound(epoch=epoch, describe=describe, pending_bytes_max=windows.pending_bytes)
        self._databases: dict[str, Following] = {}
        self._outstanding: set[str] = set()
        """In a run to the head: databases that have not reached it."""
        self._is_up = False
        self._is_sync_wanted = False
        self._has_whole_list = False
        self._up_at = self._heard_at = self._said_at = 0.0
        self._handlers: dict[type, Callable[[Any, float], None]] = {
            Entries: self._on_entries,
            Heartbeat: self._on_heartbeat,
            DatabaseList: self._on_list,
            DatabaseDropped: self._on_dropped,
            SnapshotBegin: self._on_snapshot_begin,
            SnapshotChunk: self._on_snapshot_chunk,
            SnapshotEnd: self._on_snapshot_end,
            CaughtUp: self._on_caught_up,
            Refuse: self._on_refuse,
        }
        for name, log in logs.items():
            if name not in self._omit:
                self._databases[name] = Following(self._in, name, log, Backoff(random))

    # -- what others want to know ------------------------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """The highest epoch that this node has heard of."""
        return self._in.epoch

    @property
    def is_connected(self) -> bool:
        """Whether the upstream has taken us in on the present link."""
        return self._in.is_welcome

    @property
    def is_caught_up(self) -> bool:
        """Whether every database has reached the upstream's head since the link came up."""
        return self._in.is_welcome and all(f.is_caught_up for f in self._databases.values())

    @property
    def knows_all(self) -> bool:
        """Whether our log holds something of every database at the upstream, or it is known to be empty.

        Only then, and after its senders were told of those logs, may this node call its own list complete.
        """
        states = self._databases.values()
        return self._has_whole_list and all(f.durable.txid > 0 or (f.is_caught_up and f.tail.txid == 0) for f in states)

    @property
    def databases(self) -> Mapping[str, FollowingState]:
        """State by database; to be looked at only."""
        return self._databases

    @property
    def next_deadline(self) -> float:
        """When `tick` has something to do, at the latest."""
        if not self._is_up:
            return float("inf")
        asks = [f.follow_at for f in self._in.waiting.values() if f.follow_at is not None and f.pending.is_empty]
        return min([self._said_at + limits.HEARTBEAT_S, self._heard_at + limits.LINK_SILENCE_S, *asks])

    # -- the link ----------------------------------------------------------------------------------------------------

    def start(self, now: float) -> Actions:
        """Apply what the log holds and the file does not show; connect, unless it is to be asked for."""
        for following in self._databases.values():
            if following.applied < following.durable.txid and not following.distrust:
                self._in.out.append(ApplyTo(database=following.database, txid=following.durable.txid))
        self._in.out.append(Reconnect(after_s=None if self._sync_interval_s == 0 else 0.0, reason="start"))
        return self._done()

    def link_up(self, now: float) -> Actions:
        """The link is there: introduce ourselves and ask for every database."""
        invariant(not self._is_up, "a second link")
        self._is_up = True
        self._is_sync_wanted = False
        self._up_at = self._heard_at = self._said_at = now
        until_head = self._sync_interval_s is not None
        self._outstanding = set(self._databases) if until_head else set()
        follows = []
        for following in self._databases.values():
            following.is_caught_up = following.is_listed = False
            if following.phase is Phase.IDLE and following.pending.is_empty:
                follows.append(following.follow())
            elif following.phase is Phase.IDLE:
                following.ask_again(now, "link up", at_once=True)
        message = Subscribe(
            self._node,
            self._url,
            self._is_voter,
            REPLICATION_VERSION,
            self._in.epoch,
            tuple(sorted(self._omit)),
            until_head,
            tuple(follows),
        )
        self._in.out.append(Send(message, "link up"))
        return self._done()

    def link_down(self, now: float, reason: str) -> Actions:
        """The link is lost, or could not be made."""
        self._disconnect(now, reason)
        return self._done()

    def sync_now(self, now: float) -> Actions:
        """Connect now, when connecting is otherwise by interval or by hand."""
        if self._is_up or self._is_sync_wanted:
            return []
        self._is_sync_wanted = True
        return [Reconnect(after_s=0.0, reason="asked for")]

    def tick(self, now: float, wall_ms: int) -> Actions:
        """Time has passed: silence, heartbeats, questions that were put off."""
        if not self._is_up:
            return []
        if now - self._heard_at >= limits.LINK_SILENCE_S:
            self._disconnect(now, f"the upstream was silent for {now - self._heard_at:.1f} s")
            return self._done()
        if now - self._said_at >= limits.HEARTBEAT_S:
            self._said_at = now
            self._in.out.append(Send(Heartbeat(self._in.epoch, wall_ms), "heartbeat"))
        self._ask_those_due(now)
        return self._done()

    def receive(self, message: UpstreamMessage, now: float) -> Actions:
        """A message came from the upstream."""
        if not self._is_up:
            return []
        self._heard_at = now
        try:
            if message.sender_epoch != self._in.epoch:
                self._heed_epoch(message)
            if not self._in.is_welcome and not isinstance(message, DatabaseList | Refuse):
                raise Refusal(RefuseCode.PROTOCOL, f"{type(message).__name__} came before the list of databases")
            self._handlers[type(message)](message, now)
        except Refusal as refusal:
            text = refusal.message[:1000]
            self._in.out.append(Send(Refuse(refusal.refuse_code, text, self._in.epoch), text))
            self._disconnect(now, f"{refusal.refuse_code}: {text}")
        return self._done()

    # -- answers of the shell, notices of the applier ----------------------------------------------------------------

    def appended(self, database: str, position: Position, now: float) -> Actions:
        """The log is fsynced up to `position`."""
        following = self._databases.get(database)
        if following is not None:
            following.appended(position, now)
            if self._outstanding:
                self._note_caught_up(following)
        return self._done()

    def append_failed(self, database: str, durable: Position, reason: str, now: float) -> Actions:
        """The log could not take the entries; it ends at `durable`. They are asked for again after a pause."""
        following = self._databases.get(database)
        if following is not None:
            following.append_failed(durable, reason, now)
        return self._done()

    def applied(self, database: str, txid: TXID) -> Actions:
        """Readers see the database at this commit."""
        following = self._databases.get(database)
        if following is not None:
            following.has_applied(txid)
        return self._done()

    def diverged(self, database: str, reason: str) -> Actions:
        """The applier found other bytes than the log says: stop, keep evidence, then a snapshot."""
        following = self._databases.get(database)
        if following is not None:
            following.diverged(reason)
        return self._done()

    def evidence_saved(self, database: str, now: float) -> Actions:
        """What there was to keep of a frozen database is kept."""
        following = self._databases.get(database)
        if following is not None:
            following.evidence_saved(now)
        return self._done()

    def snapshot_written(self, database: str, stream: int, offset: int) -> Actions:
        """The temporary file holds the bytes before `offset`."""
        following = self._current(database, stream)
        if following is not None:
            following.snapshot_written(offset)
        return self._done()

    def snapshot_installed(self, database: str, stream: int, now: float) -> Actions:
        """File and log are at the snapshot's position, durably."""
        following = self._databases.get(database)
        if following is not None:
            following.snapshot_installed(stream, now)
        return self._done()

    def snapshot_failed(self, database: str, stream: int, durable: Position, reason: str, now: float) -> Actions:
        """The snapshot could not be written or installed; the log is (still) at `durable`."""
        following = self._databases.get(database)
        if following is not None:
            following.snapshot_failed(stream, durable, reason, now)
        return self._done()

    # -- messages ----------------------------------------------------------------------------------------------------

    def _on_entries(self, message: Entries, now: float) -> None:
        following = self._current(message.database, message.stream)
        if following is not None:
            following.entries(message, now)

    def _on_snapshot_begin(self, message: SnapshotBegin, now: float) -> None:
        following = self._current(message.database, message.stream)
        if following is not None:
            following.snapshot_begin(message)

    def _on_snapshot_chunk(self, message: SnapshotChunk, now: float) -> None:
        following = self._current(message.database, message.stream)
        if following is not None:
            following.snapshot_chunk(message, now)

    def _on_snapshot_end(self, message: SnapshotEnd, now: float) -> None:
        following = self._current(message.database, message.stream)
        if following is not None:
            following.snapshot_end(message, now)

    def _on_caught_up(self, message: CaughtUp, now: float) -> None:
        following = self._current(message.database, message.stream)
        if following is not None:
            following.caught_up(message, now)
            self._backoff.reset()
            self._note_caught_up(following)

    def _on_heartbeat(self, message: Heartbeat, now: float) -> None:
        for head in message.heads:
            following = self._databases.get(head.database)
            if following is not None:
                following.heard(head, now)

    def _on_list(self, message: DatabaseList, now: float) -> None:
        is_first, self._in.is_welcome = not self._in.is_welcome, True
        names = set(message.names) - self._omit
        for name in sorted(names - self._databases.keys()):
            self._check_name(name)
            following = self._databases[name] = Following(self._in, name, NEW_LOG, Backoff(self._random))
            following.ask_again(now, "new database", at_once=True)
            if self._sync_interval_s is not None and is_first:
                self._outstanding.add(name)
        for name in names:
            self._databases[name].is_listed = True
        if message.is_complete:
            self._has_whole_list = True
            for name in sorted(name for name, following in self._databases.items() if not following.is_listed):
                self._drop(name, "the upstream does not list it")
        self._ask_those_due(now)
        self._finish_run()

    def _check_name(self, name: str) -> None:
        """A name becomes a path: it must be one that a database can have."""
        try:
            is_good = parse_database_name(name) == name
        except InvalidDatabaseName:
            is_good = False
        if not is_good or len(self._databases) >= limits.DATABASES_MAX:
            raise Refusal(RefuseCode.CORRUPT, f"{name!r} is no database name, or one too many")

    def _on_dropped(self, message: DatabaseDropped, now: float) -> None:
        if message.database in self._databases:
            self._drop(message.database, "dropped at the upstream")
            self._finish_run()

    def _on_refuse(self, message: Refuse, now: float) -> None:
        self._disconnect(now, f"refused by the upstream with {message.code}: {message.message}")

    # -- small things ------------------------------------------------------------------------------------------------

    def _current(self, database: str, number: int) -> Following | None:
        following = self._databases.get(database)
        return following if following is not None and following.stream == number and number != 0 else None

    def _ask_those_due(self, now: float) -> None:
        for following in list(self._in.waiting.values()):
            following.ask_if_due(now)

    def _drop(self, database: str, reason: str) -> None:
        self._outstanding.discard(database)
        self._databases.pop(database).let_go(reason)
        self._in.out.append(DropDatabase(database=database, reason=reason))

    def _note_caught_up(self, following: Following) -> None:
        if following.is_caught_up and following.pending.is_empty:
            self._outstanding.discard(following.database)
            self._finish_run()

    def _finish_run(self) -> None:
        """In a run to the head: leave when there is nothing more to fetch."""
        if self._sync_interval_s is None or self._outstanding or not self._in.is_welcome:
            return
        self._leave("up to date")
        pause = self._sync_interval_s if self._sync_interval_s > 0 else None
        self._in.out.append(Reconnect(after_s=pause, reason="up to date", is_done=True))

    def _leave(self, reason: str) -> None:
        self._is_up = self._in.is_welcome = False
        for following in self._databases.values():
            following.let_go(reason)

    def _disconnect(self, now: float, reason: str) -> None:
        if self._is_up and now - self._up_at >= limits.RECONNECT_S_MAX:
            self._backoff.reset()
        self._is_sync_wanted = False
        self._leave(reason)
        self._in.out.append(Reconnect(after_s=self._backoff.next_s(), reason=reason))

    def _heed_epoch(self, message: UpstreamMessage) -> None:
        """Take a newer epoch over; refuse what comes from an older one."""
        if message.sender_epoch > self._in.epoch:
            self._in.epoch = Epoch(message.sender_epoch)
            self._in.out.append(AdoptEpoch(epoch=self._in.epoch))
        elif not isinstance(message, Refuse):
            text = f"the upstream is in epoch {message.sender_epoch}, we know {self._in.epoch}"
            raise Refusal(RefuseCode.STALE_EPOCH, text)

    def _done(self) -> Actions:
        out, self._in.out = self._in.out, []
        return out

    def check_invariants(self) -> None:
        """Check everything; for tests and the simulator, after each event."""
        for name, following in self._databases.items():
            following.check()
            following.pending.check()
            invariant(
                following.pending.bytes <= self._in.pending_bytes_max, "too much is being appended", database=name
            )
            invariant(name not in self._omit, "an omitted database is followed", database=name)
            is_waiting = following.follow_at is not None
            invariant((self._in.waiting.get(name) is following) == is_waiting, "waiting list is wrong", database=name)
            is_lost = self._in.is_welcome and following.phase is Phase.IDLE and not is_waiting
            invariant(not is_lost, "a database is forgotten", database=name)
            invariant(self._is_up or following.stream == 0, "a stream without a link", database=name)
        invariant(self._is_up or not self._in.is_welcome, "welcome without a link")
        invariant(self._in.waiting.keys() <= self._databases.keys(), "a dropped database waits")
        invariant(not self._in.out, "actions are left over")
