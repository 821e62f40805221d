"""What calls give: records, pages of them, rows of SQL. Plain values; not here: where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pando.store.requests import StatementResult


class Record(dict[str, Any]):
    """A record as the API gives it: a dictionary that JSON can hold, whose keys can be read as attributes too.

    Attributes of dictionaries come first: a field called `items` is `record["items"]`.
    """

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what a field holds
        """Give a field's value; raises AttributeError."""
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the record has no field {name!r}; it has: {', '.join(self)}") from None

    @property
    def id(self) -> str:
        """The record's id."""
        return str(self["id"])

    @property
    def expand(self) -> dict[str, Any]:
        """What stands beside it: records by the name of the relation; empty if nothing was asked for."""
        found: dict[str, Any] = self.get("expand", {})
        return found


def record_of(value: dict[str, Any]) -> Record:
    """Make a record of JSON, and of the records beside it."""
    found = Record(value)
    beside = found.get("expand")
    if isinstance(beside, dict):
        found["expand"] = {name: _expanded(each) for name, each in beside.items()}
    return found


def _expanded(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, list):
        return [record_of(each) for each in value]
    return record_of(value)


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list. `total_items` and `total_pages` are -1 if they were not counted."""

    items: list[Record]
    page: int
    per_page: int
    total_items: int
    total_pages: int

    def __iter__(self) -> Iterator[Record]:
        """Go through the records."""
        return iter(self.items)

    def __len__(self) -> int:
        """Give the number of records on this page."""
        return len(self.items)


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who signed in, and the token for requests in that name."""

    record: Record
    token: str


Value = None | int | float | str | bytes
"""What SQLite stores."""


@dataclass(frozen=True, slots=True)
class Rows:
    """What a statement gave. `changed`: rows that it wrote."""

    columns: tuple[str, ...]
    rows: Sequence[tuple[Value, ...]]
    changed: int = 0
    last_row_id: int | None = None

    def __iter__(self) -> Iterator[tuple[Value, ...]]:
        """Go through the rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Give the number of rows."""
        return len(self.rows)

    def dicts(self) -> list[dict[str, Value]]:
        """Give the rows by names of columns."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    @property
    def value(self) -> Value:
        """The first column of the first row; None if there are no rows."""
        return self.rows[0][0] if self.rows else None


def rows_of(result: StatementResult) -> Rows:
    """Make it of what the node gives."""
    return Rows(
        tuple(name or "" for name, _ in result.columns),
        [tuple(row) for row in result.rows],
        result.affected_row_count,
        result.last_insert_rowid,
    )
