"""Waiting for what nobody tells, at the ends of processes. Not here: time (`pando.clock`)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Final

LOOK_S: Final = 0.01


async def until(condition: Callable[[], bool], limit_s: float) -> None:
    """Return when the condition holds, or after the time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(limit_s):
            while not condition():
                await asyncio.sleep(LOOK_S)
