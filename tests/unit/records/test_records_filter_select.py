"""Questions and their SQL: columns, ids, windows, records that are not stored yet, and what is kept compiled."""

import re
from dataclasses import replace

import pytest
from records_filter_samples import ROWS, SCHEMA, ask, post, signed_in, user
from records_filter_world import NOW, Identity, column, make_database, make_schema

from pando.errors import InvariantError
from pando.records.filter import Compiler, Filter, Question, RequestInfo, Trust
from pando.records.filter.select import CACHED_MAX, TEXTS_MAX, VARIANTS_MAX, Referring
from pando.records.model import Collection, CollectionType, RelationField, Rules, Schema, TextField
from pando.records.problems import ApiError

POSTS = SCHEMA.find("posts")


def question(text="", trust=Trust.RULE, **more):
    filters = (Filter(text, trust),)
    return Question(**{"collection": POSTS, "request": RequestInfo(), "now": NOW, "filters": filters, **more})


# -- rows -------------------------------------------------------------------------------------------------------------


def test_columns_are_the_id_and_then_all_others_in_the_order_of_fields():
    found = Compiler(SCHEMA).select(question())
    assert found.columns == ("id", "title", "rank", "public", "meta", "place", "tags", "author", "likers")
    fields = (TextField(name="b"), TextField(name="id"), TextField(name="a"))
    odd = Collection(id="odd", name="odd", fields=fields)
    assert Compiler(Schema((odd,))).select(question(collection=odd)).columns == ("id", "b", "a")


def test_columns_are_those_that_are_asked_for():
    assert ask("posts", "rank = 1", columns=("title", "id", "rank")) == [("One", "p1", 1)]
    with pytest.raises(InvariantError):
        ask("posts", "", columns=("nothing",))


def test_ids_restrict():
    assert ask("posts", "", ids=("p2",)) == ["p2"]
    assert ask("posts", "", ids=("p2", "p4", "none")) == ["p2", "p4"]
    assert ask("posts", "", ids=()) == []
    assert ask("posts", "rank > 2", ids=("p2", "p4")) == ["p4"]
    assert ask("posts", "", ids=("p2' OR 1=1 --",)) == []
    assert ask("posts", "", ids=("p2", "p4"), count=True) == [2]


def test_references_restrict():
    assert ask("posts", "", referring=Referring("author", ("ann",))) == ["p1", "p5"]
    assert ask("posts", "", referring=Referring("author", ("ann", "cat"))) == ["p1", "p4", "p5"]
    assert ask("posts", "", referring=Referring("author", ())) == []
    assert ask("posts", "", referring=Referring("likers", ("cat",))) == ["p2", "p4"]
    assert ask("posts", "", referring=Referring("likers", ("cat", "dan"))) == ["p2", "p4", "p5"]
    with pytest.raises(InvariantError):
        ask("posts", "", referring=Referring("nothing", ("ann",)))


def test_windows():
    assert ask("posts", "", limit=2) == ["p1", "p2"]
    assert ask("posts", "", limit=2, offset=3) == ["p4", "p5"]
    assert ask("posts", "", offset=3) == ["p4", "p5"]
    assert ask("posts", "", limit=0) == []
    assert ask("posts", "rank > 1", limit=1, offset=1, count=True) == [4]


def test_several_filters_hold_together_and_empty_ones_ask_nothing():
    also = (Filter("rank < 4", Trust.CLIENT), Filter("", Trust.CLIENT))
    assert ask("posts", "rank > 1", also=also) == ["p2", "p3"]
    also = (Filter("rank = 1 || rank = 5", Trust.CLIENT),)
    assert ask("posts", "rank = 2 || rank = 5", also=also) == ["p5"]


def test_blank_filters_are_no_filters():
    with pytest.raises(ApiError):
        ask("posts", " ", Trust.CLIENT)


def test_filters_of_one_question_speak_of_the_same_records():
    also = (Filter("likers.level ?= 2", Trust.CLIENT),)
    assert ask("posts", "likers.name ?= 'Bob'", also=also) == ["p1"]
    assert ask("posts", "likers.name ?= 'Ann'", also=also) == []


# -- records that are not stored --------------------------------------------------------------------------------------


def over(text, record, request=None, rows=ROWS):
    values = {each.name: column(each, record[each.name]) for each in POSTS.fields}
    return ask("posts", text, request=request, overlay=values, sort="", rows=rows)


NEW = post("new", "One", 7, 1, {"a": 1}, ["a", "c"], "bob", ["ann", "cat"], (1, 2))

