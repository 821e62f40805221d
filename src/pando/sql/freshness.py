"""How fresh a read must be, and where it therefore runs. Pure: facts in, decision out.

Bookmarks are compared as (epoch, txid). Not here: waiting, forwarding (see `pando.sql.service`).
"""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import Final

from pando.errors import InvalidRequest
from pando.types import Bookmark


class Level(enum.Enum):
    """What a reader asks for."""

    EVENTUAL = "eventual"
    """Whatever the node has."""
    SESSION = "session"
    """Not older than the bookmark."""
    BOUNDED = "bounded"
    """As session, and at most so many milliseconds behind the primary."""
    STRONG = "strong"
    """What the primary has now."""


@dataclass(frozen=True, slots=True)
class Freshness:
    """A level; `lag_ms` counts for BOUNDED only."""

    level: Level
    lag_ms: int = 0


SESSION: Final = Freshness(Level.SESSION)
"""What holds when nothing is said and nothing is configured. A request that says `session` has another, equal object:
then no configuration changes it.
"""

_BOUNDED = re.compile(r"bounded=([0-9]{1,9})")


def parse_freshness(text: str) -> Freshness:
    """Read `eventual`, `session`, `bounded=N` (milliseconds) or `strong`; raises InvalidRequest."""
    found = _BOUNDED.fullmatch(text)
    if found:
        return Freshness(Level.BOUNDED, int(found.group(1)))
    if text in {"eventual", "session", "strong"}:
        return Freshness(Level(text))
    raise InvalidRequest(
        f"Pando-Freshness is {text[:80]!r}; it must be eventual, session, bounded=MILLISECONDS or strong"
    )


class Where(enum.Enum):
    """Where a read runs."""

    LOCAL = "local"
    WAIT = "wait"
    """Here, once the node shows the commit of the decision."""
    PRIMARY = "primary"


@dataclass(frozen=True, slots=True)
class Seen:
    """What a node knows of one database; ages in milliseconds."""

    visible: tuple[int, int]
    head_txid: int
    head_age_ms: int
    is_primary: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """Where to read, and for WAIT the (epoch, txid) to wait for."""

    where: Where
    reason: str
    position: tuple[int, int] = (0, 0)


_LOCAL = Decision(Where.LOCAL, "what the node has is fresh enough")


def decide(freshness: Freshness, bookmark: Bookmark | None, seen: Seen) -> Decision:
    """Choose where a read runs."""
    level = freshness.level
    if level is Level.EVENTUAL:
        return _LOCAL
    if level is Level.STRONG:
        return Decision(Where.PRIMARY, "strong reads run on the primary")
    wanted = (0, 0) if bookmark is None else (int(bookmark.epoch), int(bookmark.txid))
    if level is Level.BOUNDED and not seen.is_primary:
        if seen.head_age_ms > freshness.lag_ms:
            return Decision(Where.PRIMARY, f"last heard of the primary {seen.head_age_ms} ms ago")
        wanted = max(wanted, (seen.visible[0], seen.head_txid))
    if wanted <= seen.visible:
        return _LOCAL
    return Decision(Where.WAIT, "the node has not reached the position yet", wanted)
