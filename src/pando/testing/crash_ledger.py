"""What the clients of the crash harness wrote, and what each was told: the truth that nodes are compared with.

A group is what one transaction inserts: all of its rows are there, or none. Not here: clients, processes.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from pando.testing.sql_client import Json

COMPLAINTS_MAX: Final = 50
"""Violations that are kept; the first ones tell most."""


class Fate(StrEnum):
    """What the client of a group knows."""

    DONE = "done"
    """It was told that the transaction took effect: every row must be there."""
    REFUSED = "refused"
    """It was told that nothing was done, or sent nothing: no row may be there."""
    UNKNOWN = "unknown"
    """All rows or none."""


@dataclass(frozen=True, slots=True)
class Group:
    """The rows of one transaction."""

    name: str
    size: int
    cycle: int


_DONE_CODES: Final = frozenset({"QUORUM_TIMEOUT"})
"""The commit is on the primary (docs/guarantees.md)."""
_REFUSED_CODES: Final = frozenset(
    {
        "PRIMARY_UNAVAILABLE",
        "NOT_READY",
        "NOT_PRIMARY",
        "RETRY_LATER",
        "OVERLOADED",
        "TRANSACTION_BUSY",
        "TRANSACTION_TIMEOUT",
        "STREAM_EXPIRED",
        "BOOKMARK_TIMEOUT",
    }
)
_UNKNOWN_CODES: Final = frozenset({"OUTCOME_UNKNOWN"})
_BATON_TEXTS_STATUS: Final = "HTTP_400"
EXPECTED_CODES: Final = _DONE_CODES | _REFUSED_CODES | _UNKNOWN_CODES
"""What a client may be told while processes die (docs/errors.md); anything else is a violation."""


def fate_of(error: Json | None, *, has_baton: bool = False) -> Fate | None:
    """Say what an answer promises about a write; None for an error that no client should get.

    `has_baton`: the request continued a stream, whose end is told as plain text with status 400 too.
    """
    if error is None:
        return Fate.DONE
    code = str(error.get("code", ""))
    if code in _DONE_CODES:
        return Fate.DONE
    if code in _REFUSED_CODES or (has_baton and code == _BATON_TEXTS_STATUS):
        return Fate.REFUSED
    return Fate.UNKNOWN if code in _UNKNOWN_CODES else None


class Ledger:
    """Every group of the recent cycles with its fate; used by all client threads at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._fates: dict[int, dict[Group, Fate]] = {}
        self._number = 0
        self._complaints: list[str] = []
        self.cycle = 0

    def begin(self, size: int) -> Group:
        """Note a group that is about to be sent."""
        with self._lock:
            self._number += 1
            group = Group(f"{self.cycle}-{self._number}", size, self.cycle)
            self._fates.setdefault(self.cycle, {})[group] = Fate.UNKNOWN
            return group

    def settle(self, group: Group, fate: Fate) -> None:
        """Note what the client was told."""
        with self._lock:
            self._fates[group.cycle][group] = fate

    def complain(self, text: str) -> None:
        """Note a violation that a client saw."""
        with self._lock:
            if len(self._complaints) < COMPLAINTS_MAX:
                self._complaints.append(text)

    def take_complaints(self) -> list[str]:
        """Give the violations noted since the last time."""
        with self._lock:
            found, self._complaints = self._complaints, []
            return found

    def count(self, fate: Fate = Fate.DONE) -> int:
        """Give the number of this cycle's groups with a fate."""
        with self._lock:
            return sum(known is fate for known in self._fates.get(self.cycle, {}).values())

    def fates(self, cycle: int) -> Mapping[Group, Fate]:
        """Give a copy of the groups of a cycle."""
        with self._lock:
            return dict(self._fates.get(cycle, {}))

    def cycles(self) -> list[int]:
        """Give the cycles that are remembered, in order."""
        with self._lock:
            return sorted(self._fates)

    def forget(self, cycle: int) -> None:
        """Drop a cycle whose rows were deleted."""
        with self._lock:
            self._fates.pop(cycle, None)


def compare(fates: Mapping[Group, Fate], found: Mapping[str, int], where: str) -> list[str]:
    """Give the violations: `found` is the number of rows by name of group, as one node has them."""
    wrong = []
    for group, fate in fates.items():
        count = found.get(group.name, 0)
        if fate is Fate.DONE and count != group.size:
            wrong.append(f"{where}: {group.name} was acknowledged, {count} of {group.size} rows are there")
        elif fate is Fate.REFUSED and count:
            wrong.append(f"{where}: {group.name} was refused as not done, {count} of {group.size} rows are there")
        elif count not in (0, group.size):
            wrong.append(f"{where}: {group.name} is torn, {count} of {group.size} rows are there")
    names = {group.name for group in fates}
    wrong += [f"{where}: {name} was never sent" for name in found if name not in names]
    return wrong
