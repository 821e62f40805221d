import json
from dataclasses import replace
from random import Random

import msgspec
import pytest
from definitions_kit import NOW, changed, first_schema, made, refused
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import CorruptionError
from pando.records.collections import bodies, completing, defaults, rows, system, wire
from pando.records.model import Collection, CollectionType, Field, Rules
from pando.records.problems import ApiError

BASE_KEYS = [
    *("id", "listRule", "viewRule", "createRule", "updateRule", "deleteRule", "name", "type"),
    *("fields", "indexes", "created", "updated", "system"),
]
AUTH_KEYS = [
    *("authRule", "manageRule", "authAlert", "oauth2", "passwordAuth", "mfa", "otp", "authToken"),
    *("passwordResetToken", "emailChangeToken", "verificationToken", "fileToken"),
    *("verificationTemplate", "resetPasswordTemplate", "confirmEmailChangeTemplate"),
]
GOOGLE = {"name": "google", "clientId": "one", "clientSecret": "confidential", "pkce": True}


def users():
    return system.users(Random(1))


def shown(collection):
    return json.loads(wire.encode(collection))


# -- as callers see them ----------------------------------------------------------------------------------------------


def test_keys_of_a_base_collection():
    found = shown(system.mfas())
    assert list(found) == BASE_KEYS
    assert found["listRule"].startswith("@request") and found["createRule"] is None
    assert all(list(each) == sorted(each) for each in found["fields"])


def test_keys_of_an_auth_collection_and_of_what_is_inside():
    found = shown(users())
    assert list(found) == BASE_KEYS + AUTH_KEYS
    assert list(found["authAlert"]) == ["enabled", "emailTemplate"]
    assert list(found["authAlert"]["emailTemplate"]) == ["subject", "body"]
    assert list(found["oauth2"]) == ["providers", "mappedFields", "enabled"]
    assert list(found["oauth2"]["mappedFields"]) == ["id", "name", "username", "avatarURL"]
    assert list(found["passwordAuth"]) == ["enabled", "identityFields"]
    assert list(found["mfa"]) == ["enabled", "duration", "rule"]
    assert list(found["otp"]) == ["enabled", "duration", "length", "emailTemplate"]
    assert all(list(found[key]) == ["duration"] for key in AUTH_KEYS if key.endswith("Token"))


def test_keys_of_a_view_collection():
    view = replace(defaults.blank(CollectionType.VIEW, "v", Random(0)), view_query="SELECT id FROM users")
    assert list(shown(view)) == [*BASE_KEYS, "viewQuery"]


@pytest.mark.parametrize("name", defaults.TOKENS)
def test_secrets_stay_here(name):
    options = users().auth
    assert getattr(options, name).secret not in wire.encode(users()).decode()


def test_secrets_of_providers_stay_here():
    found = made({"name": "a", "type": "auth", "oauth2": {"enabled": True, "providers": [GOOGLE]}})
    assert b"confidential" not in wire.encode(found)
    [provider] = shown(found)["oauth2"]["providers"]
    assert list(provider) == [
        *("pkce", "name", "clientId", "authURL", "tokenURL", "userInfoURL", "displayName", "extra")
    ]
    assert b"confidential" in msgspec.json.encode(found.auth)


@pytest.mark.parametrize(("told", "seen"), [(5.0, "5"), (2.5, "2.5"), (-3, "-3"), (1e300, "1e300"), (None, "null")])
def test_whole_bounds_of_numbers_have_no_fraction(told, seen):
    found = made({"name": "n", "fields": [{"type": "number", "name": "x", "min": told}]})
    assert f'"min":{seen},' in wire.encode(found).decode()


# -- creating ---------------------------------------------------------------------------------------------------------


def test_a_body_with_a_name_makes_a_base_collection():
    found = made({"name": "posts"})
    assert (found.type, found.id, found.name) == (CollectionType.BASE, "pbc_1125843985", "posts")
    assert [each.name for each in found.fields] == ["id"]
    assert (found.rules, found.indexes, found.auth) == (Rules(), (), None)
    assert (found.created, found.updated, found.system) == (NOW, NOW, False)


