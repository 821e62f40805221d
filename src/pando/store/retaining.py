"""Drops log segments that nobody needs: the shell around `pando.replication.retention`, run every few seconds."""

from __future__ import annotations

import asyncio

from pando.errors import PandoError
from pando.replication.retention import SegmentInfo, plan_retention
from pando.store import applier_protocol as wire
from pando.store.catalog import Catalog
from pando.store.context import StoreContext
from pando.store.database import Database
from pando.store.following import ReplicaDatabase
from pando.store.primary import PrimaryDatabase
from pando.store.sending import Downstream
from pando.types import TXID


class Retaining:
    """Looks at the log of every open database."""

    def __init__(self, *, context: StoreContext, catalog: Catalog, downstream: Downstream, log_bytes_max: int) -> None:
        self._context = context
        self._catalog = catalog
        self._downstream = downstream
        self._log_bytes_max = log_bytes_max

    async def look(self) -> None:
        """Drop what may go."""
        for database in self._catalog.opened():
            if database.log.size_bytes > self._log_bytes_max:
                await self._trim(database)

    async def _trim(self, database: Database) -> None:
        checkpointed = await self._checkpointed(database)
        plan = plan_retention(
            [SegmentInfo(max_txid=txid, size_bytes=size) for txid, size in database.log.segment_sizes()],
            checkpointed=checkpointed,
            held=[self._downstream.hold(database.name)],
            size_bytes_max=self._log_bytes_max,
        )
        if plan.drop_before:
            run = asyncio.get_running_loop().run_in_executor
            await run(self._context.executor, database.log.drop_before, plan.drop_before)

    async def _checkpointed(self, database: Database) -> TXID:
        """Give the commit up to which the file itself, without its WAL, holds everything durably."""
        if isinstance(database, PrimaryDatabase):
            await database.checkpointer.finish()
            return database.checkpointer.checkpointed
        if not isinstance(database, ReplicaDatabase):
            return TXID(0)
        shown = database.shown.txid
        try:
            request = wire.CheckpointReplica(self._context.applier.next_id(), database.name)
            await self._context.applier.ask(request, wire.JobDone)
        except PandoError:
            return TXID(0)  # the applier is busy or away; there will be a next time
        return shown
