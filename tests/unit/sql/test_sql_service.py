from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from pando import limits
from pando.clock import SystemClock
from pando.errors import (
    BookmarkTimeout,
    Forbidden,
    NotReady,
    Overloaded,
    PandoError,
    PrimaryUnavailable,
    StatementTimeout,
    StreamExpired,
    TransactionTimeout,
    UnknownDatabase,
)
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.batons import BatonCodec, BatonError
from pando.sql.freshness import SESSION, Freshness, Level
from pando.sql.messages import HranaProtocolError, decode_answer, decode_pipeline
from pando.sql.own_writes import BEHIND_S
from pando.sql.service import BatonElsewhere, Call, SqlService
from pando.sql.streams import StreamTable
from pando.testing.fake_sql_store import FakePositions, FakeSqlStore
from pando.types import TXID, Bookmark, Epoch

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
LONG = "with recursive n(i) as (select 1 union all select i + 1 from n limit 50000) select count(*) from n"
CLOSE = {"type": "close"}


class SteerableClock(SystemClock):
    """The real clock, moved forward at will."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@dataclass
class Asked:
    """A decoded answer."""

    baton: str | None
    results: list[Any]
    bookmark: Bookmark | None

    def rows(self, index: int = 0) -> list[list[Any]]:
        result = self.results[index]["response"]["result"]
        return [[cell.get("value", cell.get("base64")) for cell in row] for row in result["rows"]]

    def error(self, index: int = 0) -> dict[str, str]:
        found: dict[str, str] = self.results[index]["error"]
        return found


class Node:
    """A web process on a fake store, with a loop of its own."""

    def __init__(self, directory: Path, *, is_primary: bool, **options: Any) -> None:
        self.clock = SteerableClock()
        self.store = FakeSqlStore(directory, self.clock, is_primary=is_primary)
        self.store.create("data", "create table t(a integer primary key, b); insert into t values(1, 'one')")
        self.runner = asyncio.Runner()
        self.service = self.web(**options)

    def web(self, number: int = 0, **options: Any) -> SqlService:
        ids = count(1000 * (number + 1))
        streams = StreamTable(node="n", web=number, codec=BatonCodec(b"k" * 32), new_id=lambda: next(ids))
        return SqlService(
            store=self.store, positions=FakePositions(self.store), streams=streams, clock=self.clock, **options
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def ask(
        self,
        *requests: object,
        baton: str | None = None,
        database: str = "data",
        access: Access = FULL_ACCESS,
        bookmark: Bookmark | None = None,
        freshness: Freshness = SESSION,
        durability: str = "",
        caller: bytes = b"",
    ) -> Asked:
        pipeline = decode_pipeline(json.dumps({"baton": baton, "requests": requests}))
        answer = await self.service.answer(pipeline, Call(database, access, bookmark, freshness, durability, caller))
        body = decode_answer(answer.body)
        return Asked(body["baton"], body["results"], answer.bookmark)

    def __call__(self, *requests: object, **rest: Any) -> Asked:
        return self.run(self.ask(*requests, **rest))

    def close(self) -> None:
        self.service.close()
        self.store.close()
        self.runner.close()


@pytest.fixture
def primary(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, is_primary=True)
    yield node
    node.close()


@pytest.fixture
def replica(tmp_path: Path) -> Iterator[Node]:
    node = Node(tmp_path, is_primary=False)
    yield node
    node.close()


def sql(text: str, *args: str, **rest: object) -> dict[str, object]:
    return {"type": "execute", "stmt": {"sql": text, "args": [{"type": "text", "value": arg} for arg in args], **rest}}


def batch(*texts: str) -> dict[str, object]:
    return {"type": "batch", "batch": {"steps": [{"stmt": {"sql": text}} for text in texts]}}


def marked(txid: int, epoch: int = 1, database: str = "data") -> Bookmark:
    return Bookmark(database=database, epoch=Epoch(epoch), txid=TXID(txid))


# -- where things run -------------------------------------------------------------------------------------------------


def test_read_runs_here_and_says_what_it_saw(replica: Node) -> None:
    asked = replica(sql("select b from t where a = 1"), CLOSE)
    assert asked.rows() == [["one"]]
    assert asked.bookmark == marked(1)
    assert asked.results[0]["response"]["result"]["replication_index"] == "1"
    assert asked.results[1] == {"type": "ok", "response": {"type": "close"}}
    assert replica.store.runs == []


def test_write_runs_on_the_primary_and_takes_the_reads_beside_it_along(replica: Node) -> None:
    asked = replica(sql("select count(*) from t"), sql("insert into t values(2, 'two')"), sql("select count(*) from t"))
    assert (asked.rows(0), asked.rows(2)) == ([["1"]], [["2"]])
    assert asked.bookmark == marked(2)
    assert len(replica.store.runs) == 1
    assert replica(sql("select count(*) from t"), caller=b"else").rows() == [["1"]]  # not replicated yet
    replica.store.replicate("data")
    assert replica(sql("select count(*) from t")).rows() == [["2"]]


def test_durability_is_passed_on(replica: Node) -> None:
    replica(sql("delete from t"), durability="quorum")
    assert replica.store.runs[0].durability == "quorum"


def test_errors_of_reads_are_answered_here(replica: Node) -> None:
    asked = replica(sql("select nope from t"), sql("select 1"), sql("select * from not_there"), sql("select ?"))
    assert [asked.results[index]["type"] for index in range(4)] == ["error", "ok", "error", "error"]
    assert asked.error(0)["code"] == "SQL_INPUT_ERROR"
    assert asked.error(3)["code"] == "ARGS_INVALID"
    assert replica.store.runs == []


def test_primary_away_fails_writes_and_leaves_reads(replica: Node) -> None:
    replica.store.fail = PrimaryUnavailable("no link")
    with pytest.raises(PrimaryUnavailable):
        replica(sql("insert into t values(2, 2)"))
    assert replica(sql("select b from t")).rows() == [["one"]]


def test_new_table_arrives_and_is_read_here(replica: Node) -> None:
    assert "no such table" in replica(sql("select * from fresh")).error()["message"]
    replica(sql("create table fresh(x)"), sql("insert into fresh values(7)"))
    replica.store.replicate("data")
    assert replica(sql("select * from fresh")).rows() == [["7"]]
    assert len(replica.store.runs) == 1


def test_database_that_this_node_does_not_have_is_asked_for_on_the_primary(replica: Node) -> None:
    replica.store.fail_open = UnknownDatabase("not here")
    assert replica(sql("select b from t"), CLOSE).rows() == [["one"]]
    assert len(replica.store.runs) == 1
    assert replica(sql("select b from t"), access=Access(read_only=True)).rows() == [["one"]]
    assert replica.store.runs[1].read_only


def test_unknown_database_on_the_primary(primary: Node) -> None:
    with pytest.raises(UnknownDatabase):
        primary(sql("select 1"), database="nope")


def test_file_that_was_replaced_is_opened_again(primary: Node) -> None:
    primary(sql("select 1"))
    primary(sql("select 1"))
    assert primary.store.opened == 1
    primary.store.database("data").generation += 1
    assert primary(sql("select b from t")).rows() == [["one"]]
    assert primary.store.opened == 2


def test_number_of_open_databases_is_bounded(primary: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "OPEN_DATABASES_MAX", 2)
    for name in ("a", "b", "c"):
        primary.store.create(name)
        primary(sql("select 1"), database=name)
    opened = primary.store.opened
    primary(sql("select 1"), database="c")
    assert primary.store.opened == opened
    primary(sql("select 1"), database="a")
    assert primary.store.opened == opened + 1


# -- rights -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("request_", [sql("delete from t"), sql("begin immediate"), sql("pragma foreign_keys=off")])
def test_read_only_token_may_not_write(primary: Node, request_: object) -> None:
    with pytest.raises(Forbidden):
        primary(sql("select 1"), request_, access=Access(read_only=True))
    assert primary.store.runs == []


def test_read_only_token_reads_in_transactions(primary: Node) -> None:
    reader = Access(read_only=True)
    asked = primary(sql("begin"), sql("select count(*) from t"), access=reader)
    primary(sql("insert into t values(2, 'two')"), CLOSE)
    asked = primary(sql("select count(*) from t"), baton=asked.baton, access=reader)
    assert asked.rows() == [["1"]]
    failed = primary(sql("insert into t values(3, 'x')"), baton=asked.baton, access=reader)
    assert failed.error()["code"] == "SQLITE_READONLY"


# -- freshness --------------------------------------------------------------------------------------------------------


def test_bookmark_is_waited_for(replica: Node) -> None:
    waited: list[tuple[str, int, int]] = []

    def arrive(database: str, epoch: int, txid: int) -> None:
        waited.append((database, epoch, txid))
        replica.store.replicate(database)

    written = replica(sql("insert into t values(2, 'two')"), CLOSE, caller=b"else")
    replica.store.on_wait = arrive
    assert replica(sql("select count(*) from t"), bookmark=written.bookmark).rows() == [["2"]]
    assert waited == [("data", 1, 2)]
    assert replica(sql("select count(*) from t"), bookmark=written.bookmark).bookmark == marked(2)
    assert len(waited) == 1


def test_bookmark_that_does_not_come_is_read_on_the_primary(replica: Node) -> None:
    written = replica(sql("insert into t values(2, 'two')"), CLOSE)
    assert replica(sql("select count(*) from t"), bookmark=written.bookmark).rows() == [["2"]]
    assert replica.store.runs[1].read_only
    assert replica.store.runs[1].session == 0


def test_bookmark_that_does_not_come_without_a_primary(replica: Node) -> None:
    replica.store.fail = PrimaryUnavailable("no link")
    with pytest.raises(BookmarkTimeout):
        replica(sql("select 1"), bookmark=marked(99))


def test_bookmark_of_another_database_says_nothing_here(replica: Node) -> None:
    assert replica(sql("select b from t"), bookmark=marked(99, database="other")).rows() == [["one"]]


def test_replication_index_is_waited_for_like_a_bookmark(replica: Node) -> None:
    waited: list[int] = []
    replica.store.on_wait = lambda database, epoch, txid: waited.append(txid)
    replica(sql("select 1", replication_index="7"))
    assert waited == [7]


def test_write_does_not_wait_for_its_bookmark(replica: Node) -> None:
    waited: list[int] = []
    replica.store.on_wait = lambda database, epoch, txid: waited.append(txid)
    replica(sql("insert into t values(2, 2)"), bookmark=marked(99))
    assert not replica.store.runs[0].read_only
    assert waited == [2]  # only until this node shows what was written


def test_levels_of_freshness(replica: Node) -> None:
    count_ = sql("select count(*) from t")
    replica(sql("insert into t values(2, 'two')"), CLOSE)
    assert replica(count_, freshness=Freshness(Level.EVENTUAL), bookmark=marked(2)).rows() == [["1"]]
    assert replica(count_, freshness=Freshness(Level.STRONG)).rows() == [["2"]]
    assert replica(count_, freshness=Freshness(Level.BOUNDED, 10_000)).rows() == [["2"]]  # waits, then the primary
    replica.store.replicate("data")
    runs = len(replica.store.runs)
    assert replica(count_, freshness=Freshness(Level.BOUNDED, 10_000)).rows() == [["2"]]
    assert len(replica.store.runs) == runs
    replica.store.heads[0] = (2, replica.clock.wall_ms() - 20_000)
    replica(count_, freshness=Freshness(Level.BOUNDED, 10_000))
    assert replica.store.runs[-1].read_only
    assert len(replica.store.runs) == runs + 1


def test_strong_read_without_a_primary_says_so(replica: Node) -> None:
    replica.store.fail = PrimaryUnavailable("no link")
    with pytest.raises(PrimaryUnavailable):
        replica(sql("select 1"), freshness=Freshness(Level.STRONG))


# -- own writes, for clients without bookmarks ------------------------------------------------------------------------


def test_write_is_answered_when_this_node_shows_it(replica: Node) -> None:
    replica(sql("select 1"))
    replica.store.on_wait = lambda database, epoch, txid: replica.store.replicate(database)
    replica(sql("insert into t values(2, 'two')"))
    assert replica(sql("select count(*) from t"), caller=b"anybody").rows() == [["2"]]
    assert len(replica.store.runs) == 1


def test_own_write_that_is_late_is_read_on_the_primary_by_its_caller_only(replica: Node) -> None:
    count_ = sql("select count(*) from t")
    replica(sql("insert into t values(2, 'two')"), caller=b"me")
    assert replica(count_, caller=b"me").rows() == [["2"]]
    assert replica(count_, caller=b"you").rows() == [["1"]]
    assert replica(count_, caller=b"me", freshness=Freshness(Level.EVENTUAL)).rows() == [["1"]]
    replica.store.replicate("data")
    runs = len(replica.store.runs)
    assert replica(count_, caller=b"me").rows() == [["2"]]
    assert len(replica.store.runs) == runs


def test_node_that_is_behind_is_not_waited_for_again_and_again(replica: Node) -> None:
    waited: list[int] = []
    replica.store.on_wait = lambda database, epoch, txid: waited.append(txid)
    for number in range(2, 5):
        replica(sql(f"insert into t values({number}, {number})"))
        replica(sql("select count(*) from t"))
    assert waited == [2]
    replica.clock.ahead += BEHIND_S
    replica(sql("insert into t values(5, 5)"))
    assert waited == [2, 5]


def test_open_transaction_is_not_waited_for(replica: Node) -> None:
    waited: list[int] = []
    replica.store.on_wait = lambda database, epoch, txid: waited.append(txid)
    begun = replica(sql("begin immediate"), sql("insert into t values(2, 2)"))
    assert waited == []
    replica(sql("commit"), baton=begun.baton)
    assert waited == [2]


def test_store_that_fails_to_wait_does_not_fail_the_write(replica: Node) -> None:
    def fail(database: str, epoch: int, txid: int) -> None:
        raise NotReady("healing")

    replica.store.on_wait = fail
    assert replica(sql("insert into t values(2, 'two')")).results[0]["type"] == "ok"


# -- streams ----------------------------------------------------------------------------------------------------------


def test_nothing_to_remember_gives_no_baton(primary: Node) -> None:
    assert primary(sql("select 1")).baton is None
    assert primary(sql("insert into t values(2, 2)")).baton is None
    assert primary(sql("begin"), sql("insert into t values(3, 3)"), sql("commit")).baton is None


def test_interactive_transaction(replica: Node) -> None:
    begun = replica(sql("begin immediate"), {"type": "get_autocommit"})
    assert begun.results[1]["response"]["is_autocommit"] is False
    assert begun.baton is not None
    inserted = replica(sql("insert into t values(2, 'two')"), sql("select count(*) from t"), baton=begun.baton)
    assert inserted.rows(1) == [["2"]]
    replica.store.replicate("data")
    assert replica(sql("select count(*) from t")).rows() == [["1"]]
    done = replica(sql("commit"), {"type": "get_autocommit"}, baton=inserted.baton)
    assert done.baton is None
    assert done.results[1]["response"]["is_autocommit"] is True
    assert {run.session for run in replica.store.runs} == {replica.store.runs[0].session} != {0}
    replica.store.replicate("data")
    assert replica(sql("select count(*) from t")).rows() == [["2"]]


def test_close_rolls_back(primary: Node) -> None:
    begun = primary(sql("begin immediate"), sql("insert into t values(2, 'two')"))
    primary(CLOSE, baton=begun.baton)
    assert primary.store.ended == [primary.store.runs[0].session]
    assert primary(sql("select count(*) from t")).rows() == [["1"]]


def test_transaction_left_open_at_close_never_gets_a_session(primary: Node) -> None:
    assert primary(sql("begin immediate"), sql("delete from t"), CLOSE).baton is None
    assert primary.store.runs[0].session == 0
    assert primary(sql("select count(*) from t")).rows() == [["1"]]


def test_deferred_transaction_that_stays_open_moves_to_the_primary(replica: Node) -> None:
    begun = replica(sql("begin"), sql("select count(*) from t"))
    assert begun.rows(1) == [["1"]]
    assert [len(run.requests) for run in replica.store.runs] == [2]
    written = replica(sql("insert into t values(2, 2)"), sql("commit"), baton=begun.baton)
    assert [entry["type"] for entry in written.results] == ["ok", "ok"]


def test_read_transaction_within_one_pipeline_stays_here(replica: Node) -> None:
    asked = replica(batch("begin", "select count(*) from t", "commit"))
    assert asked.results[0]["response"]["result"]["step_errors"] == [None] * 3
    assert asked.baton is None
    assert replica(sql("begin deferred"), sql("select 1"), CLOSE).rows(1) == [["1"]]
    assert replica.store.runs == []


def test_readonly_transaction_keeps_its_snapshot_here(replica: Node) -> None:
    begun = replica(sql("begin transaction readonly"), sql("select count(*) from t"))
    replica(sql("insert into t values(2, 'two')"), CLOSE)
    replica.store.replicate("data")
    later = replica(sql("select count(*) from t"), baton=begun.baton)
    assert later.rows() == [["1"]]
    refused = replica(sql("delete from t"), baton=later.baton)
    assert refused.error()["code"] == "SQLITE_READONLY"
    done = replica(sql("commit"), sql("select count(*) from t"), baton=refused.baton)
    assert done.rows(1) == [["2"]]
    assert done.baton is None
    assert len(replica.store.runs) == 1


def test_overdue_read_transaction_is_ended(replica: Node) -> None:
    begun = replica(sql("begin readonly"))
    replica.clock.ahead += limits.READ_TRANSACTION_S + 1
    replica.service.sweep()
    with pytest.raises(StreamExpired):
        replica(sql("select 1"), baton=begun.baton)


def test_number_of_read_transactions_is_bounded(replica: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "READ_TRANSACTIONS_MAX", 2)
    first = replica(sql("begin readonly"))
    replica(sql("begin readonly"))
    with pytest.raises(Overloaded):
        replica(sql("begin readonly"))
    replica(CLOSE, baton=first.baton)
    assert replica(sql("begin readonly")).baton is not None


def test_idle_transaction_is_ended_on_the_primary_too(primary: Node) -> None:
    begun = primary(sql("begin immediate"))
    primary.clock.ahead += limits.STREAM_IDLE_S + 1
    primary.service.sweep()
    assert primary.store.ended == [primary.store.runs[0].session]
    with pytest.raises(StreamExpired):
        primary(sql("select 1"), baton=begun.baton)


def test_transaction_does_not_outlive_the_link(replica: Node) -> None:
    begun = replica(sql("begin immediate"))
    replica.store.generation += 1
    with pytest.raises(StreamExpired, match="connection to the primary"):
        replica(sql("insert into t values(2, 2)"), baton=begun.baton)
    assert len(replica.store.runs) == 1
    with pytest.raises(BatonError):
        replica(sql("insert into t values(2, 2)"), baton=begun.baton)


def test_time_out_of_a_transaction_is_told_in_the_results(primary: Node) -> None:
    begun = primary(sql("begin immediate"))
    primary.store.fail = TransactionTimeout("too long")
    asked = primary(sql("insert into t values(2, 2)"), {"type": "get_autocommit"}, baton=begun.baton)
    assert [asked.error(index)["code"] for index in (0, 1)] == ["TRANSACTION_TIMEOUT"] * 2
    assert asked.baton is None


def test_failed_run_ends_the_stream(primary: Node) -> None:
    begun = primary(sql("begin immediate"))
    primary.store.fail = NotReady("healing")
    with pytest.raises(NotReady):
        primary(sql("insert into t values(2, 2)"), baton=begun.baton)
    assert primary.store.ended
    with pytest.raises(BatonError):
        primary(sql("select 1"), baton=begun.baton)


def test_protocol_error_loses_the_pipeline_and_the_stream(primary: Node) -> None:
    begun = primary(sql("begin immediate"))
    broken = {"type": "execute", "stmt": {"sql_id": 7}}
    with pytest.raises(HranaProtocolError, match="SQL text 7 not found"):
        primary(sql("insert into t values(2, 2)"), broken, baton=begun.baton)
    assert len(primary.store.runs) == 1
    assert primary.store.ended


def test_stored_texts_over_two_pipelines(primary: Node) -> None:
    store = {"type": "store_sql", "sql_id": 1, "sql": "select 'x'"}
    use = {"type": "execute", "stmt": {"sql_id": 1}}
    first = primary(store, use)
    assert first.rows(1) == [["x"]]
    second = primary(use, {"type": "close_sql", "sql_id": 1}, baton=first.baton)
    assert second.rows() == [["x"]]
    assert second.baton is None


def test_baton_of_another_process(primary: Node) -> None:
    begun = primary(sql("begin immediate"))
    first, primary.service = primary.service, primary.web(1)
    with pytest.raises(BatonElsewhere) as caught:
        primary(sql("commit"), baton=begun.baton)
    assert (caught.value.baton.node, caught.value.baton.web) == ("n", 0)
    primary.service.close()
    primary.service = first
    primary(sql("commit"), baton=begun.baton)


def test_empty_pipelines(primary: Node) -> None:
    assert primary().results == []
    assert primary(CLOSE).results == [{"type": "ok", "response": {"type": "close"}}]
    begun = primary(sql("begin immediate"))
    again = primary(baton=begun.baton)
    assert again.baton is not None
    assert primary(sql("commit"), baton=again.baton).results[0]["type"] == "ok"


# -- long reads -------------------------------------------------------------------------------------------------------


def test_long_read_moves_to_a_thread_and_is_remembered(tmp_path: Path) -> None:
    node = Node(tmp_path, is_primary=True, inline_budget_s=0.0005)
    try:
        assert node(sql(LONG)).rows() == [["50000"]]
        assert node(sql("select b from t")).rows() == [["one"]]
        assert node(sql(LONG), sql("select b from t")).rows(1) == [["one"]]
        assert node(sql("begin readonly"), sql(LONG)).rows(1) == [["50000"]]
    finally:
        node.close()


def test_others_are_served_while_a_long_read_runs(primary: Node) -> None:
    async def both() -> list[str]:
        order: list[str] = []

        async def one(name: str, text: str) -> None:
            await primary.ask(sql(text))
            order.append(name)

        await asyncio.gather(one("long", LONG.replace("50000", "300000")), one("short", "select 1"))
        return order

    assert primary.run(both()) == ["short", "long"]


def test_cancelled_read_stops_in_its_thread(primary: Node) -> None:
    async def cancel() -> None:
        task = asyncio.create_task(primary.ask(sql(ENDLESS)))
        while not task.done() and not primary.service.long_reads:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    primary.run(cancel())
    assert primary.service.long_reads == 0
    assert primary(sql("select b from t")).rows() == [["one"]]


def test_endless_read_meets_the_statement_time_limit(primary: Node) -> None:
    async def run() -> None:
        task = asyncio.create_task(primary.ask(sql(ENDLESS)))
        while not primary.service.long_reads:
            await asyncio.sleep(0)
        primary.clock.ahead += limits.STATEMENT_TIME_S + 1
        await task

    with pytest.raises(StatementTimeout):
        primary.run(run())


def test_client_that_left_stops_its_long_read(primary: Node) -> None:
    async def run() -> None:
        left = asyncio.Event()

        async def watch() -> None:
            await left.wait()

        pipeline = decode_pipeline(json.dumps({"requests": [sql(ENDLESS)]}))
        task = asyncio.create_task(primary.service.answer(pipeline, Call("data", watch=watch)))
        while not primary.service.long_reads:
            await asyncio.sleep(0)
        left.set()
        await task

    with pytest.raises(PandoError, match="went away"):
        primary.run(run())
    assert primary.service.long_reads == 0


def test_waiting_long_reads_are_bounded(primary: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SLOW_READS_QUEUE_MAX", 1)

    async def run() -> list[object]:
        tasks = [asyncio.create_task(primary.ask(sql(ENDLESS))) for _ in range(limits.SLOW_READS_MAX + 2)]
        while not any(task.done() for task in tasks):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    outcomes = primary.run(run())
    assert [type(outcome) for outcome in outcomes].count(Overloaded) == 1


# -- the client library's batches -------------------------------------------------------------------------------------


def test_migration_of_the_javascript_client(primary: Node) -> None:
    steps = [
        {"stmt": {"sql": "PRAGMA foreign_keys=off"}},
        {"stmt": {"sql": "BEGIN DEFERRED"}, "condition": {"type": "ok", "step": 0}},
        {"stmt": {"sql": "create table ch(p references t)"}, "condition": {"type": "ok", "step": 1}},
        {"stmt": {"sql": "insert into ch values(99)"}, "condition": {"type": "ok", "step": 2}},
        {"stmt": {"sql": "COMMIT"}, "condition": {"type": "ok", "step": 3}},
        {"stmt": {"sql": "ROLLBACK"}, "condition": {"type": "not", "cond": {"type": "ok", "step": 4}}},
        {"stmt": {"sql": "PRAGMA foreign_keys=on"}},
    ]
    asked = primary({"type": "batch", "batch": {"steps": steps}}, CLOSE)
    assert asked.results[0]["response"]["result"]["step_errors"] == [None] * 7
    assert primary(sql("insert into ch values(98)")).error()["extended_code"] == "SQLITE_CONSTRAINT_FOREIGNKEY"
