from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from service_bench import CLOSE, Node, batch, sql

from pando.sql.access import Access
from pando.sql.calls import Call
from pando.store.requests import Execute, Failure, Result, Statement, StatementResult

SCHEMA = (
    "create table parent(id integer primary key)",
    "create table child(p references parent on delete cascade)",
    "insert into parent values(1)",
    "insert into child values(1)",
)
OFF, ON, ASK = sql("pragma foreign_keys = off"), sql("pragma foreign_keys = on"), sql("pragma foreign_keys")
ORPHAN = sql("insert into child values(99)")


@pytest.fixture(params=[True, False], ids=["primary", "replica"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, is_primary=request.param)
    node(*map(sql, SCHEMA), CLOSE)
    node.store.replicate("data")
    yield node
    node.close()


def test_a_setting_holds_for_the_stream_and_for_nobody_else(node: Node) -> None:
    first = node(OFF)
    second = node(ASK, ORPHAN, sql("select count(*) from child"), baton=first.baton)
    assert (second.rows(0), second.rows(2)) == ([["0"]], [["2"]])
    assert node(ASK).rows() == [["1"]]
    assert "FOREIGN KEY" in node(ORPHAN).error()["message"]
    third = node(ON, ASK, baton=second.baton)
    assert third.rows(1) == [["1"]]
    assert third.baton is None  # there is nothing left to keep


def test_deleting_a_parent_keeps_its_children_while_foreign_keys_are_off(node: Node) -> None:
    """What tools for migrations do: with foreign keys on, dropping the old table would delete what refers to it."""
    asked = node(OFF)
    asked = node(sql("begin"), baton=asked.baton)
    asked = node(sql("drop table parent"), baton=asked.baton)
    asked = node(sql("commit"), baton=asked.baton)
    assert node(sql("select count(*) from child"), ASK, baton=asked.baton).rows() == [["1"]]


def test_within_a_transaction_it_does_nothing_and_nothing_is_kept(node: Node) -> None:
    asked = node(sql("begin immediate"), OFF, ASK, sql("commit"))
    assert asked.rows(2) == [["1"]]
    assert asked.baton is None


def test_what_sqlite_ends_with_the_transaction_ends_with_it(node: Node) -> None:
    asked = node(sql("pragma defer_foreign_keys = on"))
    asked = node(sql("begin"), ORPHAN, sql("pragma defer_foreign_keys"), baton=asked.baton)
    assert asked.rows(2) == [["1"]]
    asked = node(sql("insert into parent values(99)"), sql("commit"), baton=asked.baton)
    assert [each["type"] for each in asked.results] == ["ok", "ok"]
    assert asked.baton is None


def test_closing_keeps_nothing_and_a_word_alone_does_neither(node: Node) -> None:
    assert node(OFF, CLOSE).baton is None
    assert node(sql("insert into parent values(2) returning 'pragma'")).rows() == [["pragma"]]
    assert node(sql("insert into parent values(3) returning 'pragma'")).baton is None


def test_batches_and_scripts_set_too(node: Node) -> None:
    for request in (
        batch("select 1", "pragma foreign_keys = off"),
        {"type": "sequence", "sql": "pragma foreign_keys=0"},
    ):
        asked = node(request)
        assert asked.results[0]["type"] == "ok"
        assert node(ASK, CLOSE, baton=asked.baton).rows() == [["0"]]


def test_who_may_only_read_sets_nothing(node: Node) -> None:
    asked = node(ASK, access=Access(read_only=True))
    assert (asked.rows(), asked.baton) == ([["1"]], None)


def test_streams_of_a_connection_keep_their_settings(node: Node) -> None:
    def ask(text: str) -> Result:
        request = Execute(Statement(text))
        return node.run(node.service.run_attached(stream, request, Call("data")))[0]  # type: ignore[no-any-return]

    stream = node.service.attach("data")
    ask("pragma foreign_keys = off")
    shown = ask("pragma foreign_keys")
    assert isinstance(shown, StatementResult)
    assert shown.rows == [(0,)]
    assert not isinstance(ask("insert into child values(98)"), Failure)
    node.service.detach(stream)
