"""One change of the feed as a value, with the rows in it decoded. Pure. Not here: where it is read from (`feed`)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Final

import msgspec

from pando.records.engine import Value

Cursor = int
"""Sequence number of the last change that was seen."""
Values = Mapping[str, Value]
"""A row by column name."""


class Operation(StrEnum):
    """What happened to a row."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"

    @property
    def action(self) -> str:
        """The name that subscribers hear."""
        return _ACTIONS[self]


OPERATIONS: Final = {each.value: each for each in Operation}
_ACTIONS: Final = {Operation.INSERT: "create", Operation.UPDATE: "update", Operation.DELETE: "delete"}


class _Special(msgspec.Struct, frozen=True):
    """A value that JSON has no form for."""

    base64: bytes | None = None
    real: str | None = None


_decode_image = msgspec.json.Decoder(dict[str, int | float | str | _Special | None]).decode


@dataclass(frozen=True)
class Change:
    """One changed row. `old_json`, `new_json` are its images as the feed holds them, None where there is none."""

    sequence: Cursor
    time_ms: int
    table: str
    operation: Operation
    key: Value
    old_json: str | None = None
    new_json: str | None = None

    @cached_property
    def old(self) -> Values | None:
        """The row before the change."""
        return decode_image(self.old_json)

    @cached_property
    def new(self) -> Values | None:
        """The row after the change."""
        return decode_image(self.new_json)

    @property
    def values(self) -> Values | None:
        """The row that a subscriber hears of: the new one, of a deleted row the old one. None: it cannot be told."""
        return self.old if self.operation is Operation.DELETE else self.new


def decode_image(text: str | None) -> Values | None:
    """Give a row of the feed as column values; None if it has none that can be told."""
    if text is None:
        return None
    try:
        return {name: _value(value) for name, value in _decode_image(text).items()}
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return None


def _value(value: float | str | _Special | None) -> Value:
    if not isinstance(value, _Special):
        return value
    return value.base64 if value.base64 is not None else float(value.real or "nan")
