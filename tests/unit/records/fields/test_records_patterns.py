"""Patterns are read, found in texts and made into texts; Python's `re` is the judge where the two agree."""

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records import model
from pando.records.fields import autogenerate, matching, patterns
from pando.records.fields.matching import matcher
from pando.records.fields.patterns import PatternError
from pando.records.problems import ApiError


@pytest.mark.parametrize(
    ("pattern", "found", "not_found"),
    [
        ("", ["", "x"], []),
        ("b", ["abc"], ["ac", ""]),
        ("^[a-z0-9]+$", ["abc1"], ["", "Abc", "abc\n", "a b"]),
        ("^a{2,3}$", ["aa", "aaa"], ["a", "aaaa"]),
        ("^a{2}$", ["aa"], ["a", "aaa"]),
        ("^a{2,}$", ["aa", "aaaaaa"], ["a"]),
        ("^a{,2}$", ["a{,2}"], ["a", "aa"]),
        ("^a{x}$", ["a{x}"], ["a"]),
        ("^(foo|bar|)$", ["foo", "bar", ""], ["fo", "foobar"]),
        ("^(?:ab)*c?$", ["", "ab", "ababc"], ["abab-", "ca"]),
        ("^a+?b*?$", ["a", "aab"], ["b"]),
        (r"^\d{3}-\D\w\W\s\S$", ["123-xy!\tz"], ["12a-xy!\tz"]),
        (r"^[\d\-x]+$", ["1-x"], ["a"]),
        (r"^[^\d]+$", ["ab"], ["a1"]),
        ("^[]a]+$", ["]a"], ["b"]),
        ("^[a-]+$", ["a-"], ["b"]),
        ("^[[:alpha:][:^space:]]$", ["a", "1"], [" "]),
        (r"^\p{Lu}\p{Ll}+$", ["Éa"], ["éa", "AB"]),
        (r"^\pL\PL$", ["a1"], ["ab"]),
        (r"^\p{^L}$", ["1"], ["a"]),
        (r"^[\p{L}\d]+$", ["é1"], ["-"]),
        ("(?i)^abc$", ["ABC", "aBc"], ["abd"]),
        ("^a(?i:b)c$", ["aBc", "abc"], ["abC"]),
        ("(?i)^[é-ê]$", ["É"], ["e"]),
        ("^a.b$", ["axb"], ["a\nb"]),
        ("(?s)^a.b$", ["a\nb"], []),
        ("(?m)^b$", ["a\nb\nc"], ["ab"]),
        (r"\bcat\b", ["a cat!", "cat"], ["cats", "concat"]),
        (r"\Bcat", ["concat"], ["cat"]),
        (r"\Aab\z", ["ab"], ["ab\n", "xab"]),
        (r"^\x41\x{1F600}\101\n\.$", ["A\U0001f600A\n."], ["A"]),
        (r"^\Qa.b*\E+$", ["a.b*", "a.b**"], ["axb"]),
        (r"^(?P<year>\d{4})(?<rest>x)$", ["2024x"], ["2024"]),
        ("^(a*)*$", ["", "aaa"], ["b"]),
        ("(^|,)x(,|$)", ["x", "a,x", "x,b"], ["ax", "xb"]),
    ],
)
def test_a_pattern_is_found_as_re2_finds_it(pattern, found, not_found):
    its = matcher(pattern)
    assert [text for text in found if not its.is_found_in(text)] == []
    assert [text for text in not_found if its.is_found_in(text)] == []


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "(",
            ")",
            "a)",
            "[a",
            "[",
            "*",
            "a**",
            "+",
            "a{2}{3}",
            "a{2,1}",
            "a{1001}",
            "(?=a)",
            "(?!a)",
            "(?<=a)b",
            "(?P=x)",
        ),
        *(
            r"\1",
            r"\8",
            r"\p{Nope}",
            "[[:nope:]]",
            r"\xZZ",
            r"\x{110000}",
            "[z-a]",
            "\\",
            "(?P<>a)",
            "(?P<a b>c)",
            "(?q)a",
        ),
        *("(" * 200 + ")" * 200, "x" * 5001, "((a{100}){100}){10}"),
    ],
    ids=lambda pattern: repr(pattern)[:30],
)
def test_what_is_no_pattern_is_refused(pattern):
    with pytest.raises(PatternError):
        matching.Matcher(patterns.parse(pattern))


