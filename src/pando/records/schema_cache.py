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
from pando.records.engine import Basis, Engine, Reads, Row
from pando.records.model import Schema

_MARK: Final = (
    "SELECT count(*), max(`updated`), max(`rowid`),"
    f" (SELECT `updated` FROM `_params` WHERE `id` = '{PARAMS_ID}') FROM `_collections`"
)
"""Who changes a collection gives it an `updated` that is later than all others (`pando.records.defining`)."""
_SETTINGS: Final = f"SELECT `value`, `updated` FROM `_params` WHERE `id` = '{PARAMS_ID}'"
_TRIES: Final = 10


@dataclass(frozen=True, slots=True)
class Known:
    """What holds at one moment."""

    schema: Schema
    settings: AppSettings
    settings_mark: str = ""
    """Another one after each change of the settings."""


class SchemaCache:
    """The last known collections and settings of one database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: Known | None = None
        self._mark: Row | None = None
        self.basis: Basis | None = None
        """What `current` was made of; None: it is to be looked at again."""
        self._version = 0

    async def current(self) -> Known | None:
        """Give what holds now; None when the database has no collections yet. Raises CorruptionError, PandoError."""
        if self.basis is not None and self._engine.holds(self.basis):
            return self._known
        reading = self._engine.reading()
        mark = await _read_mark(reading)
        for _ in range(_TRIES):
            if mark == self._mark or mark is None:
                break
            known = await self._load()
            again = await _read_mark(reading)
            if again == mark:
                self._mark, self._known = mark, known
                break
            mark = again
        self.basis = reading.basis() if mark is not None else None
        return self._known if mark is not None else None

    async def _load(self) -> Known:
        reads = self._engine.reads()
        collections = tuple(rows.from_row(row) for row in await reads.query(rows.SELECT))
        settings = await reads.query(_SETTINGS)
        value, updated = settings[0] if settings else (None, "")
        self._version += 1
        # PocketBase writes the settings as a blob, and encrypted ones as text.
        text = value if value is None or isinstance(value, bytes) else str(value)
        return Known(Schema(collections, self._version), read_settings(text), str(updated))


async def _read_mark(reads: Reads) -> Row | None:
    try:
        found = await reads.query(_MARK)
    except SqlError as error:
        if "no such table" in error.message:
            return None
        raise
    return found[0]
