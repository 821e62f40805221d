"""When a dead process is started again: at once the first time, then after doubling pauses. Pure; time is passed in."""

from __future__ import annotations

from typing import Final

FIRST_PAUSE_S: Final = 0.1
LAST_PAUSE_S: Final = 2.0
STABLE_S: Final = 10.0
"""A process that lived this long starts anew with no pause."""


class Restarts:
    """The history of one process of a node."""

    def __init__(self) -> None:
        self._quick_deaths = 0
        self._started_at = 0.0
        self.starts = 0

    def started(self, now: float) -> None:
        """The process was started."""
        self._started_at = now
        self.starts += 1

    def lived_s(self, now: float) -> float:
        """Give how long it has lived since its last start."""
        return now - self._started_at

    def died(self, now: float) -> float:
        """The process ended; gives the pause before it is started again, in seconds."""
        if self.lived_s(now) >= STABLE_S:
            self._quick_deaths = 0
        deaths = self._quick_deaths
        self._quick_deaths += 1
        if deaths == 0:
            return 0.0
        return min(LAST_PAUSE_S, FIRST_PAUSE_S * float(1 << min(deaths - 1, 20)))
