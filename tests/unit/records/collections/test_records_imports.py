import json
from dataclasses import replace
from random import Random

import pytest
from definitions_kit import ASKED, LATER, column_sql, fresh, made, refused, run
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records.collections import ddl, defaults, imports, rows, views, wire
from pando.records.model import Schema
from pando.records.problems import ApiError, ValidationFailed

FAILED = {"collections": "collections_import_failure"}


def schema_of(db):
    return Schema(tuple(rows.from_row(row) for row in db.execute(rows.SELECT)))


def carry_out(db, body):
    """Do what the service does, in one transaction."""
    with db:
        planned = imports.plan(body, schema_of(db), Random(1), LATER)
        imports.check_tables(planned, ASKED)
        for each in imports.table_statements(planned, column_sql):
            db.execute(each.sql, each.args)
        schema = planned.after
        for view in planned.views:
            statement = ddl.create_view(view)
            db.execute(statement.sql)
            names = [name for (name,) in db.execute("SELECT name FROM pragma_table_info(?)", (view.name,))]
            fields = views.infer_fields(view.view_query, names, schema, Random(2), view.fields)
            inferred = replace(view, fields=fields)
            schema = Schema(tuple(inferred if each.id == view.id else each for each in schema.collections))
            row = imports.view_row(planned, inferred)
            db.execute(row.sql, row.args)
        imports.check_all(planned, schema, ASKED)
    return schema_of(db)


def export(collection):
    return json.loads(wire.encode(collection))


def started(*bodies):
    db = fresh()
    for each in bodies:
        run(db, ddl.create(made(each, schema_of(db)), column_sql))
    return db


def text(name, **options):
    return {"name": name, "type": "text", **options}


def listed(*collections, **options):
    return {"collections": list(collections), **options}


# -- what becomes of collections --------------------------------------------------------------------------------------


def test_everything_that_was_exported_is_imported_unchanged():
    db = started({"name": "posts", "fields": [text("title")], "indexes": ["CREATE INDEX i ON posts (title)"]})
    db.execute("INSERT INTO posts (id, title) VALUES ('r', 'kept')")
    before = schema_of(db)
    after = carry_out(db, listed(*map(export, before.collections), deleteMissing=True))
    assert [replace(each, updated="") for each in after.collections] == [
        replace(each, updated="") for each in before.collections
    ]
    assert db.execute("SELECT title FROM posts").fetchall() == [("kept",)]


def test_new_collections_are_made_and_others_stay():
    db = fresh()
    before = schema_of(db)
    after = carry_out(db, listed({"name": "a", "fields": [text("x")]}, {"name": "b", "type": "auth"}))
    assert {each.name for each in after.collections} - {each.name for each in before.collections} == {"a", "b"}
    assert after.find("a").id == defaults.collection_id("base", "a")
    db.execute("INSERT INTO a (x) VALUES ('y')")
    assert len(after.find("b").indexes) == 2


def test_fields_that_are_not_listed_stay_unless_they_are_to_go():
    db = started({"name": "posts", "fields": [text("a"), text("b")]})
    after = carry_out(db, listed({"name": "posts", "fields": [text("c")]}))
    assert [each.name for each in after.find("posts").fields] == ["c", "id", "a", "b"]
    everything = [export(each) for each in after.collections if each.name != "posts"]
    after = carry_out(db, listed({"name": "posts", "fields": [text("c")]}, *everything, deleteMissing=True))
    assert [each.name for each in after.find("posts").fields] == ["c", "id"]


def test_system_fields_and_collections_always_stay():
    db = fresh()
    before = schema_of(db)
    body = listed({"name": "_otps", "fields": [text("more")]}, {"name": "users", "fields": []}, deleteMissing=True)
    after = carry_out(db, body)

    def names(schema, collection):
        return [each.name for each in schema.find(collection).fields]

    assert {each.name for each in after.collections} == {each.name for each in before.collections}
    assert names(after, "_otps") == ["more", *names(before, "_otps")]
    assert names(after, "users") == names(before, "users")[:6]


def test_missing_collections_go_if_asked():
    db = started({"name": "posts"}, {"name": "view", "type": "base"})
    after = carry_out(db, listed({"name": "posts"}, deleteMissing=True))
    assert after.find("view") is None and after.find("users") is None
    assert db.execute("SELECT name FROM sqlite_schema WHERE name IN ('view', 'users')").fetchall() == []


