from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando import limits
from pando.sql.answers import encode_answer, encode_base64, encode_stateless
from pando.sql.messages import (
    CONDITION_DEPTH_MAX,
    HranaProtocolError,
    decode_base64,
    decode_pipeline,
    decode_stateless,
    replication_index,
    sql_ids,
    to_request,
)
from pando.store import requests as store
from pando.store.requests import Failure, Result, Statement, StatementResult, Value


def pipeline(*requests: object, baton: str | None = None) -> bytes:
    return json.dumps({"baton": baton, "requests": requests}).encode()


def one(request: object, stored: dict[int, str] | None = None) -> store.Request:
    return to_request(decode_pipeline(pipeline(request)).requests[0], stored or {})


def execute(**stmt: object) -> dict[str, object]:
    return {"type": "execute", "stmt": stmt}


def statement(**stmt: object) -> Statement:
    request = one(execute(**stmt), {1: "select 'stored'"})
    assert isinstance(request, store.Execute)
    return request.statement


def answer(*results: Result | str, **rest: Any) -> Any:
    return msgspec.json.decode(encode_answer(results, **({"baton": None} | rest)))


def result(*results: Result | str, **rest: Any) -> Any:
    return answer(*results, **rest)["results"][0]


# -- requests ---------------------------------------------------------------------------------------------------------


def test_statement_with_everything() -> None:
    found = statement(
        sql="select ?",
        args=[
            {"type": "null"},
            {"type": "integer", "value": "-9223372036854775808"},
            {"type": "float", "value": 1},
            {"value": "é\u0000", "type": "text"},
            {"type": "blob", "base64": "AP8="},
            {"type": "blob", "base64": "AP8"},
        ],
        want_rows=False,
        unknown_field={"is": "ignored"},
    )
    assert found == Statement("select ?", (None, -(2**63), 1.0, "é\0", b"\0\xff", b"\0\xff"), (), False)


def test_named_arguments_and_stored_text() -> None:
    found = statement(sql_id=1, named_args=[{"name": ":a", "value": {"type": "text", "value": "x"}}], args=[])
    assert found == Statement("select 'stored'", (), ((":a", "x"),), True)


@pytest.mark.parametrize("missing", [{"args": None}, {"named_args": None}, {"want_rows": None}, {"sql_id": None}, {}])
def test_null_means_absent(missing: dict[str, None]) -> None:
    assert statement(sql="select 1", **missing) == Statement("select 1")


def test_a_float_that_json_cannot_write_is_refused() -> None:
    with pytest.raises(HranaProtocolError, match="Expected `float`, got `null`"):
        statement(sql="select ?", args=[{"type": "float", "value": None}])


@pytest.mark.parametrize(
    "stmt",
    [
        {},
        {"sql": "select 1", "sql_id": 1},
        {"sql_id": 2},
        {"sql": 5},
        {"sql": "select ?", "args": [{"type": "integer", "value": 5}]},
        {"sql": "select ?", "args": [{"type": "integer", "value": "9223372036854775808"}]},
        {"sql": "select ?", "args": [{"type": "integer", "value": "1_0"}]},
        {"sql": "select ?", "args": [{"type": "integer", "value": ""}]},
        {"sql": "select ?", "args": [{"type": "integer", "value": "٣"}]},
        {"sql": "select ?", "args": [{"type": "blob", "base64": "A"}]},
        {"sql": "select ?", "args": [{"type": "blob", "base64": "A*=="}]},
        {"sql": "select ?", "args": [{"type": "blob", "base64": "é==="}]},
        {"sql": "select ?", "args": [{"type": "date", "value": "x"}]},
        {"sql": "select ?", "args": [{"value": "x"}]},
    ],
)
def test_broken_statement_is_a_protocol_error(stmt: dict[str, object]) -> None:
    with pytest.raises(HranaProtocolError):
        statement(**stmt)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"baton": null}',
        b'{"requests": {}}',
        b'{"requests": [{"type": "explode"}]}',
        b'{"requests": [{"stmt": {"sql": "select 1"}}]}',
        b'{"requests": [], "baton": 5}',
        b'{"requests": [{"type": "execute", "stmt": {"sql": "\xff"}}]}',
        b'{"requests": [{"type": "execute", "stmt": {"sql": "\\ud800"}}]}',
        b"[" * 100_000,
        b'{"requests": [{"type": "batch", "batch": {"steps": [' + b'{"condition":{"type":"not","cond":' * 5000,
    ],
)
def test_broken_body_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(HranaProtocolError):
        decode_pipeline(body)


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    try:
        decode_pipeline(body)
    except HranaProtocolError:
        return
    assert json.loads(body)["requests"] == []


