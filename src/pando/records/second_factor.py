"""The second factor of a sign-in: rows of `_mfas` between its two steps.

The first method that succeeds leaves a row, which the primary writes and every node shows before its id is told; the
second one takes the row away, once. Not here: what follows from which method (`pando.records.auth.mfa`), the methods.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pando.records.auth.mfa import Begun, Method, Step, decide
from pando.records.desk import Asking, Desk
from pando.records.engine import Statement
from pando.records.fields import dates
from pando.records.fields.autogenerate import record_id
from pando.records.model import AuthOptions
from pando.records.problems import ApiError, bad_request
from pando.records.record import Record
from pando.records.rules import holds

_FIND = "SELECT `id`, `collectionRef`, `recordRef`, `method`, `created` FROM `_mfas` WHERE `id` = ?"
_TAKE = "DELETE FROM `_mfas` WHERE `id` = ?"
_BEGIN = (
    "INSERT INTO `_mfas` (`id`, `collectionRef`, `recordRef`, `method`, `created`, `updated`)"
    " VALUES (?1, ?2, ?3, ?4, ?5, ?5)"
)


class SecondFactorNeeded(ApiError):
    """The first step is done: 401 with `mfaId`, which the second one has to bring."""

    def __init__(self, mfa_id: str) -> None:
        super().__init__(401, "Sign in with another method, too.")
        self.mfa_id = mfa_id


def asked_id(asking: Asking, body: dict[str, Any]) -> str:
    """Give the id of the first step, from the body or the query; "" for none. Raises ApiError."""
    value = body.get("mfaId")
    if value is not None and not isinstance(value, str):
        raise bad_request("The id of the first step must be text.")
    return value or asking.info.query.get("mfaId", "")


async def pass_factor(
    desk: Desk, asking: Asking, options: AuthOptions, record: Record, method: Method, id: str
) -> None:
    """A method has proved who somebody is: is that enough? Raises SecondFactorNeeded, ApiError 400, PandoError."""
    if not options.mfa.enabled:
        return
    step = decide(
        options.mfa,
        is_rule_met=await holds(desk, asking, record.collection, options.mfa.rule, record.id),
        method=method,
        collection_id=record.collection.id,
        record_id=record.id,
        asked_id=id,
        begun=await _find(desk, id) if id else None,
        now=asking.now_ms / 1000,
    )
    if step is Step.BEGIN:
        raise SecondFactorNeeded(await _begin(desk, asking, record, method))
    if step is Step.FINISH:
        taken = await desk.engine.write([Statement(_TAKE, (id,))])
        if not taken[0].changed:
            raise bad_request("The first step of this sign-in was used already.")


async def _find(desk: Desk, id: str) -> Begun | None:
    rows = await desk.engine.reads().query(_FIND, (id,))
    if not rows:
        return None
    found, collection_id, record_ref, method, created = (str(value) for value in rows[0])
    moment = dates.parse(created)
    seconds = datetime.fromisoformat(moment).timestamp() if moment else 0.0
    return Begun(id=found, collection_id=collection_id, record_id=record_ref, method=method, created=seconds)


async def _begin(desk: Desk, asking: Asking, record: Record, method: Method) -> str:
    id = record_id(desk.random)
    now = dates.from_unix_ms(asking.now_ms)
    await desk.engine.write([Statement(_BEGIN, (id, record.collection.id, record.id, method.value, now))])
    return id
