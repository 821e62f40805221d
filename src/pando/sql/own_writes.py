"""Read your own writes without bookmarks, for clients that carry none. Time is passed in.

A write that a replica sent on is answered when the replica shows it, so whoever asks any process of that node next
sees it. When that takes too long the answer goes out nevertheless, and what its caller (by its token) wrote is
remembered, in all processes of the node (`write_ring`): the caller's next reads there wait for it, or are read on the
primary. Other callers' reads do not. Not here: waiting.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from pando.sql.write_ring import Entry, WriteRing

REMEMBERED_MAX: Final = 10_000
"""Callers and databases with a write that this node does not show yet."""
BEHIND_S: Final = 1.0
"""After a wait that was in vain, further writes are not waited for, and reads go to the primary, for this long."""
OLD_MS: Final = 600_000
"""What a process that has just started does not take from the ring any more."""

Place = tuple[int, int]
"""(epoch, txid)."""


class OwnWrites:
    """What callers wrote that this node did not show in time, as one of its processes knows it."""

    def __init__(self, ring: WriteRing | None = None, now: float = 0.0) -> None:
        """`ring`: what the processes of the node tell each other; `now`: the monotonic time."""
        self._ring = ring or WriteRing()
        self._heard = 0
        self._owed: OrderedDict[int, tuple[Place, int]] = OrderedDict()
        self._behind: OrderedDict[int, float] = OrderedDict()
        if self._ring.newest:
            self._hear(since_ms=int(now * 1000) - OLD_MS, until_ms=int(now * 1000))

    def __bool__(self) -> bool:
        if self._ring.newest != self._heard:
            self._hear()
        return bool(self._owed)

    def remember(self, caller: bytes, database: str, place: Place, now: float) -> None:
        """Note a write that the node did not show in time."""
        entry = Entry(self._ring.who(caller, database), self._ring.which(database), place, int(now * 1000))
        self._ring.tell(entry)
        self._hear()
        self._take(entry)  # also if it could not be told

    def _hear(self, since_ms: int = 0, until_ms: int | None = None) -> None:
        """Take what the other processes told; times of before the machine was started are no times of ours."""
        newest = self._ring.newest
        for entry in self._ring.after(self._heard):
            if entry.at_ms >= since_ms and (until_ms is None or entry.at_ms <= until_ms):
                self._take(entry)
        self._heard = newest

    def _take(self, entry: Entry) -> None:
        known = self._owed.get(entry.who)
        self._owed[entry.who] = (entry.place if known is None else max(entry.place, known[0]), entry.database)
        self._owed.move_to_end(entry.who)
        self._behind[entry.database] = entry.at_ms / 1000 + BEHIND_S
        self._behind.move_to_end(entry.database)
        if len(self._owed) > REMEMBERED_MAX:
            self._owed.popitem(last=False)
        if len(self._behind) > REMEMBERED_MAX:
            self._behind.popitem(last=False)

    def owed(self, caller: bytes, database: str, visible: Place) -> Place | None:
        """Give what a caller must see; None if nothing, or if the node shows it meanwhile."""
        if not self._owed:
            return None
        self._forget_paid(self._ring.which(database), visible)
        found = self._owed.get(self._ring.who(caller, database))
        return None if found is None or found[0] <= visible else found[0]

    def _forget_paid(self, which: int, visible: Place) -> None:
        """Look at the oldest one: many of those whom other processes told of never ask here."""
        oldest, (place, database) = next(iter(self._owed.items()))
        if database == which and place <= visible:
            del self._owed[oldest]
        else:
            self._owed.move_to_end(oldest)

    def is_behind(self, database: str, now: float) -> bool:
        """Tell whether waiting was in vain a moment ago."""
        if not self._behind:
            return False
        which = self._ring.which(database)
        until = self._behind.get(which)
        if until is not None and until <= now:
            del self._behind[which]
            return False
        return until is not None

    def close(self) -> None:
        """Let go of what is shared."""
        self._ring.close()