OVERLAYS = [
    ("title = 'One' && rank = 7 && public = true", True),
    ("rank = '7'", True),
    ("rank > 7", False),
    ("meta.a = 1 && place.lat = 2", True),
    ("tags:each ?= 'c' && tags:length = 2", True),
    ("tags:each = 'c'", False),
    ("author.name = 'Bob'", True),
    ("author = @request.auth.id", True),
    ("likers.name ?= 'Cat'", True),
    ("likers.friends.name ?= 'Bob'", True),
    ("author.posts_via_author.title ?= 'two'", True),
    # other ways lead to stored records only
    ("author.posts_via_author.id ?= 'new'", False),
    ("@collection.posts.id ?= 'new'", False),
    ("@collection.posts.title ?= title", True),
    ("@collection.posts.author ?= author", True),
    ("@collection.posts.rank ?= rank", False),
    ("@request.body.title:changed = false", True),
]


@pytest.mark.parametrize(("text", "holds"), OVERLAYS)
def test_rules_about_a_record_before_it_is_stored(text, holds):
    request = signed_in("bob", body={"title": "One"})
    assert over(text, NEW, request) == (["new"] if holds else [])
    assert over(text, NEW, request) == over(text, NEW, request, {**ROWS, "posts": [*ROWS["posts"]]})


def test_a_record_before_it_is_stored_reads_no_table_of_its_own():
    found = Compiler(SCHEMA).select(question("title = 'x'", overlay={}))
    assert found.tables == frozenset()
    assert Compiler(SCHEMA).select(question("@collection.posts.id = ''", overlay={})).tables == {"posts"}


def test_tables_are_all_that_are_read():
    text = "author.name = 'x' && likers.group.title = 'y' && @collection.users.id = 'z'"
    assert Compiler(SCHEMA).select(question(text)).tables == {"posts", "users", "groups"}
    assert Compiler(SCHEMA).select(question("author.id = 'x' && tags:each = 'y'")).tables == {"posts"}
    guarded = make_schema(rules=("group.title != ''", "", ""))
    found = Compiler(guarded).select(question("author.name = 'x'", Trust.CLIENT, collection=guarded.find("posts")))
    assert found.tables == {"posts", "users", "groups"}


# -- what is kept -----------------------------------------------------------------------------------------------------


def texts(compiler, *questions):
    return [compiler.select(each).sql for each in questions]


def test_literals_share_sql():
    compiler = Compiler(SCHEMA)
    one, two = question("title = 'a' && rank > 1"), question("title = 'b' && rank > 2")
    assert len(set(texts(compiler, one, two))) == 1
    assert compiler.select(one).args == ("a", 1.0)
    assert compiler.select(two).args == ("b", 2.0)
    assert len(set(texts(compiler, question("title = 'a'"), question("title = ''")))) == 2


def test_requests_share_sql_unless_they_shape_it():
    compiler = Compiler(SCHEMA)
    rule = question("author = @request.auth.id")
    ann, bob, guest = (replace(rule, request=each) for each in (signed_in("ann"), signed_in("bob"), RequestInfo()))
    one, two, three = (compiler.select(each) for each in (ann, bob, guest))
    assert one.sql == two.sql != three.sql
    assert (one.args, two.args, three.args) == (("ann",), ("bob",), ())
    assert compiler.select(ann) == one


def test_answers_do_not_depend_on_what_was_asked_before():
    requests = [
        RequestInfo(),
        RequestInfo(query={"q": ""}),
        RequestInfo(query={"q": "One"}),
        RequestInfo(query={"q": "two"}),
        signed_in("ann"),
        signed_in("cat", query={"q": "One"}, body={"author": "ann", "title": ""}),
        RequestInfo(body={"author": "", "title": "x"}),
        RequestInfo(auth=Identity(SCHEMA.find("groups"), {"id": "ann"})),
    ]
    rule = (
        "title = @request.query.q || @request.query.q:isset = false && author = @request.auth.id"
        " || @request.body.author.name = 'Ann' && @request.body.title:changed = true"
        " || @request.auth.friends:length > 1"
    )
    compiler = Compiler(SCHEMA)
    for _ in range(3):
        for each in requests:
            asked = question(rule, request=each)
            fresh = Compiler(SCHEMA).select(asked)
            kept = compiler.select(asked)
            assert (kept.sql, kept.args) == (fresh.sql, fresh.args)


