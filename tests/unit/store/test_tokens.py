from __future__ import annotations

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.store.tokens import first_keyword, parameter_names, skip_blank, split_script, words


@pytest.mark.parametrize(
    ("sql", "keyword"),
    [
        ("select 1", "SELECT"),
        ("  -- a comment; with a semicolon\n\t;; /* and\nanother */ Insert into t", "INSERT"),
        ("/* never closed", ""),
        ("", ""),
        ("(select 1)", ""),
        ("\ufeffBEGIN", "BEGIN"),
        ("'select'", ""),
    ],
)
def test_first_keyword(sql: str, keyword: str) -> None:
    assert first_keyword(sql) == keyword


def test_words_skip_comments_and_leading_semicolons() -> None:
    assert words("; begin /* x */ transaction -- y\n readonly ;", 4) == ("BEGIN", "TRANSACTION", "READONLY", ";")


def test_parameters_are_found_outside_of_strings_only() -> None:
    sql = "select ?, ?5, :a, '@no', \"$no\", [:no], `:no`, @b, $c::d(e), #f -- :no\n /* ?9 */"
    assert parameter_names(sql) == ("?", "?5", ":a", "@b", "$c::d(e)", "#f")


def test_blank_text_ends_at_its_end() -> None:
    sql = " -- x\n ; /* y */ ; -- z"
    assert skip_blank(sql) == len(sql)


def test_script_is_cut_at_ends_of_statements_only() -> None:
    script = (
        "create table t(a, \"b;c\"); -- ; not here\n insert into t values(';', 'it''s; fine');;"
        "create temp trigger tr after insert on t begin select case when 1 then 2 end; update t set a = 1; end;"
        "select 2"
    )
    assert [text for _, text in split_script(script)] == [
        'create table t(a, "b;c");',
        "insert into t values(';', 'it''s; fine');",
        "create temp trigger tr after insert on t begin select case when 1 then 2 end; update t set a = 1; end;",
        "select 2",
    ]


PIECES = [
    "select 1;",
    "select ';' ;",
    "insert into t values('a''b;');",
    "create trigger x after insert on t begin insert into t values(1); delete from t; end;",
    "explain query plan create temp trigger x after delete on t begin select end from t; end;",
    'select "a;b", [c;d], `e;f`;',
    "-- only; a comment\nselect 2;",
    "/* ; */ select 3;",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8), st.sampled_from(["", " ", "\n;;", "/* ; */", "-- ;\n"]))
def test_script_of_known_statements_is_cut_into_them(pieces: list[str], between: str) -> None:
    found = [text for _, text in split_script(between.join(pieces))]
    assert len(found) == len(pieces)
    assert all(apsw.complete(text) for text in found)
    assert all(piece.endswith(text) for text, piece in zip(found, pieces, strict=True))


@given(st.text(alphabet="a;'\"-/*\n` []$:?(BEGINDTR", max_size=60))
def test_any_text_is_cut_without_loss(text: str) -> None:
    pieces = list(split_script(text))
    for offset, piece in pieces:
        assert text[offset : offset + len(piece)] == piece
    rest = text
    for _, piece in reversed(pieces):
        head, _, tail = rest.rpartition(piece)
        assert skip_blank(tail) == len(tail)
        rest = head
    assert skip_blank(rest) == len(rest)


def test_long_trigger_takes_linear_time() -> None:
    body = "update t set a = 1;" * 20_000
    script = f"create trigger x after insert on t begin {body} end; select 1;"
    assert len(list(split_script(script))) == 2
