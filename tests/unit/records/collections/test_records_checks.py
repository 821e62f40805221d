from dataclasses import replace
from random import Random

import pytest
from definitions_kit import ASKED, NOW, changed, codes, first_schema, made, refused
from msgspec.structs import replace as replaced

from pando.records import model
from pando.records.collections import checks, completing, defaults, system
from pando.records.model import Collection, CollectionType, Rules, Schema
from pando.records.problems import ApiError


def field(kind, **options):
    return {"name": "x", "fields": [{"name": "f", "type": kind, **options}]}


def problems(new, old=None, schema=None):
    return dict(codes(checks.problems(new, old, schema or first_schema(), ASKED)))


def plain(**changes):
    base = Collection(id="pbc_1", name="x", fields=(defaults.id_field(),))
    return replace(base, **changes)


def auth(**changes):
    return replace(defaults.blank(CollectionType.AUTH, "x", Random(0)), **changes)


def auth_body(**options):
    return {"name": "x", "type": "auth", **options}


# -- names and flags --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({}, {"name": "required"}),
        ({"name": "a" * 256}, {"name": "length_out_of_range"}),
        ({"name": "a b"}, {"name": "match_invalid"}),
        ({"name": "ünïcode"}, {"name": "match_invalid"}),
        ({"name": "a;drop"}, {"name": "match_invalid"}),
        ({"name": "a\n"}, {"name": "match_invalid"}),
        ({"name": "a_via_b"}, {"name": "found_via"}),
        ({"name": "a_VIA_b"}, {"name": "found_via"}),
        ({"name": "users"}, {"name": "collection_name_exists"}),
        ({"name": "USERS"}, {"name": "collection_name_exists"}),
        ({"name": "_pb_users_auth_"}, {"name": "collection_name_id_duplicate"}),
        ({"name": "_collections"}, {"name": "collection_name_invalid"}),
        ({"name": "_Params"}, {"name": "collection_name_invalid"}),
        ({"name": "_migrations"}, {"name": "collection_name_invalid"}),
        ({"name": "sqlite_master"}, {"name": "collection_name_invalid"}),
        ({"name": "idx_authOrigins_unique_pairs"}, {"name": "collection_name_invalid"}),
        ({"name": "x", "id": "a" * 101}, {"id": "length_out_of_range"}),
        ({"name": "x", "id": "a-b"}, {"id": "match_invalid"}),
        ({"name": "x", "id": "pbc_3142635823"}, {"id": "invalid_or_existing_id"}),
        ({"name": "x", "id": "users"}, {"id": "invalid_or_existing_id"}),
    ],
)
def test_names_and_ids_of_new_collections(body, found):
    assert refused(made, body) == found


@pytest.mark.parametrize("name", ["a" * 255, "_x", "1", "A_b_9", "select", "sqlite"])
def test_names_that_can_be(name):
    assert made({"name": name}).name == name


@pytest.mark.parametrize(
    ("name", "body", "found"),
    [
        ("_superusers", {"name": "admins"}, {"name": "collection_system_name_change"}),
        ("_superusers", {"system": False}, {"system": "collection_system_flag_change"}),
        ("users", {"system": True}, {"system": "collection_system_flag_change"}),
        ("users", {"name": "_superusers"}, {"name": "collection_name_exists"}),
        ("_otps", {"listRule": None}, {"listRule": "collection_system_rule_change"}),
        ("_otps", {"deleteRule": "id != ''"}, {"deleteRule": "collection_system_rule_change"}),
        ("_superusers", {"createRule": ""}, {"createRule": "collection_system_rule_change"}),
        ("_superusers", {"authRule": None}, {"authRule": "collection_system_rule_change"}),
        ("_superusers", {"manageRule": "id != ''"}, {"manageRule": "collection_system_rule_change"}),
        ("users", {"listRule": "bad"}, {"listRule": "invalid_rule"}),
        ("users", {"viewRule": "bad", "updateRule": "bad"}, {"viewRule": "invalid_rule", "updateRule": "invalid_rule"}),
        ("users", {"authRule": "bad"}, {"authRule": "invalid_rule"}),
        ("users", {"manageRule": "bad"}, {"manageRule": "invalid_rule"}),
        ("users", {"manageRule": ""}, {"manageRule": "nil_or_not_empty_required"}),
    ],
)
def test_changes_of_names_flags_and_rules(name, body, found):
    assert refused(changed, body, first_schema().find(name)) == found


