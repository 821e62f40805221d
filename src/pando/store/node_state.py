"""What a node remembers of itself between starts: its name, its epoch, and the replicas it has met.

Kept in `DIR/.pando/node.json`, written durably before it takes effect. Not here: databases (their logs say it all).
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from pando.errors import CorruptionError, invariant
from pando.store.files import FileSystem, read_bounded, write_durably
from pando.types import Epoch

if TYPE_CHECKING:
    from pando.clock import Random

_SIZE_MAX = 1 << 20


class KnownReplica(msgspec.Struct, frozen=True):
    """A replica that has subscribed once; counted in majorities when it is a voter."""

    node: str
    url: str = ""
    is_voter: bool = True


class _Stored(msgspec.Struct):
    version: int
    node: str
    epoch: int
    replicas: list[KnownReplica] = []


class NodeState:
    """The node's memory; every change is durable when the method returns."""

    def __init__(self, fs: FileSystem, path: Path, stored: _Stored) -> None:
        self._fs = fs
        self._path = path
        self._stored = stored

    @classmethod
    def load(cls, fs: FileSystem, path: Path, *, chance: Random, node: str = "") -> NodeState:
        """Read the state, or make one for a new node. `node` overrides the name. Raises CorruptionError,
        StorageError.
        """
        if fs.exists(path):
            data = read_bounded(fs, path, _SIZE_MAX)
            try:
                stored = msgspec.json.decode(data, type=_Stored)
            except msgspec.MsgspecError as error:
                raise CorruptionError(
                    f"{path} cannot be read ({error}); restore it or delete it to start a new node"
                ) from error
            if node and node != stored.node:
                stored.node = node
            return cls(fs, path, stored)
        stored = _Stored(1, node or f"node-{chance.getrandbits(48):012x}", 1)
        state = cls(fs, path, stored)
        state._save(stored)
        return state

    @property
    def node(self) -> str:
        """Name of the node, unique in the cluster."""
        return self._stored.node

    @property
    def epoch(self) -> Epoch:
        """The newest epoch that the node knows of."""
        return Epoch(self._stored.epoch)

    @property
    def replicas(self) -> list[KnownReplica]:
        """Replicas that have subscribed to this node."""
        return self._stored.replicas

    def raise_epoch(self, epoch: Epoch) -> None:
        """Remember a newer epoch; an older one breaks an invariant."""
        invariant(epoch >= self._stored.epoch, "an epoch never goes back", known=self._stored.epoch, given=epoch)
        if epoch > self._stored.epoch:
            self._save(msgspec.structs.replace(self._stored, epoch=epoch))

    def meet_replica(self, replica: KnownReplica) -> None:
        """Remember a replica."""
        if replica not in self._stored.replicas:
            others = [known for known in self._stored.replicas if known.node != replica.node]
            self._save(msgspec.structs.replace(self._stored, replicas=[*others, replica]))

    def _save(self, stored: _Stored) -> None:
        """Write first, believe afterwards: after a StorageError the node still knows what the disk knows."""
        write_durably(self._fs, self._path, msgspec.json.encode(stored))
        self._stored = stored
