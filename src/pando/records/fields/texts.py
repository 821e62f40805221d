"""Fields of types text, editor, email and url.

Pure. Not here: what makes an address (`addresses`), patterns (`patterns`, `matching`), the value that a text field
gets when none is given (`autogenerate`), whether an id is taken (`pando.records.writing`).
"""

from __future__ import annotations

from typing import Final

from pando.records.engine import Value
from pando.records.fields import addresses, casting, matching
from pando.records.fields.base import TextColumnOps
from pando.records.fields.patterns import PatternError
from pando.records.model import EditorField, EmailField, TextField, UrlField
from pando.records.problems import REQUIRED, Problem

TEXT_CHARS_DEFAULT: Final = 5000
"""What `max` 0 of a text field means."""
EDITOR_SIZE_BYTES_DEFAULT: Final = 5 * 1024 * 1024
"""What `maxSize` 0 of an editor field means."""

_FORBIDDEN_IN_ID: Final = frozenset("./\\|\"'`<>:?*%$")
_RESERVED_IDS: Final = frozenset(
    ["con", "prn", "aux", "nul", *(f"{device}{digit}" for device in ("com", "lpt") for digit in range(10))]
)


class _TextLikeOps(TextColumnOps):
    is_text = True

    def normalise(self, raw: object) -> str:
        """Print texts, numbers and bools; everything else is ""."""
        return casting.to_text(raw)

    def from_column(self, stored: Value) -> str:
        """Read text; views may give numbers."""
        return stored if isinstance(stored, str) else casting.to_text(stored)


class TextOps(_TextLikeOps):
    """Text, ids among them."""

    def __init__(self, field: TextField) -> None:
        self.field = field

    def check(self, value: str) -> Problem | None:
        """Check that it is there if it must be; length in characters; pattern; whether it can be an id."""
        if not value:
            return REQUIRED if self.field.required or self.field.primary_key else None
        length = len(value)
        if length < self.field.min:
            text = f"Must be at least {self.field.min} characters."
            return Problem("validation_min_text_constraint", text, {"min": self.field.min})
        most = self.field.max or TEXT_CHARS_DEFAULT
        if length > most:
            return Problem("validation_max_text_constraint", f"Must be {most} characters at most.", {"max": most})
        return check_pattern(self.field.pattern, value) or (check_id(value) if self.field.primary_key else None)

    def column_sql(self) -> str:
        """Give the column's definition; an id has a default of its own, for rows that SQL inserts."""
        if self.field.primary_key:
            return "TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL"
        return super().column_sql()


class EditorOps(_TextLikeOps):
    """Rich text."""

    def __init__(self, field: EditorField) -> None:
        self.field = field

    def check(self, value: str) -> Problem | None:
        """Check that it is there if it must be, and its size in bytes."""
        if not value:
            return REQUIRED if self.field.required else None
        most = self.field.max_size or EDITOR_SIZE_BYTES_DEFAULT
        if len(value) > most or len(value.encode()) > most:
            text = f"The text may have {most} bytes at most."
            return Problem("validation_content_size_limit", text, {"maxSize": most})
        return None


class EmailOps(_TextLikeOps):
    """An e-mail address; letters keep their case."""

    def __init__(self, field: EmailField) -> None:
        self.field = field

    def check(self, value: str) -> Problem | None:
        """Check that it is there if it must be; is an address; of a domain that is allowed."""
        if not value:
            return REQUIRED if self.field.required else None
        if not addresses.is_email(value):
            return Problem("validation_is_email", "Must be a valid e-mail address.")
        domain = value.rpartition("@")[2]
        if not _is_allowed(domain, self.field.only_domains, self.field.except_domains):
            return Problem("validation_email_domain_not_allowed", "This e-mail domain is not allowed.")
        return None


class UrlOps(_TextLikeOps):
    """A URL."""

    def __init__(self, field: UrlField) -> None:
        self.field = field

    def check(self, value: str) -> Problem | None:
        """Check that it is there if it must be; is a URL; of a host that is allowed."""
        if not value:
            return REQUIRED if self.field.required else None
        if not addresses.is_url(value):
            return Problem("validation_invalid_url", "Must be a valid URL.")
        if not _is_allowed(addresses.host_of(value), self.field.only_domains, self.field.except_domains):
            return Problem("validation_url_domain_not_allowed", "This domain is not allowed.")
        return None


def check_pattern(pattern: str, text: str) -> Problem | None:
    """Check that a pattern is found in a text."""
    if pattern and not _is_found(pattern, text):
        return Problem("validation_invalid_format", "Invalid value format.")
    return None


def check_id(text: str) -> Problem | None:
    """Check that a text can name a record in addresses and in file systems."""
    wrong = next((char for char in text if char in _FORBIDDEN_IN_ID or char <= " " or not char.isprintable()), None)
    if wrong is not None:
        return Problem("validation_forbidden_pk_character", "The id holds a character that ids cannot have.")
    if text.lower() in _RESERVED_IDS:
        return Problem("validation_reserved_pk", "The id is reserved.")
    return None


def _is_allowed(domain: str, only: tuple[str, ...] | None, without: tuple[str, ...] | None) -> bool:
    return (not only or domain in only) and domain not in (without or ())


def _is_found(pattern: str, text: str) -> bool:
    """Look for a pattern; one that cannot be read, which only SQL can have stored, is found nowhere."""
    try:
        return matching.matcher(pattern).is_found_in(text)
    except PatternError:
        return False
