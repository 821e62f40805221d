import asyncio
import json
from contextlib import asynccontextmanager
from pathlib import Path

import apsw
import pytest
from asgi_client import call

from pando.api.app import App
from pando.api.cluster import ClusterServices, cluster_routes, read_processes
from pando.api.transfers import Transfers
from pando.log import EventLog
from pando.node.store_client import NodeStoreClient, StoreClientOptions
from pando.node.tokens import Authenticator, make_token
from pando.store import protocol as wire
from pando.testing.fake_store import FakeStore
from pando.testing.waiting import run

SECRET = "the cluster's secret"
ADMIN = make_token(SECRET)
KEY = b"k" * 32


@asynccontextmanager
async def node(folder, **options):
    """The routes of a node on a fake store."""
    store = FakeStore(folder, key=KEY, **options)
    await store.start()
    log = EventLog("web-0", write=lambda line: None)
    client = NodeStoreClient(
        StoreClientOptions(store_socket=str(folder / "store.sock"), link_key=KEY, index=0, own_url="http://n1:1"), log
    )
    client.start()
    await client.until(lambda: bool(client.topology.node))
    services = ClusterServices(
        store=client,
        auth=Authenticator(SECRET),
        transfers=Transfers(folder),
        own_url="http://n1:1",
        processes_file=folder / "processes.json",
        connections=lambda: 7,
        is_open=lambda: True,
    )
    try:
        yield App(cluster_routes(services), log, lambda: client.reason), store, client
    finally:
        await client.close()
        await store.stop()


def test_health_follows_the_store(folder):
    async def scenario():
        async with node(folder, ready=False) as (app, store, client):
            got = await call(app, "GET", "/health")
            assert (got.status, got.json()["reason"], got.json()["code"]) == (503, "told so", "NOT_READY")
            store.push_topology(ready=True, reason="")
            await client.until(lambda: client.is_ready)
            got = await call(app, "GET", "/health")
            assert (got.status, got.json()["status"], got.json()["role"]) == (200, "ok", "primary")
            await store.stop()
            await client.until(lambda: not client.is_ready)
            assert (await call(app, "GET", "/health")).status == 503

    run(scenario())


def test_status_tells_the_node_and_whom_it_knows(folder):
    (folder / "processes.json").write_text(json.dumps({"store": 5}))

    async def scenario():
        async with node(folder) as (app, store, _):
            status = store.status(0)
            status.replicas = [wire.ReplicaStatus(node="n2", url="http://n2:1", connected=True)]

            def answer(link, message):
                if isinstance(message, wire.GetStatus):
                    status.id = message.id
                    link.send(status)
                    return True
                return False

            store.answer = answer
            got = (await call(app, "GET", "/cluster/status")).json()
            assert (got["node"], got["role"], got["url"], got["ready"]) == ("n1", "primary", "http://n1:1", True)
            assert got["processes"] == {"store": 5}
            assert [one["name"] for one in got["databases"]] == ["data"]
            assert got["nodes"] == [
                {"node": "n1", "url": "http://n1:1", "role": "primary"},
                {"node": "n2", "url": "http://n2:1", "role": "replica"},
            ]
            assert "id" not in got

    run(scenario())


def test_status_of_a_replica_names_a_primary_that_cannot_be_reached(folder):
    async def scenario():
        async with node(folder, role="replica", primary_url="http://127.0.0.1:1") as (app, _, _client):
            got = (await call(app, "GET", "/cluster/status")).json()
            assert got["nodes"] == [
                {"node": "", "url": "http://127.0.0.1:1", "role": "primary"},
                {"node": "n1", "url": "http://n1:1", "role": "replica"},
            ]

    run(scenario())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/cluster/databases"),
        ("POST", "/cluster/databases"),
        ("POST", "/cluster/import?name=a"),
        ("GET", "/cluster/export?database=a"),
        ("GET", "/cluster/verify?database=a"),
        ("POST", "/cluster/sync"),
    ],
)
def test_the_clusters_routes_want_an_administrators_token(folder, method, path):
    async def scenario():
        async with node(folder) as (app, store, _):
            for token, status in (("", 401), ("x.y.z", 401), (make_token(SECRET, read_only=True), 403)):
                got = await call(app, method, path, token=token)
                assert got.status == status
            assert store.received == []

    run(scenario())


def test_databases_are_listed_and_created(folder):
    async def scenario():
        async with node(folder) as (app, _, _client):
            got = await call(app, "POST", "/cluster/databases", body=b'{"name": "shop"}', token=ADMIN)
            assert (got.status, got.json()) == (201, {"created": "shop"})
            got = await call(app, "GET", "/cluster/databases", token=ADMIN)
            assert got.json() == {"databases": ["data", "shop"]}
            for body in (b"", b"{", b'{"name": 5}', b'{"name": "../x"}', b'{"nam": "x"}'):
                assert (await call(app, "POST", "/cluster/databases", body=body, token=ADMIN)).status == 400

    run(scenario())


