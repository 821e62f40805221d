"""Whatever fails on the way to the disk: one answer each, nothing acknowledged that is not durable, and it goes on."""

import asyncio
import dataclasses
import errno
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from store_kit import Node, image_of, insert, opened_primary, run, sql, wait_until

from pando import limits
from pando.errors import Overloaded, StorageError
from pando.store.protocol import Ran
from pando.testing.flaky_files import FlakyFileSystem, Pause, fail

RETRY_S = 0.02


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path / "node", fs=FlakyFileSystem())
    yield node
    node.close()


async def healed(db):
    await wait_until(lambda: db.database.writer.trouble is None)


async def follows(db, image, directory):
    await asyncio.sleep(0)
    for entry in db.entries[db.taken :]:
        image.apply(entry)
    db.taken = len(db.entries)
    assert image.pages == image_of(db.database, directory).pages
    assert db.database.position.checksum == image.checksum


async def begin(db, directory):
    await db.ask(sql("CREATE TABLE t (v)"))
    await asyncio.sleep(0)
    db.taken = len(db.entries)
    return image_of(db.database, directory)


@pytest.mark.parametrize("operation", ["write", "fdatasync"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_disk_that_refuses_and_recovers(node, tmp_path, operation, number):
    async def scenario():
        async with opened_primary(node, retry_s=RETRY_S) as db:
            image = await begin(db, tmp_path)
            durable = db.database.position
            node.fs.hook = fail(operation, number=number, times=1)
            answer = await db.send(insert(1))
            assert isinstance(answer, StorageError)
            assert answer.code == ("STORAGE_FULL" if number == errno.ENOSPC else "STORAGE_ERROR")
            assert db.database.position == durable
            assert node.positions.visible(0)[1] == durable.txid
            assert node.positions.about(0)[1] == durable.txid + 1
            refused = await db.send(insert(2))
            assert isinstance(refused, StorageError)
            await healed(db)
            assert await db.rows("SELECT v FROM t") == [(1,)]
            await db.ask(insert(3))
            await follows(db, image, tmp_path)
            db.assert_one_answer_each()

    run(scenario())


def test_a_fault_that_lasts_refuses_quickly_and_does_not_pile_up_timers(node, tmp_path):
    async def scenario():
        async with opened_primary(node, retry_s=RETRY_S) as db:
            image = await begin(db, tmp_path)
            node.fs.hook = fail("write", number=errno.ENOSPC)
            first = await db.send(insert(0))
            assert isinstance(first, StorageError)
            for _ in range(30):
                assert isinstance(await db.send(insert(1)), StorageError)
            began = node.clock.monotonic()
            tries = node.fs.trace.count("write")
            await wait_until(lambda: node.clock.monotonic() > began + 10 * RETRY_S)
            assert node.fs.trace.count("write") - tries <= 15
            node.fs.hook = None
            await healed(db)
            await db.ask(insert(2))
            await follows(db, image, tmp_path)

    run(scenario())


@pytest.mark.parametrize("operation", ["write", "fdatasync"])
def test_a_fault_that_does_not_go_away_closes_the_database_for_recovery(node, operation):
    async def scenario():
        async with opened_primary(node, retry_s=RETRY_S) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            node.fs.hook = fail(operation)
            assert isinstance(await db.send(insert(1)), StorageError)
            await wait_until(lambda: db.database.must_reopen)
            assert isinstance(await db.send(insert(2)), StorageError)
        node.fs.hook = None
        async with opened_primary(node, retry_s=RETRY_S) as db:
            assert db.database.position.epoch == 1  # the same history: the commit was captured from the WAL
            assert await db.rows("SELECT v FROM t") == [(1,)]

    run(scenario())


def many(db, count, start=0):
    return [db.send(insert(start + number)) for number in range(count)]


def test_the_next_group_runs_while_the_log_syncs_in_a_thread(node, tmp_path):
    async def scenario():
        async with opened_primary(node, group_max=4, retry_s=RETRY_S) as db:
            image = await begin(db, tmp_path)
            pause = node.fs.hook = Pause("fdatasync")
            answers = many(db, 40)
            await wait_until(pause.reached.is_set)
            await wait_until(lambda: db.database.writer.statistics.groups >= 5)
            assert not any(answer.done() for answer in answers)
            assert node.positions.visible(0)[1] < node.positions.about(0)[1]
            pause.go()
            for answer in answers:
                assert isinstance(await answer, Ran)
            await follows(db, image, tmp_path)
            db.assert_one_answer_each()

    run(scenario())


@pytest.mark.parametrize("bound", ["commands", "bytes"])
def test_a_disk_that_is_slow_holds_the_writer_back(node, tmp_path, bound, monkeypatch):
    queue_max = 40 if bound == "commands" else 1000
    if bound == "bytes":
        monkeypatch.setattr(limits, "WRITE_AHEAD_BYTES_MAX", 20_000)

    async def scenario():
        async with opened_primary(node, group_max=4, queue_max=queue_max) as db:
            image = await begin(db, tmp_path)
            pause = node.fs.hook = Pause("fdatasync")
            answers = many(db, 40)
            await wait_until(pause.reached.is_set)
            groups = -1
            while groups != db.database.writer.statistics.groups:  # until it stops by itself
                groups = db.database.writer.statistics.groups
                answers += many(db, 20, len(answers))
                for _ in range(20):
                    await asyncio.sleep(0)
            assert db.database.writer._settling.waiting <= (queue_max + 4 if bound == "commands" else 200)
            assert db.database.history.pending_bytes < 40_000
            pause.go()
            outcomes = [await answer for answer in answers]
            assert all(isinstance(outcome, Ran) for outcome in outcomes[:40])
            assert {type(outcome) for outcome in outcomes} <= {Ran, Overloaded}
            await follows(db, image, tmp_path)
            db.assert_one_answer_each()

    run(scenario())


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_sync_that_fails_in_its_thread_while_groups_go_on(node, tmp_path, number):
    async def scenario():
        async with opened_primary(node, group_max=4, retry_s=RETRY_S) as db:
            image = await begin(db, tmp_path)
            durable = db.database.position.txid
            pause = node.fs.hook = Pause("fdatasync", then=fail("fdatasync", number=number, times=1))
            answers = many(db, 60)
            await wait_until(pause.reached.is_set)
            await wait_until(lambda: db.database.writer.statistics.groups >= 4)
            pause.go()
            outcomes = [await answer for answer in answers]
            await healed(db)
            kinds = {type(outcome) for outcome in outcomes}
            assert StorageError in kinds or number == errno.ENOSPC
            told = [outcome.txid for outcome in outcomes if isinstance(outcome, Ran)]
            assert all(txid <= db.database.position.txid for txid in told)
            assert db.database.position.txid > durable
            rows = {value for (value,) in await db.rows("SELECT v FROM t")}
            acknowledged = {n for n, outcome in enumerate(outcomes) if isinstance(outcome, Ran)}
            assert acknowledged <= rows
            assert len(rows) == (await db.rows("SELECT count(*) FROM t"))[0][0]
            await follows(db, image, tmp_path)
            db.assert_one_answer_each()

    run(scenario())


def test_an_append_that_fails_while_a_thread_syncs(node, tmp_path):
    async def scenario():
        async with opened_primary(node, group_max=4, retry_s=RETRY_S) as db:
            image = await begin(db, tmp_path)
            pause = Pause("fdatasync")
            failed = []

            def hook(operation, path):
                if operation == "write" and pause.reached.is_set() and not failed:
                    failed.append(path)
                    pause.go()
                    fail("write", number=errno.ENOSPC)(operation, path)
                pause(operation, path)

            node.fs.hook = hook
            answers = many(db, 20)
            await wait_until(pause.reached.is_set)
            answers += many(db, 20, 20)
            outcomes = [await answer for answer in answers]
            assert failed
            await healed(db)
            rows = {value for (value,) in await db.rows("SELECT v FROM t")}
            assert {n for n, outcome in enumerate(outcomes) if isinstance(outcome, Ran)} <= rows
            await follows(db, image, tmp_path)
            db.assert_one_answer_each()

    run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_faults_under_load(node, tmp_path, seed):
    async def scenario():
        rng = random.Random(seed)
        acknowledged = set()
        async with opened_primary(node, group_max=8, retry_s=RETRY_S) as db:
            image = await begin(db, tmp_path)

            def hook(operation, path):
                if operation in {"write", "fdatasync", "truncate"} and rng.random() < 0.05:
                    fail(operation, number=rng.choice([errno.EIO, errno.ENOSPC]))(operation, path)

            node.fs.hook = hook
            for number in range(0, 1200, 30):
                for value, answer in enumerate(many(db, 30, number), number):
                    if isinstance(await answer, Ran):
                        acknowledged.add(value)
                await asyncio.sleep(0)
            node.fs.hook = None
            await wait_until(lambda: db.database.writer.trouble is None or db.database.must_reopen)
            if not db.database.must_reopen:
                await follows(db, image, tmp_path)
            position = db.database.position
            db.assert_one_answer_each()
        async with opened_primary(node, retry_s=RETRY_S) as db:
            assert db.database.position.epoch == position.epoch
            assert db.database.position.txid >= position.txid
            rows = [value for (value,) in await db.rows("SELECT v FROM t")]
            assert acknowledged <= set(rows)
            assert len(rows) == len(set(rows))

    run(scenario())


def test_holding_ends_while_the_disk_refuses(node):
    async def scenario():
        async with opened_primary(node, retry_s=RETRY_S) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            node.fs.hook = fail("write")
            assert isinstance(await db.send(insert(1)), StorageError)
            await asyncio.wait_for(db.database.writer.hold(), 5)
            assert db.database.writer.trouble is not None
            db.database.writer.release()
            node.fs.hook = None
            await healed(db)
            await db.ask(insert(2))

    run(scenario())


def test_closing_with_a_disk_that_refuses_keeps_the_wal_for_recovery(node):
    async def scenario():
        async with opened_primary(node, retry_s=RETRY_S) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            before = db.database.position
            node.fs.hook = fail("write", "fdatasync", number=errno.ENOSPC)
            assert isinstance(await db.send(insert(1)), StorageError)
        node.fs.hook = None
        async with opened_primary(node, retry_s=RETRY_S) as db:
            assert db.database.position.txid == before.txid + 1
            assert db.database.position.epoch == before.epoch
            assert await db.rows("SELECT v FROM t") == [(1,)]

    run(scenario())


def test_an_unexpected_failure_answers_everybody_and_asks_to_be_reopened(node):
    async def scenario():
        async with opened_primary(node, retry_s=RETRY_S) as db:
            await db.ask(sql("CREATE TABLE t (v)"))

            def broken(*_, **__):
                raise ZeroDivisionError("a bug")

            db.database.history._capture.take = broken
            answers = many(db, 5)
            outcomes = [await answer for answer in answers]
            assert {outcome.code for outcome in outcomes} == {"INTERNAL"}
            assert db.database.must_reopen
            db.assert_one_answer_each()
        async with opened_primary(node, retry_s=RETRY_S) as db:
            assert await db.rows("SELECT count(*) FROM t") == [(5,)]

    run(scenario())


def test_a_session_that_was_to_end_during_a_fault_ends_after_it(node):
    async def scenario():
        async with opened_primary(node, retry_s=RETRY_S) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            node.fs.hook = fail("write")
            answer = await db.send(insert(1), sql("BEGIN"), insert("open"), session=3)
            assert isinstance(answer, StorageError)
            refused = await db.send(insert("more"), session=3)
            assert isinstance(refused, StorageError)
            db.database.end_session((1, 3))
            node.fs.hook = None
            await healed(db)
            await wait_until(lambda: db.database.writer._session is None)
            assert await db.rows("SELECT v FROM t") == [(1,)]
            db.assert_one_answer_each()

    run(scenario())


def test_a_wal_index_that_cannot_be_read_stops_the_database_for_recovery(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))

            def refuse():
                raise StorageError("the index of the WAL cannot be read")

            db.database._raw.read_state = refuse
            await asyncio.wait_for(db.database.writer.hold(), 5)
            db.database.writer.release()
            assert db.database.must_reopen
            assert isinstance(await db.send(insert(1)), StorageError)
        async with opened_primary(node) as db:
            await db.ask(insert(1))
            assert db.database.position.epoch == 1

    run(scenario())


def test_fsyncs_use_their_own_threads_where_there_are_some(tmp_path):
    pool = ThreadPoolExecutor(1, thread_name_prefix="fsync")
    node = Node(tmp_path / "node", fs=FlakyFileSystem())
    node.context = dataclasses.replace(node.context, sync_executor=pool)
    names = set()

    async def scenario():
        async with opened_primary(node, group_max=4) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            node.fs.hook = lambda operation, path: names.add((operation, threading.current_thread().name))
            assert all([isinstance(await answer, Ran) for answer in many(db, 60)])

    run(scenario())
    assert any(operation == "fdatasync" and name.startswith("fsync") for operation, name in names)
    node.close()
    pool.shutdown()
