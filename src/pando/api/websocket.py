"""SQL over WebSocket (Hrana 1 to 3) as an ASGI handler: handshake, frames, close codes.

Served at `/`, and at `/dev/NAME` for the database NAME. The headers of the handshake say what those of a pipeline say;
the token comes with `hello`, or with the handshake. Not here: messages and streams (`pando.sql.ws_session`), bytes of
the protocol (`pando.node.websocket_protocol`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from pando.api.http import Message, Receive, Scope, Send
from pando.api.pipeline import Headers, Request, error_response, read_headers
from pando.errors import NotFound, PandoError
from pando.log import EventLog
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.freshness import SESSION, Freshness
from pando.sql.messages import HranaProtocolError
from pando.sql.service import Call, SqlService
from pando.sql.ws_encodings import NoCommonProtocol, Subprotocol, WsEncoding, choose_protocol
from pando.sql.ws_messages import OUR_BUG, UNREADABLE, UNSUPPORTED_DATA, VIOLATION, Unreadable
from pando.sql.ws_session import WsSession

HELLO_S: Final = 10.0
"""How long after the handshake the first message may take."""
RESTARTS: Final = 1012
"""Code of a disconnect that means: this process stops; answer what was taken, and close with it."""
STOPS: Final = "the node stops; what has no answer was not done"
_REASON_BYTES_MAX: Final = 123
"""Longest reason in a close frame (RFC 6455 section 5.5, less two bytes for the code)."""


class _Refused(Exception):
    """The connection must be closed with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class WebSocketHandler:
    """ASGI application for scopes of type `websocket`."""

    def __init__(
        self,
        service: SqlService,
        authenticate: Callable[[Headers], Access],
        log: EventLog,
        *,
        database_from_host: bool = False,
        default_freshness: Freshness = SESSION,
        hello_s: float = HELLO_S,
    ) -> None:
        self._service = service
        self._authenticate = authenticate
        self._log = log
        self._database_from_host = database_from_host
        self._default_freshness = default_freshness
        self._hello_s = hello_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hold one connection until it ends."""
        await receive()  # websocket.connect
        try:
            call = self._read_handshake(scope)
            protocol = choose_protocol(scope["subprotocols"])
        except NoCommonProtocol as error:
            await refuse(send, (400, [(b"content-type", b"text/plain")], error.message.encode()))
            return
        except PandoError as error:
            await refuse(send, error_response(error))
            return
        await send({"type": "websocket.accept", "subprotocol": protocol.name})
        try:
            await self._hold(scope, receive, send, call, protocol)
        except OSError:
            return  # the client went away while something was sent
        except _Refused as refused:
            await _close(send, refused.code, refused.reason)

    def _read_handshake(self, scope: Scope) -> Call:
        """Give what the handshake asks for; who asks is said later. Raises PandoError."""
        request = Request(FULL_ACCESS, scope["path"], freshness=self._default_freshness)
        namespace = namespace_of(request.path)
        read_headers(request, scope["headers"], namespace, database_from_host=self._database_from_host)
        return Call(
            database=request.database,
            bookmark=request.bookmark,
            freshness=request.freshness,
            durability=request.durability,
            caller=request.caller,
        )

    async def _hold(self, scope: Scope, receive: Receive, send: Send, call: Call, protocol: Subprotocol) -> None:
        encoding = protocol.encoding

        async def send_message(message: bytes) -> None:
            shown = {"bytes": message} if encoding.is_binary else {"text": message.decode()}
            await send({"type": "websocket.send", **shown})

        async def on_bug(error: Exception) -> None:
            self._log.emit("request.failed", method="WEBSOCKET", path=scope["path"], error=repr(error))
            await _close(send, OUR_BUG, "internal error")

        session = WsSession(
            self._service,
            self._authenticate,
            call=call,
            headers=scope["headers"],
            version=protocol.version,
            encoding=encoding,
            send=send_message,
            on_bug=on_bug,
        )
        try:
            await self._converse(session, encoding, receive)
        except Unreadable as error:
            raise _Refused(UNREADABLE, error.message) from error
        except HranaProtocolError as error:
            raise _Refused(VIOLATION, error.message) from error
        except (_Refused, OSError):
            raise
        except Exception as error:
            await on_bug(error)
            raise
        finally:
            await session.close()

    async def _converse(self, session: WsSession, encoding: WsEncoding, receive: Receive) -> None:
        try:
            message = await asyncio.wait_for(receive(), self._hello_s)
        except TimeoutError as error:
            raise _Refused(VIOLATION, f"no hello within {self._hello_s:g} s") from error
        while message["type"] == "websocket.receive":
            await session.take(frame_of(message, encoding))
            message = await receive()
        if message.get("code") == RESTARTS:
            await session.finish()
            raise _Refused(RESTARTS, STOPS)


def namespace_of(path: str) -> str | None:
    """Give the database that a path names, None for the usual one. Raises NotFound."""
    if path in {"", "/"}:
        return None
    _, _, rest = path.partition("/dev/")
    name = rest.removesuffix("/")
    if not path.startswith("/dev/") or not name or "/" in name:
        raise NotFound(f"there is no WebSocket at {path[:200]}")
    return name


def frame_of(message: Message, encoding: WsEncoding) -> str | bytes:
    """Give what a frame holds; raises _Refused for one of the wrong kind."""
    frame: str | bytes | None = message.get("bytes" if encoding.is_binary else "text")
    if frame is None:
        words = "in protocol buffers, in binary frames" if encoding.is_binary else "JSON in text frames"
        raise _Refused(UNSUPPORTED_DATA, f"messages are {words}")
    return frame


async def refuse(send: Send, answer: tuple[int, Headers, bytes]) -> None:
    """Answer a handshake with an HTTP error."""
    status, headers, body = answer
    await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


async def _close(send: Send, code: int, reason: str) -> None:
    """Close; the reason is cut to what a frame may hold."""
    cut = reason.encode("utf-8", "replace")[:_REASON_BYTES_MAX].decode("utf-8", "ignore")
    try:
        await send({"type": "websocket.close", "code": code, "reason": cut})
    except (OSError, RuntimeError):
        return  # gone already, or closed by us already
