"""`executemany`: many rows of parameters for one statement, as few requests. Pure, as `pando.client.session` is.

Outside of a transaction all rows take effect or none. Rows are taken from the program piece by piece; what does not fit
into one request makes a transaction of several. Not here: one statement (`pando.client.session`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from pando.client import wire
from pando.client.exceptions import ProgrammingError
from pando.client.judging import Effect
from pando.client.results import Result
from pando.client.session import Session, Steps, batch_of, chain
from pando.client.texts import Kind, kind_of
from pando.client.values import Parameters, make_statement

ROWS_MAX: Final = 2000
"""Statements in one request; the writer is held while they run."""
BYTES_MAX: Final = 4 << 20
"""About how many bytes of values and text one request has."""


def execute_many(session: Session, sql: str, rows: Iterable[Parameters]) -> Steps[Result]:
    """Run a statement that writes once for each row of parameters."""
    if kind_of(sql) is not Kind.WRITE:
        raise ProgrammingError("executemany() runs INSERT, UPDATE, DELETE and the like; use execute() for others")
    session.check()
    pieces = _pieces(sql, rows)
    piece = next(pieces, [])
    following = next(pieces, None)
    if not piece:
        return Result(rowcount=0)
    if session.autocommit and not session.is_open:
        if following is None:
            return Result(rowcount=(yield from _all_at_once(session, piece)))
        return Result(rowcount=(yield from _own_transaction(session, piece, following, pieces)))
    total = yield from _in_transaction(session, piece)
    return Result(rowcount=total + (yield from _following(session, following, pieces)))


def _pieces(sql: str, rows: Iterable[Parameters]) -> Iterator[list[wire.Statement]]:
    piece: list[wire.Statement] = []
    size = 0
    for row in rows:
        statement = make_statement(sql, row, want_rows=False)
        weight = len(sql) + 40 + sum(_weight(value) for value in statement.args)
        weight += sum(len(named.name) + _weight(named.value) for named in statement.named_args)
        if piece and (len(piece) >= ROWS_MAX or size + weight > BYTES_MAX):
            yield piece
            piece, size = [], 0
        piece.append(statement)
        size += weight
    if piece:
        yield piece


def _weight(value: wire.Value) -> int:
    """Give about the bytes of a value on the wire."""
    text = value.value if isinstance(value.value, str) else ""
    return 40 + len(text) + len(value.base64 or "")


def _count(found: wire.BatchRows, first: int, end: int) -> int:
    return sum(rows.affected_row_count for rows in found.step_results[first:end] if rows is not None)


def _all_at_once(session: Session, piece: list[wire.Statement]) -> Steps[int]:
    """Run all rows as one transaction in one request."""
    end = len(piece) + 1
    steps = chain([wire.Statement("BEGIN IMMEDIATE"), *piece, wire.Statement("COMMIT")])
    steps.append(wire.Step(wire.Statement("ROLLBACK"), wire.Condition("not", cond=wire.Condition("ok", step=end))))
    answer, _ = yield from session.outside([wire.batch(steps), wire.CLOSE], Effect.LASTING, writes=True)
    return _count(batch_of(answer.results[0], end + 1), 1, end)


def _in_transaction(session: Session, piece: list[wire.Statement]) -> Steps[int]:
    """Run rows in the open transaction, or in one that they begin."""
    if not session.is_open:
        found = yield from session.open_with(piece)
        return _count(found, 1, len(piece) + 1)
    answer = yield from session.inside([wire.batch(chain(piece)), wire.GET_AUTOCOMMIT], Effect.NONE)
    return _count(batch_of(answer.results[0], len(piece)), 0, len(piece))


def _following(
    session: Session, piece: list[wire.Statement] | None, pieces: Iterator[list[wire.Statement]]
) -> Steps[int]:
    total = 0
    while piece is not None:
        if not session.is_open:
            raise ProgrammingError("a row of executemany() has ended the transaction")
        total += yield from _in_transaction(session, piece)
        piece = next(pieces, None)
    return total


def _own_transaction(
    session: Session,
    piece: list[wire.Statement],
    following: list[wire.Statement],
    pieces: Iterator[list[wire.Statement]],
) -> Steps[int]:
    """Run rows that are too many for one request as a transaction of several requests."""
    total = yield from _in_transaction(session, piece)
    try:
        total += yield from _following(session, following, pieces)
    except Exception:
        yield from session.rollback()
        raise
    yield from session.commit()
    return total
