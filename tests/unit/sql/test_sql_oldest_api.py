from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import CallerError
from pando.sql.messages import BatchRequest, to_request
from pando.sql.oldest_api import QueryRefused, StatementList, Unreadable, batch_of, decode_statements, encode_results
from pando.store.requests import Batch, BatchResult, Done, Failure, StatementResult


def decoded(*statements: object) -> StatementList:
    return decode_statements(json.dumps({"statements": statements}).encode())


def batch(*statements: object) -> Batch:
    request = to_request(BatchRequest(decoded(*statements).batch), {})
    assert isinstance(request, Batch)
    return request


def texts(*statements: object) -> list[str]:
    return [step.statement.sql for step in batch(*statements).steps]


# -- in ---------------------------------------------------------------------------------------------------------------


def test_one_statement_needs_no_transaction() -> None:
    assert texts("select 1") == ["select 1"]
    assert texts("vacuum") == ["vacuum"]


def test_several_statements_are_a_transaction() -> None:
    found = batch("insert into t values(1)", "select 1")
    assert [step.statement.sql for step in found.steps] == [
        *("BEGIN", "insert into t values(1)", "select 1", "COMMIT", "ROLLBACK"),
    ]
    assert [step.condition is None for step in found.steps] == [True, False, False, False, False]


def test_lists_with_transactions_of_their_own_run_as_they_stand() -> None:
    own = ["begin immediate", "insert into t values(1)", "/* x */ commit", "select 1"]
    assert texts(*own) == [*own, "ROLLBACK"]
    assert texts("begin", "select 1", "rollback") == ["begin", "select 1", "rollback", "ROLLBACK"]


def test_nothing_to_do() -> None:
    assert texts() == []


def test_parameters_by_place_and_by_name() -> None:
    (first, second) = batch(
        {"q": "select ?, ?, ?, ?, ?", "params": [1, 2.5, "x", None, True]},
        {"q": "select :a, $b", "params": {":a": {"base64": "AAE"}, "$b": -1}},
    ).steps[1:3]
    assert first.statement.args == (1, 2.5, "x", None, 1)
    assert second.statement.named_args == ((":a", b"\x00\x01"), ("$b", -1))


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        (["begin"], "interactive transaction not allowed"),
        (["begin", "commit", "BEGIN IMMEDIATE", "select 1"], "interactive transaction not allowed"),
        (["savepoint a", "select 1", "release a"], "savepoints are not supported"),
        (["begin", "rollback to a", "commit"], "savepoints are not supported"),
        (["select 1; select 2"], "more than one command"),
        (["select 1"] * 9_998, "9998 statements"),
    ],
)
def test_what_is_refused_as_a_whole(statements: list[str], words: str) -> None:
    with pytest.raises(QueryRefused, match=words) as caught:
        decoded(*statements)
    assert caught.value.status == 400


@pytest.mark.parametrize(
    "statements", [["commit"], ["begin", "begin"], ["rollback", "begin"], ["select 1; -- x"], [""]]
)
def test_what_sqlite_shall_judge(statements: list[str]) -> None:
    assert decoded(*statements).texts == tuple(statements)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{", 400),
        (b"", 400),
        (b"\xff", 400),
        (b"{}", 422),
        (b"[]", 422),
        (b'{"statements":[1]}', 422),
        (b'{"statements":[{"q":"select ?","params":"x"}]}', 422),
        (b'{"statements":[{"q":"select ?","params":[[1]]}]}', 422),
        (b'{"statements":[{"q":"select ?","params":[{"base64":"#"}]}]}', 422),
        (b'{"statements":[{"q":"select ?","params":[{"base64":"AA","more":1}]}]}', 422),
        (b'{"statements":[{"q":"select ?","params":[9223372036854775808]}]}', 422),
    ],
)
def test_what_cannot_be_read(body: bytes, status: int) -> None:
    with pytest.raises(Unreadable) as caught:
        decode_statements(body)
    assert caught.value.status == status


# -- out --------------------------------------------------------------------------------------------------------------

ROW = StatementResult((("a", "TEXT"), (None, None)), [(1, b"\x00")], 1, 7, 2, 3, 0.5)
NO = Failure("SQLite error: UNIQUE constraint failed: t.a", "SQLITE_CONSTRAINT")


def results(asked: StatementList, *found: StatementResult | Failure | None) -> Any:
    rows = [each if isinstance(each, StatementResult) else None for each in found]
    failures = [each if isinstance(each, Failure) else None for each in found]
    return json.loads(encode_results(asked, BatchResult(rows, failures)))


def test_results_are_plain() -> None:
    assert results(decoded("select 1"), ROW) == [
        {
            "results": {
                "columns": ["a", ""],
                "rows": [[1, {"base64": "AA"}]],
                "rows_read": 2,
                "rows_written": 3,
                "query_duration_ms": 0.5,
            }
        }
    ]


def test_infinite_numbers_are_null() -> None:
    row = StatementResult((("a", None),), [(math.inf,)])
    assert results(decoded("select 1"), row)[0]["results"]["rows"] == [[None]]


def test_after_a_failure_comes_nothing() -> None:
    found = results(decoded("a", "b", "c"), ROW, ROW, NO, None, None, ROW)
    assert [found[0].keys(), *found[1:]] == [{"results"}, {"error": "UNIQUE constraint failed: t.a"}, None]


def test_transaction_that_cannot_be_ended_is_a_failure() -> None:
    found = results(decoded("a", "b"), ROW, ROW, ROW, Failure("SQLite error: deferred", "SQLITE_CONSTRAINT"), ROW)
    assert (found[0].keys(), found[1]) == ({"results"}, {"error": "deferred"})
    assert results(decoded("a", "b"), NO, None, None, None, None)[0] == {"error": "UNIQUE constraint failed: t.a"}


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("SQL input error: no such column: nope (at offset 7)", "no such column: nope in select nope at offset 7"),
        (
            "Arguments do not match SQL parameters: value for parameter 1 not found",
            "LibSQL failed to bind provided query parameters: `value for parameter 1 not found`",
        ),
        ("SQL string does not contain any statement", "SQL string does not contain any statement"),
    ],
)
def test_failures_in_the_words_of_this_api(message: str, shown: str) -> None:
    assert results(decoded("select nope"), Failure(message, "X")) == [{"error": shown}]


def test_only_a_batch_has_results() -> None:
    assert batch_of(BatchResult([], [])) == BatchResult([], [])
    with pytest.raises(Exception, match="batch"):
        batch_of(Done())


@pytest.mark.slow
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda x: st.lists(x) | st.dictionaries(st.sampled_from(["statements", "q", "params", "base64"]), x),
    )
)
def test_any_json_is_read_or_refused(body: object) -> None:
    try:
        decode_statements(json.dumps(body).encode())
    except CallerError as error:
        assert error.status in (400, 422)
