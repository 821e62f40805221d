"""Deletes what is over: first steps of sign-ins, and codes that were mailed. For the primary; not here: when."""

from __future__ import annotations

from typing import Final

from pando.records.collections.sql_tokens import quote
from pando.records.engine import Engine, Statement
from pando.records.fields import dates
from pando.records.model import Schema

EVERY_S: Final = 3600.0
ROWS_MAX: Final = 2000
"""Deleted in one commit; the rest goes next."""


async def delete_expired(engine: Engine, schema: Schema, now_ms: int) -> int:
    """Delete them; gives how many there were. Raises PandoError."""
    deleted = 0
    for collection in schema.collections:
        if collection.auth is None:
            continue
        for table, seconds in (("_mfas", collection.auth.mfa.duration), ("_otps", collection.auth.otp.duration)):
            deleted += await _delete(engine, table, collection.id, dates.from_unix_ms(now_ms - seconds * 1000))
    return deleted


async def _delete(engine: Engine, table: str, collection_id: str, before: str) -> int:
    """Delete step by step; nothing is written if there is nothing, and what has no date is over."""
    over = f"SELECT `rowid` FROM {quote(table)} WHERE `collectionRef` = ? AND `created` < ? LIMIT {ROWS_MAX}"
    deleted = 0
    while await engine.reads().query(over, (collection_id, before)):
        statement = Statement(f"DELETE FROM {quote(table)} WHERE `rowid` IN ({over})", (collection_id, before))
        changed = (await engine.write([statement]))[0].changed
        if not changed:
            break  # what is shown here is late
        deleted += changed
    return deleted
