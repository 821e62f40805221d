from random import Random

import apsw
import pytest
from definitions_kit import column_sql, first_schema, fresh, made, refused, run
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace as replaced

from pando.records.collections import ddl, select_list, views
from pando.records.collections.select_list import Expression, Shape
from pando.records.collections.sql_tokens import BadSql
from pando.records.model import Collection, CollectionType, Schema

POSTS = {
    "id": "posts_id",
    "name": "posts",
    "fields": [
        {"name": "title", "type": "text", "max": 7, "required": True},
        {"name": "secret", "type": "text", "hidden": True},
        {
            "name": "author",
            "type": "relation",
            "collectionId": "_pb_users_auth_",
            "maxSelect": 1,
            "cascadeDelete": True,
        },
        {"name": "tags", "type": "select", "values": ["a", "b"], "maxSelect": 2},
        {"name": "score", "type": "number"},
        {"name": "created", "type": "autodate", "onCreate": True},
        {"name": "isnull", "type": "bool"},
    ],
}


def schema():
    return Schema((*first_schema().collections, made(POSTS)))


def names_of(query, db=None):
    """Name the columns as the service does: of the view, as SQLite has it."""
    db = db or fresh()
    if db.execute("SELECT 1 FROM sqlite_schema WHERE name = 'posts'").fetchall() == []:
        run(db, ddl.create(made(POSTS), column_sql))
    db.execute(f"CREATE TEMP VIEW `~` AS SELECT * FROM (\n{views.check_query(query)}\n)")
    found = [name for (name,) in db.execute("SELECT name FROM pragma_table_info('~')")]
    db.execute("DROP VIEW temp.`~`")
    return found


def fields_of(query, **options):
    return {each.name: each for each in views.infer_fields(query, names_of(query), schema(), Random(1), **options)}


def kinds_of(query):
    return {name: each.type for name, each in fields_of(query).items() if name != "id"}


# -- what columns become ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("count(*)", "number"),
        ("COUNT (DISTINCT p.title)", "number"),
        ("count(*) FILTER (WHERE p.score > 1) OVER (PARTITION BY p.title)", "number"),
        ("sum(p.score)", "json"),
        ("avg(p.score)", "json"),
        ("total(p.score)", "number"),
        ("(sum(p.score))", "json"),
        ("CAST(p.title AS int)", "number"),
        ("cast((p.title || '1') as INTEGER)", "number"),
        ("CAST(p.title AS real)", "number"),
        ("CAST(p.title AS decimal(10, 5))", "number"),
        ("CAST(p.title AS numeric)", "number"),
        ("CAST(p.score AS text)", "text"),
        ("CAST(p.score AS bool)", "bool"),
        ("CAST(p.score AS boolean)", "bool"),
        ("CAST(p.score AS blob)", "json"),
        ("CAST(p.score AS text) || 'x'", "json"),
        ("p.title", "text"),
        ("P.TITLE", "text"),
        ("`p`.`title`", "text"),
        ("main.posts.title", "json"),
        ("(p.title)", "text"),
        ("p.score", "number"),
        ("p.tags", "select"),
        ("p.author", "relation"),
        ("p.created", "autodate"),
        ("p.id", "relation"),
        ("score", "number"),
        ("p.title || ''", "json"),
        ("-p.score", "json"),
        ("max(p.score)", "json"),
        ("sum(p.score) + 1", "json"),
        ("1", "json"),
        ("'text'", "json"),
        ("NULL", "json"),
        ("CASE WHEN p.score THEN p.title END", "json"),
        ("(SELECT u.name FROM users u LIMIT 1)", "json"),
        ("p.score IS NULL", "json"),
        ("p.score COLLATE nocase", "json"),
        ("p.rowid", "json"),
    ],
)
def test_what_an_expression_becomes(expression, kind):
    if expression.startswith("main."):
        assert kinds_of("SELECT p.id, main.posts.title AS x FROM posts p, posts")["x"] == "text"
    else:
        assert kinds_of(f"SELECT p.id, {expression} AS x FROM posts p") == {"x": kind}


