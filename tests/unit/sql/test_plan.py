from __future__ import annotations

import json
from itertools import count

import pytest

from pando import limits
from pando.sql.batons import BatonCodec
from pando.sql.messages import HranaProtocolError, decode_pipeline
from pando.sql.plan import Plan, make_plan
from pando.sql.streams import Stream, StreamTable
from pando.store.requests import Autocommit, Execute, Failure, GetAutocommit, Statement


def plan_of(*requests: object, stream: Stream | None = None) -> Plan:
    numbers = count(1)
    table = StreamTable(node="n", web=0, codec=BatonCodec(b"k" * 32), new_id=lambda: next(numbers))
    return make_plan(decode_pipeline(json.dumps({"requests": requests})), stream, lambda: table.new("data"))


STORE = {"type": "store_sql", "sql_id": 1, "sql": "select 1"}
USE = {"type": "execute", "stmt": {"sql_id": 1}}
CLOSE_SQL = {"type": "close_sql", "sql_id": 1}
CLOSE = {"type": "close"}
ASK = {"type": "get_autocommit"}


def test_stored_text_is_put_in_and_results_find_their_places() -> None:
    plan = plan_of(STORE, USE, CLOSE_SQL, ASK, CLOSE)
    assert plan.requests == [Execute(Statement("select 1")), GetAutocommit()]
    assert plan.closes
    failure, yes = Failure("m", "c"), Autocommit(True)
    assert plan.merge([failure, yes]) == ["store_sql", failure, "close_sql", yes, "close"]


def test_no_stream_is_made_for_nothing() -> None:
    assert plan_of(ASK, CLOSE).stream is None
    assert plan_of(STORE).stream is not None


def test_texts_stay_from_one_pipeline_to_the_next() -> None:
    stream = plan_of(STORE).stream
    assert plan_of(USE, stream=stream).requests == [Execute(Statement("select 1"))]
    plan_of(CLOSE_SQL, stream=stream)
    with pytest.raises(HranaProtocolError, match="SQL text 1 not found"):
        plan_of(USE, stream=stream)


def test_text_that_could_not_be_stored_fails_what_uses_it_and_nothing_else() -> None:
    long = {"type": "store_sql", "sql_id": 1, "sql": "x" * (limits.SQL_SIZE_BYTES_MAX + 1)}
    batch = {"type": "batch", "batch": {"steps": [{"stmt": {"sql_id": 1}}]}}
    plan = plan_of(long, USE, ASK, batch)
    assert plan.requests == [GetAutocommit()]
    codes = [slot.code if isinstance(slot, Failure) else slot for slot in plan.slots]
    assert codes == ["SQL_STORE_TOO_LARGE", "SQL_STORE_TOO_LARGE", None, "SQL_STORE_TOO_LARGE"]


def test_nothing_runs_after_close() -> None:
    plan = plan_of(CLOSE, ASK)
    assert plan.requests == []
    assert isinstance(plan.slots[1], Failure)
    assert plan.slots[1].code == "STREAM_NOT_OPEN"


def test_highest_replication_index_counts() -> None:
    requests = [{"type": "execute", "stmt": {"sql": "a", "replication_index": index}} for index in ("4", 9, None)]
    assert plan_of(*requests).min_txid == 9
