from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.clock import SystemClock
from pando.store.requests import (
    And,
    Autocommit,
    Batch,
    BatchResult,
    Condition,
    Describe,
    Described,
    Done,
    Execute,
    Failure,
    GetAutocommit,
    IsAutocommit,
    Not,
    Or,
    Request,
    Result,
    Sequence,
    Statement,
    StatementResult,
    Step,
    StepError,
    StepOk,
    Value,
)
from pando.store.runner import Interrupted, Limit, PlainControl, Runner, RunnerOptions, TransactionLost
from pando.store.statements import StatementInfo, StatementOptions, Statements
from pando.testing.virtual_clock import VirtualClock

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"


@dataclass
class Bench:
    """A connection with a runner, and short words to use it."""

    connection: apsw.Connection
    clock: VirtualClock = field(default_factory=VirtualClock)
    options: RunnerOptions = field(default_factory=RunnerOptions)

    def __post_init__(self) -> None:
        self.connection.execute("create table if not exists t(a integer primary key, b unique)")
        self.statements = Statements(self.connection)
        self.runner = Runner(self.connection, self.statements, self.clock, self.options)
        self.control = PlainControl(self.connection)

    def run(self, *requests: Request) -> list[Result]:
        return self.runner.run(requests, self.control)

    def one(self, sql: str, *args: Value, **named: Value) -> StatementResult | Failure:
        result = self.run(Execute(Statement(sql, args, tuple(named.items()))))[0]
        assert isinstance(result, StatementResult | Failure)
        return result

    def rows(self, sql: str, *args: Value) -> list[tuple[Value, ...]]:
        result = self.one(sql, *args)
        assert isinstance(result, StatementResult), result
        return result.rows

    def failure(self, sql: str, *args: Value, **named: Value) -> Failure:
        result = self.one(sql, *args, **named)
        assert isinstance(result, Failure), result
        return result


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(apsw.Connection(":memory:"))
    yield bench
    bench.connection.close()


def test_select(bench: Bench) -> None:
    bench.connection.execute("insert into t values(1, 'x'), (2, x'00ff'), (3, 1.5), (4, null)")
    result = bench.one("select a, b from t where a <= ? order by a", 4)
    assert isinstance(result, StatementResult)
    assert result.columns == (("a", "INTEGER"), ("b", None))
    assert result.rows == [(1, "x"), (2, b"\x00\xff"), (3, 1.5), (4, None)]
    assert (result.affected_row_count, result.last_insert_rowid, result.rows_read, result.rows_written) == (
        0,
        None,
        4,
        0,
    )


def test_no_rows_still_has_columns_and_unwanted_rows_are_counted(bench: Bench) -> None:
    empty = bench.one("select a from t where a = 99")
    assert isinstance(empty, StatementResult)
    assert (empty.columns, empty.rows) == ((("a", "INTEGER"),), [])
    (unwanted,) = bench.run(Execute(Statement("values (1), (2), (3)", want_rows=False)))
    assert isinstance(unwanted, StatementResult)
    assert (unwanted.rows, unwanted.rows_read) == ([], 3)


def test_counts_of_changes(bench: Bench) -> None:
    def counts(sql: str) -> tuple[int, int | None]:
        result = bench.one(sql)
        assert isinstance(result, StatementResult), result
        return result.affected_row_count, result.last_insert_rowid

    assert counts("insert into t values(10, 'x'), (20, 'y')") == (2, 20)
    assert counts("update t set b = b || '!' where a > 5") == (2, None)
    assert counts("update t set b = 1 where a = 77") == (0, None)
    assert counts("select * from t") == (0, None)
    assert counts("insert into t(b) values('r') returning a, b") == (1, 21)
    assert counts("create table other(x)") == (0, None)
    assert counts("delete from t where a = 10") == (1, None)
    assert counts("pragma user_version = 3") == (0, None)


def test_errors_do_not_stop_the_rest(bench: Bench) -> None:
    results = bench.run(
        Execute(Statement("insert into t values(1, 'x')")),
        Execute(Statement("insert into t values(2, 'x')")),
        Execute(Statement("sel")),
        Execute(Statement("insert into t values(3, 'z')")),
    )
    assert [type(result) for result in results] == [StatementResult, Failure, Failure, StatementResult]
    assert results[1] == Failure(
        "SQLite error: UNIQUE constraint failed: t.b", "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_UNIQUE"
    )
    assert results[2] == Failure(
        'SQL string could not be parsed: near "sel": syntax error (at offset 0)', "SQL_PARSE_ERROR", "SQLITE_ERROR"
    )
    assert bench.rows("select a from t") == [(1,), (3,)]


