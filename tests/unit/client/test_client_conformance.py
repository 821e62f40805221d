"""What programs do with a DB-API connection, on the standard library's sqlite3 (the oracle) and on both clients."""

import asyncio
import inspect
import math
import sqlite3
from types import SimpleNamespace

import pytest
from client_bench import TOKEN, make_node
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pando
from pando import client

SCHEMA = "CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE, data BLOB)"


class Awaited:
    """An asyncio connection or cursor whose calls are run to their end."""

    def __init__(self, inner, runner):
        self.__dict__.update(_inner=inner, _runner=runner)

    def __getattr__(self, name):
        found = getattr(self._inner, name)
        return self._call(found) if callable(found) and not inspect.isclass(found) else found

    def __setattr__(self, name, value):
        setattr(self._inner, name, value)

    def _call(self, function):
        def call(*args, **options):
            return self._end(function(*args, **options))

        return call

    def _end(self, found):
        if inspect.isawaitable(found):
            found = self._runner.run(_await(found))
        same = {client.AsyncConnection, client.AsyncCursor}
        return Awaited(found, self._runner) if type(found) in same else found

    def __iter__(self):
        async def rows():
            return [row async for row in self._inner]

        return iter(self._runner.run(rows()))

    def __enter__(self):
        self._end(self._inner.__aenter__())
        return self

    def __exit__(self, *details):
        self._end(self._inner.__aexit__(*details))


async def _await(found):
    return await found


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    made = make_node(tmp_path_factory.mktemp("node"))
    yield made
    made.close()


@pytest.fixture(params=["sqlite3", "sync", "async"])
def kind(request):
    return request.param


@pytest.fixture
def db(kind, node, tmp_path):
    """Modules and connections of one kind, all on one empty database."""
    with asyncio.Runner() as runner:
        made = []

        def connect(**options):
            if kind == "sqlite3":
                made.append(sqlite3.connect(tmp_path / "db", timeout=0.1))
            elif kind == "sync":
                made.append(pando.connect(node.url, token=TOKEN, **options))
            else:
                opening = pando.aconnect(node.url, token=TOKEN, **options)
                made.append(Awaited(runner.run(_await(opening)), runner))
            return made[-1]

        module = sqlite3 if kind == "sqlite3" else client
        first = connect()
        first.executescript(f"DROP TABLE IF EXISTS u; DROP TABLE IF EXISTS t; {SCHEMA}")
        yield SimpleNamespace(connect=connect, connection=first, module=module)
        for connection in made:
            connection.close()


def insert(connection, *names):
    for name in names:
        connection.execute("INSERT INTO t(name) VALUES (?)", (name,))


def names(connection):
    return [row[0] for row in connection.execute("SELECT name FROM t ORDER BY id").fetchall()]


# -- cursors


def test_what_a_cursor_says_after_each_kind_of_statement(db):
    cursor = db.connection.cursor()
    assert (cursor.description, cursor.rowcount, cursor.lastrowid, cursor.arraysize) == (None, -1, None, 1)
    cursor.execute("INSERT INTO t(name) VALUES ('a'), ('b')")
    assert (cursor.description, cursor.rowcount, cursor.lastrowid) == (None, 2, 2)
    assert cursor.fetchall() == []
    cursor.execute("UPDATE t SET name = upper(name)")
    assert (cursor.rowcount, cursor.lastrowid) == (2, 2)
    cursor.execute("SELECT id, name AS n FROM t ORDER BY id")
    assert [column[0] for column in cursor.description] == ["id", "n"]
    assert all(len(column) == 7 for column in cursor.description)
    assert cursor.rowcount == -1
    assert cursor.fetchone() == (1, "A")
    assert cursor.fetchmany() == [(2, "B")]
    assert cursor.fetchone() is None
    cursor.execute("DELETE FROM t WHERE id > 5")
    assert cursor.rowcount == 0
    cursor.close()


def test_rows_come_in_every_way(db):
    insert(db.connection, "a", "b", "c", "d", "e")
    cursor = db.connection.cursor()
    assert cursor.execute("SELECT id FROM t ORDER BY id") is not None
    assert cursor.fetchmany(2) == [(1,), (2,)]
    assert list(cursor) == [(3,), (4,), (5,)]
    assert cursor.fetchmany(3) == [] and cursor.fetchall() == []
    cursor.arraysize = 3
    cursor.execute("SELECT id FROM t ORDER BY id")
    assert len(cursor.fetchmany()) == 3


def test_returning_gives_rows_and_changes(db):
    cursor = db.connection.execute("INSERT INTO t(name) VALUES ('x') RETURNING id, name")
    assert cursor.fetchall() == [(1, "x")]
    db.connection.commit()
    assert names(db.connection) == ["x"]


