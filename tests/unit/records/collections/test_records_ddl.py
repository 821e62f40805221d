from dataclasses import replace
from itertools import pairwise
from random import Random

import pytest
from definitions_kit import bare, changed, column_sql, fresh, made, run
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from pando.records import model
from pando.records.collections import ddl, defaults, rows
from pando.records.collections.sql_tokens import quote
from pando.records.model import Collection, CollectionType

ROWS = 3


def schema_sql(db, table):
    columns = {row[1:] for row in db.execute(f"PRAGMA table_info({quote(table)})")}
    indexed = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?", (table,))
    return columns, set(indexed)


def with_values(db, collection, **values):
    names, places = ", ".join(quote(each) for each in values), ", ".join("?" * len(values))
    db.execute(f"INSERT INTO {quote(collection.name)} ({names}) VALUES ({places})", tuple(values.values()))


def stored(db, name):
    return next(each for row in db.execute(rows.SELECT) if (each := rows.from_row(row)).name == name)


def select(name, field_id, most):
    values = ("a", "b", "c", "1", '["x"]')
    return model.SelectField(id=field_id, name=name, values=values, max_select=most)


def text(name, field_id):
    return model.TextField(id=field_id, name=name)


def base(*fields, indexes=(), name="t", id="pbc_t"):
    return Collection(id=id, name=name, fields=(defaults.id_field(), *fields), indexes=tuple(indexes))


def view_of(query):
    return Collection(id="v", name="v", type=CollectionType.VIEW, view_query=query, fields=(defaults.id_field(),))


def started(collection, **values):
    db = bare()
    run(db, ddl.create(collection, column_sql))
    if values:
        with_values(db, collection, id="r1", **values)
    return db


# -- single steps -----------------------------------------------------------------------------------------------------


def test_a_change_of_rules_touches_the_row_only():
    old = base()
    statements = ddl.change(old, replace(old, rules=model.Rules(list="")), column_sql, views=[base()])
    assert [each.sql.split()[0] for each in statements] == ["UPDATE"]


def test_columns_are_added_with_their_defaults_renamed_and_dropped():
    old = base(text("a", "1"), text("b", "2"))
    new = base(text("renamed", "1"), model.NumberField(id="3", name="n"), model.JsonField(id="4", name="j"))
    db = started(old, a="x", b="y")
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT id, renamed, n, j FROM t").fetchall() == [("r1", "x", 0, None)]
    assert stored(db, "t") == new


def test_names_can_be_exchanged_and_change_case():
    old = base(text("a", "1"), text("b", "2"), text("c", "3"))
    new = base(text("b", "1"), text("a", "2"), text("C", "3"))
    db = started(old, a="one", b="two", c="three")
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT b, a, C FROM t").fetchall() == [("one", "two", "three")]
    assert {row[1] for row in db.execute("PRAGMA table_info(t)")} == {"id", "a", "b", "C"}


def test_a_field_may_take_the_name_of_one_that_goes():
    old = base(text("a", "1"), text("b", "2"))
    new = base(text("b", "1"))
    db = started(old, a="one", b="two")
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT id, b FROM t").fetchall() == [("r1", "one")]
    assert {row[1] for row in db.execute("PRAGMA table_info(t)")} == {"id", "b"}


def test_another_type_is_another_column():
    old = base(text("a", "1"))
    new = base(model.NumberField(id="1", name="a"))
    db = started(old, a="one")
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT a FROM t").fetchall() == [(0,)]


def test_the_primary_key_stays_with_another_field_id():
    old = base(text("a", "1"))
    new = replace(old, fields=(replaced(defaults.id_field(), id="other"), *old.fields[1:]))
    db = started(old, a="x")
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT id, a FROM t").fetchall() == [("r1", "x")]
    assert stored(db, "t").fields[0].id == "other"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("", "[]"),
        ("a", '["a"]'),
        ("1", '["1"]'),
        ("é", '["é"]'),
        ('["x","y"]', '["x","y"]'),
        ('q"', '["q\\""]'),
        ("{}", '["{}"]'),
    ],
)
def test_a_single_value_becomes_a_list(value, found):
    old, new = base(select("s", "1", 1)), base(select("s", "1", 2))
    db = started(old, s=value)
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT s FROM t").fetchall() == [(found,)]
    assert schema_sql(db, "t")[0] >= {("s", "JSON", 1, "'[]'", 0)}


