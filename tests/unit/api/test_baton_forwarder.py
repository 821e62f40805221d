import asyncio

import pytest

from pando.api.baton_forwarder import NODE_HOP, BatonForwarder
from pando.api.pipeline import BATON_HOP
from pando.errors import PrimaryUnavailable, StreamExpired
from pando.sql.batons import Baton
from pando.store import protocol as wire
from pando.testing.waiting import run

OK = (
    b"HTTP/1.1 200 OK\r\ndate: x\r\ncontent-type: application/json\r\n"
    b"pando-bookmark: data.1.2\r\ncontent-length: 2\r\n\r\n{}"
)


class StubStore:
    """Knows who is where."""

    def __init__(self, primary_url="", replicas=(), is_away=False):
        self.topology = wire.Topology(node="n1", role="replica", epoch=1, primary_url=primary_url, ready=True)
        self.asked = 0
        self._replicas = list(replicas)
        self._is_away = is_away

    async def primary_status(self):
        self.asked += 1
        if self._is_away:
            raise PrimaryUnavailable("gone")
        return wire.NodeStatus(0, "p", "primary", 1, "", False, [], self._replicas)


class Sibling:
    def __init__(self):
        self.heads = []

    async def serve(self, reader, writer):
        self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await reader.readexactly(4)
        writer.write(OK)
        writer.close()


def test_a_stream_of_a_sibling_is_found_by_its_unix_socket(folder):
    async def scenario():
        sibling = Sibling()
        server = await asyncio.start_unix_server(sibling.serve, str(folder / "web-3.sock"))
        forwarder = BatonForwarder(StubStore(), lambda index: folder / f"web-{index}.sock")
        headers = [(b"host", b"h"), (b"authorization", b"Bearer t"), (b"content-length", b"99")]
        status, answer, body = await forwarder.forward(Baton("n1", 3, 1, 1), "/v2/pipeline", headers, b"body")
        assert (status, body) == (200, b"{}")
        assert answer == [(b"content-type", b"application/json"), (b"pando-bookmark", b"data.1.2")]
        (head,) = sibling.heads
        assert head.startswith("POST /v2/pipeline HTTP/1.1\r\n")
        assert "authorization: Bearer t" in head
        assert f"{BATON_HOP.decode()}: 1" in head
        assert head.count("content-length") == 1
        server.close()

    run(scenario())


@pytest.mark.parametrize("node", ["p", "n2"])
def test_a_stream_of_another_node_is_found_by_what_the_primary_knows(folder, node):
    async def scenario():
        other = Sibling()
        server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        primary = url if node == "p" else "http://127.0.0.1:1"
        replicas = [wire.ReplicaStatus(node="n2", url=url)]
        store = StubStore(primary, replicas)
        forwarder = BatonForwarder(store, lambda index: folder / "none")
        for _ in range(2):
            status, _, _ = await forwarder.forward(Baton(node, 0, 1, 1), "/v2/pipeline", [], b"body")
            assert status == 200
        assert store.asked == 1
        assert NODE_HOP.decode() in other.heads[0]
        assert BATON_HOP.decode() not in other.heads[0]
        server.close()

    run(scenario())


@pytest.mark.parametrize(
    ("baton", "headers", "store"),
    [
        (Baton("n1", 3, 1, 1), [], StubStore()),
        (Baton("n9", 3, 1, 1), [], StubStore()),
        (Baton("n9", 3, 1, 1), [], StubStore(is_away=True)),
        (Baton("n9", 3, 1, 1), [(NODE_HOP, b"1")], StubStore()),
    ],
)
def test_a_stream_that_cannot_be_found_has_expired(folder, baton, headers, store):
    async def scenario():
        with pytest.raises(StreamExpired):
            await BatonForwarder(store, lambda index: folder / "none").forward(baton, "/v2/pipeline", headers, b"body")

    run(scenario())
