"""How rows of a SQL result are written: as table, csv, json, line or list.

Pure but for the table, which needs to know how wide the terminal is. Not here: where rows come from.
"""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable
from enum import StrEnum

import msgspec
from rich.console import Console

from pando.cli.output import table
from pando.cli.wire import Rows, SqlValue

INFINITE = "±Inf"
"""An infinite number: SQLite has no NaN, and the protocol does not tell the sign."""


class Mode(StrEnum):
    """Forms of a result: `table` for people, `csv` and `json` for programs, `line` for wide rows, `list` for pipes."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    LINE = "line"
    LIST = "list"


def text_of(value: SqlValue) -> str:
    """Give a value as text: NULL is empty, a blob is shown as SQL writes it, NaN stands for an infinite number."""
    if value is None:
        return ""
    if isinstance(value, bytes):
        return f"x'{value.hex()}'"
    return INFINITE if value != value else str(value)


def json_of(value: SqlValue) -> object:
    """Give a value for JSON; a blob becomes base64."""
    return base64.b64encode(value).decode() if isinstance(value, bytes) else value


def write_rows(rows: Rows, mode: Mode, out: Console) -> None:
    """Write a result; nothing when the statement has no columns."""
    if not rows.columns:
        return
    if mode is Mode.TABLE:
        shown = [[_cell(value) for value in row] for row in rows.rows]
        out.print(table(rows.columns, shown))
    else:
        out.file.write(format_rows(rows, mode))
        out.file.flush()


def _cell(value: SqlValue) -> object:
    return value if isinstance(value, int | float) and value == value else text_of(value)


def format_rows(rows: Rows, mode: Mode) -> str:
    """Give a result as text in one of the plain modes, with a newline at its end."""
    match mode:
        case Mode.CSV:
            return _csv(rows)
        case Mode.JSON:
            return _json(rows)
        case Mode.LINE:
            return _lines(rows)
        case _:
            return "".join("|".join(text_of(value) for value in row) + "\n" for row in rows.rows)


def _csv(rows: Rows) -> str:
    made = io.StringIO()
    writer = csv.writer(made, lineterminator="\n")
    writer.writerow(rows.columns)
    writer.writerows([text_of(value) for value in row] for row in rows.rows)
    return made.getvalue()


def _json(rows: Rows) -> str:
    objects = [dict(zip(unique_names(rows.columns), map(json_of, row), strict=True)) for row in rows.rows]
    return msgspec.json.encode(objects).decode() + "\n"


def _lines(rows: Rows) -> str:
    width = max(len(name) for name in rows.columns)
    blocks = (
        "".join(f"{name:>{width}} = {text_of(value)}\n" for name, value in zip(rows.columns, row, strict=True))
        for row in rows.rows
    )
    return "\n".join(blocks)


def unique_names(names: Iterable[str]) -> list[str]:
    """Make column names differ, so that no value of a row is lost in a JSON object: a, a_2, a_3."""
    seen: set[str] = set()
    made: list[str] = []
    for name in names:
        unique, number = name, 1
        while unique in seen:
            number += 1
            unique = f"{name}_{number}"
        seen.add(unique)
        made.append(unique)
    return made
