import asyncio
import json
import socket

import uvicorn
from http_kit import Written, next_millisecond, serving

from pando.node.http_protocol import BODY_PAUSE_S, HEAD_BYTES_MAX, HEAD_S, JoiningTransport, bind_gate
from pando.store.handshake import LinkKind
from pando.store.link import make_decoder
from pando.store.link_open import LinkHandlers, dial_tcp, new_dialer
from pando.store.protocol import StoreAnswer
from pando.testing.fake_store import FakeStore
from pando.testing.waiting import run

KEY = b"k" * 32


async def get(reader, writer, path="/x"):
    writer.write(f"GET {path} HTTP/1.1\r\nhost: x\r\n\r\n".encode())
    return await answer(reader)


async def answer(reader):
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    length = next(int(line.split(":")[1]) for line in head.split("\r\n") if line.startswith("content-length"))
    return int(head.split()[1]), (await reader.readexactly(length)).decode()


def test_requests_pass_in_whatever_pieces_they_come(folder):
    async def scenario():
        async with serving(folder) as server:
            reader, writer = await server.connect()
            for byte in b"GET /cluster/links HTTP/1.1\r\nhost: x\r\n\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert await answer(reader) == (200, "GET /cluster/links 0")
            assert await get(reader, writer, "/again") == (200, "GET /again 0")
            writer.close()

    run(scenario())


def test_a_link_without_upgrade_is_a_plain_request(folder):
    async def scenario():
        async with serving(folder) as server:
            reader, writer = await server.connect()
            assert await get(reader, writer, "/cluster/link") == (200, "GET /cluster/link 0")
            writer.close()

    run(scenario())


def test_an_upgrade_is_handed_to_the_store_and_leaves_nothing_behind(folder):
    async def scenario():
        store = FakeStore(folder, key=KEY)
        await store.start()
        async with serving(folder) as server:
            got = asyncio.get_running_loop().create_future()

            def on_open(link, peer):
                return LinkHandlers(
                    decoder=make_decoder(StoreAnswer), on_messages=got.set_result, on_closed=lambda end: None
                )

            url = f"http://127.0.0.1:{server.port}"
            link = await dial_tcp(url, new_dialer(LinkKind.REPLICA, "r", key=KEY), on_open)
            assert (await got)[0].node == "n1"
            await server.until_open(0)
            assert store.kinds() == [LinkKind.REPLICA]
            link.close()
        await store.stop()

    run(scenario())


def test_without_a_store_an_upgrade_gets_an_answer(folder):
    async def scenario():
        async with serving(folder) as server:
            reader, writer = await server.connect()
            writer.write(b"GET /cluster/link HTTP/1.1\r\nhost: x\r\nUpgrade: pando-link\r\n\r\n")
            status, body = await answer(reader)
            assert status == 503
            assert json.loads(body)["code"] == "NOT_READY"
            assert await reader.read() == b""
            writer.close()

    run(scenario())


def test_past_the_limit_the_longest_idle_connection_goes_and_the_new_one_is_served(folder):
    async def scenario():
        async with serving(folder, connections_max=3) as server:
            held = [await server.connect() for _ in range(3)]
            await server.until_open(3)
            for reader, writer in (held[1], held[0], held[2]):  # 1 is idle for the longest, then 0
                assert (await get(reader, writer))[0] == 200
                await next_millisecond()
            fourth = await server.connect()
            assert await get(*fourth) == (200, "GET /x 0")
            head, body = parted(await held[1][0].read())
            assert head.startswith("HTTP/1.1 503 ")
            assert "pando-unread: 1" in head, "a request that crosses this one had no effect"
            assert json.loads(body)["retryable"] is True
            assert await get(*held[0]) == (200, "GET /x 0")
            fifth = await server.connect()
            assert await get(*fifth) == (200, "GET /x 0")
            server.gate.sweep(0.0)
            assert json.loads(server.lines[-1])["event"] == "web.connections_full"
            assert json.loads(server.lines[-1])["closed"] == 2
            for _, writer in (*held, fourth, fifth):
                writer.close()

    run(scenario())


def test_connections_with_a_request_in_flight_are_kept_and_the_new_one_is_refused(folder):
    async def scenario():
        async with serving(folder, connections_max=2) as server:
            held = [await server.connect() for _ in range(2)]
            for _, writer in held:
                writer.write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            await server.until_in_flight(2)
            reader, writer = await server.connect()
            head, _ = parted(await reader.read())
            assert head.startswith("HTTP/1.1 503 ")
            assert "pando-unread: 1" in head
            writer.close()
            server.app.go_on.set()
            for reader, writer in held:
                assert await answer(reader) == (200, "GET /slow 0")
                writer.close()

    run(scenario())


def test_an_unfinished_header_is_given_up_after_the_time(folder):
    async def scenario():
        async with serving(folder) as server:
            loop = asyncio.get_running_loop()
            slow, idle, busy = [await server.connect() for _ in range(3)]
            assert (await get(*idle))[0] == 200
            busy[1].write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            slow[1].write(b"GET /x HTT")
            await server.until_in_flight(1)
            server.gate.sweep(loop.time() + HEAD_S - 1)
            assert len(server.state.connections) == 3
            server.gate.sweep(loop.time() + HEAD_S + 1)
            assert (await answer(slow[0]))[0] == 408
            server.app.go_on.set()
            assert (await answer(busy[0]))[0] == 200
            assert (await get(*idle))[0] == 200
            for _, writer in (slow, idle, busy):
                writer.close()

    run(scenario())


