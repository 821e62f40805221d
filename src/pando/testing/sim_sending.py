"""The upstream's end of a simulated link: carries out what a `Sender` asks for, after simulated delays.

Not here: decisions; the node (see `sim_node`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pando.errors import invariant
from pando.replication import actions as act
from pando.replication.entry import Entry
from pando.replication.sender import Sender
from pando.testing.sim_log import encode_snapshot, toy_checksum
from pando.testing.sim_network import SimLink
from pando.types import TXID, Position

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pando.testing.sim_node import SimNode

CONTROL_BYTES_MAX = 16_384
"""What small messages (heartbeats, lists) may add to the bytes in flight."""


class SimSending:
    """One replica, seen from its upstream."""

    def __init__(self, node: SimNode, replica: str, link: SimLink) -> None:
        self.node = node
        self.replica = replica
        self.link = link
        self.snapshots: dict[tuple[str, int], tuple[Position, bytes]] = {}
        self.machine = Sender(
            epoch=node.epoch,
            heads={name: log.durable for name, log in node.logs.items()},
            now=node.now,
            is_primary=node.is_primary,
            knows_all=node.knows_all,
            windows=node.world.windows,
        )
        link.on_message["upstream"] = self.receive
        link.on_closed["upstream"] = self.closed
        self.tick()

    # -- events ------------------------------------------------------------------------------------------------------

    def receive(self, message: Any) -> None:  # noqa: ANN401 - any message of the union
        """A message came."""
        self.node.world.note(f"{self.node.name}<-{self.replica}", message)
        self.do(self.machine.receive(message, self.node.now))

    def closed(self, reason: str) -> None:
        """The link is gone."""
        self.do(self.machine.close())
        self.node.sending_ended(self)

    def hang_up(self, reason: str) -> None:
        """This end closes the link."""
        self.link.close_from("upstream", reason)
        self.closed(reason)

    def log_advanced(self, database: str, durable: Position, entries: Iterable[Entry]) -> None:
        """A log of the node moved on."""
        self.do(self.machine.log_advanced(database, durable, tuple(entries)))

    def tick(self) -> None:
        """Wake the machine when it wants."""
        if self.machine.is_closed:
            return
        if self.node.now >= self.machine.next_deadline:
            self.do(self.machine.tick(self.node.now, self.node.world.time.clock.wall_ms()))
        pause = max(0.01, self.machine.next_deadline - self.node.now)
        self.node.later(pause, self.tick)

    # -- actions -----------------------------------------------------------------------------------------------------

    def do(self, actions: Iterable[act.SenderAction]) -> None:
        """Carry out actions in order."""
        for action in actions:
            self.node.world.note(f"{self.node.name}->{self.replica}", action)
            self._perform(action)
        self.machine.check_invariants()
        windows = self.node.world.windows
        bound = windows.in_flight_bytes + windows.log_reads * windows.entry_bytes + CONTROL_BYTES_MAX
        is_bounded = self.link.in_flight_bytes <= bound or not self.node.world.faults.ordered
        invariant(is_bounded, "too much is on its way", bytes=self.link.in_flight_bytes)
        invariant(len(self.snapshots) <= windows.snapshots, "snapshots leak", open=len(self.snapshots))

    def _perform(self, action: act.SenderAction) -> None:
        if isinstance(action, act.Send):
            self.link.send("replica", action.message)
        elif isinstance(action, act.ReadLog):
            self.node.later(self.node.io_delay(), lambda: self._read_log(action))
        elif isinstance(action, act.StartSnapshot):
            self.node.later(10 * self.node.io_delay(), lambda: self._make_snapshot(action))
        elif isinstance(action, act.ReadSnapshot):
            self.node.later(self.node.io_delay(), lambda: self._read_snapshot(action))
        elif isinstance(action, act.EndSnapshot):
            self.snapshots.pop((action.database, action.stream), None)
        elif isinstance(action, act.Acknowledged):
            self.node.acknowledged(self.replica, action.database, action.txid)
        elif isinstance(action, act.Disowned):
            self.node.acks.disown(action.database, self.replica)
        elif isinstance(action, act.Stale):
            self.node.fenced(action.reason)
        elif isinstance(action, act.Close):
            self.link.close_from("upstream", action.reason)
            self.node.sending_ended(self)

    def _read_log(self, action: act.ReadLog) -> None:
        """Read now, answer later: the log may have moved on by then."""
        log = self.node.logs.get(action.database)
        if log is None:
            return
        number = action.stream
        delay = self.node.io_delay()
        if not log.holds(action.after):
            base = log.base
            self.node.later(delay, lambda: self.do(self.machine.log_lacks(action.database, number, base)))
            return
        entries = log.read(action.after.txid, max_bytes=action.max_bytes)
        self.node.later(delay, lambda: self.do(self.machine.log_read(action.database, number, entries, 0)))

    def _make_snapshot(self, action: act.StartSnapshot) -> None:
        name, number = action.database, action.stream
        if self.node.log(name) is None or self.machine.is_closed:
            return
        if self.node.chance(self.node.world.rates.io_error):
            self.do(self.machine.snapshot_failed(name, number, "simulated"))
            return
        position = self.node.snapshot_position(name)
        sizes = (0, 0, 1, 3, 12)
        size = self.node.random.choice(sizes) * self.node.world.windows.chunk_bytes
        data = encode_snapshot(position, self.node.random.randbytes(size))
        self.snapshots[name, number] = (position, data)
        actions = self.machine.snapshot_ready(
            name, number, position=position, size=len(data), page_size=4096, checksum=toy_checksum(data)
        )
        self.do(actions)

    def _read_snapshot(self, action: act.ReadSnapshot) -> None:
        name, number = action.database, action.stream
        if self.machine.is_closed:
            return
        if self.node.chance(self.node.world.rates.io_error / 10):
            self.do(self.machine.snapshot_failed(name, number, "simulated"))
            return
        found = self.snapshots.get((name, number))
        if found is not None:
            part = found[1][action.offset : action.offset + action.max_bytes]
            self.do(self.machine.snapshot_read(name, number, action.offset, part))

    def hold(self, database: str) -> TXID | None:
        """What the replica needs of a log."""
        return self.machine.hold(database)