def test_a_collection_is_found_by_id_and_renamed_or_by_name_and_keeps_its_id():
    db = started({"id": "one", "name": "posts", "fields": [text("a")]})
    db.execute("INSERT INTO posts (a) VALUES ('kept')")
    after = carry_out(db, listed({"id": "one", "name": "articles"}))
    assert after.find("one").name == "articles"
    after = carry_out(db, listed({"id": "elsewhere", "name": "Articles"}))
    assert after.find("one").name == "Articles"
    assert db.execute("SELECT a FROM articles").fetchall() == [("kept",)]


def test_a_field_of_the_same_name_and_type_takes_the_old_id():
    db = started({"name": "posts", "fields": [text("a", id="own")]})
    db.execute("INSERT INTO posts (a) VALUES ('kept')")
    after = carry_out(db, listed({"name": "posts", "fields": [text("a", id="text3904355907", max=9)]}))
    assert (after.find("posts").field("a").id, after.find("posts").field("a").max) == ("own", 9)
    assert db.execute("SELECT a FROM posts").fetchall() == [("kept",)]


def test_relations_follow_collections_that_have_other_ids_here():
    db = started({"id": "here", "name": "posts"})
    relation = {"name": "post", "type": "relation", "collectionId": "there"}
    after = carry_out(db, listed({"name": "comments", "fields": [relation]}, {"id": "there", "name": "posts"}))
    assert after.find("comments").field("post").collection_id == "here"


def test_collections_can_exchange_names_and_indexes():
    db = started(
        {"id": "one", "name": "a", "fields": [text("x")], "indexes": ["CREATE INDEX i ON a (x)"]},
        {"id": "two", "name": "b", "fields": [text("x")], "indexes": ["CREATE INDEX j ON b (x)"]},
    )
    db.execute("INSERT INTO a (x) VALUES ('first')")
    db.execute("INSERT INTO b (x) VALUES ('second')")
    after = carry_out(
        db,
        listed(
            {"id": "one", "name": "b", "indexes": ["CREATE INDEX j ON b (x)"]},
            {"id": "two", "name": "a", "indexes": ["CREATE INDEX i ON a (x)"]},
        ),
    )
    assert (after.find("one").name, after.find("two").name) == ("b", "a")
    assert db.execute("SELECT x FROM a UNION ALL SELECT x FROM b").fetchall() == [("second",), ("first",)]
    found = db.execute("SELECT name, tbl_name FROM sqlite_schema WHERE name IN ('i', 'j') ORDER BY 1").fetchall()
    assert found == [("i", "a"), ("j", "b")]


def test_views_come_last_and_get_their_fields():
    db = fresh()
    after = carry_out(
        db,
        listed(
            {"name": "second", "type": "view", "viewQuery": "SELECT id, title AS t FROM first", "listRule": "t != ''"},
            {"name": "first", "type": "view", "viewQuery": "SELECT id, title FROM posts"},
            {"name": "posts", "fields": [text("title", max=5)]},
        ),
    )
    assert [each.name for each in after.find("second").fields] == ["id", "t"]
    assert after.find("second").field("t").max == 5
    db.execute("INSERT INTO posts (id, title) VALUES ('r', 'hi')")
    assert db.execute("SELECT * FROM second").fetchall() == [("r", "hi")]


