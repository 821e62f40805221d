"""Files that become databases, and databases opened from files that others left behind."""

import subprocess
import sys

import apsw
import pytest
from store_kit import Client, foreign, foreign_shell, image_of, opened_primary, read_pages, run, sql

from pando.errors import CorruptionError, DatabaseExists, InvalidRequest, NotReady
from pando.store import opening
from pando.store.catalog import Catalog
from pando.store.importing import check_file, import_file
from pando.store.primary import Hearers, PrimaryDatabase, PrimaryOptions
from pando.store.writer import WriterOptions


def make(path, *, rows=10, page_size=4096, mode="DELETE"):
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA page_size={page_size}").fetchall()
    connection.execute(f"PRAGMA journal_mode={mode}").fetchall()
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE t (v)")
    connection.executemany("INSERT INTO t VALUES (?)", [(number,) for number in range(rows)])
    connection.close()
    return path


def catalog_of(node):
    async def open_database(name, slot, generation):
        return await PrimaryDatabase.open(
            name,
            node.context,
            PrimaryOptions(writer=WriterOptions()),
            slot,
            Hearers(
                confirm=lambda outcome, ran: outcome.command.answer(ran),
                on_durable=lambda name, entry: None,
                on_new_base=lambda name, position: None,
            ),
        )

    return Catalog(layout=node.layout, fs=node.fs, positions=node.positions, open_database=open_database)


async def count(database):
    return (await Client(database).rows("SELECT count(*) FROM t"))[0][0]


@pytest.mark.parametrize("less", [1, 100, 4096])
def test_a_file_that_is_cut_short_is_refused(tmp_path, less):
    path = make(tmp_path / "given.db", rows=1000)
    check_file(str(path))
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - less)
    with pytest.raises((CorruptionError, InvalidRequest), match=r"cut short|malformed"):
        check_file(str(path))


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_a_file_becomes_a_database(node, tmp_path, mode, page_size):
    async def scenario():
        catalog = catalog_of(node)
        path = make(tmp_path / "given.db", mode=mode, page_size=page_size)
        database = await import_file(node.context, catalog, "shop", str(path), replace=False)
        assert not path.exists()
        assert await count(database) == 10
        assert database.position.txid == 1
        assert image_of(database, tmp_path).checksum == database.position.checksum
        await catalog.close_all()

    run(scenario())


def test_a_database_is_replaced_only_when_asked_for(node, tmp_path):
    async def scenario():
        catalog = catalog_of(node)
        database = await import_file(node.context, catalog, "shop", str(make(tmp_path / "1.db")), replace=False)
        before = database.position
        second = make(tmp_path / "2.db", rows=3, page_size=1024)
        with pytest.raises(DatabaseExists):
            await import_file(node.context, catalog, "shop", str(second), replace=False)
        assert second.exists()
        database = await import_file(node.context, catalog, "shop", str(second), replace=True)
        assert await count(database) == 3
        assert database.position.epoch == before.epoch + 1
        assert database.position.txid == before.txid + 1
        assert database.log.base == database.position
        await catalog.close_all()

    run(scenario())


def test_the_empty_default_database_may_be_replaced_without_asking(node, tmp_path):
    async def scenario():
        catalog = catalog_of(node)
        await catalog.open("data")
        database = await import_file(node.context, catalog, "data", str(make(tmp_path / "1.db")), replace=False)
        assert await count(database) == 10
        await catalog.close_all()

    run(scenario())


