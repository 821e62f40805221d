"""Which commits a majority of the voters holds: per database who has what, and who waits for it.

The primary is a voter and counts with its own durable log. A waiter is any value of the caller's (a request, a group of
them); it is given back once, either as confirmed or as timed out. Not here: answering anybody; which nodes are voters.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from dataclasses import dataclass
from typing import Generic, TypeVar

from pando import limits
from pando.errors import Overloaded, QuorumTimeout, invariant
from pando.types import TXID, format_txid

T = TypeVar("T")


def majority(voters: int) -> int:
    """Give the smallest number of voters of which any two sets share one."""
    return voters // 2 + 1


@dataclass(frozen=True, slots=True)
class _Waiter(Generic[T]):
    txid: TXID
    deadline: float
    value: T


class _Database(Generic[T]):
    __slots__ = ("confirmed", "durable", "have", "waiters")

    def __init__(self) -> None:
        self.durable = TXID(0)
        self.have: dict[str, TXID] = {}
        self.confirmed = TXID(0)
        self.waiters: deque[_Waiter[T]] = deque()


class Acks(Generic[T]):
    """Counts acknowledgements. What is confirmed stays confirmed, whatever replicas lose or leave later."""

    def __init__(self, *, me: str, voters: Collection[str]) -> None:
        self._me = me
        self._voters: frozenset[str] = frozenset(voters) | {me}
        self._databases: dict[str, _Database[T]] = {}
        self._next_deadline = float("inf")

    @property
    def voters(self) -> frozenset[str]:
        """Nodes that count, this one among them."""
        return self._voters

    @property
    def next_deadline(self) -> float:
        """When `expire` may have something to do; never too late, perhaps too early."""
        return self._next_deadline

    def confirmed(self, database: str) -> TXID:
        """Give the newest commit that a majority is known to hold."""
        found = self._databases.get(database)
        return found.confirmed if found is not None else TXID(0)

    def waiting(self, database: str) -> int:
        """How many waiters a database has."""
        found = self._databases.get(database)
        return len(found.waiters) if found is not None else 0

    def admit(self, database: str) -> None:
        """To be asked before a write that will wait is begun: raises Overloaded when too many wait already."""
        if self.waiting(database) >= limits.QUORUM_WAITERS_MAX:
            raise Overloaded(f"too many commits of {database} wait for a majority of the cluster; try later")

    def wait(self, database: str, txid: TXID, deadline: float, value: T) -> bool:
        """Register a waiter for a commit; True if a majority holds it already (then nothing is registered).

        Commits are waited for in the order of their TXIDs. Raises QuorumTimeout when too many wait (see `admit`).
        """
        found = self._database(database)
        if txid <= found.confirmed:
            return True
        waiters = found.waiters
        if len(waiters) >= limits.QUORUM_WAITERS_MAX:
            raise self._timeout(database, txid, found)
        invariant(not waiters or waiters[-1].txid <= txid, "waits out of order", txid=txid)
        waiters.append(_Waiter(txid, deadline, value))
        self._next_deadline = min(self._next_deadline, deadline)
        return False

    def durable(self, database: str, txid: TXID) -> list[T]:
        """This node's own log is fsynced up to a commit; gives the waiters that this confirms."""
        found = self._database(database)
        if txid <= found.durable:
            return []
        found.durable = txid
        return self._confirm(found)

    def have(self, database: str, node: str, txid: TXID) -> list[T]:
        """A replica holds our history up to a commit; gives the waiters that this confirms."""
        found = self._database(database)
        if node == self._me or txid <= found.have.get(node, 0):
            return []
        found.have[node] = txid
        return self._confirm(found)

    def _confirm(self, found: _Database[T]) -> list[T]:
        voters = self._voters
        held = sorted([found.durable, *[txid for node, txid in found.have.items() if node in voters]], reverse=True)
        needed = len(voters) // 2 + 1
        if len(held) < needed or held[needed - 1] <= found.confirmed:
            return []
        confirmed = found.confirmed = held[needed - 1]
        waiters, released = found.waiters, []
        while waiters and waiters[0].txid <= confirmed:
            released.append(waiters.popleft().value)
        return released

    def disown(self, database: str, node: str) -> None:
        """A replica may have lost what it acknowledged (it asked anew)."""
        found = self._databases.get(database)
        if found is not None:
            found.have.pop(node, None)

    def left(self, node: str) -> None:
        """A replica's link is gone: it will say again what it has."""
        for found in self._databases.values():
            found.have.pop(node, None)

    def set_voters(self, voters: Collection[str]) -> list[T]:
        """The voters are others now; gives the waiters that this confirms."""
        self._voters = frozenset(voters) | {self._me}
        return [value for found in self._databases.values() for value in self._confirm(found)]

    def drop(self, database: str) -> list[T]:
        """The database is no more; gives the waiters that will never be confirmed."""
        found = self._databases.pop(database, None)
        return [waiter.value for waiter in found.waiters] if found is not None else []

    def expire(self, now: float) -> list[tuple[T, QuorumTimeout]]:
        """Give the waiters whose time is over, each with the error to answer; forget them."""
        if now < self._next_deadline:
            return []
        expired = []
        for name, found in self._databases.items():
            for waiter in found.waiters:
                if waiter.deadline <= now:
                    expired.append((waiter.value, self._timeout(name, waiter.txid, found)))
            found.waiters = deque(waiter for waiter in found.waiters if waiter.deadline > now)
        deadlines = [waiter.deadline for found in self._databases.values() for waiter in found.waiters]
        self._next_deadline = min(deadlines, default=float("inf"))
        return expired

    def _timeout(self, database: str, txid: TXID, found: _Database[T]) -> QuorumTimeout:
        held = 1 + sum(have >= txid for node, have in found.have.items() if node in self._voters)
        voters = len(self._voters)
        return QuorumTimeout(
            f"commit {format_txid(txid)} of {database} is durable on the primary, but only {held} of {voters} voters "
            f"have confirmed it, {majority(voters)} are needed; it may still reach them: read before writing again"
        )

    def _database(self, name: str) -> _Database[T]:
        found = self._databases.get(name)
        if found is None:
            found = self._databases[name] = _Database()
        return found

    def check_invariants(self) -> None:
        """Check everything; for tests and the simulator."""
        for name, found in self._databases.items():
            txids = [waiter.txid for waiter in found.waiters]
            invariant(txids == sorted(txids), "waiters out of order", database=name)
            invariant(not txids or txids[0] > found.confirmed, "a waiter is confirmed and was not told", database=name)
            invariant(len(txids) <= limits.QUORUM_WAITERS_MAX, "too many wait", database=name)
            due = min((waiter.deadline for waiter in found.waiters), default=float("inf"))
            invariant(self._next_deadline <= due, "a deadline is forgotten", database=name)
