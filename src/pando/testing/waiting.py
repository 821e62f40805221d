"""Scenarios with a limit, and waiting for a condition with a deadline, instead of sleeping. In real time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import uvloop

T = TypeVar("T")

_POLL_S = 0.005


def run(scenario: Coroutine[Any, Any, T], limit_s: float = 30) -> T:
    """Run a scenario on an event loop as nodes have it; one that never ends fails instead of hanging."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(scenario, limit_s))


async def until(condition: Callable[[], bool], deadline_s: float = 20) -> None:
    """Return once the condition holds; raises TimeoutError after the deadline."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(_POLL_S)


async def turns(count: int = 10) -> None:
    """Let the event loop go round a few times, for callbacks that were scheduled already."""
    for _ in range(count):
        await asyncio.sleep(0)
