import asyncio
import os
import socket
import tempfile
from pathlib import Path

import pytest

from pando.errors import InvalidRequest, NotReady, PrimaryUnavailable, Unauthorized
from pando.store.adopt import Giver, Taker
from pando.store.handshake import Hello, LinkKind
from pando.store.link import LinkEndKind, encode_frame, make_decoder
from pando.store.link_open import (
    LinkHandlers,
    accept_link,
    adopt_socket,
    dial_tcp,
    dial_unix,
    new_acceptor,
    new_dialer,
    split_node_url,
)
from pando.store.protocol import Finished, StoreAnswer, StoreRequest, SyncNow
from pando.testing.waiting import run

KEY = b"k" * 32
REQUESTS, ANSWERS = make_decoder(StoreRequest), make_decoder(StoreAnswer)


@pytest.fixture
def sockets():
    with tempfile.TemporaryDirectory() as directory:  # tmp_path is too long for a unix socket on some systems
        yield Path(directory)


class Answering:
    """The accepting side: answers SyncNow with Finished, and says one thing unasked at the start."""

    def __init__(self):
        self.peers = []
        self.links = []

    def __call__(self, link, peer):
        self.peers.append(peer)
        self.links.append(link)
        link.send(Finished(id=0))
        return LinkHandlers(
            decoder=REQUESTS,
            on_messages=lambda messages: [link.send(Finished(id=message.id)) for message in messages],
            on_closed=lambda end: None,
        )


class Asking:
    """The dialling side: collects answers."""

    def __init__(self):
        self.answers: asyncio.Queue = asyncio.Queue()
        self.ended = asyncio.get_running_loop().create_future()

    def __call__(self, link, peer):
        return LinkHandlers(
            decoder=ANSWERS,
            on_messages=lambda messages: [self.answers.put_nowait(message) for message in messages],
            on_closed=self.ended.set_result,
        )


async def http_port(handle):
    """A stand-in for the web process: reads the request header, hands the socket on."""

    async def accept():
        while True:
            connection, _ = await loop.sock_accept(listening)
            data = b""
            while b"\r\n\r\n" not in data:
                data += await loop.sock_recv(connection, 4096)
            await handle(connection, data)

    loop = asyncio.get_running_loop()
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    return listening, loop.create_task(accept())


def test_unix_link_opens_without_a_key(sockets):
    async def scenario():
        answering, asking = Answering(), Asking()
        path = str(sockets / "s")
        loop = asyncio.get_running_loop()
        server = await loop.create_unix_server(lambda: accept_link(new_acceptor("n1"), answering), path)
        link = await dial_unix(path, new_dialer(LinkKind.WEB, "n1", index=3), asking)
        link.send(SyncNow(7))
        assert [(await asking.answers.get()).id for _ in range(2)] == [0, 7]
        assert (answering.peers[0].kind, answering.peers[0].index) == (LinkKind.WEB, 3)
        link.close()
        assert (await asking.ended).kind is LinkEndKind.LOCAL
        server.close()

    run(scenario())


def test_nobody_at_the_unix_socket_is_not_ready(sockets):
    async def scenario():
        with pytest.raises(NotReady):
            await dial_unix(str(sockets / "none"), new_dialer(LinkKind.WEB, "n1"), Asking())

    run(scenario())


@pytest.mark.parametrize("key", [KEY, b"other" * 8])
def test_tcp_link_is_handed_over_and_adopted(sockets, key):
    async def scenario():
        answering, asking = Answering(), Asking()
        loop = asyncio.get_running_loop()
        tasks = []

        def on_socket(sock, data):
            tasks.append(loop.create_task(adopt_socket(sock, data, new_acceptor("n1", key=KEY), answering)))

        taker = Taker(str(sockets / "adopt"), on_socket)
        taker.start()
        giver = Giver(str(sockets / "adopt"))

        async def handle(connection, data):
            giver.give(connection.fileno(), data)
            connection.close()

        listening, task = await http_port(handle)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        try:
            if key != KEY:
                with pytest.raises(Unauthorized):
                    await dial_tcp(url, new_dialer(LinkKind.REPLICA, "n2", key=key), asking)
                assert answering.peers == []
                return
            link = await dial_tcp(url, new_dialer(LinkKind.REPLICA, "n2", key=key), asking)
            link.send(SyncNow(9))
            assert [(await asking.answers.get()).id for _ in range(2)] == [0, 9]
            answering.links[0].close("bye")
            assert (await asking.ended).kind is LinkEndKind.CLEAN
        finally:
            task.cancel()
            listening.close()
            taker.close()
            giver.close()

    run(scenario())


