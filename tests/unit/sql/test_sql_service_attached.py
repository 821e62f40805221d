"""Streams that live with a connection: what a lost transaction means for requests that were sent already."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from service_bench import ENDLESS, Node

from pando import limits
from pando.errors import Forbidden, OutcomeUnknown, Overloaded, StreamExpired, TransactionTimeout
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.service import Call
from pando.sql.streams import Stream
from pando.store.requests import Batch, Execute, Failure, Request, Sequence, Statement, StatementResult, Step

READ_ONLY = Access(read_only=True)


@pytest.fixture(params=[True, False], ids=["primary", "replica"])
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, is_primary=request.param, own_write_wait_s=0.0)
    yield node
    node.close()


def execute(text: str) -> Execute:
    return Execute(Statement(text))


class Client:
    """Asks on one stream."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.stream: Stream = node.service.attach("data")

    def __call__(self, request: Request | str, access: Access = FULL_ACCESS) -> Any:
        """Give the rows, or the code of the failure."""
        asked = execute(request) if isinstance(request, str) else request
        result, _ = self.node.run(self.node.service.run_attached(self.stream, asked, Call("data", access)))
        if isinstance(result, Failure):
            return result.code
        return result.rows if isinstance(result, StatementResult) else result

    def close(self) -> None:
        self.node.service.detach(self.stream)


def count(node: Node) -> int:
    rows = node.store.database("data").writer.execute("select count(*) from t").fetchall()
    return int(rows[0][0])


def test_statements_transactions_and_their_end(node: Node) -> None:
    client = Client(node)
    assert client("select b from t") == [("one",)]
    client("begin immediate")
    assert client.stream.has_transaction
    client("insert into t values(2, 'two')")
    assert client("select count(*) from t") == [(2,)]
    assert client("rollback") == []
    assert not client.stream.has_transaction
    client("begin immediate")
    client("insert into t values(3, 'three')")
    client("commit")
    assert count(node) == 2


def test_txid_of_a_write_is_given(node: Node) -> None:
    stream = node.service.attach("data")
    _, txid = node.run(node.service.run_attached(stream, execute("delete from t"), Call("data")))
    assert txid == 2


