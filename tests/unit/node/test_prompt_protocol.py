"""Requests that are answered within the call that brings them, beside those that take uvicorn's way."""

import asyncio
import itertools
import json

import pytest
from http_kit import KEEP_ALIVE_S, Written, next_millisecond
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prompt_bench import LARGE, Client, chunked, post, with_client
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from pando.node.http_protocol import BODY_PAUSE_S, HEAD_S, PROMPTS_MAX, JoiningTransport
from pando.node.websocket_protocol import bind_limit
from pando.testing.waiting import run

# -- what is answered by whom -----------------------------------------------------------------------------------------


def test_a_whole_request_is_answered_within_the_call_with_the_default_headers(folder):
    async def scenario(client):
        client.server.state.default_headers = [(b"date", b"one")]
        client.send(post(b"now 1"))
        wanted = b"HTTP/1.1 200 OK\r\ndate: one\r\nx-door: prompt\r\ncontent-length: 12\r\n\r\nprompt now 1"
        assert await client.reader.readexactly(len(wanted)) == wanted
        assert (b"host", b"x") in client.prompts.headers
        client.server.state.default_headers = [(b"date", b"two")]
        client.send(post(b"now 2"))
        assert (await client.reply()).headers["date"] == "two"
        assert not client.server.state.tasks
        assert client.app.asked == []

    with_client(folder, scenario)


def test_what_waits_is_answered_by_a_task_and_the_connection_goes_on(folder):
    async def scenario(client):
        client.send(post(b"wait"))
        await client.wait_until(lambda: client.prompts.asked)
        assert len(client.server.state.tasks) == 1
        client.prompts.go_on.set()
        assert (await client.reply()).headers == {"x-door": "prompt", "content-length": "11"}
        client.send(post(b"now"))
        assert (await client.reply()).body == b"prompt now"
        assert not client.server.state.tasks

    with_client(folder, scenario)


@pytest.mark.parametrize(
    "request_",
    [
        post(b"decline"),
        post(b"now", path="/p?x=1"),
        post(b"now", path="/other"),
        post(b"now", "Upgrade: h2c", "Connection: Upgrade"),
        post(b"now").replace(b"POST", b"PUT "),
    ],
)
def test_what_is_not_plain_goes_to_the_ordinary_door(folder, request_):
    async def scenario(client):
        client.send(request_)
        body = b"now" if b"now" in request_ else b"decline"
        assert (await client.reply()).body in (b"asgi " + body, b"asgi ")  # a body behind an upgrade is not read
        assert client.prompts.asked == ([body] if body == b"decline" else [])

    with_client(folder, scenario)


def test_a_client_that_expects_100_continue_gets_it_from_the_ordinary_door(folder):
    async def scenario(client):
        request = post(b"now", "Expect: 100-Continue")
        client.send(request)
        assert (await client.reply()).status == 100
        assert (await client.reply()).body == b"asgi now"
        client.send(request[:-3])
        assert (await client.reply()).status == 100
        client.send(b"now")
        assert (await client.reply()).body == b"asgi now"
        assert client.prompts.asked == []

    with_client(folder, scenario)


@pytest.mark.parametrize(
    "request_",
    [
        post(b"now", "Connection: close"),
        post(b"now", version="1.0"),
        post(b"now", "Connection: keep-alive", version="1.0"),
    ],
)
def test_who_reads_to_the_end_of_the_connection_comes_there(folder, request_):
    async def scenario(client):
        client.send(post(b"now first"), request_)
        assert (await client.reply()).body == b"prompt now first"
        reply = await client.reply()
        assert (reply.headers["connection"], reply.body) == ("close", b"asgi now")
        assert await client.at_end()

    with_client(folder, scenario)


def test_a_chunked_body_is_put_together(folder):
    async def scenario(client):
        client.send(chunked(b"now chunked"), chunked(b"now again", b"x-trailer: 1"), post(b"now third"))
        assert await client.bodies(3) == [b"prompt now chunked", b"prompt now again", b"prompt now third"]
        assert (b"x-trailer", b"1") not in client.prompts.headers
        whole = chunked(b"now in pieces")
        for byte in whole:
            client.send(bytes([byte]))
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.reply()).body == b"asgi now in pieces"

    with_client(folder, scenario)