def test_an_auth_collection_has_its_fields_indexes_and_secrets():
    found = made({"name": "clients", "type": "auth", "fields": [{"name": "nick", "type": "text"}]})
    assert [each.name for each in found.fields] == [
        *("id", "nick", "password", "tokenKey", "email", "emailVisibility", "verified")
    ]
    assert found.indexes == defaults.auth_indexes(found.id, "clients")
    assert all(len(getattr(found.auth, name).secret) == 50 for name in defaults.TOKENS)


def test_fields_get_ids_of_type_and_name_and_keep_those_they_have():
    body = {"name": "n", "fields": [{"name": "a", "type": "text"}, {"id": "own", "name": "b", "type": "bool"}]}
    found = made(body)
    assert [each.id for each in found.fields] == ["text3208210256", "text3904355907", "own"]


def test_an_id_that_another_collection_has_kept_after_a_rename_gets_a_number():
    first = made({"name": "posts"})
    old = changed({"name": "articles"}, first)
    schema = first_schema()
    schema = replace(schema, collections=(*schema.collections, old))
    assert made({"name": "posts"}, schema).id == f"{first.id}2"


@pytest.mark.parametrize(
    "body",
    [
        *(None, [], "x", 5, {"name": 5}, {"type": 5}, {"id": []}, {"system": "yes"}, {"listRule": 1}),
        *({"indexes": "x"}, {"indexes": [1]}, {"fields": "x"}, {"fields": [1]}, {"fields": [{"type": 5}, 1]}),
        {"fields": [{"type": "text", "max": "many"}]},
        {"fields": [{"type": "text", "max": 1.5}]},
        {"fields": [{"type": "text", "max": 10**30}]},
        {"fields": [{"type": "select", "values": [1]}]},
        {"type": "auth", "otp": 1},
        {"type": "auth", "oauth2": {"providers": 1}},
        {"type": "auth", "oauth2": {"providers": [1]}},
        {"type": "auth", "oauth2": {"providers": [{"name": 1}]}},
        {"type": "auth", "passwordAuth": {"identityFields": [1]}},
        {"type": "view", "viewQuery": 1},
        {"name": "\ud800"},
        {"name": "x", "fields": [{"type": "text", "name": "\ud800"}]},
        {1: 2},
    ],
)
def test_values_of_wrong_types_are_refused_as_a_whole(body):
    with pytest.raises(ApiError) as caught:
        bodies.read_new(body, Random(0))
    assert caught.value.status == 400


def test_types_that_there_are_not():
    assert refused(made, {"name": "x", "type": "table"}) == {"type": "in_invalid"}
    body = {"name": "x", "fields": [{"type": "text", "name": "a"}, {"type": "clob"}]}
    assert refused(made, body) == {}


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"fields": [{"type": "text"}] * 1001}, "fields"),
        ({"indexes": ["x"] * 257}, "indexes"),
        ({"type": "auth", "oauth2": {"providers": [{}] * 65}}, "providers"),
    ],
)
def test_lists_are_bounded(body, where):
    assert refused(bodies.read_new, body, Random(0)) == {where: "length_too_long"}


def test_unknown_keys_and_keys_of_other_types_do_nothing():
    plain = made({"name": "x"})
    assert made({"name": "x", "viewQuery": "SELECT 1", "otp": {"enabled": True}, "colour": "red"}) == plain
    assert made({"name": "x", "created": "2001-01-01 00:00:00.000Z", "updated": 5}) == plain


# -- changing ---------------------------------------------------------------------------------------------------------


def test_what_a_body_does_not_say_stays():
    old = users()
    found = changed({"listRule": "verified = true"}, old)
    assert found == replace(
        old, rules=replace(old.rules, list="verified = true"), created=old.created, updated=found.updated
    )
    assert found.updated != old.updated


def test_null_rules_shut_and_empty_rules_open():
    old = users()
    assert changed({"createRule": None, "listRule": ""}, old).rules == replace(old.rules, create=None, list="")


def test_objects_inside_are_merged():
    old = users()
    found = changed({"passwordAuth": {"enabled": False}, "authToken": {"duration": 60}}, old)
    assert found.auth.password_auth.identity_fields == ("email",)
    assert not found.auth.password_auth.enabled
    assert found.auth.auth_token.duration == 60
    assert found.auth.auth_token.secret == old.auth.auth_token.secret
    assert found.auth.otp == old.auth.otp


