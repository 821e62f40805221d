"""Transactions that begin with a plain BEGIN hold nothing before they must, and read on when others hold the writer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_bench import Node, sql

from pando.errors import PrimaryUnavailable
from pando.sql import runs
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.service import Call
from pando.store.requests import Autocommit, Execute, Failure, GetAutocommit, Request, Statement, StatementResult


@pytest.fixture(params=[True, False], ids=["primary", "replica"])
def node(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    monkeypatch.setattr(runs, "WRITER_WAIT_S", 0.02)
    node = Node(tmp_path, is_primary=request.param, own_write_wait_s=0.0)
    yield node
    node.close()


class Client:
    """Asks on one stream."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.stream = node.service.attach("data")

    def __call__(self, request: Request | str, access: Access = FULL_ACCESS) -> Any:
        """Give the rows, or the codes of the failure."""
        asked = Execute(Statement(request)) if isinstance(request, str) else request
        result, _ = self.node.run(self.node.service.run_attached(self.stream, asked, Call("data", access)))
        if isinstance(result, Failure):
            return result.code, result.extended_code
        return result.rows if isinstance(result, StatementResult) else result


def run_texts(node: Node) -> list[list[str]]:
    texts = [
        [request.statement.sql for request in run.requests if isinstance(request, Execute)] for run in node.store.runs
    ]
    node.store.runs.clear()
    return texts


def hold_writer(node: Node) -> None:
    """Let runs on the primary wait from now on."""
    node.store.before_run = asyncio.Event()


def free_writer(node: Node) -> None:
    node.store.before_run = None


def count(node: Node) -> int:
    return int(node.store.database("data").writer.execute("select count(*) from t").fetchall()[0][0])


def test_begin_alone_asks_nobody(node: Node) -> None:
    client = Client(node)
    hold_writer(node)
    assert client("begin") == []
    assert client.stream.has_transaction
    assert run_texts(node) == []


def test_what_only_reads_so_far_asks_for_the_writer_with_patience_and_what_writes_does_not(node: Node) -> None:
    client = Client(node)
    for text in ("begin", "select count(*) from t", "insert into t values(2, 'two')", "commit"):
        client(text)
    assert [run.is_patient for run in node.store.runs] == [True, False, False]


@pytest.mark.parametrize("begin", ["begin", "BEGIN DEFERRED TRANSACTION", "begin transaction"])
def test_first_statement_begins(node: Node, begin: str) -> None:
    client = Client(node)
    client(begin)
    client("insert into t values(2, 'two')")
    assert run_texts(node) == [[begin, "insert into t values(2, 'two')"]]
    assert client("select count(*) from t") == [(2,)]
    client("rollback")
    assert count(node) == 1


def test_transaction_that_asks_nothing_leaves_nothing(node: Node) -> None:
    client = Client(node)
    for end in ("commit", "rollback"):
        client("begin")
        assert client(end) == []
        assert not client.stream.has_transaction
    assert run_texts(node) == []


def test_begin_twice_is_refused_and_the_first_one_stays(node: Node) -> None:
    client = Client(node)
    client("begin")
    assert client("begin") == ("SQLITE_ERROR", "SQLITE_ERROR")
    assert client(GetAutocommit()) == Autocommit(is_autocommit=False)
    client("insert into t values(2, 'two')")
    client("commit")
    assert count(node) == 2


def test_reading_takes_the_writer_if_it_is_free(node: Node) -> None:
    client = Client(node)
    client("begin")
    assert client("select count(*) from t") == [(1,)]
    assert run_texts(node) == [["begin", "select count(*) from t"]]
    assert client.stream.is_open


def test_reading_goes_on_when_the_writer_is_not_free(node: Node) -> None:
    client = Client(node)
    client("begin")
    hold_writer(node)
    assert client("select count(*) from t") == [(1,)]
    free_writer(node)
    node.store.database("data").writer.execute("insert into t values(9, 'other')")
    assert client("select count(*) from t") == [(1,)]
    assert client("commit") == []
    assert not client.stream.has_transaction
    assert run_texts(node) == []


def test_it_may_write_if_nobody_else_has(node: Node) -> None:
    client = Client(node)
    client("begin")
    hold_writer(node)
    client("select count(*) from t")
    free_writer(node)
    assert client("insert into t values(2, 'two')") == []
    assert client("select count(*) from t") == [(2,)]
    client("commit")
    assert count(node) == 2


def test_it_may_not_write_on_what_others_have_changed(node: Node) -> None:
    client, other = Client(node), Client(node)
    client("begin")
    hold_writer(node)
    client("select count(*) from t")
    free_writer(node)
    other("insert into t values(3, 'three')")
    assert client("insert into t values(2, 'two')") == ("SQLITE_BUSY", "SQLITE_BUSY_SNAPSHOT")
    assert client("select count(*) from t") == [(1,)]
    assert client("rollback") == []
    client("begin")
    client("insert into t values(2, 'two')")
    client("commit")
    assert count(node) == 3


def test_reading_goes_on_without_a_primary(node: Node) -> None:
    client = Client(node)
    client("begin")
    node.store.fail = PrimaryUnavailable("the primary is away")
    assert client("select count(*) from t") == [(1,)]
    assert client("rollback") == []


def test_begin_over_http_gives_a_baton(node: Node) -> None:
    begun = node(sql("begin"))
    assert begun.baton
    asked = node(sql("insert into t values(2, 'two')"), baton=begun.baton)
    assert asked.results[0]["type"] == "ok"
    assert node(sql("commit"), {"type": "close"}, baton=asked.baton).baton is None
    assert count(node) == 2


def test_begin_and_read_in_one_pipeline(node: Node) -> None:
    hold_writer(node)
    asked = node(sql("begin"), sql("select b from t"))
    assert asked.rows(1) == [["one"]]
    free_writer(node)
    assert node(sql("delete from t"), sql("commit"), baton=asked.baton).baton is None
    assert count(node) == 0


def test_pipeline_closed_after_its_begin(node: Node) -> None:
    assert node(sql("begin"), {"type": "close"}).baton is None
    assert node(sql("select b from t")).rows() == [["one"]]
