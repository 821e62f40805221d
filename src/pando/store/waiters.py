"""Who waits for a database to show a commit. Pure: positions and `now` in, answers out through callbacks.

Bounded by `limits.WAITERS_MAX`; each has a deadline. Not here: timers (the owner calls `expire`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count

from pando import limits
from pando.errors import BookmarkTimeout, Overloaded, PandoError
from pando.types import TXID, Epoch

Answer = Callable[[PandoError | None], None]


class PositionWaiters:
    """Waits of one database, answered in the order of their TXIDs."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, int, float, Answer]] = []
        self._number = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, *, epoch: Epoch, txid: TXID, deadline: float, answer: Answer) -> None:
        """Wait for a commit; raises Overloaded."""
        if len(self._heap) >= limits.WAITERS_MAX:
            raise Overloaded(f"{len(self._heap)} requests wait for newer data of this database already")
        heapq.heappush(self._heap, (txid, epoch, next(self._number), deadline, answer))

    def advance(self, epoch: Epoch, txid: TXID) -> None:
        """The database shows this commit now. A later epoch continues the TXIDs of the earlier ones."""
        heap = self._heap
        later: list[tuple[int, int, int, float, Answer]] = []
        while heap and heap[0][0] <= txid:
            item = heapq.heappop(heap)
            if item[1] <= epoch:
                item[4](None)
            else:
                later.append(item)
        for item in later:
            heapq.heappush(heap, item)

    def expire(self, now: float) -> None:
        """Refuse those whose deadline has passed."""
        overdue = [item for item in self._heap if item[3] <= now]
        if overdue:
            self._heap = [item for item in self._heap if item[3] > now]
            heapq.heapify(self._heap)
            for txid, epoch, _, _, answer in overdue:
                answer(BookmarkTimeout(f"this node did not reach TXID {txid} of epoch {epoch} in time"))

    def refuse_all(self, error: PandoError) -> None:
        """Refuse everybody: the database closes."""
        heap, self._heap = self._heap, []
        for item in heap:
            item[4](error)
