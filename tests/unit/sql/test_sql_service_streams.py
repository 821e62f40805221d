from __future__ import annotations

import pytest
from service_bench import CLOSE, Node, batch, sql

from pando import limits
from pando.errors import (
    NotReady,
    Overloaded,
    StreamExpired,
    TransactionTimeout,
)
from pando.sql.batons import BatonError
from pando.sql.messages import HranaProtocolError
from pando.sql.service import BatonElsewhere

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
    replica.store.break_link()
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
