"""The route with a store that is not there: rights, waiting, the primary, and what is not a request."""

import asyncio
import json
from types import SimpleNamespace

import pytest
from asgi_client import call
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pando.api.app import App
from pando.api.pull_updates import PullServices, PullUpdates
from pando.errors import Blocked, BookmarkTimeout, Unauthorized
from pando.log import EventLog
from pando.sql.access import Access
from pando.sql.notices import Notices
from pando.sql.pull_revisions import format_revision
from pando.store.commitlog import CommitLog
from pando.store.files import RealFileSystem
from pando.store.layout import Layout
from pando.store.protocol import Committed, Opened
from pando.types import TXID, Checksum, Epoch, Position

BASE = Position(epoch=Epoch(1), txid=TXID(7), checksum=Checksum(1 << 63 | 7))


class Store:
    def __init__(self, path, *, is_primary=True):
        self.path = path
        self.is_primary = is_primary
        self.topology = SimpleNamespace(node="n1", primary_url="")
        self.asked = []
        self.watched = []
        self.on_committed = None

    async def open_database(self, name):
        return Opened(1, str(self.path), 0, 1)

    async def wait_position(self, database, epoch, txid, timeout_s):
        self.asked.append((database, epoch, txid, timeout_s))
        raise BookmarkTimeout("not in time")

    def watch(self, database):
        self.watched.append(database)

    def unwatch(self, database):
        self.watched.remove(database)


class Positions:
    shown = (BASE.epoch, BASE.txid)

    def visible(self, slot):
        return self.shown

    about = visible

    def position(self, slot):
        return BASE


class Service:
    owes = None

    def check_copying(self, call):
        if call.database == "blocked":
            raise Blocked("no")

    def owed(self, call, visible):
        return self.owes


def authenticate(headers):
    if dict(headers).get(b"authorization") == b"Bearer wrong":
        raise Unauthorized("no")
    return Access(read_only=True, databases=frozenset({"data", "blocked"}))


class Tried:
    def __init__(self, folder, **store):
        layout = Layout(folder)
        layout.make_folders()
        log = CommitLog.begin(layout.log("data"), RealFileSystem(), BASE)
        log.close()
        self.store = Store(layout.database("data"), **store)
        self.service = Service()
        self.positions = Positions()
        services = PullServices(
            store=self.store,
            service=self.service,
            authenticate=authenticate,
            positions=self.positions,
            notices=Notices(self.store),
            layout=layout,
            wait_s=0.05,
        )
        self.pulls = PullUpdates(services)
        self.lines = []
        log = EventLog("web-0", form="json", write=self.lines.append)
        self.app = App({}, log, lambda: "", begin_wait_s=0.01)
        self.app.by_first = self.pulls.routes()

    def post(self, body=b"", path="/pull-updates", method="POST", **options):
        return asyncio.run(call(self.app, method, path, body=body, **options))


@pytest.fixture
def tried(tmp_path):
    tried = Tried(tmp_path)
    yield tried
    tried.pulls.close()


def since(position, long_poll_ms=0):
    text = format_revision(position).encode()
    poll = bytes([4 << 3, long_poll_ms & 127 | 128, long_poll_ms >> 7]) if long_poll_ms else b""
    return b"\x1a" + bytes([len(text)]) + text + poll


def test_who_has_everything_gets_the_same_revision_and_no_pages(tried):
    got = tried.post(since(BASE))
    assert (got.status, got.headers[b"content-type"]) == (200, b"application/protobuf")
    assert format_revision(BASE).encode() in got.body
    assert len(got.body) < 100
    assert b"content-length" not in got.headers


class Staying:
    """A client that does not go away; tells what the store is asked to watch while it waits."""

    def __init__(self, tried, then):
        self.tried = tried
        self.then = then

    async def __call__(self, scope, receive, send):
        async def receive_and_wait():
            message = await receive()
            if message["type"] == "http.request":
                return message
            assert self.tried.store.watched == ["data"]
            self.then()
            return await asyncio.Event().wait()

        await self.tried.app(scope, receive_and_wait, send)


def test_a_long_poll_ends_with_its_time(tried):
    staying = Staying(tried, lambda: tried.store.on_committed(Committed("data", 1, 7)))
    got = asyncio.run(call(staying, "POST", "/pull-updates", body=since(BASE, long_poll_ms=200)))
    assert got.status == 200 and len(got.body) < 100
    assert tried.store.watched == []


def test_a_long_poll_ends_with_a_commit(tried):
    def commit():
        tried.positions.shown = (1, 8)
        tried.store.on_committed(Committed("data", 1, 8))

    body = since(BASE, long_poll_ms=16_000)
    got = asyncio.run(asyncio.wait_for(call(Staying(tried, commit), "POST", "/pull-updates", body=body), 10))
    assert got.status == 200
    assert tried.store.watched == []


def test_a_long_poll_ends_with_the_process(tried):
    staying = Staying(tried, tried.pulls.stop)
    body = since(BASE, long_poll_ms=16_000)
    got = asyncio.run(asyncio.wait_for(call(staying, "POST", "/pull-updates", body=body), 10))
    assert got.status == 200 and len(got.body) < 100


def test_a_client_that_goes_away_is_waited_for_no_longer(tried):
    assert tried.post(since(BASE, long_poll_ms=16_000)).status == 200


def test_rights_are_looked_at_before_the_body(tried):
    assert tried.post(headers=[(b"authorization", b"Bearer wrong")]).status == 401
    assert tried.post(headers=[(b"x-namespace", b"other")]).status == 404
    assert tried.post(headers=[(b"x-namespace", b"blocked")]).json()["code"] == Blocked.code


@pytest.mark.parametrize("body", [b"\xff" * 11, b"\x1a\x7f", b"\x2a\x04\x00\x00\x00\x00", b"\x1a\x0412"])
def test_what_is_no_request_is_refused(tried, body):
    got = tried.post(body)
    assert (got.status, json.loads(got.body)["code"]) == (400, "INVALID_REQUEST")
    assert tried.lines == []


@given(st.binary(max_size=40))
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_any_bytes_get_an_answer_that_is_no_bug(tried, body):
    got = tried.post(since(BASE) + body)
    assert got.status in {200, 400, 410}, got.body
    assert tried.lines == []


def test_other_methods_paths_and_sizes(tried):
    got = tried.post(method="GET")
    assert (got.status, got.headers[b"allow"]) == (405, b"POST")
    assert tried.post(path="/pull-updates/more").status == 404
    assert tried.post(bytes(3 << 20)).status == 413


def test_a_replica_that_is_behind_waits_and_then_says_so(tmp_path):
    tried = Tried(tmp_path, is_primary=False)
    ahead = Position(epoch=Epoch(1), txid=TXID(9), checksum=Checksum(1 << 63 | 9))
    got = tried.post(since(ahead))
    assert (got.status, got.json()["retryable"]) == (503, True)
    assert [asked[:3] for asked in tried.store.asked] == [("data", 1, 9)]
    tried.service.owes = (1, 8)
    assert tried.post(since(BASE)).status == 503, "the client's own write is not shown here"
    tried.pulls.close()