@pytest.mark.parametrize(
    ("value", "found"),
    [("[]", ""), ('["a"]', "a"), ('["a","b"]', "b"), ('["1"]', "1"), ("text", "text"), ("", ""), ("[null]", "")],
)
def test_a_list_leaves_its_last_value(value, found):
    old, new = base(select("s", "1", 5)), base(select("s", "1", 0))
    db = started(old, s=value)
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT s, typeof(s) FROM t").fetchall() == [(found, "text")]


def test_a_field_may_be_renamed_and_converted_at_once_with_its_index():
    old = base(select("s", "1", 1), indexes=["CREATE INDEX i ON t (s)"])
    new = base(select("z", "1", 2), indexes=["CREATE INDEX i ON t (z)"])
    db = started(old, s="a")
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT z FROM t").fetchall() == [('["a"]',)]
    assert {name for name, _ in schema_sql(db, "t")[1]} >= {"i"}


@pytest.mark.parametrize("name", ["other", "T"])
def test_tables_are_renamed_with_their_rows_and_indexes(name):
    old = base(text("a", "1"), indexes=["CREATE UNIQUE INDEX i ON t (a)"])
    new = replace(old, name=name, indexes=(f"CREATE UNIQUE INDEX i ON `{name}` (a)",))
    db = started(old, a="x")
    run(db, ddl.change(old, new, column_sql))
    assert db.execute(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND lower(name) IN ('t', 'other')"
    ).fetchall() == [(name,)]
    assert db.execute(f"SELECT a FROM {name}").fetchall() == [("x",)]
    [(table,)] = db.execute("SELECT tbl_name FROM sqlite_schema WHERE name = 'i'")
    assert table == name
    assert stored(db, name) == new


def test_indexes_alone_are_changed_one_by_one():
    old = base(text("a", "1"), indexes=["CREATE INDEX i ON t (a)", "CREATE INDEX j ON t (a, id)"])
    new = replace(old, indexes=("CREATE UNIQUE INDEX i ON t (a)", old.indexes[1]))
    statements = ddl.change(old, new, column_sql)
    assert [each.sql for each in statements[:-1]] == [
        "DROP INDEX IF EXISTS `i`",
        "CREATE UNIQUE INDEX `i` ON `t` (`a`)",
    ]
    db = started(old)
    run(db, statements)
    assert stored(db, "t") == new


def test_tables_change_under_views():
    view = view_of("SELECT id, a FROM t -- all;")
    old = base(text("a", "1"), text("b", "2"))
    new = base(text("a", "1"), text("c", "3"))
    db = started(old, a="x", b="y")
    run(db, ddl.create(view, column_sql))
    run(db, ddl.change(old, new, column_sql, views=[view]))
    assert db.execute("SELECT * FROM v").fetchall() == [("r1", "x")]


def test_views_are_made_changed_renamed_and_removed():
    view = view_of("SELECT id FROM _params;")
    db = started(view)
    new = replace(view, name="w", view_query="SELECT id, value FROM _params")
    run(db, ddl.change(view, new, column_sql))
    assert [row[1] for row in db.execute("PRAGMA table_info(w)")] == ["id", "value"]
    assert stored(db, "w") == new
    assert ddl.change(new, replace(new, updated="x"), column_sql)[0].sql.startswith("UPDATE")
    run(db, ddl.delete(new))
    assert db.execute("SELECT 1 FROM sqlite_schema WHERE type = 'view'").fetchall() == []


def test_a_failing_change_leaves_nothing_behind():
    old = base(text("a", "1"), text("b", "2"))
    new = base(text("a", "1"), indexes=["CREATE UNIQUE INDEX i ON t (unheard_of(a))"])
    db = started(old, a="x", b="y")
    before = schema_sql(db, "t")
    with pytest.raises(Exception, match="no such function"):
        run(db, ddl.change(old, new, column_sql))
    assert schema_sql(db, "t") == before
    assert stored(db, "t") == old


