"""The grammar: trees, joins, limits, and what is refused."""

import pytest

from pando.records.filter.lexer import lex
from pando.records.filter.parser import parse
from pando.records.filter.syntax import (
    NESTING_MAX,
    AllOf,
    AnyOf,
    Call,
    Comparison,
    FilterError,
    Name,
    Number,
    Operator,
    Text,
)


def read(text, most=200):
    return parse(lex(text), comparisons_max=most)


@pytest.mark.parametrize("sign", [each.value for each in Operator])
@pytest.mark.parametrize("any_match", [False, True])
def test_every_operator_is_read_with_and_without_space(sign, any_match):
    mark = "?" if any_match else ""
    for space in ("", " ", "\n\t"):
        assert read(f"a{space}{mark}{sign}{space}b") == Comparison(Name("a"), Operator(sign), Name("b"), any_match)


def test_operands_are_names_numbers_texts_and_calls():
    assert read("a.b:c = -1.5").right == Number(0)
    assert read("'x' = ''") == Comparison(Text(0, False), Operator.EQUAL, Text(1, True))
    assert read("@request.auth.id = #x") == Comparison(Name("@request.auth.id"), Operator.EQUAL, Name("#x"))
    assert read("f(a, 1, g('x',),) = h()") == Comparison(
        Call("f", (Name("a"), Number(0), Call("g", (Text(1, False),)))), Operator.EQUAL, Call("h", ())
    )


def comparison(name):
    return Comparison(Name(name), Operator.EQUAL, Number(0))


def test_and_binds_closer_than_or_and_groups_closer_than_both():
    a, b, c = (Comparison(Name(name), Operator.EQUAL, Name("x")) for name in "abc")
    assert read("a=x || b=x && c=x") == AnyOf((a, AllOf((b, c))))
    assert read("(a=x || b=x) && c=x") == AllOf((AnyOf((a, b)), c))
    assert read("((a=x))") == a


def test_comments_and_white_space_are_nothing():
    assert read("// first\n a = 1 // last") == comparison("a")
    assert lex("a = 'x // y'").literals == ("x // y",)


REFUSED = [
    *("", " ", "// only", "a", "a =", "= a", "a = 1 &&", "|| a = 1", "a = 1 && || b = 1", "()", "(a = 1", "a = 1)"),
    *("a = (1)", "a == 1", "a =! 1", "a <> 1", "a ! 1", "a ? 1", "a & b", "a = 1 and b = 1", "a = 1 b = 1"),
    *("a = .5", "a = 1.", "a = - 1", "a = +1", "a-b = 1", "a = 'x", "a = `x`", "a = $1", "a = 1;", "a = 1 -- x"),
    *("f( = 1", "f(,) = 1", "f(1 2) = 1", "f(1=1) = 1", "f((1)) = 1", "a, b = 1", "ä = 1", "a = \x00"),
]


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_not_in_the_language_is_refused(text):
    with pytest.raises(FilterError):
        read(text)


def test_limits_on_comparisons_parentheses_arguments_and_calls():
    assert len(read(" && ".join(["a = 1"] * 200)).items) == 200
    with pytest.raises(FilterError, match="too many comparisons"):
        read(" && ".join(["a = 1"] * 201))
    assert read("(" * NESTING_MAX + "a = 1" + ")" * NESTING_MAX) == comparison("a")
    with pytest.raises(FilterError, match="parentheses"):
        read("(" * (NESTING_MAX + 1) + "a = 1" + ")" * (NESTING_MAX + 1))
    with pytest.raises(FilterError, match="parentheses"):
        read("(" * 60_000)
    assert len(read(f"f({','.join('1' * 10)}) = 1").left.arguments) == 10
    with pytest.raises(FilterError, match="10 arguments"):
        read(f"f({','.join('1' * 11)}) = 1")
    assert read("f(f(f(1))) = 1").left.name == "f"
    with pytest.raises(FilterError, match="3 functions"):
        read("f(f(f(f(1)))) = 1")


def test_filters_that_differ_in_literals_only_have_one_shape():
    assert lex("a = 'x' && b > 1").shape == lex('a="yy"&&b>-2.5').shape
    assert lex("a = ''").shape != lex("a = 'x'").shape
    assert lex("a = 1").shape != lex("a = 'x'").shape
    assert lex("a = 'x'").shape != lex("a ?= 'x'").shape
    assert lex("ab = 1").shape != lex("a = 1").shape


def test_lone_surrogates_are_refused():
    with pytest.raises(FilterError):
        lex("a = '\ud800'")
