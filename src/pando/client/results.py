"""What a statement gave, as programs see it: rows as tuples, the description of PEP 249, rows with names. Pure.

Not here: cursors (`pando.client.connection`), single values (`pando.client.values`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pando.client import wire
from pando.client.values import SqlValue, decode_value

Description = tuple[tuple[str, str | None, None, None, None, None, None], ...]
"""Name and declared type of each column, and five times None."""


@dataclass(frozen=True, slots=True)
class Result:
    """What one statement gave."""

    description: Description | None = None
    rows: Sequence[tuple[SqlValue, ...]] = ()
    rowcount: int = -1
    lastrowid: int | None = None


EMPTY: Final = Result()


def make_result(rows: wire.Rows, *, counts: bool, inserts: bool) -> Result:
    """Make a result; `counts`, `inserts`: whether its number of rows, and its rowid, mean anything."""
    columns = tuple((column.name or "", column.decltype, None, None, None, None, None) for column in rows.cols)
    decode = decode_value
    rowid = rows.last_insert_rowid
    return Result(
        columns or None,
        [tuple([decode(value) for value in row]) for row in rows.rows],
        rows.affected_row_count if counts else -1,
        int(rowid) if inserts and rowid is not None else None,
    )


class Row(tuple[SqlValue, ...]):
    """A row whose values have names, too: `row["name"]`. As a `row_factory` of connections and cursors."""

    _names: tuple[str, ...]

    def __new__(cls, cursor: Any, values: Iterable[SqlValue]) -> Row:  # noqa: ANN401 - any cursor
        """Make one from a cursor's description."""
        row = super().__new__(cls, values)
        row._names = tuple(column[0] for column in cursor.description or ())
        return row

    def keys(self) -> list[str]:
        """Give the names of the columns."""
        return list(self._names)

    def __getitem__(self, key: Any) -> Any:  # noqa: ANN401 - number, slice or name
        if isinstance(key, str):
            return tuple.__getitem__(self, self._place(key))
        return tuple.__getitem__(self, key)

    def _place(self, name: str) -> int:
        for place, known in enumerate(self._names):
            if known.lower() == name.lower():
                return place
        raise KeyError(f"there is no column {name!r}; there are: {', '.join(self._names)}")

    def as_dict(self) -> dict[str, SqlValue]:
        """Give names and values; of columns with the same name the last counts."""
        return dict(zip(self._names, self, strict=True))

    def __repr__(self) -> str:
        return f"Row({', '.join(f'{name}={value!r}' for name, value in zip(self._names, self, strict=True))})"

    def __iter__(self) -> Iterator[SqlValue]:
        return tuple.__iter__(self)
