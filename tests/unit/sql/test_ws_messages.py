from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.sql.messages import (
    BatchRequest,
    DescribeRequest,
    ExecuteRequest,
    GetAutocommitRequest,
    SequenceRequest,
    WireStatement,
)
from pando.sql.ws_messages import (
    HELLO_OK,
    Asked,
    CloseStream,
    FetchCursor,
    Hello,
    OpenCursor,
    OpenStream,
    Unreadable,
    decode_client_message,
    encode_fetched,
    encode_hello_error,
    encode_response,
    for_database,
)
from pando.store.requests import Autocommit, BatchResult, Described, Done, Failure, StatementResult

STATEMENT = {"sql": "select 1"}


def request(**fields: object) -> Any:
    message = decode_client_message(json.dumps({"type": "request", "request_id": 7, "request": fields}))
    assert isinstance(message, Asked)
    assert message.request_id == 7
    return message.request


def sent(result: Any, txid: int | None = None) -> Any:
    return json.loads(encode_response(7, result, txid))


# -- from the client --------------------------------------------------------------------------------------------------


def test_hello_with_and_without_token() -> None:
    assert decode_client_message('{"type":"hello","jwt":"abc"}') == Hello("abc")
    assert decode_client_message('{"type":"hello","jwt":null,"more":[1]}') == Hello(None)
    assert decode_client_message('{"type":"hello"}') == Hello(None)


def test_requests_for_the_database_become_those_of_a_pipeline() -> None:
    assert for_database(request(type="execute", stream_id=-5, stmt=STATEMENT)) == (
        -5,
        ExecuteRequest(WireStatement("select 1")),
    )
    found = for_database(request(type="batch", stream_id=1, batch={"steps": [{"stmt": STATEMENT}]}))
    assert found is not None
    assert isinstance(found[1], BatchRequest)
    assert for_database(request(type="sequence", stream_id=2, sql_id=4)) == (2, SequenceRequest(None, 4))
    assert for_database(request(type="describe", stream_id=2, sql="x")) == (2, DescribeRequest("x", None))
    assert for_database(request(type="get_autocommit", stream_id=2)) == (2, GetAutocommitRequest())
    opened = request(type="open_cursor", stream_id=3, cursor_id=9, batch={"steps": []})
    assert isinstance(opened, OpenCursor)
    assert for_database(opened) == (3, BatchRequest(opened.batch))


def test_other_requests() -> None:
    assert request(type="open_stream", stream_id=1) == OpenStream(1)
    assert request(type="close_stream", stream_id=1) == CloseStream(1)
    assert request(type="fetch_cursor", cursor_id=1, max_count=(1 << 32) - 1) == FetchCursor(1, (1 << 32) - 1)
    for other in (
        request(type="close_cursor", cursor_id=1),
        request(type="store_sql", sql_id=1, sql="x"),
        request(type="close_sql", sql_id=1),
        request(type="open_stream", stream_id=1),
    ):
        assert for_database(other) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"type":"bye"}',
        '{"type":"hello","jwt":1}',
        '{"type":"request","request":{"type":"open_stream","stream_id":1}}',
        '{"type":"request","request_id":1,"request":{"type":"open_stream"}}',
        '{"type":"request","request_id":1,"request":{"type":"open_stream","stream_id":2147483648}}',
        '{"type":"request","request_id":1,"request":{"type":"open_stream","stream_id":"1"}}',
        '{"type":"request","request_id":2147483648,"request":{"type":"open_stream","stream_id":1}}',
        '{"type":"request","request_id":1,"request":{"type":"close"}}',
        '{"type":"request","request_id":1,"request":{"type":"fetch_cursor","cursor_id":1,"max_count":-1}}',
        '{"type":"hello","jwt":"\ud800"}',
        '{"type":"request","request_id":1,"request":{"type":"batch","stream_id":1,"batch":{"steps":[{"stmt":{},'
        + '"condition":'
        + '{"type":"not","cond":' * 5000
        + "0"
        + "}" * 5004,
    ],
)
def test_what_is_no_message(text: str) -> None:
    with pytest.raises(Unreadable):
        decode_client_message(text)


@given(st.text(max_size=60))
def test_any_text_is_read_or_refused(text: str) -> None:
    for candidate in (text, f'{{"type":"hello","jwt":{json.dumps(text)}}}'):
        try:
            decode_client_message(candidate)
        except Unreadable:
            continue


# -- to the client ----------------------------------------------------------------------------------------------------


def test_answers_carry_the_number_and_the_type() -> None:
    assert json.loads(HELLO_OK) == {"type": "hello_ok"}
    assert sent("open_stream") == {"type": "response_ok", "request_id": 7, "response": {"type": "open_stream"}}
    assert sent(Done())["response"] == {"type": "sequence"}
    assert sent(Autocommit(False))["response"] == {"type": "get_autocommit", "is_autocommit": False}
    assert sent(Described((":a",), (), False, True))["response"]["result"]["params"] == [{"name": ":a"}]
    assert sent(BatchResult([None], [None]), 5)["response"] == {
        "type": "batch",
        "result": {"step_results": [None], "step_errors": [None], "replication_index": "5"},
    }
    executed = sent(StatementResult((("x", None),), [(1.5,)]), 9)["response"]
    assert (executed["type"], executed["result"]["replication_index"]) == ("execute", "9")
    assert executed["result"]["rows"] == [[{"type": "float", "value": 1.5}]]
    assert json.loads(encode_fetched(-1, [], is_done=True)) == {
        "type": "response_ok",
        "request_id": -1,
        "response": {"type": "fetch_cursor", "entries": [], "done": True},
    }


def test_errors() -> None:
    error = {"message": "no", "code": "NO"}
    assert sent(Failure("no", "NO")) == {"type": "response_error", "request_id": 7, "error": error}
    assert json.loads(encode_hello_error(Failure("no", "NO"))) == {"type": "hello_error", "error": error}