plain_patterns = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\d", r"\w", "^", "$", r"\b"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda both: f"(?:{both[0]}|{both[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}"])).map(lambda both: f"(?:{both[0]}){both[1]}"),
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(pattern=plain_patterns, text=st.text("ab1 ", max_size=8))
def test_it_finds_what_pythons_engine_finds(pattern, text):
    expected = re.search(pattern.replace("$", r"\Z"), text, re.ASCII) is not None
    assert matcher(pattern).is_found_in(text) == expected


@settings(max_examples=150, deadline=None)
@given(pattern=st.text("ab(){}[]|*+?\\^$.-,1:<>Ppi=dQEx", max_size=15))
def test_any_text_is_a_pattern_or_an_error(pattern):
    try:
        its = matching.Matcher(patterns.parse(pattern))
    except PatternError:
        return
    assert its.is_found_in("ab1") in (True, False)


def test_a_pattern_that_ruins_backtracking_engines_is_answered_soon():
    """An engine that backtracks would need 2^2000 steps; the number of sets of states that come up is small."""
    assert not matcher("^(a+)+$").is_found_in("a" * 2000 + "b")
    assert not matcher("(x+x+)+y").is_found_in("x" * 2000)


@pytest.mark.parametrize(
    "pattern",
    [
        "[a-z0-9]{15}",
        "[A-Z]{3}-[0-9]{4}",
        r"\w{2,5}(foo|bar)x?",
        "a+b*",
        ".{3}",
        "[^a-z]{4}",
        "(?i)abc",
        r"\x{e9}{2}",
        "",
    ],
)
def test_texts_made_of_a_pattern_match_it(pattern):
    for seed in range(20):
        made = autogenerate.from_pattern(pattern, Random(seed))
        assert matcher(f"^(?:{pattern})$").is_found_in(made)


@pytest.mark.parametrize("pattern", ["^a$", r"a\b", "(a{1000}){6}", r"[^\x00-\x{10FFFF}]", "("])
def test_of_some_patterns_no_text_is_made(pattern):
    with pytest.raises(PatternError):
        autogenerate.from_pattern(pattern, Random(1))


def test_counting_nothing_costs_nothing():
    nothing = "(" * 6 + "()" + "{1000})" * 6
    assert matcher(f"^{nothing}a$").is_found_in("a")
    with pytest.raises(PatternError):
        autogenerate.from_pattern(nothing, Random(1))


def test_a_field_whose_pattern_is_broken_is_told_as_such():
    field = model.TextField(name="code", autogenerate_pattern="^x")
    collection = model.Collection(id="c", name="c", fields=(field,))
    with pytest.raises(ApiError):
        autogenerate.made_up_on_create(collection, {}, "now", Random(1))


def test_ids_have_fifteen_characters_and_differ():
    random = Random(5)
    made = {autogenerate.record_id(random) for _ in range(100)}
    assert len(made) == 100
    assert all(matcher("^[a-z0-9]{15}$").is_found_in(each) for each in made)
    assert len(autogenerate.random_text(random, 50)) == 50


def test_a_new_record_gets_what_makes_itself():
    collection = model.Collection(
        id="c",
        name="c",
        fields=(
            model.TextField(name="id", primary_key=True, autogenerate_pattern="[a-z0-9]{15}"),
            model.TextField(name="code", autogenerate_pattern="[A-Z]{4}"),
            model.TextField(name="kept", autogenerate_pattern="[A-Z]{4}"),
            model.TextField(name="plain"),
            model.AutodateField(name="created", on_create=True),
            model.AutodateField(name="updated", on_create=True, on_update=True),
        ),
    )
    made = autogenerate.made_up_on_create(collection, {"kept": "x", "code": ""}, "now", Random(1))
    assert sorted(made) == ["code", "created", "id", "updated"]
    assert (len(made["id"]), len(made["code"]), made["created"], made["updated"]) == (15, 4, "now", "now")
    assert autogenerate.made_up_on_update(collection, "later") == {"updated": "later"}


def test_an_id_without_a_pattern_is_made_all_the_same():
    collection = model.Collection(id="c", name="c", fields=(model.TextField(name="id", primary_key=True),))
    assert len(autogenerate.made_up_on_create(collection, {}, "now", Random(1))["id"]) == 15
    assert autogenerate.made_up_on_create(collection, {"id": "mine"}, "now", Random(1)) == {}