@pytest.mark.parametrize("secret", ["", None])
def test_secrets_that_are_not_sent_are_kept(secret):
    old = users()
    assert changed({"fileToken": {"secret": secret}}, old).auth.file_token == old.auth.file_token
    assert changed({"fileToken": {"secret": "s" * 40}}, old).auth.file_token.secret == "s" * 40


def test_a_change_of_the_auth_rule_signs_everybody_out():
    old = users()
    same = changed({"authRule": ""}, old)
    assert same.auth.auth_token == old.auth.auth_token
    for rule in (None, "verified = true"):
        found = changed({"authRule": rule}, old)
        assert found.auth.auth_rule == rule
        assert found.auth.auth_token.secret != old.auth.auth_token.secret
        assert found.auth.file_token == old.auth.file_token


def test_providers_are_a_list_whose_entries_keep_what_they_do_not_say():
    old = changed({"oauth2": {"enabled": True, "providers": [GOOGLE, GOOGLE | {"name": "github"}]}}, users())
    found = changed({"oauth2": {"providers": [{"name": "github", "clientId": "two"}]}}, old)
    [provider] = [json.loads(bytes(each)) for each in found.auth.oauth2.providers]
    assert (provider["name"], provider["clientId"], provider["clientSecret"]) == ("github", "two", "confidential")
    assert provider["pkce"] is True
    assert found.auth.oauth2.enabled
    assert changed({"oauth2": {"enabled": False}}, old).auth.oauth2.providers == old.auth.oauth2.providers
    assert changed({"oauth2": {"enabled": False, "providers": None}}, old).auth.oauth2.providers == ()
    [provider] = [
        json.loads(bytes(each))
        for each in changed({"oauth2": {"providers": [{"name": "github", "pkce": None}]}}, old).auth.oauth2.providers
    ]
    assert provider["pkce"] is None


def test_mapped_fields_that_are_gone_are_left_out():
    old = users()
    kept = [each for each in shown(old)["fields"] if each["name"] != "avatar"]
    found = changed({"fields": kept}, old)
    assert (found.auth.oauth2.mapped_fields.avatar_url, found.auth.oauth2.mapped_fields.name) == ("", "name")


def test_fields_are_found_by_id_or_by_name_and_type():
    old = made(
        {"name": "n", "fields": [{"id": "x1", "name": "a", "type": "text"}, {"id": "x2", "name": "b", "type": "bool"}]}
    )
    ids = lambda fields: {each.name: each.id for each in changed({"fields": fields}, old).fields}  # noqa: E731
    assert ids([{"name": "a", "type": "text"}])["a"] == "x1"
    assert ids([{"name": "a", "type": "number"}])["a"] == "number3904355907"
    assert ids([{"id": "x1", "name": "c", "type": "text"}, {"name": "a", "type": "text"}]) == {
        "id": "text3208210256",
        "c": "x1",
        "a": "text3904355907",
    }
    assert set(ids([])) == {"id"}


def test_what_a_field_does_not_say_is_not_kept():
    old = made({"name": "n", "fields": [{"id": "x1", "name": "a", "type": "text", "required": True, "max": 5}]})
    found = changed({"fields": [{"id": "x1", "name": "a", "type": "text"}]}, old).field("a")
    assert (found.required, found.max) == (False, 0)


def test_system_fields_come_back_with_their_ids_and_flags():
    old = users()
    found = changed({"fields": [{"id": "text1579384326", "name": "name", "type": "text"}]}, old)
    assert [each.name for each in found.fields] == [
        *("id", "name", "password", "tokenKey", "email", "emailVisibility", "verified")
    ]
    assert {*found.fields} > {*old.fields[:6]}
    body = {"fields": [{"name": "password", "type": "password"}, {"name": "id", "type": "text", "hidden": True}]}
    found = changed(body, old)
    assert (found.field("password").hidden, found.field("password").system) == (True, True)
    key = found.field("id")
    assert (key.primary_key, key.system, key.hidden, key.required) == (True, True, False, True)
    assert key.pattern == defaults.ID_PATTERN


