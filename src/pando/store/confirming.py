"""Answers writes when the durability that they asked for holds.

`async`: at once. `quorum`: when a majority has them in its logs.

The counting is `pando.replication.acks`; this is the shell that keeps the commands. Not here: sending to replicas.
"""

from __future__ import annotations

from pando import limits
from pando.clock import Clock
from pando.errors import InvalidRequest, PandoError
from pando.replication.acks import Acks
from pando.store.commands import Command
from pando.store.node_state import KnownReplica
from pando.store.protocol import Ran
from pando.types import TXID, Durability, Epoch

Waiter = tuple[Command, Ran]


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
    ) -> None:
        """`voters`: how many voters the cluster has at least, itself included; 0: as many as have been met."""
        self._me = me
        self._clock = clock
        self._default = default
        self._least = voters
        self._wait_s = wait_s
        self._known = {replica.node for replica in known if replica.is_voter}
        self._acks: Acks[Waiter] = Acks(me=me, voters=self._voters())

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
        """Answer a command whose commit is durable here, now or when a majority has it."""
        durability = command.run.durability or self._default
        if durability != Durability.QUORUM or not has_written:
            command.answer(ran)
            return
        try:
            deadline = self._clock.monotonic() + self._wait_s
            if self._acks.wait(database, TXID(ran.txid), deadline, (command, ran)):
                command.answer(ran)
        except PandoError as error:
            command.answer(error)

    def durable(self, database: str, txid: TXID) -> None:
        """A commit is fsynced here."""
        self._answer(self._acks.durable(database, txid))

    def joined(self, node: str, *, is_voter: bool) -> None:
        """A replica has subscribed."""
        if is_voter != (node in self._known):
            (self._known.add if is_voter else self._known.discard)(node)
            self._answer(self._acks.set_voters(self._voters()))

    def acknowledged(self, node: str, database: str, _epoch: Epoch, txid: TXID) -> None:
        """A replica has our history up to a commit in its log."""
        self._answer(self._acks.have(database, node, txid))

    def disowned(self, node: str, database: str) -> None:
        """What a replica acknowledged before no longer counts."""
        self._acks.disown(database, node)

    def left(self, node: str) -> None:
        """A replica is gone."""
        self._acks.left(node)

    def dropped(self, database: str, error: PandoError) -> None:
        """A database is no more."""
        for command, _ in self._acks.drop(database):
            command.answer(error)

    def tick(self, now: float) -> None:
        """Tell those whose time is over."""
        for (command, _), error in self._acks.expire(now):
            command.answer(error)

    def _answer(self, confirmed: list[Waiter]) -> None:
        for command, ran in confirmed:
            command.answer(ran)
