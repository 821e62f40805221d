"""When something is to be done: five fields of minute, hour, day, month and weekday, or a name such as `@daily`.

Each field is `*`, a number, a range, any of these but a single number with a step (`*/5`, `1-5/2`), or a list of them.
Pure. Not here: doing anything at these times.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Final

NAMED: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_BOUNDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
_PART: Final = re.compile(r"(?:\*|([+-]?[0-9]{1,9})(?:-([+-]?[0-9]{1,9}))?)(?:/([+-]?[0-9]{1,9}))?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Schedule:
    """The values that each field admits."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    """From 0 for Sunday."""

    def is_due(self, moment: datetime) -> bool:
        """Tell whether this minute is one of those meant."""
        return (
            moment.minute in self.minutes
            and moment.hour in self.hours
            and moment.day in self.days
            and moment.month in self.months
            and moment.isoweekday() % 7 in self.weekdays
        )


def parse(text: str) -> Schedule | None:
    """Read a schedule; None if the text is none."""
    fields = NAMED.get(text, text).split(" ")
    if len(fields) != len(_BOUNDS):
        return None
    read = [_field(each, *bounds) for each, bounds in zip(fields, _BOUNDS, strict=True)]
    found = [each for each in read if each is not None]
    return Schedule(*found) if len(found) == len(_BOUNDS) else None


def _field(text: str, least: int, most: int) -> frozenset[int] | None:
    found: set[int] = set()
    for part in text.split(","):
        values = _part(part, least, most)
        if values is None:
            return None
        found.update(values)
    return frozenset(found)


def _part(text: str, least: int, most: int) -> range | None:
    read = _PART.fullmatch(text)
    if read is None:
        return None
    first, last, step = (None if each is None else int(each) for each in read.groups())
    if step is not None and (not 1 <= step <= most or (first is not None and last is None)):
        return None
    low = least if first is None else first
    high = most if first is None else low if last is None else last
    return range(low, high + 1, step or 1) if least <= low <= high <= most else None
