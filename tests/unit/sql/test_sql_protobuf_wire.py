from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.sql import protobuf_wire as wire
from pando.sql.protobuf_wire import Message, ProtobufError
from pando.testing import protobuf_kit as kit

INT64 = st.integers(-(1 << 63), (1 << 63) - 1)


def only(data: bytes) -> Message:
    message = Message(data)
    assert message.next() == 1
    return message


@given(st.integers(0, (1 << 64) - 1))
def test_unsigned_integers(number: int) -> None:
    data = wire.number_field(1, number)
    assert data == b"\x08" + kit.number(number)
    assert only(data).uint64() == number
    assert only(data).uint32() == number % (1 << 32)


@given(INT64)
def test_signed_integers(number: int) -> None:
    assert only(wire.sint64_field(1, number)).sint64() == number


@given(st.integers(-(1 << 31), (1 << 31) - 1))
def test_integers_in_two_complement(number: int) -> None:
    assert only(wire.number_field(1, number)).int32() == number
    assert only(b"\x08" + kit.number(number % (1 << 32))).int32() == number  # as some clients shorten it


@given(st.floats())
def test_doubles(number: float) -> None:
    found = only(wire.double_field(1, number)).double()
    assert found == number or (math.isnan(found) and math.isnan(number))


@given(st.text(), st.binary())
def test_texts_and_bytes(text: str, data: bytes) -> None:
    assert only(wire.text_field(1, text)).text() == text
    assert only(wire.bytes_field(1, data)).blob() == data


def test_what_is_not_taken_is_skipped() -> None:
    fields = [
        wire.number_field(2, 1 << 63),
        wire.double_field(3, 0.5),
        wire.bytes_field(4, b"inner"),
        b"\x2d" + struct.pack("<f", 0.5),
        wire.text_field((1 << 29) - 1, "last"),
    ]
    message = Message(b"".join(fields))
    assert [message.next() for _ in range(6)] == [2, 3, 4, 5, (1 << 29) - 1, 0]
    assert message.next() == 0


def test_inner_messages_end_where_they_end() -> None:
    message = Message(wire.bytes_field(1, wire.number_field(7, 8)) + wire.number_field(2, 9))
    message.next()
    inner = message.message()
    assert (inner.next(), inner.uint64(), inner.next()) == (7, 8, 0)
    assert (message.next(), message.uint64(), message.next()) == (2, 9, 0)


def test_streams_of_messages() -> None:
    assert kit.read_prefixed(wire.prefixed(b"x" * 300) + wire.prefixed(b"")) == [b"x" * 300, b""]


BROKEN = [
    (b"\x80", "no end"),
    (b"\x80" * 11 + b"\x01", "no end"),
    (b"\x08", "no end"),
    (b"\x08" + b"\xff" * 10, "no end"),
    (b"\x09\x00\x00", "ends after 2 of 8"),
    (b"\x0d\x00", "ends after 1 of 4"),
    (b"\x0a\x05abc", "ends after 3 of 5"),
    (b"\x0a" + kit.number(1 << 63), "ends after 0"),
    (b"\x00\x00", "number 0"),
    (kit.number(1 << 32 | 1) + b"\x00", "number"),
    (b"\x0b\x0c", "wire type 3"),
    (b"\x0e", "wire type 6"),
]


@pytest.mark.parametrize(("data", "reason"), BROKEN)
def test_broken_bytes_are_refused(data: bytes, reason: str) -> None:
    message = Message(data)
    with pytest.raises(ProtobufError, match=reason):
        while message.next():
            pass


@pytest.mark.parametrize("take", [Message.text, Message.blob, Message.message, Message.double])
def test_field_of_another_type_is_refused(take: object) -> None:
    with pytest.raises(ProtobufError, match="wire type 0"):
        take(only(b"\x08\x00"))  # type: ignore[operator]


def test_text_that_is_not_utf8_is_refused() -> None:
    with pytest.raises(ProtobufError, match="UTF-8"):
        only(b"\x0a\x02\xff\xfe").text()


def test_inner_message_takes_nothing_of_the_outer_one() -> None:
    message = only(wire.bytes_field(1, b"\x0a\x03a") + b"bcd")
    with pytest.raises(ProtobufError, match="ends after 1 of 3"):
        inner = message.message()
        inner.next()
        inner.text()


def test_fields_are_bounded_over_all_messages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "FIELDS_MAX", 3)
    fine = Message(wire.bytes_field(1, b"\x08\x00\x08\x00"))
    assert fine.next()
    inner = fine.message()
    assert [inner.next(), inner.next(), inner.next()] == [1, 1, 0]
    full = Message(wire.bytes_field(1, b"\x08\x00\x08\x00\x08\x00"))
    assert full.next()
    inner = full.message()
    with pytest.raises(ProtobufError, match="more than 3 fields"):
        while inner.next():
            pass


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    message = Message(data)
    try:
        while message.next():
            pass
    except ProtobufError:
        pass
