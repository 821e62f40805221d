import asyncio
import socket
import tempfile
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest
import uvloop

from pando.errors import (
    NotReady,
    OutcomeUnknown,
    Overloaded,
    PrimaryUnavailable,
    SqlError,
    StorageFull,
    UnknownDatabase,
)
from pando.log import EventLog
from pando.node.asking import AskedLink, error_of
from pando.node.keeping import Pauses
from pando.node.store_client import NodeStoreClient, StoreClientOptions
from pando.store import protocol as wire
from pando.store.adopt import Giver
from pando.store.handshake import LinkKind
from pando.store.requests import Execute, Statement
from pando.testing.fake_store import FakeStore

KEY = b"k" * 32
INSERT = (Execute(Statement("insert into t values (1)")),)


def run(scenario):
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(asyncio.wait_for(scenario, 20))


async def wait_until(condition):
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as directory:  # tmp_path is too long for a unix socket on some systems
        yield Path(directory)


class Http:
    """A stand-in for the web process of the other node: hands every connection to its store."""

    def __init__(self, sockets):
        self._giver = Giver(str(sockets / "adopt.sock"))
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._task = asyncio.get_running_loop().create_task(self._accept())

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self._listening)
            data = await loop.sock_recv(connection, 4096)
            try:
                self._giver.give(connection.fileno(), data)
            except NotReady:
                await loop.sock_sendall(connection, b"HTTP/1.1 503 Service Unavailable\r\n\r\n")
            connection.close()

    def close(self):
        self._task.cancel()
        self._listening.close()
        self._giver.close()


