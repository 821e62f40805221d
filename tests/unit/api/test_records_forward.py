"""Requests for the primary: short bodies are held, long ones pass through as they come."""

import asyncio
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest

from pando.api.http import ClientGone, Request, Response
from pando.api.records_app import RecordsApp, Router
from pando.api.records_forward import SHORT_BYTES_MAX, PrimaryForwarder
from pando.api.records_http import read_request
from pando.clock import SystemClock
from pando.errors import PrimaryUnavailable
from pando.records.app_settings import AppSettings
from pando.records.guarding.guard import Guard
from pando.records.problems import ApiError


@dataclass
class Primary:
    """Takes one request at a time, and says what came and in how many pieces."""

    heads: list = field(default_factory=list)
    size: int = 0

    async def __aenter__(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_):
        self.server.close()

    async def serve(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        self.heads.append(head)
        if b"content-length: " in head:
            left = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
            while left and (data := await reader.read(min(left, 65536))):
                left -= len(data)
                self.size += len(data)
        else:
            self.size = len(await reader.readuntil(b"\r\n0\r\n\r\n"))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()


class Coming:
    """A body that comes in pieces, perhaps not to its end."""

    def __init__(self, pieces, *, breaks_off=False):
        self.pieces, self.breaks_off = list(pieces), breaks_off

    async def __call__(self):
        if self.breaks_off and len(self.pieces) == 1:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self.pieces.pop(0), "more_body": bool(self.pieces)}


def asked(body, *headers):
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/api/collections/docs/records",
        "raw_path": b"/api/collections/docs/records",
        "query_string": b"fields=id",
        "headers": list(headers),
    }
    return Request(scope, body)


def forwarder(url):
    return PrimaryForwarder(SimpleNamespace(topology=SimpleNamespace(primary_url=url)), None)


def forwarded(body, *headers):
    async def run():
        async with Primary() as primary:
            response = await forwarder(primary.url)(read_request(asked(body, *headers)))
            return primary, response

    return asyncio.run(run())


def test_a_short_body_goes_in_one():
    primary, response = forwarded(Coming([b"{", b"}"]), (b"content-length", b"2"), (b"host", b"here"))
    assert (response.status, response.body, primary.size) == (200, b"{}", 2)
    [head] = primary.heads
    assert head.startswith(b"POST /api/collections/docs/records?fields=id HTTP/1.1\r\n")
    assert b"pando-records-hop: 1" in head and b"here" not in head and head.count(b"content-length") == 1


def test_a_long_body_passes_through_with_its_length():
    pieces = [bytes(100_000)] * 15
    length = str(sum(map(len, pieces))).encode()
    assert int(length) > SHORT_BYTES_MAX
    primary, response = forwarded(Coming(pieces), (b"content-length", length))
    assert (response.status, primary.size) == (200, int(length))


def test_a_body_of_unknown_length_passes_through_in_chunks():
    primary, response = forwarded(Coming([b"abc", b"def"]), (b"transfer-encoding", b"chunked"))
    assert response.status == 200
    assert b"transfer-encoding: chunked" in primary.heads[0] and primary.size == len(
        b"3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n"
    )


def test_a_client_that_goes_within_its_body_is_no_failure():
    lines = []

    async def send(_message):
        raise AssertionError("nobody is there to be answered")

    async def run():
        async with Primary() as primary:
            desk = SimpleNamespace(engine=SimpleNamespace(is_primary=False), guard=Guard(), clock=SystemClock())
            key = "POST collections/*/records"
            router = Router({key: None}, writes=frozenset({key}))
            log = SimpleNamespace(emit=lambda name, **facts: lines.append((name, facts)))
            body = Coming([bytes(70_000)] * 30, breaks_off=True)
            request = asked(body, (b"content-length", b"2100000"))
            await RecordsApp(desk, router, forwarder(primary.url), log)(request.scope, body, send)
            with pytest.raises(ClientGone):
                body.pieces = [b"x", b"y"]
                await forwarder(primary.url)(read_request(request))

    asyncio.run(run())
    assert lines == []


@pytest.mark.parametrize(("url", "headers"), [("", ()), ("http://127.0.0.1:1", ((b"pando-records-hop", b"1"),))])
def test_without_a_primary_nothing_is_sent(url, headers):
    with pytest.raises(PrimaryUnavailable):
        asyncio.run(forwarder(url)(read_request(asked(Coming([b""]), *headers))))


class LateNode:
    """A replica's application that answers reads with `here`; `late` says whether it shows what it knows of."""

    def __init__(self, late, primary_url):
        self.engine = SimpleNamespace(is_primary=False, is_late=late, position=None, holds=lambda basis: basis == 1)
        self.app = RecordsApp(
            SimpleNamespace(engine=self.engine, asking=self.asking, guard=Guard(), clock=SystemClock()),
            Router({"GET collections/*/records": self.here, "GET health": self.here}, writes=frozenset()),
            forwarder(primary_url),
            None,
        )

    async def asking(self, *_, **__):
        return SimpleNamespace(
            is_superuser=False,
            known=SimpleNamespace(settings=AppSettings()),
            notes=SimpleNamespace(is_volatile=False, expires_ms=None, reading=SimpleNamespace(basis=lambda: 1)),
        )

    async def here(self, *_):
        return Response(200, [], b"here")

    async def get(self, path):
        scope = {**asked(None).scope, "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
        return await self.app.respond_for(Request(scope, Coming([b""])))


@pytest.mark.parametrize(
    ("late", "path", "expected"),
    [
        (False, "/api/collections/docs/records", b"here"),
        (True, "/api/collections/docs/records", b"{}"),
        (True, "/api/health", b"here"),
    ],
)
def test_a_late_node_has_the_primary_answer_reads_of_records(late, path, expected):
    async def run():
        async with Primary() as primary:
            node = LateNode(late, primary.url)
            response, reuse = await node.get(path)
            assert response.body == expected
            if reuse is not None:
                assert expected == b"here" and node.app.is_right_still(reuse)
                node.engine.is_late = True
                assert not node.app.is_right_still(reuse)

    asyncio.run(run())


def test_a_late_node_without_a_primary_answers_with_what_it_has():
    response, _ = asyncio.run(LateNode(True, "").get("/api/collections/docs/records"))
    assert response.body == b"here"


@pytest.mark.parametrize(
    ("status", "has_primary", "expected"), [(400, True, (200, b"{}")), (400, False, 400), (403, True, 403)]
)
def test_who_cannot_sign_in_at_a_replica_is_asked_for_at_the_primary(status, has_primary, expected):
    """It may not have heard of a new password yet; what else is refused is refused there as well."""

    async def refuse(*_):
        raise ApiError(status, "Failed to authenticate.")

    async def run():
        async with Primary() as primary:
            node = LateNode(False, primary.url if has_primary else "")
            node.app._router = Router({"POST collections/*/auth-with-password": refuse}, writes=frozenset())
            path = "/api/collections/users/auth-with-password"
            scope = {**asked(None).scope, "path": path, "raw_path": path.encode()}
            response, _ = await node.app.respond_for(Request(scope, Coming([b"{}"])))
            assert expected in (response.status, (response.status, response.body))
            assert len(primary.heads) == (status == 400 and has_primary)

    asyncio.run(run())
