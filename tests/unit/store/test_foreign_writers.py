"""Another program writes the primary's file: what it did is captured, never silently left out."""

import asyncio

import pytest
from store_kit import (
    Image,
    check_copy,
    copy_database,
    foreign,
    foreign_shell,
    image_of,
    opened_primary,
    read_pages,
    run,
    sql,
    wait_until,
)

from pando.store import primary
from pando.store.history import ANY_TABLE
from pando.store.protocol import Ran
from pando.testing.wal_making import encode_frame
from pando.wal import decode_header

pytestmark = pytest.mark.slow  # each test starts a process


async def follow(db, image, directory):
    """Apply what is new to the image and compare with what readers see."""
    await asyncio.sleep(0)
    for entry in db.entries[len(db.applied) :]:
        image.apply(entry)
    db.applied = list(db.entries)
    assert image.pages == image_of(db.database, directory).pages
    assert image.checksum == db.database.position.checksum
    check_copy(db.database, directory)


async def begin(db, directory):
    await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v)"))
    await db.ask(sql("INSERT INTO t (v) VALUES (zeroblob(5000)), (2)"))
    await asyncio.sleep(0)
    db.applied = list(db.entries)
    return image_of(db.database, directory)


def test_a_foreign_commit_becomes_an_entry_before_our_next_one(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            foreign(db.database.path, "INSERT INTO t (v) VALUES ('foreign')")
            answer = await db.ask(sql("INSERT INTO t (v) VALUES ('ours')"))
            await follow(db, image, tmp_path)
            assert answer.txid == db.entries[-1].max_txid
            assert db.entries[-2].tables == ANY_TABLE
            assert db.entries[-1].tables == ("t",)
            assert await db.rows("SELECT v FROM t WHERE id > 2") == [("foreign",), ("ours",)]

    run(scenario())


def test_a_foreign_commit_is_noticed_when_nobody_asks_for_anything(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            before = db.database.position
            foreign(db.database.path, "INSERT INTO t (v) VALUES ('foreign')")
            db.database.tick(node.clock.monotonic())
            assert db.database.position.txid == before.txid + 1
            await follow(db, image, tmp_path)

    run(scenario())


def test_a_read_that_sees_a_foreign_commit_names_its_txid(node):
    async def scenario():
        async with opened_primary(node) as db:
            made = await db.ask(sql("CREATE TABLE t (v)"))
            foreign(db.database.path, "INSERT INTO t (v) VALUES ('foreign')")
            answer = await db.ask(sql("SELECT v FROM t"))
            assert answer.results[0].rows == [("foreign",)]
            assert answer.txid == made.txid + 1

    run(scenario())


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
def test_a_foreign_checkpoint_that_restarts_the_wal_between_our_commits(node, tmp_path, mode):
    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            for number in range(3):
                foreign(db.database.path, f"PRAGMA wal_checkpoint({mode})")
                await db.ask(sql("INSERT INTO t (v) VALUES (?)", number))
                await follow(db, image, tmp_path)
            assert not db.bases

    run(scenario())


@pytest.mark.parametrize("mode", ["RESTART", "TRUNCATE"])
def test_foreign_commits_on_both_sides_of_a_restart_are_found_by_comparing_pages(node, tmp_path, mode):
    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            with foreign_shell(db.database.path) as shell:
                shell("INSERT INTO t (v) VALUES (zeroblob(30000))")
                shell(f"PRAGMA wal_checkpoint({mode})")
                shell("UPDATE t SET v = 'changed' WHERE id = 1")
                shell(f"PRAGMA wal_checkpoint({mode})")
                shell("DELETE FROM t WHERE id = 2")
            answer = await db.ask(sql("INSERT INTO t (v) VALUES ('ours')"))
            await follow(db, image, tmp_path)
            assert answer.txid == db.entries[-1].max_txid
            assert await db.rows("SELECT id FROM t") == [(1,), (3,), (4,)]
            assert not db.bases

    run(scenario())


def test_a_foreign_vacuum_and_schema_change(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            foreign(
                db.database.path, "CREATE TABLE other (a)", "DELETE FROM t", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"
            )
            await db.ask(sql("INSERT INTO other VALUES (1)"))
            await follow(db, image, tmp_path)

    run(scenario())


def test_a_foreign_schema_change_is_seen_by_statements_that_were_known(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (a)"))
            await db.ask(sql("INSERT INTO t VALUES (1)"))
            answer = await db.ask(sql("SELECT * FROM t"))
            assert [name for name, _ in answer.results[0].columns] == ["a"]
            foreign(db.database.path, "ALTER TABLE t RENAME COLUMN a TO z", "ALTER TABLE t ADD COLUMN b")
            answer = await db.ask(sql("SELECT * FROM t"), sql("INSERT INTO t VALUES (2, 3)"))
            assert [name for name, _ in answer.results[0].columns] == ["z", "b"]
            assert answer.results[0].rows == [(1, None)]
            assert await db.rows("SELECT new FROM _changes ORDER BY sequence DESC LIMIT 1") == [('{"z":2,"b":3}',)]

    run(scenario())


def test_a_foreign_write_while_the_database_is_closed_begins_a_new_history(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            await begin(db, tmp_path)
            before = db.database.position
        foreign(node.layout.database("data"), "INSERT INTO t (v) VALUES ('foreign')")
        async with opened_primary(node) as db:
            position = db.database.position
            assert (position.epoch, position.txid) == (before.epoch + 1, before.txid + 1)
            assert db.database.log.base == position
            image = image_of(db.database, tmp_path)
            assert image.checksum == position.checksum
            answer = await db.ask(sql("INSERT INTO t (v) VALUES ('ours')"))
            assert answer.epoch == position.epoch
            db.applied = []
            await follow(db, image, tmp_path)

    run(scenario())


def test_the_last_foreign_program_takes_the_wal_away_while_the_database_is_being_opened(node, tmp_path, monkeypatch):
    async def scenario():
        async with opened_primary(node) as db:
            await begin(db, tmp_path)
            before = db.database.position
        path = node.layout.database("data")
        connects = []
        connect = primary.connect_writer

        def late(*args, **named):
            if not connects:
                foreign(path, "SELECT count(*) FROM t")  # opens, and as the last one to close removes the WAL
            connects.append(args)
            return connect(*args, **named)

        monkeypatch.setattr(primary, "connect_writer", late)
        async with opened_primary(node) as db:
            assert len(connects) == 2
            assert db.database.position == before
            image = image_of(db.database, tmp_path)
            await db.ask(sql("INSERT INTO t (v) VALUES ('ours')"))
            db.applied = []
            await follow(db, image, tmp_path)

    run(scenario())


def add_frames(raw, pages, page_count):
    """Write one more commit behind the WAL as SQLite would, without a word to the WAL index."""
    header = decode_header(raw.pread_wal(0, 32))
    state = raw.read_state()
    data, checksum = b"", state.checksum
    for number, (pgno, page) in enumerate(pages, start=1):
        commit = page_count if number == len(pages) else 0
        frame, checksum = encode_frame(checksum, pgno, commit, page, salts=header.salts, big_endian=header.big_endian)
        data += frame
    offset = 32 + state.frames * (24 + raw.page_size)
    with open(raw.path + "-wal", "r+b") as file:
        file.seek(offset)
        file.write(data)


def test_a_commit_that_a_kill_kept_out_of_the_wal_index_counts_only_when_sqlite_counts_it(node, tmp_path):
    """A reader of another process outlives the store and keeps the index."""

    async def scenario():
        async with opened_primary(node) as db:
            await begin(db, tmp_path)
            with foreign_shell(db.database.path) as shell:
                shell("SELECT count(*) FROM t")
                raw, position = db.database._raw, db.database.position
                page = bytearray(image_of(db.database, tmp_path).pages[2])
                page[-20:] = b"x" * 20
                add_frames(raw, [(2, bytes(page))], raw.page_count)
                db.database.writer.has_failed = True  # closes without a checkpoint, as a kill would
                await db.database.close()
                async with opened_primary(node) as again:
                    assert again.database.position == position
                    image = image_of_shown(shell, again, tmp_path)
                    assert image.checksum == position.checksum
                    await again.ask(sql("INSERT INTO t (v) VALUES ('ours')"))
                    await asyncio.sleep(0)
                    assert len(again.entries) == 1
                    image.apply(again.entries[0])
                    assert image.pages == image_of(again.database, tmp_path).pages
        async with opened_primary(node) as db:
            assert db.database.position.epoch == 1

    run(scenario())


def image_of_shown(shell, db, directory):
    """What a process with the living index sees: the copy's WAL is cut to the committed frames."""
    path = copy_database(db.database, directory)
    raw = db.database._raw
    wal = path.with_name("copy.db-wal")
    wal.write_bytes(wal.read_bytes()[: 32 + raw.read_state().frames * (24 + raw.page_size)])
    return Image(*read_pages(path))


def test_a_writer_waits_for_a_foreign_write_lock(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            with foreign_shell(db.database.path) as shell:
                shell("BEGIN IMMEDIATE")
                shell("INSERT INTO t VALUES ('foreign')")
                waiting = [db.send(sql("INSERT INTO t VALUES (?)", number)) for number in range(3)]
                await wait_until(lambda: db.database.writer.statistics.solos)
                assert not any(one.done() for one in waiting)
                shell("COMMIT")
                answers = [await one for one in waiting]
            assert all(isinstance(answer, Ran) for answer in answers)
            assert await db.rows("SELECT count(*) FROM t") == [(4,)]
            db.assert_one_answer_each()

    run(scenario())


def test_a_foreign_lock_that_is_held_too_long_is_told(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            db.database.writer._engine.busy_wait_s = 0.05
            with foreign_shell(db.database.path) as shell:
                shell("BEGIN IMMEDIATE")
                answer = await db.send(sql("INSERT INTO t VALUES (1)"))
                assert answer.code == "TRANSACTION_BUSY"
                shell("ROLLBACK")
            await db.ask(sql("INSERT INTO t VALUES (1)"))

    run(scenario())


@pytest.mark.full
@pytest.mark.parametrize("seed", range(6))
def test_two_programs_write_at_the_same_time(node, tmp_path, seed):
    async def scenario():
        async with opened_primary(node) as db:
            image = await begin(db, tmp_path)
            writing = asyncio.get_running_loop().run_in_executor(None, _write_a_lot, db.database.path, seed)
            number = 0
            while not writing.done():
                number += 1
                await db.send(sql("INSERT INTO t (v) VALUES (?)", number))
                await asyncio.sleep(0)  # an answer may be there at once
                if number % 50 == 0:
                    await db.database.checkpointer.finish()
            await writing
            assert db.database.writer.trouble is None
            db.database.tick(node.clock.monotonic())
            await follow(db, image, tmp_path)
            assert (await db.rows("SELECT count(*) FROM t WHERE v = 'foreign'")) == [(300,)]

    run(scenario())


def _write_a_lot(path, seed):
    with foreign_shell(path) as shell:
        shell("PRAGMA wal_autocheckpoint = 5")
        for number in range(300):
            shell("INSERT INTO t (v) VALUES ('foreign')")
            if number % 37 == seed:
                shell("PRAGMA wal_checkpoint(RESTART)")
