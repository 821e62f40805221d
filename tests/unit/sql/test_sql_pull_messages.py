import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import InvalidRequest
from pando.sql.pull_messages import (
    PullRequest,
    decode_pull,
    encode_header,
    encode_page,
    encode_varint,
)
from pando.sql.pull_revisions import format_revision, parse_revision
from pando.types import TXID, Checksum, Epoch, Position


def field(number, value):
    if isinstance(value, int):
        return encode_varint(number << 3) + encode_varint(value)
    return encode_varint(number << 3 | 2) + encode_varint(len(value)) + value


def test_an_empty_body_asks_for_everything():
    assert decode_pull(b"") == PullRequest()


def test_every_field_that_matters_is_read_and_the_others_are_skipped():
    body = field(1, 1) + field(2, b"here") + field(3, b"there") + field(4, 1500) + field(5, b"bits") + field(6, b"mine")
    body += field(7, b"SELECT 1") + field(8, 1) + field(99, b"later") + bytes([90 << 3 & 0x7F | 5 | 0x80, 5]) + b"four"
    assert decode_pull(body) == PullRequest(
        server_revision="here", client_revision="there", long_poll_ms=1500, selector=b"bits"
    )


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\x80", "does not end"),
        (b"\xff" * 20, "does not end"),
        (b"\x1a\x05ab", "fewer are there"),
        (b"\x1b", "no kind 3"),
        (b"\x1a\x02\xff\xfe", "no UTF-8"),
        (field(3, b"x" * 300), "over the limit"),
    ],
)
def test_refusals_say_why(body, reason):
    with pytest.raises(InvalidRequest, match=reason):
        decode_pull(body)


@given(st.binary(max_size=60))
def test_any_bytes_are_a_request_or_refused(body):
    try:
        decode_pull(body)
    except InvalidRequest:
        return


@given(st.sampled_from([0, 1, 127, 128, 16_383, 16_384, 2_097_152]))
def test_pages_say_their_length_and_number(number):
    message = encode_page(number, b"p" * 4096)
    tail = field(1, number) + b"\x12\x80\x20" + b"p" * 4096
    assert message == encode_varint(len(tail)) + tail


def test_the_header_names_state_size_and_what_to_do():
    assert encode_header("r", 300) == b"\x0a" + b"\x0a\x01r" + b"\x10\xac\x02" + b"\x1a\x00" + b"\x40\x01"
    assert encode_header("r", 0) == b"\x07" + b"\x0a\x01r" + b"\x1a\x00" + b"\x40\x01"


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_revisions_come_back(epoch, txid, checksum):
    position = Position(epoch=Epoch(epoch), txid=TXID(txid), checksum=Checksum(checksum))
    assert parse_revision(format_revision(position)) == position


@given(st.text(max_size=40))
def test_any_text_is_a_revision_or_refused(text):
    try:
        parse_revision(text)
    except InvalidRequest:
        return
