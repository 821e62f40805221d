"""A simulated node: toy logs, a `Receiver` if it is a replica, a `SimSending` for each replica that follows it.

It crashes losing what was not fsynced, restarts from what was, and checks itself after every event. Not here: which
faults happen when (see `simulator`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from pando.clock import Random
from pando.errors import invariant
from pando.replication import actions as act
from pando.replication.acks import Acks
from pando.replication.entry import Entry
from pando.replication.following_state import LocalLog
from pando.replication.receiver import Receiver
from pando.testing.sim_history import Progress
from pando.testing.sim_log import ToyLog, decode_snapshot, describe_toy, make_entry, toy_checksum
from pando.testing.sim_network import SimLink
from pando.testing.sim_sending import SimSending
from pando.types import NO_POSITION, TXID, Epoch, Position

if TYPE_CHECKING:
    from pando.testing.simulator import World


class SimNode:
    """One node. What is in `logs`, `shown`, `epoch` and `evidence` survives a crash, as far as it was fsynced."""

    def __init__(self, world: World, name: str, random: Random) -> None:
        self.world = world
        self.name = name
        self.random = random
        self.is_primary = False
        self.is_alive = False
        self.is_fenced = False
        self.upstream = ""
        self.omit: frozenset[str] = frozenset()
        self.sync_interval_s: float | None = None
        self.epoch = Epoch(1)
        self.logs: dict[str, ToyLog] = {}
        self.shown: dict[str, Position] = {}
        self.corrupt: set[str] = set()
        """Databases whose file another program has written to, which the applier will notice."""
        self.unknown: set[str] = set()
        """Databases whose file is at no position of the log, so that the applier does nothing."""
        self.evidence: list[tuple[str, list[Position]]] = []
        self.knows_all = False
        self.receiver: Receiver | None = None
        self.acks: Acks[tuple[str, Position]] = Acks(me=name, voters=())
        self.link: SimLink | None = None
        self.sendings: dict[int, SimSending] = {}
        self.progress = Progress(name)
        self._life = 0
        self._attempt = 0
        self._incoming: dict[tuple[str, int], bytearray] = {}
        self._disk_free_at: dict[str, float] = {}
        self._syncing: set[str] = set()
        self._applying: dict[str, TXID] = {}

    # -- small things ------------------------------------------------------------------------------------------------

    @property
    def now(self) -> float:
        """Seconds."""
        return self.world.time.now

    def chance(self, probability: float) -> bool:
        """Roll a die."""
        return self.random.random() < probability

    def io_delay(self) -> float:
        """How long the disk takes."""
        return (
            self.random.uniform(0.0, 0.002)
            if not self.chance(self.world.rates.slow_io)
            else self.random.uniform(0.0, 0.2)
        )

    def later(self, delay: float, event: Callable[[], None]) -> None:
        """Let something happen, unless the node crashes first."""
        life = self._life

        def run() -> None:
            if self._life == life and self.is_alive:
                event()
                self.check()

        self.world.time.after(delay, run)

    def _in_turn(self, database: str, delay: float, event: Callable[[], None]) -> None:
        """Let the disk do something after what it was given before for the same database."""
        at = max(self.now + delay, self._disk_free_at.get(database, 0.0))
        self._disk_free_at[database] = at
        self.later(at - self.now, event)

    def log(self, database: str) -> ToyLog | None:
        """Give a log, if the database is there."""
        return self.logs.get(database)

    def snapshot_position(self, database: str) -> Position:
        """A durable position of which a snapshot can be made now."""
        return self.logs[database].durable if self.is_primary else self.shown.get(database, NO_POSITION)

    # -- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Begin from what is durable."""
        self.is_alive = True
        self._life += 1
        self._incoming.clear()
        self._syncing.clear()
        self._applying.clear()
        self.is_fenced = False
        if self.is_primary:
            self._start_primary()
        else:
            self._start_replica()

    def _start_primary(self) -> None:
        self.knows_all = True
        self.receiver = None
        voters = [node.name for node in self.world.nodes.values() if node.upstream == self.name]
        self.acks = Acks(me=self.name, voters=voters)
        for name, log in self.logs.items():
            self.shown[name] = log.durable
            self.world.learn(name, log)
            self.acks.durable(name, log.durable.txid)

    def _start_replica(self) -> None:
        self.knows_all = False
        local = {
            name: LocalLog(
                durable=log.durable,
                applied=self.shown[name].txid,
                distrust="install broken off" if name in self.unknown else "",
            )
            for name, log in self.logs.items()
        }
        self.receiver = Receiver(
            node=self.name,
            url=f"http://{self.name}",
            is_voter=True,
            epoch=self.epoch,
            logs=local,
            describe=describe_toy,
            random=self.random,
            omit=self.omit,
            sync_interval_s=self.sync_interval_s,
            windows=self.world.windows,
        )
        self.do(self.receiver.start(self.now))
        self._tick()

    def crash(self) -> None:
        """Lose power: what was not fsynced may be gone, and the file may show less than before."""
        self.is_alive = False
        self._life += 1
        for name, log in self.logs.items():
            log.crash(self.random)
            if self.is_primary:
                self.world.learn(name, log)
            old = [position for position in log.positions() if position.txid <= self.shown[name].txid]
            self.shown[name] = self.random.choice(old) if not self.is_primary else log.durable
            if not self.is_primary and self.chance(0.05):
                self.unknown.add(name)
        told = ("replica", "upstream") if self.chance(0.5) else ()
        for sending in list(self.sendings.values()):
            sending.link.cut(told=("replica",) if told else ())
        self.sendings.clear()
        if self.link is not None:
            self.link.cut(told=("upstream",) if told else ())
        self.link = None
        self._attempt += 1

    def sending_ended(self, sending: SimSending) -> None:
        """A replica's link is gone."""
        if self.sendings.get(sending.link.number) is sending:
            del self.sendings[sending.link.number]
            if not any(other.replica == sending.replica for other in self.sendings.values()):
                self.acks.left(sending.replica)

    def fenced(self, reason: str) -> None:
        """Somebody is in a newer epoch: stop writing."""
        self.is_fenced = True

    # -- the primary -------------------------------------------------------------------------------------------------

    def commit(self, database: str, payload: bytes, commits: int) -> None:
        """Write; durable a moment later."""
        log = self.logs[database]
        entry = make_entry(
            log.last, epoch=self.epoch, commits=commits, timestamp_ms=int(self.now * 1000), payload=payload
        )
        log.append(entry)
        self._sync_soon(database)

    def _sync_soon(self, database: str) -> None:
        if database not in self._syncing:
            self._syncing.add(database)
            self._in_turn(database, self.io_delay(), lambda: self._synced(database))

    def _synced(self, database: str) -> None:
        self._syncing.discard(database)
        log = self.logs.get(database)
        if log is None:
            return
        if self.receiver is not None:
            self._synced_replica(self.receiver, database, log)
            return
        before = log.durable
        fresh = log.sync()
        self.world.learn(database, log)
        self.shown[database] = log.durable
        self.world.confirmed(self, self.acks.durable(database, log.durable.txid))
        if fresh and self.chance(0.7):
            waits = self.acks.wait(database, log.durable.txid, self.now + 1.0, (database, log.durable))
            invariant(not waits or len(self.acks.voters) == 1, "confirmed before anybody has it", at=before)
        self.tell_sendings(database, fresh)

    def tell_sendings(self, database: str, fresh: Iterable[Entry]) -> None:
        """The durable end of a log moved."""
        durable = self.logs[database].durable
        for sending in list(self.sendings.values()):
            sending.log_advanced(database, durable, fresh)

    def acknowledged(self, replica: str, database: str, txid: TXID) -> None:
        """A replica says that it has a commit."""
        self.world.check_acknowledged(self, replica, database, txid)
        if self.is_primary:
            self.world.confirmed(self, self.acks.have(database, replica, txid))

    def new_history(self, database: str) -> None:
        """As when another program wrote to the file: epoch and TXID grow, the log starts anew."""
        self.logs[database].fail()
        last = self.logs[database].durable
        self.acks.drop(database)
        self.epoch = Epoch(self.epoch + 1)
        base = Position(epoch=self.epoch, txid=TXID(last.txid + 1), checksum=toy_checksum(self.random.randbytes(8)))
        self.logs[database].reset(base)
        self.shown[database] = base
        self.world.truth.begins(database, base, after=last)
        self.progress.allow_any(database)
        self.world.confirmed(self, self.acks.durable(database, base.txid))
        for sending in list(self.sendings.values()):
            sending.do(sending.machine.epoch_changed(self.epoch))
        self.tell_sendings(database, ())

    def create(self, database: str) -> None:
        """Make an empty database."""
        self.logs[database] = ToyLog()
        self.shown[database] = NO_POSITION
        self.tell_sendings(database, ())

    def drop(self, database: str) -> None:
        """Remove a database."""
        self.logs.pop(database, None)
        self.shown.pop(database, None)
        self.corrupt.discard(database)
        self.unknown.discard(database)
        self._syncing.discard(database)
        self._applying.pop(database, None)
        self._incoming = {key: data for key, data in self._incoming.items() if key[0] != database}
        self.progress.allow_any(database)
        self.acks.drop(database)
        for sending in list(self.sendings.values()):
            sending.do(sending.machine.database_dropped(database))

    # -- the replica: link -------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        receiver = self.receiver
        if receiver is None:
            return
        if self.now >= receiver.next_deadline:
            self.do(receiver.tick(self.now, self.world.time.clock.wall_ms()))
        self.later(min(0.25, max(0.01, receiver.next_deadline - self.now)), self._tick)

    def _reconnect(self, after_s: float | None, reason: str) -> None:
        if self.link is not None:
            self.link.close_from("replica", reason)
            self.link = None
        self._attempt += 1
        attempt = self._attempt
        if after_s is not None:
            self.later(after_s, lambda: self._connect(attempt))

    def _connect(self, attempt: int) -> None:
        if attempt != self._attempt or self.receiver is None:
            return
        link = self.world.connect(self)
        if link is None:
            self.do(self.receiver.link_down(self.now, "cannot connect"))
            return
        self.link = link
        link.on_message["replica"] = lambda message: self._receive(link, message)
        link.on_closed["replica"] = lambda reason: self._link_closed(link, reason)
        self.do(self.receiver.link_up(self.now))

    def _link_closed(self, link: SimLink, reason: str) -> None:
        if link is self.link and self.receiver is not None:
            self.link = None
            self.do(self.receiver.link_down(self.now, reason))

    def _receive(self, link: SimLink, message: Any) -> None:  # noqa: ANN401 - any message of the union
        receiver = self.receiver
        if receiver is None or link is not self.link:
            return
        self.world.note(f"{self.name}<-", message)
        self.do(receiver.receive(message, self.now))
        self._note_complete()
        self.check()

    def _note_complete(self) -> None:
        if self.receiver is not None and self.receiver.knows_all and not self.knows_all:
            self.knows_all = True
            for name in sorted(self.receiver.databases.keys() - self.logs.keys()):
                self.create(name)
            for sending in list(self.sendings.values()):
                sending.do(sending.machine.list_completed())

    # -- the replica: actions ----------------------------------------------------------------------------------------

    def do(self, actions: Iterable[act.ReceiverAction]) -> None:
        """Carry out actions in order."""
        for action in actions:
            self.world.note(f"{self.name}->", action)
            self._perform(action)
        if self.receiver is not None:
            self.receiver.check_invariants()

    def _perform(self, action: act.ReceiverAction) -> None:
        if isinstance(action, act.Send):
            if self.link is not None:
                self.link.send("upstream", action.message)
        elif isinstance(action, act.AppendEntries):
            self.world.check_fenced(self)
            self._append(action)
        elif isinstance(action, act.ApplyTo):
            self._apply_soon(action.database, action.txid)
        elif isinstance(action, act.BeginSnapshot):
            self.world.check_fenced(self)
            self._incoming = {key: data for key, data in self._incoming.items() if key[0] != action.database}
            self._incoming[action.database, action.stream] = bytearray()
        elif isinstance(action, act.WriteSnapshot):
            self._write_snapshot(action)
        elif isinstance(action, act.InstallSnapshot):
            self._in_turn(action.database, 20 * self.io_delay(), lambda: self._install(action))
        elif isinstance(action, act.DropSnapshot):
            self._incoming.pop((action.database, action.stream), None)
        elif isinstance(action, act.Freeze):
            self.later(5 * self.io_delay(), lambda: self._freeze(action.database))
        elif isinstance(action, act.DropDatabase):
            self.world.check_dropped(self, action.database)
            self._keep(action.database)
            self.drop(action.database)
        elif isinstance(action, act.AdoptEpoch):
            invariant(action.epoch > self.epoch, "an epoch goes back", node=self.name, epoch=action.epoch)
            self.epoch = action.epoch
            for sending in list(self.sendings.values()):
                sending.do(sending.machine.epoch_changed(self.epoch))
        elif isinstance(action, act.Reconnect):
            self._reconnect(action.after_s, action.reason)

    def _append(self, action: act.AppendEntries) -> None:
        name = action.database
        log = self.logs.get(name)
        if log is None:
            log = self.logs[name] = ToyLog()
            self.shown[name] = NO_POSITION
        for entry in action.entries:
            log.append(entry)
        self._sync_soon(name)

    def _synced_replica(self, receiver: Receiver, database: str, log: ToyLog) -> None:
        if len(log.entries) == log.synced:
            return  # a snapshot came between
        if self.chance(self.world.rates.io_error):
            log.fail()
            self.do(receiver.append_failed(database, log.durable, "simulated", self.now))
            return
        fresh = log.sync()
        self.do(receiver.appended(database, log.durable, self.now))
        self.tell_sendings(database, fresh)

    def _apply_soon(self, database: str, txid: TXID) -> None:
        idle = database not in self._applying
        self._applying[database] = max(txid, self._applying.get(database, TXID(0)))
        if idle:
            self.later(self.io_delay(), lambda: self._apply(database))

    def _apply(self, database: str) -> None:
        goal = self._applying.pop(database, None)
        log = self.logs.get(database)
        if goal is None or log is None or self.receiver is None or goal <= self.shown[database].txid:
            return
        if database in self.unknown:
            return
        shown = self.shown[database]
        if database in self.corrupt:
            self.do(self.receiver.diverged(database, "simulated foreign write"))
            return
        invariant(log.holds(shown), "the log lost what the file needs", node=self.name, shown=shown, base=log.base)
        for entry in log.entries[: log.synced]:
            if entry.follows(shown) and entry.max_txid <= goal:
                shown = entry.position
        self.shown[database] = shown
        self.do(self.receiver.applied(database, shown.txid))

    def _write_snapshot(self, action: act.WriteSnapshot) -> None:
        name, number = action.database, action.stream
        incoming = self._incoming[name, number]
        invariant(len(incoming) == action.offset, "snapshot written out of order", offset=action.offset)
        incoming += action.data
        end = len(incoming)
        self._in_turn(name, self.io_delay(), lambda: self._snapshot_written(name, number, end))

    def _snapshot_written(self, name: str, number: int, end: int) -> None:
        if self.receiver is None:
            return
        if self.chance(self.world.rates.io_error / 10):
            durable = self.logs[name].durable if name in self.logs else NO_POSITION
            self.do(self.receiver.snapshot_failed(name, number, durable, "simulated", self.now))
        elif (name, number) in self._incoming:
            self.do(self.receiver.snapshot_written(name, number, end))

    def _install(self, action: act.InstallSnapshot) -> None:
        name, number = action.database, action.stream
        data = self._incoming.pop((name, number), None)
        if data is None or self.receiver is None:
            return
        log = self.logs.get(name)
        if self.chance(self.world.rates.io_error):
            durable = log.durable if log is not None else NO_POSITION
            self.do(self.receiver.snapshot_failed(name, number, durable, "simulated", self.now))
            return
        invariant(toy_checksum(bytes(data)) == action.checksum, "snapshot bytes differ", node=self.name)
        invariant(decode_snapshot(bytes(data)) == action.position, "snapshot of another position", node=self.name)
        if action.evidence:
            self._keep(name)
        self.world.check_replaced(self, name, log, action.position)
        if log is None:
            log = self.logs[name] = ToyLog()
        log.reset(action.position)
        self.shown[name] = action.position
        self.corrupt.discard(name)
        self.unknown.discard(name)
        self._applying.pop(name, None)
        self.progress.allow_any(name)
        self.do(self.receiver.snapshot_installed(name, number, self.now))
        self.tell_sendings(name, ())

    def _freeze(self, database: str) -> None:
        self._keep(database)
        if self.receiver is not None:
            self.do(self.receiver.evidence_saved(database, self.now))

    def _keep(self, database: str) -> None:
        if database in self.logs:
            self.evidence.append((database, self.logs[database].positions()))

    # -- checks ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """What must hold after every event."""
        for name, log in self.logs.items():
            self.progress.check(name, log.durable)
            shown = self.shown[name]
            invariant(shown.txid <= log.durable.txid, "readers see what is not durable", node=self.name, shown=shown)
            invariant(self.world.truth.knows(name, log.durable), "durable, but of no primary", node=self.name)

    def check_all(self) -> None:
        """The slow part: every entry of every log."""
        self.check()
        for name, log in self.logs.items():
            self.world.truth.check_log(self.name, name, log)
        if self.is_primary:
            self.acks.check_invariants()
