"""The end of the front: what its clients are told."""

import asyncio
import json
from contextlib import asynccontextmanager

import aiohttp
import pytest
from fake_http_node import FakeNode, answer
from front_kit import front_of, websocket_node

from pando.testing.waiting import run, until

REQUEST = b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"


@asynccontextmanager
async def connection(front):
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    try:
        yield reader, writer
    finally:
        writer.close()


async def to_the_end(reader):
    async with asyncio.timeout(10):
        return (await reader.read()).decode()


def waiting(go_on):
    async def script(seen, reader, writer):
        await go_on.wait()
        return answer(b"done")

    return script


def test_a_request_under_way_is_answered_as_the_last_one_and_nobody_else_comes_in():
    async def scenario():
        go_on = asyncio.Event()
        node = FakeNode(script=waiting(go_on))
        async with front_of(node) as (front, _), connection(front) as (reader, writer):
            writer.write(REQUEST)
            await until(lambda: node.seen)
            port = front.port
            stopping = asyncio.ensure_future(front.close())
            await asyncio.sleep(0)
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            go_on.set()
            text = await to_the_end(reader)
            assert text.startswith("HTTP/1.1 200 ") and "\r\nConnection: close\r\n" in text and text.endswith("done")
            await stopping

    run(scenario())


def test_an_idle_connection_is_told_that_nothing_was_read():
    async def scenario():
        node = FakeNode()
        async with front_of(node) as (front, _), connection(front) as (reader, writer):
            writer.write(REQUEST)
            await reader.readuntil(b"node")
            stopping = asyncio.ensure_future(front.close())
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            assert head.startswith("HTTP/1.1 503 ") and "pando-unread: 1\r\n" in head
            writer.write(REQUEST)  # crosses the words
            assert json.loads(await to_the_end(reader))["retryable"] is True
            writer.close()
            await stopping
            assert len(node.seen) == 1

    run(scenario())


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (REQUEST, "OUTCOME_UNKNOWN"),
        (REQUEST[:-1], "NOT_READY"),
        (b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n", "NOT_READY"),
    ],
    ids=["a write", "in its body", "a read"],
)
def test_a_request_without_an_answer_is_told_what_is_known_of_it(request_, code):
    async def scenario():
        node = FakeNode(script=waiting(asyncio.Event()))
        async with front_of(node, end_s=0.0) as (front, _), connection(front) as (reader, writer):
            writer.write(request_)
            await until(lambda: front.is_busy)
            stopping = asyncio.ensure_future(front.close())
            text = await to_the_end(reader)
            assert text.startswith("HTTP/1.1 503 ") and "pando-unread" not in text
            assert json.loads(text.partition("\r\n\r\n")[2])["code"] == code
            writer.close()
            await stopping

    run(scenario())


def test_an_event_stream_comes_to_a_proper_end_at_once():
    async def script(seen, reader, writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n"
        )
        await asyncio.Event().wait()

    async def scenario():
        async with front_of(FakeNode(script=script)) as (front, client), client.get("/") as found:
            assert await found.content.readany() == b"one"
            stopping = asyncio.ensure_future(front.close())
            async with asyncio.timeout(3):
                assert await found.content.read() == b""  # raises when the answer breaks off
            await stopping

    run(scenario())


def test_another_long_answer_is_passed_on_to_its_end():
    go_on = asyncio.Event()

    async def script(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        return b"3\r\ntwo\r\n0\r\n\r\n"

    async def scenario():
        async with front_of(FakeNode(script=script)) as (front, client), client.get("/") as found:
            assert await found.content.readany() == b"one"
            stopping = asyncio.ensure_future(front.close())
            await asyncio.sleep(0)
            go_on.set()
            assert await found.content.read() == b"two"
            await stopping

    run(scenario())


def test_a_websocket_is_closed_with_going_away():
    async def listen(request):
        node_end = aiohttp.web.WebSocketResponse()
        await node_end.prepare(request)
        async for message in node_end:
            await node_end.send_str(message.data)
        return node_end

    async def scenario():
        async with websocket_node(listen) as (front, client), client.ws_connect("/") as opened:
            await opened.send_str("x")
            assert await opened.receive_str() == "x"
            stopping = asyncio.ensure_future(front.close())
            message = await opened.receive()
            assert (message.type, message.data) == (aiohttp.WSMsgType.CLOSE, 1001)
            await stopping

    run(scenario())
