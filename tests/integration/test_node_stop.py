"""A node, or the front, is told to stop while all kinds of requests are under way: what each client is told."""

import asyncio
import json
import os
import signal

import aiohttp
import pytest
from cluster_kit import READY_S, Cluster, wait_until
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from pando.node.local_cluster import is_healthy

pytestmark = [pytest.mark.full, pytest.mark.slow, pytest.mark.timeout(200)]

CLOSE = {"type": "close"}
COUNT = "WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < {}) SELECT count(*) FROM c"
SHORT, LONG = 1_000_000, 500_000_000
"""Rows that take less than the five seconds that a request is given, and more."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.start(READY_S)
    try:
        made.create_table()
        yield made
    finally:
        made.stop()


def execute(sql, *args):
    return {"type": "execute", "stmt": {"sql": sql, "args": [{"type": "text", "value": arg} for arg in args]}}


class Clients:
    """One request of each kind; `told` is what became of it."""

    def __init__(self, url, token):
        self._url, self._token = url, token
        self._begun = {}
        self.stopped = asyncio.Event()
        self.told = {}

    async def run(self, stop):
        """Begin everything, stop the server, wait for the end of everything."""
        kinds = (self.upload, self.short, self.long, self.stream, self.transaction, self.websocket)
        self._begun = {kind.__name__: asyncio.Event() for kind in kinds}
        headers = {"Authorization": f"Bearer {self._token}"}
        async with aiohttp.ClientSession(self._url, headers=headers) as self._http:
            tasks = [asyncio.ensure_future(self._one(kind)) for kind in kinds]
            async with asyncio.timeout(20):
                await asyncio.gather(*(begun.wait() for begun in self._begun.values()))
            stop()
            self.stopped.set()
            async with asyncio.timeout(30):
                await asyncio.gather(*tasks)

    async def _one(self, kind):
        self.told[kind.__name__] = await kind()

    async def _post(self, **body):
        async with self._http.post("/v2/pipeline", **body) as answer:
            found = await answer.json()
            if answer.status != 200:
                return found["code"], found["retryable"], answer.headers["Connection"]
            return found

    async def upload(self):
        async def body():
            yield bytes(100_000)
            self._begun["upload"].set()
            await asyncio.Event().wait()

        return await self._post(data=body())

    async def _count(self, rows, name):
        asking = asyncio.ensure_future(self._post(json={"requests": [execute(COUNT.format(rows)), CLOSE]}))
        async with self._http.get("/health"):  # by then the other request was sent
            self._begun[name].set()
        return await asking

    async def short(self):
        found = await self._count(SHORT, "short")
        return found["results"][0]["response"]["result"]["rows"][0][0]["value"]

    async def long(self):
        return await self._count(LONG, "long")

    async def stream(self):
        async with self._http.get("/api/realtime") as answer:
            await answer.content.readany()
            self._begun["stream"].set()
            await answer.content.read()  # raises when it is broken off
            return "ended"

    async def transaction(self):
        found = await self._post(
            json={"requests": [execute("BEGIN"), execute("INSERT INTO kept VALUES (?)", self._url)]}
        )
        self._begun["transaction"].set()
        await self.stopped.wait()
        return "open" if found["baton"] else "over"

    async def websocket(self):
        async with connect(self._url.replace("http", "ws"), subprotocols=["hrana3"]) as client:
            await client.send(json.dumps({"type": "hello", "jwt": self._token}))
            await client.recv()
            requests = [{"type": "open_stream", "stream_id": 1}]
            requests += [{"type": "execute", "stream_id": 1, "stmt": {"sql": COUNT.format(SHORT)}}]
            for number, request in enumerate(requests):
                await client.send(json.dumps({"type": "request", "request_id": number, "request": request}))
            answers = [json.loads(await client.recv())["request_id"]]
            self._begun["websocket"].set()
            try:
                while True:
                    answers.append(json.loads(await client.recv())["request_id"])
            except ConnectionClosed as closed:
                return answers, closed.rcvd.code


def check(told, *, websocket):
    assert told == {
        "upload": ("NOT_READY", True, "close"),
        "short": str(SHORT),
        "long": ("OUTCOME_UNKNOWN", False, "close"),
        "stream": "ended",
        "transaction": "open",
        "websocket": websocket,
    }


def rows_of_transactions(cluster):
    return cluster.sql.run(cluster.node_urls[0], "SELECT key FROM kept WHERE key LIKE 'http%'").rows


def test_a_node_tells_every_client_what_is_known(cluster):
    node = cluster.nodes[1]
    clients = Clients(node.url, cluster.token())
    asyncio.run(clients.run(lambda: os.kill(node.supervisor.pid, signal.SIGTERM)))
    check(clients.told, websocket=([0, 1], 1012))
    assert node.supervisor.process.wait(30) == 0
    cluster.poll()
    wait_until(lambda: is_healthy(node.url), READY_S, cluster.logs, cluster.poll)
    assert "process.killed" not in cluster.logs(whole=True)
    assert rows_of_transactions(cluster) == []


def test_the_front_tells_every_client_what_is_known(cluster):
    clients = Clients(cluster.front_url, cluster.token())
    asyncio.run(clients.run(lambda: os.kill(cluster.front_pid, signal.SIGTERM)))
    check(clients.told, websocket=([0], 1001))
    wait_until(lambda: is_healthy(cluster.front_url), READY_S, cluster.logs, cluster.poll)
    wait_until(lambda: rows_of_transactions(cluster) == [], 20, "the open transaction is over")
