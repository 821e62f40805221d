"""Which values are read back from their column as they were written, whatever SQLite makes of them there.

Pure. Not here: columns and their types (`base.FieldOps`), who wants to know (`pando.records.writing`).
"""

from __future__ import annotations

from math import isfinite
from typing import Final

from pando.records.engine import Value
from pando.records.fields import jsontext
from pando.records.fields.values import FieldValue, NewFile, Number
from pando.records.model import Field

_TEXTS: Final = frozenset(
    {"text", "editor", "email", "url", "date", "autodate", "select", "relation", "file", "password"}
)


def is_read_back(field: Field, value: FieldValue) -> bool:
    """Tell whether it is sure; of documents and points, and numbers near the bounds of what is exact, it is not."""
    if field.type == "bool":
        return isinstance(value, bool)
    if field.type == "number":
        if type(value) is int:
            return -jsontext.EXACT_MAX <= value <= jsontext.EXACT_MAX
        return type(value) is float and isfinite(value) and not value.is_integer()
    if field.type not in _TEXTS:
        return False
    if isinstance(value, list):
        return all(isinstance(each, str | NewFile) for each in value)
    return isinstance(value, str | NewFile)


def is_exact_sum(stored: Value, delta: Number) -> bool:
    """Tell whether SQL comes to the same sum of a column and a number as we do."""
    if type(stored) is not int or type(delta) is not int:
        return False
    return abs(stored) + abs(delta) <= jsontext.EXACT_MAX
