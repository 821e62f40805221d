"""What an open database can do, on a primary (`primary.PrimaryDatabase`) and on a replica
(`replica.ReplicaDatabase`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Protocol

from pando.errors import PandoError
from pando.store.commands import Command, SessionKey
from pando.store.commitlog import CommitLog
from pando.store.history import Slot
from pando.store.protocol import DatabaseStatus
from pando.types import TXID, Epoch, Position


class Database(Protocol):
    """One open database of a store process."""

    name: str
    path: str
    slot: Slot
    log: CommitLog
    last_used: float

    @property
    def position(self) -> Position:
        """The newest durable position of its log."""
        ...

    @property
    def is_idle(self) -> bool:
        """Whether it may be closed now without anybody noticing."""
        ...

    @property
    def must_reopen(self) -> bool:
        """Whether it has stopped by a fault that recovery may heal: it is closed and opened again for the next
        request.
        """
        ...

    def submit(self, command: Command) -> None:
        """Queue a command; raises NotPrimary, Overloaded, or what stopped the database."""
        ...

    def cancel(self, link: int, run_id: int) -> None:
        """Stop a queued or running command."""
        ...

    def end_session(self, key: SessionKey) -> None:
        """Roll back a session."""
        ...

    def end_link(self, link: int) -> None:
        """Forget everything of a link."""
        ...

    def wait(self, epoch: Epoch, txid: TXID, deadline: float, answer: Callable[[PandoError | None], None]) -> None:
        """Answer once the commit is visible, or with BookmarkTimeout."""
        ...

    def tick(self, now: float) -> None:
        """Look at deadlines; called a few times a second."""
        ...

    def status(self) -> DatabaseStatus:
        """Say how it stands."""
        ...

    async def pinned(self, use: Callable[[Position], Awaitable[None]]) -> Position:
        """Call `use` with the position of the file while nothing can change it."""
        ...

    async def close(self) -> None:
        """Finish and close."""
        ...
