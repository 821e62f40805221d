import json

import pytest

from pando.records import model
from pando.records.fields import GeoPoint, jsontext
from pando.records.record import (
    GUEST,
    SUPERUSER,
    Record,
    Viewer,
    from_row,
    from_rows,
    record_json,
    to_row,
)

POSTS = model.Collection(
    id="pbc_posts",
    name="posts",
    fields=(
        model.TextField(name="id", primary_key=True),
        model.TextField(name="title"),
        model.TextField(name="draft", hidden=True),
        model.NumberField(name="score"),
        model.BoolField(name="open"),
        model.DateField(name="when"),
        model.SelectField(name="kinds", values=("a", "b"), max_select=2),
        model.RelationField(name="author", collection_id="pbc_users", max_select=1),
        model.JsonField(name="data"),
        model.GeoPointField(name="place"),
    ),
)
COLUMNS = ("id", "title", "draft", "score", "open", "when", "kinds", "author", "data", "place")
ROW = (
    *("p1", "Hé <b>", "no", 5, 1, "2024-01-02 03:04:05.678Z", '["a","b"]', "u1"),
    *('{"z":1e5,"a":[1.0,12345678901234567890]}', '{"lon":1,"lat":2.5}'),
)
USERS = model.Collection(
    id="pbc_users",
    name="users",
    type=model.CollectionType.AUTH,
    auth=model.AuthOptions(),
    fields=(
        model.TextField(name="id", primary_key=True),
        model.EmailField(name="email"),
        model.BoolField(name="emailVisibility"),
        model.PasswordField(name="password", hidden=True),
        model.TextField(name="tokenKey", hidden=True),
    ),
)


def user(number, visible=False):
    columns = ("id", "email", "emailVisibility", "password", "tokenKey")
    return from_row(USERS, columns, (f"u{number}", f"{number}@example.com", visible, "$2a$10$x", "key"))


def test_a_row_becomes_values():
    record = from_row(POSTS, COLUMNS, ROW)
    assert record.values == {
        "id": "p1",
        "title": "Hé <b>",
        "draft": "no",
        "score": 5,
        "open": True,
        "when": "2024-01-02 03:04:05.678Z",
        "kinds": ["a", "b"],
        "author": "u1",
        "data": {"z": 100000, "a": [1, 12345678901234567000]},
        "place": GeoPoint(1, 2.5),
    }
    assert (record.id, record.text("title"), record.flag("open")) == ("p1", "Hé <b>", True)
    assert (record.texts("kinds"), record.texts("author"), record.texts("score")) == (["a", "b"], ["u1"], [])


def test_json_has_sorted_keys_and_numbers_as_javascript_writes_them():
    text = jsontext.encode(record_json(from_row(POSTS, COLUMNS, ROW), GUEST)).decode()
    assert text == (
        '{"author":"u1","collectionId":"pbc_posts","collectionName":"posts",'
        '"data":{"a":[1,12345678901234567000],"z":100000},"id":"p1","kinds":["a","b"],"open":true,'
        '"place":{"lon":1,"lat":2.5},"score":5,"title":"Hé <b>","when":"2024-01-02 03:04:05.678Z"}'
    )


def test_what_was_not_read_is_not_shown_and_reads_as_zero():
    record = from_row(POSTS, ("title", "_rowid_", "unknown"), ("x", 1, 2))
    assert record_json(record, GUEST) == {"collectionId": "pbc_posts", "collectionName": "posts", "title": "x"}
    assert (record.get("score"), record.get("kinds"), record.get("unknown")) == (0, [], None)


def test_rows_of_one_query_are_read_together():
    assert [each.id for each in from_rows(POSTS, ("id",), [("a",), ("b",)])] == ["a", "b"]


def test_columns_hold_the_same_again():
    record = from_row(POSTS, COLUMNS, ROW)
    columns = to_row(record)
    assert columns["data"] == '{"a":[1,12345678901234567000],"z":100000}'
    assert from_row(POSTS, tuple(columns), tuple(columns.values())).values == record.values


def test_hidden_fields_are_for_superusers():
    record = from_row(POSTS, COLUMNS, ROW)
    assert "draft" not in record_json(record, GUEST)
    assert record_json(record, SUPERUSER)["draft"] == "no"


@pytest.mark.parametrize(
    ("viewer", "visible", "expected"),
    [
        (GUEST, False, False),
        (GUEST, True, True),
        (SUPERUSER, False, True),
        (Viewer.of(user(1)), False, True),
        (Viewer.of(user(2)), False, False),
        (Viewer.of(user(2), managed=[user(1)]), False, True),
        (Viewer.of(None, managed=[user(1)]), False, True),
        (Viewer(own=("pbc_other", "u1")), False, False),
    ],
)
def test_an_address_is_shown_to_some(viewer, visible, expected):
    assert ("email" in record_json(user(1, visible), viewer)) == expected


@pytest.mark.parametrize("viewer", [GUEST, SUPERUSER, Viewer.of(user(1))])
def test_passwords_and_token_keys_are_shown_to_nobody(viewer):
    shown = record_json(user(1, visible=True), viewer)
    assert not {"password", "tokenKey"} & set(shown)


def test_records_of_the_collection_of_superusers_are_superusers():
    admins = model.Collection(id=model.SUPERUSERS_ID, name=model.SUPERUSERS, type=model.CollectionType.AUTH)
    assert Viewer.of(Record(admins, {"id": "s"})).is_superuser
    assert not Viewer.of(user(1)).is_superuser


def test_expanded_records_are_shown_inside_each_by_its_own_rules():
    post = from_row(POSTS, COLUMNS, ROW).with_expand({"author": user(1), "also": [user(2), user(3, visible=True)]})
    found = record_json(post, Viewer.of(user(1)))["expand"]
    assert list(found) == ["also", "author"]
    assert [("email" in each) for each in found["also"]] == [False, True]
    assert found["author"]["email"] == "1@example.com"
    text = jsontext.encode(record_json(post, GUEST))
    assert list(json.loads(text)) == sorted(json.loads(text))
