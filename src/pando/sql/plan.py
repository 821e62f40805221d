"""A decoded pipeline, made ready to run: stored texts put in, what needs no database answered. Pure.

Not here: where it runs (see `pando.sql.service`), whether it only reads (see `pando.sql.routing`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pando.errors import invariant
from pando.sql.messages import (
    CloseRequest,
    CloseSqlRequest,
    ExecuteRequest,
    PipelineBody,
    StoreSqlRequest,
    WireRequest,
    replication_index,
    sql_ids,
    to_request,
)
from pando.sql.streams import Stream
from pando.sql.texts import StoredTexts
from pando.store.requests import Failure, Request, Result

_NO_TEXTS = StoredTexts()


@dataclass(slots=True)
class Plan:
    """Requests for the database, and the answers to the others. `slots` has None where a database result goes."""

    stream: Stream | None
    requests: list[Request] = field(default_factory=list)
    slots: list[Result | str | None] = field(default_factory=list)
    closes: bool = False
    min_txid: int = 0
    """Highest `replication_index` that the client has seen."""

    def merge(self, results: Sequence[Result]) -> list[Result | str]:
        """Put the database's results in their places."""
        invariant(len(results) == len(self.requests), "one result per request", results=len(results))
        following = iter(results)
        return [next(following) if slot is None else slot for slot in self.slots]


def make_plan(pipeline: PipelineBody, stream: Stream | None, new_stream: Callable[[], Stream]) -> Plan:
    """Go through a pipeline in order; raises HranaProtocolError. A stream is made when there is a text to keep."""
    plan = Plan(stream)
    for wire in pipeline.requests:
        if plan.closes:
            plan.slots.append(Failure("The stream was closed earlier in this pipeline", "STREAM_NOT_OPEN"))
        elif type(wire) is CloseRequest:
            plan.closes = True
            plan.slots.append("close")
        elif isinstance(wire, StoreSqlRequest | CloseSqlRequest):
            if plan.stream is None:
                plan.stream = new_stream()
            plan.slots.append(_keep_text(wire, plan.stream))
        else:
            _add(plan, wire)
    return plan


def _keep_text(wire: StoreSqlRequest | CloseSqlRequest, stream: Stream) -> Result | str:
    if isinstance(wire, CloseSqlRequest):
        stream.texts.close(wire.sql_id)
        return "close_sql"
    return stream.texts.store(wire.sql_id, wire.sql) or "store_sql"


def _add(plan: Plan, wire: WireRequest) -> None:
    texts = _NO_TEXTS if plan.stream is None else plan.stream.texts
    if texts.refused and (refused := texts.refusal(sql_ids(wire))) is not None:
        plan.slots.append(refused)
        return
    plan.requests.append(to_request(wire, texts.stored))
    plan.slots.append(None)
    if type(wire) is not ExecuteRequest or wire.stmt.replication_index is not None:
        plan.min_txid = max(plan.min_txid, replication_index(wire))
