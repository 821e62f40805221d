from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest
from service_bench import CLOSE, ENDLESS, LONG, Node, marked, sql

from pando import limits
from pando.errors import (
    BookmarkTimeout,
    Forbidden,
    NotReady,
    Overloaded,
    PandoError,
    PrimaryUnavailable,
    StatementTimeout,
    UnknownDatabase,
)
from pando.sql.access import Access
from pando.sql.freshness import Freshness, Level
from pando.sql.messages import decode_pipeline
from pando.sql.own_writes import BEHIND_S
from pando.sql.service import Call

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


def test_what_was_read_is_waited_for_elsewhere_once(replica: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def wait_shown(*place: object) -> None:
        asked.append(place)
        if len(asked) == 1:
            raise PrimaryUnavailable("no link")

    monkeypatch.setattr(replica.store, "wait_shown", wait_shown)
    replica.run(replica.service.until_shown_everywhere("data"))
    assert asked == []  # nothing was read here yet
    replica(sql("select b from t"))
    for _ in range(3):
        replica.run(replica.service.until_shown_everywhere("data"))
    assert asked == [("data", 1, 1), ("data", 1, 1)]


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
    assert replica.store.runs[0].read_only  # so it waits for nobody's transaction
    assert replica(sql("select b from t"), access=Access(read_only=True)).rows() == [["one"]]
    assert replica.store.runs[1].read_only
    assert replica(sql("with x as (select 2) insert into t select *, 'two' from x returning b")).rows() == [["two"]]
    assert not replica.store.runs[2].read_only


def test_while_the_database_opens_only_those_go_to_the_primary_who_can_tell_that_time_went_back(replica: Node) -> None:
    replica.store.fail_open = NotReady("the store is starting")
    for freshness in (Freshness(Level.SESSION), Freshness(Level.EVENTUAL)):
        with pytest.raises(NotReady):
            replica(sql("select b from t"), freshness=freshness)
    assert replica.store.runs == []
    assert replica(sql("select b from t"), bookmark=marked(1)).rows() == [["one"]]
    assert replica(sql("select b from t"), freshness=Freshness(Level.STRONG)).rows() == [["one"]]
    replica(sql("insert into t values(2, 'two')"))
    assert len(replica.store.runs) == 3


def test_a_file_that_is_replaced_while_a_read_waits_is_opened_again(replica: Node) -> None:
    replica(sql("select 1"))

    def reopen(_database: str, _epoch: int, _txid: int) -> None:
        replica.store.database("data").generation += 1
        replica.store.database("data").txid = 5
        replica.store.replicate("data")
        replica.service._pool.forget("data")  # as another request does that finds the new generation first

    replica.store.on_wait = reopen
    assert replica(sql("select b from t"), bookmark=marked(5)).rows() == [["one"]]
    assert replica.store.opened == 2


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


@pytest.mark.parametrize("begin", ["begin readonly", "begin"])
def test_a_strong_transaction_of_reads_runs_here_once_this_node_shows_what_the_primary_has(
    replica: Node, begin: str
) -> None:
    replica(sql("insert into t values(2, 'two')"), CLOSE)
    replica.store.on_wait = lambda *_: replica.store.replicate("data")
    whole = [sql(begin), sql("select count(*) from t"), sql("commit"), CLOSE]
    assert replica(*whole, freshness=Freshness(Level.STRONG)).rows(1) == [["2"]]
    assert [(run.session, run.requests, run.read_only) for run in replica.store.runs[1:]] == [(0, (), True)]


def test_a_strong_transaction_of_reads_runs_on_the_primary_if_this_node_is_late(replica: Node) -> None:
    replica(sql("insert into t values(2, 'two')"), CLOSE)
    whole = [sql("begin readonly"), sql("select count(*) from t"), sql("commit"), CLOSE]
    assert replica(*whole, freshness=Freshness(Level.STRONG)).rows(1) == [["2"]]
    assert len(replica.store.runs) == 3


def test_a_strong_transaction_of_reads_asks_nobody_on_the_primary(primary: Node) -> None:
    whole = [sql("begin readonly"), sql("select count(*) from t"), sql("commit"), CLOSE]
    assert primary(*whole, freshness=Freshness(Level.STRONG)).rows(1) == [["1"]]
    assert primary.store.runs == []


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


def test_node_that_is_behind_is_waited_for_when_the_primary_is_away(replica: Node) -> None:
    replica(sql("insert into t values(2, 2)"))
    replica.store.fail = PrimaryUnavailable("it stops")
    replica.store.on_wait = lambda database, epoch, txid: replica.store.replicate(database)
    assert replica(sql("select count(*) from t")).rows() == [["2"]]
    replica.store.fail = None


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


def test_what_depends_on_the_schema_is_asked_of_the_schema_of_now(primary: Node) -> None:
    made = "create trigger tr after insert on t begin select 1; end"
    for _ in range(2):
        assert [each["type"] for each in primary(sql("drop trigger if exists tr"), CLOSE).results] == ["ok", "ok"]
        assert primary(sql(made), CLOSE).results[0]["type"] == "ok"


def test_a_description_is_of_the_schema_of_now(primary: Node) -> None:
    asked = {"type": "describe", "sql": "select * from other"}
    for column in ("one", "two"):
        primary(sql(f"create table other({column})"), CLOSE)
        assert [each["name"] for each in primary(asked).results[0]["response"]["result"]["cols"]] == [column]
        primary(sql("drop table other"), CLOSE)
        assert "no such table" in primary(asked).error()["message"]
