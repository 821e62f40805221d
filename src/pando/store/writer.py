"""The one writer of a database: a bounded queue, group commits, interactive sessions, answers after durability.

Runs on the event loop of the store process. Short work is done right there (handing a commit to a thread costs more
than most commits); a group or command that turns out long, an interactive session, and the fsync under load go to a
thread.

Rules kept here:
- one of {group, solo command, session command, capture in a thread, hold} at a time uses the write connection;
- a command is answered once, after the position that holds its effects is durable (`pando.store.settling`);
- commands of one session run in the order in which they came;
- whatever goes wrong in an unexpected way stops the writer: everybody is answered, and the database is opened anew.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Executor
from dataclasses import dataclass, replace

from pando import limits
from pando.clock import Clock
from pando.errors import InternalError, NotReady, Overloaded, PandoError, StorageError
from pando.store.commands import Command, Outcome, SessionKey
from pando.store.execution import (
    Engine,
    ForeignCommits,
    GroupBroken,
    WriterBusy,
    refusal,
    run_group,
    run_solo,
)
from pando.store.history import ANY_TABLE, History
from pando.store.holds import Hold, Holds
from pando.store.sessions import END, Expired, Session, overdue
from pando.store.settling import RETRY_S, Confirm, Settling

__all__ = ["Confirm", "Writer", "WriterOptions", "WriterStatistics"]

SYNC_IN_THREAD_QUEUE = 12
"""From this many waiting commands on, the fsync of a group runs in a thread while the next group executes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """Limits of one writer."""

    queue_max: int = limits.WRITE_QUEUE_MAX
    group_max: int = limits.GROUP_COMMANDS_MAX
    budget_s: float = limits.INLINE_BUDGET_S
    statement_s: float = limits.STATEMENT_TIME_S
    transaction_s: float = limits.TRANSACTION_TIME_S
    capture_inline_bytes: int = limits.CAPTURE_INLINE_BYTES
    retry_s: float = RETRY_S


@dataclass(slots=True)
class WriterStatistics:
    """Counters since the writer opened."""

    groups: int = 0
    solos: int = 0


