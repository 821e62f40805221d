"""Reads that only the primary may answer, run beside its writer: they wait for no transaction, and end none.

They see what is committed, on read-only connections of the store's own; short ones run on the event loop, a few
milliseconds a turn, long ones in a thread. What was read is answered when it is durable (`Writer.finish_read`), as
what the writer does. Not here: reads of web processes (`pando.sql.readers`), where a read runs (`pando.sql.freshness`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

import apsw

from pando import limits
from pando.clock import Clock
from pando.errors import InternalError, NotReady, Overloaded, PandoError
from pando.store.commands import Command, Outcome, SoloControl
from pando.store.execution import refusal
from pando.store.reading import BUSY_INLINE_MS, BUSY_THREAD_MS, Reader, ReadOptions, too_slow
from pando.store.requests import Failure, Result
from pando.store.runner import Interrupted, Limit

THREADS_MAX = 2
"""Long reads of one database that run at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BesideOptions:
    """Limits of the reads of one database."""

    queue_max: int = limits.WRITE_QUEUE_MAX
    budget_s: float = limits.INLINE_BUDGET_S
    read: ReadOptions = field(default_factory=ReadOptions)


class ReadsBeside:
    """The reads of one database that are asked of its primary. All methods are the event loop's."""

    def __init__(
        self,
        path: str,
        *,
        clock: Clock,
        executor: Executor,
        finish: Callable[[Outcome], None],
        options: BesideOptions | None = None,
    ) -> None:
        """`finish` answers an outcome once what it can have seen is durable."""
        self._path = path
        self._clock = clock
        self._executor = executor
        self._finish = finish
        self._options = options or BesideOptions()
        self._loop = asyncio.get_running_loop()
        self._inline: Reader | None = None
        self._queue: deque[Command] = deque()
        self._long: deque[Command] = deque()
        self._running: list[Command] = []
        self._is_scheduled = False
        self._stopped: PandoError | None = None
        self._none_runs: asyncio.Future[None] | None = None

    @property
    def is_idle(self) -> bool:
        """Nothing waits or runs."""
        return not (self._queue or self._long or self._running)

    def submit(self, command: Command) -> None:
        """Take a command that only reads and keeps nothing open; raises Overloaded, or why no more are taken."""
        if self._stopped is not None:
            raise self._stopped.with_traceback(None)
        waiting = len(self._queue) + len(self._long)
        if waiting >= self._options.queue_max:
            raise Overloaded(f"{waiting} reads of this database wait for the primary; try again later")
        self._queue.append(command)
        self._schedule()

    def cancel(self, link: int, run_id: int) -> None:
        """Stop the command of a link with this id, queued or running."""
        self._cancel(lambda command: (command.key[0], command.run.id) == (link, run_id))

    def end_link(self, link: int) -> None:
        """Stop everything of a link that is gone."""
        self._cancel(lambda command: command.key[0] == link)

    async def close(self, error: PandoError) -> None:
        """Refuse what waits, stop what runs, and close the connections. Called again: nothing."""
        if self._stopped is None:
            self._stopped = error
            for command in (*self._queue, *self._long):
                command.answer(error)
            self._queue.clear()
            self._long.clear()
            for command in self._running:
                command.is_cancelled = True
        if self._running:
            if self._none_runs is None:
                self._none_runs = self._loop.create_future()
            await asyncio.shield(self._none_runs)
        inline, self._inline = self._inline, None
        if inline is not None:
            inline.close()

    def _cancel(self, is_meant: Callable[[Command], bool]) -> None:
        for command in (*self._queue, *self._long, *self._running):
            if is_meant(command):
                command.is_cancelled = True
        if self._queue or self._long:
            self._schedule()

    # -- turns --

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        """Run what is short for as long as the budget lasts; the event loop has more to do than this."""
        self._is_scheduled = False
        until = self._clock.monotonic() + self._options.budget_s
        try:
            while self._queue and self._clock.monotonic() < until:
                self._run_at_once(self._queue.popleft())
        finally:
            self._start_long()
            if self._queue:
                self._schedule()

    def _run_at_once(self, command: Command) -> None:
        if command.is_cancelled:
            _refuse_cancelled(command)
            return
        answer: Outcome | PandoError | None = InternalError("the read failed")  # of what is not expected below
        try:
            answer = self._at_once(command)
        except (PandoError, apsw.Error) as error:
            answer = refusal(error)
        finally:
            if isinstance(answer, Outcome):
                self._finish(answer)
            elif answer is not None:
                command.answer(answer)
            else:
                self._long.append(command)

    def _at_once(self, command: Command) -> Outcome | None:
        """Run a command; None if it is for a thread: long, or a lock was in the way, which is waited for there."""
        if self._inline is None:
            self._inline = self._open(BUSY_INLINE_MS)
        try:
            results = _run(self._inline, command, self._clock.monotonic() + self._options.budget_s)
        except Interrupted as stopped:
            if stopped.limit is Limit.BUDGET:
                return None
            raise too_slow(stopped) from stopped
        if any(type(result) is Failure and result.code == "SQLITE_BUSY" for result in results):
            return None
        return Outcome(command, results=results)

    def _start_long(self) -> None:
        while self._long and len(self._running) < THREADS_MAX:
            command = self._long.popleft()
            if command.is_cancelled:
                _refuse_cancelled(command)
                continue
            self._running.append(command)
            done = self._loop.run_in_executor(self._executor, self._long_blocking, command)
            done.add_done_callback(lambda done, command=command: self._long_done(command, done))  # type: ignore[misc]

    def _long_blocking(self, command: Command) -> list[Result]:
        reader = self._open(BUSY_THREAD_MS)
        try:
            return _run(reader, command)
        finally:
            reader.close()

    def _long_done(self, command: Command, done: asyncio.Future[list[Result]]) -> None:
        self._running.remove(command)
        error = done.exception()
        if isinstance(error, Interrupted):
            command.answer(self._stopped or too_slow(error))
        elif error is not None:
            command.answer(_told(error))
        else:
            self._finish(Outcome(command, results=done.result()))
        if self._none_runs is not None and not self._running and not self._none_runs.done():
            self._none_runs.set_result(None)
        if self._long:
            self._schedule()

    def _open(self, busy_ms: int) -> Reader:
        return Reader(self._path, self._clock, busy_ms=busy_ms, options=self._options.read)


def _run(reader: Reader, command: Command, deadline: float = float("inf")) -> list[Result]:
    """Run a command; what it leaves open is rolled back. Raises Interrupted, PandoError."""
    control = SoloControl(reader.connection, read_only=True)
    try:
        return reader.runner.run(
            command.run.requests, control, deadline=deadline, is_cancelled=lambda: command.is_cancelled
        )
    finally:
        reader.roll_back()


def _refuse_cancelled(command: Command) -> None:
    command.answer(NotReady("the request was cancelled before it ran"))


def _told(error: BaseException) -> PandoError:
    """Say what went wrong with one read."""
    return refusal(error) if isinstance(error, PandoError | apsw.Error) else InternalError(f"a read failed: {error!r}")
