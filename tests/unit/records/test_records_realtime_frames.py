import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import InvariantError
from pando.records.realtime.changes import Change, Operation
from pando.records.realtime.frames import (
    change_frame,
    change_line,
    connected_data,
    event_id_line,
    event_rest,
    record_data,
)

CHANGE = Change(7, 1_700_000_000_042, "posts", Operation.UPDATE, 3, '{"id":"a","n":1}', '{"id":"a","n":2}')
JSON = (
    b'{"cursor":7,"time":"2023-11-14 22:13:20.042Z","table":"posts","operation":"update","key":3,'
    b'"old":{"id":"a","n":1},"new":{"id":"a","n":2}}'
)


def event_frame(identifier, name, data):
    return event_id_line(identifier) + event_rest(name, data)


def parse(stream):
    """Read a stream as the standard says; gives (id, event, data) of each event."""
    for block in stream.decode().split("\n\n")[:-1]:
        fields = {"data": []}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if name == "data":
                fields["data"].append(value)
            else:
                fields[name] = value
        yield fields.get("id"), fields.get("event"), "\n".join(fields["data"])


def test_an_event_has_exactly_these_bytes():
    assert event_frame("abc", "posts/*", b'{"a":1}') == b'id:abc\nevent:posts/*\ndata:{"a":1}\n\n'


def test_an_id_may_tell_the_place():
    assert event_id_line("abc", 7) == b"id:abc.7"


def test_the_first_event_tells_the_id():
    assert event_frame("abc", "PB_CONNECT", connected_data("abc")) == (
        b'id:abc\nevent:PB_CONNECT\ndata:{"clientId":"abc"}\n\n'
    )


def test_a_record_comes_before_its_action():
    assert record_data(b'{"id":"x"}', "delete") == b'{"record":{"id":"x"},"action":"delete"}'


def test_a_name_cannot_add_lines():
    for name in ("a\nid:b", "a\rdata:b"):
        with pytest.raises(InvariantError):
            event_frame("i", name, b"")
        with pytest.raises(InvariantError):
            event_frame(name, "n", b"")


@given(st.text(alphabet=st.characters(exclude_characters="\r\0", exclude_categories=["Cs"])))
def test_data_of_several_lines_comes_back(text):
    framed = event_frame("i", "n", (text or "x").encode())
    [(_, _, data)] = parse(framed)
    assert data.split("\n") == [line.removeprefix(" ") for line in (text or "x").split("\n")]


def test_line_ends_of_all_kinds_become_lines():
    assert event_frame("i", "n", b"a\r\nb\rc") == b"id:i\nevent:n\ndata:a\ndata:b\ndata:c\n\n"


def test_a_change_as_event_and_as_line():
    assert change_frame(CHANGE) == b"id:7\ndata:" + JSON + b"\n\n"
    assert change_line(CHANGE) == JSON + b"\n"


@pytest.mark.parametrize(
    ("key", "shown"), [(None, None), (1.5, 1.5), ("[1,2]", "[1,2]"), (b"\x00\xff", "00ff"), (-(2**63), -(2**63))]
)
def test_keys_of_any_kind_and_missing_rows(key, shown):
    line = json.loads(change_line(Change(1, 0, "t", Operation.DELETE, key)))
    assert (line["key"], line["old"], line["new"]) == (shown, None, None)
    assert line["time"] == "1970-01-01 00:00:00.000Z"


@given(st.text(), st.text())
def test_a_line_is_one_line_of_json(table, text):
    old = json.dumps({"v": text})
    line = change_line(Change(1, 5, table, Operation.DELETE, 1, old))
    assert line.count(b"\n") == 1
    found = json.loads(line)
    assert (found["table"], found["old"]) == (table, {"v": text})
