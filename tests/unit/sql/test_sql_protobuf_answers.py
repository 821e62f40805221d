from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.sql.answers import encode_answer
from pando.sql.calls import CursorAnswer
from pando.sql.cursors import json_entries
from pando.sql.http_encodings import CHUNK_BYTES, JSON, PROTOBUF, HttpEncoding, cursor_chunks
from pando.sql.protobuf_answers import (
    HELLO_OK_PROTOBUF,
    encode_answer_protobuf,
    encode_fetched_protobuf,
    encode_hello_error_protobuf,
    encode_response_protobuf,
    protobuf_entries,
)
from pando.sql.ws_messages import encode_response
from pando.store.requests import Autocommit, BatchResult, Described, Done, Failure, Result, StatementResult
from pando.testing import protobuf_kit as kit
from pando.types import TXID, Bookmark, Epoch

TEXTS = st.text(st.characters(codec="utf-8"), max_size=10)
INT64 = st.integers(-(1 << 63), (1 << 63) - 1)
VALUES = st.one_of(st.none(), INT64, st.floats(allow_nan=False, allow_infinity=False), TEXTS, st.binary(max_size=10))
COLUMNS = st.lists(st.tuples(st.none() | TEXTS, st.none() | TEXTS), max_size=3).map(tuple)
COUNTS = st.integers(0, 1 << 40)
ROWS = st.builds(
    StatementResult,
    COLUMNS,
    st.lists(st.lists(VALUES, max_size=3).map(tuple), max_size=3),
    COUNTS,
    st.none() | INT64,
    COUNTS,
    COUNTS,
    st.floats(0, 1e6),
)
FAILURES = st.builds(Failure, TEXTS, TEXTS)
STEPS = st.lists(st.one_of(ROWS, FAILURES, st.none()), max_size=4)


def batch(steps: list[Any]) -> BatchResult:
    return BatchResult(
        [each if isinstance(each, StatementResult) else None for each in steps],
        [each if isinstance(each, Failure) else None for each in steps],
    )


NAMED = st.lists(st.tuples(TEXTS, st.none() | TEXTS), max_size=3).map(tuple)
RESULTS: st.SearchStrategy[Result | str] = st.one_of(
    ROWS,
    STEPS.map(batch),
    st.builds(Described, st.lists(st.none() | TEXTS, max_size=3).map(tuple), NAMED, st.booleans(), st.booleans()),
    st.just(Done()),
    st.builds(Autocommit, st.booleans()),
    FAILURES,
    st.sampled_from(["close", "store_sql", "close_sql"]),
)
WS_RESULTS = RESULTS.filter(lambda result: result != "close")
TXIDS = st.none() | st.integers(1, (1 << 63) - 1)


def steps_of(result: object) -> int:
    return len(result.results) if isinstance(result, BatchResult) else 0


def without_index(response: dict[str, Any]) -> dict[str, Any]:
    """The index of a whole batch is in JSON only."""
    if response["type"] == "batch":
        response["result"].pop("replication_index", None)
    return response


@pytest.mark.slow
@given(st.lists(RESULTS, max_size=3), st.none() | TEXTS, TXIDS)
def test_answers_say_the_same_as_in_json(results: list[Result | str], baton: str | None, txid: int | None) -> None:
    written = encode_answer_protobuf(results, baton=baton, base_url="http://a", txid=txid)
    message = kit.read("PipelineAnswer", written)
    found = []
    for result, each in zip(results, message["results"], strict=True):
        if "error" in each:
            found.append({"type": "error", "error": each["error"]})
        else:
            found.append({"type": "ok", "response": kit.json_response(each["ok"], steps_of(result))})
    expected = json.loads(encode_answer(results, baton=baton, base_url="http://a", txid=txid))
    for each in expected["results"]:
        without_index(each.get("response", {"type": ""}))
    assert {"baton": message.get("baton"), "base_url": message["base_url"], "results": found} == expected


@pytest.mark.slow
@given(st.integers(-(1 << 31), (1 << 31) - 1), WS_RESULTS, TXIDS)
def test_responses_say_the_same_as_in_json(number: int, result: Result | str, txid: int | None) -> None:
    message = kit.read("ServerMessage", encode_response_protobuf(number, result, txid))
    expected = json.loads(encode_response(number, result, txid))
    ((kind, held),) = message.items()
    assert held.pop("request_id", 0) == number
    if kind == "response_error":
        assert expected == {"type": kind, "request_id": number, "error": held["error"]}
    else:
        response = kit.json_response(held, steps_of(result))
        assert {"type": kind, "request_id": number, "response": response} == {
            **expected,
            "response": without_index(expected["response"]),
        }


