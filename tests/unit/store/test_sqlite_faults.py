"""The disk refuses SQLite itself: in spills, at COMMIT, in checkpoints, at the start of a WAL."""

import asyncio
import random

import apsw
import pytest
from store_kit import Node, check_copy, image_of, opened_primary, run, sql, wait_until
from test_write_order import Mixture

from pando.store.protocol import Ran
from pando.testing.disk_seams import Disk, SeamFileSystem, SeamVfs


def injected(kind):
    """Make the error as apsw makes it."""
    error = kind("injected")
    error.result = error.extendedresult = {apsw.FullError: apsw.SQLITE_FULL, apsw.IOError: apsw.SQLITE_IOERR}[kind]
    return error


class Faults:
    """Decides at each step of SQLite on the database's files whether it fails."""

    def __init__(self, directory):
        self.disk = Disk(directory, self.look)
        self.decide = None
        self.fired = 0

    def look(self, operation, path):
        if self.decide is None or path.suffix == ".log" or path.name in {"node.json", "positions"}:
            return
        error = self.decide(operation, path.name)
        if error is not None:
            self.fired += 1
            raise error


@pytest.fixture
def world(tmp_path):
    faults = Faults(tmp_path / "node")
    vfs = SeamVfs(faults.disk)
    node = Node(tmp_path / "node", fs=SeamFileSystem(faults.disk))
    yield node, faults
    faults.decide = None
    node.close()
    vfs.unregister()


def once(operation, suffix, error, *, skip=0):
    """Fail one step of a kind, after `skip` others."""
    seen = []

    def decide(found, name):
        if found == operation and name.endswith(suffix):
            seen.append(found)
            if len(seen) == skip + 1:
                return injected(error)
        return None

    return decide


async def follow(db, image, directory):
    await asyncio.sleep(0)
    for entry in db.entries[db.taken :]:
        image.apply(entry)
    db.taken = len(db.entries)
    assert image.pages == image_of(db.database, directory).pages
    assert image.checksum == db.database.position.checksum
    check_copy(db.database, directory)


async def begin(db, directory):
    await db.ask(sql("CREATE TABLE t (v UNIQUE)"))
    await asyncio.sleep(0)
    db.taken = len(db.entries)
    return image_of(db.database, directory)


@pytest.mark.parametrize("error", [apsw.FullError, apsw.IOError])
@pytest.mark.parametrize("skip", [0, 1, 2, 3])
def test_a_write_of_a_group_that_fails(world, tmp_path, error, skip):
    node, faults = world

    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            faults.decide = once("write", "-wal", error, skip=skip)
            answers = [db.send(sql("INSERT INTO t VALUES (?)", number)) for number in range(5)]
            outcomes = [await answer for answer in answers]
            assert faults.fired == 1
            rows = {value for (value,) in await db.rows("SELECT v FROM t")}
            kept = {n for n, one in enumerate(outcomes) if isinstance(one, Ran) and not hasattr(one.results[0], "code")}
            assert kept == rows
            await follow(db, image, tmp_path)
            db.assert_one_answer_each()

    run(scenario())


def test_a_disk_that_stays_full_refuses_each_command_for_itself(world, tmp_path):
    node, faults = world

    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            faults.decide = lambda operation, name: injected(apsw.FullError) if operation == "write" else None
            answers = [db.send(sql("INSERT INTO t VALUES (?)", number)) for number in range(4)]
            answers += [db.send(sql("SELECT count(*) FROM t"))]
            outcomes = [await answer for answer in answers]
            assert [outcome.results[0].code for outcome in outcomes[:4]] == ["SQLITE_FULL"] * 4
            assert outcomes[4].results[0].rows == [(0,)]
            faults.decide = None
            await db.ask(sql("INSERT INTO t VALUES (9)"))
            await follow(db, image, tmp_path)
            db.assert_one_answer_each()

    run(scenario())


def test_a_spill_that_fails_within_a_session(world, tmp_path):
    node, faults = world

    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            db.database._connection.execute("PRAGMA cache_size=4")
            await db.ask(sql("BEGIN"), sql("INSERT INTO t VALUES ('before')"), session=2)
            faults.decide = once("write", "-wal", apsw.FullError, skip=5)
            answer = await db.send(sql("INSERT INTO t VALUES (randomblob(200000))"), session=2)
            assert answer.results[0].code == "SQLITE_FULL"
            faults.decide = None
            if not answer.is_autocommit:
                await db.ask(sql("ROLLBACK"), session=2)
            await db.ask(sql("INSERT INTO t VALUES ('after')"), session=2)
            assert await db.rows("SELECT v FROM t") == [("after",)]
            await follow(db, image, tmp_path)

    run(scenario())


@pytest.mark.parametrize("operation", ["write", "sync", "cut"])
@pytest.mark.parametrize("name", ["data.db", "-wal"])
def test_a_checkpoint_that_fails_half_way(world, tmp_path, operation, name):
    node, faults = world

    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            for number in range(20):
                await db.ask(sql("INSERT INTO t VALUES (?)", f"{number} " * 300))
            faults.decide = once(operation, name, apsw.IOError)
            await db.database.checkpointer.finish()
            await db.ask(sql("INSERT INTO t VALUES ('between')"))
            faults.decide = None
            await db.database.checkpointer.finish()
            assert db.database.checkpointer.checkpointed == db.database.position.txid
            await db.ask(sql("INSERT INTO t VALUES ('after')"))
            await follow(db, image, tmp_path)
        async with opened_primary(node) as db:
            assert db.database.position.epoch == 1

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(6))
def test_random_faults_under_everything_at_once(world, tmp_path, seed):
    node, faults = world

    async def scenario():
        rng = random.Random(seed)
        kept = set()
        async with opened_primary(node, group_max=6, transaction_s=0.5, retry_s=0.01) as db:
            image = await begin(db, tmp_path)
            mixture = Mixture(db, rng)
            mixture.note = lambda value, is_kept: None
            db.database.checkpointer._pages_due = db.database.checkpointer._due = 20
            faults.decide = lambda operation, name: (
                injected(rng.choice([apsw.FullError, apsw.IOError]))
                if operation in {"write", "sync", "cut"} and rng.random() < 0.01
                else None
            )

            async def single(client):
                value = mixture.next()
                answer = await client.send(sql("INSERT INTO t VALUES (?)", value))
                if isinstance(answer, Ran) and not hasattr(answer.results[0], "code"):
                    kept.add(value)

            mixture.single = single
            await asyncio.gather(*[mixture.client(15) for _ in range(10)])
            faults.decide = None
            await wait_until(lambda: db.database.writer.trouble is None or db.database.must_reopen)
            if not db.database.must_reopen:
                await follow(db, image, tmp_path)
        async with opened_primary(node) as db:
            assert db.database.position.epoch == 1
            values = {value for (value,) in await db.rows("SELECT v FROM t")}
            assert kept <= values
            assert not mixture.undone & values

    run(scenario())
