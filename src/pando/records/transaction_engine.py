"""An `Engine` inside an open transaction: what writes through it is committed or rolled back with all the rest.

For batches, whose requests see what those before them wrote. Not here: opening the transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from pando.records.engine import Basis, Row, Statement, Transaction, Value, Written
from pando.types import Bookmark


class TransactionEngine:
    """Reads and writes one transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    @property
    def is_primary(self) -> bool:
        """Transactions are the primary's."""
        return True

    @property
    def position(self) -> Bookmark | None:
        """There is none before the commit."""
        return None

    @property
    def is_late(self) -> bool:
        """Nothing is newer than what it shows."""
        return False

    def reads(self) -> Transaction:
        """Read what the transaction shows."""
        return self._transaction

    def reading(self) -> TransactionReading:
        """The same; what it shows is not the database's state yet, so no answer may be kept."""
        return TransactionReading(self._transaction)

    def holds(self, _basis: Basis) -> bool:
        """Nothing that is kept is about this transaction."""
        return False

    async def write(self, statements: Sequence[Statement]) -> list[Written]:
        """Run statements; one that fails raises, and whoever opened the transaction rolls all back."""
        return [await self._transaction.execute(each.sql, each.args) for each in statements]

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Give the transaction that is open."""
        yield self._transaction


class TransactionReading:
    """Reads of one answer within a transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction

    async def query(self, sql: str, args: Sequence[Value] = ()) -> list[Row]:
        """Give all rows."""
        return await self._transaction.query(sql, args)

    def include(self, _basis: Basis | None) -> None:
        """Nothing is remembered."""

    def basis(self) -> None:
        """Nobody may keep what was read."""
