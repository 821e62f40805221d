"""Fields of types date and autodate; reading and writing moments.

A moment is text, `YYYY-MM-DD HH:MM:SS.mmmZ` in UTC, so that it sorts and compares as text; "" is none.
Read are: that form, RFC 3339, its looser forms (no zone: UTC; no time: midnight), RFC 1123 and 850, C's asctime, and
whole numbers as seconds since 1970. What cannot be read is "".

Pure: the moment of a change comes in as an argument (`autogenerate`). Not here: macros such as `@now` (`filter`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import Final, TypeVar

from pando.records.engine import Value
from pando.records.fields.base import TextColumnOps
from pando.records.model import AutodateField, DateField
from pando.records.problems import REQUIRED, Problem

T = TypeVar("T")

DATE_CHARS_MAX: Final = 64
"""Longest text that is tried as a date."""

_OWN: Final = re.compile(r"\d{4}-(?:0[1-9]|1[0-2])-\d\d (?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d\.\d{3}Z", re.ASCII)
_ISO: Final = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)"
    r"(?:[T ](\d\d):(\d\d):(\d\d)(?:[.,](\d{1,9}))?(?: ?(Z|[+-]\d\d:?\d\d)(?: (?:[A-Z]{3,5}|[+-]\d\d(?:\d\d)?))?)?)?",
    re.ASCII,
)
_MONTHS: Final = {
    name: at + 1
    for at, name in enumerate(["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"])
}
_MONTH: Final = r"(?P<month>Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_TIME: Final = r"(?P<hour>\d\d):(?P<minute>\d\d)(?::(?P<second>\d\d)(?:\.(?P<fraction>\d{1,9}))?)?"
_ZONE: Final = r"(?P<zone>[A-Z]{3,5}|[+-]\d{4})"
_NAMED: Final = tuple(
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        rf"(?:[A-Z]{{3,9}}, )?(?P<day>\d\d)[ -]{_MONTH}[ -](?P<year>\d{{4}}|\d\d)(?: {_TIME} {_ZONE})?",
        rf"[A-Z]{{3}} {_MONTH} {{1,2}}(?P<day>\d{{1,2}}) {_TIME}(?: {_ZONE})? (?P<year>\d{{4}})",
    )
)
_SECONDS_MAX: Final = 253_402_300_799  # the last second of year 9999


def format_moment(moment: datetime) -> str:
    """Write an aware moment as fields hold it; what is finer than a millisecond is cut off."""
    utc = moment.astimezone(UTC)
    return f"{utc:%Y-%m-%d %H:%M:%S}.{utc.microsecond // 1000:03d}Z".rjust(24, "0")


def from_unix_ms(milliseconds: int) -> str:
    """Write a moment that is given in milliseconds since 1970."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{_second_text(seconds)}.{rest:03d}Z"


@lru_cache(maxsize=16)
def _second_text(seconds: int) -> str:
    return format_moment(datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds))[:-5]


def parse(raw: object) -> str:
    """Read a moment from what a caller sent or a column holds, "" if that is none."""
    if isinstance(raw, str):
        return _parse_text(raw)
    if isinstance(raw, datetime):
        return format_moment(raw if raw.tzinfo else raw.replace(tzinfo=UTC))
    if isinstance(raw, float) and raw.is_integer():
        raw = int(raw)
    if isinstance(raw, int) and not isinstance(raw, bool) and -_SECONDS_MAX < raw <= _SECONDS_MAX:
        return _guarded(_from_seconds, raw)
    return ""


def _parse_text(text: str) -> str:
    if len(text) > DATE_CHARS_MAX or not text:
        return ""
    if _OWN.fullmatch(text) and int(text[8:10]) <= 28:
        return text
    if found := _ISO.fullmatch(text):
        return _guarded(_from_iso, found)
    for pattern in _NAMED:
        if found := pattern.fullmatch(text):
            return _guarded(_from_named, found)
    return ""


def _guarded(make: Callable[[T], datetime], source: T) -> str:
    """Give "" for days and hours that no calendar has, and for years outside 1 to 9999."""
    try:
        return format_moment(make(source))
    except (ValueError, OverflowError):
        return ""


def _from_seconds(seconds: int) -> datetime:
    return datetime.fromtimestamp(0, UTC) + timedelta(seconds=seconds)


def _from_iso(found: re.Match[str]) -> datetime:
    year, month, day, hour, minute, second, fraction, zone = found.groups("")
    return datetime(
        int(year),
        int(month),
        int(day),
        int(hour or 0),
        int(minute or 0),
        int(second or 0),
        _microseconds(fraction),
        _zone(zone),
    )


def _from_named(found: re.Match[str]) -> datetime:
    parts = {name: value or "" for name, value in found.groupdict().items()}
    year = int(parts["year"])
    if len(parts["year"]) == 2:
        year += 1900 if year >= 69 else 2000
    return datetime(
        year,
        _MONTHS[parts["month"].lower()],
        int(parts["day"]),
        int(parts["hour"] or 0),
        int(parts["minute"] or 0),
        int(parts["second"] or 0),
        _microseconds(parts["fraction"]),
        _zone(parts["zone"]),
    )


def _microseconds(fraction: str) -> int:
    return int(fraction.ljust(6, "0")[:6]) if fraction else 0


def _zone(text: str) -> timezone:
    """Read an offset; a zone's name is taken for UTC, as nobody can say which one it is."""
    if text[:1] not in ("+", "-"):
        return UTC
    digits = text[1:].replace(":", "")
    offset = timedelta(hours=int(digits[:2]), minutes=int(digits[2:]))
    return timezone(-offset if text[0] == "-" else offset)


def _rfc3339(moment: str) -> str:
    whole, _, fraction = moment.removesuffix("Z").replace(" ", "T").partition(".")
    fraction = fraction.rstrip("0")
    return f"{whole}.{fraction}Z" if fraction else f"{whole}Z"


class _MomentOps(TextColumnOps):
    def from_column(self, stored: Value) -> str:
        """Read a moment. What has the own form's shape is believed: lists read many."""
        if isinstance(stored, str) and len(stored) == 24 and stored[10] == " " and stored[23] == "Z":
            return stored
        return parse(stored)


class DateOps(_MomentOps):
    """A moment, or ""; numbers are none."""

    def __init__(self, field: DateField) -> None:
        self.field = field
        self._min = parse(field.min)
        self._max = parse(field.max)

    def normalise(self, raw: object) -> str:
        """Read a moment, "" if that fails."""
        return parse(raw) if isinstance(raw, str) else ""

    def check(self, value: str) -> Problem | None:
        """Check that it is there and within bounds."""
        if not value:
            return REQUIRED if self.field.required else None
        if self._min and value < self._min:
            code = "validation_min_greater_equal_than_required"
            return Problem(code, f"Must be {self._min} or later.", {"threshold": _rfc3339(self._min)})
        if self._max and value > self._max:
            code = "validation_max_less_equal_than_required"
            return Problem(code, f"Must be {self._max} or earlier.", {"threshold": _rfc3339(self._max)})
        return None


class AutodateOps(_MomentOps):
    """The moment of creation or change: what callers say is ignored (`modifiers`), the writer sets it."""

    def __init__(self, field: AutodateField) -> None:
        self.field = field

    def normalise(self, raw: object) -> str:
        """Read a moment that the writer made."""
        return parse(raw)
