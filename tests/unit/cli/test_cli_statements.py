import sqlite3
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.cli.statements import is_blank, split_statements


@pytest.mark.parametrize(
    ("text", "statements", "rest"),
    [
        ("", [], ""),
        ("SELECT 1;", ["SELECT 1;"], ""),
        ("SELECT 1; SELECT 2;\n", ["SELECT 1;", "SELECT 2;"], ""),
        ("SELECT 1; SELECT", ["SELECT 1;"], " SELECT"),
        ("SELECT ';'; SELECT \";\";", ["SELECT ';';", 'SELECT ";";'], ""),
        ("SELECT 'it''s;';", ["SELECT 'it''s;';"], ""),
        ("SELECT [a;b], `c;d`;", ["SELECT [a;b], `c;d`;"], ""),
        ("-- a;\nSELECT 1;", ["-- a;\nSELECT 1;"], ""),
        ("/* a; */ SELECT 1 /* ; */;", ["/* a; */ SELECT 1 /* ; */;"], ""),
        (";;; ;", [], ""),
        ("SELECT 'open", [], "SELECT 'open"),
        ("/* open", [], "/* open"),
        ("/*/", [], "/*/"),
        ("-- nothing", [], ""),
    ],
)
def test_where_statements_end(text, statements, rest):
    assert split_statements(text) == (statements, rest)


def test_a_trigger_is_one_statement():
    trigger = "CREATE TRIGGER t AFTER INSERT ON a BEGIN UPDATE a SET b = 1; DELETE FROM c WHERE d = ';'; END;"
    assert split_statements(trigger + "SELECT 1;") == ([trigger, "SELECT 1;"], "")


@given(st.text(alphabet=string.ascii_letters + " ;'\"`[]-/*\n", max_size=80))
def test_nothing_is_lost_and_lines_may_be_given_one_by_one(text):
    statements, rest = split_statements(text)
    for statement in statements:
        assert sqlite3.complete_statement(statement)
        assert not is_blank(statement)
    squeezed = "".join("".join(statements).split()) + "".join(rest.split())
    kept = [character for character in text if not character.isspace() and character != ";"]
    left = list(squeezed)
    for character in left:
        if character != ";":
            assert character in kept


@given(st.lists(st.sampled_from(["SELECT 1;", "INSERT INTO t VALUES (';');", "-- c;\nSELECT 2;"]), max_size=8))
def test_statements_are_found_again_whatever_stands_between(statements):
    assert split_statements("\n \n".join(statements))[0] == statements


def test_long_blanks_take_no_time():
    assert not is_blank(" \n" * 20_000 + "x")
