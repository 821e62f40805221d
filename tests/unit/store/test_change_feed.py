"""The change feed against what triggers see, and as a way to build the tables again."""

import base64
import json
import random

import pytest
from store_kit import foreign, opened_primary, run, script, sql, transaction

from pando import limits
from pando.store.protocol import Ran
from pando.testing.sql_histories import SETUP, RandomSql

COUNT = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 5000) "
MANY = COUNT + "INSERT INTO t SELECT i FROM n"


def plain(value):
    if isinstance(value, dict):
        return base64.b64decode(value["base64"]) if "base64" in value else float(value["real"])
    return value


def image(text):
    return None if text is None else {name: plain(value) for name, value in json.loads(text).items()}


async def feed(db, after=0):
    rows = await db.rows('SELECT sequence, "table", operation, key, old, new FROM _changes WHERE sequence > ?', after)
    return [
        (sequence, table, operation, key, image(old), image(new)) for sequence, table, operation, key, old, new in rows
    ]


def replay(rows, tables):
    """Apply rows of the feed to tables held as {table: {key: row}}."""
    for _, table, operation, key, old, new in rows:
        content = tables.setdefault(table, {})
        if operation != "insert":
            assert without_nulls({0: content[key]}) == without_nulls({0: old}), (table, operation, key)
            del content[key]
        if operation != "delete":
            key = new.get("id", key)
            assert key not in content, (table, operation, key)
            content[key] = new


async def content(db, table, key):
    answer = await db.ask(sql(f"SELECT * FROM {table}"))
    names = [name for name, _ in answer.results[0].columns]
    rows = [dict(zip(names, row, strict=True)) for row in answer.results[0].rows]
    return {key(row): row for row in rows}


def by_id(row):
    return row["id"]


def by_pair(row):
    return json.dumps([row["b"], row["a"]], separators=(",", ":"))


async def compare(db, tables):
    for table, key in (("t", by_id), ("log", by_id), ("w", by_pair)):
        assert without_nulls(tables.get(table, {})) == without_nulls(await content(db, table, key))


def without_nulls(rows):
    """A column that was added later is in no earlier row of the feed."""
    return {key: {name: value for name, value in row.items() if value is not None} for key, row in rows.items()}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_the_feed_of_a_random_history_builds_the_tables_again(node, seed):
    async def scenario():
        rng = random.Random(seed)
        sqls = RandomSql(rng, big=10_000)
        async with opened_primary(node, feed=True) as db:
            await db.ask(script("; ".join(SETUP)))
            tables, last = {}, 0
            for number in range(120):
                answers = [db.send(script(sqls.step())) for _ in range(rng.choice([1, 1, 3]))]
                if rng.random() < 0.2:
                    answers.append(db.send(sql("BEGIN"), *[script(sqls.step()) for _ in range(2)], sql("ROLLBACK")))
                for answer in answers:
                    assert isinstance(await answer, Ran)
                rows = await feed(db, last)
                assert [row[0] for row in rows] == list(range(last + 1, last + len(rows) + 1))
                last += len(rows)
                replay(rows, tables)
                if number % 10 == 0:
                    await compare(db, tables)
            await compare(db, tables)
            assert not {table for table in tables if table.startswith("words")}, "shadow tables are nobody's records"
            db.assert_one_answer_each()

    run(scenario())


@pytest.mark.parametrize("alone", [False, True])
def test_rows_are_those_that_triggers_see(node, alone):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v, r REAL)"))
            await db.ask(sql("CREATE TABLE seen (n INTEGER PRIMARY KEY, operation, id, old, new)"))
            for operation, old, new in (
                ("insert", "NULL", "new.v"),
                ("update", "old.v", "new.v"),
                ("delete", "old.v", "NULL"),
            ):
                key = "new.id" if operation == "insert" else "old.id"
                await db.ask(
                    sql(
                        f"CREATE TRIGGER {operation}_t AFTER {operation} ON t BEGIN "
                        f"INSERT INTO seen (operation, id, old, new) VALUES ('{operation}', {key}, {old}, {new}); END"
                    )
                )
            extra = [sql("PRAGMA foreign_keys = 0")] if alone else []  # a statement that makes the command run alone
            await db.ask(*extra, sql("INSERT INTO t (v, r) VALUES (1, 1), ('two', 2), (x'03', 3), (NULL, 4), (5.5, 5)"))
            await db.ask(*extra, sql("UPDATE t SET v = v || '!' WHERE id < 4"))
            await db.ask(*extra, sql("DELETE FROM t WHERE id % 2 = 0"))
            await db.send(*extra, sql("INSERT INTO t (id, v) VALUES (9, 'gone'), (1, 'conflict')"))
            await db.ask(*extra, sql("UPDATE t SET id = id + 100"))
            await db.ask(*extra, sql("DELETE FROM t"))
            seen = await db.rows("SELECT operation, id, old, new FROM seen ORDER BY n")
            rows = [row for row in await feed(db) if row[1] == "t"]
            fed = [(operation, key, old and old["v"], new and new["v"]) for _, _, operation, key, old, new in rows]
            assert fed == seen
            assert all(isinstance(new["r"], float) for *_, new in rows if new)

    run(scenario())