def test_a_collection_may_change_the_case_of_its_name():
    assert changed({"name": "Users"}, first_schema().find("users")).name == "Users"


def test_superusers_may_have_other_options():
    found = changed({"otp": {"enabled": True}}, first_schema().find("_superusers"))
    assert found.auth.otp.enabled


def test_a_type_does_not_change():
    assert problems(plain(type=CollectionType.VIEW, view_query="x"), plain())["type"] == "collection_type_change"


def test_all_that_is_wrong_is_told_at_once():
    body = {"name": "users", "listRule": "bad", "fields": [{"name": "f", "type": "autodate"}], "indexes": ["x"]}
    assert set(refused(made, body)) == {*("name", "listRule", "fields.1.onCreate", "fields.1.onUpdate", "indexes.0")}


# -- views ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"view_query": "  "}, {"viewQuery": "required"}),
        ({"indexes": ("CREATE INDEX a ON x (id)",)}, {"indexes": "indexes_not_supported"}),
        ({"rules": Rules(create="")}, {"createRule": "nil"}),
        ({"rules": Rules(update="", delete="x = 1")}, {"updateRule": "nil", "deleteRule": "nil"}),
        ({"rules": Rules(list="bad")}, {"listRule": "invalid_rule"}),
        ({"fields": ()}, {"fields": "required", "viewQuery": "invalid_view_query"}),
        (
            {"fields": (model.TextField(id="a", name="a"),)},
            {"fields": "missing_primary_key", "viewQuery": "invalid_view_query"},
        ),
    ],
)
def test_what_views_cannot_have(changes, found):
    view = replace(plain(type=CollectionType.VIEW, view_query="SELECT id FROM users"), **changes)
    assert problems(view) == found


def test_views_may_have_relations_to_views_and_other_collections_may_not():
    view = plain(id="v", name="v", type=CollectionType.VIEW, view_query="SELECT id FROM users")
    schema = Schema((view,))
    relation = model.RelationField(id="r", name="r", collection_id="v", max_select=1)
    other = replace(view, id="w", name="w", fields=(*view.fields, relation))
    assert problems(other, schema=schema) == {}
    base = plain(fields=(defaults.id_field(), relation))
    assert problems(base, schema=schema) == {"fields.1.collectionId": "relation_field_non_view_base_collection"}


# -- fields as a list -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        ([{"name": "a"}, {"id": "q", "name": "A"}], {"fields.2.name": "duplicated_field_name"}),
        ([{"name": ""}], {"fields.1.name": "required"}),
        ([{"name": "a" * 101}], {"fields.1.name": "length_out_of_range"}),
        ([{"name": "a", "id": "i" * 101}], {"fields.1.id": "length_out_of_range"}),
        ([{"name": "a b"}], {"fields.1.name": "match_invalid"}),
        ([{"name": "a`"}], {"fields.1.name": "match_invalid"}),
        ([{"name": "null"}], {"fields.1.name": "not_in_invalid"}),
        ([{"name": "true"}], {"fields.1.name": "not_in_invalid"}),
        ([{"name": "false"}], {"fields.1.name": "not_in_invalid"}),
        ([{"name": "_ROWID_"}], {"fields.1.name": "not_in_invalid"}),
        ([{"name": "collectionId"}], {"fields.1.name": "not_in_invalid"}),
        ([{"name": "collectionName"}], {"fields.1.name": "not_in_invalid"}),
        ([{"name": "expand"}], {"fields.1.name": "not_in_invalid"}),
        ([{"name": "a_via_b"}], {"fields.1.name": "found_via"}),
        ([{"name": "a", "help": "h" * 301}], {"fields.1.help": "length_out_of_range"}),
    ],
)
def test_ids_and_names_of_fields(fields, found):
    assert refused(made, {"name": "x", "fields": [{"type": "text", **each} for each in fields]}) == found


