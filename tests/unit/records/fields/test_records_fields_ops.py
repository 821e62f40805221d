"""What holds for all types of fields: columns, JSON, and that nothing but ApiError comes out of a body."""

import json

import apsw
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records import model
from pando.records.fields import GeoPoint, PlainPassword, jsontext, ops
from pando.records.problems import ApiError

FIELDS = [
    model.TextField(name="f"),
    model.EditorField(name="f"),
    model.NumberField(name="f"),
    model.BoolField(name="f"),
    model.EmailField(name="f"),
    model.UrlField(name="f"),
    model.DateField(name="f"),
    model.AutodateField(name="f"),
    model.SelectField(name="f", values=("a", "b", "c"), max_select=1),
    model.SelectField(name="f", values=("a", "b", "c"), max_select=3),
    model.RelationField(name="f", max_select=1),
    model.RelationField(name="f", max_select=3),
    model.FileField(name="f", max_select=1),
    model.FileField(name="f", max_select=3),
    model.JsonField(name="f"),
    model.PasswordField(name="f"),
    model.GeoPointField(name="f"),
]
each_field = pytest.mark.parametrize("field", FIELDS, ids=lambda each: each.type + "s" * each.is_multiple)

texts = st.text(st.characters(codec="utf-8"), max_size=20)
leaves = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    texts,
    st.text(max_size=5),
    st.sampled_from(["true", "[1,2]", '["a","b"]', '{"lon":1,"lat":2}', "2024-02-30", "2024-02-29 01:02:03Z", "1e999"]),
)
bodies = st.recursive(
    leaves,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.one_of(texts, st.sampled_from(["lon", "lat"])), inner, max_size=4),
    ),
    max_leaves=10,
)


@pytest.fixture(scope="module")
def database():
    connection = apsw.Connection(":memory:")
    yield connection
    connection.close()


def stored(database, field, value):
    """What a real column gives back, with its affinity."""
    database.execute("DROP TABLE IF EXISTS t")
    database.execute(f"CREATE TABLE t (f {ops(field).column_sql()})")
    database.execute("INSERT INTO t (f) VALUES (?)", (value,))
    return database.execute("SELECT f FROM t").fetchall()[0][0]


@each_field
def test_a_column_without_a_value_holds_zero(database, field):
    database.execute("DROP TABLE IF EXISTS t")
    database.execute(f"CREATE TABLE t (f {ops(field).column_sql()}, other)")
    database.execute("INSERT INTO t (other) VALUES (1)")
    found = database.execute("SELECT f FROM t").fetchall()[0][0]
    made = ops(field)
    assert made.from_column(found) == made.from_column(made.to_column(made.zero))
    assert made.to_json(made.from_column(found)) == made.to_json(made.zero)


@each_field
@settings(max_examples=40, deadline=None)
@given(raw=bodies)
def test_whatever_a_body_says_is_a_value_or_an_api_error(field, raw):
    its = ops(field)
    try:
        value = its.normalise(raw)
    except ApiError as error:
        assert error.status == 400
        return
    problem = its.check(value)
    assert problem is None or problem.code.startswith("validation_")
    if problem is None:
        assert json.loads(jsontext.encode(its.to_json(value))) is not ...


@each_field
@settings(max_examples=40, deadline=None)
@given(raw=bodies)
def test_a_value_comes_back_from_its_column(database, field, raw):
    its = ops(field)
    try:
        value = its.normalise(raw)
    except ApiError:
        return
    if isinstance(value, PlainPassword) or (
        (problem := its.check(value)) and problem.code == "validation_not_a_number"
    ):
        return
    back = its.from_column(stored(database, field, its.to_column(value)))
    assert back == value
    assert type(back) is type(value)


@each_field
@settings(max_examples=40, deadline=None)
@given(value=st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.text(max_size=20), st.binary()))
def test_any_column_can_be_shown(field, value):
    its = ops(field)
    shown = msgspec.json.decode(jsontext.encode(its.to_json(its.from_column(value))))
    assert shown == msgspec.json.decode(jsontext.encode(its.to_json(its.from_column(value))))


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        (model.TextField(primary_key=True), "TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL"),
        (model.TextField(), "TEXT DEFAULT '' NOT NULL"),
        (model.EmailField(), "TEXT DEFAULT '' NOT NULL"),
        (model.UrlField(), "TEXT DEFAULT '' NOT NULL"),
        (model.EditorField(), "TEXT DEFAULT '' NOT NULL"),
        (model.PasswordField(), "TEXT DEFAULT '' NOT NULL"),
        (model.DateField(), "TEXT DEFAULT '' NOT NULL"),
        (model.AutodateField(), "TEXT DEFAULT '' NOT NULL"),
        (model.BoolField(), "BOOLEAN DEFAULT FALSE NOT NULL"),
        (model.NumberField(), "NUMERIC DEFAULT 0 NOT NULL"),
        (model.JsonField(), "JSON DEFAULT NULL"),
        (model.GeoPointField(), """JSON DEFAULT '{"lon":0,"lat":0}' NOT NULL"""),
        (model.SelectField(max_select=1), "TEXT DEFAULT '' NOT NULL"),
        (model.RelationField(max_select=2), "JSON DEFAULT '[]' NOT NULL"),
        (model.FileField(), "TEXT DEFAULT '' NOT NULL"),
    ],
)
def test_columns_are_those_of_the_data_directory(field, expected):
    assert ops(field).column_sql() == expected


def test_operations_are_made_once_per_definition():
    assert ops(model.TextField(name="a", max=3)) is ops(model.TextField(name="a", max=3))
    assert ops(model.TextField(name="a", max=3)) is not ops(model.TextField(name="a", max=4))


def test_a_point_keeps_its_order_in_json():
    assert jsontext.encode(ops(model.GeoPointField()).to_json(GeoPoint(1, 2.5))) == b'{"lon":1,"lat":2.5}'
