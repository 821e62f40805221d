"""The protocol class under a real server and real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, ConnectionClosedError, InvalidStatus

from pando.log import EventLog
from pando.node.http_protocol import Gate, bind_gate
from pando.node.websocket_protocol import FRAGMENTS_MAX, GOES, NodeWebSocket, bind_limit, keep_alive

pytestmark = pytest.mark.slow  # a server takes a while to stop

HANDSHAKE = (
    "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n{more}\r\n"
)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers each message with its length."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(len(message["text"]))})


class Served:
    """A running server."""

    def __init__(self, connections_max: int, sockets_max: int, **options: Any) -> None:
        self.gate = Gate(
            connections_max=connections_max,
            giver=None,  # type: ignore[arg-type] # no links here
            log=EventLog("web-0", write=lambda _line: None),
            keep_alive_s=75,
        )
        self.protocol = bind_limit(sockets_max)
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.port = self.listening.getsockname()[1]
        self.server = uvicorn.Server(
            uvicorn.Config(
                echo,
                http=bind_gate(self.gate),
                ws=self.protocol,
                lifespan="off",
                log_config=None,
                ws_ping_timeout=None,
                ws_per_message_deflate=False,
                **options,
            )
        )

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/"


@contextlib.asynccontextmanager
async def serving(connections_max: int = 100, sockets_max: int = 50, **options: Any) -> AsyncIterator[Served]:
    served = Served(connections_max, sockets_max, **options)
    task = asyncio.ensure_future(served.server.serve(sockets=[served.listening]))
    while not served.server.started:
        await asyncio.sleep(0)
    try:
        yield served
    finally:
        served.server.should_exit = True
        await task


async def raw(served: Served, data: bytes) -> bytes:
    """Send bytes, give what comes until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(data)
    async with asyncio.timeout(5):
        answer = await reader.read()
    writer.close()
    return answer


def run(scenario: Any) -> None:
    asyncio.run(scenario())


def text_frame(data: bytes, *, opcode: int = 1, fin: bool = True) -> bytes:
    """A masked frame with a mask of zeros."""
    assert len(data) < 126
    return struct.pack("!BB4x", opcode | (0x80 if fin else 0), 0x80 | len(data)) + data


def test_messages_go_both_ways_and_the_gate_counts_the_connection() -> None:
    async def scenario() -> None:
        async with serving() as served:
            async with connect(served.url, compression=None) as client:
                await client.send("hello")
                assert await client.recv() == "5"
                (connection,) = served.gate.connections
                assert isinstance(connection, NodeWebSocket)
                assert connection.idle_since(1.0) is None
                served.gate.sweep(1e9)  # looks at all connections, and leaves this one
                await client.send("x" * 70_000)
                assert await client.recv() == "70000"
            assert not served.protocol.sockets

    run(scenario)


def test_a_crowd_of_requests_does_not_end_a_websocket() -> None:
    async def scenario() -> None:
        async with serving(connections_max=2) as served, connect(served.url) as client:
            kept = [await asyncio.open_connection("127.0.0.1", served.port) for _ in range(3)]
            for _, writer in kept:
                writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await client.send("hello")
            assert await client.recv() == "5"
            for _, writer in kept:
                writer.close()

    run(scenario)


def test_too_many_websockets_are_refused_and_places_come_back() -> None:
    async def scenario() -> None:
        async with serving(sockets_max=1) as served:
            async with connect(served.url) as client:
                with pytest.raises(InvalidStatus) as refused:
                    await connect(served.url)
                assert refused.value.response.status_code == 503
                await client.send("abc")
                assert await client.recv() == "3"
            async with connect(served.url) as client:
                await client.send("abc")
                assert await client.recv() == "3"

    run(scenario)


def test_compression_is_not_offered() -> None:
    async def scenario() -> None:
        async with serving() as served, connect(served.url) as client:
            assert "Sec-WebSocket-Extensions" not in client.response.headers

    run(scenario)


def test_a_message_over_the_limit_closes() -> None:
    async def scenario() -> None:
        async with serving(ws_max_size=1000) as served, connect(served.url) as client:
            await client.send("x" * 1001)
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1009

    run(scenario)


def test_a_message_of_too_many_frames_closes() -> None:
    async def scenario() -> None:
        async with serving() as served:
            frames = text_frame(b"x", fin=False) + text_frame(b"x", opcode=0, fin=False) * FRAGMENTS_MAX
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(HANDSHAKE.format(more="").encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.write(frames)
            async with asyncio.timeout(5):
                answer = await reader.read()
            assert struct.unpack_from("!BBH", answer) == (0x88, len(answer) - 2, 1009)
            writer.close()

    run(scenario)


def test_a_text_that_is_not_utf_8_closes() -> None:
    async def scenario() -> None:
        async with serving() as served:
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(HANDSHAKE.format(more="").encode())
            await reader.readuntil(b"\r\n\r\n")
            writer.write(text_frame(b"\xff"))
            async with asyncio.timeout(5):
                answer = await reader.read()
            assert struct.unpack_from("!BBH", answer) == (0x88, len(answer) - 2, 1007)
            writer.close()

    run(scenario)


def test_fragments_are_joined() -> None:
    async def scenario() -> None:
        async with serving() as served, connect(served.url, compression=None) as client:
            await client.send("ab" for _ in range(FRAGMENTS_MAX // 2))  # type: ignore[arg-type]
            assert await client.recv() == str(FRAGMENTS_MAX)

    run(scenario)


@pytest.mark.parametrize("more", ["X-Long: " + "y" * 9000 + "\r\n", "".join(f"X-{n}: 1\r\n" for n in range(200))])
def test_a_request_that_the_parser_refuses_is_answered(more: str) -> None:
    async def scenario() -> None:
        async with serving() as served:
            assert (await raw(served, HANDSHAKE.format(more=more).encode())).startswith(b"HTTP/1.1 4")
            assert not served.gate.connections

    run(scenario)


def test_a_handshake_without_a_key_is_answered() -> None:
    async def scenario() -> None:
        async with serving() as served:
            head = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            assert (await raw(served, head)).startswith(b"HTTP/1.1 4")

    run(scenario)


def test_the_kernel_watches_the_peer() -> None:
    with socket.socket() as connection:
        keep_alive(connection)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    one, other = socket.socketpair()
    with one, other:
        keep_alive(one)
        assert one.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 0
    keep_alive(None)


def test_the_server_goes_away() -> None:
    async def scenario() -> None:
        async with serving() as served:
            client = await connect(served.url)
            served.server.should_exit = True
            with pytest.raises(ConnectionClosedError) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == 1012

    run(scenario)


def test_a_server_that_stops_leaves_the_close_to_the_handler() -> None:
    async def scenario() -> None:
        async with serving() as served:
            client = await connect(served.url)
            (end,) = served.protocol.sockets
            end.end_after_answer()
            end.leave()
            assert end.is_in_flight()
            with pytest.raises(ConnectionClosedError):  # `echo` returns when it is told
                await client.recv()

    run(scenario)


def test_what_was_not_answered_in_time_is_closed_with_going_away() -> None:
    async def scenario() -> None:
        async with serving() as served:
            client = await connect(served.url)
            (end,) = served.protocol.sockets
            end.give_up()
            with pytest.raises(ConnectionClosed) as closed:
                await client.recv()
            assert closed.value.rcvd is not None
            assert closed.value.rcvd.code == GOES
            assert not end.is_in_flight()

    run(scenario)
