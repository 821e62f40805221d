"""Messages of Hrana over WebSocket (versions 1 to 3, JSON): text frames to values, and back. Pure.

The requests are those of a pipeline with the number of their stream; statements, batches, values and results are the
same (`pando.sql.messages`, `pando.sql.answers`). Not here: what the numbers stand for (`pando.sql.ws_session`), which
subprotocol is spoken (`pando.sql.ws_encodings`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import msgspec

from pando.sql.answers import error_body, response_body
from pando.sql.messages import (
    BatchRequest,
    CloseSqlRequest,
    DescribeRequest,
    ExecuteRequest,
    GetAutocommitRequest,
    HranaProtocolError,
    SequenceRequest,
    StoreSqlRequest,
    WireBatch,
    WireRequest,
    WireStatement,
)
from pando.store.requests import Failure, Result

UNSUPPORTED_DATA: Final = 1003
"""Close code for a binary frame where texts are spoken, and the reverse (RFC 6455 section 7.4.1, as the next ones)."""
UNREADABLE: Final = 1007
"""Close code for a frame that is no message."""
VIOLATION: Final = 1008
"""Close code for a message that must not come here and now."""
OUR_BUG: Final = 1011
"""Close code for what should not happen."""

_Int32 = Annotated[int, msgspec.Meta(ge=-(1 << 31), lt=1 << 31)]
_Uint32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]


class Unreadable(HranaProtocolError):
    """The frame is no message of the protocol."""


# -- from the client ----------------------------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag_field="type", tag="hello"):
    """Who speaks."""

    jwt: str | None = None


class OpenStream(msgspec.Struct, frozen=True, tag_field="type", tag="open_stream"):
    """Open a stream under a number that the client chose."""

    stream_id: _Int32


class CloseStream(msgspec.Struct, frozen=True, tag_field="type", tag="close_stream"):
    """Close a stream once its requests are answered."""

    stream_id: _Int32


class WsExecute(msgspec.Struct, frozen=True, tag_field="type", tag="execute"):
    """Run a statement."""

    stream_id: _Int32
    stmt: WireStatement


class WsBatch(msgspec.Struct, frozen=True, tag_field="type", tag="batch"):
    """Run a batch."""

    stream_id: _Int32
    batch: WireBatch


class WsSequence(msgspec.Struct, frozen=True, tag_field="type", tag="sequence"):
    """Run a script."""

    stream_id: _Int32
    sql: str | None = None
    sql_id: int | None = None


class WsDescribe(msgspec.Struct, frozen=True, tag_field="type", tag="describe"):
    """Describe a statement."""

    stream_id: _Int32
    sql: str | None = None
    sql_id: int | None = None


class WsGetAutocommit(msgspec.Struct, frozen=True, tag_field="type", tag="get_autocommit"):
    """Ask whether no transaction is open."""

    stream_id: _Int32


class OpenCursor(msgspec.Struct, frozen=True, tag_field="type", tag="open_cursor"):
    """Run a batch, and keep what it gives for fetching."""

    stream_id: _Int32
    cursor_id: _Int32
    batch: WireBatch


class FetchCursor(msgspec.Struct, frozen=True, tag_field="type", tag="fetch_cursor"):
    """Give some entries."""

    cursor_id: _Int32
    max_count: _Uint32


class CloseCursor(msgspec.Struct, frozen=True, tag_field="type", tag="close_cursor"):
    """Forget a cursor."""

    cursor_id: _Int32


_ForDatabase = WsExecute | WsBatch | WsSequence | WsDescribe | WsGetAutocommit
ForCursor = OpenCursor | FetchCursor | CloseCursor
ForTexts = StoreSqlRequest | CloseSqlRequest
WsRequest = _ForDatabase | ForCursor | ForTexts | OpenStream | CloseStream


class Asked(msgspec.Struct, frozen=True, tag_field="type", tag="request"):
    """A request; its answer has the same number."""

    request_id: _Int32
    request: WsRequest


_decode = msgspec.json.Decoder(Hello | Asked).decode


def decode_client_message(text: str | bytes) -> Hello | Asked:
    """Read a text frame; raises Unreadable."""
    try:
        message: Hello | Asked = _decode(text)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise Unreadable(f"the message is not of the Hrana protocol: {error}") from error
    return message


def for_database(request: WsRequest) -> tuple[int, WireRequest] | None:
    """Give the number of the stream and the request as a pipeline has it; None if it is not for the database."""
    if isinstance(request, WsExecute):
        return request.stream_id, ExecuteRequest(request.stmt)
    if isinstance(request, WsBatch | OpenCursor):
        return request.stream_id, BatchRequest(request.batch)
    if isinstance(request, WsSequence):
        return request.stream_id, SequenceRequest(request.sql, request.sql_id)
    if isinstance(request, WsDescribe):
        return request.stream_id, DescribeRequest(request.sql, request.sql_id)
    if isinstance(request, WsGetAutocommit):
        return request.stream_id, GetAutocommitRequest()
    return None


# -- to the client ------------------------------------------------------------------------------------------------


class _HelloError(msgspec.Struct, gc=False, tag_field="type", tag="hello_error"):
    error: object


class _ResponseOk(msgspec.Struct, gc=False, tag_field="type", tag="response_ok"):
    request_id: int
    response: object


class _ResponseError(msgspec.Struct, gc=False, tag_field="type", tag="response_error"):
    request_id: int
    error: object


class _Fetched(msgspec.Struct, gc=False, tag_field="type", tag="fetch_cursor"):
    entries: Sequence[msgspec.Raw]
    done: bool


_encode = msgspec.json.Encoder().encode
HELLO_OK: Final = b'{"type":"hello_ok"}'


def encode_hello_error(failure: Failure) -> bytes:
    """Write why the client is not welcome."""
    return _encode(_HelloError(error_body(failure)))


def encode_response(request_id: int, result: Result | str, txid: int | None = None) -> bytes:
    """Write the answer of a request, a failure too; a string is a response that has nothing but its type.

    `txid` becomes `replication_index`, as over HTTP.
    """
    if isinstance(result, Failure):
        return _encode(_ResponseError(request_id, error_body(result)))
    return _encode(_ResponseOk(request_id, response_body(result, None if txid is None else str(txid))))


def encode_fetched(request_id: int, entries: Sequence[bytes], *, is_done: bool) -> bytes:
    """Write entries of a cursor."""
    return _encode(_ResponseOk(request_id, _Fetched([msgspec.Raw(entry) for entry in entries], is_done)))
