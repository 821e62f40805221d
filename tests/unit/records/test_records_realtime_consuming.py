"""Members of a consumer group that claim at the same time, with lots of changes, and with very large ones."""

import asyncio

import msgspec
import pytest
from records_realtime_site import RealtimeSite

from pando import limits
from pando.errors import Overloaded
from pando.records.realtime.consuming import Consumers


@pytest.fixture
def site(tmp_path):
    made = RealtimeSite(tmp_path)
    made.begin()
    try:
        yield made
    finally:
        made.close()


def feed(site, count, size=1):
    for _ in range(count):
        row = '{"a":"' + "x" * size + '"}'
        site.sql("INSERT INTO _changes (time_ms, \"table\", operation, new) VALUES (1, 't', 'insert', ?)", row)


async def claim(consumers, member, most=3, lease_s=60):
    return await consumers.claim("g", member, most=most, lease_s=lease_s, wait_s=0, since=0)


def cursors_of(claimed):
    return [msgspec.json.decode(item.change)["cursor"] for item in claimed.items]


def test_members_that_claim_at_once_get_different_changes(site):
    feed(site, 20)

    async def scenario():
        processes = [Consumers(site.desk, site.commits) for _ in range(3)]
        found = await asyncio.gather(*(claim(each, f"m{at}") for at, each in enumerate(processes * 2)))
        got = sorted(cursor for each in found for cursor in cursors_of(each))
        assert got == list(range(1, 19))

    site.node.run(scenario())


def test_what_is_handed_out_again_fits_one_answer(site, monkeypatch):
    monkeypatch.setattr(limits, "CHANGES_BATCH_BYTES_MAX", 100)
    feed(site, 4, size=60)

    async def scenario():
        consumers = Consumers(site.desk, site.commits)
        for _ in range(4):
            await claim(consumers, "slow", most=1, lease_s=1)
        site.clock.wall += 5000
        assert [cursors_of(await claim(consumers, "next", most=9)) for _ in range(3)] == [[1, 2], [3, 4], []]

    site.node.run(scenario())


def test_no_more_is_handed_out_than_a_group_may_have(site, monkeypatch):
    monkeypatch.setattr(limits, "CONSUMER_IN_FLIGHT_MAX", 5)
    feed(site, 9)

    async def scenario():
        consumers = Consumers(site.desk, site.commits)
        assert cursors_of(await claim(consumers, "m", most=9)) == [1, 2, 3, 4, 5]
        assert cursors_of(await claim(consumers, "m", most=9)) == []
        assert await consumers.acknowledge("g", "m", [1, 2]) == []
        assert cursors_of(await claim(consumers, "m", most=9)) == [6, 7]

    site.node.run(scenario())


def test_groups_are_bounded(site, monkeypatch):
    monkeypatch.setattr(limits, "CONSUMER_GROUPS_MAX", 1)

    async def scenario():
        consumers = Consumers(site.desk, site.commits)
        await claim(consumers, "m")
        with pytest.raises(Overloaded):
            await consumers.claim("h", "m", most=1, lease_s=1, wait_s=0, since=-1)

    site.node.run(scenario())
