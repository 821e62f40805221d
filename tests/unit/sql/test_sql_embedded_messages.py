"""Messages of libSQL's first protocol, there and back, and what is none of them."""

import contextlib
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import Forbidden, InternalError, InvalidRequest, NotReady, PandoError, Unauthorized, UnknownDatabase
from pando.sql.embedded_messages import (
    decode_describe,
    decode_disconnect,
    decode_offset,
    decode_program,
    decode_value,
    encode_described,
    encode_frame,
    encode_frames,
    encode_hello,
    encode_results,
    encode_value,
)
from pando.sql.grpc_web import Code, code_of, frame_error, frame_message, frame_status, read_message
from pando.sql.protobuf_wire import bytes_field, number_field, text_field
from pando.store.requests import (
    And,
    BatchResult,
    Described,
    Failure,
    IsAutocommit,
    Not,
    StatementResult,
    StepOk,
)

VALUES = (
    st.none()
    | st.integers(-(1 << 63), (1 << 63) - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
    | st.binary()
)


@given(VALUES)
def test_values_come_back(value):
    assert decode_value(encode_value(value)) == value


@given(st.binary(max_size=40))
def test_what_is_no_value_is_refused(data):
    with contextlib.suppress(InvalidRequest):
        decode_value(data)


def test_values_are_bincode():
    assert encode_value(None) == b"\0\0\0\0"
    assert encode_value(-2) == b"\1\0\0\0" + struct.pack("<q", -2)
    assert encode_value(0.5) == b"\2\0\0\0" + struct.pack("<d", 0.5)
    assert encode_value("ř") == b"\3\0\0\0\2\0\0\0\0\0\0\0\xc5\x99"
    assert encode_value(b"x") == b"\4\0\0\0\1\0\0\0\0\0\0\0x"
    for wrong in (b"\3\0\0\0\5\0\0\0\0\0\0\0x", b"\7\0\0\0", b"\1\0\0\0", b"\3\0\0\0\1\0\0\0\0\0\0\0\xff", b""):
        with pytest.raises(InvalidRequest):
            decode_value(wrong)


def value(inner):
    return bytes_field(1, bytes_field(1, encode_value(inner)))


def query(sql, *args):
    return text_field(1, sql) + bytes_field(2, b"".join(map(value, args)))


def step(message, condition=b""):
    return bytes_field(1, (bytes_field(1, condition) if condition else b"") + bytes_field(2, message))


def program(*steps, client="5f0c"):
    return text_field(1, client) + bytes_field(2, b"".join(steps))


def test_a_program_becomes_a_batch():
    ok = bytes_field(1, number_field(1, 0))
    chain = bytes_field(4, bytes_field(1, ok) + bytes_field(1, bytes_field(3, bytes_field(1, bytes_field(6, b"")))))
    named = text_field(1, "c") + bytes_field(3, text_field(1, ":a") + bytes_field(2, bytes_field(1, encode_value(7))))
    found = decode_program(
        program(step(query("a", 1, None, "x")), step(query("b"), chain), step(named + number_field(4, 1)))
    )
    assert found.client == "5f0c"
    first, second, third = found.batch.steps
    assert (first.statement.sql, first.statement.args, first.condition) == ("a", (1, None, "x"), None)
    assert second.condition == And((StepOk(0), Not(IsAutocommit())))
    assert (third.statement.named_args, third.statement.want_rows) == (((":a", 7),), False)


@pytest.mark.parametrize(
    "message",
    [
        program(step(query("a")), client=""),
        program(step(query("a")), client="a/b"),
        program(step(query("a"), bytes_field(1, number_field(1, 0)))),
        program(step(query("a"), b"\x3a\x00")),
        program(step(query("a"), bytes_field(3, b""))),
        program(step(text_field(1, "a") + bytes_field(3, text_field(1, ":a")))),
    ],
)
def test_what_is_no_program_is_refused(message):
    with pytest.raises(InvalidRequest):
        decode_program(message)


def test_conditions_are_not_nested_without_end():
    condition = bytes_field(6, b"")
    for _ in range(60):
        condition = bytes_field(3, bytes_field(1, condition))
    with pytest.raises(InvalidRequest, match="nested"):
        decode_program(program(step(query("a"), condition)))


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data):
    for decode in (decode_program, decode_describe, decode_disconnect, decode_offset, read_message):
        try:
            decode(data)
        except PandoError:
            continue


