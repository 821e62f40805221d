"""Hrana 3's requests in protocol buffers as the wire structs of `pando.sql.messages`, over HTTP and WebSocket.

Pure: bytes in, values out; broken input raises HranaProtocolError. What counts is that the same request in JSON gives
the same structs. Not here: bytes and fields (`pando.sql.protobuf_wire`), answers (`pando.sql.protobuf_answers`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

from pando import limits
from pando.sql.messages import (
    CONDITION_DEPTH_MAX,
    BatchRequest,
    CloseRequest,
    CloseSqlRequest,
    CursorBody,
    DescribeRequest,
    ExecuteRequest,
    FloatValue,
    GetAutocommitRequest,
    HranaProtocolError,
    NamedArgument,
    NullValue,
    PipelineBody,
    PlainValue,
    SequenceRequest,
    StoreSqlRequest,
    TextValue,
    WireAnd,
    WireBatch,
    WireCondition,
    WireError,
    WireIsAutocommit,
    WireNot,
    WireOk,
    WireOr,
    WireRequest,
    WireStatement,
    WireStep,
    WireValue,
)
from pando.sql.protobuf_wire import Message, ProtobufError
from pando.sql.ws_messages import (
    Asked,
    CloseCursor,
    CloseStream,
    FetchCursor,
    Hello,
    OpenCursor,
    OpenStream,
    Unreadable,
    WsBatch,
    WsDescribe,
    WsExecute,
    WsGetAutocommit,
    WsRequest,
    WsSequence,
)

ARGUMENTS_MAX: Final = 32_766
"""Arguments of a statement: SQLite's own bound of parameters."""

_NULL: Final = NullValue()
T = TypeVar("T")


def decode_pipeline_protobuf(body: bytes) -> PipelineBody:
    """Read the body of POST /v3-protobuf/pipeline; raises HranaProtocolError."""
    message = Message(body)
    baton: str | None = None
    requests: list[WireRequest] = []
    while number := message.next():
        if number == 1:
            baton = message.text()
        elif number == 2:
            _add(requests, _stream_request(message.message()), limits.PIPELINE_REQUESTS_MAX, "requests")
    return PipelineBody(requests, baton)


def decode_cursor_protobuf(body: bytes) -> CursorBody:
    """Read the body of POST /v3-protobuf/cursor; raises HranaProtocolError."""
    message = Message(body)
    baton: str | None = None
    batch: WireBatch | None = None
    while number := message.next():
        if number == 1:
            baton = message.text()
        elif number == 2:
            batch = _batch(message.message())
    if batch is None:
        raise _missing("batch")
    return CursorBody(batch, baton)


def decode_client_message_protobuf(data: str | bytes) -> Hello | Asked:
    """Read a binary frame of `hrana3-protobuf`; raises Unreadable."""
    if isinstance(data, str):
        raise Unreadable("the message is a text")
    message = Message(data)
    found: Hello | Asked | None = None
    try:
        while number := message.next():
            if number == 1:
                found = _hello(message.message())
            elif number == 2:
                found = _asked(message.message())
        if found is None:
            raise _missing("message")
        return found
    except HranaProtocolError as error:
        raise Unreadable(f"the message is not of the Hrana protocol: {error}") from error


# -- requests of a pipeline ----------------------------------------------------------------------------------------


def _stream_request(message: Message) -> WireRequest:
    found: WireRequest | None = None
    while number := message.next():
        reader = _STREAM_REQUESTS.get(number)
        if reader is not None:
            found = reader(message.message())
    if found is None:
        raise _missing("kind of request")
    return found


def _execute(message: Message) -> ExecuteRequest:
    statement: WireStatement | None = None
    while number := message.next():
        if number == 1:
            statement = _statement(message.message())
    if statement is None:
        raise _missing("stmt")
    return ExecuteRequest(statement)


def _batch_request(message: Message) -> BatchRequest:
    batch: WireBatch | None = None
    while number := message.next():
        if number == 1:
            batch = _batch(message.message())
    if batch is None:
        raise _missing("batch")
    return BatchRequest(batch)


