"""What cursors have in common, sync or asyncio: the result they stand in, and what programs read of it. Pure.

Not here: running statements (`pando.client.connection`, `pando.client.async_connection`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from pando.client.exceptions import ProgrammingError
from pando.client.results import EMPTY, Description, Result
from pando.client.values import SqlValue

RowFactory = Callable[[Any, tuple[SqlValue, ...]], Any]
"""Makes what a cursor gives for a row; its arguments are the cursor and the values."""


class CursorState:
    """A result and the place in it."""

    def __init__(self, row_factory: RowFactory | None) -> None:
        self.arraysize = 1
        """How many rows `fetchmany` gives."""
        self.row_factory = row_factory
        """Makes rows out of tuples; None leaves them."""
        self._result: Result = EMPTY
        self._next = 0
        self._lastrowid: int | None = None
        self._is_closed = False

    @property
    def description(self) -> Description | None:
        """Name and declared type of each column of the result, None without one."""
        return self._result.description

    @property
    def rowcount(self) -> int:
        """How many rows were changed; -1 for statements that change none."""
        return self._result.rowcount

    @property
    def lastrowid(self) -> int | None:
        """The rowid that the last INSERT of this cursor gave."""
        return self._lastrowid

    def setinputsizes(self, sizes: Sequence[Any], /) -> None:
        """Do nothing; PEP 249 allows that."""

    def setoutputsize(self, size: int, column: int | None = None, /) -> None:
        """Do nothing; PEP 249 allows that."""

    # -- for the cursors ----------------------------------------------------------------------------------------------

    def _take(self, result: Result) -> None:
        self._result, self._next = result, 0
        if result.lastrowid is not None:
            self._lastrowid = result.lastrowid

    def _check(self) -> None:
        if self._is_closed:
            raise ProgrammingError("the cursor is closed; make another one")

    def _close(self) -> None:
        self._is_closed = True
        self._result = EMPTY

    def _one(self) -> Any:  # noqa: ANN401 - what row_factory makes
        rows = self._several(1)
        return rows[0] if rows else None

    def _several(self, count: int | None) -> list[Any]:
        self._check()
        end = None if count is None else self._next + max(count, 0)
        found = list(self._result.rows[self._next : end])
        self._next += len(found)
        make = self.row_factory
        return found if make is None else [make(self, row) for row in found]
