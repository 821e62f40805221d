"""Each operator on each kind of operand, asked of SQLite."""

import pytest
from records_filter_samples import ROWS, post, posts
from records_filter_world import Raw

from pando.records.filter.slots import like_pattern

ALL = "p1 p2 p3 p4 p5"

CASES = [
    # = and != with a text
    ("title = 'One'", "p1"),
    ("title = 'one'", ""),
    ("title != 'One'", "p2 p3 p4 p5"),
    ("'One' = title", "p1"),
    # empty texts and null are one
    ("title = ''", "p3"),
    ("title = null", "p3"),
    ("title = NULL", "p3"),
    ("title != ''", "p1 p2 p4 p5"),
    ("'' != title", "p1 p2 p4 p5"),
    ("title != null", "p1 p2 p4 p5"),
    # numbers
    ("rank = 3", "p3"),
    ("rank = '3'", "p3"),
    ("rank = 3.0", "p3"),
    ("rank != 3", "p1 p2 p4 p5"),
    ("rank > 3", "p4 p5"),
    ("rank >= 3", "p3 p4 p5"),
    ("rank < 3", "p1 p2"),
    ("rank <= 3", "p1 p2 p3"),
    ("3 < rank", "p4 p5"),
    ("rank > -1", ALL),
    ("rank > null", ""),
    ("rank = ''", ""),
    # truth values
    ("public = true", "p1 p3"),
    ("public = false", "p2 p4 p5"),
    ("public = TRUE", "p1 p3"),
    ("public != true", "p2 p4 p5"),
    ("public = 1", "p1 p3"),
    # columns on both sides
    ("title = title", ALL),
    ("title != title", ""),
    ("author = likers", ""),
    ("id = author", ""),
    # literals on both sides
    ("1 = 1", ALL),
    ("1 = 2", ""),
    ("'' = null", ALL),
    ("'' != null", ""),
    ("'a' != 'b'", ALL),
    ("true = 1", ALL),
    # LIKE
    ("title ~ 'o'", "p1 p2 p4"),
    ("title ~ 'ONE'", "p1"),
    ("title !~ 'o'", "p3 p5"),
    ("title ~ 't%'", "p2"),
    ("title ~ '%o'", "p2"),
    ("title ~ '50%'", "p4"),
    (r"title ~ '0\%'", "p4"),
    ("title ~ 'a_b'", "p5"),
    ("title ~ 'n_'", ""),
    (r"title ~ 'b\\\\c'", "p5"),
    ("title ~ ''", ALL),
    ("title ~ null", ""),
    ("title ~ 5", "p4"),
    ("title !~ 5", "p1 p2 p3 p5"),
    ("rank ~ 3", "p3"),
    ("'one or two' ~ title", "p1 p2 p3"),
    ("'x' !~ title", "p1 p2 p4 p5"),
    ("title ~ title", "p1 p2 p3 p4"),  # what a column holds is not escaped: \c is c
    # JSON is compared as it is
    ("meta = 'text'", "p2"),
    ("meta = 5", "p4"),
    ("meta = '5'", ""),
    ("meta = null", "p3"),
    ("meta = ''", ""),
    ("meta != ''", ALL),
    ("meta != null", "p1 p2 p4 p5"),
    ("meta.a.b = 1", "p1"),
    ("meta.a.b != 1", "p2 p3 p4 p5"),
    ("meta.a = '{\"b\":1}'", "p1"),
    ("meta.list.0 = 'x'", "p1"),
    ("meta.list.1.y = 'z'", "p1"),
    ("meta.0 = 1", "p5"),
    ("meta.0 > 0", "p5"),
    ("meta ~ 'ex'", "p2"),
    ("place.lon > 10", "p2"),
    ("place.lat = 20", "p1 p2"),
    ("place.lon = 0", "p3 p5"),
    # lists without a modifier are their JSON text
    ("tags = '[\"a\"]'", "p1"),
    ("tags ~ '\"b\"'", "p2 p5"),
    ("tags = 'a'", ""),
    ("tags = '[]'", "p3"),
    # modifiers
    ("title:lower = 'one'", "p1"),
    ("title:lower ~ 'ONE'", "p1"),
    ("'TWO' ~ title:lower", "p2 p3"),
    ("tags:length = 2", "p2 p5"),
    ("tags:length = 0", "p3"),
    ("author:length = 1", "p1 p2 p4 p5"),
    ("author:length = 0", "p3"),
    # modifiers that mean nothing for a field
    ("title:each = 'One'", "p1"),
    ("title:length = 'One'", "p1"),
    ("title:isset = 'One'", "p1"),
    ("title:changed = 'One'", "p1"),
    # joins of conditions
    ("rank > 1 && rank < 4", "p2 p3"),
    ("rank = 1 || rank = 5", "p1 p5"),
    ("rank = 1 || rank > 2 && public = true", "p1 p3"),
    ("(rank = 1 || rank > 2) && public = true", "p1 p3"),
    ("(rank = 2 || rank > 2) && public = true", "p3"),
    ("rank = 2 || rank > 2 && public = true", "p2 p3"),
    ("", ALL),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_comparisons(text, expected):
    assert posts(text) == expected


ANY = [(text, expected) for text, expected in CASES if not any(part in text for part in ("&&", "||", ":")) and text]


@pytest.mark.parametrize(("text", "expected"), ANY)
def test_any_match_of_single_values_is_the_same(text, expected):
    left, operator, right = text.split(" ", 2) if text[0] != "'" else (*text.rsplit(" ", 2),)
    assert posts(f"{left} ?{operator} {right}") == expected


@pytest.mark.parametrize(
    ("looked_for", "pattern"),
    [
        ("a", "%a%"),
        ("", "%%"),
        ("a%", "a%"),
        ("%", "%"),
        (r"a\%", r"%a\%%"),
        (r"a\%b%", r"a\%b%"),
        ("a_b", r"%a\_b%"),
        (r"a\_b", r"%a\_b%"),
        (r"a\b", r"%a\\b%"),
        ("a\\", r"%a\\%"),
        (r"a\\%", r"a\\%"),
        (r"\\", r"%\\%"),
    ],
)
def test_patterns(looked_for, pattern):
    assert like_pattern(looked_for) == pattern


def test_columns_that_are_no_json_are_taken_as_they_are():
    rows = {**ROWS, "posts": [post("p1", "x", meta=Raw("{no json"), tags=Raw("a"), likers=Raw("ann"))]}
    assert posts("meta = '{no json' && meta.a = null", rows=rows) == "p1"
    assert posts("tags:each = 'a' && tags:length = 1 && likers.name = 'Ann'", rows=rows) == "p1"
