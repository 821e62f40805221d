"""Who wants a writer to stand still, and which stillness each waits for. Pure bookkeeping of `pando.store.writer`."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable


class Hold(enum.Enum):
    """What a hold does about an interactive transaction that is open."""

    HURRIED = "hurried"
    """Waits for its end, and ends it when its fair time is over."""
    PATIENT = "patient"
    """Waits for its end."""
    PAUSE = "pause"
    """Waits for the end of its running statement and lets none begin: what is committed stays as it is meanwhile."""


class Holds:
    """The holds of one writer. Methods are the event loop's."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Hold, 0)
        self._waiting: list[tuple[Hold, asyncio.Future[None]]] = []

    def __bool__(self) -> bool:
        """Tell whether nothing new may start."""
        return any(self._counts.values())

    @property
    def hurry(self) -> bool:
        """Whether somebody does not wait for longer than is fair."""
        return self._counts[Hold.HURRIED] > 0

    @property
    def pause(self) -> bool:
        """Whether an open transaction may not go on either."""
        return self._counts[Hold.PAUSE] > 0

    def begin(self, kind: Hold) -> None:
        """Count one more."""
        self._counts[kind] += 1

    def end(self, kind: Hold) -> None:
        """Count one less."""
        self._counts[kind] -= 1

    def waiter(self, kind: Hold) -> asyncio.Future[None]:
        """Give what is done when it is worth looking again."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((kind, waiter))
        return waiter

    def wake(self, is_quiet: Callable[[Hold], bool]) -> None:
        """Wake those whose kind of quiet it is now."""
        if not self._waiting:
            return
        quiet = {kind for kind in {kind for kind, _ in self._waiting} if is_quiet(kind)}
        ready = [waiter for kind, waiter in self._waiting if kind in quiet]
        self._waiting = [(kind, waiter) for kind, waiter in self._waiting if kind not in quiet]
        for waiter in ready:
            if not waiter.done():
                waiter.set_result(None)