@pytest.mark.parametrize(
    ("query", "kinds"),
    [
        ("SELECT id, title FROM posts", {"title": "text"}),
        ("select id, title t from posts;", {"t": "text"}),
        ("SELECT id, title 't' FROM posts -- comment", {"t": "text"}),
        ("SELECT DISTINCT p.id, p.title FROM posts AS p WHERE score > 1 ORDER BY p.title LIMIT 3", {"title": "text"}),
        (
            "SELECT p.id, u.name, p.title FROM posts p LEFT OUTER JOIN users u ON u.id = p.author",
            {"name": "text", "title": "text"},
        ),
        ("SELECT p.id, u.name AS n FROM posts p, users u", {"n": "text"}),
        ("SELECT p.id, name, score FROM posts p CROSS JOIN users AS u USING (id)", {"name": "text", "score": "number"}),
        ("SELECT p.id, q.title FROM posts p JOIN (SELECT * FROM posts) q ON q.id = p.id", {"title": "json"}),
        ("SELECT p.id, e.value FROM posts p JOIN json_each(p.tags) e", {"value": "json"}),
        ("SELECT p.id, t.title FROM posts p INDEXED BY nothing JOIN posts t", {"title": "text"}),
        ("SELECT p.id, q.title FROM users p, posts q", {"title": "text"}),
        ("SELECT id, `isnull` AS i FROM posts", {"i": "bool"}),
        ("SELECT (ROW_NUMBER() OVER()) AS id, count(*) AS n FROM posts GROUP BY author", {"n": "number"}),
        (
            "WITH c AS (SELECT 1 AS id, 2 AS title) SELECT c.id, c.title, p.score FROM c, posts p",
            {"title": "json", "score": "number"},
        ),
        ("WITH RECURSIVE posts(id, title) AS (SELECT 'a', 'b') SELECT id, title FROM posts", {"title": "json"}),
        ("SELECT id, title FROM posts UNION ALL SELECT id, name FROM users", {"title": "text"}),
        ("SELECT id, title FROM posts UNION SELECT id, verified FROM users", {"title": "json"}),
        ("SELECT id, tags FROM posts EXCEPT SELECT id, title FROM posts", {"tags": "json"}),
        ("SELECT id, author FROM posts INTERSECT SELECT id, id AS author FROM posts", {"author": "json"}),
        ("SELECT 'x' AS id", {}),
        ("SELECT id, (title) AS a, ((secret)) AS b FROM posts", {"a": "text", "b": "text"}),
    ],
)
def test_what_queries_become(query, kinds):
    if "INDEXED BY" in query:
        parsed = select_list.read_query(query)
        assert parsed[0].tables == {"p": "posts", "t": "posts"}
    else:
        assert kinds_of(query) == kinds


def test_a_copied_field_keeps_its_options_under_an_id_of_its_own():
    found = fields_of("SELECT id, title AS head, tags, author FROM posts")
    original = made(POSTS)
    assert replaced(found["head"], id="", name="title") == replaced(original.field("title"), id="")
    assert replaced(found["author"], id="") == replaced(original.field("author"), id="")
    ids = [found[name].id for name in ("head", "tags", "author")]
    assert all(each.startswith("_clone_") and len(each) == 11 for each in ids)
    assert len(set(ids)) == 3


def test_hidden_fields_stay_hidden():
    found = fields_of("SELECT u.id, u.password, u.tokenKey AS k, p.secret s FROM users u, posts p")
    assert all(found[name].hidden for name in ("password", "k", "s"))
    found = fields_of("SELECT id, title FROM posts UNION SELECT id, tokenKey FROM users")
    assert found["title"].hidden
    found = fields_of("SELECT id, tags AS t FROM posts UNION SELECT id, tokenKey FROM users")
    assert (found["t"].type, found["t"].hidden) == ("json", True)


