from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import hrana_strategies as hrana
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando import limits
from pando.sql import protobuf_messages
from pando.sql.messages import (
    CONDITION_DEPTH_MAX,
    BatchRequest,
    CloseRequest,
    ExecuteRequest,
    HranaProtocolError,
    WireRequest,
    decode_cursor,
    decode_pipeline,
    replication_index,
    to_request,
)
from pando.sql.protobuf_messages import (
    decode_client_message_protobuf,
    decode_cursor_protobuf,
    decode_pipeline_protobuf,
)
from pando.sql.ws_messages import (
    Asked,
    Hello,
    OpenCursor,
    Unreadable,
    WsRequest,
    decode_client_message,
    for_database,
)
from pando.testing import protobuf_kit as kit

STORED = {number: f"stored {number}" for number in range(-3, 4)}


def meaning(wire: WireRequest) -> Any:
    """What a request asks for, whatever its encoding; its error if it asks for nothing that there is."""
    try:
        return replication_index(wire), to_request(wire, STORED)
    except HranaProtocolError as error:
        return type(wire), str(error) or wire


def meanings(requests: list[WireRequest]) -> list[Any]:
    return [meaning(wire) for wire in requests]


# -- the same as in JSON ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@given(hrana.PIPELINES)
def test_pipelines_are_read_as_in_json(pipeline: dict[str, Any]) -> None:
    ours = decode_pipeline_protobuf(kit.pipeline_bytes(pipeline))
    theirs = decode_pipeline(json.dumps(pipeline).encode())
    assert ours.baton == theirs.baton
    assert list(map(type, ours.requests)) == list(map(type, theirs.requests))
    assert meanings(ours.requests) == meanings(theirs.requests)


@pytest.mark.slow
@given(hrana.CURSORS)
def test_cursors_are_read_as_in_json(cursor: dict[str, Any]) -> None:
    ours = decode_cursor_protobuf(kit.cursor_bytes(cursor))
    theirs = decode_cursor(json.dumps(cursor).encode())
    assert ours.baton == theirs.baton
    assert (ours.batch.replication_index is None) == (theirs.batch.replication_index is None)
    assert meaning(BatchRequest(ours.batch)) == meaning(BatchRequest(theirs.batch))


def shown(request: WsRequest) -> Any:
    wanted = for_database(request)
    if wanted is None:
        return request
    return type(request), wanted[0], meaning(wanted[1]), request.cursor_id if isinstance(request, OpenCursor) else None


@pytest.mark.slow
@given(hrana.CLIENT_MESSAGES)
def test_messages_are_read_as_in_json(message: dict[str, Any]) -> None:
    ours = decode_client_message_protobuf(kit.client_message_bytes(message))
    theirs = decode_client_message(json.dumps(message))
    if isinstance(ours, Hello):
        assert ours == theirs
        return
    assert isinstance(theirs, Asked)
    assert ours.request_id == theirs.request_id
    assert shown(ours.request) == shown(theirs.request)


# -- what is missing, unknown, too much -------------------------------------------------------------------------------


def test_a_statement_wants_rows_unless_it_says_otherwise() -> None:
    (request,) = decode_pipeline_protobuf(kit.pipeline_bytes({"requests": [sql("x")]})).requests
    assert isinstance(request, ExecuteRequest)
    assert request.stmt.want_rows is True


def sql(text: str) -> dict[str, Any]:
    return {"type": "execute", "stmt": {"sql": text}}


def test_unknown_fields_are_skipped() -> None:
    unknown = kit.number(99 << 3 | 2) + b"\x03abc" + kit.number(98 << 3) + b"\x01"
    statement = kit.write("Stmt", {"sql": "select 1"}) + unknown
    execute = b"\x0a" + kit.number(len(statement)) + statement + unknown
    request = b"\x12" + kit.number(len(execute)) + execute + unknown
    body = unknown + b"\x12" + kit.number(len(request)) + request
    (found,) = decode_pipeline_protobuf(body).requests
    assert isinstance(found, ExecuteRequest)
    assert found.stmt.sql == "select 1"


