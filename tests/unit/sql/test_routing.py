from __future__ import annotations

import apsw
import pytest

from pando.sql.routing import SCRIPT_CHARS_MAX, Nature, nature_of, surely_writes
from pando.store.requests import Batch, Describe, Execute, GetAutocommit, Request, Sequence, Statement, Step
from pando.store.statements import Statements


@pytest.fixture(scope="module")
def statements() -> Statements:
    connection = apsw.Connection(":memory:")
    connection.execute("create table t(a)")
    return Statements(connection)


def run(*texts: str) -> tuple[Request, ...]:
    return tuple(Execute(Statement(text)) for text in texts)


def batch(*texts: str) -> tuple[Request, ...]:
    return (Batch(tuple(Step(Statement(text)) for text in texts)),)


@pytest.mark.parametrize("form", [run, batch])
@pytest.mark.parametrize(
    ("texts", "nature"),
    [
        (["select 1"], Nature.READS),
        (["select 1", "pragma journal_mode=wal", "explain delete from t"], Nature.READS),
        (["select 1", "insert into t values(1)"], Nature.WRITES),
        (["pragma foreign_keys=off"], Nature.WRITES),
        (["vacuum"], Nature.WRITES),
        (["begin", "select 1", "commit"], Nature.READ_TRANSACTION),
        (["begin immediate", "select 1", "commit"], Nature.WRITES),
        (["begin exclusive"], Nature.WRITES),
        (["begin transaction readonly", "select 1", "commit"], Nature.READONLY_TRANSACTION),
        (["savepoint s", "select 1", "release s"], Nature.READ_TRANSACTION),
        (["begin", "delete from t"], Nature.WRITES),
        (["select * from not_here_yet"], Nature.READS),
        (["with x as (select 1) insert into not_here_yet select * from x"], Nature.WRITES),
        (["insert into not_here_yet values(1)"], Nature.WRITES),
        (["with x as (select 1) select * from not_here_yet, x"], Nature.READS),
        (["with x as (select 1) replace into not_here_yet select * from x"], Nature.WRITES),
        (["gibberish"], Nature.READS),
        (["attach 'x' as y"], Nature.READS),
        ([""], Nature.READS),
        (["insert into not_here_yet values(1); delete from t"], Nature.WRITES),
        (["delete from t; delete from t"], Nature.READS),
        (["gibberish", "delete from t"], Nature.WRITES),
    ],
)
def test_nature(statements: Statements, form: object, texts: list[str], nature: Nature) -> None:
    requests = form(*texts)  # type: ignore[operator]
    assert nature_of(requests, statements) is nature


@pytest.mark.parametrize(
    ("request_", "nature"),
    [
        (GetAutocommit(), Nature.READS),
        (Describe("insert into t values(1)"), Nature.READS),
        (Describe("insert into not_here_yet values(1)"), Nature.WRITES),
        (Describe("select * from not_here_yet"), Nature.READS),
        (Sequence("select 1; select 2"), Nature.READS),
        (Sequence("select 1; delete from t"), Nature.WRITES),
        (Sequence("begin; select 1; commit;"), Nature.READ_TRANSACTION),
        (Sequence("select 1; -- " + "x" * SCRIPT_CHARS_MAX), Nature.WRITES),
        (Sequence(""), Nature.READS),
    ],
)
def test_nature_of_other_requests(statements: Statements, request_: Request, nature: Nature) -> None:
    assert nature_of((request_,), statements) is nature


def test_surely_writes_looks_at_first_words_only() -> None:
    assert surely_writes(run("select 1", "-- x\n insert into t values(1)"))
    assert surely_writes(batch("create table x(a)"))
    assert surely_writes((Sequence("drop table t"),))
    assert not surely_writes(
        (*run("select 1", "with x as (select 1) delete from t"), GetAutocommit(), Describe("insert"))
    )
