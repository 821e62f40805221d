"""What the SQL service needs of the rest of the node: stores, and positions in shared memory. Interfaces only."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from pando.store.protocol import Opened, Ran
from pando.store.requests import Request


class StoreClient(Protocol):
    """Links of a web process to its own store, and to the primary's store for what writes.

    Every call raises PandoError. A call that is cancelled (asyncio) stops its work in the store if it has not ended.
    """

    @property
    def generation(self) -> int:
        """Number of the link to the primary's store, another after each reconnect: sessions end with their link."""
        ...

    @property
    def is_primary(self) -> bool:
        """Tell whether this node takes the writes."""
        ...

    async def until_writer(self) -> None:
        """Wait a moment for a link to the primary's store, if there is none now; never fails."""
        ...

    async def run(
        self,
        database: str,
        session: int,
        requests: Sequence[Request],
        durability: str,
        read_only: bool,
        is_patient: bool = False,
    ) -> Ran:
        """Run on the primary. Raises PrimaryUnavailable if nothing was sent, OutcomeUnknown if it may have run.

        What is `read_only` waits for no transaction; for what `is_patient` none is ended.
        """
        ...

    async def open_database(self, name: str) -> Opened:
        """Open a database of this node for reading; raises UnknownDatabase, NotReady."""
        ...

    async def wait_position(self, database: str, epoch: int, txid: int, timeout_s: float) -> None:
        """Return once this node shows the commit; raises BookmarkTimeout."""
        ...

    async def wait_shown(self, database: str, epoch: int, txid: int) -> None:
        """Return once every replica that keeps up shows the commit, or is waited for no longer."""
        ...

    def end_session(self, session: int) -> None:
        """Roll back and forget a session of the link to the primary; never fails, not answered."""
        ...


class Positions(Protocol):
    """The position table in shared memory, by slot (see `pando.store.positions`)."""

    def about(self, slot: int) -> tuple[int, int]:
        """Give (epoch, txid) of the newest commit that may be visible already."""
        ...

    def visible(self, slot: int) -> tuple[int, int]:
        """Give (epoch, txid) of the newest commit that surely is visible."""
        ...

    def head(self, slot: int) -> tuple[int, int]:
        """Give (txid, wall clock in ms): newest commit that the upstream is known to have, when it last said so."""
        ...

    def newest(self, slot: int, tables: Iterable[int]) -> int:
        """Give the TXID of the last commit that may have changed one of these tables, or is about to."""
        ...

    def generation(self, slot: int) -> int:
        """Give the number that changes when the slot goes to another file."""
        ...
