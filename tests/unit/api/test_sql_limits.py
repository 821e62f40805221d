"""Every limit of SQL, hit over HTTP and over WebSocket: a code of its own, a text that says how much is allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sql_world import World

from pando import limits
from pando.sql.messages import CONDITION_DEPTH_MAX


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    world = World(tmp_path_factory.mktemp("limits"), "create table t(a, b); insert into t values(1, zeroblob(9000000))")
    yield world
    world.close()


def execute(sql: str, *args: object) -> dict[str, Any]:
    return {"type": "execute", "stmt": {"sql": sql, "args": list(args)}}


NULL = {"type": "null"}
COLUMNS = ", ".join(f"c{n}" for n in range(2001))
JOINS = ", ".join(f"t t{n}" for n in range(65))

STATEMENTS = {
    "text": (execute("select '" + "x" * limits.SQL_SIZE_BYTES_MAX + "'"), "SQL_PARSE_ERROR", "1048576"),
    "value": (execute(f"select zeroblob({limits.VALUE_SIZE_BYTES_MAX + 1})"), "SQLITE_TOOBIG", "too big"),
    "row": (execute("select b, b, b from t"), "RESPONSE_TOO_LARGE", "10485760"),
    "arguments": (execute("select 1", *[NULL] * 40_000), "ARGS_INVALID", "expected 0 found 40000"),
    "parameters": (execute("select ?32767", NULL), "SQL_INPUT_ERROR", "32766"),
    "columns of a table": (execute(f"create table wide({COLUMNS})"), "SQLITE_ERROR", "too many columns"),
    "columns of a result": (execute("select " + "1," * 2001 + "1"), "SQLITE_ERROR", "too many columns"),
    "depth of an expression": (execute("select 1 where " + "not " * 1200 + "1"), "SQLITE_ERROR", "1000"),
    "compound": (execute("select 1" + " union all select 1" * 500), "SQLITE_ERROR", "too many terms"),
    "arguments of a function": (execute("select max(" + "1," * 1001 + "1)"), "SQL_INPUT_ERROR", "too many arguments"),
    "joined tables": (execute(f"select 1 from {JOINS}"), "SQLITE_ERROR", "64"),
    "pattern": (execute("select 'a' like printf('%.*c', 50001, 'x')"), "SQLITE_ERROR", "pattern too complex"),
    "another file": (execute("attach 'x' as y"), "SQLITE_AUTH", "one database only"),
    "temporary": (execute("create temp table y(a)"), "SQLITE_AUTH", "shared"),
}


@pytest.mark.parametrize("name", STATEMENTS)
@pytest.mark.parametrize("way", ["http", "websocket"])
def test_limits_of_a_statement(world: World, name: str, way: str) -> None:
    request, code, words = STATEMENTS[name]
    if way == "http":
        said = world.pipeline(request, {"type": "close"})
        assert said.status == 200
        error = said.json["results"][0]["error"]
    else:
        (answer,) = world.over_websocket(request)
        error = answer["error"]
    assert error["code"] == code
    assert words in error["message"]
    assert len(error["message"]) < 400
    assert world.is_at_rest()


def steps(count: int, condition: object = None) -> dict[str, Any]:
    step: dict[str, Any] = {"stmt": {"sql": "select 1"}}
    return {"type": "batch", "batch": {"steps": [step] * (count - 1) + [{**step, "condition": condition}]}}


def nested(depth: int) -> object:
    condition: object = {"type": "is_autocommit"}
    for _ in range(depth):
        condition = {"type": "not", "cond": condition}
    return condition


PROTOCOL = {
    "steps": (steps(limits.PIPELINE_REQUESTS_MAX + 1), b"10000"),
    "conditions": (steps(1, nested(CONDITION_DEPTH_MAX + 1)), b"100 deep"),
    "integer": (execute("select ?", {"type": "integer", "value": str(1 << 63)}), b"64 bits"),
}


@pytest.mark.parametrize("name", PROTOCOL)
def test_limits_of_the_protocol(world: World, name: str) -> None:
    request, words = PROTOCOL[name]
    said = world.pipeline(request)
    assert said.status == 400
    assert words in said.body
    frames = [{"type": "hello", "jwt": None}, {"type": "request", "request_id": 1, "request": {**request}}]
    frames[1]["request"]["stream_id"] = 1  # type: ignore[index]
    opened = {"type": "request", "request_id": 0, "request": {"type": "open_stream", "stream_id": 1}}
    _, code = world.talk(*map(json.dumps, [frames[0], opened, frames[1]]), answers=9)
    assert code == 1008
    assert world.is_at_rest()


def test_requests_of_a_pipeline(world: World) -> None:
    said = world.pipeline(*[{"type": "get_autocommit"}] * (limits.PIPELINE_REQUESTS_MAX + 1))
    assert (said.status, b"10000" in said.body) == (400, True)


def test_size_of_a_body(world: World) -> None:
    said = world.post(b" " * (limits.BODY_SIZE_BYTES_MAX + 1))
    assert (said.status, said.json["code"]) == (413, "REQUEST_TOO_LARGE")
    assert str(limits.BODY_SIZE_BYTES_MAX) in said.json["message"]


@pytest.mark.slow
def test_rows_of_a_pipeline_together(world: World) -> None:
    said = world.pipeline(*[execute("select b from t")] * 4, {"type": "close"})
    codes = [result.get("error", {}).get("code") for result in said.json["results"]]
    assert codes == [None, None, None, "RESPONSE_TOO_LARGE", None]


def stored(number: int, sql: str = "select 1") -> dict[str, Any]:
    return {"type": "store_sql", "sql_id": number, "sql": sql}


STORED = {
    "one": ([stored(1, "x" * (limits.SQL_SIZE_BYTES_MAX + 1))], "SQL_STORE_TOO_LARGE", "1048576"),
    "together": ([stored(n, "x" * 1_000_000) for n in range(5)], "SQL_STORE_TOO_LARGE", "4194304"),
    "number": ([stored(n) for n in range(limits.STORED_SQL_MAX + 1)], "SQL_STORE_TOO_MANY", "150"),
}


@pytest.mark.parametrize("name", STORED)
def test_stored_texts(world: World, name: str) -> None:
    requests, code, words = STORED[name]
    last = requests[-1]["sql_id"]
    said = world.pipeline(*requests, {"type": "execute", "stmt": {"sql_id": last}}, {"type": "close"})
    over_http = [result["error"] for result in said.json["results"] if result["type"] == "error"]
    answers = world.over_websocket(*requests, {"type": "execute", "stmt": {"sql_id": last}})
    over_websocket = [answer["error"] for answer in answers if answer["type"] == "response_error"]
    for errors in (over_http, over_websocket):
        assert [error["code"] for error in errors] == [code, code]
        assert words in errors[0]["message"]
    assert world.is_at_rest()


def test_streams_of_a_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_MAX", 1)
    baton = world.pipeline(execute("begin immediate")).json["baton"]
    said = world.pipeline(stored(1))
    assert (said.status, said.json["code"]) == (503, "OVERLOADED")
    assert world.pipeline({"type": "close"}, baton=baton).status == 200
    assert world.is_at_rest()


def test_read_transactions_of_a_process(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_TRANSACTIONS_MAX", 0)
    said = world.pipeline(execute("begin readonly"), execute("select 1"))
    assert (said.status, said.json["code"]) == (503, "OVERLOADED")
    assert world.is_at_rest()


def test_time_of_a_statement(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
    reads = world.service._runs.pool.ready("data")
    assert reads is not None
    monkeypatch.setattr(reads.inline.runner, "_statement_time_s", 0.0)
    said = world.pipeline(execute(endless), {"type": "close"})
    assert (said.status, said.json["code"]) == (408, "STATEMENT_TIMEOUT")
    assert "setting statement_time_s" in said.json["message"]
    (answer,) = world.over_websocket(execute(endless))
    assert answer["error"]["code"] == "STATEMENT_TIMEOUT"
    assert world.is_at_rest()


def test_a_stream_without_requests_is_forgotten_and_its_client_told(world: World) -> None:
    said = world.pipeline(execute("begin immediate"))
    world.clock.ahead += limits.STREAM_IDLE_S + 1
    world.service.sweep()
    assert world.is_at_rest()
    told = world.pipeline(execute("commit"), baton=said.json["baton"])
    assert (told.status, told.json["code"]) == (400, "STREAM_EXPIRED")