def test_what_is_no_database_is_refused_and_left_alone(node, tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("not a database " * 1000)
    with pytest.raises(InvalidRequest):
        check_file(str(path))
    assert path.read_text().startswith("not a database")
    damaged = make(tmp_path / "damaged.db", rows=5000)
    data = bytearray(damaged.read_bytes())
    data[4096 * 3 : 4096 * 5] = bytes(4096 * 2)
    damaged.write_bytes(data)
    with pytest.raises((CorruptionError, InvalidRequest)):
        check_file(str(damaged))


# -- files that are there already --


def test_an_existing_file_in_rollback_mode_is_taken_over(node, tmp_path):
    async def scenario():
        path = make(node.layout.database("data"))
        before, _ = read_pages(path)
        async with opened_primary(node) as db:
            assert await count(db.database) == 10
            assert db.database.position.txid == 1
            image = image_of(db.database, tmp_path)
            assert image.checksum == db.database.position.checksum
            assert len(image.pages) == len(before)

    run(scenario())


@pytest.mark.slow
def test_a_hot_journal_is_rolled_back(node, tmp_path):
    async def scenario():
        path = make(node.layout.database("data"), rows=2000)
        crash = (
            "import os, sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute('PRAGMA cache_size=1'); c.execute('BEGIN'); c.execute('UPDATE t SET v = v + 1000000')\n"
            "c.execute('DELETE FROM t WHERE rowid > 1000')\n"
            "os._exit(0)\n"
        )
        subprocess.run([sys.executable, "-c", crash, str(path)], check=True)
        assert path.with_name("data.db-journal").stat().st_size
        async with opened_primary(node) as db:
            assert await db.rows("SELECT count(*), max(v) FROM t") == [(2000, 1999)]
            assert image_of(db.database, tmp_path).checksum == db.database.position.checksum

    run(scenario())


@pytest.mark.slow
def test_a_wal_that_another_program_left_is_part_of_the_database(node, tmp_path):
    async def scenario():
        path = make(node.layout.database("data"), mode="WAL")
        foreign(path, "PRAGMA wal_autocheckpoint=0", "INSERT INTO t VALUES ('closed properly')")
        left = (
            "import os, sqlite3, sys\n"
            "c = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
            "c.execute(\"INSERT INTO t VALUES ('in the wal')\")\n"
            "os._exit(0)\n"
        )
        subprocess.run([sys.executable, "-c", left, str(path)], check=True)
        assert path.with_name("data.db-wal").stat().st_size
        async with opened_primary(node) as db:
            assert await db.rows("SELECT count(*) FROM t") == [(12,)]
            assert image_of(db.database, tmp_path).checksum == db.database.position.checksum
            await db.ask(sql("INSERT INTO t VALUES (1)"))
            assert image_of(db.database, tmp_path).checksum == db.database.position.checksum

    run(scenario())


def test_a_file_that_was_made_larger_than_its_database(node, tmp_path):
    async def scenario():
        path = make(node.layout.database("data"), mode="WAL")
        size = path.stat().st_size
        with path.open("ab") as file:
            file.write(b"x" * 4096 * 5)
        async with opened_primary(node) as db:
            assert path.stat().st_size == size
            await db.ask(sql("INSERT INTO t VALUES (zeroblob(30000))"))
            assert image_of(db.database, tmp_path).checksum == db.database.position.checksum

    run(scenario())


def test_garbage_instead_of_a_wal_header_is_ignored_as_sqlite_does(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            position = db.database.position
        for garbage in (bytes(32), b"\xff" * 32, b"short", bytes(5000)):
            node.layout.database("data").with_name("data.db-wal").write_bytes(garbage)
            async with opened_primary(node) as db:
                assert db.database.position == position
                assert await count(db.database) == 0

    run(scenario())


def test_a_file_that_is_no_database_is_told(node):
    async def scenario():
        node.layout.database("data").write_text("something else entirely " * 500)
        with pytest.raises(CorruptionError):
            async with opened_primary(node):
                pass

    run(scenario())


@pytest.mark.slow
def test_a_file_that_another_program_has_locked_is_not_called_damaged(node, monkeypatch):
    monkeypatch.setattr(opening, "_BUSY_WAIT_MS", 50)

    async def scenario():
        path = make(node.layout.database("data"))
        with foreign_shell(path) as shell:
            shell("BEGIN IMMEDIATE")
            shell("INSERT INTO t VALUES (1)")
            with pytest.raises(NotReady):
                async with opened_primary(node):
                    pass
            shell("ROLLBACK")
        async with opened_primary(node) as db:
            assert await count(db.database) == 10

    run(scenario())
