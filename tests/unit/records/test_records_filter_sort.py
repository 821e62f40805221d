"""The sort language."""

import pytest
from records_filter_samples import ROWS, SCHEMA, ask
from records_filter_world import NOW

from pando.records.filter import Compiler, Question, RequestInfo
from pando.records.filter.sort import SORT_TERM_CHARS_MAX, SORT_TERMS_MAX, SortTerm, parse_sort
from pando.records.filter.syntax import FilterError
from pando.records.model import Collection, CollectionType, Rules, Schema, TextField
from pando.records.problems import ApiError

SORTS = [
    ("", ["p1", "p2", "p3", "p4", "p5"]),
    ("-rank", ["p5", "p4", "p3", "p2", "p1"]),
    ("+rank", ["p1", "p2", "p3", "p4", "p5"]),
    ("public,-rank", ["p5", "p4", "p2", "p3", "p1"]),
    (" -public , rank ", ["p1", "p3", "p2", "p4", "p5"]),
    ("title", ["p3", "p4", "p1", "p5", "p2"]),
    ("-title:lower", ["p2", "p1", "p5", "p4", "p3"]),
    ("author.name,-rank", ["p3", "p5", "p1", "p2", "p4"]),
    ("-author.level,rank", ["p4", "p2", "p1", "p5", "p3"]),
    ("-author.group.title,rank", ["p4", "p1", "p2", "p5", "p3"]),
    ("tags:length,-rank", ["p3", "p4", "p1", "p5", "p2"]),
    ("likers.level,rank", ["p3", "p1", "p4", "p5", "p2"]),
    ("-likers.level,rank", ["p2", "p4", "p5", "p1", "p3"]),
    ("tags:each,rank", ["p3", "p1", "p2", "p5", "p4"]),
    ("place.lon,rank", ["p4", "p3", "p5", "p1", "p2"]),
    ("meta.a.b,-rank", ["p5", "p4", "p3", "p2", "p1"]),
    ("@rowid", ["p1", "p2", "p3", "p4", "p5"]),
    ("-@rowid", ["p5", "p4", "p3", "p2", "p1"]),
    ("true,-rank", ["p5", "p4", "p3", "p2", "p1"]),
    ("@now,null,-rank", ["p5", "p4", "p3", "p2", "p1"]),
    (",-rank,,", ["p5", "p4", "p3", "p2", "p1"]),
]


@pytest.mark.parametrize(("sort", "expected"), SORTS)
def test_sorts(sort, expected):
    assert ask("posts", "", sort=sort) == expected


@pytest.mark.parametrize("text", ["", "rank > 0", "likers.name ?!= 'x'", "author.name != 'x'"])
def test_records_keep_the_order_of_insertion_by_themselves(text):
    rows = {**ROWS, "posts": list(reversed(ROWS["posts"]))}
    found = ask("posts", text, sort="", rows=rows, columns=None)
    assert [row[0] for row in found] == ["p5", "p4", "p3", "p2", "p1"]


def test_back_relations_sort_by_their_first_or_last():
    assert ask("users", "", sort="posts_via_author.rank,name") == ["dan", "ann", "bob", "cat"]
    assert ask("users", "", sort="-posts_via_author.rank,name") == ["ann", "cat", "bob", "dan"]


def test_chance_gives_all_records_and_says_so():
    assert sorted(ask("posts", "", sort="@random")) == ["p1", "p2", "p3", "p4", "p5"]
    question = Question(collection=SCHEMA.find("posts"), request=RequestInfo(), now=NOW, sort="@random")
    assert Compiler(SCHEMA).select(question).is_volatile


@pytest.mark.parametrize(
    "sort",
    [
        "nothing",
        "-",
        "title desc",
        "title;x",
        "author.nothing",
        "@nothing",
        "1",
        "'x'",
        "title:nothing",
        "--rank",
        "-+",
    ],
)
def test_unknown_sorts_are_refused(sort):
    with pytest.raises(ApiError) as caught:
        ask("posts", "", sort=sort)
    assert caught.value.status == 400


def test_limits():
    assert len(parse_sort(",".join(["a"] * SORT_TERMS_MAX))) == SORT_TERMS_MAX
    with pytest.raises(FilterError):
        parse_sort(",".join(["a"] * (SORT_TERMS_MAX + 1)))
    assert len(parse_sort("a" * SORT_TERM_CHARS_MAX)) == 1
    with pytest.raises(FilterError):
        parse_sort("a" * (SORT_TERM_CHARS_MAX + 1))
    assert parse_sort(" -a, +b ,c") == (SortTerm("a", True), SortTerm("b", False), SortTerm("c", False))


def test_views_have_no_rowid():
    view = Collection(
        id="v", name="seen", type=CollectionType.VIEW, fields=(TextField(name="id"),), rules=Rules(list="")
    )
    with pytest.raises(ApiError):
        ask("seen", "", schema=Schema((view,)), rows={}, sort="@rowid")