def test_ids_of_primary_keys_stay_whatever_they_are():
    old = made({"name": "n", "fields": [{"id": "text4101409643", "name": "id", "type": "text", "primaryKey": True}]})
    assert old.fields[0].id == "text4101409643"
    assert changed({"fields": [{"name": "id", "type": "text"}]}, old).fields[0].id == "text4101409643"


def test_indexes_follow_renamed_tables_and_columns():
    old = made(
        {
            "name": "posts",
            "fields": [{"id": "t", "name": "title", "type": "text"}, {"id": "s", "name": "state", "type": "text"}],
            "indexes": ["create index a on posts (title, lower(title)) where state != ''"],
        }
    )
    found = changed(
        {
            "name": "articles",
            "fields": [{"id": "t", "name": "head", "type": "text"}, {"id": "s", "name": "phase", "type": "text"}],
        },
        old,
    )
    assert found.indexes == ("create index a on `articles` (`head`, lower(`head`)) where `phase` != ''",)


def test_needed_indexes_of_auth_come_back():
    old = users()
    assert changed({"indexes": []}, old).indexes == old.indexes
    own = "CREATE UNIQUE INDEX mine ON users (name)"
    assert changed({"indexes": [own]}, old).indexes == (own, *old.indexes)


def test_bounds_of_dates_are_written_as_dates():
    field = made({"name": "n", "fields": [{"name": "d", "type": "date", "min": "2024-01-02", "max": "never"}]}).field(
        "d"
    )
    assert (field.min, field.max) == ("2024-01-02 00:00:00.000Z", "")


def test_types_and_ids_stay():
    old = made({"name": "n"})
    assert refused(changed, {"type": "auth"}, old) == {"type": "collection_type_change"}
    assert refused(changed, {"id": "other"}, old) == {"id": "in_invalid"}
    assert changed({"id": "", "type": "base"}, old) == replace(old, updated="2026-02-01 12:00:00.123Z")


# -- rows -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("collection", system.first_collections(Random(2), NOW), ids=lambda each: each.name)
def test_a_row_gives_the_collection_back(collection):
    assert rows.from_row(rows.to_row(collection)) == collection


def test_a_view_and_providers_come_back_from_their_rows():
    view = replace(defaults.blank(CollectionType.VIEW, "v", Random(0)), view_query="SELECT 'é' AS id")
    assert rows.from_row(rows.to_row(view)) == view
    auth = made({"name": "a", "type": "auth", "oauth2": {"enabled": True, "providers": [GOOGLE]}})
    assert rows.from_row(rows.to_row(auth)) == auth


def row(**changes):
    named = dict(zip(rows.COLUMNS, rows.to_row(users()), strict=True))
    return tuple((named | changes).values())


def test_options_that_are_not_there_switch_nothing_on():
    found = rows.from_row(row(options="{}")).auth
    assert (found.auth_rule, found.manage_rule) == (None, None)
    assert not (found.password_auth.enabled or found.otp.enabled or found.mfa.enabled or found.oauth2.enabled)
    assert not found.auth_alert.enabled
    assert (found.password_auth.identity_fields, found.auth_token.duration) == ((), 0)


def test_null_lists_are_empty():
    found = rows.from_row(
        row(options='{"passwordAuth":{"enabled":true,"identityFields":null},"oauth2":{"providers":null}}')
    )
    assert found.auth.password_auth.identity_fields == ()
    assert found.auth.oauth2.providers == ()
    assert rows.from_row(row(fields="null", indexes="null")).fields == ()
    field = '[{"type":"select","id":"a","name":"b","values":null,"maxSelect":2}]'
    assert rows.from_row(row(fields=field)).fields[0].values == ()


@pytest.mark.parametrize(
    "changes",
    [
        *({"type": "table"}, {"type": None}, {"fields": "["}, {"fields": "{}"}, {"fields": '[{"type":"clob"}]'}),
        *({"options": "["}, {"options": "[]"}, {"name": 5}, {"listRule": 5}, {"indexes": "{}"}),
        *(
            {"options": '{"otp":5}'},
            {"options": '{"oauth2":{"providers":[5]}}'},
            {"fields": '[{"type":"text","max":"x"}]'},
        ),
    ],
)
def test_rows_that_cannot_be_read_are_corrupt(changes):
    with pytest.raises(CorruptionError, match="collection"):
        rows.from_row(row(**changes))


