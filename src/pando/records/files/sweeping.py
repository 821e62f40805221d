"""Removes what a replica keeps of files that no record names any more, and what crashes have left half-written.

Files on a replica are copies that it was once asked for; nobody tells it when a record lets go of one. So they are
compared with the records from time to time, slowly. Never on a primary: there a file is the only one, and a database
that was put back to an older state must find the files of the newer one still.
Not here: removing files with the write that lets go of them (`pando.records.files.filing`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from pando.clock import Clock
from pando.records.desk import Desk, find_by_id
from pando.records.files.filing import file_fields
from pando.records.files.storage import FileMissing, Storage
from pando.records.model import Schema

EVERY_S: Final = 3600.0
"""Before each sweep."""
AGE_S: Final = 3600
"""Younger copies stay: they may be of a record that is just being written."""
PAUSE_S: Final = 0.01
"""After each record, so that sweeping costs next to nothing."""


async def sweep(desk: Desk, clock: Clock, *, pause_s: float = PAUSE_S) -> int:
    """Compare all local files with their records once; give how many were removed.

    What crashes have left half-written goes on a primary too.
    """
    storage = desk.files.local
    await asyncio.to_thread(storage.remove_leftovers, before_ms=clock.wall_ms() - AGE_S * 1000)
    if desk.engine.is_primary:
        return 0
    schema = (await desk.known()).schema
    removed = 0
    async for collection_id, record_id, names in _by_record(storage):
        if desk.engine.is_primary:
            break
        named = await _named(desk, schema, collection_id, record_id)
        lost = [name for name in names if name not in named]
        old = [name for name in lost if await _is_old(storage, f"{collection_id}/{record_id}/{name}", clock)]
        await desk.files.clear(storage, [f"{collection_id}/{record_id}/{name}" for name in old])
        removed += len(old)
        await asyncio.sleep(pause_s)
    return removed


async def _by_record(storage: Storage) -> AsyncIterator[tuple[str, str, list[str]]]:
    """Give the files of each record; thumbs belong to their file. Those of one record come one after the other."""
    place, names = ("", ""), dict[str, None]()
    async for key, _ in storage.list(""):
        parts = key.split("/")
        if len(parts) < 3:
            continue  # not ours
        if (parts[0], parts[1]) != place:
            if names:
                yield *place, list(names)
            place, names = (parts[0], parts[1]), {}
        names[parts[2].removeprefix("thumbs_") if len(parts) > 3 else parts[2]] = None
    if names:
        yield *place, list(names)


async def _named(desk: Desk, schema: Schema, collection_id: str, record_id: str) -> set[str]:
    collection = schema.find(collection_id)
    if collection is None or collection.id != collection_id:
        return set()
    record = await find_by_id(desk.engine.reads(), collection, record_id)
    if record is None:
        return set()
    return {name for each in file_fields(collection) for name in record.texts(each.name)}


async def _is_old(storage: Storage, key: str, clock: Clock) -> bool:
    try:
        stored = await storage.head(key)
    except FileMissing:
        return True  # only thumbs are left
    return clock.wall_ms() - stored.modified_ms > AGE_S * 1000
