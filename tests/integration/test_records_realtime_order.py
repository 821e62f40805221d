"""Subscribers and readers of the feed on three nodes, of which some are killed: the same events in the same order."""

import asyncio
import json
import os
import subprocess
import sys

import aiohttp
import pytest
from cluster_kit import NODES, free_base_port, is_alive, wait_until
from realtime_order_kit import AWAY, END, EVEN, FeedReader, Http, Subscriber, Told, Writer, definitions, stored_by

from pando.node.local_cluster import LocalCluster, is_healthy

PASSWORD = "correct horse"
WRITERS = 8
HEALED_S = 60.0


@pytest.fixture
def cluster(tmp_path):
    made = LocalCluster(tmp_path, nodes=NODES, http=f"127.0.0.1:{free_base_port(NODES)}", web=1)
    made.start()
    yield made
    made.stop()


class World:
    """A cluster with collections and users, and what the test has made on it."""

    def __init__(self, cluster, session):
        self.cluster = cluster
        self.http = Http(session)
        self.urls = cluster.node_urls
        self.done = [0]
        self.subscribers = []
        self.readers = []
        self.writers = []
        self.su = ""
        self.people = {}

    async def prepare(self):
        """Make superuser, collections and users, and who writes and listens."""
        cluster = self.cluster
        command = [sys.executable, "-m", "pando", "superuser", "upsert", "su@example.com", PASSWORD]
        command += ["--dir", str(cluster.nodes[0].directory)]
        environment = {**os.environ, "PANDO_SECRET": cluster.secret}
        await asyncio.to_thread(subprocess.run, command, env=environment, check=True, capture_output=True, timeout=60)
        self.su = (await self.sign_in("_superusers", "su@example.com"))["token"]
        for body in definitions("people"):
            await self.do("POST", self.urls[0], "collections", body, token=self.su)
        for name in ("ann", "bob"):
            body = {"email": f"{name}@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD}
            await self.do("POST", self.urls[0], "collections/people/records", body)
            self.people[name] = await self.sign_in("people", f"{name}@example.com")

    async def do(self, method, url, path, body=None, token=""):
        """Ask for what must be done."""
        status, found = await self.http.ask(method, url, path, body, token)
        assert status in (200, 204), (status, found)
        return found

    async def sign_in(self, collection, identity):
        path = f"collections/{collection}/auth-with-password"
        return await self.do("POST", self.urls[0], path, {"identity": identity, "password": PASSWORD})

    def populate(self, group):
        """Subscribers and readers begin at every node; gives when all of them hear."""
        for at, _ in enumerate(self.urls):
            urls = self.urls[at:] + self.urls[:at]
            self.subscribers += self._subscribers(at + 1, urls)
            self.readers.append(FeedReader(self.http, urls, self.su, 0))
        at_front = [self.cluster.front_url]
        self.subscribers.append(Subscriber("ann at the front", self.http, at_front, **self._as("ann")))
        for each in [*self.subscribers, *self.readers]:
            group.create_task(each.run())
        return asyncio.gather(*(each.hears.wait() for each in self.subscribers))

    def _subscribers(self, number, urls):
        for name in self.people:
            yield Subscriber(f"{name} at node {number}", self.http, urls, **self._as(name))
        yield Subscriber(f"a superuser at node {number}", self.http, urls, token=self.su, who=None)
        yield Subscriber(f"a guest at node {number}", self.http, urls)
        yield Subscriber(f"a guest with a filter at node {number}", self.http, urls, topics=(EVEN,))
        yield Subscriber(f"without places at node {number}", self.http, urls, places=False, **self._as("ann"))

    def _as(self, name):
        return {"token": self.people[name]["token"], "who": self.people[name]["record"]["id"]}

    @property
    def failed(self):
        """How many writes were not acknowledged."""
        return sum(writer.failed for writer in self.writers)

    async def kill(self, node, total, *, away):
        """Kill a whole node, let others go on without it, start it again, and go on to `total` writes."""
        pids = list(node.processes().values())
        node.kill_all()
        await self.until(lambda: not any(map(is_alive, pids)), "the node is gone", node.supervisor.process.poll)
        await self.until(away, "what happens while the node is away")
        await self.until(lambda: is_healthy(node.url), "the node is back", self.cluster.poll)
        await self.until(lambda: self.done[0] >= total, "writes after it")

    async def until(self, condition, what, meanwhile=lambda: None):
        await asyncio.to_thread(wait_until, condition, HEALED_S, what, meanwhile)

    async def end(self):
        """Write the record after which nothing comes."""
        for number in range(100):
            body = {"id": f"{END}{number}".ljust(15, "x"), "n": 0, "owner": "", "kind": "even"}
            try:
                status, _ = await self.http.ask("POST", self.urls[0], "collections/posts/records", body)
            except AWAY:
                continue
            if status == 200:
                return
        raise AssertionError("nothing can be written")

    async def check(self):
        """Compare what everybody was told."""
        lines = self.readers[0].lines
        for reader in self.readers[1:]:
            assert reader.lines == lines
        feed = [json.loads(line) for line in lines]
        told = [each for line in feed if (each := Told.of(line))]
        for subscriber in self.subscribers:
            subscriber.check(told)
        places = {each: at for at, each in enumerate(told)}
        assert len(places) == len(told)
        for writer in self.writers:
            assert [each for each in writer.acknowledged if each not in places] == []
            order = [places[each] for each in writer.acknowledged]
            assert order == sorted(order)
        expected = stored_by(feed)
        for url in self.urls:
            for collection, rows in expected.items():
                records = await self.http.all_records(url, collection, self.su)
                found = {key: (row["n"], row["owner"], row["kind"]) for key, row in records.items()}
                assert found == rows, (url, collection)


async def scenario(cluster, total, *, kill_primary):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        world = World(cluster, session)
        await world.prepare()
        async with asyncio.TaskGroup() as everybody:
            await world.populate(everybody)
            owners = [person["record"]["id"] for person in world.people.values()]
            world.writers = [Writer(number, world.http, world.urls, owners) for number in range(WRITERS)]
            async with asyncio.TaskGroup() as writing:
                for writer in world.writers:
                    writing.create_task(writer.run(total, world.done))
                await world.until(lambda: world.done[0] >= total // 4, "writes")
                wanted = total // 2
                await world.kill(cluster.nodes[1], wanted, away=lambda: world.done[0] >= wanted - total // 8)
                if kill_primary:
                    failed = world.failed + 2 * WRITERS
                    await world.kill(cluster.nodes[0], total * 3 // 4, away=lambda: world.failed >= failed)
            await world.end()
        await world.check()
        assert {len(each.runs) for each in world.subscribers if not each.name.endswith("front")} >= {1, 2}


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_everybody_hears_the_same_in_the_same_order_over_a_kill_of_a_node(cluster):
    asyncio.run(asyncio.wait_for(scenario(cluster, 500, kill_primary=False), 150))


@pytest.mark.full
@pytest.mark.timeout(1200)
def test_everybody_hears_the_same_over_many_writes_and_kills_of_a_replica_and_the_primary(cluster):
    asyncio.run(asyncio.wait_for(scenario(cluster, 10_000, kill_primary=True), 1000))