def test_a_body_that_comes_in_pieces_is_for_the_ordinary_door(folder):
    async def scenario(client):
        whole = post(b"now 1234567890")
        for cut in (len(whole) - 10, len(whole) - 14, 20):
            client.send(whole[:cut])
            arrived = asyncio.get_running_loop().time()
            await client.wait_until(lambda at=arrived: has_come(client, at))
            client.send(whole[cut:])
            body = (await client.reply()).body
            assert body == (b"asgi now 1234567890" if cut > 20 else b"prompt now 1234567890")
        assert client.prompts.asked == [b"now 1234567890"]

    with_client(folder, scenario)


def has_come(client, since):
    """Whether bytes of an unfinished request have come."""
    for connection in client.server.state.connections:
        return connection._is_in_body or connection._head_bytes > 0
    return False


@pytest.mark.parametrize("kept", [10, 60, 70])
def test_the_start_of_another_request_may_come_with_a_whole_one(folder, kept):
    async def scenario(client):
        following = post(b"now second " + b"x" * 30)
        client.send(post(b"now first"), following[:kept])
        assert (await client.reply()).body == b"prompt now first"
        client.send(following[kept:], post(b"now third"))
        second, third = await client.bodies(2)
        in_body = kept > following.index(b"\r\n\r\n") + 4
        assert second == (b"asgi " if in_body else b"prompt ") + b"now second " + b"x" * 30
        assert third.endswith(b" now third")

    with_client(folder, scenario)


# -- order ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "bodies",
    [
        ["now 1", "now 2", "now 3"],
        ["now 1", "decline 2", "now 3"],
        ["decline 1", "now 2", "turns 3"],
        ["turns 1", "now 2"],
        ["turns 1", "turns 2", "decline 3", "now 4"],
        ["now 1", "turns 2", "turns 3", "now 4", "decline 5"],
        ["turns 1", "other 2", "turns 3"],
    ],
)
def test_answers_come_in_the_order_of_the_requests(folder, bodies):
    async def scenario(client):
        for _ in range(2):
            client.send(*(post(body.encode()) for body in bodies))
            found = await client.bodies(len(bodies))
            assert [body.split(b" ", 1)[1].decode() for body in found] == bodies
            assert (await asyncio.wait_for(client_answer(client), 5)) == b"prompt now last"
        await client.wait_until(lambda: not client.server.state.tasks)
        assert client.server.lines == []

    with_client(folder, scenario)


async def client_answer(client):
    client.send(post(b"now last"))
    return (await client.reply()).body


def test_what_came_behind_a_request_that_waits_is_begun_when_that_is_answered(folder):
    async def scenario(client):
        client.send(post(b"wait 1"), post(b"now 2"), post(b"now 3", path="/other"))
        await client.wait_until(lambda: len(client.connection.pipeline) == 2)
        assert client.app.asked == []
        client.prompts.go_on.set()
        assert await client.bodies(3) == [b"prompt wait 1", b"asgi now 2", b"asgi now 3"]
        assert client.prompts.asked == [b"wait 1"]

    with_client(folder, scenario)


def test_only_so_many_requests_of_one_piece_are_answered_at_once(folder):
    async def scenario(client):
        client.send(*(post(b"now %d" % number) for number in range(PROMPTS_MAX + 5)))
        bodies = await client.bodies(PROMPTS_MAX + 5)
        assert bodies[:PROMPTS_MAX] == [b"prompt now %d" % number for number in range(PROMPTS_MAX)]
        assert bodies[PROMPTS_MAX:] == [b"asgi now %d" % number for number in range(PROMPTS_MAX, PROMPTS_MAX + 5)]
        client.send(post(b"now"))
        assert (await client.reply()).body == b"prompt now"

    with_client(folder, scenario)


KINDS = st.sampled_from(["now", "turns", "decline", "chunked", "other", "expect", "head"])

CUTS = st.lists(st.integers(0, 800), max_size=4)


def as_request(kind, number):
    body = f"{kind} {number}".encode()
    if kind == "chunked":
        return chunked(b"now %d" % number), b"now %d" % number
    if kind == "other":
        return post(body, path="/other"), body
    if kind == "expect":
        return post(b"now %d" % number, "Expect: 100-continue"), b"now %d" % number
    if kind == "head":
        return b"HEAD /p HTTP/1.1\r\nhost: x\r\n\r\n", b""
    return post(body), body


