"""Checkpoints: bounded by what is durable in the log, honest about what they did, and enough to keep the WAL small."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import apsw
import pytest
from store_kit import Image, Node, copy_database, image_of, opened_primary, read_pages, run, sql, wait_until

from pando import limits
from pando.store.protocol import Ran
from pando.testing.flaky_files import FlakyFileSystem, Pause, fail
from pando.types import TXID


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path / "node", fs=FlakyFileSystem())
    yield node
    node.close()


def every(checkpointer, due, restart=10**9):
    checkpointer._pages_due = checkpointer._due = due
    checkpointer._pages_restart = checkpointer._restart_due = restart


async def rest(checkpointer):
    """Let a checkpoint that has begun come to its end."""
    await wait_until(lambda: checkpointer._task is None)


def insert(size=3000):
    return sql("INSERT INTO t VALUES (zeroblob(?))", size)


async def begin(db):
    await db.ask(sql("CREATE TABLE t (v)"))
    return db.database.checkpointer


def reader(database):
    """A connection in the midst of a read."""
    connection = apsw.Connection(database.path, flags=apsw.SQLITE_OPEN_READONLY)
    connection.execute("BEGIN; SELECT count(*) FROM t").fetchall()
    return connection


def backfilled(database):
    """(frames in the WAL, frames of them in the file)."""
    connection = apsw.Connection(database.path)
    try:
        connection.execute("SELECT 1 FROM sqlite_schema").fetchall()
        return connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_NOOP)
    finally:
        connection.close()


def test_a_checkpoint_begins_by_itself_and_says_how_far_it_came(node):
    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            every(checkpointer, 5)
            for _ in range(6):
                await db.ask(insert())
            await rest(checkpointer)
            assert TXID(1) < checkpointer.checkpointed <= db.database.position.txid
            assert backfilled(db.database)[1] >= 5

    run(scenario())


def test_commits_while_a_checkpoint_runs_are_not_claimed(node):
    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            await db.ask(insert())
            every(checkpointer, 1)
            bound = db.database.position.txid
            checkpointer.look()
            assert checkpointer._task is not None
            waiting = [db.send(insert()) for _ in range(5)]  # before the task of the checkpoint has begun
            await rest(checkpointer)
            assert all([isinstance(await one, Ran) for one in waiting])
            assert bound <= checkpointer.checkpointed < db.database.position.txid or checkpointer._task is not None

    run(scenario())


def test_nothing_is_moved_that_is_not_durable_in_the_log(node):
    async def scenario():
        async with opened_primary(node, group_max=2) as db:
            checkpointer = await begin(db)
            await checkpointer.finish()
            every(checkpointer, 1)
            pause = node.fs.hook = Pause("fdatasync")
            answers = [db.send(insert()) for _ in range(40)]
            await wait_until(pause.reached.is_set)
            await wait_until(lambda: db.database.writer.statistics.groups > 4)
            checkpointer.look()
            assert checkpointer._task is None
            assert backfilled(db.database)[1] == 0
            pause.go()
            assert all([isinstance(await answer, Ran) for answer in answers])

    run(scenario())


def test_a_commit_that_is_not_captured_yet_keeps_a_checkpoint_from_beginning(node):
    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            await db.ask(insert())
            every(checkpointer, 1)
            db.database._connection.execute("INSERT INTO t VALUES ('by a thread that has not been looked at yet')")
            checkpointer.look()
            assert checkpointer._task is None
            assert not checkpointer._guard.in_transaction
            await db.ask(insert())
            checkpointer.look()
            await rest(checkpointer)
            assert checkpointer.checkpointed

    run(scenario())


def test_a_reader_of_an_old_snapshot_keeps_the_claim_down(node):
    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            await db.ask(insert())
            await checkpointer.finish()
            claimed = checkpointer.checkpointed
            assert claimed == db.database.position.txid
            await db.ask(insert())
            old = reader(db.database)
            await db.ask(insert())
            await checkpointer.finish()
            assert checkpointer.checkpointed == claimed
            old.close()
            await checkpointer.finish()
            assert checkpointer.checkpointed == db.database.position.txid

    run(scenario())


def test_what_is_claimed_is_in_the_file_alone(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            for _ in range(20):
                await db.ask(insert())
            await checkpointer.finish()
            assert checkpointer.checkpointed == db.database.position.txid
            path = copy_database(db.database, tmp_path)
            path.with_name("copy.db-wal").unlink()
            assert Image(*read_pages(path)).checksum == db.database.position.checksum

    run(scenario())


def test_the_wal_begins_anew_after_a_finished_checkpoint(node):
    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            for _ in range(20):
                await db.ask(insert())
            await checkpointer.finish()
            await db.ask(insert())
            assert db.database.history.wal_frames < 5

    run(scenario())


def test_a_wal_that_became_long_is_cut_when_it_begins_anew(node, monkeypatch):
    monkeypatch.setattr(limits, "WAL_KEPT_BYTES_MAX", 100_000)

    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            await db.ask(insert(1_000_000))
            assert db.database._raw.wal_size_bytes > 1_000_000
            await checkpointer.finish()
            await db.ask(insert())
            assert db.database._raw.wal_size_bytes <= 100_000
            await db.ask(insert(50_000))
            assert image_of(db.database, node.layout.directory).checksum == db.database.position.checksum

    run(scenario())


@pytest.mark.slow
def test_the_wal_stays_bounded_under_load_with_readers_that_come_and_go(node):
    """At any moment one of them is in the midst of a snapshot."""
    over = threading.Event()

    def read(database):
        connection = apsw.Connection(database.path, flags=apsw.SQLITE_OPEN_READONLY)
        reads = 0
        while not over.is_set():
            connection.execute("BEGIN; SELECT count(*) FROM t").fetchall()
            over.wait(0.003)
            connection.execute("COMMIT")
            reads += 1
        connection.close()
        return reads

    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            every(checkpointer, 30, 100)
            loop = asyncio.get_running_loop()
            with ThreadPoolExecutor(3) as pool:
                readers = [loop.run_in_executor(pool, read, db.database) for _ in range(3)]
                largest = 0
                for _ in range(700):
                    await asyncio.gather(*[db.ask(insert(100)) for _ in range(3)])
                    largest = max(largest, db.database.history.wal_frames)
                over.set()
                assert sum([await one for one in readers]) > 20
            assert largest < 400

    try:
        run(scenario())
    finally:
        over.set()


def test_a_long_reader_does_not_make_checkpoints_run_all_the_time(node):
    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            old = reader(db.database)
            every(checkpointer, 10, 20)
            runs = []
            move = checkpointer._move_blocking
            checkpointer._move_blocking = lambda mode: runs.append(mode) or move(mode)
            for _ in range(100):
                await db.ask(insert(10))
            await rest(checkpointer)
            assert len(runs) <= 100 * 2 / 10 + 100 * 2 * 2 / 20 + 2
            old.close()

    run(scenario())


def test_a_checkpoint_that_fails_is_told_and_tried_again(node):
    async def scenario():
        async with opened_primary(node) as db:
            checkpointer = await begin(db)
            move = checkpointer._move_blocking

            def broken(mode):
                raise apsw.FullError("disk full")

            checkpointer._move_blocking = broken
            await db.ask(insert())
            await checkpointer.finish()
            assert "disk full" in checkpointer.failure
            assert not checkpointer.checkpointed
            checkpointer._move_blocking = move
            await checkpointer.finish()
            assert not checkpointer.failure
            assert checkpointer.checkpointed == db.database.position.txid

    run(scenario())


def test_finishing_while_the_log_refuses_moves_nothing(node):
    async def scenario():
        async with opened_primary(node, retry_s=0.01) as db:
            checkpointer = await begin(db)
            await checkpointer.finish()
            node.fs.hook = fail("write")
            await db.send(insert())
            await checkpointer.finish()
            assert checkpointer.checkpointed < db.database.history.position.txid
            assert backfilled(db.database)[1] == 0
            node.fs.hook = None

    run(scenario())
