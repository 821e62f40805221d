"""What every type of field can do: `FieldOps`.

Pure. Not here: the types themselves (`texts`, `numbers`, `dates`, `choices`, `documents`, `passwords`) and finding the
one for a field (`ops`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

from pando.records.engine import Value
from pando.records.problems import Problem

V = TypeVar("V")


class FieldOps(ABC, Generic[V]):
    """Reads, checks and writes values of one field. Holds no state but the field's options."""

    is_json_plain: ClassVar[bool] = False
    """Whether `to_json` gives the value itself."""
    is_text: ClassVar[bool] = False
    """Whether `from_column` gives any text as it is."""

    @property
    @abstractmethod
    def zero(self) -> V:
        """The value of a field that was never set."""

    @abstractmethod
    def normalise(self, raw: object) -> V:
        """Make a value of what a body says. Lenient: raises only ApiError 400, for malformed points and documents."""

    def check(self, value: V) -> Problem | None:
        """Find the first thing wrong with a value, as far as that shows without reading anything else."""
        return None

    @abstractmethod
    def from_column(self, stored: Value) -> V:
        """Make a value of what the column holds; NULL and what does not fit the type give what is nearest."""

    @abstractmethod
    def to_column(self, value: V) -> Value:
        """Give what the column holds for a value."""

    @abstractmethod
    def to_json(self, value: V) -> object:
        """Give what msgspec writes into the record's JSON."""

    @abstractmethod
    def column_sql(self) -> str:
        """Give type, default and constraints of the column, as they stand behind its name in a table's definition."""


class TextColumnOps(FieldOps[str]):
    """What values have in common that are the same text everywhere: here, in their column and in JSON; "" for none."""

    is_json_plain = True
    zero = ""

    def to_column(self, value: str) -> Value:
        """Give it as it is."""
        return value

    def to_json(self, value: str) -> object:
        """Give it as it is."""
        return value

    def column_sql(self) -> str:
        """Give the column's definition."""
        return "TEXT DEFAULT '' NOT NULL"
