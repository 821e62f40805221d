"""State of one database at a replica.

    IDLE        not following: no link, or waiting before it asks (again)
    FOLLOWING   has asked; takes entries that follow its log
    RECEIVING   a snapshot is coming
    INSTALLING  the shell installs it
    FROZEN      what it holds is not what the upstream has; evidence is being saved

Not here: decisions (see `following`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto

from pando.errors import invariant
from pando.replication.backoff import Backoff
from pando.replication.stream_state import Window
from pando.types import NO_POSITION, TXID, Position


class Phase(Enum):
    """What a replica is doing about a database."""

    IDLE = auto()
    FOLLOWING = auto()
    RECEIVING = auto()
    INSTALLING = auto()
    FROZEN = auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalLog:
    """What the replica holds of a database when the receiver is made.

    `distrust` is not empty when the file is at no position of the log (an install was broken off, another program wrote
    to it): it says why only a snapshot will do.
    """

    durable: Position
    applied: TXID
    distrust: str = ""


@dataclass(slots=True, kw_only=True)
class Incoming:
    """A snapshot on its way in."""

    stream: int
    position: Position
    size: int
    evidence: str
    received: int = 0
    written: int = 0


NEW_LOG = LocalLog(durable=NO_POSITION, applied=TXID(0))
"""What a replica holds of a database that it has only just heard of."""


class FollowingState:
    """One database. Plain state; see `following.Following`."""

    __slots__ = (
        "applied",
        "backoff",
        "database",
        "distrust",
        "durable",
        "follow_at",
        "head",
        "incoming",
        "is_caught_up",
        "is_kept",
        "is_listed",
        "pending",
        "phase",
        "reason",
        "stream",
        "tail",
        "unsent_bytes",
    )

    def __init__(self, database: str, local: LocalLog, backoff: Backoff) -> None:
        self.database = database
        self.phase = Phase.IDLE
        self.stream = 0
        """Number of the attempt that is under way; 0: none, so nothing that arrives can belong to it."""
        self.durable = local.durable
        """End of the fsynced log."""
        self.tail = local.durable
        """End of the log once the shell has appended what it was given."""
        self.applied = local.applied
        self.head = local.durable.txid
        """Newest commit of the upstream that we have heard of."""
        self.unsent_bytes = 0
        """Log bytes that the upstream has not sent yet, as of its last heartbeat."""
        self.pending = Window()
        """What the shell was given to append and has not answered for."""
        self.backoff = backoff
        self.follow_at: float | None = None
        """When to ask (again), in phase IDLE."""
        self.reason = ""
        """Why it asks again."""
        self.distrust = local.distrust
        """Not empty: only a snapshot will do; why."""
        self.is_kept = False
        """Whether evidence of what is distrusted has been saved."""
        self.is_caught_up = False
        self.is_listed = False
        """Whether the upstream has named it on the present link."""
        self.incoming: Incoming | None = None

    @property
    def hears(self) -> bool:
        """Whether acknowledgements have an upstream to go to."""
        return self.stream != 0 and self.phase in (Phase.FOLLOWING, Phase.RECEIVING)

    def check(self) -> None:
        """What must hold after each transition; cheap."""
        invariant(self.applied <= self.durable.txid <= self.tail.txid, "positions out of order", database=self.database)
        invariant(self.pending.is_empty == (self.tail == self.durable), "pending entries do not add up", tail=self.tail)
        has_incoming = self.phase in (Phase.RECEIVING, Phase.INSTALLING)
        invariant((self.incoming is not None) == has_incoming, "snapshot and phase differ", phase=self.phase)
        invariant(self.stream == 0 or self.phase is not Phase.IDLE, "idle with a stream", database=self.database)
