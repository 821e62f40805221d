import json

import pytest
from records_realtime_kit import POSTS, USERS, change

from pando.records.model import Collection, PasswordField, TextField
from pando.records.realtime.redaction import redacted

KEYED = Collection(id="pbc_keyed", name="keyed", fields=(TextField(name="title"), PasswordField(name="pin")))
VALUES = {"title": "t", "password": "p", "tokenKey": "k", "pin": "1", "options": "o", "value": "v"}


@pytest.mark.parametrize(
    ("table", "collection", "gone"),
    [
        ("posts", POSTS, set()),
        ("keyed", KEYED, {"pin"}),
        ("users", USERS, {"tokenKey"}),
        ("renamed", None, {"password", "tokenKey"}),
        ("_collections", None, {"options"}),
        ("_params", None, {"value"}),
    ],
)
def test_secret_columns_are_taken_out_of_both_rows(table, collection, gone):
    told = redacted(change(1, table=table, **VALUES), collection)
    assert told.old == told.new == {"id": "r1", **{name: value for name, value in VALUES.items() if name not in gone}}


def test_values_stay_as_they_were_written():
    image = '{"id":"x","password":"p","f":1.0,"b":{"base64":"eA=="},"n":null}'
    told = redacted(change(1, table="t", operation="insert"), None)
    assert told.old_json is None
    made = type(told)(1, 0, "t", told.operation, 1, new_json=image)
    assert redacted(made, None).new_json == '{"id":"x","f":1.0,"b":{"base64":"eA=="},"n":null}'


@pytest.mark.parametrize("image", ["", "[]", "{", json.dumps("x")])
def test_rows_that_cannot_be_read_are_not_told(image):
    made = change(1, table="t")
    assert redacted(type(made)(1, 0, "t", made.operation, 1, new_json=image), None).new_json is None
