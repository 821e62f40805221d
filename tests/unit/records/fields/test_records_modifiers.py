"""Bodies of updates: what each key does, and that the SQL of two at once loses neither."""

from random import Random

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records import model
from pando.records.fields import GeoPoint, NewFile, PlainPassword, ops
from pando.records.fields.modifiers import (
    Modifier,
    assignment,
    interpret,
    permitted,
    quote,
    read_key,
    rule_body,
    values_of,
)
from pando.records.problems import ApiError

FIELDS = (
    model.TextField(name="id", primary_key=True),
    model.TextField(name="title", autogenerate_pattern="[0-9]{4}"),
    model.TextField(name="broken", autogenerate_pattern="^x"),
    model.TextField(name="secret", hidden=True),
    model.NumberField(name="n"),
    model.NumberField(name="few", min=-2, max=10, only_int=True),
    model.BoolField(name="on"),
    model.SelectField(name="tags", values=("a", "b", "c", "d"), max_select=3),
    model.SelectField(name="one", values=("a", "b"), max_select=1),
    model.RelationField(name="friends", max_select=9),
    model.FileField(name="files", max_select=9),
    model.FileField(name="file", max_select=1),
    model.JsonField(name="data"),
    model.GeoPointField(name="at"),
    model.AutodateField(name="updated", on_update=True),
    model.PasswordField(name="password", hidden=True),
)
POSTS = model.Collection(id="c", name="posts", fields=FIELDS)
STORED = {
    **{each.name: ops(each).zero for each in FIELDS},
    **{"id": "r1", "title": "old", "n": 10, "few": 3, "tags": ["a", "b"], "one": "a"},
    **{"files": ["x.png", "y.png"], "file": "z.png", "friends": ["f1"]},
}
NEW = NewFile("new.png", 5, "image/png")


def values(body, stored=STORED):
    return values_of(interpret(POSTS, body, stored, Random(1)))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("n", ("n", Modifier.SET)),
        ("n+", ("n", Modifier.APPEND)),
        ("n-", ("n", Modifier.REMOVE)),
        ("+n", None),
        ("tags+", ("tags", Modifier.APPEND)),
        ("+tags", ("tags", Modifier.PREPEND)),
        ("tags-", ("tags", Modifier.REMOVE)),
        ("-tags", None),
        ("title:autogenerate", ("title", Modifier.GENERATE)),
        ("n:autogenerate", None),
        ("title+", None),
        ("on-", None),
        ("unknown", None),
        ("unknown+", None),
        ("", None),
        ("+", None),
    ],
)
def test_keys_name_a_field_and_what_they_do(key, expected):
    found = read_key(POSTS, key)
    assert (found and (found[0].name, found[1])) == expected


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, {}),
        ({"unknown": 1, "expand": {}}, {}),
        ({"updated": "2024-01-01"}, {}),
        ({"title": 5, "on": "true"}, {"title": "5", "on": True}),
        ({"n+": 5}, {"n": 15}),
        ({"n-": "2.5"}, {"n": 7.5}),
        ({"n+": 5, "n-": 1}, {"n": 14}),
        ({"n": 1, "n+": 5}, {"n": 6}),
        ({"n+": "word"}, {"n": 10}),
        ({"tags+": "c"}, {"tags": ["a", "b", "c"]}),
        ({"tags+": ["b", "c"]}, {"tags": ["a", "b", "c"]}),
        ({"+tags": ["c", "b"]}, {"tags": ["c", "b", "a"]}),
        ({"tags-": "a"}, {"tags": ["b"]}),
        ({"tags-": ["a", "b"]}, {"tags": []}),
        ({"tags": ["d"], "tags+": "c"}, {"tags": ["d", "c"]}),
        ({"+tags": ["c"], "tags": ["d"]}, {"tags": ["d"]}),
        ({"tags+": "c", "tags-": "a"}, {"tags": ["b", "c"]}),
        ({"one+": "b"}, {"one": "b"}),
        ({"+one": "b"}, {"one": "a"}),
        ({"one-": "a"}, {"one": ""}),
        ({"one-": "b"}, {"one": "a"}),
        ({"friends+": '["f2","f1"]'}, {"friends": ["f1", "f2"]}),
        ({"files+": NEW}, {"files": ["x.png", "y.png", NEW]}),
        ({"+files": [NEW]}, {"files": [NEW, "x.png", "y.png"]}),
        ({"files-": "x.png"}, {"files": ["y.png"]}),
        ({"files": [NEW, "y.png"]}, {"files": [NEW, "y.png"]}),
        ({"files": ""}, {"files": []}),
        ({"file": None}, {"file": ""}),
        ({"file": NEW}, {"file": NEW}),
        ({"file+": NEW}, {"file": NEW}),
        ({"password": "pw"}, {"password": PlainPassword("pw")}),
        ({"at": {"lon": 1, "lat": 2}}, {"at": GeoPoint(1, 2)}),
    ],
)
def test_a_body_gives_values(body, expected):
    assert values(body) == expected


