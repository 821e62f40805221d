"""gRPC-web as bytes: one message in, messages and a status out. Pure.

Each message has a flag byte and its length in front; the status comes as a last frame of header lines. Binary bodies
only, over any version of HTTP. Not here: what is in the messages (`pando.sql.embedded_messages`).
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import Final
from urllib.parse import quote

from pando.errors import (
    CallerError,
    Forbidden,
    InvalidRequest,
    PandoError,
    RequestTooLarge,
    RetryLater,
    Unauthorized,
    UnknownDatabase,
)

CONTENT_TYPE: Final = b"application/grpc-web+proto"
_HEAD: Final = struct.Struct(">BI")
_COMPRESSED: Final = 1
_TRAILERS: Final = 0x80
_TEXT_BYTES_MAX: Final = 2000


class Code(IntEnum):
    """Statuses of gRPC that are used here."""

    OK = 0
    INVALID_ARGUMENT = 3
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    UNAUTHENTICATED = 16


class GrpcStatus(PandoError):
    """A status that a client of libSQL knows by its code and text."""

    code = "GRPC_STATUS"
    status = 200

    def __init__(self, grpc_code: Code, message: str) -> None:
        super().__init__(message)
        self.grpc_code = grpc_code


NO_HELLO: Final = "NO_HELLO"
NEED_SNAPSHOT: Final = "NEED_SNAPSHOT"
NAMESPACE_DOESNT_EXIST: Final = "NAMESPACE_DOESNT_EXIST"


def read_message(body: bytes) -> bytes:
    """Give the message of a request; raises InvalidRequest."""
    if len(body) < _HEAD.size:
        raise InvalidRequest(f"a gRPC-web request begins with {_HEAD.size} bytes of framing, here are {len(body)}")
    flags, size = _HEAD.unpack_from(body)
    if flags & _COMPRESSED:
        raise InvalidRequest("the gRPC-web message is compressed, which was not agreed on")
    if flags or size > len(body) - _HEAD.size:
        raise InvalidRequest(f"a gRPC-web message says {size} bytes, {len(body) - _HEAD.size} came")
    return body[_HEAD.size : _HEAD.size + size]


def frame_message(message: bytes) -> bytes:
    """Give a message of an answer with its framing."""
    return _HEAD.pack(0, len(message)) + message


def frame_status(code: Code = Code.OK, message: str = "") -> bytes:
    """Give the end of an answer."""
    text = quote(message[:_TEXT_BYTES_MAX], safe=" !#$&'()*+,/:;=?@[]\"<>^_`{|}~")
    lines = f"grpc-status:{int(code)}\r\ngrpc-message:{text}\r\n" if text else f"grpc-status:{int(code)}\r\n"
    data = lines.encode("ascii")
    return _HEAD.pack(_TRAILERS, len(data)) + data


def frame_error(error: PandoError) -> bytes:
    """Give the end of an answer that failed."""
    if isinstance(error, UnknownDatabase):
        return frame_status(Code.FAILED_PRECONDITION, NAMESPACE_DOESNT_EXIST)
    return frame_status(code_of(error), error.message)


def code_of(error: PandoError) -> Code:
    """Give the status for an error of ours."""
    if isinstance(error, GrpcStatus):
        return error.grpc_code
    if isinstance(error, Unauthorized):
        return Code.UNAUTHENTICATED
    if isinstance(error, Forbidden):
        return Code.PERMISSION_DENIED
    if isinstance(error, RequestTooLarge):
        return Code.RESOURCE_EXHAUSTED
    if isinstance(error, RetryLater):
        return Code.UNAVAILABLE
    if isinstance(error, CallerError):
        return Code.INVALID_ARGUMENT
    return Code.UNAVAILABLE if error.retryable else Code.INTERNAL
