"""Pipelines as a client writes and reads them: Hrana 3 in JSON. Pure: structs and bytes.

Not here: the server's side (`pando.sql.messages`), what values mean (`pando.client.values`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec

from pando.client.exceptions import DataError, InterfaceError
from pando.limits import BODY_SIZE_BYTES_MAX

T = TypeVar("T")

PATH: Final = "/v3/pipeline"


class Value(msgspec.Struct, omit_defaults=True, gc=False):
    """A value: its type, and text or number. A NULL has nothing else."""

    type: str
    value: str | float | None = None
    base64: str | None = None


class NamedArgument(msgspec.Struct, gc=False):
    """A value by name."""

    name: str
    value: Value


class Statement(msgspec.Struct, omit_defaults=True):
    """One statement and its values."""

    sql: str
    args: list[Value] = []
    named_args: list[NamedArgument] = []
    want_rows: bool = True


class Condition(msgspec.Struct, omit_defaults=True):
    """When a step runs: after step N was ok, or was an error."""

    type: str
    step: int | None = None
    cond: Condition | None = None


class Step(msgspec.Struct, omit_defaults=True):
    """A statement of a batch."""

    stmt: Statement
    condition: Condition | None = None


class Batch(msgspec.Struct):
    """Steps in order."""

    steps: list[Step]


class Request(msgspec.Struct, omit_defaults=True):
    """One request of a pipeline."""

    type: str
    stmt: Statement | None = None
    batch: Batch | None = None
    sql: str | None = None


class _Pipeline(msgspec.Struct):
    baton: str | None
    requests: list[Request]


CLOSE: Final = Request("close")
GET_AUTOCOMMIT: Final = Request("get_autocommit")


def execute(statement: Statement) -> Request:
    """Make the request to run a statement."""
    return Request("execute", stmt=statement)


def batch(steps: list[Step]) -> Request:
    """Make the request to run a batch."""
    return Request("batch", batch=Batch(steps))


def sequence(sql: str) -> Request:
    """Make the request to run a script."""
    return Request("sequence", sql=sql)


def encode_pipeline(baton: str | None, requests: list[Request]) -> bytes:
    """Write a pipeline; raises DataError for what cannot be sent."""
    try:
        body = msgspec.json.encode(_Pipeline(baton, requests))
    except UnicodeEncodeError as error:
        raise DataError(f"a text holds characters that are none in Unicode (surrogates): {error.reason}") from error
    if len(body) > BODY_SIZE_BYTES_MAX:
        raise DataError(
            f"the request has {len(body)} bytes, over the limit of {BODY_SIZE_BYTES_MAX}; send less at once",
            code="REQUEST_TOO_LARGE",
        )
    return body


# -- answers ----------------------------------------------------------------------------------------------------------


class Column(msgspec.Struct, gc=False):
    """A column of a result."""

    name: str | None = None
    decltype: str | None = None


class Rows(msgspec.Struct):
    """What a statement gave."""

    cols: list[Column] = []
    rows: list[list[Value]] = []
    affected_row_count: int = 0
    last_insert_rowid: str | int | None = None


class Refusal(msgspec.Struct):
    """Why a request or a step failed."""

    message: str
    code: str | None = None
    extended_code: str | None = None


class BatchRows(msgspec.Struct):
    """What a batch gave: per step one of both, or neither if it was skipped."""

    step_results: list[Rows | None]
    step_errors: list[Refusal | None]


class _Response(msgspec.Struct):
    type: str
    result: msgspec.Raw = msgspec.Raw()
    is_autocommit: bool = True


class Result(msgspec.Struct):
    """The answer to one request."""

    type: str
    response: _Response | None = None
    error: Refusal | None = None


class Answer(msgspec.Struct):
    """The answer to a pipeline."""

    results: list[Result]
    baton: str | None = None


class ErrorBody(msgspec.Struct):
    """What an answer says that is none; `error` is a sentence, too."""

    error: str | None = None
    message: str | None = None
    code: str | None = None
    retryable: bool | None = None


_decode_answer = msgspec.json.Decoder(Answer).decode
_decode_rows = msgspec.json.Decoder(Rows).decode
_decode_batch = msgspec.json.Decoder(BatchRows).decode
_decode_error = msgspec.json.Decoder(ErrorBody).decode


def _strange(error: Exception) -> InterfaceError:
    return InterfaceError(f"the answer is not one of a Pando node: {error}", code="NOT_PANDO")


def decode_answer(body: bytes, count: int) -> Answer:
    """Read the answer to a pipeline of `count` requests; raises InterfaceError."""
    try:
        answer = _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _strange(error) from error
    if len(answer.results) != count:
        raise _strange(ValueError(f"{len(answer.results)} results for {count} requests"))
    return answer


def read_rows(result: Result) -> Rows:
    """Read what `execute` gave; raises InterfaceError."""
    return _read(result, _decode_rows)


def read_batch(result: Result) -> BatchRows:
    """Read what `batch` gave; raises InterfaceError."""
    return _read(result, _decode_batch)


def read_error(body: bytes) -> ErrorBody:
    """Read the body of an answer whose status is an error; plain text becomes the message. Never raises."""
    try:
        return _decode_error(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ErrorBody(message=body[:500].decode("utf-8", "replace").strip() or None)


def _read(result: Result, decode: Callable[[msgspec.Raw], T]) -> T:
    if result.response is None:
        raise _strange(ValueError("a result has neither a response nor an error"))
    try:
        return decode(result.response.result)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise _strange(error) from error
