import json
from random import Random

import apsw
import pytest
from definitions_kit import NOW, column_sql, fresh, run

from pando.records.collections import ddl, defaults, directory, rows, shapes, system
from pando.records.fields import ops
from pando.records.model import CollectionType, Schema


def schema_of(db):
    return Schema(tuple(rows.from_row(row) for row in db.execute(rows.SELECT)))


def test_a_new_directory_has_the_system_collections_with_the_ids_that_every_server_has():
    found = {each.name: each for each in schema_of(fresh()).collections}
    assert {name: each.id for name, each in found.items()} == {
        "_mfas": "pbc_2279338944",
        "_otps": "pbc_1638494021",
        "_externalAuths": "pbc_2281828961",
        "_authOrigins": "pbc_4275539003",
        "_superusers": "pbc_3142635823",
        "users": "_pb_users_auth_",
    }
    assert {name for name, each in found.items() if each.system} == found.keys() - {system.USERS}
    assert all(each.created == each.updated == NOW for each in found.values())


def test_field_ids_are_those_of_other_servers():
    ids = {each.name: each.id for each in system.users(Random(0)).fields}
    assert ids == {
        "id": "text3208210256",
        "password": "password901924565",
        "tokenKey": "text2504183744",
        "email": "email3885137012",
        "emailVisibility": "bool1547992806",
        "verified": "bool256245529",
        "name": "text1579384326",
        "avatar": "file376926767",
        "created": "autodate2990389176",
        "updated": "autodate3332085495",
    }
    ids = {each.name: each.id for each in (*system.otps().fields, *system.external_auths().fields)}
    assert ids["collectionRef"] == "text455797646"
    assert ids["recordRef"] == "text127846527"
    assert ids["sentTo"] == "text3866985172"
    assert ids["provider"] == "text2462348188"


def test_rules_of_the_first_collections():
    by_name = {each.name: each.rules for each in system.first_collections(Random(0), NOW)}
    own = "@request.auth.id != '' && recordRef = @request.auth.id && collectionRef = @request.auth.collectionId"
    for name in ("_mfas", "_otps", "_externalAuths", "_authOrigins"):
        rules = by_name[name]
        assert (rules.list, rules.view, rules.create, rules.update) == (own, own, None, None)
        assert rules.delete == (own if name in ("_externalAuths", "_authOrigins") else None)
    rules = by_name["users"]
    assert rules.create == ""
    assert {rules.list, rules.view, rules.update, rules.delete} == {"id = @request.auth.id"}
    assert set(by_name["_superusers"].__class__.__slots__) == {"list", "view", "create", "update", "delete"}
    assert all(getattr(by_name["_superusers"], each) is None for each in by_name["_superusers"].__class__.__slots__)


def test_the_tables_have_the_columns_of_their_fields_and_take_rows():
    db = fresh()
    for collection in schema_of(db).collections:
        columns = {row[1] for row in db.execute(f"PRAGMA table_info(`{collection.name}`)")}
        assert columns == {each.name for each in collection.fields}
        db.execute(f"INSERT INTO `{collection.name}` DEFAULT VALUES")
    assert len(db.execute("SELECT id FROM users").fetchall()[0][0]) == 15


@pytest.mark.parametrize(
    ("table", "values"),
    [
        ("users", {"tokenKey": "k"}),
        ("users", {"email": "a@b.c"}),
        ("_externalAuths", {"collectionRef": "c", "recordRef": "r", "provider": "p"}),
        ("_authOrigins", {"collectionRef": "c", "recordRef": "r", "fingerprint": "f"}),
    ],
)
def test_unique_indexes_hold(table, values):
    db = fresh()
    names, places = ", ".join(values), ", ".join("?" for _ in values)
    other = ", tokenKey" if table == "users" and "tokenKey" not in values else ""
    insert = f"INSERT INTO {table} ({names}{other}) VALUES ({places}{', hex(randomblob(8))' if other else ''})"
    db.execute(insert, tuple(values.values()))
    with pytest.raises(apsw.ConstraintError):
        db.execute(insert, tuple(values.values()))


def test_empty_emails_are_not_unique():
    db = fresh()
    db.execute("INSERT INTO users (tokenKey) VALUES ('a'), ('b')")
    assert db.execute("SELECT count(*) FROM users").fetchall() == [(2,)]


def test_the_meta_tables_fill_in_what_is_not_said():
    db = fresh()
    db.execute("INSERT INTO _params (id, value) VALUES ('settings', '{}')")
    db.execute("INSERT INTO _collections (name) VALUES ('x')")
    row = db.execute(
        "SELECT id, type, fields, indexes, options, listRule FROM _collections WHERE name = 'x'"
    ).fetchall()
    assert row[0][1:] == ("base", "[]", "[]", "{}", None)
    assert row[0][0].startswith("r") and len(row[0][0]) == 15
    [(created,)] = db.execute("SELECT created FROM _params").fetchall()
    assert len(created) == len(NOW) and created.endswith("Z")
    files = [name for (name,) in db.execute("SELECT file FROM _migrations")]
    assert sorted(files) == sorted(directory.MIGRATIONS)
    assert not any("aux" in name for name in files)


