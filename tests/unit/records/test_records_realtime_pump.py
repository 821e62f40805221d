"""From commits to streams, over a feed that the store's own code writes; random writers, losses and returns."""

import asyncio
import contextlib
import json
import random

import pytest
from records_realtime_kit import SCHEMA, Database, Streams, user

from pando import limits
from pando.errors import InternalError, NotReady
from pando.records.realtime import pump as module
from pando.records.realtime.client_ids import split_event_id
from pando.records.realtime.clients import Ending
from pando.records.realtime.feed import CursorGone, Feed
from pando.records.realtime.matching import Matcher
from pando.records.realtime.pump import Commits, Pump, follow
from pando.records.realtime.topics import check_request
from pando.testing.virtual_clock import VirtualClock
from pando.testing.waiting import turns, until


class World(Streams):
    """A database with streams on it; each write wakes the pump if it asked for that."""

    def __init__(self):
        super().__init__()
        self.db = Database()
        self.watching = []
        self.commits = Commits(lambda: self.watch(True), lambda: self.watch(False))
        self.feed = Feed(self.db)
        self.matcher = Matcher(self.registry, lambda: SCHEMA, self._allowed)
        self.clock = VirtualClock(monotonic=0.0)
        self.pump = Pump(self.feed, self.registry, self.matcher, self.commits, self.clock, retry_s=0.001)
        self.chance = None
        self.db.run("CREATE TABLE posts (id TEXT PRIMARY KEY, n)")

    def watch(self, wanted):
        self.watching.append(wanted)
        if wanted:
            self.commits.wake()

    @property
    def is_watching(self):
        return bool(self.watching) and self.watching[-1]

    async def _allowed(self, _collection, values, _rule, _identity, _options):
        for _ in range(self.chance.randrange(3) if self.chance else 0):
            await asyncio.sleep(0)
        return json.dumps({name: values[name] for name in ("id", "n")}).encode()

    def write(self, sql="INSERT INTO posts VALUES (?, ?)", *args):
        self.db.run(sql, *args)
        if self.is_watching:
            self.commits.wake()

    def insert(self, *numbers):
        for number in numbers:
            self.write("INSERT INTO posts VALUES (?, ?)", f"r{number}", number)

    async def hear(self, client, *texts, identity=None, ip="1.1.1.1"):
        seen = await self.feed.newest()
        self.pump.subscribe(client.id, check_request(client.id, texts), identity, ip, seen)

    async def settled(self):
        """Wait until everybody has heard of everything."""
        newest = await self.feed.newest()
        await until(
            lambda: (
                self.registry.cursor in (None, newest)
                and not any(client.behind is not None for client in self.registry._clients.values())
            )
        )
        await turns(20)

    def numbers(self, client):
        return [data["record"]["n"] for _, name, data in self.read(client) if name != "PB_CONNECT"]


def served(scenario):
    """Run a scenario while a pump runs; it must not have failed."""

    async def whole():
        world = World()
        task = asyncio.create_task(world.pump.run())
        await turns()
        try:
            await scenario(world)
        finally:
            assert not task.done(), task.exception()
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    asyncio.run(asyncio.wait_for(whole(), 60))


def test_commits_reach_who_subscribes_and_nobody_is_asked_before_and_after():
    async def scenario(world):
        client = world.connect()
        world.insert(1)
        await turns()
        assert world.watching == []
        await world.hear(client, "posts/*")
        world.insert(2)
        await world.settled()
        world.insert(3, 4)
        await world.settled()
        assert world.numbers(client) == [2, 3, 4]
        world.registry.end(client, Ending.LEFT)
        world.insert(5)
        await until(lambda: not world.is_watching)
        assert world.watching == [True, False]
        again = world.connect()
        await world.hear(again, "posts/*")
        world.insert(6)
        await world.settled()
        assert world.numbers(again) == [6]

    served(scenario)


def test_a_commit_between_looking_and_subscribing_is_heard_of():
    async def scenario(world):
        client = world.connect()
        seen = await world.feed.newest()
        world.insert(1)  # nobody watches, nobody is woken
        world.pump.subscribe(client.id, check_request(client.id, ["posts/*"]), None, "1.1.1.1", seen)
        await world.settled()
        assert world.numbers(client) == [1]

    served(scenario)


def test_a_stream_that_comes_back_hears_what_it_missed_and_then_what_all_hear():
    async def scenario(world):
        other = world.connect()
        await world.hear(other, "posts/*")
        world.insert(*range(1, 11))
        await world.settled()
        back = world.connect(place=4)
        await world.hear(back, "posts/*")
        world.insert(11, 12)
        await world.settled()
        world.insert(13)
        await world.settled()
        assert world.numbers(back) == list(range(5, 14))
        assert world.numbers(other) == list(range(1, 14))

    served(scenario)


