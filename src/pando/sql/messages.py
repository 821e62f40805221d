"""Hrana's requests in JSON (pipelines over HTTP, and what WebSocket shares with them) as `pando.store.requests`.

Pure: bytes in, values out. Broken input raises `HranaProtocolError`, which loses the whole pipeline (HTTP 400, plain
text). Not here: answers (`pando.sql.answers`), messages of a WebSocket (`pando.sql.ws_messages`), batons
(`pando.sql.batons`), routing (`pando.sql.service`).
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import msgspec

from pando import limits
from pando.errors import CallerError
from pando.store import requests as store
from pando.store.requests import Request, Value

CONDITION_DEPTH_MAX: Final = 100
"""Nesting of conditions in a batch."""


class HranaProtocolError(CallerError):
    """The request breaks the protocol: answered with HTTP 400 and plain text, the stream is closed."""

    code = "HRANA_PROTO_ERROR"


# -- the wire: requests -------------------------------------------------------------------------------------------


class NullValue(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="null"):
    """NULL."""


class IntegerValue(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="integer"):
    """A 64-bit integer as decimal text."""

    value: str


class FloatValue(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="float"):
    """A number. Null, which clients make of NaN and infinities, is refused as with sqld: an infinity would be lost."""

    value: float


class TextValue(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="text"):
    """A text."""

    value: str


class BlobValue(msgspec.Struct, frozen=True, gc=False, tag_field="type", tag="blob"):
    """Bytes in base64."""

    base64: str


class PlainValue(msgspec.Struct, frozen=True, gc=False):
    """An integer or bytes from an encoding that needs no text for them; JSON never has it."""

    value: int | bytes


if TYPE_CHECKING:
    WireValue = NullValue | IntegerValue | FloatValue | TextValue | BlobValue | PlainValue
else:
    WireValue = NullValue | IntegerValue | FloatValue | TextValue | BlobValue


class NamedArgument(msgspec.Struct, frozen=True):
    """A named argument."""

    name: str
    value: WireValue


class WireStatement(msgspec.Struct, frozen=True):
    """A statement by its text or by the number of a stored text."""

    sql: str | None = None
    sql_id: int | None = None
    args: list[WireValue] | None = None
    named_args: list[NamedArgument] | None = None
    want_rows: bool | None = True
    replication_index: str | int | None = None


class WireOk(msgspec.Struct, frozen=True, tag_field="type", tag="ok"):
    """True when a step succeeded."""

    step: int


class WireError(msgspec.Struct, frozen=True, tag_field="type", tag="error"):
    """True when a step did not succeed."""

    step: int


class WireNot(msgspec.Struct, frozen=True, tag_field="type", tag="not"):
    """True when the condition is false."""

    cond: WireCondition


class WireAnd(msgspec.Struct, frozen=True, tag_field="type", tag="and"):
    """True when all are."""

    conds: list[WireCondition]


class WireOr(msgspec.Struct, frozen=True, tag_field="type", tag="or"):
    """True when one is."""

    conds: list[WireCondition]


class WireIsAutocommit(msgspec.Struct, frozen=True, tag_field="type", tag="is_autocommit"):
    """True when no transaction is open."""


WireCondition = WireOk | WireError | WireNot | WireAnd | WireOr | WireIsAutocommit


class WireStep(msgspec.Struct, frozen=True):
    """A step of a batch."""

    stmt: WireStatement
    condition: WireCondition | None = None


class WireBatch(msgspec.Struct, frozen=True):
    """Steps with conditions."""

    steps: list[WireStep]
    replication_index: str | int | None = None


class ExecuteRequest(msgspec.Struct, frozen=True, tag_field="type", tag="execute"):
    """Run a statement."""

    stmt: WireStatement


class BatchRequest(msgspec.Struct, frozen=True, tag_field="type", tag="batch"):
    """Run a batch."""

    batch: WireBatch


class SequenceRequest(msgspec.Struct, frozen=True, tag_field="type", tag="sequence"):
    """Run a script."""

    sql: str | None = None
    sql_id: int | None = None
    replication_index: str | int | None = None


class DescribeRequest(msgspec.Struct, frozen=True, tag_field="type", tag="describe"):
    """Describe a statement."""

    sql: str | None = None
    sql_id: int | None = None
    replication_index: str | int | None = None


class StoreSqlRequest(msgspec.Struct, frozen=True, tag_field="type", tag="store_sql"):
    """Keep a text for this stream."""

    sql_id: int
    sql: str


class CloseSqlRequest(msgspec.Struct, frozen=True, tag_field="type", tag="close_sql"):
    """Forget a text."""

    sql_id: int


class GetAutocommitRequest(msgspec.Struct, frozen=True, tag_field="type", tag="get_autocommit"):
    """Ask whether no transaction is open."""


class CloseRequest(msgspec.Struct, frozen=True, tag_field="type", tag="close"):
    """Close the stream."""


WireRequest = (
    ExecuteRequest
    | BatchRequest
    | SequenceRequest
    | DescribeRequest
    | StoreSqlRequest
    | CloseSqlRequest
    | GetAutocommitRequest
    | CloseRequest
)


class PipelineBody(msgspec.Struct, frozen=True):
    """A request of POST /v2/pipeline or /v3/pipeline."""

    requests: list[WireRequest]
    baton: str | None = None


class CursorBody(msgspec.Struct, frozen=True):
    """A request of POST /v3/cursor."""

    batch: WireBatch
    baton: str | None = None


_decode_pipeline = msgspec.json.Decoder(PipelineBody).decode


def decode_pipeline(body: bytes | bytearray) -> PipelineBody:
    """Read a pipeline; raises HranaProtocolError."""
    try:
        pipeline = _decode_pipeline(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HranaProtocolError(f"the body is not a Hrana pipeline: {error}") from error
    if len(pipeline.requests) > limits.PIPELINE_REQUESTS_MAX:
        raise HranaProtocolError(
            f"the pipeline has {len(pipeline.requests)} requests, at most {limits.PIPELINE_REQUESTS_MAX} are allowed"
        )
    return pipeline


def decode_cursor(body: bytes | bytearray) -> CursorBody:
    """Read a request for a cursor; raises HranaProtocolError."""
    try:
        return _decode_cursor(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HranaProtocolError(f"the body is not a Hrana batch: {error}") from error


class _ExecuteBody(msgspec.Struct, frozen=True):
    stmt: WireStatement


class _BatchBodyIn(msgspec.Struct, frozen=True):
    batch: WireBatch


_decode_cursor = msgspec.json.Decoder(CursorBody).decode
_decode_execute = msgspec.json.Decoder(_ExecuteBody).decode
_decode_batch = msgspec.json.Decoder(_BatchBodyIn).decode


def decode_stateless(body: bytes | bytearray, *, is_batch: bool) -> PipelineBody:
    """Read a request of POST /v1/execute or /v1/batch as a pipeline that keeps nothing; raises HranaProtocolError."""
    try:
        request = BatchRequest(_decode_batch(body).batch) if is_batch else ExecuteRequest(_decode_execute(body).stmt)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HranaProtocolError(f"the body is not a Hrana request: {error}") from error
    return PipelineBody([request, CloseRequest()])


# -- wire to requests ---------------------------------------------------------------------------------------------


def to_request(wire: WireRequest, stored: Mapping[int, str]) -> Request:
    """Turn an execute, batch, sequence, describe or get_autocommit into a request, stored texts put in.

    Raises HranaProtocolError; KeyError never: unknown numbers of texts are protocol errors.
    """
    if type(wire) is ExecuteRequest:
        return store.Execute(_statement(wire.stmt, stored))
    if isinstance(wire, BatchRequest):
        return _batch(wire.batch, stored)
    if isinstance(wire, SequenceRequest):
        return store.Sequence(_sql(wire.sql, wire.sql_id, stored))
    if isinstance(wire, DescribeRequest):
        return store.Describe(_sql(wire.sql, wire.sql_id, stored))
    if isinstance(wire, GetAutocommitRequest):
        return store.GetAutocommit()
    raise HranaProtocolError(f"{type(wire).__name__} is not for the database")


def sql_ids(wire: WireRequest) -> list[int]:
    """Give the numbers of the stored texts that a request uses."""
    if isinstance(wire, ExecuteRequest):
        numbers = [wire.stmt.sql_id]
    elif isinstance(wire, BatchRequest):
        numbers = [step.stmt.sql_id for step in wire.batch.steps]
    elif isinstance(wire, SequenceRequest | DescribeRequest):
        numbers = [wire.sql_id]
    else:
        return []
    return [number for number in numbers if number is not None]


def replication_index(wire: WireRequest) -> int:
    """Give the highest `replication_index` that a request carries, 0 without one; raises HranaProtocolError."""
    if type(wire) is ExecuteRequest:
        given = wire.stmt.replication_index
        return 0 if given is None else _index(given)
    if isinstance(wire, BatchRequest):
        steps = [step.stmt.replication_index for step in wire.batch.steps]
        return max(_index(given) for given in [*steps, wire.batch.replication_index])
    if isinstance(wire, SequenceRequest | DescribeRequest):
        return _index(wire.replication_index)
    return 0


def _index(given: str | int | None) -> int:
    if given is None:
        return 0
    number = given if isinstance(given, int) else _integer(given, "replication_index")
    if not 0 <= number < 1 << 64:
        raise HranaProtocolError(f"replication_index {number} does not fit into 64 bits")
    return number


def _sql(sql: str | None, sql_id: int | None, stored: Mapping[int, str]) -> str:
    if sql is not None:
        if sql_id is not None:
            raise HranaProtocolError("Either `sql` or `sql_id` are required, but not both")
        return sql
    if sql_id is None:
        raise HranaProtocolError("Either `sql` or `sql_id` are required")
    text = stored.get(sql_id)
    if text is None:
        raise HranaProtocolError(f"SQL text {sql_id} not found")
    return text


def _statement(wire: WireStatement, stored: Mapping[int, str]) -> store.Statement:
    sql = _sql(wire.sql, wire.sql_id, stored)
    args = tuple([_value(value) for value in wire.args]) if wire.args else ()
    named = tuple([(arg.name, _value(arg.value)) for arg in wire.named_args]) if wire.named_args else ()
    return store.Statement(sql, args, named, wire.want_rows is not False)


def _value(wire: WireValue) -> Value:
    kind = type(wire)
    if kind is IntegerValue:
        return _integer(wire.value, "an integer")  # type: ignore[union-attr, arg-type]
    if kind is TextValue or kind is FloatValue or kind is PlainValue:
        return wire.value  # type: ignore[union-attr]
    if isinstance(wire, BlobValue):
        return decode_base64(wire.base64)
    return None


_DECIMAL = re.compile(r"[+-]?[0-9]{1,20}")


def _integer(text: str, what: str) -> int:
    if len(text) < 19 and text.isascii() and text.isdigit():  # nearly always: no sign, and surely 64 bits
        return int(text)
    if not _DECIMAL.fullmatch(text):
        raise HranaProtocolError(f"{what} must be a decimal number in a string, not {text[:40]!r}")
    number = int(text)
    if what == "an integer" and not -(1 << 63) <= number < 1 << 63:
        raise HranaProtocolError(f"{what} must fit into 64 bits: {text}")
    return number


def decode_base64(text: str) -> bytes:
    """Read base64 of the standard alphabet, padded or not; raises HranaProtocolError."""
    core = text.rstrip("=")
    try:
        return binascii.a2b_base64(core + "=" * (-len(core) % 4), strict_mode=bool(core))
    except (binascii.Error, ValueError) as error:
        raise HranaProtocolError(f"a blob is not base64: {error}") from error


def _batch(wire: WireBatch, stored: Mapping[int, str]) -> store.Batch:
    if len(wire.steps) > limits.PIPELINE_REQUESTS_MAX:
        raise HranaProtocolError(
            f"the batch has {len(wire.steps)} steps, at most {limits.PIPELINE_REQUESTS_MAX} are allowed"
        )
    steps = []
    for number, step in enumerate(wire.steps):
        condition = None if step.condition is None else _condition(step.condition, number, 0)
        steps.append(store.Step(_statement(step.stmt, stored), condition))
    return store.Batch(tuple(steps))


def _condition(wire: WireCondition, number: int, depth: int) -> store.Condition:
    """Turn a step's condition; `number` is the step's own, conditions may name earlier steps only."""
    if depth > CONDITION_DEPTH_MAX:
        raise HranaProtocolError(f"conditions are nested more than {CONDITION_DEPTH_MAX} deep")
    if isinstance(wire, WireOk | WireError):
        if not 0 <= wire.step < number:
            raise HranaProtocolError(
                f"Invalid reference to step in a batch condition: step {number} names {wire.step}, not an earlier one"
            )
        return store.StepOk(wire.step) if isinstance(wire, WireOk) else store.StepError(wire.step)
    if isinstance(wire, WireNot):
        return store.Not(_condition(wire.cond, number, depth + 1))
    if isinstance(wire, WireAnd):
        return store.And(tuple(_condition(each, number, depth + 1) for each in wire.conds))
    if isinstance(wire, WireOr):
        return store.Or(tuple(_condition(each, number, depth + 1) for each in wire.conds))
    return store.IsAutocommit()
