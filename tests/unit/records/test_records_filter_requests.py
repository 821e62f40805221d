"""`@request...` in rules: who asks, and what was sent."""

from datetime import UTC, datetime

import pytest
from records_filter_samples import ROWS, SCHEMA, ask, posts, signed_in, user, users
from records_filter_world import Identity, make_schema

from pando.records.filter import RequestInfo
from pando.records.filter.request import MISSING, Area, RequestPath

ALL = "p1 p2 p3 p4 p5"
NONE = ""

REQUEST = RequestInfo(
    context="realtime",
    method="PATCH",
    query={"q": "One", "empty": "", "dotted.name": "x"},
    headers={"x_token": "SECRET"},
    body={
        "title": "ONE",
        "rank": 3,
        "public": False,
        "meta": {"a": {"b": [1, {"c": "x"}]}},
        "tags": ["a", "b"],
        "author": "bob",
        "likers": ["ann", "cat"],
        "extra": [1, {"k": None}],
        "nothing": None,
        "big": 2**70,
    },
)

SENT = [
    ("@request.context = 'realtime'", ALL),
    ("@request.method = 'PATCH'", ALL),
    ("@request.method != 'PATCH'", NONE),
    ("@request.query.q = title", "p1"),
    ("title ~ @request.query.q", "p1"),
    ("@request.query.dotted.name = 'x'", ALL),
    ("@request.query.none = ''", ALL),
    ("@request.query.none = null", ALL),
    ("title = @request.query.none", "p3"),
    ("title = @request.query.empty", "p3"),
    ("title != @request.query.empty", "p1 p2 p4 p5"),
    ("title ~ @request.query.none", NONE),
    ("title ~ @request.query.empty", ALL),
    ("@request.query.empty:isset = true", ALL),
    ("@request.query.none:isset = false", ALL),
    ("@request.query.none:isset = true", NONE),
    ("@request.headers.x_token:lower = 'secret'", ALL),
    ("@request.headers.x_token = 'secret'", NONE),
    ("@request.headers.x_token:isset = true", ALL),
    # the body
    ("@request.body.title = 'ONE'", ALL),
    ("title:lower = @request.body.title:lower", "p1"),
    ("@request.body.rank = rank", "p3"),
    ("rank > @request.body.rank", "p4 p5"),
    ("public = @request.body.public", "p2 p4 p5"),
    ("@request.body.meta.a.b.0 = 1", ALL),
    ("@request.body.meta.a.b.1.c = 'x'", ALL),
    ("@request.body.meta.a.b.5.c = ''", ALL),
    ("@request.body.extra.0 = 1", ALL),
    ("@request.body.extra = '[1,{\"k\":null}]'", ALL),
    ("@request.body.extra.1.k:isset = true", ALL),
    ("@request.body.nothing:isset = true", ALL),
    ("@request.body.nothing = ''", ALL),
    ("@request.body.big > 1", ALL),
    ("@request.body.absent:isset = true", NONE),
    ("@request.body.title.x = ''", ALL),
    ("@request.body.title:changed = true", ALL),
    ("@request.body.rank:changed = true", "p1 p2 p4 p5"),
    ("@request.body.rank:changed = false", "p3"),
    ("@request.body.public:changed = false", "p2 p4 p5"),
    ("@request.body.tags:changed = false", "p2"),
    ("@request.body.meta:changed = true", ALL),
    ("@request.body.place:changed = true", NONE),
    ("@request.body.author:changed = false", "p2"),
    # lists of the body
    ("@request.body.tags:length = 2", ALL),
    ("@request.body.author:length = 1", ALL),
    ("@request.body.tags:each ?= 'a'", ALL),
    ("@request.body.tags:each = 'a'", NONE),
    ("@request.body.tags:each != 'x'", ALL),
    ("@request.body.tags:each ?= tags:each", "p1 p2 p5"),
    ("@request.body.tags:each = tags:each", NONE),
    # relations of the body lead to the records
    ("@request.body.author.name = 'Bob'", ALL),
    ("@request.body.author.id = author", "p2"),
    ("@request.body.author.friends.name ?= 'Ann'", ALL),
    ("@request.body.author.friends:length = 1", ALL),
    ("@request.body.author.posts_via_author.title = 'two'", ALL),
    ("@request.body.author.nothing = ''", ALL),
    ("@request.body.likers.name = 'Ann'", NONE),
    ("@request.body.likers.name ?= 'Ann'", ALL),
    ("@request.body.likers.level > 0", ALL),
    ("@request.body.likers.id ?= author", "p1 p4 p5"),
]


@pytest.mark.parametrize(("text", "expected"), SENT)
def test_what_was_sent(text, expected):
    assert posts(text, request=REQUEST) == expected


NOT_SENT = [
    ("@request.body.author.name = ''", ALL),
    ("@request.body.author.friends:length = 0", NONE),
    ("@request.body.author.friends:length = null", ALL),
    ("@request.body.author.id >= 0", NONE),
    ("@request.body.likers.name != 'x'", ALL),
    ("@request.body.tags:length = 0", ALL),
    ("@request.body.tags:each ?!= 'x'", ALL),
    # PocketBase takes an item of the body for full, even where there is none
    ("@request.body.tags:each ?= ''", NONE),
    ("@request.body.title:lower = ''", ALL),
    ("title ~ @request.body.title:lower", ALL),
    ("@request.body.extra:lower ~ ''", NONE),
    ("@request.body.title:changed = true", NONE),
]