def test_a_stream_that_comes_back_alone_hears_what_it_missed():
    async def scenario(world):
        world.insert(*range(1, 6))
        back, ahead = world.connect(place=2), world.connect(place=7)
        await world.hear(back, "posts/*")
        await world.hear(ahead, "posts/*")
        world.insert(*range(6, 10))
        await world.settled()
        assert world.numbers(back) == [3, 4, 5, 6, 7, 8, 9]
        assert world.numbers(ahead) == [8, 9], "it has seen 6 and 7 on another node"

    served(scenario)


def test_what_was_read_for_those_who_left_is_not_told_on_when_somebody_else_comes():
    async def scenario(world):
        leaving, coming = world.connect(), world.connect()
        await world.hear(leaving, "posts/*")
        told = []

        async def allowed(_collection, values, *_):
            told.append(values["n"])
            if values["n"] == 2:
                world.registry.end(leaving, Ending.LEFT)
                await world.hear(coming, "posts/*")
                assert world.registry.cursor == 5
            return b"{}"

        world.matcher._allowed = allowed
        before, dispatch = [], world.matcher.dispatch

        async def noting(change):
            before.append((world.registry.cursor, change.sequence))
            return await dispatch(change)

        world.matcher.dispatch = noting
        world.insert(1, 2, 3, 4, 5)
        await until(lambda: leaving.ending is not None)
        world.insert(6)
        await world.settled()
        assert before == [(0, 1), (1, 2), (5, 6)]
        assert told == [1, 2, 6]

    served(scenario)


def test_who_catches_up_does_not_run_ahead_of_the_others():
    """Changes that all others have not heard of may end its identity, which happens when they hear of them."""

    async def scenario():
        world = World()
        world.insert(*range(1, 4))
        client = world.connect(place=1)
        world.subscribe(client, "posts/*", identity=user(), seen=3)
        world.insert(4, 5)
        await world.pump._catch_up_to(client, 1, 3)
        assert (client.behind, world.numbers(client)) == (3, [2, 3])

    asyncio.run(scenario())


def test_a_stream_whose_place_is_gone_ends():
    async def scenario(world):
        world.insert(*range(1, 6))
        world.db.connection.execute("DELETE FROM _changes WHERE sequence < 4")
        back, other = world.connect(place=2), world.connect(place=3)
        await world.hear(back, "posts/*")
        await world.hear(other, "posts/*")
        await until(lambda: back.ending is not None)
        assert back.ending is Ending.MISSED
        await world.settled()
        assert world.numbers(other) == [4, 5]

    served(scenario)


@pytest.mark.parametrize("fault", ["hole", "anew", "corrupt"])
def test_a_feed_that_cannot_be_gone_on_with_ends_all_streams(fault):
    async def scenario(world):
        clients = [world.connect() for _ in range(3)]
        world.insert(*range(1, 6))
        for client in clients:
            await world.hear(client, "posts/*")
        await world.settled()
        if fault == "corrupt":
            world.db.connection.execute("INSERT INTO _changes VALUES (6, 0, 't', 'replace', 1, NULL, NULL)")
        else:
            world.db.connection.execute(f"DELETE FROM _changes WHERE sequence {'>= 5' if fault == 'hole' else '> 0'}")
            world.db.connection.execute(
                f"INSERT INTO _changes VALUES ({9 if fault == 'hole' else 1}, 0, 't', 'insert', 1, '', '')"
            )
        world.commits.wake()
        await until(lambda: not len(world.registry))
        assert {client.ending for client in clients} == {Ending.MISSED}
        again = world.connect()
        await world.hear(again, "posts/*")
        world.insert(77)
        await world.settled()
        assert world.numbers(again) == [77]

    served(scenario)


def test_a_database_that_is_not_there_for_a_moment_ends_nothing():
    async def scenario(world):
        client, back = world.connect(), world.connect(place=0)
        world.insert(1)
        await world.hear(client, "posts/*")
        await world.hear(back, "posts/*")
        failures = [NotReady("starting")] * 5

        def fail(_sql):
            if failures:
                raise failures.pop()

        world.db.before_query = fail
        world.insert(2)
        await until(lambda: not failures)
        await world.settled()
        assert (world.numbers(client), world.numbers(back)) == ([2], [1, 2])

    served(scenario)


def test_a_bug_ends_the_pump_and_all_streams():
    async def scenario():
        world = World()
        task = asyncio.create_task(world.pump.run())
        await turns()
        client = world.connect()
        await world.hear(client, "posts/*")

        def fail(_sql):
            raise InternalError("a bug")

        world.db.before_query = fail
        world.insert(1)
        with pytest.raises(ExceptionGroup) as failed:
            await asyncio.wait_for(task, 5)
        assert [type(error) for error in failed.value.exceptions] == [InternalError]
        assert client.ending is Ending.STOPPED

    asyncio.run(scenario())