@pytest.mark.slow
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(kinds=st.lists(KINDS, min_size=1, max_size=8), cuts=CUTS, rests=st.booleans())
def test_requests_of_all_kinds_in_any_pieces_are_answered_in_order(folder, kinds, cuts, rests):
    async def scenario(client):
        requests = [as_request(kind, number) for number, kind in enumerate(kinds)]
        stream = b"".join(request for request, _ in requests)
        places = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
        for start, end in itertools.pairwise(places):
            client.send(stream[start:end])
            await client.writer.drain()
            for _ in range(4 if rests else 0):
                await asyncio.sleep(0)
        for _, body in requests:
            reply = await client.reply()
            while reply.status == 100:
                reply = await client.reply()
            assert (reply.status, reply.body[-len(body) :] if body else reply.body) == (200, body)
        await client.wait_until(lambda: not client.server.state.tasks)
        assert client.server.lines == []

    with_client(folder, scenario)


# -- ends -------------------------------------------------------------------------------------------------------------


def test_a_client_that_leaves_while_its_request_waits_is_forgotten_and_the_request_goes_on(folder):
    async def scenario(client):
        client.send(post(b"wait"))
        await client.wait_until(lambda: client.prompts.asked)
        client.writer.close()
        await client.server.until_open(0)
        assert client.prompts.ended == 0
        client.prompts.go_on.set()
        await client.wait_until(lambda: not client.server.state.tasks)
        assert client.prompts.ended == 1
        assert client.server.lines == []

    with_client(folder, scenario)


def test_a_shutdown_waits_for_what_waits_and_says_that_it_closes(folder):
    async def scenario(client):
        client.send(post(b"wait"))
        await client.wait_until(lambda: client.prompts.asked)
        client.connection.shutdown()
        client.prompts.go_on.set()
        reply = await client.reply()
        assert (reply.headers["connection"], reply.body) == ("close", b"prompt wait")
        assert await client.at_end()

    with_client(folder, scenario)


def test_a_shutdown_waits_for_what_came_behind_too(folder):
    async def scenario(client):
        client.send(post(b"wait 1"), post(b"decline 2"))
        await client.wait_until(lambda: client.prompts.asked and client.connection.pipeline)
        client.connection.shutdown()
        client.prompts.go_on.set()
        assert "connection" not in (await client.reply()).headers
        reply = await client.reply()
        assert (reply.headers["connection"], reply.body) == ("close", b"asgi decline 2")
        assert await client.at_end()

    with_client(folder, scenario)


def test_a_shutdown_closes_a_connection_whose_requests_are_answered(folder):
    async def scenario(client):
        for body in (b"now", b"turns"):
            client.send(post(body))
            await client.reply()
        client.connection.shutdown()
        assert await client.at_end()

    with_client(folder, scenario)


def test_an_error_in_what_waits_is_answered_and_told_to_the_operator(folder):
    async def scenario(client):
        client.send(post(b"fail"), post(b"decline", path="/other"))
        await client.wait_until(lambda: client.prompts.asked)
        client.prompts.go_on.set()
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (500, "close")
        assert json.loads(reply.body)["code"] == "INTERNAL"
        assert b"oops" not in reply.body
        assert await client.at_end()
        (line,) = client.server.lines
        told = json.loads(line)
        assert (told["event"], told["path"], told["method"]) == ("request.failed", "/p", "POST")
        assert "oops" in told["error"]

    with_client(folder, scenario)


def test_what_is_cancelled_is_answered_with_an_error(folder):
    async def scenario(client):
        client.send(post(b"wait"))
        await client.wait_until(lambda: client.prompts.asked)
        for task in client.server.state.tasks:
            task.cancel()
        reply = await client.reply()
        assert (reply.status, json.loads(reply.body)["code"]) == (500, "INTERNAL")
        assert await client.at_end()
        assert not client.server.state.tasks

    with_client(folder, scenario)


def test_garbage_behind_a_request(folder):
    async def scenario(client):
        client.send(post(b"now"), b"\x00\x01garbage\r\n\r\n")
        assert (await client.reply()).body == b"prompt now"
        assert (await client.reply()).status == 400
        assert await client.at_end()

    with_client(folder, scenario)


