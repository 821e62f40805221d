"""The classified statements never lag behind the schema, whoever changes it and however it is rolled back."""

from __future__ import annotations

import tempfile
from pathlib import Path

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.clock import SystemClock
from pando.store.requests import Execute, Failure, Statement, StatementResult
from pando.store.runner import PlainControl, Runner
from pando.store.statements import StatementOptions, Statements

SELECTS = ["select * from t", "select * from u", "select * from v", "select x.* from t as x"]
CHANGES = [
    "create table if not exists t(a)",
    "create table if not exists u(a int, b text)",
    "create view if not exists v as select * from t",
    "alter table t add column n{n} real",
    "alter table t rename column a to a{n}",
    "drop table if exists t",
    "drop table if exists u",
    "drop view if exists v",
    "create table u as select * from t",
]
OWNER = ["begin", "commit", "rollback", "savepoint s", "rollback to s", "release s"]

STEPS = st.lists(st.sampled_from([*SELECTS, *SELECTS, *CHANGES, *OWNER]), min_size=5, max_size=25)
ROUND = st.tuples(
    st.sampled_from(["begin", "savepoint s"]),
    st.sampled_from(CHANGES),
    st.sampled_from(SELECTS),
    st.sampled_from(["rollback", "commit", "rollback to s", "release s"]),
    st.sampled_from(SELECTS),
)
ROUNDS = st.lists(ROUND, min_size=1, max_size=5).map(lambda rounds: [step for each in rounds for step in each])
"""Changes that end one way or the other between two looks."""


def truth(connection: apsw.Connection, sql: str) -> tuple[tuple[str, str | None], ...] | None:
    """What SQLite says of the columns, asked without any cache."""
    found: list[tuple[tuple[str, str | None], ...]] = []
    cursor = connection.cursor()
    cursor.exec_trace = lambda cursor, text, bindings: not found.append(tuple(cursor.get_description()))
    try:
        cursor.execute(sql, can_cache=False).fetchall()
    except apsw.SQLError:
        return None
    return found[0]


def answered(runner: Runner, control: PlainControl, sql: str) -> tuple[tuple[str | None, str | None], ...] | None:
    (result,) = runner.run((Execute(Statement(sql)),), control)
    if isinstance(result, Failure):
        return None
    assert isinstance(result, StatementResult)
    return result.columns


@settings(max_examples=120, deadline=None)
@given(STEPS | ROUNDS, st.booleans())
def test_one_connection(steps: list[str], through_runner: bool) -> None:
    """The owner ends transactions behind the runner's back (a group commit), or through it."""
    connection = apsw.Connection(":memory:")
    connection.execute("create table t(a)")
    runner, control = Runner(connection, Statements(connection), SystemClock()), PlainControl(connection)
    for number, step in enumerate(steps):
        sql = step.format(n=number)
        if sql in OWNER and not through_runner:
            try:
                connection.execute(sql)
            except apsw.SQLError:
                continue
        elif sql in SELECTS:
            expected = truth(connection, sql)
            assert answered(runner, control, sql) == expected, sql
        else:
            runner.run((Execute(Statement(sql)),), control)
    connection.close()


@settings(max_examples=60, deadline=None)
@given(STEPS | ROUNDS)
def test_reader_beside_a_writer(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "a.db")
        writer = apsw.Connection(path)
        writer.pragma("journal_mode", "wal")
        writer.pragma("synchronous", "off")
        writer.execute("create table t(a)")
        reader = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READONLY)
        statements = Statements(reader, options=StatementOptions(schema_changes_elsewhere=True))
        runner, control = Runner(reader, statements, SystemClock()), PlainControl(reader)
        for number, step in enumerate(steps):
            sql = step.format(n=number)
            if sql in SELECTS:
                assert answered(runner, control, sql) == truth(reader, sql), sql
                continue
            try:
                writer.execute(sql)
            except apsw.SQLError:
                continue
        reader.close()
        writer.close()


def test_a_statement_that_the_schema_left_behind_fails_as_one_that_is_new(tmp_path: Path) -> None:
    writer = apsw.Connection(str(tmp_path / "a.db"))
    writer.pragma("journal_mode", "wal")
    writer.execute("create table t(a)")
    reader = apsw.Connection(str(tmp_path / "a.db"), flags=apsw.SQLITE_OPEN_READONLY)
    statements = Statements(reader, options=StatementOptions(schema_changes_elsewhere=True))
    runner, control = Runner(reader, statements, SystemClock()), PlainControl(reader)
    old, new = (Execute(Statement(sql)) for sql in ("select a from t", "select a  from t"))
    assert isinstance(runner.run((old,), control)[0], StatementResult)
    writer.execute("alter table t rename column a to b")
    failures = [runner.run((request,), control)[0] for request in (old, new)]
    assert {getattr(failure, "code", None) for failure in failures} == {"SQL_INPUT_ERROR"}
    assert {getattr(failure, "message", None) for failure in failures} == {
        "SQL input error: no such column: a (at offset 7)"
    }
    reader.close()
    writer.close()