@asynccontextmanager
async def started(folder, **options):
    store = FakeStore(folder, key=KEY, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@asynccontextmanager
async def client_of(folder, *, log=None, silence_s=5.0):
    client = NodeStoreClient(
        StoreClientOptions(
            store_socket=str(folder / "store.sock"),
            link_key=KEY,
            index=1,
            own_url="http://127.0.0.1:9",
            silence_s=silence_s,
        ),
        log or EventLog("web-1", write=lambda line: None),
    )
    client.start()
    try:
        yield client
    finally:
        await client.close()


@asynccontextmanager
async def two_nodes(folder, *, silence_s=5.0):
    """A replica's web process, its store, and the primary's store behind HTTP."""
    for name in ("p", "r"):
        (folder / name).mkdir()
    async with started(folder / "p", node="p") as primary:
        http = Http(folder / "p")
        try:
            async with (
                started(folder / "r", node="r", role="replica", primary_url=http.url) as own,
                client_of(folder / "r", silence_s=silence_s) as client,
            ):
                await client.until(lambda: client.generation > 0)
                yield client, own, primary
        finally:
            http.close()


def test_on_the_primary_writes_go_to_the_own_store(folder):
    async def scenario():
        async with started(folder) as store, client_of(folder) as client:
            await client.until(lambda: client.is_ready)
            assert client.is_primary
            ran = await client.run("data", 0, INSERT, "", False)
            assert ran.txid == 1
            assert ran.results[0].rows == [("insert into t values (1)",)]
            assert store.received[-1].database == "data"
            assert store.kinds() == [LinkKind.WEB]

    run(scenario())


def test_many_questions_at_once_are_answered_each(folder):
    async def scenario():
        async with started(folder), client_of(folder) as client:
            await client.until(lambda: client.is_ready)
            texts = [f"insert {number}" for number in range(500)]
            answers = await asyncio.gather(
                *(client.run("data", 0, (Execute(Statement(text)),), "", False) for text in texts)
            )
            assert [answer.results[0].rows[0][0] for answer in answers] == texts

    run(scenario())


def test_on_a_replica_writes_go_to_the_primary_and_the_rest_stays_here(folder):
    async def scenario():
        async with two_nodes(folder) as (client, own, primary):
            assert not client.is_primary
            await client.run("data", 0, INSERT, "", False)
            await client.open_database("data")
            await client.create_database("new")
            assert [type(message).__name__ for message in primary.received] == ["Run", "CreateDatabase"]
            assert [type(message).__name__ for message in own.received] == ["OpenDatabase"]
            assert primary.kinds() == [LinkKind.PEER]
            (peer,) = primary.links.values()
            assert (peer.node, peer.url, peer.index) == ("r", "http://127.0.0.1:9", 1)

    run(scenario())


def test_a_write_fails_at_once_while_the_primary_is_away_and_works_when_it_is_back(folder):
    async def scenario():
        async with two_nodes(folder) as (client, _own, primary):
            before = client.generation
            await primary.stop()
            await client.until(lambda: client.generation == 0)
            with pytest.raises(PrimaryUnavailable) as caught:
                await client.run("data", 0, INSERT, "", False)
            assert caught.value.retryable
            await client.open_database("data")
            again = FakeStore(folder / "p", key=KEY, node="p")
            await again.start()
            await client.until(lambda: client.generation > before)
            await client.run("data", 0, INSERT, "", False)
            await again.stop()

    run(scenario())


def test_the_link_to_a_store_that_stops_is_ended_when_all_is_answered(folder):
    async def scenario():
        async with two_nodes(folder) as (client, _own, primary):
            held = []
            primary.answer = lambda link, message: isinstance(message, wire.Run) and not held.append((link, message))
            running = asyncio.create_task(client.run("data", 0, INSERT, "", False))
            await wait_until(lambda: held)
            primary.push(msgspec.structs.replace(primary.topology, stopping=True))
            await wait_until(lambda: not client._writer.is_open)
            with pytest.raises(PrimaryUnavailable) as caught:
                await client.run("data", 0, INSERT, "", False)
            assert "nothing was done" in caught.value.message
            assert len(held) == 1
            ((link, message),) = held
            link.send(wire.Ran(message.id, [], 1, 7, True))
            assert (await running).txid == 7
            await wait_until(lambda: link not in primary.links)

    run(scenario())


def test_a_client_closes_while_its_link_comes_and_goes(folder):
    async def scenario():
        async with two_nodes(folder) as (_client, _own, primary):
            primary.push_topology(stopping=True)  # each link that is opened now is ended at once
            for _ in range(3):
                seen = set(primary.links)
                await wait_until(lambda seen=seen: set(primary.links) - seen)

    run(scenario())


@pytest.mark.parametrize(("read_only", "error"), [(False, OutcomeUnknown), (True, PrimaryUnavailable)])
def test_a_link_lost_after_the_write_was_sent_leaves_the_outcome_unknown(folder, read_only, error):
    async def scenario():
        async with started(folder) as store, client_of(folder) as client:
            await client.until(lambda: client.is_ready)
            store.answer = lambda link, message: isinstance(message, wire.Run)
            running = asyncio.create_task(client.run("data", 0, INSERT, "", read_only))
            await wait_until(lambda: store.received)
            await store.stop()
            with pytest.raises(error) as caught:
                await running
            assert caught.value.retryable is read_only

    run(scenario())


def test_before_the_store_is_there_nothing_works_and_says_why(folder):
    async def scenario():
        async with client_of(folder) as client:
            assert not client.is_ready
            assert "store process" in client.reason
            for work in (client.open_database("data"), client.status()):
                with pytest.raises(NotReady):
                    await work
            with pytest.raises(PrimaryUnavailable):
                await client.run("data", 0, INSERT, "", False)
            async with started(folder):
                await client.until(lambda: client.is_ready)
                assert client.reason == ""

    run(scenario())


def test_a_store_that_is_not_ready_says_so(folder):
    async def scenario():
        async with started(folder, ready=False) as store, client_of(folder) as client:
            await client.until(lambda: client.reason == "told so")
            assert not client.is_ready
            store.push_topology(ready=True, reason="")
            await client.until(lambda: client.is_ready)

    run(scenario())


def test_the_link_follows_the_primary_that_the_topology_names(folder):
    async def scenario():
        async with two_nodes(folder) as (client, own, primary):
            (folder / "q").mkdir()
            async with started(folder / "q", node="q") as other:
                http = Http(folder / "q")
                before = client.generation
                own.push_topology(primary_url=http.url)
                await client.until(lambda: client.generation > before)
                await client.run("data", 0, INSERT, "", False)
                assert [type(message).__name__ for message in other.received] == ["Run"]
                await wait_until(lambda: not primary.links)
                own.push_topology(role="primary", primary_url="")
                await client.until(lambda: client.is_primary)
                await client.run("data", 0, INSERT, "", False)
                assert [type(message).__name__ for message in own.received] == ["Run"]
                http.close()

    run(scenario())


def test_a_silent_primary_is_noticed(folder):
    async def scenario():
        async with two_nodes(folder, silence_s=0.1) as (client, _own, primary):
            primary.answer = lambda link, message: True
            with pytest.raises(OutcomeUnknown):
                await client.run("data", 0, INSERT, "", False)

    run(scenario())


def test_a_cancelled_caller_withdraws_its_question(folder):
    async def scenario():
        async with started(folder) as store, client_of(folder) as client:
            await client.until(lambda: client.is_ready)
            store.answer = lambda link, message: isinstance(message, wire.Run)
            running = asyncio.create_task(client.run("data", 0, INSERT, "", False))
            await wait_until(lambda: store.received)
            running.cancel()
            await wait_until(lambda: len(store.received) == 2)
            assert store.received[1] == wire.Cancel(store.received[0].id)
            store.push(wire.Ran(store.received[0].id, [], 1, 1, True))
            await client.list_databases()  # the late answer is ignored

    run(scenario())


def test_what_the_store_refuses_is_raised_as_its_class(folder):
    async def scenario():
        async with started(folder), client_of(folder) as client:
            await client.until(lambda: client.is_ready)
            with pytest.raises(UnknownDatabase):
                await client.open_database("none")

    run(scenario())


def test_errors_keep_code_status_and_whether_to_retry():
    error = error_of(wire.Refused(1, "STORAGE_FULL", "no space", 507, False))
    assert isinstance(error, StorageFull)
    strange = error_of(wire.Refused(1, "SQLITE_FULL", "full", 500, True))
    assert (strange.code, strange.status, strange.retryable) == ("SQLITE_FULL", 500, True)
    assert isinstance(error_of(wire.Refused(1, "SQLITE_ERROR", "syntax", 400, False)), SqlError)


def test_pushed_commits_reach_the_listener(folder):
    async def scenario():
        async with started(folder) as store, client_of(folder) as client:
            got = []
            client.on_committed = got.append
            await client.until(lambda: client.is_ready)
            store.push(wire.Committed("data", 1, 5, ("t",)))
            await wait_until(lambda: got)
            assert got == [wire.Committed("data", 1, 5, ("t",))]

    run(scenario())


def test_the_other_questions(folder):
    async def scenario():
        async with started(folder) as store, client_of(folder) as client:
            await client.until(lambda: client.is_ready)
            await client.import_database("shop", "/tmp/x", replace=True)
            assert set(await client.list_databases()) == {"data", "shop"}
            assert (await client.verify_database("shop")).pages == 7
            await client.sync_now()
            await client.wait_position("data", 1, 1, 0.1)
            await client.wait_shown("data", 1, 2)
            assert [each.txid for each in store.received if isinstance(each, wire.WaitShown)] == [2]
            assert (await client.primary_status()).node == (await client.status()).node == "n1"
            client.end_session(5)
            await client.delete_database("shop")
            assert wire.EndSession(5) in store.received

    run(scenario())


class StubLink:
    is_open = True
    is_congested = False

    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)