def test_secrets_are_of_fifty_letters_and_digits_and_all_different():
    auth = system.users(Random(3)).auth
    secrets = [getattr(auth, name).secret for name in defaults.TOKENS]
    assert len(set(secrets)) == 5
    assert all(len(each) == 50 and each.isalnum() and each.isascii() for each in secrets)


def test_durations_of_new_auth_collections():
    auth = defaults.auth_options(Random(0))
    assert [getattr(auth, name).duration for name in defaults.TOKENS] == [432000, 1800, 1800, 86400, 180]
    assert (auth.auth_rule, auth.manage_rule, auth.auth_alert.enabled) == ("", None, True)
    assert (auth.password_auth.enabled, auth.password_auth.identity_fields) == (True, ("email",))
    assert (auth.mfa.enabled, auth.mfa.duration) == (False, 600)
    assert (auth.otp.enabled, auth.otp.duration, auth.otp.length) == (False, 180, 8)
    assert system.superusers(Random(0)).auth.auth_token.duration == 86400


@pytest.mark.parametrize(
    ("template", "placeholders"),
    [
        ("verification_template", ["{TOKEN}", "confirm-verification"]),
        ("reset_password_template", ["{TOKEN}", "confirm-password-reset"]),
        ("confirm_email_change_template", ["{TOKEN}", "confirm-email-change"]),
    ],
)
def test_mails_link_to_the_pages_that_finish_what_they_are_about(template, placeholders):
    auth = defaults.auth_options(Random(0))
    body = getattr(auth, template).body
    assert f"{{APP_URL}}/_/#/auth/{placeholders[1]}/{{TOKEN}}" in body
    assert "{OTP}" in auth.otp.email_template.body
    assert "{ALERT_INFO}" in auth.auth_alert.email_template.body


def test_ids_that_are_taken_get_the_next_number():
    base = defaults.collection_id(CollectionType.BASE, "_mfas")
    assert base == "pbc_2279338944"
    assert defaults.collection_id(CollectionType.BASE, "_mfas", {base}) == f"{base}2"
    assert defaults.collection_id(CollectionType.BASE, "_mfas", {base, f"{base}2"}) == f"{base}3"
    assert defaults.field_id("text", "id", {"text3208210256"}) == "text32082102562"


def test_scaffolds_are_blank_collections_of_each_type():
    found = defaults.scaffolds(Random(0))
    assert list(found) == ["base", "auth", "view"]
    assert all((each.id, each.name, each.system) == ("", "", False) for each in found.values())
    assert [each.name for each in found["auth"].fields] == [
        *("id", "password", "tokenKey", "email", "emailVisibility", "verified")
    ]
    assert [each.name for each in found["base"].fields] == ["id"]
    assert len(found["auth"].indexes) == 2


def test_a_collection_is_made_and_removed():
    db = fresh()
    made = defaults.blank(CollectionType.AUTH, "clients", Random(5))
    run(db, ddl.create(made, column_sql))
    assert schema_of(db).find("CLIENTS") == made
    run(db, ddl.delete(made))
    assert schema_of(db).find("clients") is None
    assert db.execute("SELECT * FROM sqlite_master WHERE tbl_name = 'clients'").fetchall() == []


def test_options_are_written_in_the_order_of_other_servers():
    db = fresh()
    [(options,)] = db.execute("SELECT options FROM _collections WHERE name = 'users'").fetchall()
    found = json.loads(options)
    assert list(found) == [
        *("authRule", "manageRule", "authAlert", "oauth2", "passwordAuth", "mfa", "otp", "authToken"),
        *("passwordResetToken", "emailChangeToken", "verificationToken", "fileToken", "verificationTemplate"),
        *("resetPasswordTemplate", "confirmEmailChangeTemplate"),
    ]
    assert list(found["authToken"]) == ["secret", "duration"]
    assert list(found["oauth2"]) == ["providers", "mappedFields", "enabled"]
    [(fields,)] = db.execute("SELECT fields FROM _collections WHERE name = 'users'").fetchall()
    assert all(list(each) == sorted(each) for each in json.loads(fields))


@pytest.mark.parametrize("kind", sorted(shapes.FIELD_TYPES))
def test_the_columns_of_these_tests_are_those_of_the_fields(kind):
    for options in ({}, {"maxSelect": 2}, {"primaryKey": True}):
        field = shapes.field({"type": kind, "name": "a"} | options)
        assert ops(field).column_sql() == column_sql(field)