def test_too_many_requests_are_refused() -> None:
    body = pipeline(*[{"type": "close"}] * (limits.PIPELINE_REQUESTS_MAX + 1))
    with pytest.raises(HranaProtocolError, match="at most"):
        decode_pipeline(body)


def test_batch_with_conditions() -> None:
    request = one(
        {
            "type": "batch",
            "batch": {
                "steps": [
                    {"stmt": {"sql": "begin"}},
                    {"stmt": {"sql": "a"}, "condition": {"type": "ok", "step": 0}},
                    {
                        "stmt": {"sql": "b"},
                        "condition": {
                            "type": "and",
                            "conds": [
                                {"type": "not", "cond": {"type": "error", "step": 1}},
                                {"type": "or", "conds": []},
                                {"type": "is_autocommit"},
                            ],
                        },
                    },
                    {"stmt": {"sql": "c"}, "condition": None},
                ]
            },
        }
    )
    assert request == store.Batch(
        (
            store.Step(Statement("begin")),
            store.Step(Statement("a"), store.StepOk(0)),
            store.Step(
                Statement("b"),
                store.And((store.Not(store.StepError(1)), store.Or(()), store.IsAutocommit())),
            ),
            store.Step(Statement("c")),
        )
    )


def nested(depth: int) -> dict[str, object]:
    condition: dict[str, object] = {"type": "is_autocommit"}
    for _ in range(depth):
        condition = {"type": "not", "cond": condition}
    return {"type": "batch", "batch": {"steps": [{"stmt": {"sql": "a"}, "condition": condition}]}}


def test_depth_of_conditions_is_bounded() -> None:
    one(nested(CONDITION_DEPTH_MAX))
    with pytest.raises(HranaProtocolError, match="deep"):
        one(nested(CONDITION_DEPTH_MAX + 1))


@pytest.mark.parametrize("step", [1, 2, -1])
def test_condition_may_name_earlier_steps_only(step: int) -> None:
    steps = [{"stmt": {"sql": "a"}}, {"stmt": {"sql": "b"}, "condition": {"type": "ok", "step": step}}]
    with pytest.raises(HranaProtocolError, match="step"):
        one({"type": "batch", "batch": {"steps": steps}})


@pytest.mark.parametrize("index", ["17", 17])
def test_replication_index_is_text_or_number(index: str | int) -> None:
    body = pipeline(
        execute(sql="a", replication_index=index),
        {"type": "batch", "batch": {"steps": [{"stmt": {"sql": "a", "replication_index": index}}]}},
        {"type": "batch", "batch": {"steps": [], "replication_index": index}},
        {"type": "sequence", "sql": "a", "replication_index": index},
        {"type": "describe", "sql": "a", "replication_index": index},
        {"type": "close"},
    )
    assert [replication_index(wire) for wire in decode_pipeline(body).requests] == [17, 17, 17, 17, 17, 0]


@pytest.mark.parametrize("index", ["x", "-1", -1, str(1 << 64)])
def test_wrong_replication_index(index: str | int) -> None:
    with pytest.raises(HranaProtocolError):
        replication_index(decode_pipeline(pipeline(execute(sql="a", replication_index=index))).requests[0])


def test_other_requests_and_ids_of_stored_texts() -> None:
    body = pipeline(
        {"type": "sequence", "sql_id": 1},
        {"type": "describe", "sql": "x"},
        {"type": "get_autocommit"},
        execute(sql_id=3),
        {"type": "batch", "batch": {"steps": [{"stmt": {"sql_id": 4}}, {"stmt": {"sql": "a"}}]}},
    )
    wires = decode_pipeline(body).requests
    assert [sql_ids(wire) for wire in wires] == [[1], [], [], [3], [4]]
    assert [to_request(wire, {1: "one"}) for wire in wires[:3]] == [
        store.Sequence("one"),
        store.Describe("x"),
        store.GetAutocommit(),
    ]
    with pytest.raises(HranaProtocolError, match="SQL text 3 not found"):
        to_request(wires[3], {1: "one"})


@given(st.binary(max_size=50))
def test_base64_round_trip_with_and_without_padding(data: bytes) -> None:
    text = encode_base64(data)
    assert "=" not in text
    assert decode_base64(text) == data
    assert decode_base64(text + "=" * (-len(text) % 4)) == data


# -- results ----------------------------------------------------------------------------------------------------------