def test_an_id_that_is_no_text_is_no_primary_key():
    body = {"name": "x", "fields": [{"name": "id", "type": "number"}]}
    assert refused(made, body) == {"fields.1.name": "duplicated_field_name"}


def test_there_is_one_primary_key():
    body = {
        "name": "x",
        "fields": [{"name": "b", "type": "text", "primaryKey": True, "required": True, "pattern": "a"}],
    }
    assert refused(made, body) == {
        "fields.0.primaryKey": "unsupported_composite_pk",
        "fields.1.primaryKey": "unsupported_composite_pk",
        "fields.1.name": "in_invalid",
    }


@pytest.mark.parametrize(
    ("changes", "found"),
    [({"required": False}, "required"), ({"hidden": True}, "hidden"), ({"pattern": ""}, "pattern")],
)
def test_a_primary_key_is_required_and_shown_and_has_a_pattern(changes, found):
    key = replaced(defaults.id_field(), **changes)
    code = "empty" if found == "hidden" else "required"
    assert problems(plain(fields=(key,))) == {f"fields.0.{found}": code}


@pytest.mark.parametrize("name", ["password", "tokenKey", "email", "emailVisibility", "verified"])
def test_auth_fields_must_be_there_and_of_their_type(name):
    found = made(auth_body(fields=[{"name": name, "type": "json"}])).field(name)
    assert replaced(found, id="") == replaced(auth().field(name), id="")
    without = auth(fields=tuple(each for each in auth().fields if each.name != name))
    assert problems(without)["fields"] == f"missing_{name}_field"


@pytest.mark.parametrize(
    ("name", "changes", "code"),
    [
        ("password", {"hidden": False}, "must_be_system_and_hidden"),
        ("tokenKey", {"system": False}, "must_be_system_and_hidden"),
        ("email", {"system": False}, "must_be_system"),
        ("verified", {"system": False}, "must_be_system"),
        ("emailVisibility", {"system": False}, "must_be_system"),
    ],
)
def test_auth_fields_have_their_flags(name, changes, code):
    fields = tuple(replaced(each, **changes) if each.name == name else each for each in auth().fields)
    assert problems(auth(fields=fields)) == {f"fields.{name}": code}


@pytest.mark.parametrize("name", ["passwordConfirm", "oldPassword"])
def test_names_that_bodies_of_auth_records_use(name):
    fields = [{"name": name, "type": "text"}]
    assert refused(made, auth_body(fields=fields)) == {"fields.1.name": "reserved_field_name"}
    assert made({"name": "x", "fields": fields}).field(name)


def test_system_fields_of_system_collections_stay():
    otps = first_schema().find("_otps")
    assert refused(changed, {"fields": [], "indexes": []}, otps) == {"fields": "system_field_change"}
    renamed = [replaced(each, name="mail") if each.name == "sentTo" else each for each in otps.fields]
    assert problems(replace(otps, fields=tuple(renamed)), otps) == {"fields": "system_field_change"}
    demoted = [replaced(each, system=False) if each.name == "sentTo" else each for each in otps.fields]
    assert problems(replace(otps, fields=tuple(demoted)), otps) == {"fields": "system_field_change"}


def test_a_system_field_of_auth_cannot_be_renamed():
    users = first_schema().find("users")
    fields = [
        {"id": each.id, "name": "mail" if each.name == "email" else each.name, "type": each.type}
        for each in users.fields[:6]
    ]
    assert refused(changed, {"fields": fields}, users)["fields"] == "system_field_change"