def _text_or_number(message: Message) -> tuple[str | None, int | None]:
    sql: str | None = None
    sql_id: int | None = None
    while number := message.next():
        if number == 1:
            sql = message.text()
        elif number == 2:
            sql_id = message.int32()
    return sql, sql_id


def _sequence(message: Message) -> SequenceRequest:
    return SequenceRequest(*_text_or_number(message))


def _describe(message: Message) -> DescribeRequest:
    return DescribeRequest(*_text_or_number(message))


def _store_sql(message: Message) -> StoreSqlRequest:
    sql_id, sql = 0, ""
    while number := message.next():
        if number == 1:
            sql_id = message.int32()
        elif number == 2:
            sql = message.text()
    return StoreSqlRequest(sql_id, sql)


def _number(message: Message) -> int:
    """Read a message of one number, which is 0 if it is missing."""
    found = 0
    while number := message.next():
        if number == 1:
            found = message.int32()
    return found


def _skipped(message: Message) -> None:
    """Go through a message of which nothing is wanted, since it may be broken."""
    while message.next():
        continue


def _close(message: Message) -> CloseRequest:
    _skipped(message)
    return CloseRequest()


def _get_autocommit(message: Message) -> GetAutocommitRequest:
    _skipped(message)
    return GetAutocommitRequest()


_STREAM_REQUESTS: Final[dict[int, Callable[[Message], WireRequest]]] = {
    1: _close,
    2: _execute,
    3: _batch_request,
    4: _sequence,
    5: _describe,
    6: _store_sql,
    7: lambda message: CloseSqlRequest(_number(message)),
    8: _get_autocommit,
}


# -- statements and batches ----------------------------------------------------------------------------------------


def _statement(message: Message) -> WireStatement:
    sql: str | None = None
    sql_id: int | None = None
    args: list[WireValue] = []
    named: list[NamedArgument] = []
    want_rows = True
    index: int | None = None
    while number := message.next():
        if number == 1:
            sql = message.text()
        elif number == 2:
            sql_id = message.int32()
        elif number == 3:
            _add(args, _value(message.message()), ARGUMENTS_MAX, "arguments")
        elif number == 4:
            _add(named, _named(message.message()), ARGUMENTS_MAX, "named arguments")
        elif number == 5:
            want_rows = message.boolean()
        elif number == 6:
            index = message.uint64()
    return WireStatement(sql, sql_id, args, named, want_rows, index)


def _named(message: Message) -> NamedArgument:
    name = ""
    value: WireValue | None = None
    while number := message.next():
        if number == 1:
            name = message.text()
        elif number == 2:
            value = _value(message.message())
    if value is None:
        raise _missing("value")
    return NamedArgument(name, value)


def _value(message: Message) -> WireValue:
    value: WireValue | None = None
    while number := message.next():
        if number == 4:
            value = TextValue(message.text())
        elif number == 2:
            value = PlainValue(message.sint64())
        elif number == 3:
            value = FloatValue(message.double())
        elif number == 5:
            value = PlainValue(message.blob())
        elif number == 1:
            _skipped(message.message())
            value = _NULL
    if value is None:
        raise _missing("value")
    return value


def _batch(message: Message) -> WireBatch:
    steps: list[WireStep] = []
    index: int | None = None
    while number := message.next():
        if number == 1:
            _add(steps, _step(message.message()), limits.PIPELINE_REQUESTS_MAX, "steps")
        elif number == 2:
            index = message.uint64()
    return WireBatch(steps, index)


def _step(message: Message) -> WireStep:
    condition: WireCondition | None = None
    statement: WireStatement | None = None
    while number := message.next():
        if number == 1:
            condition = _condition(message.message(), 0)
        elif number == 2:
            statement = _statement(message.message())
    if statement is None:
        raise _missing("stmt")
    return WireStep(statement, condition)


