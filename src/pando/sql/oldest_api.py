"""sqld's oldest API over HTTP, POST /: a list of statements in, a list of plain results out. Pure.

All statements of a list run in one transaction, which the first failure rolls back; a list may also hold whole
transactions itself, then its statements run as they stand. Not here: HTTP (`pando.api.oldest_api`), where they run
(`pando.sql.service`).
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from pando import limits
from pando.errors import CallerError, invariant
from pando.sql.answers import encode_base64
from pando.sql.messages import (
    FloatValue,
    HranaProtocolError,
    NamedArgument,
    NullValue,
    PlainValue,
    TextValue,
    WireBatch,
    WireCondition,
    WireIsAutocommit,
    WireNot,
    WireOk,
    WireStatement,
    WireStep,
    WireValue,
    decode_base64,
)
from pando.store.requests import BatchResult, Failure, StatementResult, Value
from pando.store.tokens import split_script, words

PLAIN_TEXT: Final = "text/plain; charset=utf-8"


class Unreadable(CallerError):
    """The body is not JSON, or none of the right shape: answered in plain text."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class QueryRefused(CallerError):
    """The list cannot be run as it is: answered with `error` alone."""


class _Query(msgspec.Struct, frozen=True):
    q: str
    params: list[Any] | dict[str, Any] | None = None


class _Body(msgspec.Struct, frozen=True):
    statements: list[str | _Query]


_decode = msgspec.json.Decoder(_Body).decode


@dataclass(frozen=True, slots=True)
class StatementList:
    """A list of statements. `has_frame`: its batch has a step before the first one, and two after the last."""

    texts: tuple[str, ...]
    batch: WireBatch
    has_frame: bool


# -- in ---------------------------------------------------------------------------------------------------------------


def decode_statements(body: bytes) -> StatementList:
    """Read a list; raises Unreadable, QueryRefused."""
    try:
        asked = _decode(body).statements
    except msgspec.ValidationError as error:
        raise Unreadable(f"Failed to deserialize the JSON body into the target type: {error}", 422) from error
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise Unreadable(f"Failed to parse the request body as JSON: {error}", 400) from error
    if len(asked) > limits.PIPELINE_REQUESTS_MAX - 3:
        raise QueryRefused(f"Query error: `{len(asked)} statements are more than are allowed in one request`")
    queries = [_Query(each) if isinstance(each, str) else each for each in asked]
    _check_alone(queries)
    kinds = [_kind(query.q) for query in queries]
    _check_transactions(kinds)
    has_frame = len(queries) > 1 and not any(kinds)
    return StatementList(tuple(query.q for query in queries), _batch(queries, has_frame=has_frame), has_frame)


def _check_alone(queries: Sequence[_Query]) -> None:
    for query in queries:
        if ";" in query.q and len(list(itertools.islice(split_script(query.q), 2))) > 1:
            raise QueryRefused(
                "Failed to parse query: `found more than one command in a single statement string."
                " It is allowed to issue only one command per string.`"
            )


def _kind(sql: str) -> str:
    """Give BEGIN, COMMIT or SAVEPOINT for what begins, ends or marks a transaction, "" for everything else."""
    first = words(sql, 3)
    word = first[0] if first else ""
    if word in {"SAVEPOINT", "RELEASE"} or (word == "ROLLBACK" and "TO" in first):
        return "SAVEPOINT"
    return {"BEGIN": "BEGIN", "COMMIT": "COMMIT", "END": "COMMIT", "ROLLBACK": "COMMIT"}.get(word, "")


def _check_transactions(kinds: Sequence[str]) -> None:
    """Refuse a list that would leave a transaction open; what makes no sense at all SQLite will refuse."""
    if "SAVEPOINT" in kinds:
        raise QueryRefused("Query error: `savepoints are not supported in HTTP API, use hrana protocol instead`")
    is_open = False
    for kind in kinds:
        if kind and is_open == (kind == "BEGIN"):
            return
        is_open = kind == "BEGIN" if kind else is_open
    if is_open:
        raise QueryRefused("Query error: `interactive transaction not allowed in HTTP queries`")


