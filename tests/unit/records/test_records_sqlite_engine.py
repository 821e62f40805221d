"""The conformance suite of `Engine`, on SQLite behind a fake store."""

import sys
from pathlib import Path

import pytest

from pando.errors import SqlError
from pando.records.engine import Statement
from pando.records.sqlite_engine import SqliteEngine

sys.path.insert(0, str(Path(__file__).parents[1] / "sql"))
from service_bench import LONG, Node


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path, is_primary=True)
    yield made
    made.close()


@pytest.fixture
def engine(node):
    return SqliteEngine(node.service, "data")


def rows(node, engine, sql="select a, b from t order by a", *args):
    return node.run(engine.query(sql, args))


def test_reads_give_rows_and_say_what_they_saw(node, engine):
    assert engine.position is None
    assert rows(node, engine) == [(1, "one")]
    assert engine.position is not None
    assert rows(node, engine, "select ? + 1", 41) == [(42,)]
    assert engine.reads() is engine and engine.is_primary


def test_a_short_read_never_waits(engine, node):
    rows(node, engine)
    reading = engine.query("select 1")
    with pytest.raises(StopIteration) as ended:
        reading.send(None)
    assert ended.value.value == [(1,)]


def test_a_long_read_runs_in_a_thread(node, engine):
    assert rows(node, engine, LONG) == [(50000,)]


def test_writes_take_effect_together(node, engine):
    before = Statement("insert into t values(?, ?)", (2, "two")), Statement("update t set b = b || '!' returning b")
    written = node.run(engine.write(before))
    assert [each.changed for each in written] == [1, 2]
    assert sorted(written[1].rows) == [("one!",), ("two!",)]
    assert rows(node, engine) == [(1, "one!"), (2, "two!")]


def test_one_failing_statement_undoes_all(node, engine):
    wrong = [
        Statement("insert into t values(3, 'x')"),
        Statement("insert into t values(1, 'y')"),
        Statement("delete from t"),
    ]
    with pytest.raises(SqlError) as caught:
        node.run(engine.write(wrong))
    assert "UNIQUE" in caught.value.message
    assert rows(node, engine) == [(1, "one")]


def test_one_statement_alone_fails_alone(node, engine):
    with pytest.raises(SqlError):
        node.run(engine.write([Statement("insert into t values(1, 'y')")]))
    assert node.run(engine.write([Statement("insert into t values(9, 'y')")]))[0].changed == 1
    assert rows(node, engine, "select count(*) from t") == [(2,)]


def test_a_transaction_sees_its_writes_and_is_committed_at_its_end(node, engine):
    async def work():
        async with engine.transaction() as transaction:
            await transaction.execute("insert into t values(?, ?)", (5, "five"))
            seen = await transaction.query("select b from t where a = 5")
        return seen, await engine.query("select b from t where a = 5")

    assert node.run(work()) == ([("five",)], [("five",)])
    assert engine.position.txid >= 1


def test_an_exception_rolls_a_transaction_back(node, engine):
    async def work():
        async with engine.transaction() as transaction:
            await transaction.execute("delete from t")
            raise RuntimeError("the caller changed its mind")

    with pytest.raises(RuntimeError, match="changed its mind"):
        node.run(work())
    assert rows(node, engine) == [(1, "one")]


def test_a_failing_statement_leaves_the_transaction_open(node, engine):
    async def work():
        async with engine.transaction() as transaction:
            await transaction.execute("insert into t values(6, 'six')")
            with pytest.raises(SqlError):
                await transaction.execute("insert into t values(6, 'again')")
            await transaction.execute("insert into t values(7, 'seven')")

    node.run(work())
    assert rows(node, engine, "select a from t order by a") == [(1,), (6,), (7,)]
