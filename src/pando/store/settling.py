"""From "committed" to "answered": the second half of a writer.

Outcomes wait here until the log holds their effects durably; then their clients are answered. Under load the fsync
runs in a thread while the next group executes. After a storage fault everybody who waits is told, nothing new is
taken, and what was committed is written to the log again and again until the disk takes it. Not here: running
commands.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass

from pando.errors import InternalError, PandoError, StorageError, StorageFull
from pando.store.commands import Outcome
from pando.store.history import ANY_TABLE, History
from pando.store.protocol import Ran
from pando.types import TXID

RETRY_S = 1.0
"""Pause between two tries after a storage fault."""
RETRIES_MAX = 5
"""After so many, other than for want of space, the database is closed and recovered."""

Confirm = Callable[[Outcome, Ran], None]
"""Called with an outcome whose position is durable here; answers it, at once or when a quorum has confirmed."""


@dataclass(slots=True)
class _Waiting:
    """Answers that wait until a TXID is durable."""

    txid: TXID
    outcomes: deque[Outcome]


class Settling:
    """Makes commits durable and answers those who wait for that. All methods are the event loop's.

    `is_busy` tells whether a thread runs commands; `on_change` is called when something settled that others may have
    waited for, `on_broken` when it cannot go on; `guard` runs callbacks of the loop.
    """

    def __init__(
        self,
        *,
        history: History,
        executor: Executor,
        confirm: Confirm,
        retry_s: float,
        is_busy: Callable[[], bool],
        on_change: Callable[[], None],
        on_broken: Callable[[PandoError], None],
        guard: Callable[..., None],
    ) -> None:
        self._history = history
        self._executor = executor
        self._confirm = confirm
        self._retry_s = retry_s
        self._is_busy = is_busy
        self._on_change = on_change
        self._on_broken = on_broken
        self._guard = guard
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Waiting] = deque()
        self._retry: asyncio.TimerHandle | None = None
        self._tries = 0
        self._is_closed = False
        self.is_syncing = False
        self.fault: StorageError | None = None

    @property
    def waiting(self) -> int:
        """How many outcomes wait to be answered."""
        return sum(len(waiting.outcomes) for waiting in self._waiting)

    @property
    def is_empty(self) -> bool:
        """Nobody waits and no thread syncs."""
        return not (self._waiting or self.is_syncing)

    @property
    def is_settled(self) -> bool:
        """Everything that was captured is durable and published."""
        return self.is_empty and self._history.is_settled

    def add(self, outcomes: list[Outcome], *, is_busy: bool) -> None:
        """Answer these when the present position is durable; `is_busy`: more commands wait, so sync in a thread."""
        self._waiting.append(_Waiting(self._history.position.txid, deque(outcomes)))
        self._drive(is_busy)

    def failed(self, error: StorageError) -> None:
        """What was committed could not be captured or logged: try again later, take nothing new until then."""
        self._answer_durable()
        self.fault = error
        self._refuse(error)
        if self._retry is None and not self._is_closed:
            self._retry = self._loop.call_later(self._retry_s, self._guard, self._try_again)
        self._on_change()

    def close(self, error: PandoError) -> None:
        """Refuse those who wait, and try nothing more."""
        self._is_closed = True
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        self._refuse(error)

    # -- inside --

    def _drive(self, is_busy: bool) -> None:
        if self.is_syncing:
            return
        if self._history.durable.txid >= self._history.position.txid:
            self._durable()
        elif is_busy:
            self._sync_in_thread()
        else:
            try:
                self._history.sync()
            except StorageError as error:
                self.failed(error)
            else:
                self._durable()

    def _sync_in_thread(self) -> None:
        self.is_syncing = True
        future = self._loop.run_in_executor(self._executor, self._history.sync)
        future.add_done_callback(lambda done: self._guard(self._synced, done.exception()))

    def _synced(self, error: BaseException | None) -> None:
        self.is_syncing = False
        if self._is_closed:
            self._on_change()
        elif isinstance(error, StorageError):
            self.failed(error)
        elif error is not None:
            self._on_broken(InternalError(f"the fsync of the log failed in an unexpected way: {error!r}"))
        else:
            self._durable()
            if self._waiting and self.fault is None:
                self._drive(is_busy=False)

    def _durable(self) -> None:
        if self._history.is_logged and self._history.durable.txid >= self._history.position.txid:
            self.fault, self._tries = None, 0
        self._answer_durable()
        self._on_change()

    def _answer_durable(self) -> None:
        durable = self._history.durable.txid
        published = self._history.publish(durable)
        if published:
            # In the next turn, behind the answers: a client that waits for nothing more should not wait for this.
            self._loop.call_soon(self._guard, self._history.hand_out, published)
        epoch = self._history.epoch
        while self._waiting and self._waiting[0].txid <= durable:
            waiting = self._waiting[0]
            while waiting.outcomes:
                self._tell(waiting.outcomes.popleft(), epoch, waiting.txid)
            self._waiting.popleft()

    def _tell(self, outcome: Outcome, epoch: int, txid: TXID) -> None:
        if outcome.error is not None:
            outcome.command.answer(outcome.error)
        else:
            ran = Ran(outcome.command.run.id, outcome.results or [], epoch, txid, not outcome.is_open)
            try:
                self._confirm(outcome, ran)
            except PandoError as error:
                outcome.command.answer(error)

    def _refuse(self, error: PandoError) -> None:
        while self._waiting:
            for outcome in self._waiting.popleft().outcomes:
                outcome.command.answer(error)

    # -- after a fault --

    def _try_again(self) -> None:
        self._retry = None
        if self._is_closed:
            return
        if self.is_syncing or self._is_busy():
            self._retry = self._loop.call_later(self._retry_s, self._guard, self._try_again)
            return
        self.is_syncing = True
        future = self._loop.run_in_executor(self._executor, self._recover_blocking)
        future.add_done_callback(lambda done: self._guard(self._recovered, done.exception()))

    def _recover_blocking(self) -> None:
        self._history.advance(ANY_TABLE, commits=-1)
        self._history.sync()

    def _recovered(self, error: BaseException | None) -> None:
        self.is_syncing = False
        if self._is_closed:
            self._on_change()
        elif error is None:
            self._durable()
        elif not isinstance(error, StorageError):
            self._on_broken(
                error if isinstance(error, PandoError) else InternalError(f"recovery of the log: {error!r}")
            )
        else:
            self._tries += not isinstance(error, StorageFull)
            if self._tries > RETRIES_MAX:
                self._on_broken(error)
            else:
                self.failed(error)