def test_what_bodies_say_reaches_the_tables():
    db = fresh()
    field = {"id": "t", "name": "title", "type": "text"}
    old = made({"name": "posts", "fields": [field], "indexes": ["CREATE INDEX i ON posts (title)"]})
    run(db, ddl.create(old, column_sql))
    with_values(db, old, id="r1", title="hello")
    new = changed({"name": "articles", "fields": [field | {"name": "head"}]}, old)
    run(db, ddl.change(old, new, column_sql))
    assert db.execute("SELECT head FROM articles").fetchall() == [("hello",)]
    [(sql,)] = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'i'")
    assert sql == "CREATE INDEX `i` ON `articles` (`head`)"


# -- any change -------------------------------------------------------------------------------------------------------

KINDS = {
    "text": lambda most: model.TextField(),
    "number": lambda most: model.NumberField(),
    "json": lambda most: model.JsonField(),
    "select": lambda most: model.SelectField(values=("a", "b"), max_select=most),
    "relation": lambda most: model.RelationField(collection_id="c", max_select=most),
    "file": lambda most: model.FileField(max_select=most),
}


USUAL = ["text", "select", "relation", "file", "number"]


@st.composite
def definitions(draw):
    """Fields of ids 0 to 4 under names that they exchange among each other, with indexes on some of them."""
    ids = draw(st.lists(st.sampled_from("01234"), unique=True))
    names = draw(st.permutations(["a", "b", "A1", "c d", "e`"]))
    fields = []
    for number, name in zip(ids, names, strict=False):
        kind = (
            KINDS[["text", "select", "relation", "file", "number"][int(number)]]
            if draw(st.booleans())
            else KINDS["json"]
        )
        fields.append(replaced(kind(draw(st.sampled_from([1, 2]))), id=number, name=name))
    table = draw(st.sampled_from(["t", "T", "other"]))
    indexed = draw(st.lists(st.sampled_from(fields), max_size=2)) if fields else []
    statements = [f"CREATE INDEX i{place} ON `{table}` ({quote(each.name)})" for place, each in enumerate(indexed)]
    return replace(base(*fields, indexes=statements), name=table)


def value_for(field, row):
    if field.type == "number":
        return row
    return f'["{row}","z{row}"]' if field.is_multiple else "null" if field.type == "json" else f"v{row}"


def expected(before, after, row):
    value = value_for(before, row)
    if before.is_multiple and not after.is_multiple:
        return f"z{row}"
    return f'["{value}"]' if after.is_multiple and not before.is_multiple else value


def fill(db, collection):
    db.execute(f"DELETE FROM {quote(collection.name)}")
    for row in range(ROWS):
        values = {each.name: value_for(each, row) for each in collection.fields[1:]}
        with_values(db, collection, id=f"r{row}", **values)


def check_values(db, old, new):
    before = {(each.id, each.type): each for each in old.fields[1:]}
    for each in new.fields[1:]:
        if (was := before.get((each.id, each.type))) is not None:
            found = db.execute(f"SELECT {quote(each.name)} FROM {quote(new.name)} ORDER BY id").fetchall()
            assert found == [(expected(was, each, row),) for row in range(ROWS)]


@pytest.mark.slow
@settings(max_examples=100, deadline=None)
@given(st.lists(definitions(), min_size=2, max_size=4))
def test_changed_tables_are_as_if_made_anew_and_keep_what_stays(steps):
    """Each step has the columns and indexes of its definition; values of fields that stay are still there."""
    view = view_of("SELECT id FROM _params")
    db = started(steps[0])
    run(db, ddl.create(view, column_sql))
    for old, new in pairwise(steps):
        fill(db, old)
        run(db, ddl.change(old, new, column_sql, views=[view]))
        assert schema_sql(db, new.name) == schema_sql(started(new), new.name)
        check_values(db, old, new)
        assert stored(db, new.name) == new
    assert db.execute("SELECT count(*) FROM v").fetchall() == [(0,)]


def test_blank_collections_of_all_types_can_be_made():
    for kind in CollectionType:
        made_now = defaults.blank(kind, f"n_{kind}", Random(0))
        if kind is CollectionType.VIEW:
            made_now = replace(made_now, view_query="SELECT id FROM _params")
        assert stored(started(made_now), made_now.name) == made_now
