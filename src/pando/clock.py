"""Time and chance as parameters: the only module that reads the clock or makes random values.

Monotonic time is for durations and deadlines; wall time only for display and for times written to files.
"""

from __future__ import annotations

import random
import secrets
import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from."""

    def monotonic(self) -> float:
        """Give seconds from an arbitrary start; never goes back."""
        ...

    def wall_ms(self) -> int:
        """Give milliseconds since the Unix epoch; may jump."""
        ...


class SystemClock:
    """The real clock."""

    def monotonic(self) -> float:
        """Give seconds from an arbitrary start."""
        return time.monotonic()

    def wall_ms(self) -> int:
        """Give milliseconds since the Unix epoch."""
        return time.time_ns() // 1_000_000


class VirtualClock:
    """A clock that a test or the simulator moves by hand."""

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


def system_random() -> random.Random:
    """Give a generator seeded by the operating system, for ids, jitter and backoff."""
    return random.SystemRandom()


def random_bytes(size: int) -> bytes:
    """Give unpredictable bytes for keys and nonces."""
    return secrets.token_bytes(size)


def sleep_blocking(seconds: float) -> None:
    """Sleep in a process that has no event loop (the supervisor, the applier, commands)."""
    time.sleep(seconds)
