"""Whether a node shows one database much later than it could: from positions alone, at the time of a read.

A mark is a head that was known at some time. While readers have not reached it, they are late by its age at least;
once they have, a new mark is set. So the answer may be too small, never too large, and costs a comparison. Not here:
what late reads do about it.
"""

from __future__ import annotations


class Lateness:
    """Watches one database."""

    __slots__ = ("_at", "_mark")

    def __init__(self) -> None:
        self._mark = 0
        self._at = 0.0

    def late_s(self, visible: int, head: int, now: float) -> float:
        """Give for how many seconds, at least, readers have missed a commit that the node knows of."""
        if visible >= head:
            self._mark = 0
            return 0.0
        if visible >= self._mark:
            self._mark, self._at = head, now
        return now - self._at
