"""What the simulator holds to be true: every history that a primary ever made durable, and checks against it.

Not here: what nodes do.
"""

from __future__ import annotations

from pando.errors import invariant
from pando.replication.entry import Entry
from pando.testing.sim_log import ToyLog
from pando.types import NO_POSITION, Position


class Truth:
    """Positions and steps of all primaries, by database. A step is an entry at the position that it follows."""

    def __init__(self) -> None:
        self._positions: dict[str, set[Position]] = {}
        self._steps: dict[str, set[tuple[Position, bytes]]] = {}
        self._before: dict[tuple[str, Position], Position] = {}

    def begins(self, database: str, base: Position, *, after: Position) -> None:
        """A primary began a new history, taking over from a position of its old one."""
        self._positions.setdefault(database, {NO_POSITION}).add(base)
        self._before[database, base] = after

    def commits(self, database: str, after: Position, entry: Entry) -> None:
        """A primary made an entry durable."""
        self._positions.setdefault(database, {NO_POSITION}).add(entry.position)
        self._steps.setdefault(database, set()).add((after, entry.data))
        self._before[database, entry.position] = after

    def led_to(self, database: str, old: Position, new: Position) -> bool:
        """Tell whether a history went from one position to the other."""
        at: Position | None = new
        while at is not None and at != old:
            at = self._before.get((database, at))
        return at is not None

    def knows(self, database: str, position: Position) -> bool:
        """Tell whether a primary ever was there."""
        return position in self._positions.get(database, {NO_POSITION})

    def check_log(self, node: str, database: str, log: ToyLog) -> None:
        """What is durable in a log is a part of a history: from a position of it, step by step."""
        at = log.base
        invariant(self.knows(database, at), "a log begins where no primary ever was", node=node, at=at)
        steps = self._steps.get(database, set())
        for entry in log.entries[: log.synced]:
            is_step = (at, entry.data) in steps
            invariant(is_step, "a log holds what no primary made durable", node=node, database=database, after=at)
            at = entry.position


class Progress:
    """Checks that durable positions of one node go forward, but for snapshots and drops, which must be announced."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._seen: dict[str, Position] = {}

    def allow_any(self, database: str) -> None:
        """A snapshot was installed, or the database dropped."""
        self._seen.pop(database, None)

    def check(self, database: str, durable: Position) -> None:
        """Look at a log."""
        seen = self._seen.get(database)
        goes_on = seen is None or (seen.epoch, seen.txid) <= (durable.epoch, durable.txid)
        invariant(goes_on, "a log went back", node=self._node, database=database, seen=seen, now=durable)
        self._seen[database] = durable
