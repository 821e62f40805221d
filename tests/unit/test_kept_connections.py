"""Kept connections to a node that has ended them, noticed or not: the front's, and those of Python programs."""

import asyncio
import socket
import threading

from pando.client.async_transport import AsyncTransport
from pando.client.judging import Broken, Send
from pando.client.targets import Address
from pando.kept_connections import LookingRequest
from pando.node.front_proxy import is_undone, make_session

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n%d"


class DyingNode:
    """Answers once, then ends the connection, at a moment that the test chooses; in threads, so that a loop can be
    kept from noticing.
    """

    def __init__(self):
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}/"
        self.asked = 0
        self.die, self.dead = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        for _ in range(2):
            accepted, _ = self.listening.accept()
            with accepted:
                accepted.recv(65536)
                self.asked += 1
                accepted.sendall(ANSWER % self.asked)
                self.die.wait(10)
            self.dead.set()
        self.listening.close()

    def end_unnoticed(self):
        """Blocks the loop, which has not heard of the end of the connection when it goes on."""
        self.die.set()
        assert self.dead.wait(10)

    @property
    def address(self):
        return Address("127.0.0.1", self.listening.getsockname()[1])


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 20))


def test_the_front_opens_another_connection():
    async def scenario():
        node = DyingNode()
        async with make_session(10) as session:
            async with session.post(node.url, data=b"x") as found:
                assert await found.text() == "1"
            node.end_unnoticed()
            async with session.post(node.url, data=b"x") as found:
                assert await found.text() == "2"

    run(scenario())


def test_a_program_opens_another_connection():
    async def scenario():
        node = DyingNode()
        request = Send(node.address, "/v3/pipeline", {}, b"x")
        transport = AsyncTransport(5.0)
        try:
            assert (await transport.send(request)).body == b"1"
            node.end_unnoticed()
            assert (await transport.send(request)).body == b"2"
        finally:
            await transport.close()

    run(scenario())


class EndedConnection:
    """A connection whose end the loop noticed between its choice and the first byte."""

    def __init__(self):
        self.transport = self.protocol = self
        self.error = None

    def is_closing(self):
        return True

    def set_exception(self, error):
        self.error = error


def test_a_connection_that_ends_before_the_body_is_written_is_not_written_to():
    connection = EndedConnection()
    nobody_writes = None
    asyncio.run(LookingRequest.write_bytes(None, nobody_writes, connection))
    assert is_undone(connection.error)


def test_what_was_not_written_counts_as_not_sent(monkeypatch):
    async def scenario():
        node = DyingNode()
        transport = AsyncTransport(5.0)
        try:
            found = await transport.send(Send(node.address, "/v3/pipeline", {}, b"x"))
            assert isinstance(found, Broken) and not found.is_sent
            assert node.asked == 0
        finally:
            await transport.close()
            node.die.set()

    monkeypatch.setattr("pando.kept_connections.has_something_to_read", lambda transport: True)
    run(scenario())
