"""From where somebody signs in: the fingerprint of `_authOrigins`, and what to do about a new one. Pure.

Not here: the rows, the mail.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

ORIGINS_KEPT_MAX: Final = 5
"""Origins that are kept of one record; the one longest not used goes."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A row of `_authOrigins`."""

    id: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class OriginPlan:
    """What a sign-in changes: the row that is used again (None: a new one), and those that go."""

    known: Origin | None
    removed: tuple[Origin, ...]


def fingerprint(address: str, user_agent: str) -> str:
    """Give what stands for a place and a program: 32 hex digits."""
    return hashlib.md5((address + user_agent).encode("utf-8", "surrogatepass"), usedforsecurity=False).hexdigest()


def plan_origin(latest_first: Sequence[Origin], found: str) -> OriginPlan:
    """Decide about a sign-in from `found`, given a record's origins, the one used last first."""
    known = next((each for each in latest_first if each.fingerprint == found), None)
    others = [each for each in latest_first if each is not known]
    return OriginPlan(known, tuple(others[ORIGINS_KEPT_MAX - 1 :]))