def test_rows() -> None:
    rows = StatementResult((("a", "INTEGER"), (None, None)), [(1, None), (-(2**63), 'é"\n\0')], 2, 2**63 - 1, 3, 4, 1.5)
    assert result(rows, txid=17) == {
        "type": "ok",
        "response": {
            "type": "execute",
            "result": {
                "cols": [{"name": "a", "decltype": "INTEGER"}, {"name": None, "decltype": None}],
                "rows": [
                    [{"type": "integer", "value": "1"}, {"type": "null"}],
                    [{"type": "integer", "value": "-9223372036854775808"}, {"type": "text", "value": 'é"\n\0'}],
                ],
                "affected_row_count": 2,
                "last_insert_rowid": "9223372036854775807",
                "replication_index": "17",
                "rows_read": 3,
                "rows_written": 4,
                "query_duration_ms": 1.5,
            },
        },
    }


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_non_finite_float_is_json_null(value: float) -> None:
    body = encode_answer([StatementResult((("a", None),), [(value,)])], baton=None)
    assert b"Infinity" not in body
    assert b"NaN" not in body
    assert b'{"type":"float","value":null}' in body


def test_answer_has_baton_and_base_url() -> None:
    assert answer(baton="abc", base_url="http://x") == {"baton": "abc", "base_url": "http://x", "results": []}
    assert answer() == {"baton": None, "base_url": None, "results": []}


def test_other_results() -> None:
    found = answer(
        "close",
        "store_sql",
        "close_sql",
        store.Done(),
        store.Autocommit(False),
        Failure("m", "c"),
        Failure("m", "c", "e"),
        store.Described((":a", None), (("x", "TEXT"),), False, True),
    )["results"]
    assert [entry.get("response", entry.get("error")) for entry in found] == [
        {"type": "close"},
        {"type": "store_sql"},
        {"type": "close_sql"},
        {"type": "sequence"},
        {"type": "get_autocommit", "is_autocommit": False},
        {"message": "m", "code": "c"},
        {"message": "m", "code": "c", "extended_code": "e"},
        {
            "type": "describe",
            "result": {
                "params": [{"name": ":a"}, {"name": None}],
                "cols": [{"name": "x", "decltype": "TEXT"}],
                "is_explain": False,
                "is_readonly": True,
            },
        },
    ]
    assert [entry["type"] for entry in found] == ["ok"] * 5 + ["error"] * 2 + ["ok"]


def test_batch_result() -> None:
    batch = store.BatchResult([StatementResult((), []), None, None], [None, Failure("m", "c"), None])
    body = result(batch, txid=5)["response"]["result"]
    assert [step is not None for step in body["step_results"]] == [True, False, False]
    assert body["step_errors"] == [None, {"message": "m", "code": "c"}, None]
    assert body["replication_index"] == "5"


VALUES = (
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)


@given(st.lists(st.lists(VALUES, max_size=4).map(tuple), max_size=5))
def test_values_survive_both_ways(rows: list[tuple[Value, ...]]) -> None:
    encoded = result(StatementResult((), rows))["response"]["result"]["rows"]
    back = [statement(sql="x", args=row).args for row in encoded]
    assert back == rows
    assert [list(map(type, row)) for row in back] == [list(map(type, row)) for row in rows]


@given(st.lists(st.lists(VALUES, max_size=4).map(tuple), max_size=5))
def test_requests_and_results_survive_the_link(rows: list[tuple[Value, ...]]) -> None:
    for value, kind in [
        (StatementResult((("a", None),), rows), StatementResult),
        (store.Execute(Statement("x", rows[0] if rows else ())), store.Request),
    ]:
        assert msgspec.msgpack.decode(msgspec.msgpack.encode(value), type=kind) == value


# -- Hrana 1 over HTTP ------------------------------------------------------------------------------------------------


def test_stateless() -> None:
    body = decode_stateless(b'{"stmt": {"sql": "select 1"}}', is_batch=False)
    assert to_request(body.requests[0], {}) == store.Execute(Statement("select 1"))
    assert len(body.requests) == 2
    body = decode_stateless(b'{"batch": {"steps": []}}', is_batch=True)
    assert to_request(body.requests[0], {}) == store.Batch(())
    assert json.loads(encode_stateless([StatementResult((), [(1,)]), "close"]))["result"]["rows"] == [
        [{"type": "integer", "value": "1"}]
    ]
    with pytest.raises(HranaProtocolError):
        decode_stateless(b'{"batch": {"steps": []}}', is_batch=False)
