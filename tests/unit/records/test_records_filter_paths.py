"""Paths through relations, back relations and other collections; several values, all of them or any."""

from dataclasses import replace

import pytest
from records_filter_samples import ROWS, SCHEMA, ask, groups, post, posts, user, users
from records_filter_world import make_schema

from pando.records.filter import FilterError, Trust
from pando.records.model import Schema, TextField

POSTS = [
    # one relation
    ("author.name = 'Ann'", "p1 p5"),
    ("author.name != 'Ann'", "p2 p3 p4"),
    ("author.name = ''", "p3"),
    ("author.name != ''", "p1 p2 p4 p5"),
    ("author.name = null", "p3"),
    ("author.level > 1", "p2 p4"),
    ("author.id = 'ann'", "p1 p5"),
    ("author = 'ann'", "p1 p5"),
    ("author:each = 'ann'", "p1 p5"),
    ("author.id:lower = 'ann'", "p1 p5"),
    ("author.id:lower = ''", "p3"),
    ("author.id:lower < 'b'", "p1 p5"),
    ("author.group.title = 'First'", "p1 p2 p5"),
    ("author.group.owner.name = 'Cat'", "p4"),
    ("author.name ?= 'Ann'", "p1 p5"),
    # several: all of them
    ("likers.name = 'Ann'", ""),
    ("likers.name ~ 'a'", "p2 p4 p5"),
    ("likers.name != 'Bob'", "p2 p3 p4 p5"),
    ("likers.level >= 2", "p2 p5"),
    ("likers.id = 'cat'", "p2"),
    ("likers:each = 'cat'", "p2"),
    ("tags:each = 'a'", "p1"),
    ("tags:each != 'a'", "p3 p4 p5"),
    ("'a' = tags:each", "p1"),
    # several: any of them
    ("likers.name ?= 'Ann'", "p1 p4"),
    ("likers.name ?!= 'Bob'", "p1 p2 p3 p4 p5"),
    ("likers.level ?>= 2", "p1 p2 p4 p5"),
    ("likers.id ?= 'ann'", "p1 p4"),
    ("likers:each ?= 'ann'", "p1 p4"),
    ("tags:each ?= 'a'", "p1 p2"),
    ("tags:each ?~ 'C'", "p4 p5"),
    # none at all is one that is empty
    ("likers.name = ''", "p3"),
    ("likers.name ?= ''", "p3"),
    ("tags:each = ''", "p3"),
    ("tags:each = null", "p3"),
    ("tags:each != ''", "p1 p2 p4 p5"),
    ("likers.name !~ 'x'", "p1 p2 p4 p5"),
    ("likers.name > ''", "p1 p2 p4 p5"),
    # several of several
    ("likers.friends.name ?= 'Ann'", "p1 p2 p4"),
    ("likers.friends:length ?> 1", "p2 p4"),
    ("likers.friends:length > 1", "p2"),
    ("likers.group.title ?= 'Second'", "p2 p4"),
    # both sides: each with each, or some with some
    ("likers.id ?= author", "p1 p3 p4"),
    ("likers.id = author", "p3"),
    ("likers.name ?= author.friends.name", "p3 p4"),
    ("likers.level ?> likers.level", ""),
    ("likers.level = likers.level", "p2 p3 p5"),
    ("likers.level >= likers.level", "p2 p5"),
    ("tags:each ?= likers.id", "p3"),
    ("likers.id != author.friends.id", "p1 p2 p5"),
    # parts that are joined by AND speak of one record
    ("likers.name ?= 'Ann' && likers.level ?= 1", "p1 p4"),
    ("likers.name ?= 'Ann' && likers.level ?= 2", ""),
    ("likers.name ?= 'Ann' && likers.name ?= 'Bob'", ""),
    ("likers.name ?= 'Ann' && (likers.level ?= 2 || likers.level ?= 1)", "p1 p4"),
    ("likers.name ?= 'Ann' || likers.level ?= 2", "p1 p4"),
    ("(likers.name ?= 'Ann' || rank = 2) && likers.level ?= 5", "p2"),
    ("likers.name ?= 'Ann' && tags:each ?= 'c'", "p4"),
    # JSON and places behind relations
    ("author.posts_via_author.meta.a.b ?= 1", "p1 p5"),
    ("author.posts_via_author.place.lon ?= 10", "p1 p5"),
]


