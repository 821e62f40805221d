"""Read your own writes without bookmarks, for clients that carry none. Pure; time is passed in.

A write that a replica sent on is answered when the replica shows it, so whoever asks any process of that node next
sees it. When that takes too long the answer goes out nevertheless, and what its caller (by its token) wrote is
remembered here: the caller's next reads on this process wait for it, or are read on the primary. Not here: waiting.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

REMEMBERED_MAX: Final = 10_000
"""Callers and databases with a write that this node does not show yet."""
BEHIND_S: Final = 1.0
"""After a wait that was in vain, further writes are not waited for, and reads go to the primary, for this long."""

Place = tuple[int, int]
"""(epoch, txid)."""


class OwnWrites:
    """What callers wrote that this node did not show in time."""

    def __init__(self) -> None:
        self._owed: OrderedDict[tuple[bytes, str], Place] = OrderedDict()
        self._behind: OrderedDict[str, float] = OrderedDict()

    def __bool__(self) -> bool:
        return bool(self._owed)

    def remember(self, caller: bytes, database: str, place: Place, now: float) -> None:
        """Note a write that the node did not show in time."""
        key = (caller, database)
        self._owed[key] = max(place, self._owed.get(key, place))
        self._owed.move_to_end(key)
        self._behind[database] = now + BEHIND_S
        self._behind.move_to_end(database)
        if len(self._owed) > REMEMBERED_MAX:
            self._owed.popitem(last=False)
        if len(self._behind) > REMEMBERED_MAX:
            self._behind.popitem(last=False)

    def owed(self, caller: bytes, database: str, visible: Place) -> Place | None:
        """Give what a caller must see; None if nothing, or if the node shows it meanwhile."""
        key = (caller, database)
        place = self._owed.get(key)
        if place is not None and place <= visible:
            del self._owed[key]
            return None
        return place

    def is_behind(self, database: str, now: float) -> bool:
        """Tell whether waiting was in vain a moment ago."""
        until = self._behind.get(database)
        if until is not None and until <= now:
            del self._behind[database]
            return False
        return until is not None
