"""Tells web processes of commits as they become visible here, if they asked for it (`protocol.Watch`).

At most one notice per database and link every PAUSE_S, however many commits there are; the first after a quiet time
leaves in the same loop turn. What a congested link is owed is kept as one notice per database. Not here: which commits
are visible (`history`, `following`), links.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from pando import limits
from pando.errors import Overloaded
from pando.store.history import ANY_TABLE
from pando.store.protocol import Committed
from pando.types import TXID, Epoch

PAUSE_S: Final = 0.002
"""Between two notices of one database to one link: far below what a person notices, far above what a notice costs."""
_RETRY_S: Final = 0.05
"""Before a congested link is looked at again."""


class Watcher(Protocol):
    """A link that may be told something unasked."""

    @property
    def is_congested(self) -> bool:
        """Whether the other side does not keep up."""
        ...

    def push(self, message: Committed) -> None:
        """Tell."""
        ...


@dataclass(slots=True)
class _Notice:
    epoch: Epoch
    txid: TXID
    tables: set[str] | None
    """None: any table may have changed."""

    def add(self, epoch: Epoch, txid: TXID, tables: tuple[str, ...]) -> None:
        self.epoch, self.txid = epoch, txid
        if self.tables is not None:
            self.tables = _joined(self.tables, tables)


def _joined(known: set[str], tables: tuple[str, ...]) -> set[str] | None:
    if not tables or tables == ANY_TABLE or len(known := known.union(tables)) > limits.COMMITTED_TABLES_MAX:
        return None
    return known


class Watching:
    """Who watches which database of this store, and what they have not been told yet."""

    def __init__(self, call_later: Callable[[float, Callable[[], None]], object]) -> None:
        self._call_later = call_later
        self._watchers: dict[str, dict[Watcher, None]] = {}
        self._owed: dict[Watcher, dict[str, _Notice]] = {}
        self._is_timed = False

    def watch(self, watcher: Watcher, database: str) -> None:
        """Tell a link of commits of a database from now on. Raises Overloaded."""
        watched = sum(watcher in watchers for watchers in self._watchers.values())
        if watched >= limits.WATCHES_PER_LINK_MAX and watcher not in self._watchers.get(database, {}):
            raise Overloaded(f"this link watches {watched} databases already, which is the limit")
        self._watchers.setdefault(database, {})[watcher] = None

    def unwatch(self, watcher: Watcher, database: str) -> None:
        """Tell it no more; also if it never asked."""
        watchers = self._watchers.get(database, {})
        watchers.pop(watcher, None)
        if not watchers:
            self._watchers.pop(database, None)
        self._owed.get(watcher, {}).pop(database, None)

    def left(self, watcher: Watcher) -> None:
        """A link is closed."""
        for database in list(self._watchers):
            self.unwatch(watcher, database)
        self._owed.pop(watcher, None)

    def committed(self, database: str, epoch: Epoch, txid: TXID, tables: tuple[str, ...]) -> None:
        """A commit became visible; it changed these tables (none: any). Costs a look when nobody watches."""
        watchers = self._watchers.get(database)
        if watchers is None:
            return
        for watcher in watchers:
            owed = self._owed.setdefault(watcher, {})
            notice = owed.get(database)
            if notice is None:
                owed[database] = _Notice(epoch, txid, _joined(set(), tables))
            else:
                notice.add(epoch, txid, tables)
        if not self._is_timed:
            self._time(0.0)

    def _time(self, after_s: float) -> None:
        self._is_timed = True
        self._call_later(after_s, self._tell)

    def _tell(self) -> None:
        """Say what is owed to those who listen, then be silent for a moment."""
        ready = [watcher for watcher in self._owed if not watcher.is_congested]
        for watcher in ready:
            for database, notice in self._owed.pop(watcher).items():
                tables = () if notice.tables is None else tuple(sorted(notice.tables))
                watcher.push(Committed(database, notice.epoch, notice.txid, tables))
        self._is_timed = False
        if ready:
            self._time(PAUSE_S)
        elif self._owed:
            self._time(_RETRY_S)