def test_a_generated_text_follows_its_prefix():
    made = values({"title:autogenerate": "post-"})["title"]
    assert made.startswith("post-") and made[5:].isdigit() and len(made) == 9


def test_a_pattern_that_makes_nothing_is_the_callers_to_hear_of():
    with pytest.raises(ApiError):
        values({"broken:autogenerate": ""})


def test_on_a_new_record_modifiers_start_from_zero_and_are_plain_values():
    changes = interpret(POSTS, {"n+": 3, "tags+": "a", "title:autogenerate": "x"}, None, Random(1))
    assert values_of(changes) | {"title": ""} == {"n": 3, "tags": ["a"], "title": ""}
    assert all(change.delta is None and not change.needs_stored for change in changes.values())


def test_only_what_was_not_set_is_arithmetic_or_needs_the_stored_list():
    changes = interpret(POSTS, {"n+": 1, "few": 1, "few+": 2, "tags-": "a", "one": "a", "one+": "b"}, STORED, Random(1))
    assert {name: (each.delta, each.needs_stored) for name, each in changes.items()} == {
        "n": (1, False),
        "few": (None, False),
        "tags": (None, True),
        "one": (None, False),
    }


def test_hidden_fields_are_dropped_but_for_the_password_of_who_signs_in():
    body = {"secret": "x", "password": "y", "title": "z"}
    users = model.Collection(id="u", name="users", type=model.CollectionType.AUTH, fields=FIELDS)
    assert set(permitted(POSTS, interpret(POSTS, body, STORED, Random(1)))) == {"title"}
    assert set(permitted(users, interpret(users, body, STORED, Random(1)))) == {"title", "password"}


def test_rules_see_results_under_the_names_of_fields():
    body = {"n+": 1, "tags-": "a", "passwordConfirm": "p", "password": "p", "file": NEW, "files+": NEW, "at": None}
    assert rule_body(POSTS, body, interpret(POSTS, body, STORED, Random(1))) == {
        "n": 11,
        "tags": ["b"],
        "passwordConfirm": "p",
        "password": "p",
        "file": "new.png",
        "files": ["x.png", "y.png", "new.png"],
        "at": {"lon": 0, "lat": 0},
    }


# -- SQL --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def table():
    connection = apsw.Connection(":memory:")
    columns = ", ".join(f"{quote(each.name)} {ops(each).column_sql()}" for each in FIELDS)
    connection.execute(f"CREATE TABLE posts ({columns})")
    names = [name for name in STORED if name != "password"]
    held = [ops(POSTS.field(name)).to_column(STORED[name]) for name in names]
    marks = ", ".join("?" * len(names))
    connection.execute(f"INSERT INTO posts ({', '.join(quote(name) for name in names)}) VALUES ({marks})", held)
    yield connection
    connection.close()


def column(table, name):
    return table.execute(f"SELECT {quote(name)} FROM posts").fetchall()[0][0]


def write(table, change, stored):
    """What the writer does with one change; gives the number of rows that it changed."""
    made = assignment(change, stored)
    where = f"id = ? AND {made.guard}" if made.guard else "id = ?"
    table.execute(f"UPDATE posts SET {made.sql} WHERE {where}", (*made.args, "r1", *made.guard_args))
    return table.changes()