def _batch(queries: Sequence[_Query], *, has_frame: bool) -> WireBatch:
    """Each step runs if the one before has; at the end nothing is open."""
    statements = [_statement(query, place) for place, query in enumerate(queries)]
    if has_frame:
        statements = [WireStatement("BEGIN"), *statements, WireStatement("COMMIT")]
    steps = [WireStep(each, WireOk(number - 1) if number else None) for number, each in enumerate(statements)]
    if len(queries) > 1:
        still_open: WireCondition = WireNot(WireIsAutocommit())
        steps.append(WireStep(WireStatement("ROLLBACK"), still_open))
    return WireBatch(steps)


def _statement(query: _Query, place: int) -> WireStatement:
    params = query.params
    if isinstance(params, dict):
        named = [NamedArgument(name, _value(value, f"statements[{place}].params")) for name, value in params.items()]
        return WireStatement(query.q, named_args=named)
    return WireStatement(query.q, args=[_value(value, f"statements[{place}].params") for value in params or ()])


_NULL: Final = NullValue()


def _value(value: object, place: str) -> WireValue:
    if value is None:
        return _NULL
    if isinstance(value, int) and -(1 << 63) <= value < 1 << 63:
        return PlainValue(int(value))
    if isinstance(value, float):
        return FloatValue(value)
    if isinstance(value, str):
        return TextValue(value)
    if isinstance(value, dict) and value.keys() == {"base64"} and isinstance(value["base64"], str):
        try:
            return PlainValue(decode_base64(value["base64"]))
        except HranaProtocolError as error:
            raise _not_a_value(place) from error
    raise _not_a_value(place)


def _not_a_value(place: str) -> Unreadable:
    words_ = f"{place} holds what is no SQLite value: null, a number of 64 bits, a text or {{base64}} is expected"
    return Unreadable(f"Failed to deserialize the JSON body into the target type: {words_}", 422)


# -- out --------------------------------------------------------------------------------------------------------------


class _Rows(msgspec.Struct, gc=False):
    columns: list[str]
    rows: list[list[object]]
    rows_read: int
    rows_written: int
    query_duration_ms: float


class _Ok(msgspec.Struct, gc=False):
    results: _Rows


class _Error(msgspec.Struct, gc=False):
    error: str


_encode = msgspec.json.Encoder().encode


def encode_results(asked: StatementList, result: BatchResult) -> bytes:
    """Write what a list's batch gave: null for what did not run after a failure."""
    start = 1 if asked.has_frame else 0
    count = len(asked.texts)
    entries: list[_Ok | _Error | None] = []
    for place, sql in enumerate(asked.texts):
        rows, failure = result.results[start + place], result.errors[start + place]
        entries.append(_Error(_words(failure, sql)) if failure is not None else None if rows is None else _ok(rows))
    if asked.has_frame:
        _tell_of_frame(entries, result.errors[0] or result.errors[start + count])
    return _encode(entries)


def _tell_of_frame(entries: list[_Ok | _Error | None], failure: Failure | None) -> None:
    """What keeps the transaction from beginning or from its end is the failure of the statement beside it."""
    if failure is not None:
        place = 0 if entries[0] is None else -1
        entries[place] = _Error(_words(failure, ""))


def encode_error(message: str) -> bytes:
    """Write why nothing ran."""
    return _encode(_Error(message))


def _ok(rows: StatementResult) -> _Ok:
    columns = [name or "" for name, _ in rows.columns]
    values = [[_plain(value) for value in row] for row in rows.rows]
    return _Ok(_Rows(columns, values, rows.rows_read, rows.rows_written, rows.duration_ms))


def _plain(value: Value) -> object:
    if isinstance(value, bytes):
        return {"base64": encode_base64(value)}
    return None if isinstance(value, float) and not math.isfinite(value) else value


_INPUT = re.compile(r"SQL input error: (.*) \(at offset (\d+)\)", re.DOTALL)
_ARGUMENTS: Final = "Arguments do not match SQL parameters: "


def _words(failure: Failure, sql: str) -> str:
    """Give the text of a failure as this API has always had it."""
    found = _INPUT.fullmatch(failure.message)
    if found is not None:
        return f"{found[1]} in {sql} at offset {found[2]}"
    if failure.message.startswith(_ARGUMENTS):
        return f"LibSQL failed to bind provided query parameters: `{failure.message.removeprefix(_ARGUMENTS)}`"
    return failure.message.removeprefix("SQLite error: ")


def batch_of(result: object) -> BatchResult:
    """Give the result of a list's batch; other results there are none."""
    invariant(isinstance(result, BatchResult), "a batch gives a batch's result", result=type(result))
    assert isinstance(result, BatchResult)
    return result
