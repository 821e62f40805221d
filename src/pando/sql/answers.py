"""What `pando.store.requests` defines as results, written as Hrana's JSON. Pure: values in, bytes out.

Not here: requests (`pando.sql.messages`), the envelope of WebSocket messages (`pando.sql.ws_messages`).
"""

from __future__ import annotations

import binascii
from collections.abc import Sequence
from functools import lru_cache

import msgspec

from pando.errors import invariant
from pando.store import requests as store
from pando.store.requests import Failure, Result, StatementResult, Value


def encode_base64(data: bytes) -> str:
    """Give base64 of the standard alphabet without padding."""
    return binascii.b2a_base64(data, newline=False).decode("ascii").rstrip("=")


class _Answer(msgspec.Struct, gc=False):
    baton: str | None
    base_url: str | None
    results: list[object]


class _OkResult(msgspec.Struct, gc=False, tag_field="type", tag="ok"):
    response: object


class _ErrorResult(msgspec.Struct, gc=False, tag_field="type", tag="error"):
    error: object


class _ErrorBody(msgspec.Struct, gc=False, omit_defaults=True):
    message: str
    code: str
    extended_code: str | None = None


class _WithResult(msgspec.Struct, gc=False):
    type: str
    result: object


class _Plain(msgspec.Struct, gc=False):
    type: str


class _Autocommit(msgspec.Struct, gc=False, tag_field="type", tag="get_autocommit"):
    is_autocommit: bool


class _Rows(msgspec.Struct, gc=False):
    cols: msgspec.Raw
    rows: list[list[object]]
    affected_row_count: int
    last_insert_rowid: str | None
    replication_index: str | None
    rows_read: int
    rows_written: int
    query_duration_ms: float


class _BatchBody(msgspec.Struct, gc=False):
    step_results: list[object]
    step_errors: list[object]
    replication_index: str | None


class _Column(msgspec.Struct, gc=False):
    name: str | None
    decltype: str | None


class _Parameter(msgspec.Struct, gc=False):
    name: str | None


class _DescribeBody(msgspec.Struct, gc=False):
    params: list[_Parameter]
    cols: msgspec.Raw
    is_explain: bool
    is_readonly: bool


class _OutNull(msgspec.Struct, gc=False, tag_field="type", tag="null"):
    pass


class _OutInteger(msgspec.Struct, gc=False, tag_field="type", tag="integer"):
    value: str


class _OutFloat(msgspec.Struct, gc=False, tag_field="type", tag="float"):
    value: float


class _OutText(msgspec.Struct, gc=False, tag_field="type", tag="text"):
    value: str


class _OutBlob(msgspec.Struct, gc=False, tag_field="type", tag="blob"):
    base64: str


_NULL = _OutNull()
_encode = msgspec.json.Encoder().encode


@lru_cache(maxsize=512)
def encode_columns(columns: tuple[tuple[str | None, str | None], ...]) -> msgspec.Raw:
    """Write names and declared types of columns."""
    return msgspec.Raw(_encode([_Column(name, decltype) for name, decltype in columns]))


def _odd_value(value: Value) -> object:
    """Wrap what is neither text nor integer nor NULL; JSON has no infinity, sqld sends null."""
    if isinstance(value, float):
        return _OutFloat(value)
    return _OutBlob(encode_base64(bytes(value)))  # type: ignore[arg-type]


def row_values(row: tuple[Value, ...]) -> list[object]:
    """Wrap the values of a row for the encoder. Hot: one small struct per value was the fastest way measured."""
    text, integer, null = _OutText, _OutInteger, _NULL
    return [
        text(value)  # type: ignore[arg-type]
        if (kind := type(value)) is str
        else integer(str(value))
        if kind is int
        else null
        if value is None
        else _odd_value(value)
        for value in row
    ]


def _rows(result: StatementResult, index: str | None) -> _Rows:
    rows = [row_values(row) for row in result.rows]
    rowid = result.last_insert_rowid
    return _Rows(
        encode_columns(result.columns),
        rows,
        result.affected_row_count,
        None if rowid is None else str(rowid),
        index,
        result.rows_read,
        result.rows_written,
        result.duration_ms,
    )


def error_body(failure: Failure) -> object:
    """Wrap an error for the encoder."""
    return _ErrorBody(failure.message, failure.code, failure.extended_code)


def _batch_body(result: store.BatchResult, index: str | None) -> _BatchBody:
    return _BatchBody(
        [None if each is None else _rows(each, index) for each in result.results],
        [None if each is None else error_body(each) for each in result.errors],
        index,
    )


def _result(result: Result | str, index: str | None) -> object:
    """Wrap one entry of `results`."""
    if isinstance(result, Failure):
        return _ErrorResult(error_body(result))
    return _OkResult(response_body(result, index))


def response_body(result: Result | str, index: str | None) -> object:
    """Wrap a response for the encoder; no Failure. A string is a response that has nothing but its type."""
    if type(result) is StatementResult:
        return _WithResult("execute", _rows(result, index))
    if isinstance(result, store.BatchResult):
        return _WithResult("batch", _batch_body(result, index))
    if isinstance(result, store.Described):
        return _WithResult("describe", _described(result))
    if isinstance(result, store.Autocommit):
        return _Autocommit(result.is_autocommit)
    return _Plain("sequence" if isinstance(result, store.Done) else str(result))


def _described(result: store.Described) -> _DescribeBody:
    return _DescribeBody(
        [_Parameter(name) for name in result.parameters],
        encode_columns(result.columns),
        result.is_explain,
        result.is_readonly,
    )


def encode_answer(
    results: Sequence[Result | str], *, baton: str | None, base_url: str | None = None, txid: int | None = None
) -> bytes:
    """Write the answer of a pipeline. `results` holds "close", "store_sql" and "close_sql" as bare words.

    `txid` becomes `replication_index`: clients that echo it get read-your-writes.
    """
    index = None if txid is None else str(txid)
    return _encode(_Answer(baton, base_url, [_result(result, index) for result in results]))


class _CursorHead(msgspec.Struct, gc=False):
    baton: str | None
    base_url: str | None


def encode_cursor_head(baton: str | None, base_url: str | None) -> bytes:
    """Write what comes before the entries of a cursor over HTTP."""
    return _encode(_CursorHead(baton, base_url))


class _StatelessAnswer(msgspec.Struct, gc=False):
    result: object


def encode_stateless(results: Sequence[Result | str]) -> bytes:
    """Write the answer of /v1/execute or /v1/batch; the first result counts and is no Failure."""
    first = results[0]
    if isinstance(first, store.BatchResult):
        return _encode(_StatelessAnswer(_batch_body(first, None)))
    invariant(isinstance(first, StatementResult), "a stateless request has rows or steps", result=type(first))
    return _encode(_StatelessAnswer(_rows(first, None)))  # type: ignore[arg-type]


def encode_failure(failure: Failure) -> bytes:
    """Write an error by itself."""
    return _encode(error_body(failure))