def test_a_body_that_does_not_go_on_is_given_up_after_the_time(folder):
    async def scenario():
        async with serving(folder) as server:
            loop = asyncio.get_running_loop()
            stuck, moving = [await server.connect() for _ in range(2)]
            for _, writer in (stuck, moving):
                writer.write(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
            await server.until_open(2)
            await until_arrived(server, 2)
            began_at = loop.time()
            server.gate.sweep(began_at + BODY_PAUSE_S - 1)
            await next_millisecond()
            moving[1].write(b"6")
            async with asyncio.timeout(10):
                while not any(one._body_at > began_at for one in server.state.connections):
                    await asyncio.sleep(0)
            server.gate.sweep(began_at + BODY_PAUSE_S + 0.001)
            assert (await answer(stuck[0]))[0] == 408
            moving[1].write(b"7890")
            assert await answer(moving[0]) == (200, "POST /x 10")
            for _, writer in (stuck, moving):
                writer.close()

    run(scenario())


def test_a_body_that_does_not_go_on_makes_room_for_others_but_a_request_does_not(folder):
    async def scenario():
        async with serving(folder, connections_max=2) as server:
            working, stuck = [await server.connect() for _ in range(2)]
            working[1].write(b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n")
            stuck[1].write(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n12345")
            await until_arrived(server, 2)
            newest = await server.connect()
            head, _ = parted(await stuck[0].read())
            assert head.startswith("HTTP/1.1 503 ")
            assert "pando-unread" not in head, "the application had begun with this request"
            newest[1].write(b"GET /y HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await answer(newest[0]) == (200, "GET /y 0")
            server.app.go_on.set()
            assert await answer(working[0]) == (200, "GET /slow 0")
            for _, writer in (working, stuck, newest):
                writer.close()

    run(scenario())


def parted(data):
    """Give the header, and the body, of all that came over a connection."""
    head, _, body = data.partition(b"\r\n\r\n")
    return head.decode(), body


async def until_arrived(server, count):
    """Wait until so many requests have begun."""
    async with asyncio.timeout(10):
        while sum(one.cycle is not None for one in server.state.connections) != count:
            await asyncio.sleep(0)


def test_an_endless_header_is_refused(folder):
    async def scenario():
        async with serving(folder) as server:
            reader, writer = await server.connect()
            writer.write(b"GET /x HTTP/1.1\r\n")
            for number in range(HEAD_BYTES_MAX // 1000 + 2):
                writer.write(b"h%d: " % number + b"v" * 1000 + b"\r\n")
            assert (await answer(reader))[0] == 431
            writer.close()

    run(scenario())


def test_a_large_body_is_never_held_whole(folder):
    async def scenario():
        async with serving(folder) as server:
            reader, writer = await server.connect()
            size = 20 << 20
            writer.write(b"POST /x HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % size)
            for _ in range(20):
                writer.write(bytes(1 << 20))
                await writer.drain()
            assert await answer(reader) == (200, f"POST /x {size}")
            assert server.app.largest < 2 << 20
            writer.close()

    run(scenario())


def test_a_connection_of_a_unix_socket_is_served_too(folder):
    async def scenario():
        async with serving(folder) as server:
            left, right = socket.socketpair()
            loop = asyncio.get_running_loop()
            config = uvicorn.Config(server.app, lifespan="off", log_config=None, ws="none")
            config.load()
            await loop.connect_accepted_socket(
                lambda: bind_gate(server.gate)(config=config, server_state=server.state, app_state={}, _loop=loop),
                left,
            )
            reader, writer = await asyncio.open_connection(sock=right)
            assert (await get(reader, writer))[0] == 200
            writer.close()

    run(scenario())


def test_header_and_body_leave_as_one_piece_and_a_header_alone_at_the_end_of_the_turn():
    async def scenario():
        written = Written()
        transport = JoiningTransport(written, asyncio.get_running_loop())
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        transport.write(b"body")
        transport.write(b"more")
        assert written.pieces == [b"HTTP/1.1 200 OK\r\n\r\nbody", b"more"]
        transport.write(b"HTTP/1.1 200 OK\r\n\r\n")
        assert len(written.pieces) == 2
        await asyncio.sleep(0)
        assert written.pieces[2:] == [b"HTTP/1.1 200 OK\r\n\r\n"]
        transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
        transport.close()
        assert written.pieces[3:] == [b"HTTP/1.1 204 No Content\r\n\r\n"]
        assert written.is_closed
        assert transport.is_closing() == "is_closing"
        kept = Written()
        transport = JoiningTransport(kept, asyncio.get_running_loop())
        transport.write(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
        assert transport.inner is kept
        assert kept.pieces == [b"HTTP/1.1 101 Switching Protocols\r\n\r\n"]

    run(scenario())
