"""The end of a server of HTTP: what each client is told, whatever it is just doing."""

import asyncio
import json
import socket
from contextlib import asynccontextmanager

import pytest
from http_kit import App, serving
from prompt_bench import post, with_client

from pando.node.ending import LINGER_S, end_connections, take_waiting
from pando.testing.waiting import run

LONG_S = 20.0
LARGE = 16 << 20
"""More than sockets hold."""


@asynccontextmanager
async def connection(server):
    reader, writer = await server.connect()
    try:
        yield reader, writer
    finally:
        writer.close()


async def head_of(reader):
    return (await reader.readuntil(b"\r\n\r\n")).decode()


async def ended(reader):
    """All that comes until the server has closed for sending."""
    return (await ended_bytes(reader)).decode()


def error_in(text):
    return json.loads(text.partition("\r\n\r\n")[2])


async def ended_bytes(reader):
    async with asyncio.timeout(LONG_S):
        return await reader.read()


async def until_unsent(server):
    async with asyncio.timeout(LONG_S):
        while not any(one.has_unsent() for one in server.state.connections):
            await asyncio.sleep(0)


async def until_in_flight(server):
    async with asyncio.timeout(LONG_S):
        while not any(connection.is_in_flight() for connection in server.state.connections):
            await asyncio.sleep(0)


def stop(server, answer_s=LONG_S, last_s=0.0):
    server.gate.stop()
    return asyncio.ensure_future(end_connections(server.state.connections, answer_s, last_s=last_s))


def test_a_request_that_comes_after_the_stop_is_answered_as_the_last_one(folder):
    async def scenario():
        async with serving(folder) as server, connection(server) as (reader, writer):
            writer.write(b"GET /x HTTP/1.1\r\nhost: x\r\n\r\n")
            assert "connection" not in await head_of(reader)
            await reader.readexactly(len("GET /x 0"))
            stopping = stop(server, last_s=LONG_S)
            await asyncio.sleep(0)
            writer.write(b"POST /late HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab")
            text = await ended(reader)
            assert text.startswith("HTTP/1.1 200 ") and "connection: close\r\n" in text and text.endswith("/late 2")
            await stopping
            assert not server.state.connections

    run(scenario())


def test_an_idle_connection_is_told_that_nothing_was_read_and_what_crosses_it_is_thrown_away(folder):
    async def scenario():
        app = App()
        async with serving(folder, app=app) as server, connection(server) as (reader, writer):
            await server.until_open(1)
            stopping = stop(server)
            head = await head_of(reader)
            assert head.startswith("HTTP/1.1 503 ")
            assert "pando-unread: 1\r\n" in head and "connection: close\r\n" in head
            writer.write(b"POST /crossing HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab")
            error = json.loads(await ended(reader))  # to its end, and not to a reset
            assert (error["code"], error["retryable"]) == ("NOT_READY", True)
            assert not stopping.done(), "the connection stays open for what crosses"
            writer.close()
            await stopping
            assert app.largest == 0

    run(scenario())


def test_a_request_under_way_is_waited_for(folder):
    async def scenario():
        async with serving(folder) as server, connection(server) as (reader, writer):
            writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            await until_in_flight(server)
            stopping = stop(server)
            asyncio.get_running_loop().call_later(0.05, server.app.go_on.set)  # later than idle ones are ended
            text = await ended(reader)
            assert text.startswith("HTTP/1.1 200 ") and "connection: close\r\n" in text
            await stopping

    run(scenario())


@pytest.mark.parametrize(
    ("begun", "code", "is_retryable"),
    [
        (b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab", "NOT_READY", True),
        (b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n", "NOT_READY", True),
        (b"POST /slow HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab", "OUTCOME_UNKNOWN", False),
        (
            b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\nPOST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nab",
            "OUTCOME_UNKNOWN",
            False,
        ),
    ],
    ids=["in its body", "a read", "a write", "several"],
)
def test_a_request_without_an_answer_is_told_what_is_known_of_it(folder, begun, code, is_retryable):
    async def scenario():
        async with serving(folder) as server, connection(server) as (reader, writer):
            writer.write(begun)
            await until_in_flight(server)
            stopping = stop(server, answer_s=0)
            text = await ended(reader)
            assert text.startswith("HTTP/1.1 503 ") and "pando-unread" not in text
            assert (error_in(text)["code"], error_in(text)["retryable"]) == (code, is_retryable)
            server.app.go_on.set()  # its answer goes nowhere
            await stopping
            writer.close()

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("is_answered", [False, True], ids=["under way", "answered"])
def test_an_answer_that_is_read_slowly_is_sent_to_its_end(folder, is_answered):
    async def large(scope, receive, send):
        await receive()
        await go_on.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % LARGE)]})
        await send({"type": "http.response.body", "body": bytes(LARGE)})

    go_on = asyncio.Event()

    async def scenario():
        async with serving(folder, app=large) as server, connection(server) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await until_in_flight(server)
            if is_answered:
                go_on.set()
                await until_unsent(server)
            stopping = stop(server)
            go_on.set()
            await until_unsent(server)
            await asyncio.wait([stopping], timeout=2 * LINGER_S)
            assert not stopping.done()
            head, _, body = (await ended_bytes(reader)).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 ") and body[:LARGE] == bytes(LARGE)
            writer.close()
            await stopping

    run(scenario())


def test_requests_that_are_answered_at_once_are_told_that_it_is_the_last_answer(folder):
    async def scenario(client):
        client.send(post(b"now"))
        assert "connection" not in (await client.reply()).headers
        client.server.gate.stop()
        client.connection.end_after_answer()
        client.send(post(b"now"))
        assert (await client.reply()).headers["connection"] == "close"
        assert await client.at_end()

    with_client(folder, scenario)


def test_a_prompt_request_without_an_answer_is_an_unknown_outcome(folder):
    async def scenario(client):
        client.send(post(b"wait"))
        await client.wait_until(lambda: client.prompts.asked)
        client.server.gate.stop()
        client.connection.end_after_answer()
        client.connection.leave()  # not yet: somebody waits
        client.connection.give_up()
        reply = await client.reply()
        assert (reply.status, json.loads(reply.body)["code"]) == (503, "OUTCOME_UNKNOWN")
        client.prompts.go_on.set()
        assert await client.at_end()

    with_client(folder, scenario)


def test_links_and_upgrades_are_refused_by_a_server_that_stops(folder):
    async def scenario():
        async with serving(folder, ws="websockets-sansio") as server:
            server.gate.stop()
            for path in ("/cluster/link", "/"):
                reader, writer = await server.connect()
                kind = "pando-link" if path != "/" else "websocket"
                writer.write(
                    f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\nupgrade: {kind}\r\n\r\n".encode()
                )
                text = await ended(reader)
                assert text.startswith("HTTP/1.1 503 "), text
                assert error_in(text)["code"] == "NOT_READY"
                writer.close()

    run(scenario())


def test_connections_that_wait_for_the_server_are_taken():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.setblocking(False)
        clients = [socket.create_connection(listening.getsockname()) for _ in range(3)]
        taken = take_waiting(listening)
        assert sorted(one.getpeername() for one in taken) == sorted(one.getsockname() for one in clients)
        assert take_waiting(listening) == []
        for one in (*taken, *clients):
            one.close()
