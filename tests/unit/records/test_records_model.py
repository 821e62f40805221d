import msgspec
import pytest

from pando.records import engine
from pando.records.model import (
    AuthOptions,
    Collection,
    CollectionType,
    Field,
    RelationField,
    Schema,
    SelectField,
    TextField,
)
from pando.records.problems import REQUIRED, ApiError, ValidationFailed, bad_request, forbidden, not_found, unauthorized

KINDS = [
    "text",
    "editor",
    "number",
    "bool",
    "email",
    "url",
    "date",
    "autodate",
    "select",
    "relation",
    "file",
    "json",
    "password",
    "geoPoint",
]  # the names that PocketBase's JSON has


@pytest.mark.parametrize("kind", KINDS)
def test_a_field_of_each_type_is_read_from_its_json_and_written_with_the_same_keys(kind):
    found = msgspec.json.decode(msgspec.json.encode({"type": kind, "id": "f1", "name": "one"}), type=Field)
    assert (found.type, found.id, found.name) == (kind, "f1", "one")
    written = msgspec.json.decode(msgspec.json.encode(found))
    assert written["type"] == kind
    assert ("required" in written) == (kind != "autodate")


def test_options_have_the_names_of_the_wire():
    written = msgspec.to_builtins(TextField(id="a", name="b", autogenerate_pattern="[a-z]{3}", primary_key=True))
    assert (written["autogeneratePattern"], written["primaryKey"]) == ("[a-z]{3}", True)
    assert "convertURLs" in msgspec.json.decode(msgspec.json.encode(msgspec.convert({"type": "editor"}, Field)))
    auth = msgspec.to_builtins(AuthOptions())
    assert auth["passwordAuth"] == {"enabled": True, "identityFields": ("email",)}
    assert auth["oauth2"]["mappedFields"]["avatarURL"] == ""


def test_lists_are_those_with_room_for_more_than_one():
    assert not SelectField(max_select=1).is_multiple
    assert SelectField(max_select=2).is_multiple
    assert not TextField(max=9).is_multiple


def test_a_schema_finds_collections_by_id_and_by_name_in_any_case():
    users = Collection(id="u1", name="Users", type=CollectionType.AUTH, auth=AuthOptions())
    posts = Collection(id="p1", name="posts", fields=(RelationField(id="r", name="author", collection_id="u1"),))
    schema = Schema((users, posts))
    assert schema.find("u1") is users and schema.find("users") is users and schema.find("POSTS") is posts
    assert schema.find("U1") is None and schema.find("") is None
    assert [(each.collection.name, each.field.name) for each in schema.back_relations(users)] == [("posts", "author")]
    assert list(schema.back_relations(posts)) == []
    assert posts.field("author").name == "author" and posts.field("Author") is None
    assert users.is_auth and not posts.is_auth and not posts.is_view


def test_errors_carry_status_message_and_data():
    failed = ValidationFailed({"title": REQUIRED})
    assert (failed.status, failed.data["title"].code, failed.data["title"].message) == (
        400,
        "validation_required",
        "Cannot be blank.",
    )
    statuses = [made().status for made in (bad_request, unauthorized, forbidden, not_found)]
    assert statuses == [400, 401, 403, 404]
    assert ApiError(418, "no").data == {}


def test_a_statement_is_text_and_arguments():
    assert engine.Statement("select ?", (1,)) == engine.Statement(sql="select ?", args=(1,))
