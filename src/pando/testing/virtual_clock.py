"""Time that a test or the simulator moves by hand. Not here: random values, which tests seed themselves."""

from __future__ import annotations


class VirtualClock:
    """A `Clock` that stands still until it is moved."""

    def __init__(self, *, monotonic: float = 1000.0, wall_ms: int = 1_700_000_000_000) -> None:
        self._start = monotonic
        self._now = monotonic
        self._wall_ms = wall_ms

    def monotonic(self) -> float:
        """Give the simulated seconds."""
        return self._now

    def wall_ms(self) -> int:
        """Give the simulated wall time."""
        return self._wall_ms + int((self._now - self._start) * 1000)

    def advance(self, seconds: float) -> None:
        """Move time forward."""
        if seconds < 0:
            raise ValueError("time does not go back")
        self._now += seconds