@pytest.mark.parametrize(("text", "expected"), NOT_SENT)
@pytest.mark.parametrize("body", [{}, {"author": "", "likers": [], "tags": []}])
def test_what_was_not_sent_or_is_empty(text, expected, body):
    assert posts(text, request=RequestInfo(body=body)) == expected


def test_one_empty_value_is_one_value():
    request = RequestInfo(body={"author": ""})
    assert posts("@request.body.author:length = 1", request=request) == ALL
    assert posts("@request.body.author:each = ''", request=request) == ALL
    assert posts("@request.body.author:each = ''") == NONE


SIGNED_IN = [  # as Cat: level 5, friends Ann and Bob, group g2
    ("@request.auth.id = 'cat'", ALL),
    ("@request.auth.id != ''", ALL),
    ("author = @request.auth.id", "p4"),
    ("likers.id ?= @request.auth.id", "p2 p4"),
    ("@request.auth.collectionId = 'usr'", ALL),
    ("@request.auth.collectionName = 'users'", ALL),
    ("@request.auth.level > rank", "p1 p2 p3 p4"),
    ("@request.auth.level = '5'", ALL),
    ("@request.auth.emailVisibility = true", ALL),
    ("@request.auth.secret = 's'", ALL),
    ("@request.auth.name:lower = 'cat'", ALL),
    ("@request.auth.friends:length = 2", ALL),
    ("@request.auth.friends:each ?= author", "p1 p2 p5"),
    ("@request.auth.friends:each != author", "p3 p4"),
    ("@request.auth.friends ~ 'bob'", ALL),
    ("@request.auth.friends.id ?= author", "p1 p2 p5"),
    ("@request.auth.friends.name ?= 'Bob'", ALL),
    ("@request.auth.friends.name = 'Bob'", NONE),
    ("@request.auth.friends.friends.name ?= 'Ann'", ALL),
    ("@request.auth.group = 'g2'", ALL),
    ("@request.auth.group.id = 'g2'", ALL),
    ("@request.auth.group.title = 'Second'", ALL),
    ("@request.auth.group.owner.name = 'Cat'", ALL),
    ("@request.auth.groups_via_owner.title = 'Second'", ALL),
    ("@request.auth.posts_via_author.id ?= id", "p4"),
    ("@request.auth.posts_via_likers.id ?= id", "p2 p4"),
    ("@request.auth.nothing = ''", ALL),
    ("@request.auth.nothing.deep:lower = null", ALL),
    ("@request.auth.group.nothing = ''", ALL),
    ("@request.auth.id:isset = true", NONE),
]


@pytest.mark.parametrize(("text", "expected"), SIGNED_IN)
def test_who_has_signed_in(text, expected):
    assert posts(text, request=signed_in("cat")) == expected


GUEST = [
    ("@request.auth.id = ''", ALL),
    ("@request.auth.id = null", ALL),
    ("@request.auth.id != ''", NONE),
    ("author = @request.auth.id", "p3"),
    ("author != @request.auth.id", "p1 p2 p4 p5"),
    ("@request.auth.friends.name ?= ''", ALL),
    ("@request.auth.friends:length = 0", NONE),
    ("@request.auth.friends:length = null", ALL),
    ("@request.auth.level > 0", NONE),
    ("@request.auth.collectionName = ''", ALL),
    ("@request.auth.nothing = ''", ALL),
]


@pytest.mark.parametrize(("text", "expected"), GUEST)
def test_nobody_has_signed_in(text, expected):
    assert posts(text) == expected


def test_who_has_signed_in_by_a_collection_that_is_gone_is_nobody():
    gone = make_schema().find("users")
    request = RequestInfo(auth=Identity(type(gone)(id="gone", name="gone"), {"id": "ann"}))
    assert posts("@request.auth.id = ''", request=request) == ALL


def test_several_groups_of_who_has_signed_in():
    schema = make_schema(group_most=3)
    me = user("Ann", group=["g1", "g2"])
    request = RequestInfo(auth=Identity(schema.find("users"), me))
    rows = {**ROWS, "users": [me]}
    assert users("@request.auth.group.title ?= 'Second'", schema=schema, request=request, rows=rows) == "ann"
    assert users("@request.auth.group.title = 'Second'", schema=schema, request=request, rows=rows) == ""


def test_values_that_are_no_json_become_json():
    class Point:
        def __str__(self):
            return "1,2"

    moment = datetime(2026, 1, 1, tzinfo=UTC)
    request = RequestInfo(body={"at": moment, "point": Point(), "pair": (1, 2)})
    assert RequestPath(Area.BODY, ("at",)).find(request) == "2026-01-01T00:00:00Z"
    assert RequestPath(Area.BODY, ("point",)).find(request) == "1,2"
    assert RequestPath(Area.BODY, ("pair", "1")).find(request) == 2
    assert RequestPath(Area.BODY, ("pair", "9" * 5000)).find(request) is MISSING
    assert ask("posts", "@request.body.pair = '[1,2]'", request=request) == ALL.split()


def test_rules_see_hidden_fields():
    assert users("secret = 's'") == "ann bob cat dan"
    assert posts("author.secret = 's'", schema=SCHEMA) == "p1 p2 p4 p5"
