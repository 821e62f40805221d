"""What calls give."""

import json

import msgspec
import pytest

from pando.embedded.records import Page, Record, Rows, record_of, rows_of
from pando.store.requests import StatementResult


def test_a_record_is_a_dictionary_with_attributes():
    record = Record(id="a", title="hello", items=3)
    assert (record.id, record.title, record["items"], record.expand) == ("a", "hello", 3, {})
    assert callable(record.items), "what dictionaries have comes first"
    with pytest.raises(AttributeError, match="no field 'tilte'; it has: id, title, items"):
        record.tilte  # noqa: B018
    assert json.loads(json.dumps(record)) == json.loads(msgspec.json.encode(record)) == dict(record)


def test_records_beside_a_record_are_records():
    author = {"id": "b", "name": "Ann", "expand": {"home": {"id": "d", "name": "Rome"}}}
    made = record_of({"id": "a", "expand": {"author": author, "tags": [{"id": "c", "name": "x"}]}})
    assert made.expand["author"].name == "Ann"
    assert made.expand["author"].expand["home"].name == "Rome"
    assert [each.name for each in made.expand["tags"]] == ["x"]


def test_a_page_is_its_records():
    page = Page([Record(id="a"), Record(id="b")], 1, 30, -1, -1)
    assert [each.id for each in page] == ["a", "b"] and len(page) == 2


def test_rows_of_sql():
    rows = rows_of(StatementResult((("id", "INTEGER"), (None, None)), [(1, b"x"), (2, None)], 0, 7))
    assert rows == Rows(("id", ""), [(1, b"x"), (2, None)], 0, 7)
    assert rows.dicts() == [{"id": 1, "": b"x"}, {"id": 2, "": None}]
    assert (rows.value, list(rows), len(rows)) == (1, [(1, b"x"), (2, None)], 2)
    assert Rows((), []).value is None