def test_a_changed_definition_is_compiled_anew():
    compiler = Compiler(SCHEMA)
    changed = replace(POSTS, fields=(*POSTS.fields, TextField(name="more")))
    assert compiler.select(question(collection=POSTS)).columns != compiler.select(question(collection=changed)).columns
    assert compiler.select(question(collection=POSTS)).columns == Compiler(SCHEMA).select(question()).columns


def test_caches_are_bounded():
    compiler = Compiler(SCHEMA)
    for number in range(max(CACHED_MAX, TEXTS_MAX) + 10):
        compiler.select(question(f"title = 'x{number}' && meta.a{number} = 1"))
    assert len(compiler._templates) == CACHED_MAX
    assert len(compiler._texts) == TEXTS_MAX
    for number in range(40):
        keys = {f"k{place}": "v" for place in range(6) if number >> place & 1}
        compiler.select(
            question(
                " && ".join(f"@request.query.k{n}:isset = true" for n in range(6)), request=RequestInfo(query=keys)
            )
        )
    assert max(map(len, compiler._templates.values())) == VARIANTS_MAX


def test_long_filters_are_compiled_and_not_kept():
    compiler = Compiler(SCHEMA)
    compiler.select(question(" || ".join(["likers.name = 'x'"] * 200)))
    assert not compiler._templates
    compiler.select(question("title = '" + "x" * 10_000 + "'"))
    assert not compiler._texts
    compiler.select(question("title = 'x'"))
    assert (len(compiler._texts), len(compiler._templates)) == (1, 1)  # the literal is no part of what was compiled


def test_check_tells_whether_a_rule_can_be_used():
    Compiler(SCHEMA).check(POSTS, "author = @request.auth.id", RequestInfo(), NOW)
    with pytest.raises(Exception, match="unknown field 'nothing'"):
        Compiler(SCHEMA).check(POSTS, "nothing = 1", RequestInfo(), NOW)


# -- views ------------------------------------------------------------------------------------------------------------


def test_relations_to_views_give_each_record_once():
    """Nothing keeps a view from giving an id twice."""
    seen = Collection(
        id="v",
        name="seen",
        type=CollectionType.VIEW,
        rules=Rules(list=""),
        fields=(TextField(name="id"), TextField(name="name")),
    )
    board = Collection(
        id="w",
        name="board",
        type=CollectionType.VIEW,
        rules=Rules(list=""),
        fields=(TextField(name="id"), RelationField(name="who", collection_id="v", max_select=1)),
    )
    schema = Schema((seen, board))
    database = make_database(Schema(()), {})
    database.execute("CREATE VIEW seen AS SELECT 'a' AS id, 'Ann' AS name UNION ALL SELECT 'a', 'Anna'")
    database.execute("CREATE VIEW board AS SELECT 'x' AS id, 'a' AS who")
    for text, expected in (("who.name ?= 'Ann'", 1), ("who.name ?!= 'x'", 1), ("who.name = 'Ann'", 0)):
        found = Compiler(schema).select(question(text, Trust.CLIENT, collection=board, sort="who.name"))
        assert len(database.execute(found.sql, found.args).fetchall()) == expected
    database.close()


def test_indexes_are_used():
    """A rule of an owner and a look at one record must not read a whole table."""
    database = make_database(SCHEMA, {**ROWS, "users": [user("Ann")]})
    database.execute("CREATE INDEX by_author ON posts (author)")
    for asked in (question("author = @request.auth.id", request=signed_in("ann")), question("rank > 1", ids=("p1",))):
        found = Compiler(SCHEMA).select(asked)
        plan = [row[3] for row in database.execute("EXPLAIN QUERY PLAN " + found.sql, found.args)]
        assert all(step.startswith("SEARCH") for step in plan), plan
    database.close()


@pytest.mark.parametrize(
    "text",
    ["posts_via_author.title != 'x'", "posts_via_author.title ?= 'x'", "name = 'a' || posts_via_author.rank > 1"],
)
def test_a_back_relation_without_an_index_is_read_once(text):
    """Not once for each row: through an automatic index, be it for any value, all values or beside OR."""
    database = make_database(SCHEMA, ROWS)
    found = Compiler(SCHEMA).select(question(text, collection=SCHEMA.find("users")))
    plan = [row[3] for row in database.execute("EXPLAIN QUERY PLAN " + found.sql, found.args)]
    for alias in re.findall(r'"posts" AS "(t\d+)"', found.sql):
        assert [step for step in plan if step.startswith(f"SEARCH {alias} ") and "AUTOMATIC" in step], plan
        assert f"SCAN {alias}" not in plan
    database.close()
