"""Kill or power loss between any two steps: recovery must reach every acknowledged commit, in the same history."""

import asyncio
import random

import pytest
from store_kit import Node, check_copy, image_of, opened_primary, run, script, sql

from pando.store.protocol import Ran
from pando.testing.disk_seams import Disk, SeamFileSystem, SeamVfs, restore
from pando.testing.flaky_files import fail
from pando.testing.inline_executor import InlineExecutor
from pando.testing.sql_histories import SETUP, RandomSql

WORKLOAD = "; ".join([*SETUP, "CREATE TABLE ledger (value INTEGER PRIMARY KEY, twin)", "CREATE TABLE twins (value)"])


class Crashes:
    """Takes images at random steps of a workload, each with what had been acknowledged by then."""

    def __init__(self, directory, rng, *, chance, most=30):
        self.rng = rng
        self.chance = chance
        self.most = most
        self.acknowledged = set()
        self.position = None
        self.images = []
        self.is_armed = False
        self.disk = Disk(directory, self.look)

    def look(self, operation, path):
        if not self.is_armed or len(self.images) >= self.most or self.rng.random() > self.chance:
            return
        kind = self.rng.choice(["kill", "power"])
        image = self.disk.after_kill() if kind == "kill" else self.disk.after_power_loss(self.rng)
        where = f"{kind} at step {self.disk.steps}, before {operation} {path.name}"
        self.images.append((where, image, set(self.acknowledged), self.position))


async def load(crashes, node, *, steps, faults=False, large=None, name="data"):
    rng = crashes.rng
    sqls = RandomSql(rng, big=30_000)
    value = 0
    async with opened_primary(node, group_max=5, capture_inline_bytes=20_000, retry_s=0.0) as db:
        checkpointer = db.database.checkpointer
        checkpointer._pages_due, checkpointer._due = 20, 20
        checkpointer._pages_restart, checkpointer._restart_due = 60, 60
        db.database._connection.execute("PRAGMA cache_size=8")
        if large is not None:
            db.database.history._capture._entry_bytes_max = large
        await db.ask(script(WORKLOAD))
        crashes.is_armed = True
        for _ in range(steps):
            if faults and rng.random() < 0.1:
                node.fs.hook = fail(rng.choice(["write", "fdatasync"]), times=1)
            waiting = []
            for _ in range(rng.choice([1, 1, 2, 4, 30])):
                value += 1
                pair = f"INSERT INTO ledger VALUES ({value}, 0); INSERT INTO twins VALUES ({value})"
                waiting.append((value, db.send(script(f"BEGIN; {pair}; COMMIT"))))
            noise = db.send(script(sqls.step()))
            for number, answer in waiting:
                outcome = await answer
                if isinstance(outcome, Ran):
                    crashes.acknowledged.add(number)
                    crashes.position = db.database.position
            await noise
            if rng.random() < 0.1:
                await checkpointer.finish()
            await asyncio.sleep(0)
        node.fs.hook = None
        crashes.look("end", node.layout.database(name))


async def recover(directory, where, image, acknowledged, position):
    restore(image, directory / "node")
    node = Node(directory / "node")
    try:
        async with opened_primary(node) as db:
            found = db.database.position
            assert position is None or found.txid >= position.txid, where
            assert position is None or found.epoch == position.epoch, f"{where}: a new history"
            values = {value for (value,) in await db.rows("SELECT value FROM ledger")}
            twins = [value for (value,) in await db.rows("SELECT value FROM twins")]
            assert acknowledged <= values, f"{where}: lost {sorted(acknowledged - values)[:5]}"
            assert sorted(twins) == sorted(values), f"{where}: half a transaction"
            assert image_of(db.database, directory).checksum == found.checksum, where
            check_copy(db.database, directory)
            await db.ask(sql("INSERT INTO twins VALUES (-1)"))
            assert image_of(db.database, directory).checksum == db.database.position.checksum, where
    finally:
        node.close()


def crash_and_recover(tmp_path, seed, *, steps, chance, most, faults=False, large=None):
    rng = random.Random(seed)
    crashes = Crashes(tmp_path / "live", rng, chance=chance, most=most)
    vfs = SeamVfs(crashes.disk)
    try:
        node = Node(tmp_path / "live", fs=SeamFileSystem(crashes.disk), executor=InlineExecutor())
        run(load(crashes, node, steps=steps, faults=faults, large=large))
        node.close()
    finally:
        vfs.unregister()
    assert len(crashes.images) >= min(most, 5)
    for where, image, acknowledged, position in crashes.images:
        run(recover(tmp_path, f"seed {seed}, {where}", image, acknowledged, position))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_crashes_of_a_random_load(tmp_path, seed):
    crash_and_recover(tmp_path, seed, steps=40, chance=0.02, most=12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_crashes_with_a_disk_that_fails_now_and_then(tmp_path, seed):
    crash_and_recover(tmp_path, seed, steps=40, chance=0.02, most=12, faults=True)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_crashes_around_commits_that_are_too_large_for_the_log(tmp_path, seed):
    crash_and_recover(tmp_path, seed, steps=40, chance=0.02, most=12, large=40_000)


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 160))
def test_many_crashes(tmp_path, seed):
    large = 40_000 if seed % 4 == 0 else None
    crash_and_recover(tmp_path, seed, steps=80, chance=0.02, most=40, faults=bool(seed % 3 == 0), large=large)
