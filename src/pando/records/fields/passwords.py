"""Fields of type password: plain text comes in, a hash is kept, nothing goes out.

Pure. Not here: hashing and comparing (`pando.records.auth`).
"""

from __future__ import annotations

from typing import Final, TypeAlias

from pando.errors import invariant
from pando.records.engine import Value
from pando.records.fields import casting
from pando.records.fields.base import FieldOps
from pando.records.fields.texts import check_pattern
from pando.records.fields.values import PlainPassword
from pando.records.model import PasswordField
from pando.records.problems import REQUIRED, Problem

Password: TypeAlias = str | PlainPassword

PASSWORD_CHARS_DEFAULT: Final = 71
"""What `max` 0 means."""
BCRYPT_BYTES_MAX: Final = 72


class PasswordOps(FieldOps[Password]):
    """A PlainPassword until the writer puts its hash there; "" is none."""

    is_text = True
    zero: Password = ""

    def __init__(self, field: PasswordField) -> None:
        self.field = field

    def normalise(self, raw: object) -> Password:
        """Take text as a password that is not hashed yet."""
        if isinstance(raw, PlainPassword):
            return raw
        text = casting.to_text(raw)
        return PlainPassword(text) if text else ""

    def check(self, value: Password) -> Problem | None:
        """Check that it is there if it must be; length in characters and pattern, of one that is not hashed yet."""
        if isinstance(value, str):
            return REQUIRED if self.field.required and not value else None
        if len(value.text.encode("utf-8", "replace")) > BCRYPT_BYTES_MAX:
            return Problem("validation_invalid_value", f"Must be {BCRYPT_BYTES_MAX} bytes at most.")
        length = len(value.text)
        if length < self.field.min:
            return Problem("validation_min_text_constraint", f"Must be at least {self.field.min} characters.")
        most = self.field.max or PASSWORD_CHARS_DEFAULT
        if length > most:
            return Problem("validation_max_text_constraint", f"Must be {most} characters at most.")
        return check_pattern(self.field.pattern, value.text)

    def from_column(self, stored: Value) -> Password:
        """Read a hash."""
        return casting.to_text(stored)

    def to_column(self, value: Password) -> Value:
        """Give the hash. Plain text never reaches a column."""
        invariant(isinstance(value, str), "a password must be hashed before it is written", field=self.field.name)
        return value if isinstance(value, str) else ""

    def to_json(self, value: Password) -> object:
        """Give an empty text: a hash is never shown."""
        return ""

    def column_sql(self) -> str:
        """Give the column's definition."""
        return "TEXT DEFAULT '' NOT NULL"