def test_types_of_fields_stay():
    old = made({"name": "x", "fields": [{"id": "f", "name": "f", "type": "text"}]})
    body = {"fields": [{"id": "f", "name": "f", "type": "number"}]}
    assert refused(changed, body, old) == {"fields.1": "field_type_change"}


# -- options of fields ------------------------------------------------------------------------------------------------

LEAST = "min_greater_equal_than_required"
MOST = "max_less_equal_than_required"
BIG = 2**53


@pytest.mark.parametrize(
    ("kind", "options", "found"),
    [
        ("text", {"min": -1}, {"min": LEAST}),
        ("text", {"min": BIG}, {"min": MOST, "max": None}),
        ("text", {"min": 5, "max": 4}, {"max": LEAST}),
        ("text", {"max": BIG}, {"max": MOST}),
        ("text", {"pattern": "("}, {"pattern": "invalid_regex"}),
        ("text", {"autogeneratePattern": "("}, {"autogeneratePattern": "invalid_regex"}),
        (
            "text",
            {"autogeneratePattern": "x", "pattern": "^q$"},
            {"autogeneratePattern": "invalid_autogenerate_pattern_value"},
        ),
        ("editor", {"maxSize": -1}, {"maxSize": LEAST}),
        ("editor", {"maxSize": BIG}, {"maxSize": MOST}),
        ("json", {"maxSize": -1}, {"maxSize": LEAST}),
        ("json", {"maxSize": BIG}, {"maxSize": MOST}),
        ("number", {"min": 5, "max": 4}, {"max": "min_number_constraint"}),
        ("number", {"min": 0, "max": -1}, {"max": "min_number_constraint"}),
        ("number", {"min": 0.5, "onlyInt": True}, {"min": "only_int_constraint"}),
        ("number", {"max": 0.5, "onlyInt": True}, {"max": "only_int_constraint"}),
        (
            "email",
            {"onlyDomains": ["a.b"], "exceptDomains": ["c.d"]},
            {"onlyDomains": "empty", "exceptDomains": "empty"},
        ),
        ("email", {"onlyDomains": ["ab.cd", "no domain"]}, {"onlyDomains.1": "is_domain"}),
        ("url", {"exceptDomains": ["https://a.b"]}, {"exceptDomains.0": "is_domain"}),
        ("autodate", {}, {"onCreate": "required", "onUpdate": "required"}),
        ("select", {}, {"values": "required"}),
        ("select", {"values": ["a"], "maxSelect": 2}, {"maxSelect": MOST}),
        ("select", {"values": ["a"], "maxSelect": -1}, {"maxSelect": LEAST}),
        ("relation", {}, {"collectionId": "required"}),
        ("relation", {"collectionId": "nobody"}, {"collectionId": "field_relation_missing_collection"}),
        ("relation", {"collectionId": "_pb_users_auth_", "minSelect": -1}, {"minSelect": LEAST}),
        ("relation", {"collectionId": "_pb_users_auth_", "minSelect": 1}, {"maxSelect": "required"}),
        ("relation", {"collectionId": "_pb_users_auth_", "minSelect": 2, "maxSelect": 1}, {"maxSelect": LEAST}),
        ("relation", {"collectionId": "_pb_users_auth_", "maxSelect": BIG}, {"maxSelect": MOST}),
        ("file", {"maxSelect": -1}, {"maxSelect": LEAST}),
        ("file", {"maxSelect": BIG}, {"maxSelect": MOST}),
        ("file", {"maxSize": -1}, {"maxSize": LEAST}),
        ("file", {"thumbs": ["100x100", "huge"]}, {"thumbs.1": "match_invalid"}),
        ("file", {"thumbs": ["0x0"]}, {"thumbs.0": "not_in_invalid"}),
        ("file", {"thumbs": ["0x0t"]}, {"thumbs.0": "not_in_invalid"}),
        ("password", {"min": -1}, {"min": LEAST}),
        ("password", {"min": 72}, {"min": MOST}),
        ("password", {"min": 8, "max": 7}, {"max": LEAST}),
        ("password", {"max": 72}, {"max": MOST}),
        ("password", {"cost": 3}, {"cost": LEAST}),
        ("password", {"cost": 32}, {"cost": MOST}),
        ("password", {"pattern": "["}, {"pattern": "invalid_regex"}),
    ],
)
def test_options_that_cannot_be(kind, options, found):
    wanted = {f"fields.1.{key}": code for key, code in found.items() if code}
    assert refused(made, field(kind, **options)) == wanted


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("text", {"min": 1, "max": 2**53 - 1, "pattern": "^a", "autogeneratePattern": ""}),
        ("text", {"min": 5}),
        ("text", {"autogeneratePattern": "x", "pattern": "^made$"}),
        ("editor", {"maxSize": 5}),
        ("number", {"min": -1, "max": -1, "onlyInt": True}),
        ("number", {"min": 1.5}),
        ("bool", {}),
        ("email", {"onlyDomains": ["example.com", "a-b.co.uk"]}),
        ("url", {"exceptDomains": []}),
        ("date", {"min": "2024-01-02", "max": "2024-01-01"}),
        ("autodate", {"onUpdate": True}),
        ("select", {"values": ["a", "b"], "maxSelect": 2}),
        ("relation", {"collectionId": "_pb_users_auth_", "minSelect": 1, "maxSelect": 1}),
        ("file", {"thumbs": ["100x0", "0x50f", "10x10t", "10x10b"], "maxSelect": 99}),
        ("json", {}),
        ("password", {"min": 1, "max": 71, "cost": 31}),
        ("geoPoint", {}),
    ],
)
def test_options_that_can_be(kind, options):
    assert made(field(kind, **options)).field("f").type == kind


