"""A dump, read back by SQLite's shell and by ours, gives the same database."""

import shutil
import subprocess

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.errors import InvalidRequest, PandoError
from pando.sql.dumping import dump
from pando.sql.loading import Loader

SCHEMA = """
CREATE TABLE plain(a, "b ""c" TEXT, 'select' REAL);
CREATE TABLE keyed(id INTEGER PRIMARY KEY AUTOINCREMENT, v BLOB, w INT AS (length(v)), x INT AS (id * 2) STORED);
CREATE TABLE pairs(x TEXT, y INT, PRIMARY KEY(x, y)) WITHOUT ROWID, STRICT;
CREATE TABLE rowid(rowid TEXT, _rowid_ INT);
CREATE TABLE child(id INTEGER PRIMARY KEY, parent REFERENCES keyed(id));
CREATE VIRTUAL TABLE words USING fts5(body, tokenize = 'porter unicode61');
CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1);
CREATE INDEX plain_a ON plain(a) WHERE a IS NOT NULL;
CREATE VIEW shown AS SELECT a || '; ' AS t FROM plain;
CREATE TABLE log(t);
CREATE TRIGGER after_plain AFTER INSERT ON plain BEGIN INSERT INTO log VALUES ('a;b'); DELETE FROM log WHERE 0; END;
PRAGMA user_version = 7;
INSERT INTO plain VALUES (1, 'it''s', 2.5), (NULL, 'two
lines', 1e999), (X'00ff', 'cr' || char(13) || char(10) || 'lf \\r', -1e999), (9223372036854775807, '', 0.1),
  (-9223372036854775808, char(0, 65), 1e16), ('ü€🌳', CAST(X'ff41' AS TEXT), 3.0);
INSERT INTO keyed(v) VALUES (zeroblob(3)), ('text'), (12.5);
DELETE FROM keyed WHERE id = 3;
INSERT INTO pairs VALUES ('a', 1), ('a', 2);
INSERT INTO rowid VALUES ('one', 1);
INSERT INTO child VALUES (1, 99);
INSERT INTO words VALUES ('running trees'), ('a walk');
INSERT INTO boxes VALUES (1, 0.5, 2.5);
ANALYZE;
"""


def made(script=SCHEMA):
    connection = apsw.Connection("")
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute(script)
    return connection


def loaded(text, path, piece=1000):
    loader = Loader(path)
    try:
        data = text.encode()
        for at in range(0, len(data), piece):
            loader.feed(data[at : at + piece])
        loader.finish()
    finally:
        loader.close()
    return apsw.Connection(str(path))


def content(connection):
    """Schema and rows, each value with its type, as SQLite itself writes them. Samples for ANALYZE are no content."""
    names = connection.execute(
        "SELECT name, type, sql FROM sqlite_schema WHERE name <> 'sqlite_stat4' ORDER BY type, name"
    ).fetchall()
    found = {"schema": names, "user_version": connection.pragma("user_version")}
    for name, kind, _ in names:
        if kind == "table":
            columns = [row[1] for row in connection.execute(f'PRAGMA table_xinfo("{name}")')]
            picked = ",".join(
                f"typeof({quoted}), hex(CAST({quoted} AS BLOB))"
                for quoted in ('"' + column.replace('"', '""') + '"' for column in columns)
            )
            found[name] = sorted(connection.execute(f'SELECT {picked} FROM "{name}"').fetchall())
    return found


def test_what_is_dumped_is_loaded_equal(tmp_path):
    connection = made()
    again = loaded("".join(dump(connection)), tmp_path / "new.db")
    assert content(again) == content(connection)
    assert again.execute("SELECT body FROM words WHERE words MATCH 'tree'").fetchall() == [("running trees",)]
    assert again.execute("PRAGMA integrity_check").get == "ok"
    again.execute("INSERT INTO keyed(v) VALUES (1)")
    assert again.last_insert_rowid() == 4, "the sequence goes on"


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="there is no sqlite3 here")
def test_the_shell_of_sqlite_loads_it_equal(tmp_path):
    connection = made()
    text = "".join(dump(connection))
    path = tmp_path / "shell.db"
    done = subprocess.run(["sqlite3", "-bail", path], input=text.encode(), capture_output=True, timeout=20)
    assert (done.returncode, done.stderr) == (0, b"")
    assert content(apsw.Connection(str(path))) == content(connection)


@pytest.mark.skipif(not shutil.which("sqlite3"), reason="there is no sqlite3 here")
def test_a_dump_of_the_shell_is_loaded_equal(tmp_path):
    source = tmp_path / "source.db"
    done = subprocess.run(["sqlite3", "-bail", source], input="".join(dump(made())).encode(), timeout=20)
    assert done.returncode == 0
    text = subprocess.run(["sqlite3", source, ".dump"], capture_output=True, timeout=20).stdout
    (tmp_path / "text.sql").write_bytes(text)
    connection = apsw.Connection(str(source))
    wanted = content(connection) | {"user_version": 0}  # which the shell forgets
    wanted["plain"] = [row for row in wanted["plain"] if "00" not in row[3] and "FF" not in row[3]]
    again = content(loaded(text.decode(errors="replace"), tmp_path / "new.db"))
    again["plain"] = [row for row in again["plain"] if row in wanted["plain"]]
    assert {name: again[name] for name in ("schema", "keyed", "words_data", "boxes", "plain")} == {
        name: wanted[name] for name in ("schema", "keyed", "words_data", "boxes", "plain")
    }


