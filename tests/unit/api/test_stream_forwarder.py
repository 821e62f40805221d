"""Subscription requests on their way to the process of their stream."""

import asyncio
from types import SimpleNamespace

import pytest

from pando.api.http import Request
from pando.api.records_http import read_request
from pando.api.stream_forwarder import HOP, Distance, Hop, StreamForwarder
from pando.records.problems import ApiError
from pando.records.realtime.client_ids import make_client_id, parse_client_id

KEY = b"k" * 32
BODY = b'{"clientId":"x"}'
ANSWER = b"HTTP/1.1 204 No Content\r\ndate: x\r\ncontent-length: 0\r\nx-frame-options: no\r\n\r\n"
FROM_CLIENT = Hop(Distance.CLIENT, "10.1.1.1")


class Store:
    def __init__(self, urls=()):
        self.topology = SimpleNamespace(node="here", primary_url="http://127.0.0.1:1")
        self._urls = dict(urls)

    async def primary_status(self):
        return SimpleNamespace(node="p", replicas=[SimpleNamespace(node=n, url=u) for n, u in self._urls.items()])


class Other:
    """Another process: takes a request, and keeps its header."""

    def __init__(self):
        self.head = ""
        self.body = b""

    async def serve(self, reader, writer):
        self.head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        self.body = await reader.readexactly(len(BODY))
        writer.write(ANSWER)
        writer.close()

    @property
    def headers(self):
        return [
            (name.lower().encode(), value.encode())
            for name, value in (line.split(": ", 1) for line in self.head.split("\r\n")[1:] if line)
        ]


def asked(*headers):
    scope = {"method": "POST", "path": "/api/realtime", "raw_path": b"/api/realtime", "query_string": b"a=1"}
    return read_request(Request({**scope, "headers": [(b"authorization", b"T"), *headers]}, None))


def forwarder(folder, store=None, *, index=0, key=KEY):
    return StreamForwarder(store or Store(), lambda index: folder / f"{index}.sock", index=index, key=key)


def home(node, index):
    return parse_client_id(make_client_id(node, index, b"r" * 16))


def test_a_sibling_gets_the_request_with_the_address_of_its_client(folder):
    async def scenario():
        other = Other()
        async with await asyncio.start_unix_server(other.serve, folder / "3.sock"):
            answer = await forwarder(folder).forward(asked(), BODY, home("here", 3), FROM_CLIENT)
        assert (answer.status, answer.headers) == (204, [(b"x-frame-options", b"no")])
        assert other.head.startswith("POST /api/realtime?a=1 HTTP/1.1\r\n") and other.body == BODY
        assert (b"authorization", b"T") in other.headers
        there = forwarder(folder, index=3)
        request = asked(*[pair for pair in other.headers if pair[0] == HOP])
        hop = there.hop_of(request, BODY)
        assert hop == Hop(Distance.SIBLING, "10.1.1.1")
        assert there.hop_of(request, BODY + b" ") is None
        assert forwarder(folder, key=b"other").hop_of(request, BODY) is None
        with pytest.raises(ApiError):
            await there.forward(request, BODY, home("here", 4), hop)

    asyncio.run(scenario())


def test_another_node_gets_it_and_may_give_it_to_a_sibling(folder):
    async def scenario():
        other = Other()
        server = await asyncio.start_server(other.serve, "127.0.0.1", 0)
        async with server:
            url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
            here = forwarder(folder, Store({"there": url}))
            assert (await here.forward(asked(), BODY, home("there", 1), FROM_CLIENT)).status == 204
        hop = forwarder(folder).hop_of(asked(*[pair for pair in other.headers if pair[0] == HOP]), BODY)
        assert hop == Hop(Distance.NODE, "10.1.1.1")
        with pytest.raises(ApiError) as refused:
            await here.forward(asked(), BODY, home("there", 1), hop)
        assert refused.value.status == 404

    asyncio.run(scenario())


@pytest.mark.parametrize(("node", "index"), [("here", 5), ("gone", 0), ("nobody", 0)])
def test_streams_of_processes_that_are_not_there_are_unknown(folder, node, index):
    async def scenario():
        here = forwarder(folder, Store({"gone": "http://127.0.0.1:1"}))
        with pytest.raises(ApiError) as refused:
            await here.forward(asked(), BODY, home(node, index), FROM_CLIENT)
        assert refused.value.status == 404

    asyncio.run(scenario())


@pytest.mark.parametrize("text", [b"", b"1", b"0;x;10.0.0.1", b"3;x;y", b"1;\xff;z", b"2;;"])
def test_headers_that_no_node_made_count_for_nothing(folder, text):
    assert forwarder(folder).hop_of(asked((HOP, text)), BODY) is None
