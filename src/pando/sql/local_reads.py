"""Runs reads on a web process's own connections: short ones on the event loop, long ones again in a thread.

Which statements needed a thread is remembered by their text, so that they do not cost the budget first. Not here:
which connection (see `pando.sql.readers`), whether a request may be read here at all (see `pando.sql.service`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from pando.clock import Clock
from pando.sql.readers import DatabaseReads, ReadPool, Watch
from pando.store.reading import Reader, too_slow
from pando.store.requests import Execute, Failure, Request, Result
from pando.store.runner import Interrupted, Limit

SLOW_TEXTS_MAX: Final = 256
"""Statements remembered as too long for the event loop."""


class LocalReads:
    """Reads of one web process."""

    def __init__(self, pool: ReadPool, clock: Clock, inline_budget_s: float) -> None:
        self.pool = pool
        self._clock = clock
        self._inline_budget_s = inline_budget_s
        self._slow: dict[str, None] = {}

    async def read(self, reads: DatabaseReads, requests: Sequence[Request], watch: Watch | None = None) -> list[Result]:
        """Run requests that only read. Waits for nothing if they are short. Raises PandoError."""
        results = None if self.are_slow(requests) else self.at_once(reads.inline, requests)
        if results is None:
            reader = reads.take()
            try:
                results = await self.in_thread(reader, requests, watch)
            finally:
                reads.give_back(reader)
        return results

    def at_once(self, reader: Reader, requests: Sequence[Request]) -> list[Result] | None:
        """Run on the event loop; None if the budget was not enough, which is remembered, or a lock was in the way."""
        try:
            results = reader.run(requests, self._clock.monotonic() + self._inline_budget_s)
            for result in results:
                if type(result) is Failure and result.code == "SQLITE_BUSY":
                    return None
            return results
        except Interrupted as stopped:
            if stopped.limit is not Limit.BUDGET:
                raise too_slow(stopped) from stopped
        text = only_text(requests)
        if text is not None:
            self._slow[text] = None
            if len(self._slow) > SLOW_TEXTS_MAX:
                del self._slow[next(iter(self._slow))]
        return None

    def are_slow(self, requests: Sequence[Request]) -> bool:
        """Tell whether a statement is known to need a thread."""
        if not self._slow:
            return False
        return any(type(request) is Execute and request.statement.sql in self._slow for request in requests)

    async def in_thread(self, reader: Reader, requests: Sequence[Request], watch: Watch | None) -> list[Result]:
        """Run on a connection that nobody else uses. Raises PandoError."""
        started = self._clock.monotonic()
        results = await self.pool.run_slow(reader, requests, watch)
        text = only_text(requests)
        if text is not None and self._clock.monotonic() - started < self._inline_budget_s / 2:
            self._slow.pop(text, None)
        return results


def only_text(requests: Sequence[Request]) -> str | None:
    """Give the text of a pipeline's only statement."""
    if len(requests) == 1 and isinstance(requests[0], Execute):
        return requests[0].statement.sql
    return None