def test_failed_statement_leaves_nothing_behind(bench: Bench) -> None:
    bench.failure("insert into t values(1, 'x'), (2, 'y'), (3, 'x')")
    assert bench.rows("select * from t") == []
    assert not bench.connection.in_transaction


@pytest.mark.parametrize(
    ("sql", "args", "named", "code"),
    [
        ("select ?", (), {}, "ARGS_INVALID"),
        ("select ?", (1, 2), {}, "ARGS_INVALID"),
        ("select 1", (1,), {}, "ARGS_INVALID"),
        ("select :a", (), {"b": 1}, "ARGS_INVALID"),
        ("select :a", (), {"a": 1, "b": 1}, "ARGS_INVALID"),
        ("select ?, ?", (), {"a": 1}, "ARGS_INVALID"),
        ("select :a", (1,), {"a": 1}, "ARGS_BOTH_POSITIONAL_AND_NAMED"),
        ("select ?", (1 << 63,), {}, "ARGS_INVALID"),
        ("select ?", ("\ud800",), {}, "ARGS_INVALID"),
    ],
)
def test_wrong_arguments(bench: Bench, sql: str, args: tuple[Value, ...], named: dict[str, Value], code: str) -> None:
    assert bench.failure(sql, *args, **named).code == code


@pytest.mark.parametrize(
    ("sql", "args", "words"),
    [
        ("select ?", (), "value for parameter 1 not found"),
        ("select ?, :a", (1,), "value for parameter :a not found"),
        ("select ?", (1, 2), "too many parameters, expected 1 found 2"),
    ],
)
def test_wrong_arguments_are_told_in_the_words_of_sqld(
    bench: Bench, sql: str, args: tuple[Value, ...], words: str
) -> None:
    assert bench.failure(sql, *args).message == f"Arguments do not match SQL parameters: {words}"


@pytest.mark.parametrize("prefix", ["", ":", "@", "$"])
@pytest.mark.parametrize("written", [":", "@", "$"])
def test_names_match_with_their_prefix_or_without(bench: Bench, prefix: str, written: str) -> None:
    (result,) = bench.run(Execute(Statement(f"select {written}name, 2", named_args=((f"{prefix}name", "x"),))))
    if prefix in {"", written}:
        assert isinstance(result, StatementResult)
        assert result.rows == [("x", 2)]
    else:
        assert isinstance(result, Failure)


def test_positional_arguments_also_fill_named_and_numbered_parameters(bench: Bench) -> None:
    assert bench.rows("select :a, @b, ?4", 1, 2, 3, 4) == [(1, 2, 4)]


@given(
    st.lists(
        st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary(),
        min_size=1,
        max_size=5,
    )
)
def test_values_come_back_as_they_went_in(values: list[Value]) -> None:
    try:
        "".join(value for value in values if isinstance(value, str)).encode()
    except UnicodeEncodeError:
        return
    bench = Bench(apsw.Connection(":memory:"))
    assert bench.rows("select " + ", ".join("?" * len(values)), *values) == [tuple(values)]


def test_text_that_is_not_utf8_is_a_failure_without_effect(bench: Bench) -> None:
    assert bench.failure("select cast(x'ff' as text)").code == "SQLITE_MISMATCH"
    assert bench.failure("insert into t(b) values(1) returning cast(x'ff' as text)").code == "SQLITE_MISMATCH"
    assert bench.rows("select * from t") == []
    assert not bench.connection.in_transaction
    assert bench.rows("select cast(cast(x'ff' as text) as blob)") == [(b"\xff",)]


def test_transactions_and_autocommit(bench: Bench) -> None:
    results = bench.run(
        GetAutocommit(),
        Execute(Statement("begin immediate")),
        GetAutocommit(),
        Execute(Statement("insert into t values(1, 1)")),
        Execute(Statement("savepoint s")),
        Execute(Statement("insert into t values(2, 2)")),
        Execute(Statement("rollback to s")),
        Execute(Statement("release s")),
        Execute(Statement("commit")),
        Execute(Statement("select a from t")),
        Execute(Statement("rollback")),
    )
    assert results[0] == Autocommit(True)
    assert results[2] == Autocommit(False)
    assert isinstance(results[9], StatementResult)
    assert results[9].rows == [(1,)]
    assert isinstance(results[10], Failure)
    assert results[10].message == "SQLite error: cannot rollback - no transaction is active"


