"""Time and chance as parameters: the only module that reads the clock or makes random values.

Monotonic time is for durations and deadlines; wall time only for display and for times written to files.
Not here: a clock that tests move (`pando.testing.virtual_clock`).
"""

from __future__ import annotations

import secrets
import time
from random import Random, SystemRandom
from typing import Protocol

__all__ = ["Clock", "Random", "SystemClock", "random_bytes", "sleep_blocking", "system_random"]


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


def system_random() -> Random:
    """Give a generator seeded by the operating system, for ids, jitter and backoff."""
    return SystemRandom()


def random_bytes(size: int) -> bytes:
    """Give unpredictable bytes for keys and nonces."""
    return secrets.token_bytes(size)


def sleep_blocking(seconds: float) -> None:
    """Sleep in a process that has no event loop (the supervisor, the applier, commands)."""
    time.sleep(seconds)
