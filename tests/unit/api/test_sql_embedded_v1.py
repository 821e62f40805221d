"""libSQL's first protocol: a client's file is a committed state, whatever node it asks; bad requests are refused."""

import base64
import contextlib
import random
import struct
from types import SimpleNamespace

import pytest
from embedded_world import ClientV1, World, digest, offset_message, read_answer, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pando.api.embedded_v1 import PROXY, database_of
from pando.api.http import Request
from pando.errors import InvalidDatabaseName, InvalidRequest, NotReady


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path, 2)
    yield made
    made.close()


def test_an_empty_database_has_nothing_to_sync(world):
    async def scenario():
        client = ClientV1(world)
        assert await client.sync(lambda: world.primary)
        assert client.pages() == []

    run(scenario())


def test_a_client_follows_the_primary_and_replicas(world):
    async def scenario():
        client = ClientV1(world)
        world.commit()
        world.add_replica()
        for number in range(40):
            world.commit()
            assert await client.sync(lambda: world.nodes[number % 2])  # noqa: B023 - called at once
            assert client.pages() == world.commits.pages

    run(scenario())


@pytest.mark.slow
def test_lost_commits_and_dropped_logs_are_healed_by_a_snapshot(world):
    async def scenario():
        client = ClientV1(world)
        for _ in range(5):
            world.commit()
        world.add_replica()
        for _ in range(3):
            world.commit()
        assert await client.sync(lambda: world.primary)
        assert world.fail_over(world.nodes[1]) == 3
        assert await client.sync(lambda: world.primary)
        assert client.pages() == world.commits.pages
        for _ in range(120):
            world.commit()
        world.primary.file.drop_before(world.primary.file.last.txid - 20)
        assert await client.sync(lambda: world.primary)
        assert client.pages() == world.commits.pages

    run(scenario())


def test_who_did_not_say_hello_is_told_so(world):
    async def scenario():
        world.commit()
        for method in ("BatchLogEntries", "LogEntries", "Snapshot"):
            _, status, text = await world.primary.rpc(method, offset_message(0), b"nonsense")
            assert (status, text) == (9, "NO_HELLO")
        _, status, text = await world.primary.rpc("BatchLogEntries", b"\x10\x01", b"nonsense")
        assert status == 3 and "flav" in text

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_way_through_a_cluster_leaves_a_committed_state(tmp_path, seed):
    wander(tmp_path, seed, steps=50)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 115))
def test_any_long_way_through_a_cluster_leaves_a_committed_state(tmp_path, seed):
    wander(tmp_path, seed, steps=150)


def wander(tmp_path, seed, steps):
    chance = random.Random(seed)
    world = World(tmp_path, seed)

    def pick():
        return chance.choice(world.nodes)

    async def scenario():
        clients = [ClientV1(world) for _ in range(3)]
        world.commit()
        world.add_replica()
        for _ in range(steps):
            step = chance.random()
            world.catches_up = chance.random() < 0.7
            if step < 0.45:
                world.commit()
            elif step < 0.6:
                replica = pick()
                if replica is not world.primary:
                    world.follow(replica, chance.randint(1, world.commits.position.txid))
            elif step < 0.64 and len(world.nodes) < 4:
                world.add_replica(chance.choice([None, 1, 5]))
            elif step < 0.68:
                candidates = [node for node in world.nodes if node is not world.primary and node.entries]
                if candidates:
                    world.fail_over(chance.choice(candidates))
            else:
                with contextlib.suppress(NotReady):
                    await chance.choice(clients).sync(pick, steps=chance.choice([1, 5, 20]))
        world.catches_up = True
        for client in clients:
            assert await client.sync(lambda: world.primary)
            assert digest(client.pages()) == digest(world.commits.pages)

    run(scenario())
    world.close()


# -- requests that are none ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quiet_world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("fuzz"), 3)
    made.commit()
    yield made
    made.close()


METHODS = ["Hello", "BatchLogEntries", "LogEntries", "Snapshot"]
PROXIED = ["Execute", "Describe", "Disconnect", "StreamExec"]
ANYTHING = st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: struct.pack(">BI", 0, len(data)) + data)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(method=st.sampled_from(METHODS + PROXIED), body=ANYTHING)
def test_any_body_is_answered_with_a_status(quiet_world, method, body):
    async def scenario():
        service = PROXY if method in PROXIED else "wal_log.ReplicationLog"
        scope = {
            "type": "http",
            "method": "POST",
            "path": f"/{service}/{method}",
            "query_string": b"",
            "headers": [(b"content-type", b"application/grpc-web")],
        }

        async def receive():
            return {"type": "http.request", "body": body, "more_body": False}

        response = await quiet_world.primary.v1.routes()[service](Request(scope, receive))
        data = response.body
        if response.stream is not None:
            data = b"".join([piece async for piece in response.stream])
        _, status, _ = read_answer(data)
        assert response.status == 200
        assert status in ({0, 3, 9} if method != "StreamExec" else {12})

    quiet_world.primary.v1._sessions = NO_SESSIONS
    run(scenario())


class NoSessions:
    """Takes programs without running them."""

    async def run(self, _client, _request, _call):
        from pando.store.requests import Failure

        return SimpleNamespace(result=Failure("no", "SQL_ERROR"), bookmark=None, is_autocommit=True)

    def disconnect(self, _client, _call):
        return None


NO_SESSIONS = NoSessions()


def test_databases_are_named_as_sql_over_http_names_them():
    def named(name, host="db.example.com", plain=b""):
        headers = [(b"host", host.encode())]
        if name is not None:
            headers.append((b"x-namespace-bin", base64.b64encode(name).rstrip(b"=")))
        if plain:
            headers.append((b"x-namespace", plain))
        return database_of(Request({"headers": headers}, None))

    assert named(b"127", "127.0.0.1:8080") == "data"
    assert named(b"default", "localhost:8080") == "data"
    assert named(b"db") == "data"
    assert named(b"other") == "other"
    assert named(None, plain=b"other") == "other"
    with pytest.raises(InvalidDatabaseName):
        named(b"../x")
    with pytest.raises(InvalidRequest):
        database_of(Request({"headers": [(b"x-namespace-bin", b"!!")]}, None))