OK, FAILS, SKIPPED = "select 1", "select nope", None


@pytest.mark.parametrize(
    ("condition", "runs"),
    [
        (StepOk(0), True),
        (StepOk(1), False),
        (StepOk(2), False),
        (StepError(0), False),
        (StepError(1), True),
        (StepError(2), True),
        (Not(StepOk(0)), False),
        (And(()), True),
        (Or(()), False),
        (And((StepOk(0), StepError(1))), True),
        (And((StepOk(0), StepOk(1))), False),
        (Or((StepOk(1), StepOk(0))), True),
        (IsAutocommit(), True),
        (Not(IsAutocommit()), False),
    ],
)
def test_conditions(bench: Bench, condition: Condition, runs: bool) -> None:
    steps = (
        Step(Statement("select 1")),
        Step(Statement("select nope")),
        Step(Statement("select 1"), StepOk(1)),
        Step(Statement("select 'ran'"), condition),
    )
    (result,) = bench.run(Batch(steps))
    assert isinstance(result, BatchResult)
    assert [len(result.results), len(result.errors)] == [4, 4]
    assert [error is not None for error in result.errors] == [False, True, False, False]
    assert [done is not None for done in result.results] == [True, False, False, runs]


def test_batch_of_a_client_library_rolls_back(bench: Bench) -> None:
    steps = (
        Step(Statement("begin immediate")),
        Step(Statement("insert into t values(1, 'x')"), StepOk(0)),
        Step(Statement("insert into t values(2, 'x')"), StepOk(1)),
        Step(Statement("commit"), StepOk(2)),
        Step(Statement("rollback"), Not(StepOk(3))),
    )
    bench.run(Batch(steps))
    assert not bench.connection.in_transaction
    assert bench.rows("select * from t") == []


def test_sequence_runs_all_and_stops_at_the_first_error(bench: Bench) -> None:
    script = """
    create table log(x); -- one
    create trigger tr after insert on t begin insert into log values(new.a); end;
    insert into t values(1, null);
    """
    assert bench.run(Sequence(script)) == [Done()]
    assert bench.rows("select * from log") == [(1,)]
    (failed,) = bench.run(
        Sequence("insert into t values(2, 2); insert into t values(2, 3); insert into t values(4, 4)")
    )
    assert isinstance(failed, Failure)
    assert failed.extended_code == "SQLITE_CONSTRAINT_PRIMARYKEY"
    assert bench.rows("select a from t") == [(1,), (2,)]
    assert bench.run(Sequence(" -- nothing")) == [Done()]


def test_a_script_with_a_syntax_error_does_nothing(bench: Bench) -> None:
    (failed,) = bench.run(Sequence("insert into t values(1, 2); create table u(x); insert into u values(1); insrt 1"))
    assert isinstance(failed, Failure)
    assert failed.code == "SQL_PARSE_ERROR"
    assert bench.rows("select name from sqlite_master where name = 'u' union all select b from t") == []


def test_a_script_takes_no_arguments(bench: Bench) -> None:
    (failed,) = bench.run(Sequence("insert into t values(1, 2); insert into t values(2, ?)"))
    assert isinstance(failed, Failure)
    assert failed.code == "ARGS_INVALID"
    assert bench.rows("select a from t") == [(1,)]


def test_describe(bench: Bench) -> None:
    (found, failed) = bench.run(Describe("select a from t where b = :x"), Describe("select nope"))
    assert found == Described((":x",), (("a", "INTEGER"),), False, True)
    assert isinstance(failed, Failure)


def test_statements_after_ddl_in_the_same_run_see_it(bench: Bench) -> None:
    bench.rows("select * from t")
    results = bench.run(
        Execute(Statement("alter table t add column c")),
        Execute(Statement("select * from t")),
        Execute(Statement("begin")),
        Execute(Statement("alter table t add column d")),
        Execute(Statement("select * from t")),
        Execute(Statement("rollback")),
        Execute(Statement("select * from t")),
    )
    widths = [len(results[index].columns) for index in (1, 4, 6)]  # type: ignore[union-attr]
    assert widths == [3, 4, 3]


def test_ddl_that_the_owner_rolled_back_is_noticed_by_the_next_run(bench: Bench) -> None:
    bench.connection.execute("begin")
    bench.rows("select * from t")
    bench.connection.execute("savepoint command")
    bench.run(Execute(Statement("alter table t add column c")), Execute(Statement("select * from t")))
    bench.connection.execute("rollback to command")
    result = bench.one("select * from t")
    assert isinstance(result, StatementResult)
    assert len(result.columns) == 2