def test_a_handover_carries_descriptor_and_bytes(sockets):
    async def scenario():
        loop = asyncio.get_running_loop()
        taken: asyncio.Future = loop.create_future()
        taker = Taker(str(sockets / "adopt"), lambda sock, data: taken.set_result((sock, data)))
        taker.start()
        left, right = socket.socketpair()
        giver = Giver(str(sockets / "adopt"))
        giver.give(left.fileno(), b"GET /x\r\n\r\nrest")
        left.close()
        sock, data = await taken
        assert data == b"GET /x\r\n\r\nrest"
        assert not os.get_inheritable(sock.fileno())
        sock.sendall(b"hello")
        assert right.recv(10) == b"hello"
        for one in (sock, right):
            one.close()
        taker.close()
        with pytest.raises(NotReady):
            giver.give(0, b"x")
        giver.close()

    run(scenario())


def test_a_silent_connection_is_closed_after_the_time(sockets):
    async def scenario():
        loop = asyncio.get_running_loop()
        path = str(sockets / "s")
        server = await loop.create_unix_server(
            lambda: accept_link(new_acceptor("n1"), Answering(), time_limit_s=0.02), path
        )
        reader, writer = await asyncio.open_unix_connection(path)
        assert await reader.read() == b""
        writer.close()
        server.close()

    run(scenario())


def test_a_dialer_gives_up_on_a_silent_server(sockets):
    async def scenario():
        loop = asyncio.get_running_loop()
        path = str(sockets / "s")
        server = await loop.create_unix_server(asyncio.Protocol, path)
        with pytest.raises(NotReady):
            await dial_unix(path, new_dialer(LinkKind.WEB, "n1"), Asking(), time_limit_s=0.02)
        server.close()

    run(scenario())


def test_before_the_proof_frames_are_small(sockets):
    async def scenario():
        loop = asyncio.get_running_loop()
        path = str(sockets / "s")
        server = await loop.create_unix_server(lambda: accept_link(new_acceptor("n1", key=KEY), Answering()), path)
        reader, writer = await asyncio.open_unix_connection(path)
        hello = Hello(version=1, kind="peer", node="n", nonce=b"d" * 32, url="u" * 5000)
        writer.write(encode_frame([hello]))
        try:
            answer = await reader.read()
        except ConnectionResetError:
            answer = b""
        assert answer == b""
        writer.close()
        server.close()

    run(scenario())


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\n\r\n{}", PrimaryUnavailable),
        (b"HTTP/1.1 401 Unauthorized\r\n\r\n{}", Unauthorized),
        (b"x" * 9000, NotReady),
        (b"", PrimaryUnavailable),
    ],
)
def test_another_answer_than_the_upgrade_is_an_error(answer, error):
    async def scenario():
        async def handle(connection, _data):
            await asyncio.get_running_loop().sock_sendall(connection, answer)
            connection.close()

        listening, task = await http_port(handle)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(error):
            await dial_tcp(url, new_dialer(LinkKind.PEER, "n2", key=KEY), Asking())
        task.cancel()
        listening.close()

    run(scenario())


def test_a_server_that_never_answers_the_upgrade_is_given_up_and_disconnected():
    async def scenario():
        ended = asyncio.Event()

        async def silent(reader, writer):
            await reader.read()
            ended.set()
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        with pytest.raises(PrimaryUnavailable, match="no answer in time"):
            await dial_tcp(url, new_dialer(LinkKind.PEER, "n2", key=KEY), Asking(), time_limit_s=0.02)
        await ended.wait()
        server.close()

    run(scenario())


def test_a_refused_connection_is_primary_unavailable():
    async def scenario():
        probe = socket.create_server(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        with pytest.raises(PrimaryUnavailable):
            await dial_tcp(f"http://127.0.0.1:{port}", new_dialer(LinkKind.PEER, "n2", key=KEY), Asking())

    run(scenario())


def test_node_addresses():
    assert split_node_url("http://example.org:8091")[:2] == ("example.org", 8091)
    assert split_node_url("http://[::1]:8091")[:2] == ("::1", 8091)
    host, port, context = split_node_url("https://example.org")
    assert (host, port) == ("example.org", 443)
    assert context is not None
    for bad in ("ftp://x", "127.0.0.1:80", "http://", "http://x:notaport"):
        with pytest.raises(InvalidRequest):
            split_node_url(bad)
