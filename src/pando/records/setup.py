"""Makes the tables of collections in a database that has none, on the primary, once.

Nothing is made before somebody asks for records: who uses a node for SQL alone keeps a database without our tables.
Not here: what is made (`pando.records.collections.directory`).
"""

from __future__ import annotations

from pando.clock import Random
from pando.errors import NotReady
from pando.records.collections import directory
from pando.records.engine import Engine
from pando.records.fields import dates, ops
from pando.records.model import Field

_EXISTS = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = '_collections'"


async def ensure(engine: Engine, *, random: Random, now_ms: int) -> bool:
    """Make them if they are not there; True if they were made now. Raises NotReady on a replica, PandoError."""
    if await engine.reads().query(_EXISTS):
        return False
    if not engine.is_primary:
        raise NotReady("the collections have not been made yet; the primary makes them when it is asked for records")
    async with engine.transaction() as transaction:
        if await transaction.query(_EXISTS):
            return False  # somebody else was first
        statements = directory.new_directory(random, dates.from_unix_ms(now_ms), now_ms * 1000, column_sql)
        for statement in statements:
            await transaction.execute(statement.sql, statement.args)
    return True


def column_sql(field: Field) -> str:
    """Give the definition of a field's column."""
    return ops(field).column_sql()