@pytest.mark.parametrize(("text", "expected"), POSTS)
def test_relations(text, expected):
    assert posts(text) == expected
    assert ask("posts", text, columns=("id",), count=True, sort="") == [(len(expected.split()))]


USERS = [
    ("posts_via_author.title ?= 'One'", "ann"),
    ("posts_via_author.title = 'One'", ""),
    ("posts_via_author.title = 'two'", "bob"),
    ("posts_via_author.title != 'One'", "bob cat dan"),
    ("posts_via_author.id = ''", "dan"),
    ("posts_via_author.id ?= ''", "dan"),
    ("posts_via_author.id != ''", "ann bob cat"),
    ("posts_via_author.place = ''", "dan"),
    ("posts_via_author.place != ''", "ann bob cat"),
    ("posts_via_author.place.lon = ''", ""),
    ("posts_via_likers.rank ?> 3", "ann cat dan"),
    ("posts_via_likers.rank > 3", "dan"),
    ("posts_via_likers.id = ''", ""),
    ("users_via_friends.name ?= 'Cat'", "ann bob"),
    ("users_via_friends.posts_via_author.title ?= 'two'", "ann"),
    ("groups_via_owner.title = 'First'", "ann"),
    ("groups_via_owner.title = ''", "bob dan"),
    ("friends.name = ''", "ann dan"),
    ("friends.id ?= 'gone'", "dan"),
    ("pst_via_author.title ?= 'One'", "ann"),
    ("Posts_via_author.title ?= 'One'", "ann"),
    ("posts_via_author.title ?= 'One' && posts_via_author.rank ?= 5", ""),
    ("posts_via_author.title ?= 'One' && posts_via_author.rank ?= 1", "ann"),
]


@pytest.mark.parametrize(("text", "expected"), USERS)
def test_back_relations(text, expected):
    assert users(text) == expected


COLLECTIONS = [
    ("@collection.posts.title ?= 'One'", "g1 g2 g3"),
    ("@collection.posts.title = 'One'", ""),
    ("@collection.posts.title != 'none'", "g1 g2 g3"),
    ("@collection.users.group ?= id", "g1 g2"),
    ("@collection.users.group ?= id && @collection.users.name ?= 'Bob'", "g1"),
    ("@collection.users.group ?= id && @collection.users:other.name ?= 'Bob'", "g1 g2"),
    ("@collection.users.friends.name ?= 'Bob'", "g1 g2 g3"),
    ("@collection.users.posts_via_author.rank ?= 2", "g1 g2 g3"),
    ("@collection.usr.group ?= id", "g1 g2"),
    ("@collection.groups.id ?!= id", "g1 g2 g3"),
]


@pytest.mark.parametrize(("text", "expected"), COLLECTIONS)
def test_other_collections(text, expected):
    assert groups(text) == expected


def test_an_empty_collection_is_one_that_is_empty():
    rows = {**ROWS, "posts": []}
    assert groups("@collection.posts.id = ''", rows=rows) == "g1 g2 g3"
    assert groups("@collection.posts.id ?!= 'x'", rows=rows) == "g1 g2 g3"
    assert groups("@collection.posts.rank > 0", rows=rows) == ""


def test_a_unique_back_relation_has_one_value():
    one = make_schema(is_owner_unique=True)
    assert users("groups_via_owner.title = 'First'", schema=one) == "ann"
    assert ask("users", "id != ''", schema=one, sort="groups_via_owner.title,-id") == ["dan", "bob", "ann", "cat"]
    assert len(users("groups_via_owner.title != 'x'", schema=one).split()) == 4


INDEXES = [
    ("CREATE UNIQUE INDEX one ON groups (owner)", True),
    ("create unique index if not exists `one` on `groups` (`owner` COLLATE NOCASE ASC);", True),
    ('CREATE UNIQUE INDEX "one" ON "groups"("Owner")', True),
    ("CREATE UNIQUE INDEX one ON groups (owner, title)", False),
    ("CREATE UNIQUE INDEX one ON groups (title)", False),
    ("CREATE INDEX one ON groups (owner)", False),
    ("CREATE UNIQUE INDEX one ON groups (owner) WHERE owner != ''", False),
    ("CREATE UNIQUE INDEX one ON groups (lower(owner))", False),
]