class Writer:
    """Serialises the commands of one database."""

    def __init__(
        self,
        *,
        engine: Engine,
        history: History,
        clock: Clock,
        executor: Executor,
        confirm: Confirm,
        options: WriterOptions,
        sync_executor: Executor | None = None,
    ) -> None:
        self._engine = engine
        self._history = history
        self._clock = clock
        self._executor = executor
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._settling = Settling(
            history=history,
            executor=sync_executor or executor,
            confirm=confirm,
            retry_s=options.retry_s,
            is_busy=lambda: self._is_busy,
            on_change=self._settled,
            on_broken=self._fail,
            guard=self._guarded,
        )
        self._queue: deque[Command] = deque()
        self._session: Session | None = None
        self._expired = Expired()
        self._current: list[Command] = []
        self._running: Command | None = None
        self._is_busy = False
        self._is_scheduled = False
        self._timer: asyncio.TimerHandle | None = None
        self._holds = Holds()
        self._reads: list[Outcome] = []
        self._seen_commits = engine.commits
        self.stopped: PandoError | None = None
        self.has_failed = False
        """Stopped by a fault of its own: the database should be closed and opened again."""
        self.statistics = WriterStatistics()

    # -- what the server calls --

    @property
    def is_idle(self) -> bool:
        """Nothing queued, running, or waiting for durability, and no session open."""
        return not (self._queue or self._is_busy or self._session or self._reads) and self._settling.is_empty

    @property
    def trouble(self) -> PandoError | None:
        """Why no commands are taken now, if they are not."""
        return self.stopped or self._settling.fault

    def submit(self, command: Command) -> None:
        """Queue a command; raises Overloaded or what stopped the writer."""
        trouble = self.trouble
        if trouble is not None:
            raise trouble.with_traceback(None)
        self._expired.check(command.key, self._options.transaction_s)
        session = self._session
        queue = session.queue if session is not None and command.key == session.key else self._queue
        if len(queue) >= self._options.queue_max:
            raise Overloaded(f"{len(queue)} commands wait for this database's writer; try again later")
        queue.append(command)
        if session is not None and queue is self._queue and not command.run.is_patient:
            self._watch_session()
        self._schedule()

    def finish_read(self, outcome: Outcome) -> None:
        """Answer what was read beside this writer, once all that it can have seen is durable."""
        self._reads.append(outcome)
        self._guarded(self._settle_reads)

    def cancel(self, link: int, run_id: int) -> None:
        """Stop the command of a link with this id, queued or running."""
        waiting = self._session.queue if self._session is not None else ()
        running = (self._running,) if self._running is not None else ()
        for command in (*running, *self._queue, *waiting):
            if (command.key[0], command.run.id) == (link, run_id):
                command.is_cancelled = True
        if self._session is not None and any(command.is_cancelled for command in self._queue):
            self._forget_cancelled()
        self._schedule()

    def _forget_cancelled(self) -> None:
        """Behind an open transaction they would wait, and count, for as long as it takes."""
        queue, self._queue = self._queue, deque(command for command in self._queue if not command.is_cancelled)
        for command in queue:
            if command.is_cancelled:
                self._refuse_cancelled(command)

    def end_session(self, key: SessionKey) -> None:
        """Roll back and forget a session, and refuse what is queued for it."""
        self._expired.forget(key)
        self._abandon(lambda command: command.key == key)
        if self._session is not None and self._session.key == key:
            self._end_open_session()
        self._schedule()

    def end_link(self, link: int) -> None:
        """A link is gone: drop its queued commands, roll back its session."""
        self._queue = deque(command for command in self._queue if command.key[0] != link)
        self._expired.forget_link(link)
        self._abandon(lambda command: command.key[0] == link)
        if self._session is not None and self._session.key[0] == link:
            self._session.queue.clear()
            self._end_open_session()
        self._schedule()

    def _abandon(self, is_meant: Callable[[Command], bool]) -> None:
        waiting = self._session.queue if self._session is not None else ()
        running = (self._running,) if self._running is not None else ()
        for command in (*running, *self._queue, *waiting):
            if is_meant(command):
                command.is_cancelled = command.is_abandoned = True

    def _end_open_session(self) -> None:
        if self._session is not None and END not in self._session.queue:
            self._session.queue.append(END)

    async def hold(self, kind: Hold = Hold.HURRIED) -> None:
        """Wait until nothing runs and all is durable, and start nothing until `release` of the same kind.

        Comes back too when the writer is stopped, or has trouble with the disk: look at `trouble`.
        """
        self._holds.begin(kind)
        try:
            while not self._is_quiet(kind):
                waiter = self._holds.waiter(kind)
                if kind is Hold.HURRIED:
                    self._watch_session()
                self._schedule()
                await waiter
        except BaseException:
            self.release(kind)
            raise

    def release(self, kind: Hold = Hold.HURRIED) -> None:
        """End a hold."""
        self._holds.end(kind)
        self._schedule()

    def expel(self, error: PandoError) -> None:
        """Roll back the transaction that is open, if there is one: the database is about to be closed."""
        if self._session is not None:
            self._expel(self._session, error)

    def limit_transactions(self, seconds: float) -> None:
        """Change how long an interactive transaction may hold the writer while others wait."""
        self._options = replace(self._options, transaction_s=seconds)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._watch_session()

    def look(self) -> None:
        """Notice what other programs have committed; called now and then."""
        if self._is_free() and self.trouble is None:
            self._guarded(self._catch_up)
        if self._reads:
            self._guarded(self._settle_reads)

    def stop(self, error: PandoError) -> None:
        """Take no more commands and refuse the waiting ones."""
        if self.stopped is not None:
            return
        self.stopped = error
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        current, self._current = self._current, []
        if self._running is not None and self._running is not END:
            self._running.is_cancelled = self._running.is_abandoned = True
        self._refuse_queued(error)
        self._answer_all(current, error)
        self._refuse_reads(error)
        self._session = None
        self._settling.close(error)
        self._wake_holders()

    # -- turns --

    def _guarded(self, step: Callable[..., None], *args: object) -> None:
        """Run a step of the loop; what it does not expect must not leave clients without an answer."""
        try:
            step(*args)
        except Exception as error:  # noqa: BLE001 - a bug: stop, answer everybody, recover from what is on disk
            self._fail(error if isinstance(error, PandoError) else InternalError(f"the writer failed: {error!r}"))

    def _fail(self, error: PandoError) -> None:
        self.has_failed = self.has_failed or self.stopped is None
        self.stop(error)

    def _schedule(self) -> None:
        if not self._is_scheduled and self.stopped is None:
            self._is_scheduled = True
            self._loop.call_soon(self._guarded, self._turn)

    def _is_free(self) -> bool:
        return not (self._is_busy or self._session)

    def _is_quiet(self, kind: Hold) -> bool:
        """The moment to pin a position: all is durable, or will not be."""
        if self.stopped is not None or self._settling.fault is not None:
            return not (self._is_busy or self._settling.is_syncing)
        is_still = not self._is_busy if kind is Hold.PAUSE else self._is_free()
        if not (is_still and self._settling.is_settled):
            return False
        try:
            return not self._history.is_behind()
        except StorageError as error:
            self._fail(error)
            return True

    def _turn(self) -> None:
        self._is_scheduled = False
        if self._is_busy or self.stopped is not None:
            return
        if self._settling.fault is not None:
            self._refuse_queued(self._settling.fault)
            self._wake_holders()
        elif self._session is not None and not self._is_paused():
            self._turn_session(self._session)
        elif self._holds:
            if self._session is None and self._settling.is_settled and self._history.is_behind():
                self._catch_up()
            self._wake_holders()
        elif self._queue and not self._is_far_ahead():
            self._start_next()

    def _is_far_ahead(self) -> bool:
        """Much is committed that the disk has not taken yet: wait, so that what is held in memory stays bounded."""
        return (
            self._settling.waiting >= self._options.queue_max
            or self._history.pending_bytes >= limits.WRITE_AHEAD_BYTES_MAX
        )

    def _is_paused(self) -> bool:
        """Tell whether an open transaction must not go on now.

        What another program has committed behind it is captured after it only: then it goes on, and is waited for.
        """
        return self._holds.pause and not self._history.is_behind()

    def _turn_session(self, session: Session) -> None:
        if session.queue:
            command = session.queue.popleft()
            if command.is_cancelled and command is not END:
                self._refuse_cancelled(command)
            else:
                self._start_solo(command)

    def _refuse_queued(self, error: PandoError) -> None:
        queued, self._queue = [*self._queue], deque[Command]()
        session = self._session
        if session is not None:
            queued += [command for command in session.queue if command is not END]
            session.queue = deque(command for command in session.queue if command is END)
        self._answer_all(queued, error)

    def _refuse_cancelled(self, command: Command) -> None:
        command.answer(NotReady("the request was cancelled before it ran"))
        self._schedule()

    def _start_next(self) -> None:
        first = self._queue[0]
        if first.is_cancelled:
            self._refuse_cancelled(self._queue.popleft())
        elif first.is_solo or first.is_slow:
            self._start_solo(self._queue.popleft())
        else:
            self._current = self._take_group()
            self._run_group(self._current)

    def _take_group(self) -> list[Command]:
        group: list[Command] = []
        sessions: set[SessionKey] = set()
        queue = self._queue
        while queue and len(group) < self._options.group_max:
            command = queue[0]
            if command.is_solo or command.is_slow or command.is_cancelled or command.key in sessions:
                break
            if command.key[1]:
                sessions.add(command.key)  # a second one must not go before the first, should that have to be alone
            group.append(queue.popleft())
        return group

    def _run_group(self, group: list[Command]) -> None:
        self.statistics.groups += 1
        try:
            outcomes = run_group(self._engine, group, self._options.budget_s)
        except GroupBroken as broken:
            self._regroup(group, broken)
            return
        except WriterBusy:
            for command in group:
                command.is_solo = True
            self._put_back(group)
            return
        except ForeignCommits:
            self._put_back(group)
            self._catch_up()
            return
        except StorageError as error:
            self._put_back(group)
            self._settling.failed(error)
            return
        self._put_back(group[len(outcomes) :])
        self._put_back([outcome.command for outcome in outcomes if outcome.command.is_solo])
        done = [outcome for outcome in outcomes if not outcome.command.is_solo]
        self._current = [outcome.command for outcome in done]
        self._finish(done)

    def _regroup(self, group: list[Command], broken: GroupBroken) -> None:
        if broken.culprit is None:
            for command in group:
                command.is_solo = True
        self._put_back(group)
        self._history.nothing_committed()

    def _put_back(self, commands: list[Command]) -> None:
        """Put commands in front of the queue again; those that cannot share a transaction last, so as not to split
        it.
        """
        self._current = []
        if commands:
            commands.sort(key=lambda command: command.is_solo or command.is_slow)
            self._queue.extendleft(reversed(commands))
            self._schedule()

    def _catch_up(self) -> None:
        """Capture what another program has committed."""
        if self._history.is_behind():
            self._finish([])

    # -- commands alone, in a thread --

    def _start_solo(self, command: Command) -> None:
        self.statistics.solos += 1
        self._is_busy = True
        self._running = command
        future = self._loop.run_in_executor(self._executor, self._solo_blocking, command, self._session is not None)
        future.add_done_callback(lambda done: self._guarded(self._solo_done, command, done))

    def _solo_blocking(self, command: Command, session_is_open: bool) -> Outcome:
        try:
            if command is END:
                self._engine.roll_back()
                return Outcome(command, results=[])
            return run_solo(self._engine, command, self._options.statement_s, session_is_open=session_is_open)
        except BaseException:
            self._engine.roll_back()
            raise

    def _solo_done(self, command: Command, done: asyncio.Future[Outcome]) -> None:
        self._is_busy = False
        self._running = None
        error = done.exception()
        if self.stopped is not None:
            if command is not END:
                command.answer(self.stopped)
            self._wake_holders()
            return
        if isinstance(error, ForeignCommits):
            self._put_back([command])
            self._catch_up()
            return
        outcome = Outcome(command, error=refusal(error)) if error is not None else done.result()
        self._current = [] if command is END else [command]
        self._follow_session(outcome)
        self._finish([outcome] if command is not END else [])

    def _follow_session(self, outcome: Outcome) -> None:
        """Note that a session began or ended with this command."""
        command, session = outcome.command, self._session
        if outcome.is_open and session is None:
            self._session = session = Session(command.key, self._clock.monotonic())
            session.queue.extend(waiting for waiting in self._queue if waiting.key == command.key)
            self._queue = deque(waiting for waiting in self._queue if waiting.key != command.key)
            if self._is_waited_for():
                self._watch_session()
        if session is not None and command is not END:
            session.tables |= command.tables
            command.tables |= session.tables
        if not outcome.is_open and session is not None:
            self._session = None
            if session.is_expired and (command is END or outcome.error is not None):
                self._expired.add(session.key)
                if outcome.error is not None:
                    outcome.error = overdue(self._options.transaction_s)
            rest = [waiting for waiting in session.queue if waiting is not END]
            self._queue.extendleft(reversed(rest))
        if command.is_abandoned:
            self._end_open_session()

    def _watch_session(self) -> None:
        if self._timer is None and self._session is not None and self.stopped is None:
            at = self._session.opened_at + self._options.transaction_s
            self._timer = self._loop.call_later(
                max(0.0, at - self._clock.monotonic()), self._guarded, self._expire_session
            )

    def _is_waited_for(self) -> bool:
        """Tell whether somebody wants the writer who need not wait for longer than is fair."""
        return self._holds.hurry or any(not command.run.is_patient for command in self._queue)

    def _expire_session(self) -> None:
        self._timer = None
        session = self._session
        if session is None or not self._is_waited_for():
            return
        if self._clock.monotonic() < session.opened_at + self._options.transaction_s:
            self._watch_session()
            return
        session.is_expired = True
        self._expel(session, overdue(self._options.transaction_s))

    def _expel(self, session: Session, error: PandoError) -> None:
        self._answer_all((command for command in session.queue if command is not END), error)
        session.queue.clear()
        if self._running is not None and self._running is not END:
            self._running.is_cancelled = True
        self._end_open_session()
        self._schedule()

    # -- after a commit --

    def _finish(self, outcomes: list[Outcome]) -> None:
        """Capture and log what was committed; then the answers wait until it is durable."""
        if self._engine.may_need_feed and self._session is None:
            self._begin_feed()
        tables = tuple(sorted({table for outcome in outcomes for table in outcome.command.tables}))
        if ANY_TABLE[0] in tables:
            tables = ANY_TABLE
        commits = self._engine.commits - self._seen_commits
        self._seen_commits = self._engine.commits
        try:
            if self._history.backlog_bytes() > self._options.capture_inline_bytes:
                self._capture_in_thread(outcomes, tables, commits)
                return
            self._history.advance(tables, commits=commits)
        except StorageError as error:
            self._captured(outcomes, error)
        else:
            self._captured(outcomes, None)

    def _begin_feed(self) -> None:
        """Begin it with the commit that made it needed; if that fails, `Engine.begin` does before the next one."""
        with contextlib.suppress(WriterBusy, StorageError):
            self._engine.begin_feed()

    def _capture_in_thread(self, outcomes: list[Outcome], tables: tuple[str, ...], commits: int) -> None:
        self._is_busy = True
        future = self._loop.run_in_executor(self._executor, lambda: self._history.advance(tables, commits=commits))
        future.add_done_callback(lambda done: self._guarded(self._captured_in_thread, outcomes, done.exception()))

    def _captured_in_thread(self, outcomes: list[Outcome], error: BaseException | None) -> None:
        self._is_busy = False
        if self.stopped is not None:
            self._wake_holders()
        elif error is None or isinstance(error, StorageError):
            self._captured(outcomes, error)
        else:
            raise error

    def _captured(self, outcomes: list[Outcome], error: StorageError | None) -> None:
        self._current = []
        if self._history.had_foreign:
            self._history.had_foreign = False
            self._engine.forget_schema()
        if error is not None:
            self._answer_all((outcome.command for outcome in outcomes), error)
            self._settling.failed(error)
        else:
            self._settling.add(outcomes, is_busy=len(self._queue) >= SYNC_IN_THREAD_QUEUE)
        if self._reads:
            self._settle_reads()
        if self._queue or self._session or self._holds:
            self._schedule()

    def _settle_reads(self) -> None:
        """Let reads wait for the present position, unless somebody has committed what it does not have yet.

        Then the capture that comes with the end of what runs settles them, or the next look.
        """
        if self.trouble is not None:
            self._refuse_reads(self.trouble)
        elif self._history.is_logged and not self._history.is_behind():
            reads, self._reads = self._reads, []
            self._settling.add(reads, is_busy=len(self._queue) >= SYNC_IN_THREAD_QUEUE)

    def _refuse_reads(self, error: PandoError) -> None:
        reads, self._reads = self._reads, []
        self._answer_all((outcome.command for outcome in reads), error)

    def _answer_all(self, commands: Iterable[Command], error: PandoError) -> None:
        for command in commands:
            command.answer(error)

    def _settled(self) -> None:
        """Something became durable, or will not be."""
        if self.stopped is not None:
            self._wake_holders()
        elif self._queue or self._session or self._holds or self._settling.fault is not None:
            self._schedule()

    def _wake_holders(self) -> None:
        self._holds.wake(self._is_quiet)
