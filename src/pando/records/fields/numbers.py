"""Fields of types number and bool.

Pure. Not here: arithmetic of update bodies (`modifiers`).
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from pando.records.engine import Value
from pando.records.fields import casting, jsontext
from pando.records.fields.base import FieldOps
from pando.records.fields.values import Number
from pando.records.model import BoolField, NumberField
from pando.records.problems import REQUIRED, Problem

WHOLE_MAX: Final = 2**63
"""Whole numbers from here on are none to a field that takes only whole ones."""


class NumberOps(FieldOps[Number]):
    """A double; whole ones are `int`."""

    zero: Number = 0

    def __init__(self, field: NumberField) -> None:
        self.field = field

    def normalise(self, raw: object) -> Number:
        """Cast to a number, 0 if that fails."""
        return casting.to_number(raw)

    def check(self, value: Number) -> Problem | None:
        """Check that it is a number; not 0 if required; whole; within bounds."""
        if not isfinite(value):
            return Problem("validation_not_a_number", "The submitted number is not properly formatted.")
        if value == 0:
            return REQUIRED if self.field.required else None  # bounds do not speak of 0, which means: not set
        if self.field.only_int and (not float(value).is_integer() or not -WHOLE_MAX <= value < WHOLE_MAX):
            return Problem("validation_only_int_constraint", "Decimal numbers are not allowed.")
        return self._check_bounds(value)

    def _check_bounds(self, value: Number) -> Problem | None:
        low, high = self.field.min, self.field.max
        if low is not None and value < low:
            return Problem(
                "validation_min_number_constraint", f"Must be at least {low:g}.", {"min": jsontext.number(low)}
            )
        if high is not None and value > high:
            return Problem(
                "validation_max_number_constraint", f"Must be at most {high:g}.", {"max": jsontext.number(high)}
            )
        return None

    def from_column(self, stored: Value) -> Number:
        """Read a number; SQL may have left an infinity behind, which JSON cannot say."""
        if type(stored) is int and -jsontext.EXACT_MAX <= stored <= jsontext.EXACT_MAX:
            return stored
        value = casting.to_number(stored)
        return value if isfinite(value) else 0

    def to_column(self, value: Number) -> Value:
        """Give a double where the digits of the whole number are not exact, as filters compare with doubles."""
        return value if -jsontext.EXACT_MAX <= value <= jsontext.EXACT_MAX else float(value)

    def to_json(self, value: Number) -> object:
        """Write it as JavaScript does."""
        return jsontext.number_to_wire(value)

    def column_sql(self) -> str:
        """Give the column's definition."""
        return "NUMERIC DEFAULT 0 NOT NULL"


class BoolOps(FieldOps[bool]):
    """True or false; required means true."""

    is_json_plain = True
    zero = False

    def __init__(self, field: BoolField) -> None:
        self.field = field

    def normalise(self, raw: object) -> bool:
        """Cast to a bool."""
        return casting.to_bool(raw)

    def check(self, value: bool) -> Problem | None:
        """Check that it holds if it must."""
        return REQUIRED if self.field.required and not value else None

    def from_column(self, stored: Value) -> bool:
        """Read 0 and 1, and what views may give."""
        return stored != 0 if type(stored) is int else casting.to_bool(stored)

    def to_column(self, value: bool) -> Value:
        """Give 0 or 1."""
        return int(value)

    def to_json(self, value: bool) -> object:
        """Give it as it is."""
        return value

    def column_sql(self) -> str:
        """Give the column's definition."""
        return "BOOLEAN DEFAULT FALSE NOT NULL"
