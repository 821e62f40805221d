"""Keeps the change feed within bounds: deletes what is older than a day, or more than a million changes back.

Consumer groups that moved within the day keep what they have not acknowledged, up to the million. A node whose
streams are further behind than that tells them so (`CursorGone`). For the primary; not here: when it is done.
"""

from __future__ import annotations

from typing import Final

from pando import limits
from pando.errors import SqlError
from pando.records.engine import Engine, Row, Value
from pando.records.realtime import groups
from pando.records.realtime.feed import forget

STEP: Final = 2000
"""Changes that are deleted in one commit."""
_EVER_MS: Final = 1 << 62
_ENDS = "SELECT sequence, time_ms, (SELECT max(sequence) FROM _changes) FROM _changes ORDER BY sequence LIMIT 1"


async def forget_old(engine: Engine, now_ms: int) -> int:
    """Delete what nobody needs any more; gives how many changes that were. Raises PandoError."""
    deleted = 0
    while True:
        done = await _forget_some(engine, now_ms)
        if not done:
            return deleted
        deleted += done


async def _forget_some(engine: Engine, now_ms: int) -> int:
    ends = await _query(engine, _ENDS)
    if not ends:
        return 0
    first, first_ms, newest = (value if isinstance(value, int) else 0 for value in ends[0])
    last = min(first + STEP, newest) - 1
    before_ms = now_ms - limits.FEED_KEPT_S * 1000
    surplus = newest - limits.FEED_CHANGES_MAX
    if first <= surplus:
        last, before_ms = min(last, surplus), _EVER_MS
    elif first_ms < before_ms:
        floor = await _floor(engine, before_ms)
        last = last if floor is None else min(last, floor)
    if last < first or first_ms >= before_ms:
        return 0
    return (await engine.write([forget(last, before_ms)]))[0].changed


async def _floor(engine: Engine, active_since_ms: int) -> int | None:
    statement = groups.lowest_floor(active_since_ms)
    found = await _query(engine, statement.sql, *statement.args)
    return found[0][0] if found and isinstance(found[0][0], int) else None


async def _query(engine: Engine, sql: str, *args: Value) -> list[Row]:
    """Give the rows; none if the table is not there: nobody has used it yet."""
    try:
        return await engine.reads().query(sql, args)
    except SqlError as error:
        if "no such table" in error.message:
            return []
        raise
