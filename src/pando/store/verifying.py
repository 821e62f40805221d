"""Reads every page of a database and compares with what the node believes: `pando verify`."""

from __future__ import annotations

import asyncio

from pando.errors import InternalError
from pando.store import applier_protocol as wire
from pando.store.catalog import Catalog
from pando.store.context import StoreContext
from pando.store.protocol import Verified
from pando.types import TXID, Checksum, Position


async def verify_database(context: StoreContext, catalog: Catalog, name: str) -> Verified:
    """Scan one snapshot of the file through the applier. Raises PandoError."""
    database = await catalog.open(name)
    finished: asyncio.Future[wire.Scanned] | None = None

    async def pin(_position: Position) -> None:
        nonlocal finished
        pinned, finished = context.applier.start(wire.Scan(context.applier.next_id(), name, database.path))
        await pinned

    position = await database.pinned(pin)
    if finished is None:
        raise InternalError("the scan was not asked for")
    scanned = await finished
    epoch, txid = (scanned.epoch, scanned.txid) if scanned.txid else (position.epoch, position.txid)
    believed = position.checksum
    if scanned.txid and scanned.txid != position.txid:
        # A replica went on between the request and the scan: compare with the log's own word for that commit.
        info = database.log.find(TXID(scanned.txid))
        believed = info.post_checksum if info is not None else Checksum(scanned.checksum)
    return Verified(0, epoch, txid, scanned.checksum, believed, scanned.page_count)
