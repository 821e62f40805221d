from __future__ import annotations

import contextlib

import apsw
import pytest

from pando.store.pragmas import Treat, rule_of


def every_pragma() -> list[str]:
    return [str(name) for (name,) in apsw.Connection(":memory:").execute("select name from pragma_pragma_list")]


@pytest.mark.parametrize("name", every_pragma())
def test_every_pragma_of_this_sqlite_has_a_rule_that_explains_itself(name: str) -> None:
    for value in (None, "1"):
        rule = rule_of(name, value)
        if rule.treat is Treat.REFUSE:
            assert len(rule.reason) > 10


@pytest.mark.parametrize("name", every_pragma())
def test_what_runs_as_a_read_cannot_write(name: str) -> None:
    """Run each allowed use on a connection and look whether anything is different afterwards."""
    connection = apsw.Connection(":memory:")
    connection.execute("create table t(a); insert into t values(1)")
    settings = ["foreign_keys", "cache_size", "writable_schema", "query_only", "user_version", "recursive_triggers"]
    before = [connection.pragma(setting) for setting in settings], connection.serialize("main")
    for argument, value in (("", None), ("(1)", "1"), ("=1", "1")):
        if rule_of(name, value).treat is Treat.READ:
            with contextlib.suppress(apsw.SQLError):  # there is no table of that name
                connection.execute(f"pragma {name}{argument}").fetchall()
    assert ([connection.pragma(setting) for setting in settings], connection.serialize("main")) == before


@pytest.mark.parametrize(
    ("name", "value", "columns", "row"),
    [
        ("journal_mode", "delete", ("journal_mode",), ("wal",)),
        ("busy_timeout", "123", ("timeout",), (123,)),
        ("busy_timeout", "nonsense", ("timeout",), (5000,)),
        ("mmap_size", None, ("mmap_size",), (0,)),
        ("wal_checkpoint", "truncate", ("busy", "log", "checkpointed"), (0, 0, 0)),
    ],
)
def test_answers_look_like_those_of_sqlite(
    name: str, value: str | None, columns: tuple[str, ...], row: tuple[object, ...]
) -> None:
    rule = rule_of(name, value)
    assert rule.treat is Treat.NOTHING
    assert rule.answer is not None
    assert (rule.answer.columns, rule.answer.row) == (columns, row)
    cursor = apsw.Connection(":memory:").cursor()
    found: list[tuple[str, ...]] = []
    cursor.exec_trace = lambda cursor, sql, bindings: not found.append(tuple(c[0] for c in cursor.get_description()))
    cursor.execute(f"pragma {name}" + (f"={value}" if value else ""))
    assert found == [columns]
