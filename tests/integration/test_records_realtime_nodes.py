"""Streams on a primary and on its replica, over real stores: the same events in the same order, none missing."""

import asyncio
import contextlib
import json
import os
import random
import signal
import sys
from pathlib import Path

import apsw
import pytest
from store_world import KEY, Store

from pando.clock import SystemClock
from pando.log import EventLog
from pando.node.store_client import NodeStoreClient, StoreClientOptions
from pando.records.realtime.client_ids import split_event_id
from pando.records.realtime.clients import Ending
from pando.records.realtime.feed import Feed
from pando.records.realtime.matching import Matcher
from pando.records.realtime.pump import Commits, Pump
from pando.records.realtime.topics import check_request
from pando.store import protocol
from pando.testing.waiting import turns, until

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "records"))
from records_realtime_kit import SCHEMA, Streams

pytestmark = pytest.mark.slow

CREATE = "CREATE TABLE posts (id TEXT PRIMARY KEY, n)"


class FileReads:
    """What is needed of an engine, on the file of a node."""

    def __init__(self, path):
        self.connection = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        self.connection.set_busy_timeout(5000)

    async def query(self, sql, args=()):
        return self.connection.execute(sql, tuple(args)).fetchall()


class WebProcess(Streams):
    """Streams of one node, woken by its store."""

    def __init__(self, store):
        super().__init__()
        clock = SystemClock()
        self.now = clock.monotonic()
        options = StoreClientOptions(store_socket=str(store.sockets / "store.sock"), link_key=KEY, index=0, own_url="")
        self.store = NodeStoreClient(options, EventLog("web", write=lambda line: None))
        self.commits = Commits(lambda: self.store.watch("data"), lambda: self.store.unwatch("data"))
        self.store.on_committed = lambda _: self.commits.wake()
        self.reads = FileReads(store.server.catalog.get("data").path)
        self.feed = Feed(self.reads)
        matcher = Matcher(self.registry, lambda: SCHEMA, self._allowed)
        self.pump = Pump(self.feed, self.registry, matcher, self.commits, clock)
        self.events = {}

    async def _allowed(self, _collection, values, *_):
        return json.dumps(values).encode()

    async def __aenter__(self):
        self.store.start()
        self.task = asyncio.create_task(self.pump.run())
        await turns()
        return self

    async def __aexit__(self, *_error):
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task
        await self.store.close()
        self.reads.connection.close()

    async def hear(self, *, place=None):
        client = self.connect(place=place)
        seen = await self.feed.newest()
        self.pump.subscribe(client.id, check_request(client.id, ["posts/*"]), None, "1.1.1.1", seen)
        self.events[client.id] = []
        return client

    def heard(self, client):
        self.events[client.id] += [
            (data["action"], data["record"]["id"], data["record"]["n"]) for *_, data in self.read(client)
        ]
        return self.events[client.id]


class Writer:
    """Changes records of the primary in many commits; `told` is what subscribers must hear."""

    def __init__(self, primary):
        self.told = []
        self._client = primary.client
        self._rng = random.Random(11)
        self._there = {}

    async def write(self, commits):
        for _ in range(commits):
            changes = [self._change() for _ in range(self._rng.randrange(1, 4))]
            ran = await self._client.sql("BEGIN", *changes, "COMMIT")
            assert isinstance(ran, protocol.Ran)

    def _change(self):
        key, number = f"r{self._rng.randrange(8)}", len(self.told)
        if key in self._there and self._rng.random() < 0.3:
            self.told.append(("delete", key, self._there.pop(key)))
            return "DELETE FROM posts WHERE id = ?", (key,)
        action = "update" if key in self._there else "create"
        self.told.append((action, key, number))
        self._there[key] = number
        return "INSERT INTO posts VALUES (?1, ?2) ON CONFLICT DO UPDATE SET n = ?2", (key, number)


async def all_heard(node, client, writer):
    await until(lambda: len(node.heard(client)) >= len(writer.told))
    assert node.heard(client) == writer.told


def test_all_streams_of_both_nodes_hear_the_same_in_the_same_order(tmp_path):
    async def scenario():
        async with (
            Store(tmp_path / "p", change_feed=frozenset({"data"})) as primary,
            Store(tmp_path / "r", upstream=primary) as replica,
        ):
            ran = await primary.client.sql(CREATE)
            await until(lambda: replica.server.catalog.get("data").shown.txid >= ran.txid)
            async with WebProcess(primary) as here, WebProcess(replica) as there:
                assert not primary.server.watching._watchers
                streams = [(node, await node.hear()) for node in (here, here, there, there)]
                writer = Writer(primary)
                await writer.write(100)
                os.kill(replica.applier.pid, signal.SIGKILL)
                replica.applier.wait(5)
                replica.applier.stdin.close()
                await writer.write(50)
                replica.start_applier()
                for node, client in streams:
                    await all_heard(node, client, writer)
                late = await there.hear(place=0)
                await all_heard(there, late, writer)
                here.registry.end_all(Ending.LEFT)
                await writer.write(1)
                await until(lambda: not primary.server.watching._watchers)
                await all_heard(there, late, writer)

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_a_stream_whose_node_is_lost_goes_on_at_another_one(tmp_path):
    async def scenario():
        async with (
            Store(tmp_path / "p", change_feed=frozenset({"data"})) as primary,
            Store(tmp_path / "r", upstream=primary) as replica,
        ):
            ran = await primary.client.sql(CREATE)
            await until(lambda: replica.server.catalog.get("data").shown.txid >= ran.txid)
            writer = Writer(primary)
            events = []
            async with WebProcess(replica) as lost:
                client = await lost.hear(place=await lost.feed.newest())
                await writer.write(20)
                await until(lambda: client.outbox)
                *_, (last_id, _, _) = found = lost.read(client)
                events += [(data["action"], data["record"]["id"], data["record"]["n"]) for *_, data in found]
                await writer.write(20)
            await writer.write(20)
            async with WebProcess(primary) as other:
                again = await other.hear(place=split_event_id(last_id)[1])
                await writer.write(20)
                await until(lambda: len(events) + len(other.heard(again)) >= len(writer.told))
                assert events + other.heard(again) == writer.told

    asyncio.run(asyncio.wait_for(scenario(), 120))
