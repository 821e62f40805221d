"""The subprotocols of Hrana over WebSocket, and their two encodings: how messages are read and written. Pure.

Not here: what the encodings are made of (see `pando.sql.ws_messages`, `pando.sql.cursors` and
`pando.sql.protobuf_...`), streams (see `pando.sql.ws_session`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from pando.errors import CallerError
from pando.sql.cursors import Entries, json_entries
from pando.sql.protobuf_answers import (
    HELLO_OK_PROTOBUF,
    encode_fetched_protobuf,
    encode_hello_error_protobuf,
    encode_response_protobuf,
    protobuf_entries,
)
from pando.sql.protobuf_messages import decode_client_message_protobuf
from pando.sql.ws_messages import (
    HELLO_OK,
    Asked,
    Hello,
    decode_client_message,
    encode_fetched,
    encode_hello_error,
    encode_response,
)
from pando.store.requests import Failure, Result


class NoCommonProtocol(CallerError):
    """The client offers only subprotocols that we do not speak."""


class EncodeResponse(Protocol):
    """Writes the answer of a request."""

    def __call__(self, request_id: int, result: Result | str, txid: int | None = None) -> bytes:
        """Give the message."""
        ...


class EncodeFetched(Protocol):
    """Writes entries of a cursor."""

    def __call__(self, request_id: int, entries: Sequence[bytes], *, is_done: bool) -> bytes:
        """Give the message."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WsEncoding:
    """One encoding. What is written is bytes; messages of one that is not binary are sent as texts."""

    is_binary: bool
    decode: Callable[[str | bytes], Hello | Asked]
    hello_ok: bytes
    hello_error: Callable[[Failure], bytes]
    response: EncodeResponse
    fetched: EncodeFetched
    entries: Entries


WS_JSON: Final = WsEncoding(
    is_binary=False,
    decode=decode_client_message,
    hello_ok=HELLO_OK,
    hello_error=encode_hello_error,
    response=encode_response,
    fetched=encode_fetched,
    entries=json_entries,
)
WS_PROTOBUF: Final = WsEncoding(
    is_binary=True,
    decode=decode_client_message_protobuf,
    hello_ok=HELLO_OK_PROTOBUF,
    hello_error=encode_hello_error_protobuf,
    response=encode_response_protobuf,
    fetched=encode_fetched_protobuf,
    entries=protobuf_entries,
)


@dataclass(frozen=True, slots=True)
class Subprotocol:
    """What client and server have agreed on. `name` is spelled as the client offered it, None if it offered nothing."""

    name: str | None
    version: int
    encoding: WsEncoding


PROTOCOLS: Final = {
    "hrana3-protobuf": (3, WS_PROTOBUF),
    "hrana3": (3, WS_JSON),
    "hrana2": (2, WS_JSON),
    "hrana1": (1, WS_JSON),
}
"""Version and encoding by name, the one that we like best first."""


def choose_protocol(offered: Sequence[str]) -> Subprotocol:
    """Choose among the subprotocols that a client offers; who offers none speaks version 1. Raises NoCommonProtocol."""
    if not offered:
        return Subprotocol(None, 1, WS_JSON)
    spelled = {name.lower(): name for name in reversed(offered)}
    for name, (version, encoding) in PROTOCOLS.items():
        if name in spelled:
            return Subprotocol(spelled[name], version, encoding)
    raise NoCommonProtocol(f"none of the offered subprotocols is spoken here, only {', '.join(PROTOCOLS)}")