def test_two_additions_made_of_the_same_row_both_count(table):
    first = interpret(POSTS, {"n+": 5}, STORED, Random(1))["n"]
    second = interpret(POSTS, {"n-": 2}, STORED, Random(1))["n"]
    assert (write(table, first, 10), write(table, second, 10)) == (1, 1)
    assert column(table, "n") == 13


def test_two_appends_made_of_the_same_row_do_not_lose_one_another(table):
    read = column(table, "tags")
    first = interpret(POSTS, {"tags+": "c"}, STORED, Random(1))["tags"]
    second = interpret(POSTS, {"tags-": "a"}, STORED, Random(1))["tags"]
    assert (write(table, first, read), write(table, second, read)) == (1, 0)
    read = column(table, "tags")
    stored = {**STORED, "tags": ops(POSTS.field("tags")).from_column(read)}
    assert write(table, interpret(POSTS, {"tags-": "a"}, stored, Random(1))["tags"], read) == 1
    assert column(table, "tags") == '["b","c"]'


@pytest.mark.parametrize(("meanwhile", "changed"), [(3, 1), (9, 0), (-8, 0), (-5, 1), (2.5, 0), (0, 1)])
def test_a_sum_is_written_only_if_it_still_keeps_within_bounds(table, meanwhile, changed):
    change = interpret(POSTS, {"few+": 5}, STORED, Random(1))["few"]
    table.execute("UPDATE posts SET few = ?", (meanwhile,))
    assert write(table, change, 3) == changed
    assert column(table, "few") == (meanwhile + 5 if changed else meanwhile)


def test_a_required_number_does_not_become_zero_between_two_writers(table):
    field = model.NumberField(name="n", required=True)
    posts = model.Collection(id="c", name="posts", fields=(field,))
    change = interpret(posts, {"n-": 4}, {"n": 10}, Random(1))["n"]
    table.execute("UPDATE posts SET n = 4")
    assert write(table, change, 10) == 0


def test_plain_values_are_set_whatever_is_there(table):
    change = interpret(POSTS, {"tags": ["d"]}, STORED, Random(1))["tags"]
    table.execute("UPDATE posts SET tags = '[]'")
    assert write(table, change, '["a","b"]') == 1
    assert column(table, "tags") == '["d"]'


def test_names_are_quoted():
    assert quote('a"b') == '"a""b"'


amounts = st.one_of(st.integers(-(2**60), 2**60), st.floats(-1e300, 1e300))


@settings(deadline=None, max_examples=60)
@given(start=amounts, added=amounts)
def test_sql_adds_as_the_check_expected(start, added):
    field = model.NumberField(name="n")
    posts = model.Collection(id="c", name="posts", fields=(field,))
    its = ops(field)
    start = its.normalise(start)
    change = interpret(posts, {"n+": added}, {"n": start}, Random(1))["n"]
    made = assignment(change)
    with apsw.Connection(":memory:") as connection:
        connection.execute(f"CREATE TABLE posts (n {its.column_sql()})")
        connection.execute("INSERT INTO posts VALUES (?)", (its.to_column(start),))
        connection.execute(f"UPDATE posts SET {made.sql}", made.args)
        found = its.from_column(connection.execute("SELECT n FROM posts").fetchall()[0][0])
    assert found == pytest.approx(change.value, rel=1e-15)


keys = st.sampled_from(
    ["n", "n+", "n-", "tags", "tags+", "+tags", "tags-", "one+", "files-", "title:autogenerate", "data", "x"]
)
raws = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(), st.text(max_size=5), st.lists(st.text(max_size=3))
)


@settings(deadline=None, max_examples=60)
@given(body=st.dictionaries(keys, raws, max_size=4))
def test_whatever_a_body_says_its_changes_can_be_checked(body):
    found = values(body)
    assert set(found) <= set(POSTS.by_name)
    problems = [ops(POSTS.field(name)).check(value) for name, value in found.items()]
    assert all(problem is None or problem.code.startswith("validation_") for problem in problems)