def test_views_that_are_not_listed_are_read_again():
    db = fresh()
    carry_out(
        db,
        listed(
            {"name": "posts", "fields": [text("title", id="t")]},
            {"name": "v", "type": "view", "viewQuery": "SELECT id, title FROM posts"},
        ),
    )
    after = carry_out(db, listed({"name": "posts", "fields": [text("title", id="t", max=3, hidden=True)]}))
    assert (after.find("v").field("title").max, after.find("v").field("title").hidden) == (3, True)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({}, {"collections": "required"}),
        ({"collections": []}, {"collections": "required"}),
        ({"collections": None}, {"collections": "required"}),
        ({"collections": [{}] * 1001}, {"collections": "length_too_long"}),
        (listed({}), FAILED),
        (listed({"name": "a b"}), FAILED),
        (listed({"name": "a", "type": "table"}), FAILED),
        (listed({"name": "users", "type": "base"}), FAILED),
        (listed({"name": "a", "fields": [{"name": "b", "type": "clob"}]}), FAILED),
        (listed({"name": "a"}, {"name": "b", "listRule": "bad"}), FAILED),
        (listed({"name": "a", "fields": [{"name": "r", "type": "relation", "collectionId": "x"}]}), FAILED),
        (listed({"name": "_superusers", "listRule": ""}), FAILED),
        (listed({"name": "a", "indexes": ["CREATE INDEX i ON a (nothing)"]}), FAILED),
        (listed({"name": "a", "type": "view", "viewQuery": ""}), FAILED),
        (listed({"name": "a", "type": "view", "viewQuery": "SELECT id FROM users", "createRule": ""}), FAILED),
    ],
)
def test_what_cannot_be_imported(body, found):
    db = fresh()
    before = schema_of(db)
    assert refused(carry_out, db, body) == found
    assert schema_of(db) == before


@pytest.mark.parametrize(
    "body", [None, [], 5, {"collections": 5}, {"collections": [5]}, {"collections": {"a": 1}}, listed({"name": 5})]
)
def test_bodies_of_wrong_types(body):
    with pytest.raises(ApiError) as caught:
        imports.plan(body, schema_of(fresh()), Random(0), LATER)
    assert caught.value.status == 400
    with pytest.raises(ApiError):
        imports.plan(listed({"name": "a"}, deleteMissing="yes"), schema_of(fresh()), Random(0), LATER)


def test_what_others_point_to_cannot_go():
    db = started({"id": "p", "name": "posts"})
    carry_out(db, listed({"name": "_mfas", "fields": [{"name": "r", "type": "relation", "collectionId": "p"}]}))
    assert refused(carry_out, db, listed({"name": "users"}, deleteMissing=True)) == FAILED


def test_a_new_collection_is_in_the_list_once():
    db = started({"name": "old", "fields": [text("a")]})
    with pytest.raises(ValidationFailed) as caught:
        carry_out(db, listed({"name": "new"}, {"name": "NEW"}))
    assert "twice" in caught.value.data["collections"].message
    names = [each.name for each in carry_out(db, listed({"name": "old"}, {"name": "old"})).collections]
    assert names.count("old") == 1
    assert "new" not in names


def test_a_refusal_says_what_is_wrong_and_with_which():
    with pytest.raises(ValidationFailed) as caught:
        carry_out(fresh(), listed({"name": "fine"}, {"name": "posts", "fields": [{"name": "s", "type": "select"}]}))
    message = caught.value.data["collections"].message
    assert "posts" in message and "fields.1.values" in message


# -- any import -------------------------------------------------------------------------------------------------------

FIELDS = st.lists(
    st.builds(
        lambda name, kind, most: {"name": name, "type": kind, "values": ["a", "b"], "maxSelect": most},
        st.sampled_from(["x", "y", "z"]),
        st.sampled_from(["text", "select", "number"]),
        st.sampled_from([1, 2]),
    ),
    max_size=3,
    unique_by=lambda each: each["name"],
)
COLLECTIONS = st.lists(
    st.fixed_dictionaries(
        {"id": st.sampled_from(["one", "two", "three"]), "name": st.sampled_from(["a", "b", "c"])},
        optional={"fields": FIELDS},
    ),
    min_size=1,
    max_size=3,
    unique_by=(lambda each: each["id"], lambda each: each["name"]),
)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(COLLECTIONS, st.booleans()), min_size=1, max_size=3))
def test_any_import_leaves_tables_that_fit_their_definitions(steps):
    db = fresh()
    for collections, delete_missing in steps:
        before = schema_of(db)
        try:
            after = carry_out(db, listed(*collections, deleteMissing=delete_missing))
        except ApiError as error:
            assert error.status == 400
            assert schema_of(db) == before
            continue
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")}
        assert tables == {each.name for each in after.collections} | {"_collections", "_params", "_migrations"}
        for each in after.collections:
            columns = {row[1] for row in db.execute(f"PRAGMA table_info(`{each.name}`)")}
            assert columns == {field.name for field in each.fields}
