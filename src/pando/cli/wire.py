"""Hrana's JSON form as the commands speak it: values, statements, batches, results.

Pure: bytes and values in and out. Not here: the connection (see `cli.client`), the server's side (see `pando.sql`).
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

SqlValue = None | int | float | str | bytes
"""A SQLite value in Python."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What one statement gave back."""

    columns: tuple[str, ...]
    rows: list[tuple[SqlValue, ...]]
    affected_row_count: int = 0
    last_insert_rowid: int | None = None
    duration_ms: float = 0.0


class WireValue(msgspec.Struct):
    """A value as it travels: type and text."""

    type: str
    value: str | int | float | None = None
    base64: str = ""


class WireColumn(msgspec.Struct):
    """A column of a result."""

    name: str | None = None


class WireRows(msgspec.Struct):
    """The result of one statement."""

    cols: list[WireColumn] = []
    rows: list[list[WireValue]] = []
    affected_row_count: int = 0
    last_insert_rowid: str | int | None = None
    query_duration_ms: float = 0.0


class WireError(msgspec.Struct):
    """Why a request or a step failed."""

    message: str
    code: str | None = None


class WireBatch(msgspec.Struct):
    """The result of a batch: per step one of both, or neither."""

    step_results: list[WireRows | None]
    step_errors: list[WireError | None]


class WireResponse(msgspec.Struct):
    """The answer to a request that succeeded."""

    type: str
    result: msgspec.Raw = msgspec.Raw()


class WireResult(msgspec.Struct):
    """The answer to one request."""

    type: str
    response: WireResponse | None = None
    error: WireError | None = None


class WirePipeline(msgspec.Struct):
    """The answer to a pipeline."""

    results: list[WireResult]
    baton: str | None = None
    base_url: str | None = None


decode_pipeline = msgspec.json.Decoder(WirePipeline).decode
decode_rows = msgspec.json.Decoder(WireRows).decode
decode_batch = msgspec.json.Decoder(WireBatch).decode


def encode_value(value: SqlValue) -> dict[str, object]:
    """Give a value in Hrana's JSON form; integers as text, blobs as base64 without padding."""
    match value:
        case None:
            return {"type": "null"}
        case int():
            return {"type": "integer", "value": str(int(value))}
        case float():
            return {"type": "float", "value": value}
        case str():
            return {"type": "text", "value": value}
        case bytes():
            return {"type": "blob", "base64": base64.b64encode(value).decode().rstrip("=")}


def decode_value(value: WireValue) -> SqlValue:
    """Give a received value in Python."""
    match value.type:
        case "null":
            return None
        case "integer":
            return int(value.value or 0)
        case "float":
            return math.nan if value.value is None else float(value.value)  # infinite: JSON cannot write it
        case "blob":
            return base64.b64decode(value.base64 + "=" * (-len(value.base64) % 4))
    return str(value.value if value.value is not None else "")


def read_rows(wire: WireRows) -> Rows:
    """Give a received result in Python."""
    rowid = wire.last_insert_rowid
    return Rows(
        columns=tuple(column.name or "" for column in wire.cols),
        rows=[tuple(decode_value(value) for value in row) for row in wire.rows],
        affected_row_count=wire.affected_row_count,
        last_insert_rowid=None if rowid is None else int(rowid),
        duration_ms=wire.query_duration_ms,
    )


def statement(sql: str, args: Iterable[SqlValue] = ()) -> dict[str, object]:
    """Give a statement in Hrana's JSON form."""
    return {"sql": sql, "args": [encode_value(value) for value in args]}


def chained_batch(statements: Iterable[dict[str, object]]) -> dict[str, object]:
    """Give a batch request whose steps each run only when the step before succeeded."""
    steps = [
        {"stmt": stmt} if number == 0 else {"stmt": stmt, "condition": {"type": "ok", "step": number - 1}}
        for number, stmt in enumerate(statements)
    ]
    return {"type": "batch", "batch": {"steps": steps}}
