"""Snapshot files: shared while they are made, gone when nobody needs them any more."""

import asyncio
from types import SimpleNamespace

import pytest
from store_kit import run

from pando.errors import NotReady
from pando.store import applier_protocol as wire
from pando.store.layout import Layout
from pando.store.snapshotting import Snapshots
from pando.testing.virtual_clock import VirtualClock
from pando.types import TXID, Checksum, Epoch, Position

POSITION = Position(epoch=Epoch(2), txid=TXID(7), checksum=Checksum(1 << 63 | 5))


class FakeApplier:
    """Writes files of the right name when it is let; its future for the pin is done at once."""

    def __init__(self):
        self.number = 0
        self.requests = []

    def next_id(self):
        self.number += 1
        return self.number

    def start(self, request):
        loop = asyncio.get_running_loop()
        pinned, finished = loop.create_future(), loop.create_future()
        pinned.set_result(None)
        self.requests.append((request, finished))
        return pinned, finished

    def finish(self, index, error=None):
        request, finished = self.requests[index]
        with open(request.out_path, "wb") as file:
            file.write(b"LTX1" + bytes(4) + (4096).to_bytes(4, "big") + bytes(88))
        if error is not None:
            finished.set_exception(error)
        else:
            finished.set_result(
                wire.SnapshotWritten(id=request.id, size_bytes=100, checksum=POSITION.checksum, page_count=1)
            )


class FakeDatabase:
    name, path = "data", "/data.db"
    holds = 0

    async def pinned(self, use):
        self.holds += 1
        await use(POSITION)
        return POSITION


class World:
    def __init__(self, directory):
        self.layout = Layout(directory)
        self.layout.make_folders()
        self.applier = FakeApplier()
        self.database = FakeDatabase()

        async def open_database(_name):
            return self.database

        context = SimpleNamespace(layout=self.layout, applier=self.applier, clock=VirtualClock())
        self.snapshots = Snapshots(context, SimpleNamespace(open=open_database))

    def files(self):
        return list(self.layout.temporary.iterdir())


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


def in_loop(tmp_path, scenario):
    async def whole():
        await scenario(World(tmp_path))

    run(whole())


def test_those_who_ask_meanwhile_share_one_file(tmp_path):
    async def scenario(world):
        tasks = [asyncio.create_task(world.snapshots.make("data")) for _ in range(3)]
        await turns()
        assert len(world.applier.requests) == 1
        world.applier.finish(0)
        made = await asyncio.gather(*tasks)
        assert len({snapshot.path for snapshot in made}) == 1
        assert made[0].position == POSITION
        assert made[0].page_size == 4096
        for snapshot in made[:-1]:
            world.snapshots.release(snapshot)
            assert snapshot.path.exists()
        world.snapshots.release(made[-1])
        assert not world.files()
        assert world.database.holds == 1

    in_loop(tmp_path, scenario)


def test_who_asks_later_gets_a_file_of_its_own(tmp_path):
    async def scenario(world):
        first = asyncio.create_task(world.snapshots.make("data"))
        await turns()
        world.applier.finish(0)
        one = await first
        second = asyncio.create_task(world.snapshots.make("data"))
        await turns()
        world.applier.finish(1)
        two = await second
        assert one.path != two.path
        world.snapshots.release(one)
        assert world.files() == [two.path]

    in_loop(tmp_path, scenario)


def test_a_file_that_nobody_waits_for_any_more_is_removed(tmp_path):
    async def scenario(world):
        tasks = [asyncio.create_task(world.snapshots.make("data")) for _ in range(2)]
        await turns()
        for task in tasks:
            task.cancel()
        await turns()
        world.applier.finish(0)
        await turns()
        assert not world.files()

    in_loop(tmp_path, scenario)


def test_one_who_leaves_does_not_take_the_file_from_the_others(tmp_path):
    async def scenario(world):
        tasks = [asyncio.create_task(world.snapshots.make("data")) for _ in range(2)]
        await turns()
        tasks[0].cancel()
        await turns()
        world.applier.finish(0)
        snapshot = await tasks[1]
        assert world.files() == [snapshot.path]
        world.snapshots.release(snapshot)
        assert not world.files()

    in_loop(tmp_path, scenario)


def test_a_failure_reaches_all_and_leaves_no_file(tmp_path):
    async def scenario(world):
        tasks = [asyncio.create_task(world.snapshots.make("data")) for _ in range(2)]
        await turns()
        world.applier.finish(0, NotReady("the applier ended"))
        for task in tasks:
            with pytest.raises(NotReady):
                await task
        await turns()
        assert not world.files()
        again = asyncio.create_task(world.snapshots.make("data"))
        await turns()
        world.applier.finish(1)
        assert (await again).position == POSITION

    in_loop(tmp_path, scenario)
