"""Which databases are open: on demand, the least used closed, closed ones kept closed while their files change."""

import asyncio

import pytest
from store_kit import run

from pando.errors import DatabaseExists, NotReady, Overloaded, UnknownDatabase
from pando.store.catalog import Catalog
from pando.store.files import RealFileSystem
from pando.store.layout import Layout
from pando.store.positions import PositionTable


class FakeDatabase:
    def __init__(self, name, slot, log):
        self.name, self.slot, self.log = name, slot, log
        self.last_used = 0.0
        self.is_idle = True
        self.must_reopen = False
        self.gate = None

    async def close(self):
        self.log.append(f"closing {self.name}")
        if self.gate is not None:
            await self.gate
        self.log.append(f"closed {self.name}")


class World:
    def __init__(self, directory, *, slots=8, open_max=4):
        self.layout = Layout(directory)
        self.layout.make_folders()
        self.positions = PositionTable.create(self.layout.positions, slots)
        self.log = []
        self.gate = None
        self.failure = None
        self.catalog = Catalog(
            layout=self.layout,
            fs=RealFileSystem(),
            positions=self.positions,
            open_database=self.open,
            open_max=open_max,
        )

    async def open(self, name, slot, generation):
        self.log.append(f"opening {name}")
        if self.gate is not None:
            await self.gate
        if self.failure is not None:
            raise self.failure
        assert self.positions.generation(slot.number) == generation
        return FakeDatabase(name, slot, self.log)

    def make(self, *names):
        for name in names:
            self.layout.database(name).touch()


@pytest.fixture
def world(tmp_path):
    world = World(tmp_path)
    yield world
    world.positions.close()


async def turns(count=5):
    for _ in range(count):
        await asyncio.sleep(0)


def test_a_database_is_opened_once_for_all_who_ask(world):
    async def scenario():
        world.make("a")
        world.gate = asyncio.get_running_loop().create_future()
        asked = [asyncio.create_task(world.catalog.open("a")) for _ in range(5)]
        await turns()
        asked[0].cancel()
        world.gate.set_result(None)
        found = await asyncio.gather(*asked[1:])
        assert len(set(map(id, found))) == 1
        assert world.log == ["opening a"]
        with pytest.raises(UnknownDatabase):
            await world.catalog.open("nobody")

    run(scenario())


def test_a_failure_to_open_gives_the_slot_back(world):
    async def scenario():
        world.make("a")
        world.failure = NotReady("no")
        for _ in range(20):
            with pytest.raises(NotReady):
                await world.catalog.open("a")
        world.failure = None
        assert (await world.catalog.open("a")).name == "a"

    run(scenario())


def test_the_least_recently_used_idle_one_makes_room(world):
    async def scenario():
        names = ["a", "b", "c", "d", "e"]
        world.make(*names)
        for number, name in enumerate(names[:4]):
            (await world.catalog.open(name)).last_used = 10.0 - number
        world.catalog.get("d").is_idle = False
        await world.catalog.open("e")
        assert sorted(database.name for database in world.catalog.opened()) == ["a", "b", "d", "e"]
        for database in world.catalog.opened():
            database.is_idle = False
        with pytest.raises(Overloaded):
            await world.catalog.open("c")

    run(scenario())


def test_nobody_opens_a_database_before_it_is_closed_even_if_the_closer_is_gone(world):
    async def scenario():
        world.make("a")
        database = await world.catalog.open("a")
        database.gate = asyncio.get_running_loop().create_future()
        closer = asyncio.create_task(world.catalog.close("a"))
        await turns()
        closer.cancel()
        opener = asyncio.create_task(world.catalog.open("a"))
        await turns(20)
        assert world.log == ["opening a", "closing a"]
        database.gate.set_result(None)
        assert await opener is not database
        assert world.log == ["opening a", "closing a", "closed a", "opening a"]

    run(scenario())


def test_a_database_that_has_stopped_is_closed_and_opened_again(world):
    async def scenario():
        world.make("a")
        database = await world.catalog.open("a")
        database.must_reopen = True
        assert world.catalog.get("a") is None
        again = await world.catalog.open("a")
        assert again is not database
        assert world.log == ["opening a", "closing a", "closed a", "opening a"]
        assert world.catalog.get("a") is again

    run(scenario())


def test_it_stays_closed_while_its_files_change(world):
    async def scenario():
        world.make("a")
        await world.catalog.open("a")
        async with world.catalog.closed("a"):
            opener = asyncio.create_task(world.catalog.open("a"))
            await turns(20)
            assert world.log[-1] == "closed a"
            second = asyncio.create_task(_closed(world, "a"))
            await turns(20)
            world.log.append("changed")
        await asyncio.gather(opener, second)
        first_change = world.log.index("changed")
        assert "opening a" in world.log[first_change:]

    async def _closed(world, name):
        async with world.catalog.closed(name):
            assert world.catalog.get(name) is None

    run(scenario())


def test_making_and_removing(world, tmp_path):
    async def scenario():
        made = await world.catalog.create("new")
        assert made.name == "new"
        with pytest.raises(DatabaseExists):
            await world.catalog.create("new")
        log = world.layout.log("new")
        log.mkdir(parents=True)
        (log / "0000000000000001.log").touch()
        world.layout.database("new").with_name("new.db-wal").touch()
        await world.catalog.remove("new")
        assert not log.exists()
        assert not list(world.layout.databases.iterdir())
        assert world.log[-1] == "closed new"
        with pytest.raises(UnknownDatabase):
            await world.catalog.remove("new")
        with pytest.raises(NotReady):
            await world.catalog.remove("data")
        assert (await world.catalog.create("new")).name == "new"

    run(scenario())


def test_generations_differ_and_all_are_closed_at_the_end(world):
    async def scenario():
        world.make("a", "b")
        a = await world.catalog.open("a")
        first = world.catalog.generation(a)
        world.catalog.bump(a)
        assert world.catalog.generation(a) == world.positions.generation(a.slot.number) != first
        await world.catalog.open("b")
        await world.catalog.close_all()
        assert not world.catalog.opened()
        assert sorted(world.log[-2:]) == ["closed a", "closed b"] or "closed a" in world.log
        assert all(world.positions.generation(slot) == 0 for slot in range(world.positions.slots))

    run(scenario())
