"""Passes a WebSocket on to a node: messages, pings and the end go through in both directions, one at a time.

Not here: choosing the node, HTTP requests (`pando.node.front_proxy`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
from aiohttp import WSMsgType, web

from pando import limits
from pando.errors import NotReady
from pando.node.front_ending import Stopping
from pando.node.front_nodes import Rotation
from pando.node.front_proxy import (
    FULL,
    Headers,
    Tries,
    describe,
    is_unread,
    is_unsent,
    passed_headers,
    request_headers,
    target_of,
)

MESSAGE_BYTES_MAX: Final = limits.BODY_SIZE_BYTES_MAX
"""Longest message; as long as a request body may be."""
CLOSE_S: Final = 2.0
"""How long the other end may take to answer the close."""
_GONE: Final = 1001  # "going away", RFC 6455 section 7.4.1
_NO_STATUS: Final = 1005  # never sent; means that the close carried no code

_Either = web.WebSocketResponse | aiohttp.ClientWebSocketResponse[bool]


def is_websocket(request: web.BaseRequest) -> bool:
    """Tell whether the client asks for a WebSocket."""
    headers = request.headers
    return (
        headers.get("Upgrade", "").lower() == "websocket"
        and "upgrade" in headers.get("Connection", "").lower()
        and request.method == "GET"
    )


def socket_headers(request: web.BaseRequest) -> Headers:
    """Give the headers for the node without those that the client of the node makes itself."""
    headers = request_headers(request)
    for name in ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Sec-WebSocket-Extensions", "Sec-WebSocket-Protocol"):
        headers.popall(name, None)
    return headers


def asked_protocols(request: web.BaseRequest) -> tuple[str, ...]:
    """Give the subprotocols that the client offers, in its order."""
    values = request.headers.getall("Sec-WebSocket-Protocol", ())
    return tuple(part.strip() for value in values for part in value.split(",") if part.strip())


async def handle_websocket(
    request: web.BaseRequest, rotation: Rotation, session: aiohttp.ClientSession, stopping: Stopping
) -> web.StreamResponse:
    """Connect the client with the first node that takes it. Raises NotReady; a refusal of the node is passed on."""
    reasons: list[str] = []
    left = Tries(rotation.order())
    for node in left:
        url = target_of(request, node)
        try:
            async with _connect(request, session, str(url)) as to_node:
                return await _relay(request, to_node, stopping)
        except aiohttp.WSServerHandshakeError as error:
            if is_unread(error.status, error.headers):
                reasons.append(f"{node.url}: {FULL}")
                left.again(node)
                continue
            headers = passed_headers(error.headers) if error.headers is not None else None
            if headers is not None:
                headers.popall("Content-Length", None)
            return web.Response(status=error.status, headers=headers)
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            reasons.append(f"{node.url}: {describe(error)}")
            if is_unsent(error):
                rotation.is_away(node, describe(error))
    raise NotReady(f"no node takes the connection; try again soon ({'; '.join(reasons) or rotation.why_none()})")


@asynccontextmanager
async def _connect(
    request: web.BaseRequest, session: aiohttp.ClientSession, url: str
) -> AsyncIterator[aiohttp.ClientWebSocketResponse[bool]]:
    to_node = await session.ws_connect(
        url,
        headers=socket_headers(request),
        protocols=asked_protocols(request),
        autoclose=False,
        autoping=False,
        compress=0,
        max_msg_size=MESSAGE_BYTES_MAX,
        timeout=aiohttp.ClientWSTimeout(ws_receive=None, ws_close=CLOSE_S),
    )
    try:
        yield to_node
    finally:
        await to_node.close(code=_GONE)


async def _relay(
    request: web.BaseRequest, to_node: aiohttp.ClientWebSocketResponse[bool], stopping: Stopping
) -> web.StreamResponse:
    to_client: web.WebSocketResponse = web.WebSocketResponse(
        timeout=CLOSE_S,
        autoclose=False,
        autoping=False,
        compress=False,
        max_msg_size=MESSAGE_BYTES_MAX,
        protocols=(to_node.protocol,) if to_node.protocol else (),
    )
    await to_client.prepare(request)
    ways = [asyncio.ensure_future(_pump(to_client, to_node)), asyncio.ensure_future(_pump(to_node, to_client))]
    try:
        async with stopping.ends():
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
    await to_client.close(code=_GONE)
    return to_client


async def _pump(source: _Either, target: _Either) -> None:
    """Pass messages on until the source ends; the end is passed on too."""
    while True:
        message: Any = await source.receive()
        try:
            if message.type is WSMsgType.TEXT:
                await target.send_str(message.data)
            elif message.type is WSMsgType.BINARY:
                await target.send_bytes(message.data)
            elif message.type is WSMsgType.PING:
                await target.ping(message.data)
            elif message.type is WSMsgType.PONG:
                await target.pong(message.data)
            else:
                await _pass_close(message, source, target)
                return
        except ConnectionError:
            return  # the target has gone


async def _pass_close(message: Any, source: _Either, target: _Either) -> None:  # noqa: ANN401 - of two classes
    """Answer the close of the source, and close the target with the same code and reason."""
    code, reason = _GONE, b""
    if message.type is WSMsgType.CLOSE:
        code, reason = message.data or 1000, (message.extra or "").encode()
    await target.close(code=1000 if code == _NO_STATUS else code, message=reason)
    await source.close(code=1000 if code == _NO_STATUS else code)