def test_the_id_is_a_primary_key_whatever_it_is_made_of():
    for query in ("SELECT id FROM posts", "SELECT title AS id FROM posts", "SELECT count(*) AS id FROM posts"):
        key = fields_of(query)["id"]
        assert (key.type, key.id, key.primary_key, key.system, key.required) == (
            "text",
            "text3208210256",
            True,
            True,
            True,
        )
        assert key.pattern == "^[a-z0-9]+$"


def test_ids_of_collections_become_relations():
    found = fields_of("SELECT p.id, u.id AS user, p.id AS post FROM posts p, users u")
    assert (found["user"].collection_id, found["user"].max_select) == ("_pb_users_auth_", 1)
    assert found["post"].collection_id == "posts_id"
    assert found["user"].id.startswith("relation")


def test_count_is_whole_and_others_need_not_be():
    casts = "CAST(score AS int) AS i, CAST(score AS real) AS r"
    found = fields_of(f"SELECT id, count(*) AS n, total(score) AS m, {casts} FROM posts GROUP BY id")
    assert [found[name].only_int for name in "nmir"] == [True, False, True, False]


def test_fields_that_stay_the_same_keep_their_ids():
    query = "SELECT id, title, score FROM posts"
    before = fields_of(query)
    assert fields_of(query, before=tuple(before.values())) == before
    changed = tuple(replaced(each, hidden=True) if each.name == "title" else each for each in before.values())
    again = {each.name: each for each in views.infer_fields(query, list(before), schema(), Random(5), changed)}
    assert again["score"] == before["score"]
    assert again["title"].id not in (before["title"].id, before["score"].id)


def test_views_read_views():
    inner = Collection(id="v", name="v", type=CollectionType.VIEW, view_query="SELECT id, title FROM posts")
    fields = tuple(fields_of(inner.view_query).values())
    whole = Schema((*schema().collections, Collection(id="v", name="v", type=CollectionType.VIEW, fields=fields)))
    found = views.infer_fields("SELECT v.id, v.title, v.id AS other FROM v", ["id", "title", "other"], whole, Random(2))
    assert [each.type for each in found] == ["text", "text", "relation"]
    assert found[1].id != fields[1].id
    assert found[2].collection_id == "v"


def test_columns_that_do_not_match_the_names_are_json():
    found = views.infer_fields("SELECT id FROM posts", ["id", "more"], schema(), Random(0))
    assert [each.type for each in found] == ["text", "json"]


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        *("*", "DELETE FROM posts", "SELECT * FROM posts", "SELECT p.* FROM posts p", "SELECT id, * FROM posts"),
        *("SELECT id FROM posts; DROP TABLE posts", "SELECT id FROM posts) x; --", "SELECT id FROM (posts"),
        *(
            "SELECT id FROM posts /*",
            "SELECT 'id",
            "SELECT ? AS id",
            "SELECT :a AS id",
            "INSERT INTO posts DEFAULT VALUES",
        ),
        *(
            "WITH a AS (SELECT 1) DELETE FROM posts",
            "WITH a AS (SELECT 1)",
            "VALUES (1)",
            "SELECT id,, title FROM posts",
        ),
        *("SELECT id FROM posts UNION", "SELECT id FROM", "SELECT", "PRAGMA user_version", "x" * 70_000, "\\"),
    ],
)
def test_queries_that_cannot_be_views(query):
    if query in ("SELECT id FROM",):
        with pytest.raises(apsw.SQLError):
            names_of(query)
    else:
        assert refused(views.check_query, query) == {"viewQuery": "invalid_view_query"}
        assert refused(views.infer_fields, query, ["id"], schema(), Random(0)) == {"viewQuery": "invalid_view_query"}


@pytest.mark.parametrize("query", ["", "  \n"])
def test_a_view_needs_a_query(query):
    assert refused(views.check_query, query) == {"viewQuery": "required"}


