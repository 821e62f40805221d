import asyncio
import contextlib
import json
import os
import select
import subprocess
import sys

import aiohttp
import pytest
from fake_http_node import FakeNode, answer, read_body
from front_kit import failure, front_of, get_text, raw

from pando.errors import InvalidSetting
from pando.log import EventLog
from pando.node.front import Front, FrontOptions, parse_options
from pando.node.plain_answers import full_answer
from pando.testing.waiting import run, until

MIB = 1 << 20


# -- spreading --------------------------------------------------------------------------------------------------------


def test_requests_go_round_the_nodes():
    async def scenario():
        async with front_of(FakeNode("a"), FakeNode("b"), FakeNode("c")) as (_, client):
            assert [await get_text(client) for _ in range(6)] == ["a", "b", "c", "a", "b", "c"]

    run(scenario())


def test_a_node_that_is_not_ready_gets_nothing():
    async def scenario():
        idle = FakeNode("b", health=answer(b"{}", "503 Service Unavailable"))
        async with front_of(FakeNode("a"), idle) as (_, client):
            assert {await get_text(client) for _ in range(4)} == {"a"}
            assert idle.seen == []

    run(scenario())


@pytest.mark.slow
def test_a_dead_node_is_skipped_without_an_error_and_taken_back():
    async def scenario():
        a, b = FakeNode("a"), FakeNode("b")
        async with front_of(a, b) as (front, client):
            await b.die()
            for _ in range(4):  # also those whose turn it was at b: nothing was sent, so a got them
                async with client.post("/", data=b"x") as found:
                    assert await found.text() == "a"
            await b.start()
            await until(lambda: front.rotation.nodes[1].is_up)
            assert {await get_text(client) for _ in range(2)} == {"a", "b"}
            assert sum("front.node_down" in line for line in front.lines) == 1

    run(scenario())


def test_without_a_living_node_it_says_so():
    async def scenario():
        a = FakeNode("a")
        async with front_of(a) as (_, client):
            await a.die()
            for _ in range(2):
                async with client.post("/v2/pipeline", data=b"{}") as found:
                    status, code, retryable = await failure(found)
                    assert (status, retryable) == (503, True)
                    assert found.headers["retry-after"] == "1"
            assert code == "NOT_READY"

    run(scenario())


# -- what goes through ------------------------------------------------------------------------------------------------


def test_method_target_headers_and_body_arrive_as_they_were():
    async def scenario():
        node = FakeNode()
        async with front_of(node) as (front, _):
            await raw(
                front,
                b"PATCH /a%2Fb//c?q=%20x&q=1+2&e HTTP/1.1\r\nHost: shop.example:99\r\nX-Two: 1\r\nX-Two: 2\r\n"
                b"X-Forwarded-For: 10.0.0.9\r\nContent-Encoding: gzip\r\nKeep-Alive: 3\r\nX-Own: 1\r\n"
                b"Connection: x-own\r\nContent-Length: 3\r\n\r\nabc",
                until=b"node",
            )
            seen = node.seen[0]
            assert (seen.method, seen.target, seen.body) == ("PATCH", "/a%2Fb//c?q=%20x&q=1+2&e", b"abc")
            assert seen.header("host") == ["shop.example:99"]
            assert seen.header("x-two") == ["1", "2"]
            assert seen.header("content-encoding") == ["gzip"]
            assert seen.header("x-forwarded-for") == ["10.0.0.9, 127.0.0.1"]
            for name in ("connection", "keep-alive", "x-own", "user-agent", "accept", "accept-encoding"):
                assert seen.header(name) == [], name

    run(scenario())


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND"])
def test_every_method_goes_through(method):
    async def scenario():
        node = FakeNode()
        async with front_of(node) as (_, client), client.request(method, "/x") as found:
            assert await found.text() == "node"
            assert node.seen[0].method == method

    run(scenario())


def test_status_and_headers_of_the_answer_come_back():
    async def script(seen, reader, writer):
        return answer(
            b"\x1f\x8b", "418 Odd", [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("Content-Encoding", "gzip")]
        )

    async def scenario():
        async with front_of(FakeNode(script=script)) as (_, client), client.get("/") as found:
            assert (found.status, found.reason) == (418, "Odd")
            assert found.headers.getall("set-cookie") == ["a=1", "b=2"]
            assert await found.read() == b"\x1f\x8b"

    run(scenario())