def test_of_several_kinds_the_last_counts() -> None:
    body = b"\x12\x04\x42\x00\x0a\x00"  # get_autocommit, then close
    assert decode_pipeline_protobuf(body).requests == [CloseRequest()]


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ({"requests": [{}]}, "kind of request"),
        ({"requests": [{"execute": {}}]}, "stmt"),
        ({"requests": [{"batch": {}}]}, "batch"),
        ({"requests": [{"batch": {"batch": {"steps": [{}]}}}]}, "stmt"),
        ({"requests": [{"batch": {"batch": {"steps": [{"condition": {}, "stmt": {}}]}}}]}, "kind of condition"),
        ({"requests": [{"execute": {"stmt": {"args": [{}]}}}]}, "value"),
        ({"requests": [{"execute": {"stmt": {"named_args": [{"name": "a"}]}}}]}, "value"),
    ],
)
def test_what_is_missing_is_named(message: dict[str, Any], what: str) -> None:
    with pytest.raises(HranaProtocolError, match=f"no {what} that is known"):
        decode_pipeline_protobuf(kit.write("Pipeline", message))


@pytest.mark.parametrize("data", [b"", b"\x12\x00", b"\x12\x02\x08\x01", b"\x0a\x02\x0a\x05", b"\xff", "text"])
def test_frames_that_are_no_message(data: bytes | str) -> None:
    with pytest.raises(Unreadable):
        decode_client_message_protobuf(data)


def test_cursor_without_a_batch() -> None:
    with pytest.raises(HranaProtocolError, match="no batch"):
        decode_cursor_protobuf(b"")


def test_requests_and_steps_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    close, step = b"\x12\x02\x0a\x00", b"\x0a\x02\x12\x00"
    full = 100
    monkeypatch.setattr(limits, "PIPELINE_REQUESTS_MAX", full)
    assert len(decode_pipeline_protobuf(close * full).requests) == full
    with pytest.raises(HranaProtocolError, match="more than 100 requests"):
        decode_pipeline_protobuf(close * (full + 1))
    batch = step * (full + 1)
    with pytest.raises(HranaProtocolError, match="more than 100 steps"):
        decode_cursor_protobuf(b"\x12" + kit.number(len(batch)) + batch)


def test_arguments_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_messages, "ARGUMENTS_MAX", 2)
    null = {"type": "null"}
    for name, value in (("args", null), ("named_args", {"name": "a", "value": null})):
        fine = {"requests": [{"type": "execute", "stmt": {"sql": "x", name: [value] * 2}}]}
        assert decode_pipeline_protobuf(kit.pipeline_bytes(fine)).requests
        fine["requests"][0]["stmt"][name] = [value] * 3  # type: ignore[index]
        with pytest.raises(HranaProtocolError, match="more than 2"):
            decode_pipeline_protobuf(kit.pipeline_bytes(fine))


@pytest.mark.parametrize("kind", ["not", "and"])
def test_conditions_are_not_nested_without_end(kind: str) -> None:
    def nested(depth: int) -> dict[str, Any]:
        condition: dict[str, Any] = {"is_autocommit": {}}
        for _ in range(depth):
            condition = {kind: condition if kind == "not" else {"conds": [condition]}}
        return {"batch": {"steps": [{"condition": condition, "stmt": {}}]}}

    assert decode_cursor_protobuf(kit.write("CursorRequest", nested(CONDITION_DEPTH_MAX)))
    with pytest.raises(HranaProtocolError, match="nested more than 100 deep"):
        decode_cursor_protobuf(kit.write("CursorRequest", nested(CONDITION_DEPTH_MAX + 1)))


# -- anything else ----------------------------------------------------------------------------------------------------

DECODERS: list[Callable[[bytes], object]] = [
    decode_pipeline_protobuf,
    decode_cursor_protobuf,
    decode_client_message_protobuf,
]


def cut_and_changed(data: bytes) -> Any:
    """Messages that are nearly right: cut off somewhere, or with some bytes changed."""
    places = st.lists(st.tuples(st.integers(0, max(0, len(data) - 1)), st.integers(0, 255)), max_size=4)

    def made(end: int, changes: list[tuple[int, int]]) -> bytes:
        changed = bytearray(data)
        for place, byte in changes:
            if place < len(changed):
                changed[place] = byte
        return bytes(changed[:end])

    return st.builds(made, st.integers(0, len(data)), places)


NEARLY = st.one_of(
    hrana.PIPELINES.map(kit.pipeline_bytes),
    hrana.CURSORS.map(kit.cursor_bytes),
    hrana.CLIENT_MESSAGES.map(kit.client_message_bytes),
).flatmap(cut_and_changed)


@pytest.mark.slow
@given(st.binary(max_size=100) | NEARLY)
def test_whatever_comes_is_read_or_refused(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except HranaProtocolError as error:
            assert str(error)