def test_detached_stream_loses_its_transaction(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    client("delete from t")
    client.close()
    assert node.store.ended == [client.stream.session]
    assert count(node) == 1


def test_read_transaction_is_held_here_and_given_back(node: Node) -> None:
    client = Client(node)
    client("begin readonly")
    assert client.stream.held is not None
    assert client("select count(*) from t") == [(1,)]
    client.close()
    assert client.stream.held is None
    assert not node.store.runs


def test_number_of_attached_streams_is_bounded(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_MAX", 2)
    streams = [node.service.attach("data") for _ in range(2)]
    with pytest.raises(Overloaded):
        node.service.attach("data")
    node.service.detach(streams[0])
    node.service.attach("data")


# -- a transaction is lost ----------------------------------------------------------------------------------------


def test_after_a_timeout_everything_fails_until_the_end_of_the_transaction_was_asked_for(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    node.store.end_session(client.stream.session)
    node.store.fail = TransactionTimeout("it took too long")
    assert client("insert into t values(2, 2)") == "TRANSACTION_TIMEOUT"
    node.store.fail = None
    runs = len(node.store.runs)
    assert client("insert into t values(3, 3)") == "TRANSACTION_TIMEOUT"
    assert client("select 1") == "TRANSACTION_TIMEOUT"
    assert client("savepoint a") == client("rollback to a") == "TRANSACTION_TIMEOUT"
    assert client(Sequence("insert into t values(4, 4); commit")) == "TRANSACTION_TIMEOUT"
    assert client("commit") == "TRANSACTION_TIMEOUT"
    assert len(node.store.runs) == runs
    assert client("insert into t values(5, 5)") == []
    assert count(node) == 2


@pytest.mark.parametrize(
    "ending",
    [
        execute(" /* x */ ROLLBACK transaction"),
        execute("end"),
        Sequence("rollback; select 1"),
        Batch((Step(Statement("select 1")), Step(Statement("commit")))),
    ],
)
def test_what_ends_a_transaction(node: Node, ending: Request) -> None:
    client = Client(node)
    client("begin immediate")
    node.store.fail = TransactionTimeout("it took too long")
    assert client("delete from t") == "TRANSACTION_TIMEOUT"
    node.store.fail = None
    assert client(ending) == "TRANSACTION_TIMEOUT"
    assert client("select 1") == [(1,)]


def test_timeout_told_to_the_commit_itself_leaves_nothing_behind(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    node.store.fail = TransactionTimeout("it took too long")
    assert client("commit") == "TRANSACTION_TIMEOUT"
    node.store.fail = None
    assert client("select 1") == [(1,)]


def test_lost_link_loses_the_transaction(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    node.store.break_link()
    with pytest.raises(StreamExpired):
        client("delete from t")
    assert client("delete from t") == "STREAM_EXPIRED"
    assert client("rollback") == "STREAM_EXPIRED"
    assert client("delete from t") == []


def test_transaction_that_begins_while_the_link_comes_back_belongs_to_the_new_link(node: Node) -> None:
    client = Client(node)
    client("begin")
    node.store.generation, node.store.generation_soon = 0, 5
    assert client("insert into t values(2, 2)") == []
    assert client.stream.link_generation == 5
    assert client("insert into t values(3, 3)") == client("commit") == []
    assert count(node) == 3


def test_no_session_goes_on_after_its_link_was_lost(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    session = client.stream.session
    node.store.break_link()
    with pytest.raises(StreamExpired):
        client("delete from t")
    assert client("rollback") == "STREAM_EXPIRED"
    client("begin")
    client("select count(*) from t")
    client("insert into t values(2, 2)")
    assert client.stream.session != session


def test_what_follows_a_begin_that_fails_fails_with_it(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    client("delete from t")
    client.stream.is_open, client.stream.begun = False, execute("begin")  # a session of which nobody knows any more
    assert client("insert into t values(2, 2)") == "SQLITE_ERROR"
    assert node.store.ended == [client.stream.session]
    assert count(node) == 1


def test_broken_answer_loses_the_transaction_and_ends_its_session(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    node.store.fail = OutcomeUnknown("the link broke")
    with pytest.raises(OutcomeUnknown):
        client("delete from t")
    node.store.fail = None
    assert node.store.ended == [client.stream.session]
    assert client("delete from t") == "OUTCOME_UNKNOWN"
    assert count(node) == 1


def test_failure_outside_of_a_transaction_is_only_its_own(node: Node) -> None:
    client = Client(node)
    node.store.fail = OutcomeUnknown("the link broke")
    with pytest.raises(OutcomeUnknown):
        client("delete from t")
    node.store.fail = TransactionTimeout("somebody held the writer")
    assert client("begin immediate") == "TRANSACTION_TIMEOUT"
    node.store.fail = None
    assert client("delete from t") == []


def test_failing_statement_does_not_lose_the_transaction(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    assert client("insert into t values(1, 'again')") == "SQLITE_CONSTRAINT"
    assert client("insert into t values(2, 'two')") == []
    client("commit")
    assert count(node) == 2


def test_right_to_write_that_is_gone_loses_the_transaction(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    with pytest.raises(Forbidden):
        client("delete from t", READ_ONLY)
    assert client("delete from t") == "FORBIDDEN"
    assert count(node) == 1


def test_idle_transaction_is_ended(node: Node) -> None:
    client = Client(node)
    client("begin immediate")
    client("delete from t")
    node.clock.ahead = limits.STREAM_IDLE_S - 1
    node.service.sweep()
    assert client.stream.has_transaction
    node.clock.ahead += 2
    node.service.sweep()
    assert not client.stream.has_transaction
    assert client("delete from t") == client("commit") == "TRANSACTION_TIMEOUT"
    assert count(node) == 1


def test_overdue_read_transaction_is_ended(node: Node) -> None:
    client = Client(node)
    client("begin readonly")
    node.clock.ahead = limits.READ_TRANSACTION_S + 1
    node.service.sweep()
    assert client("select 1") == client("commit") == "TRANSACTION_TIMEOUT"
    assert client("select 1") == [(1,)]


def test_idle_stream_without_transaction_stays(node: Node) -> None:
    client = Client(node)
    client("select 1")
    node.clock.ahead = 1e6
    node.service.sweep()
    assert client("select 1") == [(1,)]


# -- ends while busy ----------------------------------------------------------------------------------------------


def test_stream_that_ends_under_its_read_gives_the_connection_back_afterwards(node: Node) -> None:
    client = Client(node)
    client("begin readonly")

    async def scenario() -> None:
        asked = node.service.run_attached(client.stream, execute(ENDLESS), Call("data"))
        task = asyncio.ensure_future(asked)
        while not node.service.long_reads:
            await asyncio.sleep(0)
        task.cancel()
        client.close()
        assert client.stream.held is not None  # its thread uses it still
        with pytest.raises(asyncio.CancelledError):
            await task

    node.run(scenario())
    assert client.stream.held is None
    assert not node.service.long_reads


def test_stream_that_ends_under_its_write_ends_its_session(node: Node) -> None:
    client = Client(node)
    client("begin immediate")

    async def scenario() -> None:
        node.store.before_run = asyncio.Event()
        asked = node.service.run_attached(client.stream, execute("delete from t"), Call("data"))
        task = asyncio.ensure_future(asked)
        await asyncio.sleep(0)
        client.close()
        assert node.store.ended == []
        node.store.before_run.set()
        await task

    node.run(scenario())
    assert node.store.ended == [client.stream.session]
    assert count(node) == 1


def test_closing_the_service_ends_attached_transactions(tmp_path: Path) -> None:
    node = Node(tmp_path, is_primary=True)
    client = Client(node)
    client("begin immediate")
    node.close()
    assert node.store.ended == [client.stream.session]