def test_a_relation_may_point_to_its_own_collection():
    body = {"id": "own", **field("relation", collectionId="own")}
    assert made(body).field("f").collection_id == "own"


def test_the_target_of_a_relation_stays():
    old = made(
        {"name": "x", "fields": [{"id": "r", "name": "f", "type": "relation", "collectionId": "_pb_users_auth_"}]}
    )
    body = {"fields": [{"id": "r", "name": "f", "type": "relation", "collectionId": "pbc_3142635823"}]}
    assert refused(changed, body, old) == {"fields.1.collectionId": "field_relation_change"}


# -- indexes ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statements", "found"),
    [
        ([""], {"indexes.0": "required"}),
        (["CREATE INDEX"], {"indexes.0": "invalid_index_expression"}),
        (["CREATE INDEX ON x (f)"], {"indexes.0": "invalid_index_expression"}),
        (["CREATE INDEX `` ON x (f)"], {"indexes.0": "invalid_index_expression"}),
        (["CREATE INDEX a ON x ()"], {"indexes.0": "invalid_index_expression"}),
        (["CREATE INDEX a ON x (f); DROP TABLE x"], {"indexes.0": "invalid_index_expression"}),
        (["CREATE INDEX a ON x (f) WHERE 1; DROP TABLE x"], {"indexes.0": "invalid_index_expression"}),
        (["DROP TABLE x"], {"indexes.0": "invalid_index_expression"}),
        (["CREATE INDEX sqlite_a ON x (f)"], {"indexes.0": "invalid_index_expression"}),
        (["CREATE INDEX a ON x (g)"], {"indexes.0": "invalid_index_expression"}),
        (["CREATE INDEX a ON x (f)", "CREATE INDEX A ON x (id)"], {"indexes.1": "duplicated_index_name"}),
        (["CREATE INDEX a ON x (f)", "create index `b` on x (`F` asc)"], {"indexes.1": "duplicated_index_definition"}),
        (["CREATE INDEX idx_OTPS_collectionRef_recordRef ON x (f)"], {"indexes.0": "existing_index_name"}),
        (["CREATE INDEX users ON x (f)"], {"indexes.0": "existing_index_name"}),
        (["CREATE INDEX x ON x (f)"], {"indexes.0": "existing_index_name"}),
        (["CREATE INDEX _params ON x (f)"], {"indexes.0": "existing_index_name"}),
    ],
)
def test_indexes_that_cannot_be(statements, found):
    assert refused(made, {**field("text"), "indexes": statements}) == found


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE INDEX a ON x (f)",
        "create unique index if not exists `a` on `y` (`f` collate nocase desc, id) where (f != '' and id > ';')",
        "CREATE INDEX a ON x (lower(f), f || id)",
        "CREATE INDEX a ON x (f);",
        "CREATE INDEX main.a ON x (f) -- remark",
    ],
)
def test_indexes_that_can_be(statement):
    assert len(made({**field("text"), "indexes": [statement]}).indexes) == 1