def test_what_is_rolled_back_leaves_no_rows(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (v UNIQUE)"))
            await db.ask(sql("INSERT INTO t VALUES ('there')"))
            before = await feed(db)
            await db.send(sql("INSERT INTO t VALUES ('x'), ('there')"))
            await db.send(script("BEGIN; INSERT INTO t VALUES ('y'); ROLLBACK"))
            await db.send(script("BEGIN; SAVEPOINT s; INSERT INTO t VALUES ('z'); ROLLBACK TO s; COMMIT"))
            await db.send(transaction("INSERT INTO t VALUES ('a')", "INSERT OR ROLLBACK INTO t VALUES ('there')"))
            await db.ask(sql("BEGIN"), sql("INSERT INTO t VALUES ('b')"), session=3)
            db.database.end_session((1, 3))
            await db.send(sql("INSERT OR IGNORE INTO t VALUES ('there')"))
            assert await feed(db) == before

    run(scenario())


PARTS = {
    "clause": ("", "INSERT OR FAIL INTO t VALUES ('a'), ('there')"),
    "returning": ("", "INSERT OR FAIL INTO t VALUES ('a'), ('there') RETURNING v"),
    "update": ("INSERT INTO t VALUES ('1'), ('2')", "UPDATE OR FAIL t SET v = iif(v = 'there', v, 'same')"),
    "table": ("DROP TABLE t; CREATE TABLE t (v UNIQUE ON CONFLICT FAIL)", "INSERT INTO t VALUES ('a'), ('a')"),
    "trigger": (
        "CREATE TRIGGER no AFTER INSERT ON t WHEN new.v = 'b' BEGIN SELECT raise(fail, 'b'); END",
        "INSERT INTO t VALUES ('a'), ('b'), ('c')",
    ),
}


@pytest.mark.parametrize("way", ["in a group", "alone", "in a transaction"])
@pytest.mark.parametrize("case", PARTS)
@pytest.mark.parametrize("has_feed", [True, False])
def test_what_a_failing_statement_keeps_is_told_or_undone(node, case, way, has_feed):
    """SQLite's FAIL keeps a part. Without a feed so do we; with one nothing is kept, since nobody would hear of it."""
    before, fails = PARTS[case]
    extra = {
        "in a group": [],
        "alone": [sql("PRAGMA foreign_keys = 0")],
        "in a transaction": [sql("BEGIN"), sql("SAVEPOINT s")],
    }

    async def scenario():
        async with opened_primary(node, feed=has_feed) as db:
            await db.ask(script("CREATE TABLE t (v UNIQUE); INSERT INTO t VALUES ('there');" + before))
            rows = await db.rows("SELECT * FROM t ORDER BY v")
            told = await feed(db) if has_feed else []
            after = [sql("COMMIT")] if way == "in a transaction" else []
            answer = await db.send(*extra[way], sql(fails), *after)
            assert "constraint" in answer.results[len(extra[way])].code.lower()
            kept = await db.rows("SELECT * FROM t ORDER BY v")
            assert (kept == rows) == has_feed
            assert not has_feed or await feed(db) == told

    run(scenario())


def test_a_statement_alone_and_its_rows_are_one_commit(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            before = db.database.position.txid
            await db.ask(sql("PRAGMA foreign_keys = 0"), sql("INSERT INTO t VALUES (1)"))
            assert db.database.position.txid == before + 1
            assert len(await feed(db)) == 1
            alone = db.database.writer.statistics.solos
            await db.send(
                sql("PRAGMA foreign_keys = 0"), sql("INSERT INTO t VALUES (1, 2)"), sql("BEGIN"), sql("SAVEPOINT a")
            )
            answer = await db.send(
                sql("PRAGMA foreign_keys = 0"),
                sql("INSERT INTO t SELECT abs(-9223372036854775808)"),
                sql("SAVEPOINT a"),
                sql("INSERT INTO t VALUES (2)"),
                sql("RELEASE a"),
            )
            kinds = [type(result).__name__ for result in answer.results]
            assert kinds == ["StatementResult", "Failure", "StatementResult", "StatementResult", "StatementResult"]
            assert db.database.writer.statistics.solos > alone
            assert await db.rows("SELECT v FROM t") == [(1,), (2,)]
            assert len(await feed(db)) == 2

    run(scenario())


@pytest.mark.parametrize("alone", [False, True])
def test_a_change_whose_rows_cannot_be_written_is_undone(node, alone):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            await db.ask(
                sql("CREATE TRIGGER refuse BEFORE INSERT ON _changes BEGIN SELECT RAISE(ABORT, 'no rows'); END")
            )
            extra = [sql("PRAGMA foreign_keys = 0")] if alone else []
            others = [db.send(sql("SELECT 1")) for _ in range(3)]
            answer = await db.send(*extra, sql("INSERT INTO t VALUES (1)"))
            assert "no rows" in answer.results[-1].message
            in_transaction = await db.send(sql("BEGIN"), sql("INSERT INTO t VALUES (2)"), sql("COMMIT"))
            assert [type(result).__name__ for result in in_transaction.results][1:] == ["Failure", "Failure"]
            assert all([isinstance(await other, Ran) for other in others])
            assert await db.rows("SELECT count(*) FROM t") == [(0,)]
            await db.ask(sql("DROP TRIGGER refuse"))
            await db.ask(sql("INSERT INTO t VALUES (3)"))
            assert len(await feed(db)) == 1

    run(scenario())


def test_generated_columns_and_broken_text(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE s (id INTEGER PRIMARY KEY, a, b AS (a * 2) STORED, c)"))
            await db.ask(sql("INSERT INTO s (a, c) VALUES (1, 'c')"))
            await db.ask(sql("CREATE TABLE v (id INTEGER PRIMARY KEY, a, b AS (a * 2) VIRTUAL, c)"))
            await db.ask(sql("INSERT INTO v (a, c) VALUES (1, 'c')"))
            await db.ask(sql("DELETE FROM v"))
            await db.ask(sql("INSERT INTO s (a, c) VALUES (9e999, CAST(x'ff' AS TEXT))"))
            await db.ask(sql("INSERT INTO s (a) VALUES (-9e999)"))
            rows = [row[1:] for row in await feed(db)]
            assert rows[0] == ("s", "insert", 1, None, {"id": 1, "a": 1, "b": 2, "c": "c"})
            assert rows[1:3] == [("v", "insert", 1, None, None), ("v", "delete", 1, None, None)]
            assert rows[3] == ("s", "insert", 2, None, None)
            assert rows[4][4]["a"] == float("-inf")

    run(scenario())


def test_the_clients_last_rowid_is_its_own(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v)"))
            answer = await db.ask(
                sql("BEGIN"),
                sql("INSERT INTO t (id, v) VALUES (4711, 1)"),
                sql("SELECT last_insert_rowid()"),
                sql("COMMIT"),
            )
            assert answer.results[1].last_insert_rowid == 4711
            assert answer.results[2].rows == [(4711,)]

    run(scenario())


def test_the_feed_does_not_feed_on_itself_and_comes_back_when_it_is_dropped(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            await db.ask(sql("INSERT INTO t VALUES (1), (2), (3)"))
            await db.ask(sql("DELETE FROM _changes WHERE sequence < 3"))
            assert [row[0] for row in await feed(db)] == [3]
            await db.ask(sql("DROP TABLE _changes"))
            await db.ask(sql("INSERT INTO t VALUES (4)"))
            assert len(await feed(db)) == 1

    run(scenario())


def test_a_schema_change_that_was_rolled_back_is_forgotten(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (a, b)"))
            await db.ask(
                sql("BEGIN"),
                sql("ALTER TABLE t RENAME COLUMN a TO z"),
                sql("INSERT INTO t VALUES (1, 2)"),
                sql("ROLLBACK"),
            )
            await db.ask(
                sql("BEGIN"),
                sql("SAVEPOINT s"),
                sql("ALTER TABLE t RENAME COLUMN b TO y"),
                sql("INSERT INTO t VALUES (1, 2)"),
                sql("ROLLBACK TO s"),
                sql("INSERT INTO t VALUES (3, 4)"),
                sql("COMMIT"),
            )
            assert [row[5] for row in await feed(db)] == [{"a": 3, "b": 4}]

    run(scenario())


def test_statements_that_change_too_much_are_refused_and_undone(node, monkeypatch):
    monkeypatch.setattr(limits, "FEED_EVENTS_MAX", 100)
    monkeypatch.setattr(limits, "FEED_EVENTS_BYTES_MAX", 10_000)

    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            for text in (MANY, "INSERT INTO t VALUES (zeroblob(20000))"):
                other = db.send(sql("SELECT 1"))
                answer = await db.send(sql(text))
                told = answer.results[0] if isinstance(answer, Ran) else answer
                assert told.code == "SQLITE_TOOBIG"
                assert isinstance(await other, Ran)
            await db.ask(sql("INSERT INTO t VALUES (1)"))
            assert await db.rows("SELECT v FROM t") == [(1,)]
            assert len(await feed(db)) == 1

    run(scenario())


def test_cascades_and_replaced_rows_are_told(node):
    async def scenario():
        async with opened_primary(node, feed=True) as db:
            await db.ask(sql("CREATE TABLE p (id INTEGER PRIMARY KEY, v UNIQUE)"))
            await db.ask(
                sql("CREATE TABLE c (id INTEGER PRIMARY KEY, p REFERENCES p ON DELETE CASCADE ON UPDATE CASCADE)")
            )
            await db.ask(sql("INSERT INTO p VALUES (1, 'a'), (2, 'b')"))
            await db.ask(sql("INSERT INTO c VALUES (1, 1), (2, 2)"))
            await db.ask(sql("INSERT OR REPLACE INTO p VALUES (1, 'b')"))
            tables = {}
            replay(await feed(db), tables)
            assert tables["p"] == await content(db, "p", by_id)
            assert tables["c"] == await content(db, "c", by_id)

    run(scenario())


RECORDS = "CREATE TABLE `_collections` (id TEXT PRIMARY KEY)"


async def tables_fed(db):
    return [table for (table,) in await db.rows('SELECT "table" FROM _changes ORDER BY sequence')]


@pytest.mark.parametrize("in_session", [False, True])
def test_a_database_is_fed_from_the_commit_on_that_makes_collections(node, in_session):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (a)"), sql("INSERT INTO t VALUES (1)"))
            assert await db.rows("SELECT name FROM sqlite_schema") == [("t",)]
            if in_session:
                await db.ask(sql("BEGIN IMMEDIATE"), sql(RECORDS), session=5)
                await db.ask(sql("COMMIT"), session=5)
            else:
                await db.ask(sql(RECORDS))
            assert await tables_fed(db) == []
            await db.ask(sql("INSERT INTO t VALUES (2)"))
            assert await tables_fed(db) == ["t"]
            db.assert_one_answer_each()

    run(scenario())


def test_commands_of_one_group_are_fed_after_the_one_that_makes_collections(node):
    async def scenario():
        async with opened_primary(node) as db:
            sent = [db.send(sql("CREATE TABLE t (a)")), db.send(sql(RECORDS)), db.send(sql("INSERT INTO t VALUES (1)"))]
            for one in sent:
                assert isinstance(await one, Ran)
            assert await tables_fed(db) == ["t"]
            db.assert_one_answer_each()

    run(scenario())


def test_collections_that_were_rolled_back_need_no_feed(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("BEGIN"), sql(RECORDS), sql("ROLLBACK"))
            await db.ask(sql("CREATE TABLE t (a)"))
            assert [name for (name,) in await db.rows("SELECT name FROM sqlite_schema")] == ["t"]

    run(scenario())


def test_collections_that_another_program_makes_are_fed_from_then_on(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (a)"))
            foreign(db.database.path, RECORDS)
            await db.ask(sql("INSERT INTO t VALUES (1)"))
            assert await tables_fed(db) == ["t"]
            db.assert_one_answer_each()

    run(scenario())


def test_a_database_with_collections_is_fed_when_it_is_opened(node):
    async def scenario():
        async with opened_primary(node) as db:
            path = db.database.path
        foreign(path, "CREATE TABLE t (a)", RECORDS)
        async with opened_primary(node) as db:
            await db.ask(sql("INSERT INTO t VALUES (1)"))
            assert await tables_fed(db) == ["t"]

    run(scenario())


def test_what_another_program_did_while_we_were_stopped_leaves_a_gap(node):
    """The feed does not know what that was; who has read all of it must not believe that nothing happened."""

    async def scenario():
        async with opened_primary(node) as db:
            path = db.database.path
            await db.ask(sql("CREATE TABLE t (a)"), sql(RECORDS))
            await db.ask(sql("INSERT INTO t VALUES (1), (2)"))
            assert [row[0] for row in await feed(db)] == [1, 2]
        async with opened_primary(node) as db:
            assert [row[0] for row in await feed(db)] == [1, 2], "nothing happened"
        foreign(path, "INSERT INTO t VALUES (3)")
        async with opened_primary(node) as db:
            assert [row[0] for row in await feed(db)] == [1, 4], "3 is the one that who has read 2 waits for"
            await db.ask(sql("INSERT INTO t VALUES (4)"))
            assert [row[0] for row in await feed(db)] == [1, 4, 5]
            db.assert_one_answer_each()

    run(scenario())
