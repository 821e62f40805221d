"""Settings of a connection that a stream keeps: `PRAGMA foreign_keys = OFF` holds for its later requests too.

Streams have no connection of their own on the primary. So a Run for a stream with settings makes them first, and reads
back what holds at its end. Pure. Not here: which PRAGMAs these are (see `pando.store.pragmas`), running them
(`pando.sql.runs`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from pando.store.pragmas import SETTINGS
from pando.store.requests import Execute, Request, Result, Statement, StatementResult, Value

UNTIL_COMMIT: Final = "defer_foreign_keys"
"""SQLite itself ends this one with the transaction."""

_READ: Final[tuple[Request, ...]] = tuple(Execute(Statement(f"PRAGMA {name}")) for name in SETTINGS)


def with_settings(requests: Sequence[Request], settings: Mapping[str, int]) -> list[Request]:
    """Put around requests what makes the settings, and what tells which ones hold before and after."""
    made = [Execute(Statement(f"PRAGMA {name}={value}")) for name, value in settings.items()]
    return [*_READ, *made, *requests, *_READ]


def settings_after(
    results: Sequence[Result], settings: Mapping[str, int], *, is_open: bool
) -> tuple[list[Result], dict[str, int]]:
    """Take the results of `with_settings` apart: those of the requests, and what the stream keeps from now on.

    `is_open`: a transaction stays open, with the connection that it is on.
    """
    own = list(results[len(_READ) + len(settings) : len(results) - len(_READ)])
    before, after = _values(results[: len(_READ)]), _values(results[-len(_READ) :])
    if before is None or after is None:
        return own, dict(settings)  # the Run was refused as a whole
    kept = {name: new for name, old, new in zip(SETTINGS, before, after, strict=True) if old != new}
    if is_open:
        kept.pop(UNTIL_COMMIT, None)
    return own, kept


def _values(results: Sequence[Result]) -> list[int] | None:
    values: list[Value] = [
        result.rows[0][0] for result in results if isinstance(result, StatementResult) and result.rows
    ]
    return [value for value in values if isinstance(value, int)] if len(values) == len(results) else None
