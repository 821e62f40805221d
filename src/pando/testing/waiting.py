"""Waiting for a condition with a deadline: what tests use instead of sleeping. Real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

_POLL_S = 0.005


async def until(condition: Callable[[], bool], deadline_s: float = 20) -> None:
    """Return once the condition holds; raises TimeoutError after the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(_POLL_S)


async def turns(count: int = 10) -> None:
    """Let the event loop go round a few times, for callbacks that were scheduled already."""
    for _ in range(count):
        await asyncio.sleep(0)
