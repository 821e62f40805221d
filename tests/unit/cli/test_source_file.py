"""What `pando import` sends is one committed state of the file, whatever lies beside it."""

import os
import shutil
import sqlite3
from contextlib import closing

import pytest

from pando.cli.source_file import open_source
from pando.errors import InvalidRequest


def make(path, *, wal=False, rows=100):
    db = sqlite3.connect(path, isolation_level=None)
    if wal:
        db.execute("PRAGMA journal_mode = wal")
    db.execute("CREATE TABLE t (a, b)")
    db.execute("BEGIN")
    db.executemany("INSERT INTO t VALUES (?, ?)", [(number, "x" * 100) for number in range(rows)])
    db.execute("COMMIT")
    return db


def sent(file, said=None):
    """What would be imported, opened as the server does: alone, in another place."""
    with open_source(file, [].append if said is None else said.append) as source:
        data = source.stream.read()
        source.check()
    assert len(data) == source.size
    return data


def rows(data, tmp_path):
    (tmp_path / "sent.db").write_bytes(data)
    with closing(sqlite3.connect(tmp_path / "sent.db")) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        return db.execute("SELECT b, count(*) FROM t GROUP BY b").fetchall()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("wal", [False, True])
def test_a_closed_file_is_sent_as_it_is_and_nothing_is_left_beside_it(tmp_path, wal):
    make(tmp_path / "a.db", wal=wal).close()
    assert sent(tmp_path / "a.db") == (tmp_path / "a.db").read_bytes()
    assert names(tmp_path) == ["a.db"]


def test_commits_that_are_in_the_wal_come_along(tmp_path):
    said = []
    with closing(make(tmp_path / "a.db", wal=True)) as db:
        assert rows(sent(tmp_path / "a.db", said), tmp_path) == [("x" * 100, 100)]
        assert "a.db-wal holds commits" in said[0]
        db.execute("BEGIN")
        db.execute("UPDATE t SET b = 'not committed'")
        assert rows(sent(tmp_path / "a.db"), tmp_path) == [("x" * 100, 100)]


def test_a_wal_whose_program_was_killed_comes_along(tmp_path):
    (tmp_path / "killed").mkdir()
    with closing(make(tmp_path / "a.db", wal=True)):
        for suffix in ("", "-wal"):
            shutil.copy(tmp_path / f"a.db{suffix}", tmp_path / "killed" / f"a.db{suffix}")
    assert rows(sent(tmp_path / "killed" / "a.db"), tmp_path) == [("x" * 100, 100)]


def test_a_transaction_that_was_cut_off_is_not_imported(tmp_path):
    with closing(make(tmp_path / "a.db", rows=5000)) as db:
        db.execute("PRAGMA cache_size = 5")
        db.execute("BEGIN")
        db.execute("UPDATE t SET b = 'not committed'")
        for suffix in ("", "-journal"):
            shutil.copy(tmp_path / f"a.db{suffix}", tmp_path / f"b.db{suffix}")
        db.execute("ROLLBACK")
    with pytest.raises(InvalidRequest, match="not finished"):
        sent(tmp_path / "b.db")
    with closing(sqlite3.connect(tmp_path / "b.db")) as db:  # what the message says helps
        db.execute("SELECT count(*) FROM t").fetchone()
    assert rows(sent(tmp_path / "b.db"), tmp_path) == [("x" * 100, 5000)]


def test_nobody_writes_while_the_file_is_read(tmp_path):
    make(tmp_path / "a.db").close()
    with closing(sqlite3.connect(tmp_path / "a.db", timeout=0.0, isolation_level=None)) as other:
        with open_source(tmp_path / "a.db", [].append), pytest.raises(sqlite3.OperationalError, match="locked"):
            other.execute("DELETE FROM t")
        assert other.execute("DELETE FROM t").rowcount == 100


def test_a_wal_file_that_changes_while_it_is_read_is_not_imported(tmp_path):
    make(tmp_path / "a.db", wal=True).close()
    with open_source(tmp_path / "a.db", [].append) as source:
        source.check()
        os.utime(tmp_path / "a.db", ns=(1, 1))
        with pytest.raises(InvalidRequest, match="while it was read"):
            source.check()


@pytest.mark.parametrize("less", [1, 100, 4096])
def test_a_file_that_is_cut_short_is_refused(tmp_path, less):
    make(tmp_path / "a.db").close()
    whole = (tmp_path / "a.db").read_bytes()
    (tmp_path / "a.db").write_bytes(whole[:-less])
    with pytest.raises(InvalidRequest, match=r"cut short|malformed"):
        sent(tmp_path / "a.db")


@pytest.mark.parametrize("content", [b"hello", bytes(range(256)) * 32, b"SQLite format 3\x00", b"\x00" * 4096])
def test_what_is_no_database_is_refused(tmp_path, content):
    (tmp_path / "a.db").write_bytes(content)
    with pytest.raises(InvalidRequest, match="no SQLite database file"):
        sent(tmp_path / "a.db")