def test_parameters_by_place_and_by_name(db):
    def one(sql, parameters):
        return db.connection.execute(sql, parameters).fetchone()

    assert one("SELECT ?, ?", [1, "b"]) == (1, "b")
    assert one("SELECT ?2, ?1", ("a", "b")) == ("b", "a")
    assert one("SELECT :a, @b, $c, :a", {"a": 1, "b": 2, "c": 3, "unused": 4}) == (1, 2, 3, 1)
    assert one("SELECT ':a', :b", {"b": 1}) == (":a", 1)
    for sql, parameters in (("SELECT ?", ()), ("SELECT ?", (1, 2)), ("SELECT :a", {"b": 1}), ("SELECT ?", (object(),))):
        with pytest.raises((db.module.ProgrammingError, db.module.InterfaceError)):
            one(sql, parameters)


def test_executemany_takes_any_iterable_and_counts_all(db):
    cursor = db.connection.cursor()
    cursor.executemany("INSERT INTO t(name) VALUES (?)", ((f"n{number}",) for number in range(50)))
    assert cursor.rowcount == 50
    cursor.executemany(
        "UPDATE t SET name = :new WHERE name = :old", [{"old": "n1", "new": "m"}, {"old": "-", "new": ""}]
    )
    assert cursor.rowcount == 1
    db.connection.rollback()
    assert names(db.connection) == []
    cursor.executemany("INSERT INTO t(name) VALUES (?)", [])
    with pytest.raises(db.module.ProgrammingError):
        cursor.executemany("SELECT ?", [(1,)])


def test_a_script_commits_and_runs_everything(db):
    insert(db.connection, "before")
    db.connection.executescript(
        "CREATE TABLE u(a); INSERT INTO u VALUES (1); -- a comment;\nINSERT INTO u VALUES (';')"
    )
    other = db.connect()
    assert names(other) == ["before"]
    assert other.execute("SELECT a FROM u").fetchall() == [(1,), (";",)]
    with pytest.raises(db.module.OperationalError):
        db.connection.executescript("SELECT 1; SELEC 2")


# -- values


@pytest.mark.parametrize(
    "value",
    [
        None,
        0,
        -1,
        2**63 - 1,
        -(2**63),
        1.5,
        -0.0,
        1e300,
        5e-324,
        "",
        "ä€😀",
        "nul\0in",
        "'",
        b"",
        b"\0\xff",
        "1",
        10**15,
    ],
)
def test_values_come_back_as_they_went(db, value):
    found, kind = db.connection.execute("SELECT ?1, typeof(?1)", (value,)).fetchone()
    assert (type(found), found) == (type(value), value)
    assert kind == {int: "integer", float: "real", str: "text", bytes: "blob", type(None): "null"}[type(value)]


def test_other_types_become_these(db):
    insert(db.connection, True)
    row = db.connection.execute("SELECT ?, ?, ?", (bytearray(b"ab"), memoryview(b"cd"), False)).fetchone()
    assert row == (b"ab", b"cd", 0)
    assert db.connection.execute("SELECT ?", (math.nan,)).fetchone() == (None,)
    with pytest.raises((OverflowError, client.DataError)):
        db.connection.execute("SELECT ?", (2**63,))
    with pytest.raises((UnicodeEncodeError, client.DataError)):
        db.connection.execute("SELECT ?", ("\ud800",))


VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.text() | st.binary() | st.floats(allow_infinity=False)


@pytest.mark.slow
@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=5))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("kind", ["sync", "async"], indirect=True)
def test_any_values_make_the_round_trip_as_with_sqlite(db, rows):
    oracle = sqlite3.connect(":memory:")
    for connection in (oracle, db.connection):
        connection.execute("CREATE TABLE IF NOT EXISTS u(a, b, c)")
        connection.execute("DELETE FROM u")
        connection.executemany("INSERT INTO u VALUES (?, ?, ?)", rows)
    sql = "SELECT a, b, c, typeof(a), typeof(b), typeof(c) FROM u ORDER BY rowid"
    assert repr(db.connection.execute(sql).fetchall()) == repr(oracle.execute(sql).fetchall())
    db.connection.rollback()
    oracle.close()


# -- transactions


def test_writes_are_seen_by_others_after_commit_only(db):
    other = db.connect()
    insert(db.connection, "a")
    assert db.connection.in_transaction
    assert names(db.connection) == ["a"] and names(other) == []
    db.connection.commit()
    assert not db.connection.in_transaction
    assert names(other) == ["a"]
    db.connection.commit()
    db.connection.rollback()


