"""Work that follows a request and that its answer does not wait for, such as noting where somebody signed in.

What cannot be done now (no primary, an overloaded store) is not done; only what may be lost is done here. Not here:
work that comes round again and again (`pando.api.site`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

from pando.errors import InternalError, PandoError

TASKS_MAX: Final = 256
"""Under way at once; more are left undone."""


class Aside:
    """Tasks of one event loop."""

    def __init__(self, tasks_max: int = TASKS_MAX) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._tasks_max = tasks_max

    def begin(self, work: Coroutine[Any, Any, None]) -> bool:
        """Begin something; False if there is too much under way already."""
        if len(self._tasks) >= self._tasks_max:
            work.close()
            return False
        task = asyncio.get_running_loop().create_task(_tried(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def until_done(self) -> None:
        """Wait for all that was begun."""
        while self._tasks:
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def close(self) -> None:
        """Break off what is under way."""
        for task in self._tasks:
            task.cancel()
        await self.until_done()


async def _tried(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except InternalError:
        raise
    except PandoError:
        return
