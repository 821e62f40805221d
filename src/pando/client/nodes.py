"""Which node is asked next, and what must not be forgotten between two requests: bookmarks. Pure, time passed in.

Reads go around over all nodes that answered lately. What writes goes to the primary if it is known; any node would do,
it passes writes on. A node that failed is left out for a while, longer each time, unless all have failed.
Not here: what counts as a failure (`pando.client.judging`), asking who is the primary (`pando.client.session`).
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from pando.client.targets import Address
from pando.errors import PandoError
from pando.types import parse_bookmark

AWAY_S_MIN: Final = 0.25
"""How long a node is left out after its first failure; doubled with each further one."""
AWAY_S_MAX: Final = 10.0
PRIMARY_KNOWN_S: Final = 30.0
"""How long it is believed who is the primary."""
PRIMARY_UNKNOWN_S: Final = 2.0
"""How long nobody is asked again when nobody said that it was."""
DATABASES_MAX: Final = 1000
"""Databases of which a bookmark is kept."""


@dataclass(slots=True)
class _Health:
    failures: int = 0
    away_until: float = 0.0


class Nodes:
    """The nodes of one cluster as one process knows them; `first` says where the turn begins.

    Threads may share it: whatever they do at once costs a request to a node that is away, at most.
    """

    def __init__(self, addresses: Collection[Address], first: int = 0) -> None:
        self.addresses = tuple(addresses)
        self._health = {address: _Health() for address in self.addresses}
        self._turn = first
        self._primary: Address | None = None
        self._asked_at = -PRIMARY_KNOWN_S

    def choose(self, now: float, *, writes: bool, tried: Collection[Address] = ()) -> Address:
        """Give the node for a request; those in `tried` come last."""
        candidates = [address for address in self.addresses if address not in tried] or list(self.addresses)
        here = [address for address in candidates if self._health[address].away_until <= now]
        if not here:
            return min(candidates, key=lambda address: self._health[address].away_until)
        if writes and self._primary in here:
            return self._primary
        self._turn += 1
        return here[self._turn % len(here)]

    def failed(self, address: Address, now: float) -> None:
        """Take note that a node could not be reached, or cannot serve."""
        health = self._health[address]
        health.failures += 1
        health.away_until = now + min(AWAY_S_MIN * 2.0 ** min(health.failures - 1, 20), AWAY_S_MAX)
        if address == self._primary:
            self.forget_primary()

    def worked(self, address: Address) -> None:
        """Take note that a node answered."""
        health = self._health[address]
        if health.failures:
            health.failures, health.away_until = 0, 0.0

    def is_away(self, address: Address, now: float) -> bool:
        """Tell whether a node is left out now."""
        return self._health[address].away_until > now

    # -- the primary --------------------------------------------------------------------------------------------------

    @property
    def primary(self) -> Address | None:
        """Who the primary is, as far as known."""
        return self._primary

    def primary_is_wanted(self, now: float) -> bool:
        """Tell whether somebody should ask who is the primary; True once, then not for a while."""
        if len(self.addresses) < 2 or now - self._asked_at < PRIMARY_KNOWN_S:
            return False
        self._asked_at = now
        return True

    def primary_is(self, address: Address | None, now: float) -> None:
        """Take note of the answer; None: none of these nodes says that it is."""
        self._primary = address
        self._asked_at = now if address is not None else now - PRIMARY_KNOWN_S + PRIMARY_UNKNOWN_S

    def forget_primary(self) -> None:
        """The primary failed, or is one no longer: ask again."""
        self._primary = None
        self._asked_at = -PRIMARY_KNOWN_S


class Bookmarks:
    """The newest commit that was seen of each database; answers are never asked for from before that."""

    def __init__(self) -> None:
        self._newest: dict[str, tuple[tuple[int, int], str]] = {}

    def note(self, text: str) -> None:
        """Remember what an answer says that it saw; what is no bookmark is ignored."""
        if not text:
            return
        try:
            bookmark = parse_bookmark(text)
        except PandoError:
            return
        place = (int(bookmark.epoch), int(bookmark.txid))
        known = self._newest.get(bookmark.database)
        if known is None or known[0] < place:
            if known is None and len(self._newest) >= DATABASES_MAX:
                self._newest.pop(next(iter(self._newest)), None)
            self._newest[bookmark.database] = (place, text)

    def of(self, database: str) -> str:
        """Give the newest one of a database, empty if nothing was seen yet."""
        known = self._newest.get(database)
        return "" if known is None else known[1]
