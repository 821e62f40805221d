"""Interactive transactions of one writer: who has one open, and who had one that was rolled back for lack of time."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from pando import limits
from pando.errors import TransactionTimeout
from pando.store.commands import Command, SessionKey
from pando.store.protocol import Ran, Run


def _answer_nobody(answer: Ran | Exception) -> None:
    """For the command that ends a session."""


END = Command(run=Run(0, "", 0, ()), key=(0, 0), answer=_answer_nobody, is_solo=True)
"""The command that rolls an open session back; nobody waits for it."""


@dataclass(slots=True)
class Session:
    """An interactive transaction: it owns the writer until it ends."""

    key: SessionKey
    opened_at: float
    is_expired: bool = False
    queue: deque[Command] = field(default_factory=deque)
    tables: set[str] = field(default_factory=set)
    """What its commands may have changed so far: whichever commits says it for all."""


class Expired:
    """Sessions whose transaction was rolled back because others waited: their clients must be told, until they end
    them.
    """

    def __init__(self) -> None:
        self._keys: dict[SessionKey, None] = {}

    def add(self, key: SessionKey) -> None:
        """Remember one; the oldest go when there are too many."""
        self._keys[key] = None
        while len(self._keys) > limits.STREAMS_MAX:
            del self._keys[next(iter(self._keys))]

    def check(self, key: SessionKey, limit_s: float) -> None:
        """Raise TransactionTimeout for one of them."""
        if key in self._keys:
            raise overdue(limit_s)

    def forget(self, key: SessionKey) -> None:
        """Its client has ended the session."""
        self._keys.pop(key, None)

    def forget_link(self, link: int) -> None:
        """All clients of a link are gone."""
        for key in [key for key in self._keys if key[0] == link]:
            del self._keys[key]


def overdue(limit_s: float) -> TransactionTimeout:
    """Say why a transaction was rolled back; it would have stayed open, had nobody waited."""
    return TransactionTimeout(
        f"the transaction was rolled back: it was open for more than {limit_s:g} s (setting transaction_time_s) while "
        "others waited to write; begin it again, and keep it short"
    )