def test_rows_of_another_width_are_corrupt():
    with pytest.raises(CorruptionError):
        rows.from_row(("a", "b"))


def test_keys_that_we_do_not_know_are_carried_over():
    collection = users()
    named = dict(zip(rows.COLUMNS, rows.to_row(collection), strict=True))
    fields, options = json.loads(named["fields"]), json.loads(named["options"])
    fields[7]["future"] = [1]
    options["passkeys"] = {"enabled": True}
    options["otp"]["channel"] = "sms"
    before = tuple((named | {"fields": json.dumps(fields), "options": json.dumps(options)}).values())
    assert rows.from_row(before) == collection
    after = dict(zip(rows.COLUMNS, rows.to_row(replace(collection, name="people"), before), strict=True))
    assert after["name"] == "people"
    assert json.loads(after["fields"])[7]["future"] == [1]
    assert json.loads(after["options"])["passkeys"] == {"enabled": True}
    assert json.loads(after["options"])["otp"]["channel"] == "sms"
    assert list(json.loads(after["fields"])[7]) == sorted(json.loads(after["fields"])[7])
    gone = dict(zip(rows.COLUMNS, rows.to_row(replace(collection, fields=collection.fields[:7]), before), strict=True))
    assert "future" not in gone["fields"]


# -- whatever is sent -------------------------------------------------------------------------------------------------

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KINDS = ["text", "number", "bool", "select", "relation", "file", "date", "autodate", "email", "json", "password", "x"]
FIELD = st.fixed_dictionaries(
    {"type": st.sampled_from(KINDS), "name": st.sampled_from(["a", "b", "id", "email", ""]) | JSON},
    optional=dict.fromkeys(
        ("id", "min", "max", "values", "maxSelect", "collectionId", "pattern", "thumbs", "onlyDomains"), JSON
    ),
)
BODY = st.fixed_dictionaries(
    {"name": st.sampled_from(["posts", "users", ""]) | JSON},
    optional={
        "type": st.sampled_from(["base", "auth", "view"]) | JSON,
        "fields": st.lists(FIELD, max_size=4) | JSON,
        "indexes": st.lists(st.sampled_from(["CREATE INDEX a ON b (id)", "x"]), max_size=3) | JSON,
        **dict.fromkeys(("id", "listRule", "authRule", "oauth2", "otp", "mfa", "authToken", "viewQuery"), JSON),
        "passwordAuth": st.fixed_dictionaries({}, optional={"enabled": JSON, "identityFields": JSON}),
    },
)


@pytest.mark.slow
@given(BODY | JSON)
def test_a_body_gives_a_collection_or_a_refusal(body):
    try:
        found = made(body)
    except ApiError as error:
        assert error.status == 400
    else:
        assert rows.from_row(rows.to_row(found)) == found
        assert json.loads(wire.encode(found))["id"] == found.id


@pytest.mark.slow
@given(BODY | JSON)
def test_a_change_gives_a_collection_or_a_refusal(body):
    old = users()
    try:
        found = changed(body, old)
    except ApiError as error:
        assert error.status == 400
    else:
        assert (found.id, found.type) == (old.id, old.type)
        assert rows.from_row(rows.to_row(found)) == found


@given(st.lists(st.sampled_from(["a", "b", "c"]), max_size=4, unique=True))
def test_completing_twice_changes_nothing(names):
    found = made({"name": "n", "type": "auth", "fields": [{"type": "text", "name": each} for each in names]})
    again = completing.complete(found, found, first_schema(), Random(0), found.updated)
    assert again == found


def test_what_is_sent_back_as_it_was_seen_changes_nothing():
    for collection in system.first_collections(Random(4), NOW):
        found = changed(shown(collection), collection)
        assert replace(found, updated=collection.updated) == collection


def test_every_field_type_has_a_form():
    for kind in Field.__args__:
        tag = kind.__struct_config__.tag
        found = bodies.read_new({"name": "n", "fields": [{"name": "a", "type": tag}]}, Random(0))
        assert isinstance(found, Collection) and found.fields[0].type == tag
