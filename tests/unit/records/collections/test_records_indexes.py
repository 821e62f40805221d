import re

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records.collections import indexes
from pando.records.collections.indexes import Index, IndexColumn
from pando.records.collections.sql_tokens import SQL_CHARS_MAX, BadSql, Kind, quote, tokens


def column(name, **options):
    return IndexColumn(name, **options)


def index(*columns, **options):
    return Index(options.pop("name", "a"), "t", columns, **options)


LONG = "CREATE INDEX a ON t (\n  `b`,\n  `c`\n) WHERE b != '' AND (c > 1)"


@pytest.mark.parametrize(
    ("statement", "found"),
    [
        ("CREATE INDEX a ON t (b)", index(column("b"))),
        ("create unique index `a` on `t` (`b`)", index(column("b"), unique=True)),
        (
            'CREATE INDEX IF NOT EXISTS "a b" ON [t] (b, "c" DESC)',
            index(column("b"), column("c", sort="DESC"), name="a b"),
        ),
        ("CREATE INDEX main.a ON t(b COLLATE NOCASE asc);", index(column("b", collate="NOCASE", sort="ASC"))),
        ("CREATE INDEX a ON t (lower(b) DESC)", index(column("lower(b)", is_expression=True, sort="DESC"))),
        ("CREATE INDEX a ON t (b || 'x,)')", index(column("b || 'x,)'", is_expression=True))),
        (LONG, index(column("b"), column("c"), where="b != '' AND (c > 1)")),
        ("CREATE INDEX a /* ; */ ON t (b) -- )", index(column("b"))),
        ("CREATE INDEX `a``b` ON t (b)", index(column("b"), name="a`b")),
        ("CREATE INDEX a ON t (collate)", index(column("collate"))),
    ],
)
def test_statements_that_are_read(statement, found):
    assert indexes.parse(statement) == found


@pytest.mark.parametrize(
    "statement",
    [
        *("", " ", ";", "CREATE", "CREATE INDEX", "CREATE INDEX a", "CREATE INDEX a ON", "CREATE INDEX a ON t"),
        *("CREATE INDEX a ON t (", "CREATE INDEX a ON t ()", "CREATE INDEX a ON t (b,)", "CREATE INDEX a ON t (b) x"),
        *("CREATE INDEX a ON t (b) WHERE", "CREATE INDEX a ON t (b); SELECT 1", "CREATE INDEX a ON t (b) WHERE 1; x"),
        *("CREATE INDEX '' ON t (b)", 'CREATE INDEX "" ON t (b)', "CREATE TABLE a (b)", "CREATE INDEX a ON t (b; c)"),
        *("CREATE INDEX a ON t (b) WHERE 'x", "CREATE INDEX a ON t (b) /* x", "CREATE INDEX a ON t (b ASC DESC ASC"),
        "CREATE INDEX a ON t (" + "b" * SQL_CHARS_MAX + ")",
    ],
)
def test_statements_that_are_none(statement):
    assert indexes.parse(statement) is None
    assert indexes.retabled(statement, "other") == statement
    assert indexes.recolumned(statement, {"b": "c"}) == statement


def test_another_table_leaves_the_rest_as_it_was_written():
    statement = "create  unique index a\n ON old (old, `b`) -- old"
    assert indexes.retabled(statement, "new`") == "create  unique index a\n ON `new``` (old, `b`) -- old"
    assert indexes.retabled(statement, "old") == statement


def test_renamed_columns_are_found_in_columns_and_conditions_and_nowhere_else():
    statement = "CREATE INDEX b ON b (B, lower(b), \"b\") WHERE b != 'b' AND b(c) > [b] -- b"
    assert indexes.recolumned(statement, {"b": "new"}) == (
        "CREATE INDEX b ON b (`new`, lower(`new`), `new`) WHERE `new` != 'b' AND b(c) > `new` -- b"
    )


def test_columns_can_swap_names():
    assert indexes.recolumned("CREATE INDEX i ON t (a, b)", {"a": "b", "b": "a"}) == "CREATE INDEX i ON t (`b`, `a`)"


def test_the_unique_index_of_a_column():
    statements = [
        "nonsense",
        "CREATE INDEX i1 ON t (a)",
        "CREATE UNIQUE INDEX i2 ON t (a, b)",
        "CREATE UNIQUE INDEX i3 ON t (lower(a))",
        "CREATE UNIQUE INDEX i4 ON t (A COLLATE NOCASE) WHERE a != ''",
        "CREATE UNIQUE INDEX i5 ON t (a)",
    ]
    found = indexes.unique_on(statements, "a")
    assert (found.name, found.columns[0].collate) == ("i4", "NOCASE")
    assert indexes.unique_on(statements, "b") is None


NAMES = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=8)


@settings(max_examples=40)
@given(NAMES, NAMES, st.lists(NAMES, min_size=1, max_size=3), st.booleans(), st.sampled_from(["", "x > 'y'"]))
def test_what_is_written_is_read_again(name, table, columns, unique, where):
    written = Index(name, table, tuple(column(each) for each in columns), unique, where)
    assert indexes.parse(written.sql()) == written


@given(st.text(st.sampled_from("CREATE INDEX ON()`'\"[];,.-*/ab?é\n"), max_size=40))
def test_no_text_makes_the_reader_fail(text):
    indexes.parse("CREATE INDEX a ON t (b) " + text)
    indexes.parse(text)


@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "B",
                "'s''t'",
                '"q"',
                "`r`",
                "[x y]",
                "1.5e3",
                "0x1F",
                "x'0A'",
                "(",
                ")",
                "||",
                "->>",
                "<=",
                "/*c*/",
                "--d\n",
                " ",
                ";",
                "é",
            ]
        ),
        max_size=12,
    )
)
def test_tokens_are_those_of_sqlite(parts):
    """Joined by blanks, every part is one token of its own; comments and blanks are none."""
    found = [each.text for each in tokens(" ".join(parts))]
    assert found == [each for each in parts if each.strip() and not each.startswith(("/*", "--"))]


@pytest.mark.parametrize("text", ["'", '"', "`", "[", "/*", "\\", "{", "a\0b", "!"])
def test_what_is_no_token(text):
    with pytest.raises(BadSql):
        tokens(text)


@given(NAMES)
def test_quoted_names_are_names_to_sqlite(name):
    db = apsw.Connection(":memory:")
    db.execute(f"CREATE TABLE t ({quote(name)} TEXT)")
    assert db.execute("SELECT name FROM pragma_table_info('t')").fetchall() == [(name,)]
    [token] = tokens(quote(name))
    assert (token.kind, token.name) == (Kind.QUOTED, name)


def test_indexes_that_are_written_anew_are_taken_by_sqlite():
    db = apsw.Connection(":memory:")
    db.execute("CREATE TABLE t (b, c)")
    statement = "create unique index if not exists main.[a] on t (b collate nocase desc, c || 'x') where b > ''"
    db.execute(indexes.parse(statement).sql())
    [(sql,)] = db.execute("SELECT sql FROM sqlite_schema WHERE name = 'a'")
    assert re.sub(r"\s+", " ", sql) == (
        "CREATE UNIQUE INDEX `a` ON `t` (`b` COLLATE `nocase` DESC, c || 'x') WHERE b > ''"
    )