def test_two_indexes_may_differ_in_their_conditions_only():
    statements = ["CREATE INDEX a ON x (f) WHERE f = 'A'", "CREATE INDEX b ON x (f) WHERE f = 'a'"]
    assert len(made({**field("text"), "indexes": statements}).indexes) == 2


def test_unique_indexes_of_system_fields_stay_as_they_are():
    users = first_schema().find("users")
    loose = [users.indexes[0], "CREATE UNIQUE INDEX e ON users (email) WHERE verified"]
    assert refused(changed, {"indexes": loose}, users) == {"indexes": "invalid_unique_system_field_index"}
    folded = ["CREATE UNIQUE INDEX t ON users (tokenKey COLLATE NOCASE)", users.indexes[1]]
    assert refused(changed, {"indexes": folded}, users) == {"indexes": "invalid_unique_system_field_index"}
    same = [
        "create unique index other on users (TOKENKEY)",
        'create unique index e on users ("email") where "EMAIL" != \'\'',
    ]
    assert len(changed({"indexes": same}, users).indexes) == 2


def test_auth_needs_its_two_indexes():
    assert problems(auth(indexes=())) == {
        "indexes": "missing_required_unique_index",
        "passwordAuth.identityFields": "missing_unique_constraint",
    }
    assert problems(auth(indexes=auth().indexes[:1]))["indexes"] == "missing_required_unique_index"


# -- auth options -----------------------------------------------------------------------------------------------------

GOOGLE = {"name": "google", "clientId": "i", "clientSecret": "s"}


def oauth2(*providers):
    return {"oauth2": {"enabled": True, "providers": list(providers)}}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"authRule": "bad"}, {"authRule": "invalid_rule"}),
        ({"passwordAuth": {"identityFields": []}}, {"passwordAuth.identityFields": "required"}),
        ({"passwordAuth": {"identityFields": ["nick"]}}, {"passwordAuth.identityFields": "missing_field"}),
        (
            {"passwordAuth": {"identityFields": ["verified"]}},
            {"passwordAuth.identityFields": "missing_unique_constraint"},
        ),
        ({"mfa": {"enabled": True}}, {"mfa.enabled": "mfa_not_enough_auths"}),
        (
            {"mfa": {"enabled": True, "duration": 9, "rule": "bad"}, "otp": {"enabled": True}},
            {"mfa.duration": LEAST},
        ),
        ({"otp": {"enabled": True, "duration": 86401}}, {"otp.duration": MOST}),
        ({"otp": {"enabled": True, "duration": 0}}, {"otp.duration": "required"}),
        ({"otp": {"enabled": True, "length": 3}}, {"otp.length": LEAST}),
        ({"otp": {"enabled": True, "length": 0}}, {"otp.length": "required"}),
        ({"otp": {"enabled": True, "emailTemplate": {"subject": ""}}}, {"otp.emailTemplate.subject": "required"}),
        ({"authAlert": {"emailTemplate": {"body": ""}}}, {"authAlert.emailTemplate.body": "required"}),
        ({"authToken": {"duration": 9}}, {"authToken.duration": LEAST}),
        ({"fileToken": {"duration": 94670857}}, {"fileToken.duration": MOST}),
        ({"verificationToken": {"duration": 0}}, {"verificationToken.duration": "required"}),
        ({"emailChangeToken": {"secret": "s" * 29}}, {"emailChangeToken.secret": "length_out_of_range"}),
        ({"passwordResetToken": {"secret": "s" * 256}}, {"passwordResetToken.secret": "length_out_of_range"}),
        ({"verificationTemplate": {"subject": ""}}, {"verificationTemplate.subject": "required"}),
        ({"resetPasswordTemplate": {"body": ""}}, {"resetPasswordTemplate.body": "required"}),
        ({"confirmEmailChangeTemplate": {"body": ""}}, {"confirmEmailChangeTemplate.body": "required"}),
        (oauth2({}), {f"oauth2.providers.0.{key}": "required" for key in ("name", "clientId", "clientSecret")}),
        (oauth2(GOOGLE | {"name": "nobody"}), {"oauth2.providers.0.name": "missing_provider"}),
        (oauth2(GOOGLE, GOOGLE), {"oauth2.providers.1.name": "duplicated_provider"}),
        (oauth2(GOOGLE | {"authURL": "no url"}), {"oauth2.providers.0.authURL": "is_url"}),
        (
            oauth2(GOOGLE | {"tokenURL": "x y", "userInfoURL": "/"}),
            {
                "oauth2.providers.0.tokenURL": "is_url",
                "oauth2.providers.0.userInfoURL": "is_url",
            },
        ),
    ],
)
def test_options_of_auth_that_cannot_be(options, found):
    assert refused(made, auth_body(**options)) == found


