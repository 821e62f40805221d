"""Counters of each database, and its heaviest and slowest statements: right, bounded, added up."""

import pytest
from service_bench import CLOSE, Node, batch, sql

from pando.sql.statistics import (
    DURATIONS_KEPT,
    QUERIES_KEPT,
    QUERY_CHARS,
    TEXTS_KEPT,
    Counters,
    Query,
    Runs,
    Statistics,
    joined,
    percentile_ms,
)
from pando.store.requests import Execute, Failure, Statement, StatementResult


def ran(statistics, text, *, rows=0, written=0, ms=1.0, database="shop"):
    result = StatementResult((), [(1,)] * rows, affected_row_count=written, duration_ms=ms)
    statistics.note(database, [Execute(Statement(text))], [result])


def test_what_was_run_is_counted():
    statistics = Statistics()
    ran(statistics, "select", rows=3, ms=2.0)
    ran(statistics, "insert", written=2, ms=4.0)
    statistics.note("shop", [Execute(Statement("bad"))], [Failure("no", "SQLITE_ERROR")])
    statistics.note_forwarded("shop")
    found = statistics.of("shop")
    assert (found.queries, found.rows_read, found.rows_written, found.elapsed_ms, found.forwarded) == (2, 3, 2, 6.0, 1)
    assert [query.query for query in found.top] == ["select", "insert"]
    assert [query.query for query in found.slowest] == ["insert", "select"]
    assert statistics.of("other") == Counters()


def test_the_lists_hold_the_worst_run_of_the_worst_texts():
    statistics = Statistics()
    for number in range(100):
        ran(statistics, f"q{number % 50}", rows=number, ms=float(1000 - number))
    found = statistics.of("shop")
    assert [query.rows_read for query in found.top] == list(range(99, 99 - QUERIES_KEPT, -1))
    assert len({query.query for query in found.top}) == QUERIES_KEPT
    assert [query.elapsed_ms for query in found.slowest] == [1000.0 - number for number in range(QUERIES_KEPT)]


def test_texts_are_cut_and_databases_bounded():
    statistics = Statistics(databases_max=2)
    for name in ("a", "b", "c"):
        ran(statistics, "x" * 5000, rows=1, database=name)
    assert statistics.of("a").queries == 0
    assert len(statistics.of("c").top[0].query) == QUERY_CHARS


def test_lists_begin_anew_each_by_itself():
    statistics = Statistics()
    ran(statistics, "select", rows=3)
    statistics.reset("shop", slowest=True)
    assert (len(statistics.of("shop").top), len(statistics.of("shop").slowest)) == (1, 0)
    ran(statistics, "small", rows=0, ms=0.1)
    statistics.reset("shop", slowest=False)
    assert statistics.of("shop").top == []
    assert [query.query for query in statistics.of("shop").slowest] == ["small"]
    statistics.reset("nothing", slowest=True)
    statistics.forget("shop")
    assert statistics.of("shop").queries == 0


def test_runs_are_counted_by_statement_and_those_that_come_often_take_a_place():
    statistics = Statistics()
    ran(statistics, "x" * (QUERY_CHARS + 1), rows=1)
    for number in range(TEXTS_KEPT + 5):
        ran(statistics, f"once {number}", rows=1, ms=1.0 + number)
    for _ in range(100):
        ran(statistics, "often", rows=2, written=1, ms=3.0)
    found = statistics.of("shop")
    runs = {each.query: each for each in found.runs}
    assert len(runs) == TEXTS_KEPT
    assert "once 0" not in runs  # the least one
    assert 0 < runs["often"].count < 100
    assert runs["often"].rows_read == 2 * runs["often"].count
    assert (found.queries, found.rows_read, found.rows_written) == (TEXTS_KEPT + 106, TEXTS_KEPT + 206, 100)


def test_durations_are_those_of_the_last_statements():
    statistics = Statistics()
    for number in range(DURATIONS_KEPT + 10):
        ran(statistics, "select", ms=float(number))
    assert statistics.of("shop").durations_ms == [float(number) for number in range(10, DURATIONS_KEPT + 10)]


def test_percentiles_are_durations_that_so_many_do_not_exceed():
    hundred = [float(number) for number in range(1, 101)]
    assert [percentile_ms(hundred, part) for part in (0.5, 0.75, 0.9, 0.99, 0.999)] == [50.0, 75.0, 90.0, 99.0, 100.0]
    assert percentile_ms([7.0], 0.5) == percentile_ms([7.0], 0.999) == 7.0
    assert percentile_ms([], 0.5) == 0.0


def test_processes_are_added_up():
    one = Counters(queries=1, rows_read=2, top=[Query("a", 2, 0, 1.0)], slowest=[Query("a", 2, 0, 1.0)])
    two = Counters(queries=3, rows_written=5, forwarded=1, top=[Query("b", 0, 5, 9.0), Query("a", 4, 0, 2.0)])
    one.runs, two.runs = [Runs("a", 1, 2, 0, 1.0), Runs("c", 1)], [Runs("b", 1, 0, 5, 9.0), Runs("a", 2, 4, 0, 2.0)]
    one.durations_ms, two.durations_ms = [1.0], [9.0, 1.0]
    total = joined([one, two])
    assert total.runs == [Runs("b", 1, 0, 5, 9.0), Runs("a", 3, 6, 0, 3.0), Runs("c", 1)]
    assert sorted(total.durations_ms) == [1.0, 1.0, 9.0]
    assert one.runs[0].count == 1
    assert (total.queries, total.rows_read, total.rows_written, total.forwarded) == (4, 2, 5, 1)
    assert [(query.query, query.rows_read) for query in total.top] == [("b", 0), ("a", 4)]


@pytest.mark.parametrize("is_primary", [True, False])
def test_pipelines_are_counted_wherever_they_run(tmp_path, is_primary):
    node = Node(tmp_path, is_primary=is_primary)
    node(sql("select a from t"), CLOSE)
    node(batch("insert into t values (2, 'x')", "select * from t"), CLOSE)
    begun = node(sql("begin immediate"))
    assert node.service.describe_streams(10) == [
        f"stream of data by baton: transaction: a transaction on the primary, idle for {0.0:.1f} s"
    ]
    node(sql("commit"), CLOSE, baton=begun.baton)
    found = node.service.statistics.of("data")
    node.close()
    assert (found.queries, found.rows_written) == (5, 1)
    assert found.forwarded == (0 if is_primary else 3)
    assert {"select a from t", "insert into t values (2, 'x')"} <= {query.query for query in found.top}