def test_old_streams_end_while_the_pump_runs(monkeypatch):
    monkeypatch.setattr(module, "_TICK_S", 0.001)

    async def scenario(world):
        client = world.connect()
        world.clock.advance(limits.REALTIME_IDLE_S)
        await until(lambda: client.ending is Ending.IDLE)

    served(scenario)


def test_identities_end_as_the_feed_says_also_of_who_subscribes_to_nothing():
    async def scenario(world):
        world.db.run("CREATE TABLE users (id TEXT PRIMARY KEY, n, tokenKey)")
        world.db.run("INSERT INTO users VALUES ('u1', 1, 'key')")
        client = world.connect()
        await world.hear(client, identity=user())
        world.write("UPDATE users SET n = 2")
        await world.settled()
        assert client.identity.values == {"id": "u1", "n": 2, "tokenKey": "key"}
        world.write("UPDATE users SET tokenKey = 'new'")
        await until(lambda: client.identity is None)

    served(scenario)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(12))
def test_whoever_is_lost_and_comes_back_with_its_place_misses_nothing_and_hears_nothing_twice(seed):
    """Streams with one subscription each, so that every event has its place."""
    rng = random.Random(seed)

    async def scenario(world):
        world.chance = rng
        heard = {number: [] for number in range(6)}
        streams = {number: world.connect(place=0) for number in heard}
        waiting = set(heard)  # connected, not subscribed yet
        places = dict.fromkeys(heard, 0)

        def read(number):
            client = streams[number]
            for text, name, data in world.read(client):
                if name != "PB_CONNECT":
                    heard[number].append(data["record"]["n"])
                    places[number] = split_event_id(text)[1]

        for count in range(1, 401):
            world.insert(count)
            number = rng.choice(list(heard))
            action = rng.random()
            if number in waiting:
                await world.hear(streams[number], "posts/*")
                waiting.discard(number)
            elif action < 0.3:
                read(number)
            elif action < 0.4:
                world.registry.end(streams[number], Ending.LEFT)  # what waited is lost
                streams[number] = world.connect(place=places[number])
                waiting.add(number)
            elif action < 0.5:
                await world.hear(streams[number], "posts/*", "users/*")
            await turns(rng.randrange(4))
        for number in waiting:
            await world.hear(streams[number], "posts/*")
        await world.settled()
        for number in heard:
            read(number)
        assert heard == {number: list(range(1, 401)) for number in heard}

    served(scenario)


# -- the plain feed --


def test_following_gives_what_is_there_then_what_comes_and_says_when_it_is_quiet():
    async def scenario():
        world = World()
        world.insert(1, 2, 3)
        batches = follow(world.feed, world.commits, 1, quiet_s=0.01)
        assert [change.sequence for change in await anext(batches)] == [2, 3]
        assert world.is_watching
        assert await anext(batches) == []
        coming = asyncio.create_task(anext(batches))
        await turns()
        world.insert(4)
        assert [change.sequence for change in await coming] == [4]
        await batches.aclose()
        assert not world.is_watching

    asyncio.run(scenario())


def test_following_wakes_once_for_all_who_wait():
    async def scenario():
        world = World()
        readers = [follow(world.feed, world.commits, 0, quiet_s=60) for _ in range(3)]
        tasks = [asyncio.create_task(anext(each)) for each in readers]
        await turns()
        world.insert(1)
        assert [len(await task) for task in tasks] == [1, 1, 1]
        for each in readers:
            await each.aclose()
        assert world.watching == [True, False]

    asyncio.run(scenario())


def test_a_cursor_that_is_gone_or_never_was_cannot_be_followed():
    async def scenario():
        world = World()
        world.insert(1, 2, 3)
        world.db.connection.execute("DELETE FROM _changes WHERE sequence = 1")
        for after in (0, 4):
            with pytest.raises(CursorGone):
                await anext(follow(world.feed, world.commits, after, quiet_s=1))
        assert not world.is_watching

    asyncio.run(scenario())


def test_on_a_replica_a_cursor_may_be_ahead_until_it_is_reached():
    async def scenario():
        world = World()
        world.insert(1)
        batches = follow(world.feed, world.commits, 3, quiet_s=0.01, may_be_ahead=True)
        assert await anext(batches) == []
        world.insert(2, 3, 4)
        assert [change.sequence for change in await anext(batches)] == [4]
        world.db.connection.execute("DELETE FROM _changes")
        with pytest.raises(CursorGone):
            await anext(batches)

    asyncio.run(scenario())
