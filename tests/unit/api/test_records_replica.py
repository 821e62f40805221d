"""A replica that refuses writes: which requests, with what answer, and who says what of itself."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from pando.api.http import Request, Response
from pando.api.records_app import Router
from pando.api.records_replica import DROPPED_BYTES_MAX, ReadOnlyReplica, replica_routes
from pando.clock import SystemClock
from pando.records.app_settings import AppSettings
from pando.records.guarding.guard import Guard
from pando.store.protocol import DatabaseStatus, NodeStatus, Topology

PRIMARY = "http://10.0.0.1:8090"
READ, WRITE = "GET collections/*/records", "POST collections/*/records"
SAYS = {"x-replica-mode": "true", "x-replica-id": "n2", "x-master-url": PRIMARY}


async def here(*_):
    return Response(200, [], b"here")


async def forward(_):
    raise AssertionError("nothing is passed on")


class Site:
    """The application of a node of some role, which answers everything with `here`."""

    def __init__(self, role):
        engine = SimpleNamespace(is_primary=role == "primary", is_late=False, position=None)
        desk = SimpleNamespace(engine=engine, asking=self.asking, guard=Guard(), clock=SystemClock())
        topology = Topology(node="n2", role=role, epoch=1, primary_url=PRIMARY, ready=True)
        router = Router({READ: here, WRITE: here}, writes=frozenset({WRITE}))
        self.app = ReadOnlyReplica(desk, router, forward, None, topology=lambda: topology)
        self.taken = 0

    async def asking(self, *_, **__):
        notes = SimpleNamespace(is_volatile=True, expires_ms=None, reading=None)
        return SimpleNamespace(is_superuser=False, known=SimpleNamespace(settings=AppSettings()), notes=notes)

    def ask(self, method, *headers, path="/api/collections/docs/records"):
        async def receive():
            self.taken += 1
            return {"type": "http.request", "body": b"{}", "more_body": False}

        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        request = Request({**scope, "headers": list(headers), "client": None}, receive)
        response, _ = asyncio.run(self.app.respond_for(request))
        told = {name.decode(): value.decode() for name, value in response.headers}
        return response, {name: value for name, value in told.items() if name in SAYS}


def test_a_write_is_refused_and_the_primary_named():
    response, told = Site("replica").ask("POST")
    assert (response.status, told) == (403, SAYS)
    body = json.loads(response.body)
    assert (list(body), body["code"]) == (["error", "code"], "REPLICA_READ_ONLY")


def test_a_read_is_answered_and_says_whose_answer_it_is():
    response, told = Site("replica").ask("GET")
    assert (response.status, response.body, told) == (200, b"here", SAYS)


def test_what_is_not_there_is_not_there():
    response, told = Site("replica").ask("POST", path="/api/nothing")
    assert (response.status, told) == (404, SAYS)


@pytest.mark.parametrize("role", ["primary", ""])
def test_no_other_node_refuses(role):
    site = Site("primary")
    site.app._topology = lambda: Topology(node="n2", role=role, epoch=1, primary_url="", ready=True)
    response, told = site.ask("POST")
    assert (response.status, response.body, told) == (200, b"here", {})


@pytest.mark.parametrize(
    ("length", "taken"), [(b"2", 1), (b"", 0), (b"x", 0), (str(DROPPED_BYTES_MAX + 1).encode(), 0), (b"9" * 5000, 0)]
)
def test_a_short_body_is_taken_before_the_answer(length, taken):
    site = Site("replica")
    assert site.ask("POST", (b"content-length", length))[0].status == 403
    assert site.taken == taken


@pytest.mark.parametrize(
    ("role", "expected"),
    [
        ("replica", {"replica": True, "masterUrl": PRIMARY, "connected": True, "writes": "reject"}),
        ("primary", {"replica": False, "masterUrl": "", "connected": True, "writes": "accept"}),
    ],
)
def test_a_node_tells_what_it_is(role, expected):
    async def status():
        return NodeStatus(
            id=1,
            node="n2",
            role=role,
            epoch=1,
            primary_url=expected["masterUrl"],
            upstream_connected=role == "replica",
            databases=[DatabaseStatus(name="data", epoch=1, txid=7, lag_txids=2, lag_s=0.5)],
            replicas=[],
        )

    route = replica_routes(SimpleNamespace(status=status), "reject")["GET replica/status"]
    response = asyncio.run(route(None, None, None))
    databases = [{"name": "data", "epoch": 1, "txid": 7, "lagTxids": 2, "lagSeconds": 0.5}]
    assert json.loads(response.body) == {**expected, "replicaId": "n2", "databases": databases}