@pytest.mark.parametrize(("index", "is_unique"), INDEXES)
def test_which_indexes_make_a_back_relation_single(index, is_unique):
    rows = {**ROWS, "groups": [{"id": "g1", "title": "a", "owner": "ann"}, {"id": "g2", "title": "b", "owner": "ann"}]}
    schema = changed("grp", indexes=(index,))
    # These rows break such an index, which shows what is believed: one value is joined, several are asked for.
    assert (users("groups_via_owner.title = 'a'", schema=schema, rows=rows) == "ann") is is_unique


def test_six_relations_and_no_more():
    six = "author." + "group.owner." * 2 + "group."
    assert posts(f"{six}title = 'First'") == "p1 p2 p5"
    with pytest.raises(FilterError, match="more than 6 relations"):
        posts(f"{six}owner.name = 'Ann'")
    assert users("friends." * 6 + "name ?= 'x'") == ""


UNKNOWN = [
    *("nothing = 1", "title.x = 1", "tags.0 = 1", "author.nothing = 1", "author.name.x = 1", "author = nothing"),
    *("posts_via_author.id = 1", "users_via_likers.id = 1", "nothing_via_author.id = 1", "users_via_nothing.id = 1"),
    *("author.posts_via_author = 1", "author.posts_via_title.id = 1", "author.users_via_group.id = 1", "Title = 1"),
    *("@collection.nothing.id = 1", "@collection.posts = 1", "@collection.posts:a = 1", "@collection.posts.x = 1"),
    *("@collection.posts:.id = 1", "@collection.posts:a:b.id = 1", "@collection. = 1", "@collection = 1"),
    *("@nothing = 1", "@now.x = 1", "@rowid = 1", "#title = 1", "a..b = 1", ".a = 1", "title. = 1", "title: = 1"),
    *("title:nothing = 1", "title:each:each = 1", "ti:lower.x = 1", "true.x = 1", "collectionId = 1", "_rowid_ = 1"),
    *("@request = 1", "@request.auth = 1", "@request.body = 1", "@request.query = 1", "@request.nothing.x = 1"),
    *("@request.method.x = 1", "@request.method:isset = 1", "@request.context:lower = 1", "@request.query.a:each = 1"),
    *("@request.query.a:length = 1", "@request.query.a:changed = 1", "@request.body.title:each = 1"),
    *("@request.body.title:length = 1", "@request.body.nothing:each = 1", "@request.body.nothing:changed = 1"),
    *("@request.body.meta.a:changed = 1", "@request.headers.a:changed = 1", "meta.a-b = 1"),
]


@pytest.mark.parametrize("text", UNKNOWN)
def test_names_that_lead_nowhere_are_refused(text):
    with pytest.raises(FilterError):
        posts(text)


def changed(collection_id, **values):
    """Give the schema with one collection changed."""
    return Schema(tuple(replace(each, **values) if each.id == collection_id else each for each in SCHEMA.collections))


def test_words_are_fields_where_there_are_such_fields():
    schema = changed("grp", fields=(*SCHEMA.find("groups").fields, TextField(name="Null")))
    rows = {"groups": [{"id": "g1", "title": "x", "owner": "", "Null": "x"}]}
    assert groups("title = Null", schema=schema, rows=rows) == "g1"
    assert groups("title = null", schema=schema, rows=rows) == ""


def test_many_rows_are_found_once_each():
    rows = {
        "users": [user("Ann"), user("Bob")],
        "posts": [post(f"p{number}", "x", number, author="ann", likers=["ann", "bob"]) for number in range(9)],
    }
    assert len(posts("likers.name ?!= '' && author.posts_via_author.rank ?> 0", rows=rows).split()) == 9
    assert users("posts_via_author.rank ?> 0", rows=rows) == "ann"
    assert ask("users", "posts_via_likers.rank ?> 0", rows=rows, count=True) == [2]


def test_a_missing_target_is_unknown():
    broken = Schema(tuple(each for each in SCHEMA.collections if each.id != "grp"))
    with pytest.raises(FilterError, match="unknown field"):
        ask("users", "group.title = 'x'", schema=broken, rows={})
    assert ask("users", "group = 'x'", Trust.CLIENT, schema=broken, rows={}) == []