def test_reader_follows_a_schema_changed_by_another_connection(tmp_path: Path) -> None:
    writer = apsw.Connection(str(tmp_path / "a.db"))
    writer.pragma("journal_mode", "wal")
    writer.execute("create table t(a)")
    reader = apsw.Connection(str(tmp_path / "a.db"), flags=apsw.SQLITE_OPEN_READONLY)
    statements = Statements(reader, options=StatementOptions(schema_changes_elsewhere=True))
    runner, control = Runner(reader, statements, SystemClock()), PlainControl(reader)
    requests = (Execute(Statement("select * from t")), Describe("select * from t"))
    assert runner.run(requests, control)[1] == Described((), (("a", None),), False, True)
    writer.execute("alter table t rename column a to z")
    found, described = runner.run(requests, control)
    assert isinstance(found, StatementResult)
    assert (found.columns, found.rows) == ((("z", None),), [])
    assert described == Described((), (("z", None),), False, True)
    writer.execute("drop table t")
    assert isinstance(runner.run(requests, control)[0], Failure)


# -- time and cancellation ---------------------------------------------------------------------------------------------


class TickingClock(VirtualClock):
    """Goes on by a millisecond at each look."""

    def monotonic(self) -> float:
        self.advance(0.001)
        return super().monotonic()


def test_statement_time_limit_stops_an_endless_select() -> None:
    clock = TickingClock()
    bench = Bench(apsw.Connection(":memory:"), clock, RunnerOptions(statement_time_s=0.05))
    with pytest.raises(Interrupted) as caught:
        bench.one(ENDLESS)
    assert caught.value.limit is Limit.STATEMENT_TIME
    assert bench.rows("select 1") == [(1,)]


def test_budget_stops_a_run_and_rolls_back_its_write() -> None:
    clock = TickingClock()
    bench = Bench(apsw.Connection(":memory:"), clock)
    bench.connection.execute("begin")
    with pytest.raises(Interrupted) as caught:
        bench.runner.run(
            (Execute(Statement(f"insert into t(b) {ENDLESS}")),), bench.control, deadline=clock.monotonic() + 0.05
        )
    assert caught.value.limit is Limit.BUDGET
    assert not bench.connection.in_transaction
    bench.connection.execute("select 1 " + "union all select 1 " * 400).fetchall()


def test_cancellation_is_asked_while_a_statement_runs(bench: Bench) -> None:
    asked = 0

    def is_cancelled() -> bool:
        nonlocal asked
        asked += 1
        return asked > 3

    with pytest.raises(Interrupted) as caught:
        bench.runner.run((Execute(Statement(ENDLESS)),), bench.control, deadline=math.inf, is_cancelled=is_cancelled)
    assert caught.value.is_cancelled
    assert bench.rows("select 2") == [(2,)]


# -- loss of the transaction -------------------------------------------------------------------------------------------


def test_loss_of_the_transaction_is_told_to_the_owner(bench: Bench) -> None:
    bench.connection.execute("insert into t values(1, 'x')")
    with pytest.raises(TransactionLost) as caught:
        bench.run(Execute(Statement("begin")), Execute(Statement("insert or rollback into t values(2, 'x')")))
    assert caught.value.failure.extended_code == "SQLITE_CONSTRAINT_UNIQUE"
    assert not bench.connection.in_transaction


def test_raise_rollback_in_a_trigger_is_a_loss_too(bench: Bench) -> None:
    bench.connection.execute("create trigger tr before insert on t begin select raise(rollback, 'no'); end")
    with pytest.raises(TransactionLost):
        bench.run(Execute(Statement("begin")), Execute(Statement("insert into t values(2, 'x') returning a")))
    assert bench.failure("insert into t values(2, 'x')").message == "SQLite error: no"


def test_owner_may_go_on_after_a_loss_as_sqlite_does(bench: Bench) -> None:
    bench.connection.execute("insert into t values(1, 'x')")
    bench.control = PlainControl(bench.connection, goes_on_after_loss=True)
    results = bench.run(
        Execute(Statement("begin")),
        Execute(Statement("insert or rollback into t values(2, 'x')")),
        GetAutocommit(),
    )
    assert isinstance(results[1], Failure)
    assert results[2] == Autocommit(True)


