"""Connections that clients of libSQL's first protocol have through HTTP: each names its own with every request.

Nothing in a request says whether its client believes to be in a transaction. So of each that is open there is a mark on
the disk: a process that does not know the client (it was restarted, the client was idle for too long) sees by the mark
that a transaction was lost, and says so once, with the state in which the client has none. Without that, what was to
be part of a transaction would take effect by itself. Not here: messages (`pando.sql.embedded_messages`), which process
a client's requests go to (`pando.api.embedded_v1`).
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pando.clock import Clock
from pando.errors import StorageError, StreamExpired
from pando.sql.calls import Call
from pando.sql.streams import Stream
from pando.store.requests import Batch, BatchResult, Describe, Failure, Request, Result, StatementResult
from pando.types import Bookmark

IDLE_S: Final = 30.0
"""As with sqld."""
SWEEP_S: Final = 5.0
MARKS_S_MAX: Final = 86_400.0
"""A mark whose client did not come back in this time goes."""
LOST: Final = Failure(
    "The transaction was lost, since the node was restarted, lost its primary, or heard nothing for 30 s; nothing of "
    "it took effect. Begin it again",
    StreamExpired.code,
)
_NOTHING: Final = BatchResult([StatementResult((), [])], [None])


class Service(Protocol):
    """What is needed of the SQL service."""

    def attach(self, database: str) -> Stream:
        """Make a stream that lives until `detach`. Raises Overloaded."""
        ...

    def detach(self, stream: Stream) -> None:
        """Forget such a stream."""
        ...

    async def run_attached_at(self, stream: Stream, request: Request, call: Call) -> tuple[Result, Bookmark | None]:
        """Run one request of such a stream."""
        ...


@dataclass(slots=True, eq=False)
class _Session:
    stream: Stream
    mark: Path
    is_marked: bool
    used: float
    is_told: bool = False
    """Its client was told that its transaction was lost; it may still roll it back."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a request gave, and how the client's connection is afterwards."""

    result: Result
    bookmark: Bookmark | None
    is_autocommit: bool


class ProxySessions:
    """The connections of one process."""

    def __init__(self, service: Service, clock: Clock, folder: Path) -> None:
        self._service = service
        self._clock = clock
        self._folder = folder
        self._sessions: dict[tuple[str, str, bytes], _Session] = {}
        self._sweeping: asyncio.TimerHandle | None = None

    async def run(self, client: str, request: Request, call: Call) -> Outcome:
        """Run a request on a client's connection. Raises PandoError."""
        session = self._session(client, call)
        async with session.lock:
            session.used = self._clock.monotonic()
            if not isinstance(request, Describe) and (told := self._tell(session, request)) is not None:
                return told
            had = session.stream.has_transaction
            try:
                result, bookmark = await self._service.run_attached_at(session.stream, request, call)
            finally:
                session.used = self._clock.monotonic()
                session.stream.lost = None  # it is said with the state, and requests come one by one
            has = session.stream.has_transaction
            if has and not session.is_marked:
                self._mark(session)
            elif had and not has:
                self._unmark(session)
            return Outcome(result, bookmark, is_autocommit=not has)

    def _tell(self, session: _Session, request: Request) -> Outcome | None:
        """Give the answer to what does not run: a transaction was lost, or is rolled back that was."""
        if session.is_marked and not session.stream.has_transaction:
            self._unmark(session)
            session.is_told = True
            return Outcome(LOST, None, is_autocommit=True)
        was_told, session.is_told = session.is_told, False
        return Outcome(_NOTHING, None, is_autocommit=True) if was_told and _rolls_back(request) else None

    def disconnect(self, client: str, call: Call) -> None:
        """End a client's connection; what it has open is rolled back."""
        session = self._sessions.pop(_key(client, call), None)
        if session is not None:
            self._service.detach(session.stream)
        self._mark_of(client, call).unlink(missing_ok=True)

    def sweep(self) -> None:
        """End what is idle; a transaction among it counts as lost."""
        now = self._clock.monotonic()
        for key, session in list(self._sessions.items()):
            if not session.lock.locked() and now - session.used > IDLE_S:
                del self._sessions[key]
                self._service.detach(session.stream)

    def close(self) -> None:
        """End all of them."""
        if self._sweeping is not None:
            self._sweeping.cancel()
        for session in self._sessions.values():
            self._service.detach(session.stream)
        self._sessions.clear()

    # -- inside --

    def _session(self, client: str, call: Call) -> _Session:
        key = _key(client, call)
        session = self._sessions.get(key)
        if session is None:
            mark = self._mark_of(client, call)
            stream = self._service.attach(call.database)
            session = _Session(stream, mark, mark.exists(), self._clock.monotonic())
            self._sessions[key] = session
            self._sweep_later()
        return session

    def _mark_of(self, client: str, call: Call) -> Path:
        name = hashlib.sha256(f"{call.database}/{client}".encode()).hexdigest()[:40]
        return self._folder / name

    def _mark(self, session: _Session) -> None:
        """Say on the disk that a transaction is open; without that it cannot be."""
        try:
            self._folder.mkdir(mode=0o700, exist_ok=True)
            session.mark.touch()
        except OSError as error:
            self._service.detach(session.stream)
            self._sessions = {key: one for key, one in self._sessions.items() if one is not session}
            raise StorageError(f"the transaction cannot be noted in {self._folder}: {error.strerror}") from error
        session.is_marked = True

    def _unmark(self, session: _Session) -> None:
        session.mark.unlink(missing_ok=True)
        session.is_marked = False

    def _sweep_later(self) -> None:
        if self._sweeping is None:
            self._sweeping = asyncio.get_running_loop().call_later(SWEEP_S, self._swept)

    def _swept(self) -> None:
        self._sweeping = None
        self.sweep()
        if self._sessions:
            self._sweep_later()


def _rolls_back(request: Request) -> bool:
    """Tell whether a request is only a ROLLBACK."""
    return (
        isinstance(request, Batch)
        and len(request.steps) == 1
        and request.steps[0].statement.sql.strip(" \n\t;").upper() in {"ROLLBACK", "ROLLBACK TRANSACTION"}
    )


def _key(client: str, call: Call) -> tuple[str, str, bytes]:
    return call.database, client, call.caller


def remove_old_marks(folder: Path, wall_s: Callable[[], float]) -> None:
    """Remove marks whose clients do not come back."""
    for mark in folder.glob("*"):
        try:
            if wall_s() - mark.stat().st_mtime > MARKS_S_MAX:
                mark.unlink(missing_ok=True)
        except FileNotFoundError:
            continue