def test_garbage_behind_a_request_that_waits_ends_the_connection(folder):
    async def scenario(client):
        client.send(post(b"wait"), b"\x00\x01garbage\r\n\r\n")
        assert (await client.reply()).status == 400
        assert await client.at_end()
        client.prompts.go_on.set()
        await client.wait_until(lambda: not client.server.state.tasks)
        assert client.server.lines == []

    with_client(folder, scenario)


def test_a_broken_body_is_no_request(folder):
    async def scenario(client):
        client.send(chunked(b"now")[:-5], b"zz\r\n\r\n")
        assert (await client.reply()).status == 400
        assert await client.at_end()
        assert client.prompts.asked == client.app.asked == []

    with_client(folder, scenario)


def test_a_connection_that_breaks_in_the_middle_of_its_requests(folder, caplog):
    async def scenario(client):
        client.send(post(b"abort"), post(b"decline"), post(b"now"))
        await client.server.until_open(0)
        await client.wait_until(lambda: not client.server.state.tasks)
        assert client.server.lines == []

    with_client(folder, scenario)
    assert "Invalid HTTP request" not in caplog.text


UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


@pytest.mark.parametrize("first", [b"wait", b"slow"])
def test_an_upgrade_behind_a_request_that_waits_is_refused(folder, first):
    async def scenario(client):
        client.send(post(first), UPGRADE)
        reply = await client.reply()
        assert (reply.status, reply.headers["connection"]) == (400, "close")
        client.prompts.go_on.set()
        client.app.go_on.set()
        assert await client.at_end()
        await client.wait_until(lambda: not client.server.state.tasks)

    with_client(folder, scenario, ws=bind_limit(5))


def test_an_upgrade_behind_an_answer_is_none_of_ours(folder):
    async def scenario(client):
        client.send(post(b"now"), UPGRADE)
        assert (await client.reply()).body == b"prompt now"
        assert (await client.reply()).status == 101
        assert not isinstance(client.connection, HttpToolsProtocol)

    with_client(folder, scenario, ws=bind_limit(5))


# -- time -------------------------------------------------------------------------------------------------------------


def test_the_sweep_closes_a_connection_that_was_idle_since_its_last_prompt_answer(folder):
    async def scenario(client):
        client.send(post(b"now"))
        await client.reply()
        answered_at = client.connection.idle_since(KEEP_ALIVE_S)
        client.server.gate.sweep(answered_at + KEEP_ALIVE_S - 1)
        assert await client_answer(client) == b"prompt now last"
        answered_at = client.connection.idle_since(KEEP_ALIVE_S)
        client.server.gate.sweep(answered_at + KEEP_ALIVE_S + 1)
        assert await client.at_end()

    with_client(folder, scenario)


def test_an_answer_that_waited_starts_the_usual_time(folder):
    async def scenario(client):
        client.send(post(b"now"), post(b"turns"))
        await client.bodies(2)
        loop = asyncio.get_running_loop()
        await client.wait_until(lambda: client.connection.timeout_keep_alive_task is not None)
        assert client.connection.timeout_keep_alive_task.when() == pytest.approx(loop.time() + KEEP_ALIVE_S, abs=5)
        client.server.gate.sweep(loop.time() + 10 * KEEP_ALIVE_S)  # that is for the timer
        assert await client_answer(client) == b"prompt now last"
        assert client.connection.timeout_keep_alive_task is None

    with_client(folder, scenario)


@pytest.mark.parametrize("following", [post(b"wait"), post(b"slow")])
def test_a_request_that_takes_long_behind_a_prompt_answer_is_not_idle(folder, following):
    async def scenario(client):
        client.send(post(b"now"), following)
        assert (await client.reply()).body == b"prompt now"
        await client.wait_until(lambda: client.server.state.tasks)
        assert client.connection.idle_since(KEEP_ALIVE_S) is None
        client.server.gate.sweep(asyncio.get_running_loop().time() + 10 * KEEP_ALIVE_S)
        client.prompts.go_on.set()
        client.app.go_on.set()
        assert (await client.reply()).status == 200
        assert await client_answer(client) == b"prompt now last"

    with_client(folder, scenario)


