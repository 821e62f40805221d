"""Fields of types select, relation and file: one text, or a list of different texts.

Single ones keep the last of several values. Pure. Not here: whether related records exist (`pando.records.writing`),
storing files (`pando.records.files`), appending and removing (`modifiers`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final, TypeAlias

import msgspec

from pando.records.engine import Value
from pando.records.fields import casting, jsontext
from pando.records.fields.base import FieldOps
from pando.records.fields.values import NewFile
from pando.records.model import FileField, RelationField, SelectField
from pando.records.problems import REQUIRED, Problem

Item: TypeAlias = str | NewFile
Choice: TypeAlias = str | NewFile | Sequence[Item]

FILE_SIZE_BYTES_DEFAULT: Final = 5 * 1024 * 1024
"""What `maxSize` 0 of a file field means."""


_decode_texts = msgspec.json.Decoder(list[str]).decode


class ChoiceOps(FieldOps[Choice]):
    """What the three types share. `is_multiple` says whether values are lists."""

    def __init__(self, is_multiple: bool, required: bool) -> None:
        self.is_multiple = is_multiple
        self.required = required

    @property
    def zero(self) -> Choice:
        """No item; a list of its own for everybody who asks."""
        return [] if self.is_multiple else ""

    def normalise(self, raw: object) -> Choice:
        """Read a list of different items that are not empty; a single field takes the last."""
        return self.shape(self.read_items(raw))

    def read_items(self, raw: object) -> list[Item]:
        """Read items as a list, whatever the field holds."""
        found: list[Item] = list(casting.to_texts(raw))
        return found

    def shape(self, items: Sequence[Item]) -> Choice:
        """Make the field's value of a list of items."""
        if self.is_multiple:
            return list(items)
        return items[-1] if items else ""

    def items(self, value: Choice) -> list[Item]:
        """Give a value as a list."""
        if isinstance(value, str | NewFile):
            return [value] if value else []
        return list(value)

    def names(self, value: Choice) -> list[str]:
        """Give a value as a list of texts."""
        return [each if isinstance(each, str) else each.name for each in self.items(value)]

    def from_column(self, stored: Value) -> Choice:
        """Read a text, or a JSON list; a text alone is a list of one."""
        if not self.is_multiple:
            return stored if isinstance(stored, str) else casting.to_text(stored)
        try:
            found = _decode_texts(stored) if isinstance(stored, str) else []
        except (msgspec.MsgspecError, UnicodeError):
            found = []
        # Nearly all columns hold different texts in a list; the others are read with more care.
        return found if found and "" not in found and len(set(found)) == len(found) else [*casting.to_texts(stored)]

    def to_column(self, value: Choice) -> Value:
        """Give a text, or a JSON list."""
        names = self.names(value)
        return jsontext.encode(names).decode() if self.is_multiple else "".join(names)

    def to_json(self, value: Choice) -> object:
        """Give a text or a list of texts."""
        names = self.names(value)
        return names if self.is_multiple else "".join(names)

    def column_sql(self) -> str:
        """Give the column's definition."""
        return "JSON DEFAULT '[]' NOT NULL" if self.is_multiple else "TEXT DEFAULT '' NOT NULL"


class SelectOps(ChoiceOps):
    """Some of given texts."""

    is_json_plain = True

    def __init__(self, field: SelectField) -> None:
        super().__init__(field.is_multiple, field.required)
        self.field = field
        self._known: Collection[str] = frozenset(field.values)

    def check(self, value: Choice) -> Problem | None:
        """Check that there is one if there must be, not too many, and only known ones."""
        names = self.names(value)
        if not names:
            return REQUIRED if self.required else None
        if len(names) > max(1, self.field.max_select):
            return _too_many("validation_too_many_values", self.field.max_select)
        unknown = next((name for name in names if name not in self._known), None)
        if unknown is not None:
            return Problem("validation_invalid_value", f"Invalid value {unknown[:100]}.", {"value": unknown})
        return None


class RelationOps(ChoiceOps):
    """Ids of records. The writer checks that they exist, after this check."""

    is_json_plain = True

    def __init__(self, field: RelationField) -> None:
        super().__init__(field.is_multiple, field.required)
        self.field = field

    def check(self, value: Choice) -> Problem | None:
        """Check that there is one if there must be, and neither too few nor too many."""
        names = self.names(value)
        if not names:
            return REQUIRED if self.required else None
        low = self.field.min_select
        if len(names) < low:
            return Problem("validation_not_enough_values", f"Select at least {low}.", {"minSelect": low})
        if len(names) > max(1, self.field.max_select):
            return _too_many("validation_too_many_values", self.field.max_select)
        return None


class FileOps(ChoiceOps):
    """Names of stored files, and NewFile for what is to be stored."""

    def __init__(self, field: FileField) -> None:
        super().__init__(field.is_multiple, field.required)
        self.field = field

    def read_items(self, raw: object) -> list[Item]:
        """Read names and new files, in the order given."""
        found: dict[Item, None] = {}
        for each in (raw,) if isinstance(raw, NewFile) else casting.items_of(raw):
            if item := each if isinstance(each, NewFile) else casting.to_text(each):
                found[item] = None
        return list(found)

    def check(self, value: Choice) -> Problem | None:
        """Check that there is one if there must be, not too many; size and type of new ones."""
        items = self.items(value)
        if not items:
            return REQUIRED if self.required else None
        if len(items) > max(1, self.field.max_select):
            return _too_many("validation_too_many_files", self.field.max_select)
        found = (self._check_new(each) for each in items if isinstance(each, NewFile))
        return next((problem for problem in found if problem), None)

    def check_stored(self, value: Choice, stored: Choice) -> Problem | None:
        """Check that each name that is not of a new file is one of those that the record has: `check` comes first."""
        known = set(self.names(stored))
        unknown = [each for each in self.items(value) if isinstance(each, str) and each not in known]
        if not unknown:
            return None
        text = "Names must be of files that the record has."
        return Problem("validation_invalid_file", text, {"invalidFiles": unknown})

    def _check_new(self, file: NewFile) -> Problem | None:
        most = self.field.max_size or FILE_SIZE_BYTES_DEFAULT
        if file.size > most:
            return Problem("validation_file_size_limit", f"A file may have {most} bytes at most.", {"maxSize": most})
        allowed = self.field.mime_types
        known_as = {_base_type(file.mime_type), *file.other_types}
        if allowed and known_as.isdisjoint(_base_type(each) for each in allowed):
            text = ", ".join(allowed)
            return Problem("validation_invalid_mime_type", f"The type must be one of {text}.", {"mimeTypes": text})
        return None


def _base_type(mime_type: str) -> str:
    return mime_type.partition(";")[0].strip().lower()


def _too_many(code: str, most: int) -> Problem:
    most = max(1, most)
    return Problem(code, f"Select no more than {most}.", {"maxSelect": most})
