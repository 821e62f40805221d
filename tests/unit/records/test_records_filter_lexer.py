"""Texts of filters: what stands between quotes, and what a backslash means there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.records.filter.lexer import lex
from pando.records.filter.syntax import FilterError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"'it\'s'", "it's"),
        (r'"say \"so\""', 'say "so"'),
        (r"'say \"so\"'", 'say "so"'),
        (r"'a\\b'", r"a\b"),
        (r"'a\b'", r"a\b"),
        (r"'a\\\\b'", r"a\\b"),
        (r"'a\nb\tc\rd'", "a\nb\tc\rd"),
        (r"'a\\nb'", r"a\nb"),
        (r"'a\%b\_c\x\u00e9\0'", r"a\%b\_c\x\u00e9\0"),
        (r"'a\\'", "a\\"),
        ("'a\nb'", "a\nb"),
        ("'a // b'", "a // b"),
        ("''", ""),
    ],
)
def test_texts(text, value):
    assert lex(text).literals == (value,)


@pytest.mark.parametrize("text", ["'a", "'a\\'", '"a\\\\\\"', r"'a\\'b'", "'\\"])
def test_texts_that_do_not_end(text):
    with pytest.raises(FilterError):
        lex(f"x = {text}")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters=[*map(chr, range(32)), "\x7f"])))
def test_texts_as_the_client_writes_them(value):
    """The client writes values as JSON."""
    assert lex(json.dumps(value, ensure_ascii=False)).literals == (value,)


def test_many_backslashes_take_no_time():
    assert lex("'" + "\\\\" * 100_000 + "'").literals == ("\\" * 100_000,)
    with pytest.raises(FilterError):
        lex("'" + "\\'" * 100_000)
