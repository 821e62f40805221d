"""What records need of a storage engine: read on a snapshot, write a batch, a transaction, a position, changes.

Interfaces only. SQLite implements them in `pando.records.sqlite_engine`. Every call raises PandoError; a failing
statement raises `SqlError` with SQLite's message and code.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from pando.errors import PandoError, SqlError
from pando.types import Bookmark

Value = None | int | float | str | bytes
"""A SQL value."""
Row = tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Statement:
    """One SQL statement with positional arguments."""

    sql: str
    args: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Written:
    """What one statement did."""

    rows: list[Row]
    changed: int


class Reads(Protocol):
    """Reads one database. A local read ends before it is awaited the second time: it never waits unless it is long."""

    async def query(self, sql: str, args: Sequence[Value] = ()) -> list[Row]:
        """Give all rows."""
        ...


Basis = object
"""What an answer was made of; only its engine knows more (`pando.sql.basis`)."""


class Reading(Reads, Protocol):
    """Reads for one answer that remember what it was made of."""

    def include(self, basis: Basis | None) -> None:
        """Something read earlier is part of the answer; None: nobody knows what that depends on."""
        ...

    def basis(self) -> Basis | None:
        """Give what was read so far; None when that is not known, or was changing meanwhile."""
        ...


Refused = Callable[[SqlError], PandoError]
"""Makes the error that a caller is told of what SQLite said."""


@dataclass(frozen=True, slots=True)
class Place:
    """One row of a table."""

    table: str
    id: str


class Transaction(Reads, Protocol):
    """Reads and writes in one transaction of the primary; queries see its writes."""

    async def execute(self, sql: str, args: Sequence[Value] = (), place: Place | None = None) -> Written:
        """Run one statement that writes; with `place` that row and no other of its table."""
        ...

    async def later(self, statement: Statement, refused: Refused, place: Place | None = None) -> None:
        """Have a statement run before anything that could tell whether it has, in the order of these calls.

        `place`: it writes this row and no other of its table. Its error may be raised by any later call or the commit.
        """
        ...

    async def settle(self) -> None:
        """Run what is to run later."""
        ...

    def reads_of(self, table: str, ids: Sequence[str]) -> Reads:
        """Read for a question about nothing but these rows."""
        ...

    def is_unwritten(self, sql: str) -> bool:
        """Tell whether the transaction surely has written to none of the tables that a query reads."""
        ...


class Engine(Protocol):
    """One database of this node."""

    @property
    def is_primary(self) -> bool:
        """Whether writes happen on this node."""
        ...

    @property
    def position(self) -> Bookmark | None:
        """What a read that ends now has seen at most; None before anything was read."""
        ...

    @property
    def is_late(self) -> bool:
        """Whether this node has known of newer data for long without showing them: let the primary answer."""
        ...

    def reads(self) -> Reads:
        """Read what this node shows."""
        ...

    def reading(self) -> Reading:
        """The same, and remember what was read."""
        ...

    def holds(self, basis: Basis) -> bool:
        """Tell whether what was read then would be read now; False as soon as that is about to end."""
        ...

    @property
    def is_alone(self) -> bool:
        """Whether nobody else can write between what is read here and what is written then."""
        ...

    def reads_of(self, table: str, ids: Sequence[str]) -> Reads:
        """Read for a question about nothing but these rows of a table."""
        ...

    async def write(self, statements: Sequence[Statement], place: Place | None = None) -> list[Written]:
        """Run statements in one transaction, all or nothing. On return they are as durable as the node promises.

        With `place` the first writes that row and no other of its table.
        """
        ...

    async def put(self, statements: Sequence[Statement], refused: Refused, place: Place) -> None:
        """The same for statements whose results nobody needs.

        Raises what `refused` makes of SQLite's error: in a transaction perhaps from a later call, or its commit.
        """
        ...

    def transaction(self) -> AbstractAsyncContextManager[Transaction]:
        """Open a transaction on the primary; it is committed on exit, rolled back on an exception."""
        ...
