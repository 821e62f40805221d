"""Answers writes when the durability that they asked for holds.

`async`: at once. `quorum`: when a majority has them in its logs. `all`: when every replica that keeps up shows them
(and, where `quorum` is the default, a majority has them).

The counting is `pando.replication.acks` and `shown`; this is the shell that keeps the commands. Not here: sending to
replicas.
"""

from __future__ import annotations

from collections.abc import Callable

from pando import limits
from pando.clock import Clock
from pando.errors import InvalidRequest, PandoError
from pando.replication.acks import Acks
from pando.replication.shown import Shown
from pando.store.commands import Command
from pando.store.node_state import KnownReplica
from pando.store.protocol import Ran
from pando.types import TXID, Durability, Epoch

Waiter = tuple[Command, Ran]
Told = Callable[[PandoError | None], None]
"""Called when all show a commit, or with the reason why it is waited for no longer."""


class Confirming:
    """Keeps commands until their durability holds."""

    def __init__(
        self,
        *,
        me: str,
        known: list[KnownReplica],
        clock: Clock,
        default: Durability,
        voters: int = 0,
        wait_s: float = limits.QUORUM_WAIT_S,
        shown_wait_s: float = limits.SHOWN_WAIT_S,
    ) -> None:
        """`voters`: how many voters the cluster has at least, itself included; 0: as many as have been met."""
        self._me = me
        self._clock = clock
        self._default = default
        self._least = voters
        self._wait_s = wait_s
        self._shown_wait_s = shown_wait_s
        self._known = {replica.node for replica in known if replica.is_voter}
        self._acks: Acks[Waiter] = Acks(me=me, voters=self._voters())
        self._shown: Shown[Told] = Shown()

    def _voters(self) -> set[str]:
        voters = {self._me, *self._known}
        missing = max(0, self._least - len(voters))
        return voters | {f"voter {number} that has not been met" for number in range(1, missing + 1)}

    def check(self, durability: str) -> None:
        """Refuse a durability that does not exist; raises InvalidRequest."""
        if durability and durability not in set(Durability):
            known = ", ".join(Durability)
            raise InvalidRequest(f"there is no durability {durability[:40]!r}; use one of: {known}")

    def confirm(self, database: str, command: Command, ran: Ran, *, has_written: bool) -> None:
        """Answer a command whose commit is durable here, now or when others have it."""
        durability = command.run.durability or self._default
        if durability == Durability.ASYNC or not has_written:
            command.answer(ran)
            return
        if Durability.QUORUM not in (durability, self._default):
            self._show(database, command, ran)
            return
        try:
            deadline = self._clock.monotonic() + self._wait_s
            if self._acks.wait(database, TXID(ran.txid), deadline, (command, ran)):
                self._confirmed([(command, ran)])
        except PandoError as error:
            command.answer(error)

    def _confirmed(self, waiters: list[Waiter]) -> None:
        """A majority has these."""
        for command, ran in waiters:
            if (command.run.durability or self._default) == Durability.ALL:
                self._show(command.run.database, command, ran)
            else:
                command.answer(ran)

    def _show(self, database: str, command: Command, ran: Ran) -> None:
        """Answer now, or when every replica that keeps up shows the commit."""
        deadline = self._clock.monotonic() + self._shown_wait_s
        if self._shown.wait(database, TXID(ran.txid), deadline, lambda error: command.answer(error or ran)):
            command.answer(ran)

    def when_shown(self, database: str, txid: TXID, told: Told) -> None:
        """Tell, now or later, that every replica that keeps up shows a commit that a reader here or there has seen."""
        deadline = self._clock.monotonic() + self._shown_wait_s
        if self._shown.wait_for_what_was_read(database, txid, deadline, told):
            told(None)

    def durable(self, database: str, txid: TXID) -> None:
        """A commit is fsynced here."""
        _tell(self._shown.durable(database, txid))
        self._confirmed(self._acks.durable(database, txid))

    def joined(self, node: str, *, is_voter: bool) -> None:
        """A replica has subscribed."""
        if is_voter != (node in self._known):
            (self._known.add if is_voter else self._known.discard)(node)
            self._confirmed(self._acks.set_voters(self._voters()))

    def acknowledged(self, node: str, database: str, _epoch: Epoch, txid: TXID) -> None:
        """A replica has our history up to a commit in its log."""
        self._confirmed(self._acks.have(database, node, txid))

    def applied(self, node: str, database: str, txid: TXID) -> None:
        """Readers of a replica see our history up to a commit."""
        _tell(self._shown.applied(database, node, txid, self._clock.monotonic()))

    def keeping_up(self, database: str) -> frozenset[str]:
        """Name the replicas that writes with durability `all` wait for."""
        return self._shown.keeping_up(database)

    def disowned(self, node: str, database: str) -> None:
        """What a replica acknowledged before no longer counts."""
        self._acks.disown(database, node)
        _tell(self._shown.disown(database, node))

    def left(self, node: str) -> None:
        """A replica is gone."""
        self._acks.left(node)
        _tell(self._shown.left(node))

    def dropped(self, database: str, error: PandoError) -> None:
        """A database is no more."""
        for command, _ in self._acks.drop(database):
            command.answer(error)
        _tell(self._shown.drop(database), error)

    def tick(self, now: float) -> None:
        """Tell those whose time is over."""
        for (command, _), error in self._acks.expire(now):
            command.answer(error)
        _tell(self._shown.expire(now))


def _tell(waiting: list[Told], error: PandoError | None = None) -> None:
    for told in waiting:
        told(error)