def test_deferred_constraint_fails_at_commit_and_leaves_the_transaction_open(bench: Bench) -> None:
    bench.connection.execute("pragma foreign_keys=on")
    bench.connection.execute("create table ch(p references t deferrable initially deferred)")
    results = bench.run(
        Execute(Statement("begin")),
        Execute(Statement("insert into ch values(5)")),
        Execute(Statement("commit")),
        GetAutocommit(),
        Execute(Statement("rollback")),
    )
    assert isinstance(results[2], Failure)
    assert results[2].extended_code == "SQLITE_CONSTRAINT_FOREIGNKEY"
    assert results[3] == Autocommit(False)
    failure = bench.failure("insert into ch values(5) returning p")
    assert failure.extended_code == "SQLITE_CONSTRAINT_FOREIGNKEY"
    assert not bench.connection.in_transaction


# -- sizes -------------------------------------------------------------------------------------------------------------


def small(result: int, run: int) -> Bench:
    return Bench(apsw.Connection(":memory:"), options=RunnerOptions(result_bytes_max=result, run_bytes_max=run))


def test_result_over_the_limit_is_refused_early() -> None:
    bench = small(100_000, 1_000_000)
    stepped = 0

    def step(value: int) -> int:
        nonlocal stepped
        stepped += 1
        return value

    bench.connection.create_scalar_function("step", step, 1)
    many = "with recursive n(i) as (select 1 union all select i + 1 from n limit 1000000) select step(i) from n"
    assert bench.failure(many).code == "RESPONSE_TOO_LARGE"
    assert stepped < 10_000
    assert bench.failure("select zeroblob(200000)").code == "RESPONSE_TOO_LARGE"
    assert len(bench.rows("select zeroblob(90000)")) == 1


def test_results_of_a_run_are_limited_together_and_the_next_run_starts_anew() -> None:
    bench = small(100_000, 150_000)
    big = Execute(Statement("select zeroblob(90000)"))
    results = bench.run(big, big, Execute(Statement("select 1")))
    assert [type(result) for result in results] == [StatementResult, Failure, StatementResult]
    assert isinstance(bench.run(big)[0], StatementResult)


def test_too_large_returning_has_no_effect() -> None:
    bench = small(1000, 1000)
    assert bench.failure("insert into t(b) values(zeroblob(5000)) returning b").code == "RESPONSE_TOO_LARGE"
    assert bench.rows("select count(*) from t") == [(0,)]
    assert not bench.connection.in_transaction


@given(st.integers(0, 300))
def test_all_rows_arrive_whatever_their_number(count: int) -> None:
    bench = Bench(apsw.Connection(":memory:"))
    rows = bench.rows(
        "with recursive n(i) as (select 1 union all select i + 1 from n limit ?) select i from n where ? > 0",
        count,
        count,
    )
    assert rows == [(number,) for number in range(1, count + 1)]


# -- settings of the connection, the control ---------------------------------------------------------------------------


def test_settings_last_for_one_run(bench: Bench) -> None:
    bench.connection.pragma("foreign_keys", 1)
    bench.connection.execute("create table ch(p references t)")
    off = Execute(Statement("pragma foreign_keys=off"))
    insert = Execute(Statement("insert into ch values(5)"))
    assert isinstance(bench.run(off, insert)[1], StatementResult)
    assert isinstance(bench.run(insert)[0], Failure)
    assert bench.connection.pragma("foreign_keys") == 1


def test_ignored_pragma_answers_and_changes_nothing(bench: Bench) -> None:
    assert bench.rows("pragma journal_mode=delete") == [("wal",)]
    assert bench.rows("pragma cache_size=-77") == []
    assert bench.connection.pragma("cache_size") != -77


def test_control_is_asked_before_and_told_after(bench: Bench) -> None:
    said: list[str] = []

    class Listening(PlainControl):
        def before(self, info: StatementInfo) -> None:
            said.append(f"before {info.sql}")

        def after(self, info: StatementInfo) -> None:
            said.append(f"after {info.sql}")

    bench.control = Listening(bench.connection)
    bench.run(
        Execute(Statement("begin")),
        Execute(Statement("delete from t")),
        Execute(Statement("insert into t values(null, null, null)")),
        Execute(Statement("pragma synchronous=off")),
        Execute(Statement("select 1")),
        Execute(Statement("commit")),
    )
    assert said == ["before delete from t", "after delete from t", "before select 1"]


def test_what_the_owner_raises_passes_through(bench: Bench) -> None:
    class SoloNeeded(Exception):
        pass

    class Refusing(PlainControl):
        def before(self, info: StatementInfo) -> None:
            raise SoloNeeded

    bench.control = Refusing(bench.connection)
    with pytest.raises(SoloNeeded):
        bench.run(Execute(Statement("vacuum")))
