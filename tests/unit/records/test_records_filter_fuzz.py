"""Whatever is sent: a documented error, or SQL that SQLite takes."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_filter_samples import signed_in
from records_filter_world import NOW, make_database, make_schema

from pando.records.filter import Compiler, Filter, FilterError, Question, RequestInfo, Trust
from pando.records.filter.syntax import JOINS_MAX, JOINS_TOGETHER_MAX, RULE_CHARS_MAX, RULE_COMPARISONS_MAX
from pando.records.problems import ApiError

GUARDED = make_schema(
    rules=("friends.id ?= @request.auth.id && group.owner.name != 'x'", "likers.name ~ 'a'", "owner = @request.auth.id")
)
EMPTY = make_database(GUARDED, {})
REQUESTS = [
    RequestInfo(),
    signed_in("cat", GUARDED),
    RequestInfo(is_superuser=True, query={"a": "b", "lower": ""}, body={"title": "x", "tags": ["a"], "author": "ann"}),
]


def run(text, trust=Trust.RULE, *, collection="posts", request=REQUESTS[1], **more):
    asked = Question(
        collection=GUARDED.find(collection), request=request, now=NOW, filters=(Filter(text, trust),), **more
    )
    found = Compiler(GUARDED).select(asked)
    EMPTY.execute(found.sql, found.args).fetchall()


def attempt(text, trust, **more):
    try:
        run(text, trust, **more)
    except ApiError as error:
        assert trust is not Trust.RULE or "sort" in more
        assert error.status in (400, 403)
    except FilterError:
        assert trust is Trust.RULE


WORDS = [
    *(
        "title",
        "rank",
        "meta",
        "meta.a.0.b",
        "place",
        "place.lon",
        "tags",
        "author",
        "likers",
        "likers.friends",
        "secret",
    ),
    *(
        "author.email",
        "likers.name",
        "tags:each",
        "likers:length",
        "title:lower",
        "posts_via_author",
        "author.group.owner",
    ),
    *("author.posts_via_likers.title", "groups_via_owner.id", "friends.email", "users_via_friends.level", "nothing"),
    *("@request.auth.id", "@request.auth.friends.name", "@request.body.title:changed", "@request.body.author.name"),
    *("@request.query.a:isset", "@request.headers.x", "@collection.posts.title", "@collection.users:x.friends.name"),
    *("@now", "@year", "@rowid", "true", "null", "''", "'a'", '"b%"', "'\\'", "1", "-2.5", "99999999999999999999", "("),
    *(
        ")",
        "&&",
        "||",
        "=",
        "!=",
        "?=",
        "?!~",
        "~",
        ">",
        ",",
        "geoDistance(",
        "strftime(",
        "'%Y'",
        "//",
        "\n",
        ".",
        ":",
    ),
    *("#", "@", "\\", "'", '"', ";", "--", "ä", "\x00", "meta.99999999999999999999", "meta.0"),
]


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.text(max_size=40),
        st.lists(st.sampled_from(WORDS), max_size=14).map(" ".join),
        st.lists(st.sampled_from(WORDS), max_size=9).map("".join),
    ),
    st.sampled_from(list(Trust)),
    st.sampled_from(["posts", "users", "groups"]),
    st.sampled_from(REQUESTS),
    st.booleans(),
)
def test_random_filters(text, trust, collection, request, count):
    attempt(text, trust, collection=collection, request=request, count=count)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*WORDS, "1", "id"]),
            st.sampled_from(["=", "?!=", "~", ">="]),
            st.sampled_from([*WORDS, "'x'"]),
        ),
        min_size=1,
        max_size=4,
    ),
    st.sampled_from([" && ", " || "]),
    st.sampled_from(list(Trust)),
    st.sampled_from(["posts", "users"]),
)
def test_random_comparisons(parts, join, trust, collection):
    attempt(join.join(map(" ".join, parts)), trust, collection=collection)


@settings(max_examples=150, deadline=None)
@given(
    st.one_of(st.text(max_size=30), st.lists(st.sampled_from([*WORDS, "-", "+", ","]), max_size=6).map("".join)),
    st.sampled_from(REQUESTS),
)
def test_random_sorts(sort, request):
    attempt("", Trust.CLIENT, sort=sort, request=request)


# -- limits -----------------------------------------------------------------------------------------------------------


def test_a_client_may_write_3500_characters_and_200_comparisons():
    text = " && ".join(["rank = 1"] * 200)
    run(text + " " * (3500 - len(text)), Trust.CLIENT)
    for refused in (text + " " * (3501 - len(text)), text + "&&id=1", "title = '" + "x" * 3500 + "'"):
        for trust in (Trust.CLIENT, Trust.SUPERUSER):
            with pytest.raises(ApiError) as caught:
                run(refused, trust)
            assert caught.value.status == 400
    run(text + "&&id=1", Trust.RULE)


LARGEST = [
    " && ".join(["title = 'x'"] * RULE_COMPARISONS_MAX),
    " || ".join(["title = 'x'"] * RULE_COMPARISONS_MAX),
    " && ".join(["likers.name = 'x'"] * RULE_COMPARISONS_MAX),
    " || ".join(["likers.name = 'x'"] * RULE_COMPARISONS_MAX),
    " || ".join(["meta.a.b.c ~ meta"] * RULE_COMPARISONS_MAX),
    " && ".join(f"@collection.users:a{number}.name ?= title" for number in range(JOINS_MAX)),
    " || ".join(f"@collection.users:a{number}.name != 'x'" for number in range(JOINS_MAX)),
    " && ".join(
        f"@collection.users:a{number}.name ?= @collection.users:a{number + 1}.name"
        for number in range(JOINS_TOGETHER_MAX - 1)
    ),
    "(" * 50 + "title = 1" + ")" * 50,
    "author.friends.friends.friends.friends.friends.name = likers.friends.friends.friends.friends.friends.name",
]


@pytest.mark.parametrize("text", LARGEST)
def test_the_largest_rules_are_taken_by_sqlite(text):
    run(text)


TOO_LARGE = [
    " && ".join(["title = 'x'"] * (RULE_COMPARISONS_MAX + 1)),
    "title = 'x'" + " " * RULE_CHARS_MAX,
    " && ".join(f"@collection.users:a{number}.name ?= title" for number in range(JOINS_MAX + 1)),
    " && ".join(
        f"@collection.users:a{number}.name ?= @collection.users:a{number + 1}.name"
        for number in range(JOINS_TOGETHER_MAX + 5)
    ),
]


@pytest.mark.parametrize("text", TOO_LARGE)
def test_larger_rules_are_refused(text):
    with pytest.raises(FilterError):
        run(text)


def test_a_client_cannot_make_sql_without_end():
    path = "author.friends.friends.friends.friends.friends.email"
    text = " || ".join([f"{path} = {path}"] * 25)
    attempt(text, Trust.CLIENT)
    attempt("", Trust.CLIENT, sort=f"{path},-{path}," + ",".join(["author.email", "likers.email"] * 3))
    more = " || ".join(f"likers.name ?= 'x' && tags:each ?= 'y{number}'" for number in range(60))
    attempt(more, Trust.CLIENT)


def test_texts_to_look_for_have_a_limit():
    attempt("title ~ '" + "x" * 3000 + "'", Trust.CLIENT)
    long = RequestInfo(body={"title": "x" * 60_000})
    with pytest.raises(ApiError, match="too long"):
        run("title ~ @request.body.title", request=long)
    run("title = @request.body.title", request=long)
