"""Hands notices of commits to whoever of this process listens; the store is asked only while somebody does.

One notice may stand for many commits. Not here: what a notice says (`pando.store.protocol.Committed`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from pando.store.protocol import Committed

Listener = Callable[[Committed], None]


class NoticeSource(Protocol):
    """The link that notices come from."""

    on_committed: Callable[[Committed], None] | None

    def watch(self, database: str) -> None:
        """Ask for notices; the first may come at once. Raises Overloaded."""
        ...

    def unwatch(self, database: str) -> None:
        """Ask for no more."""
        ...


class Notices:
    """Who listens to which database in this process."""

    def __init__(self, source: NoticeSource) -> None:
        self._source = source
        self._listeners: dict[str, list[Listener]] = {}
        source.on_committed = self._told

    def listen(self, database: str, listener: Listener) -> None:
        """Call a function with each notice from now on. Raises Overloaded."""
        listeners = self._listeners.get(database)
        if listeners is None:
            self._source.watch(database)
            listeners = self._listeners[database] = []
        listeners.append(listener)

    def unlisten(self, database: str, listener: Listener) -> None:
        """Call it no more; also if it never was to be."""
        listeners = self._listeners.get(database, [])
        if listener in listeners:
            listeners.remove(listener)
            if not listeners:
                del self._listeners[database]
                self._source.unwatch(database)

    def _told(self, notice: Committed) -> None:
        for listener in tuple(self._listeners.get(notice.database, ())):
            listener(notice)