def test_row_ids_are_kept_when_asked_for(tmp_path):
    connection = made("CREATE TABLE t(a); INSERT INTO t VALUES (1), (2), (3); DELETE FROM t WHERE a = 2")
    kept = loaded("".join(dump(connection, preserve_row_ids=True)), tmp_path / "kept.db")
    assert kept.execute("SELECT rowid, a FROM t").fetchall() == [(1, 1), (3, 3)]
    plain = loaded("".join(dump(connection)), tmp_path / "plain.db")
    assert plain.execute("SELECT rowid, a FROM t").fetchall() == [(1, 1), (2, 3)]


def test_tables_whose_columns_take_the_names_of_the_rowid(tmp_path):
    connection = made("CREATE TABLE t(rowid, oid, _ROWID_); INSERT INTO t VALUES (1, 2, 3)")
    again = loaded("".join(dump(connection, preserve_row_ids=True)), tmp_path / "new.db")
    assert again.execute("SELECT * FROM t").fetchall() == [(1, 2, 3)]


VALUES = st.none() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text() | st.binary()


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(VALUES, VALUES), max_size=20), piece=st.integers(1, 50))
def test_any_value_survives(rows, piece, tmp_path_factory):
    connection = made("CREATE TABLE t(a, b)")
    rows = [tuple(v.encode("utf-8", "ignore").decode() if isinstance(v, str) else v for v in row) for row in rows]
    connection.executemany("INSERT INTO t VALUES (?, ?)", rows)
    again = loaded("".join(dump(connection)), tmp_path_factory.mktemp("d") / "new.db", piece)
    assert content(again)["t"] == content(connection)["t"]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("CREATE TABLE t(a);", "within a transaction"),
        ("", "within a transaction"),
        ("BEGIN; CREATE TABLE t(a);", "without COMMIT"),
        ("BEGIN; CREATE TABLE t(a); ROLLBACK;", "without COMMIT"),
        ("BEGIN; CREATE TABLE t(a); COMMIT; INSERT INTO t VALUES (1);", "goes on after"),
        ("BEGIN; COMMIT; BEGIN; COMMIT;", "goes on after"),
        ("BEGIN; ATTACH '/etc/passwd' AS x; COMMIT;", "may not do this"),
        ("PRAGMA temp_store_directory='/'; BEGIN; COMMIT;", "may not do this"),
        ("VACUUM INTO '/tmp/x';", "within a transaction"),
        ("BEGIN; SELECT load_extension('x'); COMMIT;", "cannot be loaded"),
        ("BEGIN; INSERT INTO missing VALUES (1); COMMIT;", "no such table: missing"),
        ("BEGIN; INSERT INTO t VALUES ('", "cannot be loaded"),
        ("BEGIN; SELECT '\0'; COMMIT;", "cannot be loaded"),
    ],
)
def test_what_is_no_dump_is_refused_with_the_reason(script, reason, tmp_path):
    with pytest.raises(InvalidRequest, match=reason):
        loaded(script, tmp_path / "new.db")


@settings(max_examples=60, deadline=None)
@given(data=st.binary() | st.text("BEGINCOMT;'-/* \n").map(str.encode))
def test_whatever_comes_is_refused_and_never_breaks(data, tmp_path_factory):
    loader = Loader(tmp_path_factory.mktemp("d") / "new.db")
    try:
        loader.feed(data)
        loader.finish()
    except PandoError:
        pass
    finally:
        loader.close()


def test_a_long_script_is_run_as_it_comes(tmp_path):
    rows = "".join(f"INSERT INTO t VALUES ({n}, 'a;b -- '' {n}');\n" for n in range(40_000))
    text = f"-- a dump\nBEGIN;\nCREATE TABLE t(a, b);\n{rows}COMMIT;\n-- the end"
    assert loaded(text, tmp_path / "new.db", 100_000).execute("SELECT count(*) FROM t").get == 40_000


def test_texts_full_of_semicolons_do_not_keep_a_script_waiting(tmp_path):
    style = "\n".join(["a { b: c; d: 'e'; -- f", '/* g; */ }; "h;'] * 500).replace("'", "''")
    rows = "".join(f"INSERT INTO t VALUES ({n}, '{style}');\n" for n in range(200))
    loader, waiting = Loader(tmp_path / "new.db"), []
    data = f"BEGIN;\nCREATE TABLE t(a, b);\n{rows}COMMIT;\n".encode()
    for at in range(0, len(data), 50_000):
        loader.feed(data[at : at + 50_000])
        waiting.append(len(loader._pending))
    loader.finish()
    loader.close()
    assert max(waiting) < 700_000 < len(data) / 3
    loaded = apsw.Connection(str(tmp_path / "new.db"))
    assert loaded.execute("SELECT count(*), max(length(b)) FROM t").fetchall() == [(200, len(style.replace("''", "'")))]


def test_a_script_is_cut_anywhere(tmp_path):
    text = "".join(dump(made()))
    for number, piece in enumerate((1, 7, 100)):
        loader = Loader(tmp_path / f"{number}.db")
        for at in range(0, len(data := text.encode()), piece):
            loader.feed(data[at : at + piece])
            loader._run_complete()
        loader.finish()
        loader.close()
        assert content(apsw.Connection(str(tmp_path / f"{number}.db"))) == content(made())


def test_a_limit_of_the_size_holds(tmp_path):
    loader = Loader(tmp_path / "new.db", size_bytes_max=40_960)
    loader.feed(b"BEGIN; CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(100000)); COMMIT;")
    with pytest.raises(InvalidRequest, match="larger than max_db_size, 40960 bytes"):
        loader.finish()
    loader.close()
