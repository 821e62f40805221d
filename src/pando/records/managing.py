"""Which auth records of an answer their viewer manages, and so sees the addresses of.

One question per auth collection that has a manage rule, for all its records in the answer, expanded ones among them,
whose address is not shown anyway. Not here: what managers may change (`writing`), JSON (`record`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from pando.records.desk import Asking, Desk
from pando.records.filter import Filter, Trust
from pando.records.record import Record, Viewer


async def viewer_of(desk: Desk, asking: Asking, records: Iterable[Record]) -> Viewer:
    """Give who looks, with what they manage of these records and of what stands beside them."""
    viewer = asking.viewer
    if viewer.is_superuser or asking.auth is None or not asking.schema.has_managers:
        return viewer
    found: dict[str, dict[str, Record]] = {}
    _collect(records, viewer, found, set())
    managed: set[tuple[str, str]] = set()
    for collection_id, by_id in found.items():
        managed |= {(collection_id, id) for id in await _managed(desk, asking, by_id)}
    return replace(viewer, managed=frozenset(managed)) if managed else viewer


def _collect(records: Iterable[Record], viewer: Viewer, found: dict[str, dict[str, Record]], seen: set[int]) -> None:
    """Find auth records with addresses that are not shown; `seen` has what was looked at, by identity."""
    for record in records:
        if id(record) in seen:
            continue
        seen.add(id(record))
        auth = record.collection.auth
        if auth is not None and (auth.manage_rule or "").strip() and not viewer.sees_email_of(record):
            found.setdefault(record.collection.id, {})[record.id] = record
        for each in (record.expand or {}).values():
            _collect([each] if isinstance(each, Record) else each, viewer, found, seen)


async def _managed(desk: Desk, asking: Asking, by_id: dict[str, Record]) -> list[str]:
    collection = next(iter(by_id.values())).collection
    rule = (collection.auth.manage_rule if collection.auth else None) or ""
    _, rows = await desk.ask(
        asking, collection, columns=("id",), filters=(Filter(rule, Trust.RULE),), ids=tuple(sorted(by_id))
    )
    return [str(row[0]) for row in rows]
