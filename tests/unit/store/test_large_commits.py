"""Commits that are too large for one log entry: the log begins anew behind them, and nothing holds them in memory."""

import asyncio
import tracemalloc

import apsw
import pytest
from store_kit import Node, check_copy, image_of, opened_primary, run, script, sql

from pando import limits
from pando.ltx import normalise_page_one, page_checksum
from pando.testing.flaky_files import FlakyFileSystem, fail
from pando.types import Checksum, lock_pgno

MIB = 1024 * 1024


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path / "node", fs=FlakyFileSystem())
    yield node
    node.close()


def limit(db, size):
    db.database.history._capture._entry_bytes_max = size


async def settle():
    for _ in range(3):
        await asyncio.sleep(0)


def test_a_large_commit_becomes_a_new_base(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            limit(db, 100_000)
            await db.ask(sql("CREATE TABLE t (v)"))
            before = db.database.position
            answer = await db.ask(sql("INSERT INTO t VALUES (randomblob(400000))"))
            await settle()
            position = db.database.position
            assert (position.epoch, position.txid) == (before.epoch, before.txid + 1)
            assert answer.txid == position.txid
            assert db.bases == [position]
            assert db.database.log.base == position
            assert db.entries[-1].max_txid == before.txid
            assert node.positions.visible(0) == (position.epoch, position.txid)
            image = image_of(db.database, tmp_path)
            assert image.checksum == position.checksum
            await db.ask(sql("INSERT INTO t VALUES ('small')"))
            await settle()
            image.apply(db.entries[-1])
            assert image.pages == image_of(db.database, tmp_path).pages
        async with opened_primary(node) as db:
            assert (db.database.position.epoch, db.database.position.txid) == (before.epoch, before.txid + 2)

    run(scenario())


def test_entries_before_a_new_base_are_handed_out_before_it(node):
    async def scenario():
        told = []
        async with opened_primary(node, group_max=2) as db:
            limit(db, 100_000)
            db.database._on_durable = lambda _, entry: told.append(entry.max_txid)
            db.database._on_new_base = lambda _, position: told.append(("base", position.txid))
            await db.ask(sql("CREATE TABLE t (v)"))
            answers = [db.send(sql("INSERT INTO t VALUES (1)")) for _ in range(40)]
            answers.append(db.send(sql("INSERT INTO t VALUES (randomblob(300000))")))
            answers += [db.send(sql("INSERT INTO t VALUES (2)")) for _ in range(40)]
            outcomes = [await answer for answer in answers]
            await settle()
        bases = [one for one in told if isinstance(one, tuple)]
        assert len(bases) == 1
        order = [one[1] if isinstance(one, tuple) else one for one in told]
        assert order == list(range(order[0], order[0] + len(order)))
        assert {outcome.txid for outcome in outcomes} <= set(order)

    run(scenario())


def test_a_shrinking_and_growing_large_commit(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(script("CREATE TABLE t (v); CREATE TABLE u (v)"))
            await db.ask(sql("INSERT INTO t VALUES (randomblob(900000))"))
            limit(db, 100_000)
            for text in (
                "DELETE FROM t; INSERT INTO u VALUES (randomblob(500000))",
                "VACUUM",
                "INSERT INTO u VALUES (randomblob(1200000))",
                "BEGIN; DELETE FROM u; INSERT INTO t VALUES (randomblob(300000)); COMMIT",
                "VACUUM",
            ):
                await db.ask(script(text))
                assert image_of(db.database, tmp_path).checksum == db.database.position.checksum
            assert db.bases
            check_copy(db.database, tmp_path)

    run(scenario())


@pytest.mark.parametrize("operation", ["fdatasync", "replace", "unlink", "write", "open"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_large_commit_while_the_disk_fails(node, tmp_path, operation, times):
    async def scenario():
        async with opened_primary(node, retry_s=0.01) as db:
            limit(db, 100_000)
            await db.ask(sql("CREATE TABLE t (v)"))
            node.fs.hook = fail(operation, times=times)
            answer = await db.send(sql("INSERT INTO t VALUES (randomblob(300000))"))
            node.fs.hook = None
            failed = not hasattr(answer, "txid")
            await asyncio.wait_for(wait_for_peace(db), 10)
            must_reopen = db.database.must_reopen
            if not must_reopen:
                assert image_of(db.database, tmp_path).checksum == db.database.position.checksum
        async with opened_primary(node) as db:
            assert db.database.position.epoch == 1
            assert await db.rows("SELECT count(*) FROM t") == [(1,)]
            assert image_of(db.database, tmp_path).checksum == db.database.position.checksum
            return failed, must_reopen

    run(scenario())


async def wait_for_peace(db):
    while db.database.writer.trouble is not None and not db.database.must_reopen:
        await asyncio.sleep(0.001)


def test_recovery_from_a_crash_behind_a_large_commit(node, tmp_path, monkeypatch):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            before = db.database.position
            node.fs.hook = fail("write")
            await db.send(sql("INSERT INTO t VALUES (randomblob(300000))"))
            await db.send(sql("INSERT INTO t VALUES (randomblob(300000))"))
        node.fs.hook = None
        monkeypatch.setattr(limits, "ENTRY_PAGES_BYTES_MAX", 100_000)
        async with opened_primary(node) as db:
            assert (db.database.position.epoch, db.database.position.txid) == (before.epoch, before.txid + 1)
            assert db.database.log.base == db.database.position
            assert image_of(db.database, tmp_path).checksum == db.database.position.checksum

    run(scenario())


@pytest.mark.full
def test_a_commit_over_the_limit_is_not_held_in_memory(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            tracemalloc.start()
            rows = 300
            await db.ask(
                sql(
                    f"WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows}) "
                    "INSERT INTO t SELECT zeroblob(1048576) FROM n"
                )
            )
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            assert len(db.bases) == 1
            assert peak < 64 * MIB

    run(scenario())


@pytest.mark.full
def test_writes_across_the_lock_page(node):
    path = node.layout.database("data")
    connection = apsw.Connection(str(path))
    connection.execute(
        "PRAGMA page_size=65536; PRAGMA synchronous=OFF; PRAGMA journal_mode=OFF; CREATE TABLE t (v)"
    ).fetchall()
    lock = lock_pgno(65536)
    for size in [32 * MIB] * 31 + [MIB] * 27:
        connection.execute("INSERT INTO t VALUES (zeroblob(?))", (size,))
    assert lock - 200 < connection.execute("PRAGMA page_count").get < lock
    connection.close()

    async def scenario():
        async with opened_primary(node) as db:
            for _ in range(12):
                await db.ask(sql("INSERT INTO t VALUES (randomblob(2000000))"))
            await db.ask(sql("DELETE FROM t WHERE rowid % 3 = 0"))
            await db.database.checkpointer.finish()
            await db.ask(sql("INSERT INTO t VALUES (randomblob(20000000))"))
            assert db.database._raw.page_count > lock
            position = db.database.position
        value = 0
        with path.open("rb") as file:
            for number in range(1, path.stat().st_size // 65536 + 1):
                data = file.read(65536)
                if number != lock:
                    value ^= page_checksum(number, normalise_page_one(data) if number == 1 else data)
        assert Checksum(value | 1 << 63) == position.checksum
        async with opened_primary(node) as db:
            assert db.database.position == position

    run(scenario())
