"""`@now` and its kin: moments and their parts, in UTC, from the `now` that is passed in. Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final


def moment_text(moment: datetime) -> str:
    """Write a moment as columns keep it: `YYYY-MM-DD HH:MM:SS.mmmZ`."""
    moment = moment.astimezone(UTC)
    return f"{moment:%Y-%m-%d %H:%M:%S}".zfill(19) + f".{moment.microsecond // 1000:03d}Z"


def _start(now: datetime) -> datetime:
    return now.replace(hour=0, minute=0, second=0, microsecond=0)


def _before(moment: datetime) -> datetime:
    return moment - timedelta(milliseconds=1)


def _next_month(now: datetime) -> datetime:
    return (_start(now.replace(day=1)) + timedelta(days=32)).replace(day=1)


_MACROS: Final[dict[str, Callable[[datetime], datetime | int]]] = {
    "@now": lambda now: now,
    "@yesterday": lambda now: now - timedelta(days=1),
    "@tomorrow": lambda now: now + timedelta(days=1),
    "@todayStart": _start,
    "@todayEnd": lambda now: _before(_start(now) + timedelta(days=1)),
    "@monthStart": lambda now: _start(now.replace(day=1)),
    "@monthEnd": lambda now: _before(_next_month(now)),
    "@yearStart": lambda now: _start(now.replace(month=1, day=1)),
    "@yearEnd": lambda now: _before(_start(now.replace(month=12, day=31)) + timedelta(days=1)),
    "@second": lambda now: now.second,
    "@minute": lambda now: now.minute,
    "@hour": lambda now: now.hour,
    "@day": lambda now: now.day,
    "@month": lambda now: now.month,
    "@weekday": lambda now: now.isoweekday() % 7,
    "@year": lambda now: now.year,
}

MACROS: Final = frozenset(_MACROS)
"""All names."""


def macro_value(name: str, now: datetime) -> str | int:
    """Give what a macro of MACROS stands for at a moment, which must have a time zone."""
    value = _MACROS[name](now.astimezone(UTC))
    return moment_text(value) if isinstance(value, datetime) else value
