"""The order in which a primary's store stops: no new work, what runs becomes durable, replicas show it, clients leave.

So nobody is left to guess: what reaches the store before a client has heard of the end is refused (nothing was done),
what ran is answered, and reads on the replicas find all that was written. Each step has a limit: a replica that does
not keep up, or a client that does not leave, must not keep a node from stopping. Not here: what is closed afterwards
(`pando.store.server`), requests before (the web processes stop first).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from pando.errors import PandoError
from pando.store import protocol as wire
from pando.store.catalog import Catalog
from pando.store.database import Database
from pando.store.primary import PrimaryDatabase
from pando.store.writer import Writer
from pando.waiting import until

FINISH_S: Final = 3.0
"""How long what runs may take to become durable; then it is broken off."""
SHOWN_S: Final = 2.0
"""How long replicas may take to show what was written last; those that keep up take milliseconds."""
LEAVE_S: Final = 0.5
"""How long clients may take to end their links once all their questions are answered."""
WORK: Final = (
    wire.Run,
    wire.OpenDatabase,
    wire.WaitPosition,
    wire.CreateDatabase,
    wire.ImportDatabase,
    wire.DeleteDatabase,
    wire.CheckpointDatabase,
    wire.VerifyDatabase,
    wire.SyncNow,
)
"""What a store that stops does not begin."""


def split_work(messages: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """Part requests into those that a store that stops refuses, and those that it still treats."""
    work: list[Any] = []
    other: list[Any] = []
    for message in messages:
        (work if isinstance(message, WORK) else other).append(message)
    return work, other


async def finish_writes(databases: Iterable[Database], error: PandoError) -> None:
    """Have no database take a command any more; returns when what ran is durable."""
    writers = [database.writer for database in databases if isinstance(database, PrimaryDatabase)]
    await asyncio.gather(*(_finish(writer, error) for writer in writers))


async def _finish(writer: Writer, error: PandoError) -> None:
    writer.expel(error)
    try:
        async with asyncio.timeout(FINISH_S):
            await writer.hold()
    except TimeoutError:
        writer.stop(error)
    else:
        writer.stop(error)
        writer.release()


async def until_shown(catalog: Catalog, progress: Callable[[], Iterable[Mapping[str, tuple[int, int]]]]) -> None:
    """Return when each replica shows what each open database holds. `progress`: per replica and database what it has
    in its log, and what it shows.
    """

    def is_shown() -> bool:
        heads = {database.name: database.position.txid for database in catalog.opened()}
        return all(shown >= heads.get(name, 0) for replica in progress() for name, (_, shown) in replica.items())

    await until(is_shown, SHOWN_S)