@pytest.mark.parametrize("names", [[], ["title"], ["ID"], ["id", "a", "A"], ["id", "ID"]])
def test_names_that_do_not_do(names):
    found = refused(views.infer_fields, "SELECT id FROM posts", names, schema(), Random(0))
    missing = {} if "id" in names else {"fields": "missing_primary_key"}
    assert found == {"viewQuery": "invalid_view_query", **missing}


def test_the_end_of_a_query_is_taken_off():
    assert views.check_query("  SELECT id FROM posts ; ") == "SELECT id FROM posts"


# -- reading ----------------------------------------------------------------------------------------------------------


def test_tables_by_the_names_that_they_have():
    [found] = select_list.read_query(
        "SELECT 1 AS id FROM a, main.b AS c NATURAL LEFT JOIN `D` d1 ON d1.x IN (SELECT 1 FROM z)"
        " JOIN (SELECT 2) s USING (x, y)"
        " RIGHT JOIN f(1, 2) JOIN g NOT INDEXED WHERE 1"
    )
    assert found.tables == {"a": "a", "c": "b", "d1": "d", "s": "", "": "", "g": "g"}


def test_two_tables_of_one_alias_are_neither():
    [found] = select_list.read_query("SELECT 1 AS id FROM a x, b x")
    assert found.tables == {"x": ""}


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("a", Expression(Shape.COLUMN, "a")),
        ("t.A b", Expression(Shape.COLUMN, "a", "t")),
        ("main.t.a AS b", Expression(Shape.COLUMN, "a", "t")),
        ("a isnull", select_list.OTHER),
        ("a.b.c.d", select_list.OTHER),
        ("f(a) b", Expression(Shape.CALL, "f")),
        ("f(a) OVER w AS b", Expression(Shape.CALL, "f")),
        ("f(a) OVER", Expression(Shape.CALL, "f")),
        ("f(a)(b)", select_list.OTHER),
        ("CAST(a)", select_list.OTHER),
        ("CAST(CAST(a AS text) AS int) b", Expression(Shape.CAST, "int")),
        ("(a) + (b)", select_list.OTHER),
        ("((a))", Expression(Shape.COLUMN, "a")),
    ],
)
def test_expressions(expression, found):
    [select] = select_list.read_query(f"SELECT {expression}")
    assert select.columns == (found,)


@given(st.text(st.sampled_from([*"SELECT FROM()*,.;'\"`ab-/\n?", "é"]), max_size=40))
def test_no_text_makes_the_reader_fail(text):
    for query in (text, f"SELECT id, {text} FROM posts", f"SELECT id FROM {text}", f"WITH {text}"):
        try:
            found = select_list.read_query(query)
        except BadSql:
            continue
        assert all(select.columns for select in found)


PARTS = ["id", "title", "p.title", "count(*)", "sum(score) s", "CAST(score AS text) c", "tags AS t", "1 + 1", "author"]


@pytest.mark.slow
@given(
    st.lists(st.sampled_from(PARTS), max_size=5), st.sampled_from(["posts p", "posts p, users", "users u JOIN posts p"])
)
def test_as_many_fields_as_sqlite_has_columns(parts, tables):
    query = f"SELECT p.id, {', '.join([*parts, '2 AS two'])} FROM {tables}"
    try:
        names = names_of(query, DB)
    except apsw.SQLError:
        return
    [select] = select_list.read_query(query)
    assert len(select.columns) == len(names)


DB = fresh()


def test_views_come_behind_those_that_they_read():
    def view(name, query):
        return Collection(id=name, name=name, type=CollectionType.VIEW, view_query=query)

    a = view("a", "SELECT id FROM b")
    b = view("B", "SELECT id FROM c JOIN posts")
    c = view("c", "SELECT id FROM posts")
    assert [each.name for each in views.in_order([a, b, c])] == ["c", "B", "a"]
    circle = view("c", "SELECT id FROM a")
    assert {each.name for each in views.in_order([a, b, circle])} == {"a", "B", "c"}
    assert views.in_order([view("x", "'")])[0].name == "x"
