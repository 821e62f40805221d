"""The collections and settings of a process, read anew when the database says that they have changed.

Each request asks for them before it reads. As long as no commit has become visible since the last look, and none is
about to, that is a comparison; else it is a query of a few microseconds over `_collections` and `_params`, and only if
their mark is another one are they read. Not here: changing them (`pando.records.defining`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pando.errors import SqlError
from pando.records.app_settings import PARAMS_ID, AppSettings, read_settings
from pando.records.collections import rows
from pando.records.engine import Engine, Row
from pando.records.model import Schema

_MARK: Final = (
    "SELECT count(*), max(`updated`), max(`rowid`),"
    f" (SELECT `updated` FROM `_params` WHERE `id` = '{PARAMS_ID}') FROM `_collections`"
)
"""Who changes a collection gives it an `updated` that is later than all others (`pando.records.defining`)."""
_SETTINGS: Final = f"SELECT `value` FROM `_params` WHERE `id` = '{PARAMS_ID}'"
_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Known:
    """What holds at one moment."""

    schema: Schema
    settings: AppSettings


class SchemaCache:
    """The last known collections and settings of one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: Known | None = None
        self._mark: Row | None = None
        self._settled: tuple[int, int] | None = None
        self._version = 0

    async def current(self) -> Known | None:
        """Give what holds now; None when the database has no collections yet. Raises CorruptionError, PandoError."""
        settled = self._engine.settled
        if settled is not None and settled == self._settled:
            return self._known
        mark = await self._read_mark()
        for _ in range(_TRIES):
            if mark == self._mark or mark is None:
                break
            known = await self._load()
            again = await self._read_mark()
            if again == mark:
                self._mark, self._known = mark, known
                break
            mark = again
        self._settled = settled if mark is not None else None
        return self._known if mark is not None else None

    async def _read_mark(self) -> Row | None:
        try:
            found = await self._engine.reads().query(_MARK)
        except SqlError as error:
            if "no such table" in error.message:
                return None
            raise
        return found[0]

    async def _load(self) -> Known:
        reads = self._engine.reads()
        collections = tuple(rows.from_row(row) for row in await reads.query(rows.SELECT))
        settings = await reads.query(_SETTINGS)
        value = settings[0][0] if settings else None
        self._version += 1
        # PocketBase writes the settings as a blob, and encrypted ones as text.
        text = value if value is None or isinstance(value, bytes) else str(value)
        return Known(Schema(collections, self._version), read_settings(text))