def test_questions_are_bounded():
    async def scenario():
        from pando import limits

        asked = AskedLink(StubLink(), name="x", on_push=lambda message: None)
        tasks = [
            asyncio.create_task(asked.ask(wire.ListDatabases(asked.next_id()), NotReady))
            for _ in range(limits.LINK_REQUESTS_MAX)
        ]
        await asyncio.sleep(0)
        assert asked.waiting == limits.LINK_REQUESTS_MAX
        with pytest.raises(Overloaded):
            await asked.ask(wire.ListDatabases(asked.next_id()), NotReady)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert asked.waiting == 0

    run(scenario())


def test_pauses_grow_to_their_bound_and_start_anew():
    class Chance:
        def uniform(self, low, high):
            return high

    pauses = Pauses(0.1, 1.0, Chance())
    assert [pauses.next_s() for _ in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    pauses.reset()
    assert pauses.next_s() == 0.1


def watches(store):
    return [(message.database, message.wanted) for message in store.received if isinstance(message, wire.Watch)]


def test_what_is_watched_is_told_to_every_new_link_of_the_own_store(folder):
    async def scenario():
        async with client_of(folder) as client:
            client.watch("early")
            async with started(folder) as store:
                await client.until(lambda: client.is_ready)
                client.watch("data")
                client.watch("data")
                client.unwatch("early")
                client.unwatch("never")
                await wait_until(lambda: len(store.received) == 3)
                assert watches(store) == [("early", True), ("data", True), ("early", False)]
            await client.until(lambda: not client.is_ready)
            client.watch("late")
            async with started(folder) as store:
                await client.until(lambda: client.is_ready)
                await wait_until(lambda: len(store.received) == 2)
                assert sorted(watches(store)) == [("data", True), ("late", True)]

    run(scenario())


def test_the_primary_of_another_node_is_not_asked_for_commits(folder):
    async def scenario():
        async with two_nodes(folder) as (client, own, primary):
            client.watch("data")
            await wait_until(lambda: watches(own) == [("data", True)])
            await client.run("data", 0, INSERT, "", False)
            assert watches(primary) == []

    run(scenario())


def test_too_many_watches_are_refused(folder, monkeypatch):
    monkeypatch.setattr("pando.limits.WATCHES_PER_LINK_MAX", 1)

    async def scenario():
        async with client_of(folder) as client:
            client.watch("a")
            client.watch("a")
            with pytest.raises(Overloaded):
                client.watch("b")

    run(scenario())
