import asyncio

import apsw
from store_kit import check_copy, image_of, opened_primary, run, sql, transaction

from pando.store.feed import FEED_TABLE
from pando.store.positions import table_word
from pando.store.protocol import Ran


def test_commands_of_one_turn_share_a_commit(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, k UNIQUE, v)"))
            answers = await asyncio.gather(*[db.send(sql("INSERT INTO t (k) VALUES (?)", n % 5)) for n in range(10)])
            assert len({answer.txid for answer in answers}) == 1
            assert [type(answer.results[0]).__name__ for answer in answers] == ["StatementResult"] * 5 + ["Failure"] * 5
            assert await db.rows("SELECT k FROM t") == [(n,) for n in range(5)]

    run(scenario())


def test_each_commit_says_before_it_is_visible_which_tables_it_changes(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE a (id INTEGER PRIMARY KEY)"))
            await db.ask(sql("CREATE TABLE d (id INTEGER PRIMARY KEY, a REFERENCES a ON DELETE CASCADE)"))
            await db.ask(sql("CREATE TABLE c (v)"))
            await db.ask(sql("CREATE TRIGGER after_d AFTER DELETE ON d BEGIN INSERT INTO c VALUES (old.id); END"))

            def newest(*tables):
                return node.positions.newest(0, [table_word(name) for name in tables])

            async def ask(*requests, **options):
                return (await db.ask(*requests, **options)).txid

            made = newest()
            assert made == db.database.position.txid, "a change of the schema may concern any table"
            first = await ask(sql("INSERT INTO a VALUES (1), (2)"))
            second = await ask(sql("INSERT INTO d VALUES (1, 1)"))
            assert [newest("a"), newest("d"), newest("c"), newest()] == [first, second, made, made]
            assert newest(FEED_TABLE) == second
            third = await ask(sql("DELETE FROM a WHERE id = 1"))
            assert [newest("a"), newest("d"), newest("c"), newest()] == [third, third, third, made]
            fourth = await ask(transaction("INSERT INTO c VALUES (4)"))
            assert newest("c") == fourth
            other = apsw.Connection(db.database.path)
            other.execute("INSERT INTO c VALUES (5)")
            other.close()
            sixth = await ask(sql("INSERT INTO a VALUES (6)"))
            assert newest("c") >= sixth - 1, "what another program changed is not known"

    run(scenario())


def test_a_commit_says_what_all_commands_of_its_session_have_changed(node):
    async def scenario():
        async with opened_primary(node) as db:
            for name in ("a", "b", "c"):
                await db.ask(sql(f"CREATE TABLE {name} (v)"))
            await asyncio.sleep(0)
            made = len(db.entries)
            await db.ask(sql("BEGIN"), session=3)
            await db.ask(sql("INSERT INTO a VALUES (1)"), session=3)
            await db.ask(sql("INSERT INTO b VALUES (1)"), sql("COMMIT"), sql("BEGIN"), session=3)
            await db.ask(sql("INSERT INTO c VALUES (1)"), session=3)
            await db.ask(sql("COMMIT"), session=3)
            await db.ask(sql("INSERT INTO c VALUES (2)"))
            await db.ask(sql("BEGIN"), sql("INSERT INTO c VALUES (3)"), session=4)
            await db.ask(sql("CREATE TABLE d (v)"), sql("COMMIT"), session=4)
            await asyncio.sleep(0)
            first, second, third, fourth = [set(entry.tables) for entry in db.entries[made:]]
            assert first >= {"a", "b"}, "replicas believe it"
            assert "c" in second and (third, fourth) == ({"c"}, {"*"})

    run(scenario())


def test_entries_lead_from_image_to_image(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            image = image_of(db.database, tmp_path)
            assert image.checksum == db.database.position.checksum
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v)"))
            await db.ask(transaction("INSERT INTO t (v) VALUES (randomblob(9000))", "DELETE FROM t WHERE id = 7"))
            await db.ask(sql("VACUUM"))
            await asyncio.sleep(0)
            for entry in db.entries:
                image.apply(entry)
            assert image.pages == image_of(db.database, tmp_path).pages
            check_copy(db.database, tmp_path)

    run(scenario())


def test_an_interactive_transaction_keeps_others_out_until_it_ends(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            begun = await db.ask(sql("BEGIN"), session=7)
            assert not begun.is_autocommit
            other = db.send(sql("INSERT INTO t VALUES ('other')"))
            await db.ask(sql("INSERT INTO t VALUES ('in')"), session=7)
            assert not other.done()
            ended = await db.ask(sql("COMMIT"), session=7)
            assert ended.is_autocommit
            assert isinstance(await other, Ran)
            assert await db.rows("SELECT v FROM t") == [("in",), ("other",)]

    run(scenario())


def test_a_run_that_may_only_read_writes_nothing(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            position = db.database.position
            for request in (sql("INSERT INTO t VALUES (1)"), transaction("INSERT INTO t VALUES (1)"), sql("VACUUM")):
                answer = await db.send(request, read_only=True)
                failures = getattr(answer.results[0], "errors", answer.results)
                assert "SQLITE_READONLY" in [getattr(failure, "code", None) for failure in failures]
            assert (await db.ask(sql("SELECT count(*) FROM t"), read_only=True)).results[0].rows == [(0,)]
            assert db.database.position == position

    run(scenario())
