"""The one writer of a database: a bounded queue, group commits, interactive sessions, answers after durability.

Runs on the event loop of the store process. Short work is done right there (handing a commit to a thread costs more than
most commits); a group or command that turns out long, an interactive session, and the fsync under load go to a thread.

Rules kept here:
- one of {group, solo command, session command, hold} at a time uses the write connection (`_is_busy`);
- a command is answered once, after the position that holds its effects is durable;
- after a storage fault nothing new is executed before what was committed is in the log (`_settle`).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field

from pando import limits
from pando.clock import Clock
from pando.errors import InternalError, NotReady, Overloaded, PandoError, StorageError, TransactionTimeout
from pando.store.commands import Command, Outcome, SessionKey
from pando.store.execution import Engine, GroupBroken, WriterBusy, refusal, run_group, run_solo
from pando.store.history import History
from pando.store.protocol import Ran, Run
from pando.types import TXID

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


@dataclass(slots=True)
class Session:
    """An interactive transaction: it owns the writer until it ends."""

    key: SessionKey
    opened_at: float
    queue: deque[Command] = field(default_factory=deque)


@dataclass(slots=True)
class Waiting:
    """Answers that wait until a TXID is durable."""

    txid: TXID
    outcomes: list[Outcome]


@dataclass(slots=True)
class WriterStatistics:
    """Counters since the writer opened."""

    commands: int = 0
    groups: int = 0
    solos: int = 0
    threads: int = 0
    broken: int = 0


Confirm = Callable[[Outcome, Ran], None]
"""Called with an outcome whose position is durable here; answers it, at once or when a quorum has confirmed."""


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
    ) -> None:
        self._engine = engine
        self._history = history
        self._clock = clock
        self._executor = executor
        self._confirm = confirm
        self._options = options
        self._loop = asyncio.get_running_loop()
        self._queue: deque[Command] = deque()
        self._session: Session | None = None
        self._expired: dict[SessionKey, None] = {}
        self._waiting: deque[Waiting] = deque()
        self._running: Command | None = None
        self._is_busy = False
        self._is_syncing = False
        self._is_scheduled = False
        self._retry: asyncio.TimerHandle | None = None
        self._idle_waiters: list[asyncio.Future[None]] = []
        self._holds = 0
        self.stopped: PandoError | None = None
        self.statistics = WriterStatistics()

    # -- what the server calls --

    @property
    def is_idle(self) -> bool:
        """Nothing queued, running, or waiting for durability, and no session open."""
        return not (self._queue or self._is_busy or self._session or self._waiting or self._is_syncing)

    @property
    def is_quiet(self) -> bool:
        """Nothing runs and every commit is durable: the moment to pin a position."""
        return not (self._is_busy or self._session or self._is_syncing) and self._history.is_settled

    def submit(self, command: Command) -> None:
        """Queue a command; raises Overloaded or what stopped the writer."""
        if self.stopped is not None:
            raise self.stopped
        if command.key in self._expired:
            raise TransactionTimeout(
                f"the transaction was open for more than {self._options.transaction_s:g} s while others waited; it was rolled back"
            )
        if self._session is not None and command.key == self._session.key:
            self._session.queue.append(command)
        elif len(self._queue) >= self._options.queue_max:
            raise Overloaded(f"{len(self._queue)} commands wait for this database's writer; try again later")
        else:
            self._queue.append(command)
            if self._session is not None:
                self._watch_session()
        self._schedule()

    def cancel(self, link: int, run_id: int) -> None:
        """Stop the command of a link with this id, queued or running."""
        running = self._running
        if running is not None and (running.key[0], running.run.id) == (link, run_id):
            running.is_cancelled = True
        for command in self._queue:
            if (command.key[0], command.run.id) == (link, run_id):
                command.is_cancelled = True

    def end_session(self, key: SessionKey) -> None:
        """Roll back and forget a session."""
        self._expired.pop(key, None)
        if self._session is not None and self._session.key == key:
            self._session.queue.append(Command(run=_NOTHING, key=key, answer=_ignore, is_solo=True, is_cancelled=True))
            self._schedule()

    def end_link(self, link: int) -> None:
        """A link is gone: drop its queued commands and its session."""
        self._queue = deque(command for command in self._queue if command.key[0] != link)
        for key in [key for key in self._expired if key[0] == link]:
            del self._expired[key]
        if self._running is not None and self._running.key[0] == link:
            self._running.is_cancelled = True
        if self._session is not None and self._session.key[0] == link:
            self.end_session(self._session.key)

    async def hold(self) -> None:
        """Wait until nothing runs and all is durable, and start nothing until `release`."""
        self._holds += 1
        while not self.is_quiet and self.stopped is None:
            waiter = self._loop.create_future()
            self._idle_waiters.append(waiter)
            self._watch_session()
            self._schedule()
            await waiter

    def release(self) -> None:
        """End a hold."""
        self._holds -= 1
        self._schedule()

    def stop(self, error: PandoError) -> None:
        """Take no more commands and refuse the waiting ones."""
        if self.stopped is not None:
            return
        self.stopped = error
        commands = [*self._queue, *(self._session.queue if self._session else ())]
        self._queue.clear()
        self._session = None
        for command in commands:
            command.answer(error)
        for waiting in self._waiting:
            self._answer_all(waiting.outcomes, error)
        self._waiting.clear()
        self._wake_holders()

    # -- turns --

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        if self._is_busy or self.stopped is not None:
            return
        if self._session is not None:
            if self._session.queue:
                self._start_solo(self._session.queue.popleft())
            return
        if self._holds:
            self._wake_holders()
            return
        if not self._queue:
            return
        if not self._settle():
            return
        self._start_next()

    def _start_next(self) -> None:
        first = self._queue[0]
        if first.is_cancelled:
            self._queue.popleft().answer(NotReady("the request was cancelled before it ran"))
            self._schedule()
        elif first.is_solo or first.is_slow:
            self._start_solo(self._queue.popleft())
        else:
            self._run_group(self._take_group())

    def _take_group(self) -> list[Command]:
        group: list[Command] = []
        queue = self._queue
        while queue and len(group) < self._options.group_max:
            if queue[0].is_solo or queue[0].is_slow or queue[0].is_cancelled:
                break
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
        except Exception as error:  # noqa: BLE001 - whatever SQLite does, every client of the group must hear of it
            self._engine.roll_back()
            self._answer_all([Outcome(command) for command in group], refusal(error))
            self._schedule()
            return
        self._put_back(group[len(outcomes) :])
        self._put_back([outcome.command for outcome in outcomes if outcome.command.is_solo])
        self._finish([outcome for outcome in outcomes if not outcome.command.is_solo])

    def _regroup(self, group: list[Command], broken: GroupBroken) -> None:
        self.statistics.broken += 1
        if broken.culprit is None:
            for command in group:
                command.is_solo = True
        self._put_back(group)

    def _put_back(self, commands: list[Command]) -> None:
        if commands:
            self._queue.extendleft(reversed(commands))
            # Those that cannot share a transaction go last, so that they do not split what can.
            if len({command.is_solo or command.is_slow for command in commands}) == 2:
                self._queue = deque(sorted(self._queue, key=lambda command: command.is_solo or command.is_slow))
            self._schedule()

    # -- commands alone, in a thread --

    def _start_solo(self, command: Command) -> None:
        self.statistics.solos += 1
        self.statistics.threads += 1
        self._is_busy = True
        self._running = command
        future = self._loop.run_in_executor(self._executor, self._solo_blocking, command, self._session is not None)
        future.add_done_callback(lambda done: self._solo_done(command, done))

    def _solo_blocking(self, command: Command, session_is_open: bool) -> Outcome:
        if command.run is _NOTHING:
            self._engine.roll_back()
            return Outcome(command, results=[])
        return run_solo(self._engine, command, self._options.statement_s, session_is_open=session_is_open)

    def _solo_done(self, command: Command, done: asyncio.Future[Outcome]) -> None:
        self._is_busy = False
        self._running = None
        error = done.exception()
        if error is not None:
            self._engine.roll_back()
            outcome = Outcome(
                command, error=refusal(error) if isinstance(error, Exception) else InternalError(str(error))
            )
        else:
            outcome = done.result()
        if self.stopped is not None:
            command.answer(self.stopped)
            return
        self._follow_session(command, outcome)
        if outcome.is_open:
            self._answer_open(outcome)
        else:
            self._finish([outcome])

    def _follow_session(self, command: Command, outcome: Outcome) -> None:
        session = self._session
        if outcome.is_open and session is None:
            self._session = Session(command.key, self._clock.monotonic())
            own = [waiting for waiting in self._queue if waiting.key == command.key]
            if own:
                self._queue = deque(waiting for waiting in self._queue if waiting.key != command.key)
                self._session.queue.extend(own)
            if self._queue:
                self._watch_session()
        elif not outcome.is_open and session is not None:
            self._session = None
            self._queue.extendleft(reversed(session.queue))

    def _answer_open(self, outcome: Outcome) -> None:
        position = self._history.position
        outcome.command.answer(
            Ran(outcome.command.run.id, outcome.results or [], position.epoch, position.txid, is_autocommit=False)
        )
        self._schedule()

    def _watch_session(self) -> None:
        if self._retry is None and self._session is not None:
            at = self._session.opened_at + self._options.transaction_s
            self._retry = self._loop.call_later(max(0.0, at - self._clock.monotonic()), self._expire_session)

    def _expire_session(self) -> None:
        self._retry = None
        session = self._session
        if session is None or not (self._queue or self._holds):
            return
        if self._clock.monotonic() < session.opened_at + self._options.transaction_s:
            self._watch_session()
            return
        self._expired[session.key] = None
        while len(self._expired) > limits.STREAMS_MAX:
            self._expired.pop(next(iter(self._expired)))
        for command in session.queue:
            command.answer(TransactionTimeout("the transaction was rolled back: others waited for too long"))
        session.queue.clear()
        if self._running is not None:
            self._running.is_cancelled = True
        session.queue.append(Command(run=_NOTHING, key=session.key, answer=_ignore, is_solo=True))
        self._schedule()

    # -- after a commit --

    def _finish(self, outcomes: list[Outcome]) -> None:
        """Capture and log what was committed, then answer when it is durable."""
        self.statistics.commands += len(outcomes)
        tables: set[str] = set()
        for outcome in outcomes:
            tables |= outcome.command.tables
        try:
            self._history.advance(tuple(sorted(tables)))
        except StorageError as error:
            self._answer_all(outcomes, error)
            self._retry_later()
            return
        except PandoError as error:
            self.stop(error)
            self._answer_all(outcomes, error)
            return
        self._waiting.append(Waiting(self._history.position.txid, outcomes))
        self._sync()
        if self._queue or self._session:
            self._schedule()

    def _sync(self) -> None:
        if self._is_syncing:
            return
        if self._history.durable.txid >= self._history.position.txid:
            self._answer_durable(self._history.durable.txid)
        elif len(self._queue) >= SYNC_IN_THREAD_QUEUE:
            self._is_syncing = True
            future = self._loop.run_in_executor(self._executor, self._history.sync)
            future.add_done_callback(lambda done: self._sync_done(done.exception()))
        else:
            try:
                self._history.sync()
            except StorageError as error:
                self._sync_failed(error)
            else:
                self._answer_durable(self._history.durable.txid)

    def _sync_done(self, error: BaseException | None) -> None:
        self._is_syncing = False
        if isinstance(error, StorageError):
            self._sync_failed(error)
            return
        if error is not None:
            self.stop(InternalError(f"fsync of the log failed in an unexpected way: {error!r}"))
            return
        self._answer_durable(self._history.durable.txid)
        if self._waiting:
            self._sync()
        if self._holds:
            self._schedule()

    def _sync_failed(self, error: StorageError) -> None:
        while self._waiting:
            self._answer_all(self._waiting.popleft().outcomes, error)
        try:
            self._history.restart_unpublished()
        except StorageError as broken:
            self.stop(broken)
            return
        self._retry_later()

    def _settle(self) -> bool:
        """Before anything new: what is committed must be in the log. False when the disk still refuses."""
        try:
            if self._history.log_pending():
                self._history.sync()
                self._history.publish(self._history.durable.txid)
        except StorageError as error:
            commands = list(self._queue)
            self._queue.clear()
            for command in commands:
                command.answer(error)
            self._retry_later()
            return False
        return True

    def _retry_later(self) -> None:
        self._loop.call_later(1.0, self._settle_quietly)

    def _settle_quietly(self) -> None:
        if self.stopped is None and not self._is_busy and not self._is_syncing:
            self._settle()
            self._schedule()

    def _answer_durable(self, durable: TXID) -> None:
        self._history.publish(durable)
        epoch = self._history.epoch
        while self._waiting and self._waiting[0].txid <= durable:
            waiting = self._waiting.popleft()
            for outcome in waiting.outcomes:
                if outcome.error is not None:
                    outcome.command.answer(outcome.error)
                else:
                    run = outcome.command.run
                    self._confirm(outcome, Ran(run.id, outcome.results or [], epoch, waiting.txid, is_autocommit=True))
        if self._holds:
            self._schedule()

    def _answer_all(self, outcomes: list[Outcome], error: PandoError) -> None:
        for outcome in outcomes:
            outcome.command.answer(error)

    def _wake_holders(self) -> None:
        if self.is_quiet or self.stopped is not None:
            waiters, self._idle_waiters = self._idle_waiters, []
            for waiter in waiters:
                if not waiter.done():
                    waiter.set_result(None)


def _ignore(answer: Ran | PandoError) -> None:
    """Answer nobody."""


_NOTHING = Run(0, "", 0, ())
"""The command that only ends a session."""
