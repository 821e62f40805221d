"""Which commits every replica that keeps up shows to its readers: who has applied what, and who waits for it.

A write with the durability `all` is answered when every replica that keeps up shows it: whoever reads afterwards, on
any node and without a bookmark, finds it. Event streams tell of a change as late, for the same reason. A replica begins
to keep up when it applies within `JOIN_S` what was the head; one that makes a write wait for the whole of its time no
longer does, and nobody waits for it until it does again: it is for that replica to send reads elsewhere meanwhile. Like
`acks`, this only counts. Not here: clocks, answers.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from pando import limits
from pando.types import TXID

T = TypeVar("T")
JOIN_S: Final = 0.25
"""A replica keeps up if it shows, not later than this, what was the newest commit."""
PENALTY_S: Final = 2.0
"""How long a replica is not waited for after the first time that it did not keep up; each time twice as long."""
PENALTY_S_MAX: Final = 120.0
_NONE: Final = TXID(0)


@dataclass(slots=True)
class _Replica:
    applied: TXID = _NONE
    keeps_up: bool = False
    goal: TXID = _NONE
    """What was the head at `goal_at`; shown soon enough, the replica keeps up."""
    goal_at: float = 0.0
    penalty_s: float = PENALTY_S
    not_before: float = 0.0
    """Earliest time to wait for it again: replicas that fetch now and then look up to date after each fetch."""

    def drop(self, now: float) -> None:
        """Wait for it no longer."""
        self.keeps_up, self.goal = False, _NONE
        self.not_before = now + self.penalty_s
        self.penalty_s = min(PENALTY_S_MAX, self.penalty_s * 2)


@dataclass(frozen=True, slots=True)
class _Waiter(Generic[T]):
    txid: TXID
    deadline: float
    value: T


class _Database(Generic[T]):
    __slots__ = ("head", "replicas", "waiters")

    def __init__(self) -> None:
        self.head = TXID(0)
        self.replicas: dict[str, _Replica] = {}
        self.waiters: deque[_Waiter[T]] = deque()

    def shown(self) -> TXID:
        """Give the newest commit that everybody shows who keeps up."""
        return min((each.applied for each in self.replicas.values() if each.keeps_up), default=self.head)


class Shown(Generic[T]):
    """Counts what replicas show; of the primary's own readers it knows nothing, since they show a commit first."""

    def __init__(self) -> None:
        self._databases: dict[str, _Database[T]] = {}
        self.next_deadline = float("inf")
        """When `expire` may have something to do; never too late, perhaps too early."""

    def keeping_up(self, database: str) -> frozenset[str]:
        """Name the replicas that writes wait for."""
        found = self._databases.get(database)
        replicas = found.replicas if found is not None else {}
        return frozenset(node for node, each in replicas.items() if each.keeps_up)

    def durable(self, database: str, txid: TXID) -> list[T]:
        """The primary has a commit, and readers there see it; gives the waiters that this answers."""
        found = self._database(database)
        found.head = max(found.head, txid)
        return _released(found) if found.waiters else []

    def wait(self, database: str, txid: TXID, deadline: float, value: T) -> bool:
        """Register a waiter for a commit; True if nobody is behind it (then nothing is registered).

        Where too many wait already the answer is True as well: the commit is durable, and a write that is answered too
        early harms less than one that is refused too late.
        """
        found = self._database(database)
        found.head = max(found.head, txid)
        return self._wait(found, txid, deadline, value)

    def wait_for_what_was_read(self, database: str, txid: TXID, deadline: float, value: T) -> bool:
        """The same for a commit that a reader has seen, perhaps before it was durable."""
        found = self._databases.get(database)
        if found is None or not any(each.keeps_up for each in found.replicas.values()):
            return True
        return self._wait(found, txid, deadline, value)

    def _wait(self, found: _Database[T], txid: TXID, deadline: float, value: T) -> bool:
        waiters = found.waiters
        if txid <= found.shown() or len(waiters) >= limits.SHOWN_WAITERS_MAX:
            return True
        place = len(waiters)
        while place and waiters[place - 1].txid > txid:  # mostly the newest commit is waited for
            place -= 1
        waiters.insert(place, _Waiter(txid, deadline, value))
        self.next_deadline = min(self.next_deadline, deadline)
        return False

    def applied(self, database: str, node: str, txid: TXID, now: float) -> list[T]:
        """A replica shows our history up to a commit; gives the waiters that this answers."""
        found = self._database(database)
        replica = found.replicas.setdefault(node, _Replica())
        replica.applied = max(replica.applied, txid)
        if not replica.keeps_up:
            _try_join(replica, found.head, now)
        return _released(found)

    def left(self, node: str) -> list[T]:
        """A replica's link is gone; gives the waiters that waited for nobody else."""
        released: list[T] = []
        for found in self._databases.values():
            if found.replicas.pop(node, None) is not None:
                released += _released(found)
        return released

    def disown(self, database: str, node: str) -> list[T]:
        """A replica begins this database anew."""
        found = self._databases.get(database)
        if found is None or found.replicas.pop(node, None) is None:
            return []
        return _released(found)

    def drop(self, database: str) -> list[T]:
        """The database is no more; gives all that wait."""
        found = self._databases.pop(database, None)
        return [waiter.value for waiter in found.waiters] if found is not None else []

    def expire(self, now: float) -> list[T]:
        """Wait no longer for replicas that took too long; gives the waiters that this answers."""
        if now < self.next_deadline:
            return []
        released: list[T] = []
        for found in self._databases.values():
            overdue = [waiter for waiter in found.waiters if waiter.deadline <= now]
            # What is not durable no replica can have, and none is to blame.
            late = min(found.head, max((waiter.txid for waiter in overdue), default=_NONE))
            for replica in found.replicas.values():
                if replica.applied < late and replica.keeps_up:
                    replica.drop(now)
            released += _released(found)
            for waiter in overdue:
                if waiter.txid > found.head:
                    found.waiters.remove(waiter)
                    released.append(waiter.value)
        deadlines = [waiter.deadline for found in self._databases.values() for waiter in found.waiters]
        self.next_deadline = min(deadlines, default=float("inf"))
        return released

    def _database(self, name: str) -> _Database[T]:
        found = self._databases.get(name)
        if found is None:
            found = self._databases[name] = _Database()
        return found


def _try_join(replica: _Replica, head: TXID, now: float) -> None:
    if now < replica.not_before:
        return
    if replica.applied >= head or (0 < replica.goal <= replica.applied and now - replica.goal_at <= JOIN_S):
        replica.keeps_up = True
    elif replica.applied >= replica.goal:
        replica.goal, replica.goal_at = head, now


def _released(found: _Database[T]) -> list[T]:
    shown = found.shown()
    released = []
    while found.waiters and found.waiters[0].txid <= shown:
        released.append(found.waiters.popleft().value)
    return released