def _condition(message: Message, depth: int) -> WireCondition:
    if depth > CONDITION_DEPTH_MAX:
        raise HranaProtocolError(f"conditions are nested more than {CONDITION_DEPTH_MAX} deep")
    found: WireCondition | None = None
    while number := message.next():
        if number == 1:
            found = WireOk(message.uint32())
        elif number == 2:
            found = WireError(message.uint32())
        elif number == 3:
            found = WireNot(_condition(message.message(), depth + 1))
        elif number == 4:
            found = WireAnd(_conditions(message.message(), depth + 1))
        elif number == 5:
            found = WireOr(_conditions(message.message(), depth + 1))
        elif number == 6:
            _skipped(message.message())
            found = WireIsAutocommit()
    if found is None:
        raise _missing("kind of condition")
    return found


def _conditions(message: Message, depth: int) -> list[WireCondition]:
    conditions: list[WireCondition] = []
    while number := message.next():
        if number == 1:
            conditions.append(_condition(message.message(), depth))
    return conditions


# -- messages of a WebSocket ---------------------------------------------------------------------------------------


def _hello(message: Message) -> Hello:
    jwt: str | None = None
    while number := message.next():
        if number == 1:
            jwt = message.text()
    return Hello(jwt)


def _asked(message: Message) -> Asked:
    request_id = 0
    found: WsRequest | None = None
    while number := message.next():
        if number == 1:
            request_id = message.int32()
        elif (reader := _REQUESTS.get(number)) is not None:
            found = reader(message.message())
    if found is None:
        raise _missing("kind of request")
    return Asked(request_id, found)


def _ws_execute(message: Message) -> WsExecute:
    stream_id = 0
    statement: WireStatement | None = None
    while number := message.next():
        if number == 1:
            stream_id = message.int32()
        elif number == 2:
            statement = _statement(message.message())
    if statement is None:
        raise _missing("stmt")
    return WsExecute(stream_id, statement)


def _ws_batch(message: Message) -> WsBatch:
    stream_id = 0
    batch: WireBatch | None = None
    while number := message.next():
        if number == 1:
            stream_id = message.int32()
        elif number == 2:
            batch = _batch(message.message())
    if batch is None:
        raise _missing("batch")
    return WsBatch(stream_id, batch)


def _open_cursor(message: Message) -> OpenCursor:
    stream_id = cursor_id = 0
    batch: WireBatch | None = None
    while number := message.next():
        if number == 1:
            stream_id = message.int32()
        elif number == 2:
            cursor_id = message.int32()
        elif number == 3:
            batch = _batch(message.message())
    if batch is None:
        raise _missing("batch")
    return OpenCursor(stream_id, cursor_id, batch)


def _fetch_cursor(message: Message) -> FetchCursor:
    cursor_id = max_count = 0
    while number := message.next():
        if number == 1:
            cursor_id = message.int32()
        elif number == 2:
            max_count = message.uint32()
    return FetchCursor(cursor_id, max_count)


def _stream_text(message: Message) -> tuple[int, str | None, int | None]:
    stream_id = 0
    sql: str | None = None
    sql_id: int | None = None
    while number := message.next():
        if number == 1:
            stream_id = message.int32()
        elif number == 2:
            sql = message.text()
        elif number == 3:
            sql_id = message.int32()
    return stream_id, sql, sql_id


_REQUESTS: Final[dict[int, Callable[[Message], WsRequest]]] = {
    2: lambda message: OpenStream(_number(message)),
    3: lambda message: CloseStream(_number(message)),
    4: _ws_execute,
    5: _ws_batch,
    6: _open_cursor,
    7: lambda message: CloseCursor(_number(message)),
    8: _fetch_cursor,
    9: lambda message: WsSequence(*_stream_text(message)),
    10: lambda message: WsDescribe(*_stream_text(message)),
    11: _store_sql,
    12: lambda message: CloseSqlRequest(_number(message)),
    13: lambda message: WsGetAutocommit(_number(message)),
}


# -- bounds and what is missing ------------------------------------------------------------------------------------


def _add(found: list[T], item: T, most: int, what: str) -> None:
    if len(found) >= most:
        raise ProtobufError(f"there are more than {most} {what}; send fewer at once")
    found.append(item)


def _missing(what: str) -> ProtobufError:
    return ProtobufError(f"a message has no {what} that is known here")