@pytest.mark.parametrize(
    "options",
    [
        {"passwordAuth": {"enabled": False, "identityFields": ["nick"]}},
        {"mfa": {"enabled": False, "duration": 1, "rule": "bad"}},
        {"mfa": {"enabled": True}, "otp": {"enabled": True}},
        {"otp": {"enabled": False, "length": 0}},
        {"authAlert": {"enabled": False, "emailTemplate": {"body": ""}}},
        {"oauth2": {"enabled": False, "providers": [{"name": "nobody"}]}},
        oauth2(GOOGLE | {"authURL": "https://example.com/auth?x=1"}, GOOGLE | {"name": "github"}),
        {"authToken": {"duration": 10, "secret": "s" * 30}, "fileToken": {"duration": 94670856}},
        {"manageRule": "x = 1", "authRule": None},
        {
            "passwordAuth": {"identityFields": ["email", "nick"]},
            "fields": [{"name": "nick", "type": "text"}],
            "indexes": ["CREATE UNIQUE INDEX n ON x (nick COLLATE NOCASE)"],
        },
    ],
)
def test_options_of_auth_that_can_be(options):
    assert made(auth_body(**options)).is_auth


# -- removing ---------------------------------------------------------------------------------------------------------


def test_what_can_be_removed():
    schema = first_schema()
    users = schema.find("users")
    checks.check_removable(users, schema)
    with pytest.raises(ApiError):
        checks.check_removable(schema.find("_otps"), schema)
    pointing = made(field("relation", collectionId=users.id))
    with pytest.raises(ApiError, match="users cannot be removed"):
        checks.check_removable(users, Schema((*schema.collections, pointing)))
    own = made({"id": "own", **field("relation", collectionId="own")})
    checks.check_removable(own, Schema((*schema.collections, own)))


def test_what_the_database_refuses_has_its_place():
    assert dict(codes(checks.index_refused(3, "no such function: f").data)) == {"indexes.3": "invalid_index_expression"}
    assert dict(codes(checks.view_refused("no such table: t").data)) == {"viewQuery": "invalid_view_query"}


def test_the_first_collections_pass_their_own_checks():
    schema = first_schema()
    for each in schema.collections:
        assert problems(each, each, schema) == {}
        same = completing.complete(each, each, schema, Random(0), NOW)
        assert same == each
    assert (
        problems(system.users(Random(0)), None, Schema(tuple(c for c in schema.collections if c.name != "users"))) == {}
    )