@pytest.mark.parametrize("together", [True, False])
@pytest.mark.parametrize("first", [b"now", b"turns", b"decline"])
def test_a_header_that_does_not_end_is_given_up_whatever_was_answered_before(folder, first, together):
    async def scenario(client):
        loop = asyncio.get_running_loop()
        if together and first == b"now":
            client.send(post(first), b"POST /p HT")
            await client.reply()
        else:
            client.send(post(first))
            await client.reply()
            await next_millisecond()
            client.send(b"POST /p HT")
        await client.wait_until(lambda: client.connection._waiting_since > 0)
        began_at = client.connection.idle_since(KEEP_ALIVE_S)
        assert loop.time() - 5 < began_at <= loop.time()
        client.server.gate.sweep(began_at + HEAD_S - 1)
        await next_millisecond()
        seen = client.connection._head_bytes
        client.send(b"TP/1.1")
        await client.wait_until(lambda: client.connection._head_bytes > seen)
        assert client.connection.idle_since(KEEP_ALIVE_S) == began_at
        client.server.gate.sweep(began_at + HEAD_S - 1)
        client.server.gate.sweep(began_at + HEAD_S + 1)
        assert (await client.reply()).status == 408
        assert await client.at_end()

    with_client(folder, scenario)


def test_headers_that_come_in_pieces_again_and_again_are_each_given_their_time(folder):
    async def scenario(client):
        whole, now = post(b"now"), 0.0
        for _ in range(4):
            client.send(whole[:10])
            await client.wait_until(lambda since=now: client.connection._waiting_since > since)
            now = client.connection.idle_since(KEEP_ALIVE_S)
            client.server.gate.sweep(now + HEAD_S - 1)
            await next_millisecond()
            client.send(whole[10:])
            assert (await client.reply()).body == b"prompt now"
            assert client.connection.idle_since(KEEP_ALIVE_S) > now

    with_client(folder, scenario)


def test_a_body_that_stops_after_it_was_taken_back_is_given_up(folder):
    async def scenario(client):
        client.send(post(b"now"), post(b"now 1234567890")[:-3])
        await client.reply()
        await client.wait_until(lambda: client.connection._is_in_body)
        began_at = client.connection.idle_since(KEEP_ALIVE_S)
        assert began_at is not None
        client.server.gate.sweep(began_at + BODY_PAUSE_S + 1)
        assert (await client.reply()).status == 408

    with_client(folder, scenario)


def test_the_longest_idle_goes_first_whoever_answered_it(folder):
    async def scenario(client):
        others = [Client(client.server, *await client.server.connect()) for _ in range(2)]
        await client.server.until_open(3)
        for each, body in ((others[0], b"turns"), (others[1], b"now"), (client, b"decline")):
            await next_millisecond()
            each.send(post(body))
            await each.reply()
        others[0].send(post(b"wait"))
        await client.wait_until(lambda: client.server.state.tasks)
        newest = [Client(client.server, *await client.server.connect())]
        assert (await others[1].reply()).status == 503
        newest.append(Client(client.server, *await client.server.connect()))
        assert (await client.reply()).status == 503
        for each in newest:
            assert await client_answer(each) == b"prompt now last"
        client.prompts.go_on.set()
        assert (await others[0].reply()).body == b"prompt wait"
        for each in (*others, *newest):
            each.writer.close()

    with_client(folder, scenario, connections_max=3)


# -- writing ----------------------------------------------------------------------------------------------------------


def test_who_does_not_read_has_no_more_answered_at_once(folder):
    async def scenario(client):
        client.writer.transport.pause_reading()
        for _ in range(5):
            client.send(post(b"large"), post(b"now"))
        await client.wait_until(lambda: client.connection.flow.write_paused and client.connection.flow.read_paused)
        assert client.prompts.asked.count(b"large") == 1
        client.writer.transport.resume_reading()
        replies = [await client.reply() for _ in range(10)]
        assert [len(reply.body) > LARGE for reply in replies].count(True) == 1
        assert [reply.body.rstrip(b"!").split(b" ")[1] for reply in replies] == [b"large", b"now"] * 5
        assert await client_answer(client) == b"prompt now last"

    with_client(folder, scenario)


def test_a_whole_answer_leaves_after_a_header_that_was_kept_back():
    async def scenario():
        written = Written()
        transport = JoiningTransport(written, asyncio.get_running_loop())
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        transport.write_answer(b"HTTP/1.1 200 OK\r\n\r\nbody")
        assert written.pieces == [b"HTTP/1.1 200 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\nbody"]
        await asyncio.sleep(0)
        assert len(written.pieces) == 2

    run(scenario())
