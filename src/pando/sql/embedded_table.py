"""The generations that are written down, in the system database: so they mean the same on every node.

Not here: what a generation is (`pando.sql.embedded_generations`), who may add one (`pando.api.embedded_v2`).
"""

from __future__ import annotations

from typing import Final

from pando.errors import NotReady
from pando.sql.embedded_generations import GENERATION_NUMBER_MAX, Chain, Generation
from pando.sql.system import SystemDatabase
from pando.store.requests import Statement, Value
from pando.types import TXID, Checksum, Epoch

KEPT_MAX: Final = 2000
"""Generations of a database that are kept; what is older is in no log any more."""
_HALF: Final = 1 << 63
_COLUMNS: Final = "number, epoch, txid, checksum, is_first"


class GenerationTable:
    """Reads what this node shows of the table, and adds to it on the primary."""

    def __init__(self, system: SystemDatabase) -> None:
        self._system = system

    async def chain(self, database: str, number: int) -> Chain:
        """Give a generation and those after it. Raises PandoError."""
        return await self._read("number >= ? ORDER BY number", database, number)

    async def newest(self, database: str) -> Chain:
        """Give the newest generation, if there is any. Raises PandoError."""
        return await self._read("number >= ? ORDER BY number DESC LIMIT 1", database, 0)

    async def _read(self, rest: str, database: str, number: int) -> Chain:
        sql = f"SELECT {_COLUMNS} FROM generations WHERE database = ? AND {rest}"
        return Chain(_decode(row) for row in await self._system.rows(sql, database, number))

    async def add(self, database: str, generation: Generation) -> None:
        """Write a generation down unless its number is taken; then a majority has it. Raises PandoError."""
        values = (
            database,
            generation.number,
            generation.epoch,
            generation.txid,
            generation.checksum - _HALF,
            int(generation.is_first),
        )
        await self._system.write(
            [
                Statement(
                    f"INSERT INTO generations(database, {_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
                    values,
                    want_rows=False,
                ),
                Statement(
                    "DELETE FROM generations WHERE database = ?1 AND number < (SELECT number FROM generations "
                    "WHERE database = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)",
                    (database, KEPT_MAX),
                    want_rows=False,
                ),
            ],
            durability="quorum",
        )

    async def forget(self, database: str) -> None:
        """Forget a database that is about to be deleted: another one of its name is not the same. Raises PandoError."""
        tables = [table for table in ("generations", "log_ids") if await self._has(table, database)]
        if tables:
            texts = [f"DELETE FROM {table} WHERE database = ?" for table in tables]
            await self._system.write([Statement(text, (database,), want_rows=False) for text in texts])

    async def _has(self, table: str, database: str) -> bool:
        return bool(await self._system.rows(f"SELECT 1 FROM {table} WHERE database = ? LIMIT 1", database))

    # -- names of databases for clients of the first protocol --

    async def log_id(self, database: str) -> str | None:
        """Give the name that clients know a database by; None if none has asked. Raises PandoError."""
        rows = await self._system.rows("SELECT log_id FROM log_ids WHERE database = ?", database)
        return str(rows[0][0]) if rows else None

    async def make_log_id(self, database: str, log_id: str) -> str:
        """Give a database a name unless it has one; gives the one that it has then. Raises PandoError."""
        text = "INSERT INTO log_ids(database, log_id) VALUES (?, ?) ON CONFLICT DO NOTHING"
        await self._system.write([Statement(text, (database, log_id), want_rows=False)], durability="quorum")
        found = await self.log_id(database)
        if found is None:
            raise NotReady(f"the name of database {database!r} for embedded replicas is not here yet; try again")
        return found


def _decode(row: tuple[Value, ...]) -> Generation:
    number, epoch, txid, checksum, is_first = (int(value) for value in row if value is not None)
    number = min(number, GENERATION_NUMBER_MAX)
    return Generation(number, Epoch(epoch), TXID(txid), Checksum(checksum + _HALF), bool(is_first))