@pytest.mark.slow
@given(STEPS)
def test_entries_say_the_same_as_in_json(steps: list[Any]) -> None:
    ours = [kit.json_entry(kit.read("CursorEntry", entry)) for entry in protobuf_entries(batch(steps))]
    assert ours == [json.loads(entry) for entry in json_entries(batch(steps))]


@pytest.mark.parametrize("value", [math.inf, -math.inf])
def test_infinite_numbers_stay_what_json_cannot_write(value: float) -> None:
    result = StatementResult((("a", None),), [(value,)])
    message = kit.read("PipelineAnswer", encode_answer_protobuf([result], baton=None))
    assert message["results"][0]["ok"]["execute"]["result"]["rows"] == [{"values": [{"float": value}]}]
    answer = json.loads(encode_answer([result], baton=None))
    assert answer["results"][0]["response"]["result"]["rows"] == [[{"type": "float", "value": None}]]


def test_hello() -> None:
    assert kit.read("ServerMessage", HELLO_OK_PROTOBUF) == {"hello_ok": {}}
    refused = kit.read("ServerMessage", encode_hello_error_protobuf(Failure("no", "AUTH_INVALID")))
    assert refused == {"hello_error": {"error": {"message": "no", "code": "AUTH_INVALID"}}}


def test_fetched_entries() -> None:
    entries = list(protobuf_entries(BatchResult([StatementResult((), [])], [None])))
    message = kit.read("ServerMessage", encode_fetched_protobuf(7, entries, is_done=True))
    expected: list[Any] = [{"step_begin": {"cols": []}}, {"step_end": {}}]
    assert message["response_ok"] == {"request_id": 7, "fetch_cursor": {"entries": expected, "done": True}}


# -- cursors over HTTP ------------------------------------------------------------------------------------------------

MARK = Bookmark(database="data", epoch=Epoch(1), txid=TXID(7))


def entries_of(answer: CursorAnswer, encoding: HttpEncoding, *, knows_index: bool) -> tuple[Any, list[Any]]:
    whole = b"".join(cursor_chunks(answer, encoding, knows_index=knows_index))
    if encoding is JSON:
        head, *entries = [json.loads(line) for line in whole.splitlines()]
        return head, entries
    first, *rest = kit.read_prefixed(whole)
    head = {"baton": None, "base_url": None} | kit.read("CursorHead", first)
    return head, [kit.json_entry(kit.read("CursorEntry", entry)) for entry in rest]


@pytest.mark.parametrize("encoding", [JSON, PROTOBUF])
@pytest.mark.parametrize("knows_index", [True, False])
def test_cursor_begins_with_the_baton_and_ends_with_the_index(encoding: HttpEncoding, knows_index: bool) -> None:
    result = BatchResult([StatementResult((("a", None),), [(1,)], 1, 1)], [None])
    head, entries = entries_of(CursorAnswer(result, "next", None, MARK), encoding, knows_index=knows_index)
    assert head == {"baton": "next", "base_url": None}
    expected: list[Any] = [
        {"type": "step_begin", "step": 0, "cols": [{"name": "a", "decltype": None}]},
        {"type": "row", "row": [{"type": "integer", "value": "1"}]},
        {"type": "step_end", "affected_row_count": 1, "last_insert_rowid": "1"},
    ]
    if knows_index or encoding is JSON:
        expected.append({"type": "replication_index", "replication_index": "7"})
    assert entries == expected


def test_cursor_in_json_that_read_nothing_has_an_end_too() -> None:
    answer = CursorAnswer(BatchResult([], []), None, None, None)
    _, entries = entries_of(answer, JSON, knows_index=False)
    assert entries == [{"type": "replication_index", "replication_index": None}]


@pytest.mark.parametrize("encoding", [JSON, PROTOBUF])
def test_batch_that_did_not_run_is_an_entry(encoding: HttpEncoding) -> None:
    answer = CursorAnswer(Failure("lost", "TRANSACTION_TIMEOUT"), None, "http://a", None)
    head, entries = entries_of(answer, encoding, knows_index=True)
    assert head == {"baton": None, "base_url": "http://a"}
    assert entries == [{"type": "error", "error": {"message": "lost", "code": "TRANSACTION_TIMEOUT"}}]


@pytest.mark.parametrize("encoding", [JSON, PROTOBUF])
def test_cursor_is_written_in_pieces(encoding: HttpEncoding) -> None:
    rows = [("x" * 1000,)] * 200
    answer = CursorAnswer(BatchResult([StatementResult((("a", None),), rows)], [None]), None, None, MARK)  # type: ignore[arg-type]
    pieces = list(cursor_chunks(answer, encoding, knows_index=False))
    assert len(pieces) == 4
    assert all(CHUNK_BYTES <= len(piece) < CHUNK_BYTES + 1100 for piece in pieces[:-1])
