"""Consumer groups on three nodes, of which some are killed: each change to one member at a time, until it is done."""

import asyncio
import itertools
import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import aiohttp
import pytest
from cluster_kit import NODES, free_base_port
from realtime_order_kit import AWAY, PAUSE_S, Served, Writer

from pando.node.local_cluster import LocalCluster

GROUP = "changes/groups/workers"
LEASE_S = 2
MOST = 15
WRITERS = 4


@pytest.fixture
def cluster(tmp_path):
    made = LocalCluster(tmp_path, nodes=NODES, http=f"127.0.0.1:{free_base_port(NODES)}", web=1)
    made.start()
    yield made
    made.stop()


@dataclass(frozen=True)
class Delivery:
    """A change that a member was given: for the how manieth time, from when until when."""

    cursor: int
    attempt: int
    member: str
    begin: datetime
    end: datetime


@dataclass
class Member:
    """Claims changes and acknowledges them, at another node when its node is lost.

    `is_careless`: it forgets some the first time that they are handed out.
    """

    name: str
    served: Served
    urls: list
    is_careless: bool = False
    given: list = field(default_factory=list)
    done: dict = field(default_factory=dict)
    refused: int = 0

    async def wait_for_all(self, last):
        """Work until the group has nothing left up to the last change, once there is one."""
        for url in itertools.cycle(self.urls):
            try:
                if last and await self._acknowledged(url) >= last[0]:
                    return
                await self.work(url)
            except AWAY:
                await asyncio.sleep(PAUSE_S)

    def forgets(self, cursor, attempt):
        """Whether it does not acknowledge this change."""
        return self.is_careless and cursor % 3 == 0 and attempt == 1

    async def _acknowledged(self, url):
        status, found = await self.served.http.ask("GET", url, "changes/groups", token=self.served.su)
        if status != 200:
            return await self._refused(status, found)
        return next((group["acknowledged"] for group in found["items"] if group["name"] == "workers"), -1)

    async def work(self, url):
        """Claim once, and acknowledge that."""
        body = {"member": self.name, "max": MOST, "leaseSeconds": LEASE_S, "waitSeconds": 1, "since": 0}
        status, found = await self.served.http.ask("POST", url, f"{GROUP}/claim", body, self.served.su)
        if status != 200:
            return await self._refused(status, found)
        items = {item["change"]["cursor"]: item for item in found["items"]}
        assert len(items) == len(found["items"]) <= MOST and found["lost"] is None
        for cursor, item in items.items():
            end = datetime.fromisoformat(item["until"])
            begin = end - timedelta(seconds=LEASE_S)
            self.given.append(Delivery(cursor, item["attempt"], self.name, begin, end))
        cursors = [each for each, item in items.items() if not self.forgets(each, item["attempt"])]
        if not cursors:
            return 0
        body = {"member": self.name, "cursors": cursors}
        status, found = await self.served.http.ask("POST", url, f"{GROUP}/ack", body, self.served.su)
        if status != 200:
            return await self._refused(status, found)
        for cursor in set(cursors) - set(found["missing"]):
            self.done[cursor] = items[cursor]["attempt"]
        return 0

    async def _refused(self, status, found):
        """Nothing can be had now; nobody may say that it is the member's fault."""
        assert status >= 500, (status, found)
        self.refused += 1
        raise TimeoutError


def check(members, last):
    """Nobody was given what another one had, or what was done; everything was given, and what was forgotten again."""
    by_cursor = defaultdict(list)
    for delivery in itertools.chain.from_iterable(member.given for member in members):
        by_cursor[delivery.cursor].append(delivery)
    assert sorted(by_cursor) == list(range(1, max(by_cursor) + 1)) and max(by_cursor) >= last
    for found in by_cursor.values():
        found.sort(key=lambda delivery: delivery.attempt)
        for before, after in itertools.pairwise(found):
            assert before.attempt < after.attempt, (before, after)
            assert before.end <= after.begin, (before, after)
    for member in members:
        for cursor, attempt in member.done.items():
            assert by_cursor[cursor][-1].attempt == attempt, (by_cursor[cursor], member.name)
    done = [cursor for member in members for cursor in member.done]
    assert len(done) == len(set(done))
    careless = next(member for member in members if member.is_careless)
    forgotten = [each for each in careless.given if careless.forgets(each.cursor, each.attempt)]
    assert forgotten and all(by_cursor[each.cursor][-1].attempt > 1 for each in forgotten if each.cursor <= last)


async def newest(served):
    """The cursor of the newest change: that of a record made now."""
    body = {"id": "theverylastone1", "n": 0, "owner": "", "kind": ""}
    url = f"{served.urls[0]}/api/changes"
    async with served.http.session.get(url, headers={"Authorization": served.su}) as feed:
        assert feed.status == 200 and await feed.content.readline() == b"\n"
        await served.do("POST", served.urls[0], "collections/posts/records", body)
        return json.loads(await feed.content.readline())["cursor"]


async def scenario(cluster, total, *, kill_primary):
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        served = Served(cluster, session)
        await served.prepare()
        urls = served.urls
        members = [Member(f"at node {at + 1}", served, urls[at:] + urls[:at]) for at in range(NODES)]
        members.append(Member("careless", served, urls[2:] + urls[:2], is_careless=True))
        members.append(Member("another at node 2", served, urls[1:] + urls[:1]))
        done, last = [0], []
        writers = [Writer(number, served.http, urls, ["somebody"]) for number in range(WRITERS)]

        def given():
            return sum(len(member.given) for member in members)

        def refused():
            return sum(member.refused for member in members)

        await next(member for member in members if member.is_careless).work(urls[2])  # there is something to forget
        async with asyncio.TaskGroup() as working:
            for member in members:
                working.create_task(member.wait_for_all(last))
            async with asyncio.TaskGroup() as writing:
                for writer in writers:
                    writing.create_task(writer.run(total, done))
                await served.until(lambda: given() >= total // 4, "changes are given")
                before = given()
                await served.kill(
                    cluster.nodes[1],
                    away=lambda: given() >= before + MOST,
                    after=lambda: given() >= total // 2,
                )
                if kill_primary:
                    before = refused()
                    await served.kill(
                        cluster.nodes[0],
                        away=lambda: refused() > before,
                        after=lambda: given() >= total * 3 // 4,
                    )
            last.append(await newest(served))
    check(members, last[0])


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_each_change_is_with_one_member_over_a_kill_of_its_node(cluster):
    asyncio.run(asyncio.wait_for(scenario(cluster, 150, kill_primary=False), 150))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_each_change_is_with_one_member_over_many_changes_and_a_kill_of_the_primary(cluster):
    asyncio.run(asyncio.wait_for(scenario(cluster, 3_000, kill_primary=True), 500))
