"""Notes in `_authOrigins` from where a record has signed in; the last few places are kept.

It follows the sign-in, which does not wait for it: on a replica the row goes to the primary when there is one. A place
that is known is noted again once in a while only. Not here: which places stay (`pando.records.auth.origins`), mails.
"""

from __future__ import annotations

from typing import Final

from pando.records.auth.origins import Origin, fingerprint, plan_origin
from pando.records.collections.sql_tokens import quote
from pando.records.desk import Asking, Desk
from pando.records.engine import Statement
from pando.records.fields import dates
from pando.records.fields.autogenerate import record_id
from pando.records.record import Record

FRESH_MS: Final = 3_600_000
"""A place that was noted within the last hour is not noted again."""
_KNOWN: Final = (
    "SELECT `id`, `fingerprint`, `updated` FROM `_authOrigins` WHERE `collectionRef` = ? AND `recordRef` = ?"
    " ORDER BY `updated` DESC, `rowid` DESC LIMIT 1000"
)


def note_origin(desk: Desk, asking: Asking, record: Record) -> None:
    """Begin to note from where a record has signed in, if its collection wants that."""
    auth = record.collection.auth
    if auth is not None and auth.auth_alert.enabled:
        found = fingerprint(asking.address, asking.info.headers.get("user_agent", ""))
        desk.aside.begin(_note(desk, record, found, asking.now_ms))


async def _note(desk: Desk, record: Record, found: str, now_ms: int) -> None:
    rows = await desk.engine.reads().query(_KNOWN, (record.collection.id, record.id))
    plan = plan_origin([Origin(str(id), str(known)) for id, known, _ in rows], found)
    noted = next((str(updated) for id, _, updated in rows if plan.known is not None and id == plan.known.id), "")
    if noted > dates.from_unix_ms(now_ms - FRESH_MS):
        return
    removed = [Statement("DELETE FROM `_authOrigins` WHERE `id` = ?", (each.id,)) for each in plan.removed]
    await desk.engine.write([_row(desk, record, found, dates.from_unix_ms(now_ms)), *removed])


def _row(desk: Desk, record: Record, found: str, now: str) -> Statement:
    """Give the statement that notes a place, unless the record has gone, or changed its password, since."""
    sql = (
        "INSERT INTO `_authOrigins` (`id`, `collectionRef`, `recordRef`, `fingerprint`, `created`, `updated`)"
        f" SELECT ?1, ?2, ?3, ?4, ?5, ?5 FROM {quote(record.collection.name)} WHERE `id` = ?3 AND `tokenKey` = ?6"
        " ON CONFLICT (`collectionRef`, `recordRef`, `fingerprint`) DO UPDATE SET `updated` = excluded.`updated`"
    )
    return Statement(
        sql, (record_id(desk.random), record.collection.id, record.id, found, now, record.text("tokenKey"))
    )
