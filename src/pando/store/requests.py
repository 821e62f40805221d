"""What is asked of a SQL connection and what it answers: the values that travel between web and store processes.

They mirror Hrana's requests (execute, batch, sequence, describe, get_autocommit) with SQLite's own value types.
Stored SQL is resolved before a request gets here. Not here: JSON (see `pando.sql.messages`), execution (see
`pando.store.runner`)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    Value = None | int | float | str | bytes
else:
    Value = Any  # msgspec cannot tell str from bytes in a union by type; msgpack itself can
"""A SQLite value."""


class Statement(msgspec.Struct, frozen=True, array_like=True):
    """One statement with its arguments; positional and named are not both given."""

    sql: str
    args: tuple[Value, ...] = ()
    named_args: tuple[tuple[str, Value], ...] = ()
    want_rows: bool = True


class StepOk(msgspec.Struct, frozen=True, array_like=True, tag="ok"):
    """True when the step succeeded."""

    step: int


class StepError(msgspec.Struct, frozen=True, array_like=True, tag="error"):
    """True when the step did not succeed: it failed or was skipped (as sqld has it)."""

    step: int


class Not(msgspec.Struct, frozen=True, array_like=True, tag="not"):
    """True when the condition is false."""

    condition: Condition


class And(msgspec.Struct, frozen=True, array_like=True, tag="and"):
    """True when all are."""

    conditions: tuple[Condition, ...]


class Or(msgspec.Struct, frozen=True, array_like=True, tag="or"):
    """True when one is."""

    conditions: tuple[Condition, ...]


class IsAutocommit(msgspec.Struct, frozen=True, array_like=True, tag="is_autocommit"):
    """True when no transaction is open."""


Condition = StepOk | StepError | Not | And | Or | IsAutocommit


class Step(msgspec.Struct, frozen=True, array_like=True):
    """A statement of a batch, run when its condition holds."""

    statement: Statement
    condition: Condition | None = None


class Execute(msgspec.Struct, frozen=True, array_like=True, tag="execute"):
    """Run one statement."""

    statement: Statement


class Batch(msgspec.Struct, frozen=True, array_like=True, tag="batch"):
    """Run steps in order, each under its condition."""

    steps: tuple[Step, ...]


class Sequence(msgspec.Struct, frozen=True, array_like=True, tag="sequence"):
    """Run all statements of a text, without rows; stop at the first that fails."""

    sql: str


class Describe(msgspec.Struct, frozen=True, array_like=True, tag="describe"):
    """Tell parameters and columns of one statement without running it."""

    sql: str


class GetAutocommit(msgspec.Struct, frozen=True, array_like=True, tag="get_autocommit"):
    """Ask whether no transaction is open."""


Request = Execute | Batch | Sequence | Describe | GetAutocommit


class StatementResult(msgspec.Struct, array_like=True, tag="rows"):
    """What one statement did. `columns` holds (name, declared type) pairs."""

    columns: tuple[tuple[str | None, str | None], ...]
    rows: list[tuple[Value, ...]]
    affected_row_count: int = 0
    last_insert_rowid: int | None = None
    rows_read: int = 0
    rows_written: int = 0
    duration_ms: float = 0.0


class Failure(msgspec.Struct, array_like=True, tag="failure"):
    """Why a request or a step failed. `code` is a Hrana code or SQLite's primary code name."""

    message: str
    code: str
    extended_code: str | None = None


class BatchResult(msgspec.Struct, array_like=True, tag="batch"):
    """Per step a result, an error, or neither (skipped)."""

    results: list[StatementResult | None]
    errors: list[Failure | None]


class Described(msgspec.Struct, array_like=True, tag="described"):
    """Parameters (name with prefix, or None) and columns of a statement."""

    parameters: tuple[str | None, ...]
    columns: tuple[tuple[str | None, str | None], ...]
    is_explain: bool
    is_readonly: bool


class Done(msgspec.Struct, array_like=True, tag="done"):
    """A sequence ran to its end."""


class Autocommit(msgspec.Struct, array_like=True, tag="autocommit"):
    """Whether no transaction is open."""

    is_autocommit: bool


Result = StatementResult | BatchResult | Described | Done | Autocommit | Failure
