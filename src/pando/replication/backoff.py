"""How long to wait before trying again: doubling pauses with jitter. Not here: what is tried."""

from __future__ import annotations

from pando import limits
from pando.clock import Random


class Backoff:
    """Pauses of `RECONNECT_S_MIN` and more, doubled each time up to `RECONNECT_S_MAX`; each is cut by up to a half."""

    __slots__ = ("_random", "_tries")

    def __init__(self, random: Random) -> None:
        self._random = random
        self._tries = 0

    def next_s(self) -> float:
        """Give the next pause in seconds."""
        pause = limits.RECONNECT_S_MIN * float(1 << min(self._tries, 30))
        self._tries += 1
        return min(limits.RECONNECT_S_MAX, pause) * self._random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """It worked: start from the shortest pause again."""
        self._tries = 0
