"""Subscribers and readers of the feed on three nodes, of which some are killed: the same events in the same order."""

import asyncio
import json

import aiohttp
import pytest
from cluster_kit import NODES, free_base_port
from realtime_order_kit import AWAY, END, EVEN, FeedReader, Served, Subscriber, Told, Writer, stored_by

from pando.node.local_cluster import LocalCluster

WRITERS = 8


@pytest.fixture
def cluster(tmp_path):
    made = LocalCluster(tmp_path, nodes=NODES, http=f"127.0.0.1:{free_base_port(NODES)}", web=1)
    made.start()
    yield made
    made.stop()


class World(Served):
    """A cluster on which others write and listen."""

    def __init__(self, cluster, session):
        super().__init__(cluster, session)
        self.done = [0]
        self.subscribers = []
        self.readers = []
        self.writers = []

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
                await world.kill(
                    cluster.nodes[1],
                    away=lambda: world.done[0] >= total * 3 // 8,
                    after=lambda: world.done[0] >= total // 2,
                )
                if kill_primary:
                    failed = world.failed + 2 * WRITERS
                    await world.kill(
                        cluster.nodes[0],
                        away=lambda: world.failed >= failed,
                        after=lambda: world.done[0] >= total * 3 // 4,
                    )
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