def test_offsets():
    assert decode_offset(b"") == 0
    assert decode_offset(number_field(1, 1 << 60)) == 1 << 60
    with pytest.raises(InvalidRequest, match="flav"):
        decode_offset(number_field(1, 5) + number_field(2, 1))


def test_results_have_an_entry_for_each_step():
    rows = StatementResult((("a", "INTEGER"), ("b", None)), [(1, "x")], 1, -5)
    failure = Failure("no", "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_UNIQUE")
    found = encode_results(BatchResult([rows, None, None], [None, failure, None]), 3, is_autocommit=False, frame=9)
    columns = bytes_field(1, text_field(1, "a") + text_field(3, "INTEGER")) + bytes_field(1, text_field(1, "b"))
    row = bytes_field(
        2, bytes_field(1, bytes_field(1, encode_value(1))) + bytes_field(1, bytes_field(1, encode_value("x")))
    )
    first = columns + row + number_field(3, 1) + number_field(4, -5)
    error = number_field(1, 0) + text_field(2, "no") + number_field(3, 2067)
    assert found == (
        bytes_field(1, bytes_field(2, first))
        + bytes_field(1, bytes_field(1, error))
        + bytes_field(1, bytes_field(2, b""))
        + number_field(2, 2)
        + number_field(3, 9)
    )


def test_a_batch_that_did_not_run_is_one_error():
    failure = Failure("late", "TRANSACTION_TIMEOUT")
    error = number_field(1, 2) + text_field(2, "late") + number_field(3, 1)
    expected = bytes_field(1, bytes_field(1, error)) + number_field(2, 0)
    assert encode_results(failure, 3, is_autocommit=True, frame=None) == expected


def test_descriptions():
    described = Described((":a", None), (("x", "TEXT"),), is_explain=False, is_readonly=True)
    column = bytes_field(1, text_field(1, "x") + text_field(3, "TEXT"))
    assert encode_described(described) == bytes_field(2, column + text_field(2, ":a") + number_field(3, 2))
    assert encode_described(Failure("no", "SQL_PARSE_ERROR"))[:1] == b"\x0a"


def test_hello_and_frames():
    assert encode_hello("L", "S", None) == text_field(1, "L") + text_field(3, "L") + text_field(4, "S")
    assert encode_hello("L", "S", 4).endswith(number_field(5, 4))
    assert encode_frame(b"f", 3) == bytes_field(1, b"f") + number_field(2, 3)
    assert encode_frames([b"a", b"b"]) == bytes_field(1, b"a") + bytes_field(1, b"b")


def test_framing():
    assert read_message(frame_message(b"abc")) == b"abc"
    for wrong in (b"", b"\0\0\0\0", b"\1\0\0\0\0", b"\0\0\0\0\5abc"):
        with pytest.raises(InvalidRequest):
            read_message(wrong)
    assert frame_status() == b"\x80\0\0\0\x0fgrpc-status:0\r\n"
    assert b"grpc-status:3\r\ngrpc-message:a%0D%0Ab%25\r\n" in frame_status(Code.INVALID_ARGUMENT, "a\r\nb%")


def test_errors_have_the_statuses_that_clients_know():
    assert b"grpc-status:9\r\ngrpc-message:NAMESPACE_DOESNT_EXIST" in frame_error(UnknownDatabase("x"))
    expected = [
        (Unauthorized("x"), Code.UNAUTHENTICATED),
        (Forbidden("x"), Code.PERMISSION_DENIED),
        (NotReady("x"), Code.UNAVAILABLE),
        (InvalidRequest("x"), Code.INVALID_ARGUMENT),
        (InternalError("x"), Code.INTERNAL),
    ]
    assert [code_of(error) for error, _ in expected] == [code for _, code in expected]