def test_an_answer_to_head_keeps_its_length():
    async def script(seen, reader, writer):
        return b"HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n" + b"x" * 1234 * (seen.method == "GET")

    async def scenario():
        async with front_of(FakeNode(script=script)) as (_, client), client.head("/") as found:
            assert found.headers["content-length"] == "1234"
            async with client.get("/") as again:  # the connections are in order
                assert len(await again.read()) == 1234

    run(scenario())


@pytest.mark.parametrize("line", [b"GET * HTTP/1.1", b"CONNECT a:1 HTTP/1.1", "GET /ä HTTP/1.1".encode()])
def test_what_cannot_be_passed_on_is_refused(line):
    async def scenario():
        node = FakeNode()
        async with front_of(node) as (front, _):
            head = await raw(front, line + b"\r\nHost: x\r\n\r\n")
            assert head.split()[1] == b"400"
            assert node.seen == []

    run(scenario())


# -- streams ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_large_body_streams_through(is_chunked):
    async def scenario():
        node = FakeNode()

        async def body():
            for number in range(64):
                yield bytes([number]) * (MIB // 4)

        headers = {} if is_chunked else {"Content-Length": str(16 * MIB)}
        async with front_of(node) as (_, client), client.post("/", data=body(), headers=headers) as found:
            assert await found.text() == "node"
            assert node.seen[0].body == b"".join([chunk async for chunk in body()])

    run(scenario())


@pytest.mark.slow
def test_a_body_that_stalls_in_the_node_stalls_the_client():
    """What the front holds is bounded: a client cannot send much more than the node takes."""
    may_read = asyncio.Event()

    async def script(seen, reader, writer):
        await may_read.wait()
        return answer(str(len(await read_body(seen, reader))).encode())

    async def scenario():
        sent = 0

        async def body():
            nonlocal sent
            for _ in range(32):
                yield bytes(MIB)
                sent += 1

        async with front_of(FakeNode(script=script, reads_body=False)) as (_, client):
            request = asyncio.ensure_future(client.post("/", data=body()))
            await until(lambda: sent > 0)
            before = -1
            while before != sent:  # until nothing moves any more
                before = sent
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(asyncio.shield(request), 0.1)
            assert sent < 16
            may_read.set()
            async with await request as found:
                assert await found.text() == str(32 * MIB)

    run(scenario())


def test_parts_of_an_answer_come_as_they_are_sent():
    next_part = asyncio.Event()

    async def script(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b"one", b"two"):
            writer.write(b"3\r\n" + part + b"\r\n")
            await next_part.wait()
        return b"0\r\n\r\n"

    async def scenario():
        async with front_of(FakeNode(script=script)) as (_, client), client.get("/") as found:
            assert await found.content.readany() == b"one"
            next_part.set()
            assert await found.content.readany() == b"two"
            assert await found.content.readany() == b""
            assert found.content_type == "text/event-stream"

    run(scenario())


def test_a_client_that_leaves_ends_the_request_at_the_node():
    left = asyncio.Event()

    async def script(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n")
        await reader.read()  # until the front closes
        left.set()

    async def scenario():
        async with front_of(FakeNode(script=script)) as (_, client):
            async with client.get("/") as found:
                await found.content.readany()
            await asyncio.wait_for(left.wait(), 5)

    run(scenario())


def test_an_early_answer_stops_the_upload():
    async def script(seen, reader, writer):
        writer.write(answer(b"too large", "413 Content Too Large", [("Connection", "close")]))
        await writer.drain()
        while await reader.read(MIB):  # as a polite server does, so that the answer is not lost to a reset
            pass

    async def scenario():
        async def body():
            for _ in range(100):
                yield bytes(MIB)

        node = FakeNode(script=script, reads_body=False)
        headers = {"Content-Length": str(100 * MIB)}
        async with front_of(node) as (_, client), client.post("/", data=body(), headers=headers) as found:
            assert found.status == 413
            assert await found.text() == "too large"

    run(scenario())


def test_a_client_that_waits_for_continue_is_told_to_go_on():
    async def scenario():
        node = FakeNode()
        async with front_of(node) as (_, client), client.post("/", data=b"x" * 10, expect100=True) as found:
            assert await found.text() == "node"
            assert (node.seen[0].body, node.seen[0].header("expect")) == (b"x" * 10, [])

    run(scenario())


# -- death in the middle ----------------------------------------------------------------------------------------------


async def hang_up(seen, reader, writer):
    writer.transport.abort()


def test_a_write_whose_connection_broke_is_never_sent_again():
    async def scenario():
        a, b = FakeNode("a", script=hang_up), FakeNode("b", script=hang_up)
        async with front_of(a, b) as (_, client), client.post("/", data=b"x") as found:
            assert await failure(found) == (503, "OUTCOME_UNKNOWN", False)
            assert "retry-after" not in found.headers
            assert len(a.seen) + len(b.seen) == 1

    run(scenario())


def test_a_read_whose_connection_broke_goes_to_another_node():
    async def scenario():
        a, b = FakeNode("a", script=hang_up), FakeNode("b")
        async with front_of(a, b) as (_, client):
            assert [await get_text(client) for _ in range(3)] == ["b"] * 3
            assert a.seen

    run(scenario())


def test_a_read_that_every_node_drops_may_be_sent_again():
    async def scenario():
        async with (
            front_of(FakeNode(script=hang_up), FakeNode(script=hang_up)) as (_, client),
            client.get("/") as found,
        ):
            assert await failure(found) == (503, "RETRY_LATER", True)

    run(scenario())


async def end_unread(seen, reader, writer):
    """As a node that has too many connections, and had ended this one when the request came."""
    writer.write(full_answer("this one was idle the longest", is_unread=True))
    await writer.drain()
    writer.close()


def test_a_write_that_a_node_did_not_read_goes_to_another_node():
    async def scenario():
        a, b = FakeNode("a", script=end_unread), FakeNode("b")
        async with front_of(a, b) as (_, client):
            for _ in range(3):
                async with client.post("/", data=b"x") as found:
                    assert (found.status, await found.text()) == (200, "b")
            assert a.seen, "it stays in turn: it is well, only full"
            assert [seen.body for seen in b.seen] == [b"x"] * 3

    run(scenario())


def test_a_write_that_the_only_node_did_not_read_is_sent_there_again_over_another_connection():
    async def script(seen, reader, writer):
        if len(node.seen) == 1:
            return await end_unread(seen, reader, writer)
        return answer(b"done")

    node = FakeNode(script=script)

    async def scenario():
        async with front_of(node) as (_, client), client.post("/", data=b"x") as found:
            assert (found.status, await found.text()) == (200, "done")
            assert [seen.body for seen in node.seen] == [b"x", b"x"]

    run(scenario())


def test_an_idle_connection_that_a_node_ends_leaves_no_answer_for_the_next_request():
    told = asyncio.Event()

    async def script(seen, reader, writer):
        if len(node.seen) > 1:
            return answer(b"done")
        writer.write(answer(b"first"))
        await writer.drain()
        await answered.wait()
        await end_unread(seen, reader, writer)
        told.set()
        return None

    node = FakeNode(script=script)
    answered = asyncio.Event()

    async def scenario():
        async with front_of(node) as (_, client):
            async with client.post("/", data=b"x") as found:
                assert await found.text() == "first"
            answered.set()
            await told.wait()
            async with client.post("/", data=b"y") as found:
                assert (found.status, await found.text()) == (200, "done")

    run(scenario())


def test_a_write_that_no_node_reads_may_be_sent_again():
    async def scenario():
        a, b = FakeNode(script=end_unread), FakeNode(script=end_unread)
        async with front_of(a, b) as (_, client):
            async with client.post("/", data=b"x") as found:
                assert await failure(found) == (503, "RETRY_LATER", True)
            assert (len(a.seen), len(b.seen)) == (2, 2)

            async def body():
                yield b"a stream can be sent once"

            async with client.post("/", data=body()) as found:
                assert await failure(found) == (503, "RETRY_LATER", True)
            assert len(a.seen) + len(b.seen) == 5

    run(scenario())


@pytest.mark.parametrize(
    "begin", [b"Content-Length: 200000\r\n\r\n" + bytes(1000), b"Transfer-Encoding: chunked\r\n\r\n3\r\none\r\n"]
)
def test_an_answer_that_breaks_off_does_not_look_complete(begin):
    async def script(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\n" + begin)
        await writer.drain()

    async def scenario():
        async with front_of(FakeNode(script=script)) as (_, client):
            with pytest.raises(aiohttp.ClientError):
                async with client.get("/") as found:
                    await found.read()

    run(scenario())


def test_a_short_answer_that_breaks_off_becomes_an_error():
    async def script(seen, reader, writer):
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nabc")
        await writer.drain()

    async def scenario():
        async with front_of(FakeNode(script=script)) as (_, client), client.post("/", data=b"x") as found:
            assert await failure(found) == (503, "OUTCOME_UNKNOWN", False)

    run(scenario())


def test_an_answer_that_is_no_http_becomes_an_error():
    async def script(seen, reader, writer):
        return b"SSH-2.0-x\r\n\r\n"

    async def scenario():
        async with front_of(FakeNode(script=script)) as (_, client), client.post("/", data=b"x") as found:
            assert await failure(found) == (503, "OUTCOME_UNKNOWN", False)

    run(scenario())


# -- bounds -----------------------------------------------------------------------------------------------------------


def test_past_the_limit_the_longest_idle_connection_is_told_to_go():
    async def scenario():
        async with front_of(FakeNode(), connections_max=2) as (front, client):
            reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
            assert await get_text(client) == "node"
            others = [await asyncio.open_connection("127.0.0.1", front.port) for _ in range(2)]
            told = await reader.read()
            assert told.startswith(b"HTTP/1.1 503")
            assert json.loads(told.partition(b"\r\n\r\n")[2])["code"] == "OVERLOADED"
            for _, other in others:
                other.close()
            writer.close()

    run(scenario())


def test_when_all_are_busy_the_newcomer_is_refused():
    may_end = asyncio.Event()

    async def script(seen, reader, writer):
        await may_end.wait()
        return answer(b"done")

    async def scenario():
        node = FakeNode(script=script)
        async with front_of(node, connections_max=2) as (_, client):
            busy = [asyncio.ensure_future(get_text(client)) for _ in range(2)]
            await until(lambda: len(node.seen) == 2)
            async with client.get("/") as found:
                assert await failure(found) == (503, "OVERLOADED", True)
                assert found.headers["connection"] == "close"
            may_end.set()
            assert await asyncio.gather(*busy) == ["done", "done"]

    run(scenario())


def test_broken_http_is_refused_and_not_logged():
    async def scenario():
        async with front_of(FakeNode()) as (front, _):
            assert (await raw(front, b"nonsense\r\n\r\n")).startswith(b"HTTP/1.0 400")
            assert [line for line in front.lines if "http.problem" in line] == []

    run(scenario())


# -- the process ------------------------------------------------------------------------------------------------------


def test_options_are_read():
    options = parse_options(
        ["--listen", "127.0.0.1:80", "--node", "http://h:1/", "--node", "http://h:2", "--alive-fd", "7"]
    )
    nodes = ("http://h:1", "http://h:2")
    assert options == FrontOptions(listen=("127.0.0.1", 80), nodes=nodes, alive_fd=7, begin_wait_s=30)
    with pytest.raises(InvalidSetting, match="--node"):
        parse_options(["--node", "nonsense"])


def test_a_taken_port_is_named():
    async def scenario():
        node = await FakeNode().start()
        front = Front(FrontOptions(listen=("127.0.0.1", node.port), nodes=(node.url,)), EventLog("front"))
        with pytest.raises(InvalidSetting, match=str(node.port)):
            await front.start()
        await node.die()

    run(scenario())


@pytest.mark.slow
def test_the_process_ends_when_its_parent_is_gone():
    read_end, write_end = os.pipe()
    command = [sys.executable, "-m", "pando.node.front", "--alive-fd", str(read_end), "--log-level", "info"]
    command += ["--listen", "127.0.0.1:0", "--node", "http://127.0.0.1:1"]
    command[command.index("127.0.0.1:0")] = f"127.0.0.1:{free_port()}"
    with subprocess.Popen(command, pass_fds=(read_end,), stderr=subprocess.PIPE) as process:
        os.close(read_end)
        assert process.poll() is None
        os.close(write_end)
        assert process.wait(20) == 0
        assert not select.select([process.stderr], [], [], 0)[0] or process.stderr.read() == b""


def free_port():
    import socket

    with socket.create_server(("127.0.0.1", 0)) as found:
        return found.getsockname()[1]