def test_an_imported_file_reaches_the_store_and_leaves_nothing_behind(folder):
    async def scenario():
        async with node(folder) as (app, store, _):
            contents = []

            def answer(link, message):
                if isinstance(message, wire.ImportDatabase):
                    contents.append((Path(message.path).read_bytes(), message.database, message.replace))
                return False

            store.answer = answer
            body = bytes(range(256)) * 10_000
            got = await call(
                app, "POST", "/cluster/import?name=shop&replace=true", body=body, token=ADMIN, chunk=100_000
            )
            assert got.status == 201
            assert contents == [(body, "shop", True)]
            assert list(folder.glob("transfer-*")) == []

    run(scenario())


def test_a_refused_import_leaves_nothing_behind(folder):
    async def scenario():
        async with node(folder) as (app, store, _):

            def answer(link, message):
                link.send(wire.Refused(message.id, "DATABASE_EXISTS", "it is there", 409, False))
                return True

            store.answer = answer
            got = await call(app, "POST", "/cluster/import?name=shop", body=b"x", token=ADMIN)
            assert (got.status, got.json()["code"]) == (409, "DATABASE_EXISTS")
            assert list(folder.glob("transfer-*")) == []

    run(scenario())


def test_an_export_is_a_whole_database(folder):
    async def scenario():
        async with node(folder) as (app, _, _client):
            connection = apsw.Connection(str(folder / "data.db"))
            connection.execute("PRAGMA journal_mode=WAL; CREATE TABLE t(a); INSERT INTO t VALUES (1), (2)").fetchall()
            got = await call(app, "GET", "/cluster/export?database=data", token=ADMIN)
            assert got.status == 200
            assert int(got.headers[b"content-length"]) == len(got.body)
            (folder / "copy.db").write_bytes(got.body)
            copy = apsw.Connection(str(folder / "copy.db"))
            assert copy.execute("SELECT count(*) FROM t").fetchall() == [(2,)]
            copy.close()
            connection.close()
            assert (await call(app, "GET", "/cluster/export?database=none", token=ADMIN)).status == 404

    run(scenario())


def test_verify_gives_checksums_as_text(folder):
    async def scenario():
        async with node(folder) as (app, _, _client):
            got = (await call(app, "GET", "/cluster/verify?database=data", token=ADMIN)).json()
            assert got == {
                "database": "data",
                "node": "n1",
                "epoch": 1,
                "txid": 0,
                "checksum": "8000000000000000",
                "believed": "8000000000000000",
                "pages": 7,
            }
            assert (await call(app, "POST", "/cluster/sync", token=ADMIN)).json() == {"synced": True}

    run(scenario())


def test_metrics_are_there_with_and_without_a_store(folder):
    async def scenario():
        async with node(folder) as (app, store, client):
            text = (await call(app, "GET", "/metrics")).body.decode()
            assert "pando_ready 1.0" in text
            assert 'pando_database_lag_seconds{database="data"} 0.0' in text
            await store.stop()
            await client.until(lambda: not client.is_ready)
            text = (await call(app, "GET", "/metrics")).body.decode()
            assert "pando_ready 0.0" in text
            assert "pando_web_connections 7.0" in text

    run(scenario())


def test_the_links_address_explains_itself(folder):
    async def scenario():
        async with node(folder) as (app, _, _client):
            got = await call(app, "GET", "/cluster/link")
            assert (got.status, got.headers[b"upgrade"]) == (426, b"pando-link")

    run(scenario())


def test_a_replica_passes_an_import_on_to_the_primary(folder):
    async def scenario():
        heads = []

        async def serve(reader, writer):
            head = await reader.readuntil(b"\r\n\r\n")
            heads.append((head, await reader.readexactly(3) if head.startswith(b"POST") else b""))
            writer.write(b"HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
            writer.close()

        primary = await asyncio.start_server(serve, "127.0.0.1", 0)
        url = f"http://127.0.0.1:{primary.sockets[0].getsockname()[1]}"
        async with node(folder, role="replica", primary_url=url) as (app, _, _client):
            got = await call(
                app, "POST", "/cluster/import?name=shop", body=b"abc", token=ADMIN, headers=[(b"content-length", b"3")]
            )
            assert (got.status, got.body) == (201, b"{}")
            upload = [one for one in heads if one[0].startswith(b"POST")]
            assert upload[0][0].startswith(b"POST /cluster/import?name=shop HTTP/1.1\r\n")
            assert b"authorization: Bearer " in upload[0][0]
            assert upload[0][1] == b"abc"
            again = await call(
                app, "POST", "/cluster/import?name=shop", token=ADMIN, headers=[(b"pando-forwarded-by", b"n3")]
            )
            assert (again.status, again.json()["code"]) == (503, "PRIMARY_UNAVAILABLE")
        primary.close()

    run(scenario())


def test_processes_that_were_not_written_are_no_error(tmp_path):
    assert read_processes(tmp_path / "none") == {}
    (tmp_path / "bad").write_text("{")
    assert read_processes(tmp_path / "bad") == {}