def test_rollback_and_close_drop_what_is_open(db):
    insert(db.connection, "a")
    db.connection.rollback()
    assert names(db.connection) == []
    other = db.connect()
    insert(other, "b")
    other.close()
    assert names(db.connection) == []
    insert(db.connection, "c")
    db.connection.commit()
    assert names(db.connection) == ["c"]


def test_the_connection_as_a_context_commits_or_rolls_back(db):
    with db.connection:
        insert(db.connection, "a")
    with pytest.raises(ZeroDivisionError), db.connection:
        insert(db.connection, "b")
        raise ZeroDivisionError
    assert not db.connection.in_transaction
    assert names(db.connection) == ["a"]


def test_savepoints_and_transactions_by_statement(db):
    db.connection.execute("BEGIN IMMEDIATE")
    insert(db.connection, "a")
    db.connection.execute("SAVEPOINT s")
    insert(db.connection, "b")
    db.connection.execute("ROLLBACK TO s")
    db.connection.execute("RELEASE s")
    assert db.connection.in_transaction
    db.connection.execute("COMMIT")
    assert not db.connection.in_transaction
    db.connection.execute("BEGIN")
    insert(db.connection, "c")
    db.connection.execute("ROLLBACK")
    assert names(db.connection) == ["a"]


def test_an_error_leaves_the_transaction_open(db):
    insert(db.connection, "a")
    with pytest.raises(db.module.IntegrityError):
        insert(db.connection, "a")
    assert db.connection.in_transaction
    insert(db.connection, "b")
    db.connection.commit()
    assert names(db.connection) == ["a", "b"]


def test_a_conflict_that_rolls_back_ends_the_transaction(db):
    insert(db.connection, "a")
    with pytest.raises(db.module.IntegrityError):
        db.connection.execute("INSERT OR ROLLBACK INTO t(name) VALUES ('a')")
    assert not db.connection.in_transaction
    assert names(db.connection) == []


def test_a_commit_that_fails_leaves_the_transaction_open(db):
    db.connection.executescript(
        "PRAGMA foreign_keys = 1;"
        "CREATE TABLE u(id INTEGER PRIMARY KEY, t REFERENCES t(id) DEFERRABLE INITIALLY DEFERRED)"
    )
    db.connection.execute("INSERT INTO u VALUES (1, 7)")
    with pytest.raises(db.module.IntegrityError):
        db.connection.commit()
    assert db.connection.in_transaction
    db.connection.execute("INSERT INTO t(id, name) VALUES (7, 'seven')")
    db.connection.commit()
    assert names(db.connection) == ["seven"]


# -- errors


@pytest.mark.parametrize(
    ("sql", "kind_of_error", "words"),
    [
        ("SELEC 1", "OperationalError", 'near "SELEC": syntax error'),
        ("SELECT * FROM nowhere", "OperationalError", "no such table: nowhere"),
        ("INSERT INTO t(id) VALUES ('x')", "IntegrityError", "datatype mismatch"),
        ("INSERT INTO t(name) VALUES ('a'), ('a')", "IntegrityError", "UNIQUE constraint failed: t.name"),
        ("SELECT zeroblob(2000000000)", "DataError", "too big"),
        ("COMMIT", "OperationalError", "no transaction is active"),
    ],
)
def test_errors_have_the_kinds_of_sqlite3(db, sql, kind_of_error, words):
    with pytest.raises(getattr(db.module, kind_of_error), match=words) as caught:
        db.connection.execute(sql)
    assert isinstance(caught.value, db.module.DatabaseError)
    assert db.connection.execute("SELECT 1").fetchone() == (1,)


def test_what_is_closed_says_so(db):
    connection = db.connect()
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    cursor.close()
    with pytest.raises(db.module.ProgrammingError):
        cursor.fetchone()
    connection.close()
    connection.close()
    for call in (connection.cursor, connection.commit, lambda: connection.execute("SELECT 1")):
        with pytest.raises(db.module.ProgrammingError):
            call()


def test_row_factories_make_rows(db):
    db.connection.row_factory = lambda cursor, row: {
        column[0]: value for column, value in zip(cursor.description, row, strict=True)
    }
    assert db.connection.execute("SELECT 1 AS a, 2 AS b").fetchone() == {"a": 1, "b": 2}


def test_rows_with_names(db):
    db.connection.row_factory = sqlite3.Row if db.module is sqlite3 else client.Row
    row = db.connection.execute("SELECT 1 AS a, 2 AS b").fetchone()
    assert (row["a"], row["B"], row[0], row[-1], tuple(row), row.keys()) == (1, 2, 1, 2, (1, 2), ["a", "b"])
    with pytest.raises((KeyError, IndexError)):
        row["c"]
