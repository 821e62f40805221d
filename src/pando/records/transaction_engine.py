"""An `Engine` inside an open transaction: what writes through it is committed or rolled back with all the rest.

For batches, whose requests see what those before them wrote. Not here: opening the transaction.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import cast

from pando.errors import PandoError, SqlError
from pando.records.engine import Basis, Place, Reads, Refused, Row, Statement, Transaction, Value, Written
from pando.types import Bookmark

Late = Callable[[int, PandoError], PandoError]
"""Makes the error of what a part of the work wrote, by its number: it may be raised in a later part."""


def _as_it_is(_number: int, error: PandoError) -> PandoError:
    return error


class TransactionEngine:
    """Reads and writes one transaction. `number` is that of the part of the work that is done just now."""

    def __init__(self, transaction: Transaction, late: Late = _as_it_is) -> None:
        self._transaction = transaction
        self._late = late
        self.number = 0

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

    @property
    def is_alone(self) -> bool:
        """Nobody else writes before the commit."""
        return True

    def reads(self) -> Transaction:
        """Read what the transaction shows."""
        return self._transaction

    def reads_of(self, table: str, ids: Sequence[str]) -> Reads:
        """Read for a question about nothing but these rows of a table."""
        return self._transaction.reads_of(table, ids)

    def reading(self) -> TransactionReading:
        """The same; what was read holds as long as the transaction does not write to these tables."""
        return TransactionReading(self._transaction)

    def holds(self, basis: Basis) -> bool:
        """Tell whether what was read in this transaction would be read now."""
        queries = cast("tuple[str, ...]", basis)
        return all(self._transaction.is_unwritten(sql) for sql in queries)

    async def write(self, statements: Sequence[Statement], place: Place | None = None) -> list[Written]:
        """Run statements; one that fails raises, and whoever opened the transaction rolls all back."""
        return [
            await self._transaction.execute(each.sql, each.args, None if number else place)
            for number, each in enumerate(statements)
        ]

    async def put(self, statements: Sequence[Statement], refused: Refused, place: Place) -> None:
        """Have statements run whose results nobody needs; who opened the transaction gives up if one is refused."""
        refusal = partial(self._refusal, self.number, refused)
        for number, each in enumerate(statements):
            await self._transaction.later(each, refusal, None if number else place)

    def _refusal(self, number: int, refused: Refused, error: SqlError) -> PandoError:
        return self._late(number, refused(error))

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """Give the transaction that is open."""
        yield self._transaction


class TransactionReading:
    """Reads of one answer within a transaction."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        self._queries: tuple[str, ...] = ()
        self._is_known = True

    async def query(self, sql: str, args: Sequence[Value] = ()) -> list[Row]:
        """Give all rows."""
        self._queries += (sql,)
        return await self._transaction.query(sql, args)

    def include(self, _basis: Basis | None) -> None:
        """Whatever was read elsewhere says nothing of the transaction."""
        self._is_known = False

    def basis(self) -> Basis | None:
        """Say what was read: of use within this transaction only."""
        queries = self._queries if self._is_known else ()
        return queries if queries and all(self._transaction.is_unwritten(sql) for sql in queries) else None
