"""What the stores of a replica and of its upstream say to each other on a link, one tagged union each way.

The upstream is the primary, or another replica. Frames hold lists of messages (see `pando.store.link`). New fields get
defaults; nothing is renamed or retyped. Every message to a replica carries `sender_epoch`, the fencing token.

A replica numbers each attempt to follow a database: its `stream`. Whatever belongs to an older stream is ignored by
both sides, so nothing that was on its way when a replica asked anew can be taken for an answer to the new question.

There are no compression flags: pages inside an entry or a snapshot are LZ4 blocks already, and a second pass over them
costs more processor time than the few per cent it saves on the wire. Not here: framing, the hello (see `pando.store`).
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from pando.errors import PandoError
from pando.types import TXID, Checksum, Epoch, Position

REPLICATION_VERSION = 1
"""Version of these messages; a replica with another one is refused with `VERSION`."""

NAME_LENGTH_MAX = 128

Natural = Annotated[int, msgspec.Meta(ge=0)]
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=NAME_LENGTH_MAX)]
Text = Annotated[str, msgspec.Meta(max_length=1024)]


def position_of(message: Follow | CaughtUp | SnapshotBegin) -> Position:
    """Give the position that a message names."""
    return Position(epoch=Epoch(message.epoch), txid=TXID(message.txid), checksum=Checksum(message.checksum))


def position_fields(position: Position) -> tuple[int, int, int]:
    """Give a position as the three fields that messages hold."""
    return position.epoch, position.txid, position.checksum


# -- said by the replica -----------------------------------------------------------------------------------------------


class Follow(msgspec.Struct, frozen=True, array_like=True, tag=202):
    """Send me this database from the position that is durable in my log, as a stream of this number.

    `fresh` asks for a snapshot whatever the position: what the replica holds is not to be trusted.
    """

    database: Name
    stream: Natural
    epoch: Natural
    txid: Natural
    checksum: Natural
    applied_txid: Natural = 0
    fresh: bool = False
    reason: Text = ""


class Subscribe(msgspec.Struct, frozen=True, array_like=True, tag=201):
    """The first message on a link. `sender_epoch` is the highest that the replica has ever heard of.

    `until_head`: send what there is now, say CaughtUp per database, then nothing more.
    """

    node: Name
    url: Text
    is_voter: bool
    version: Natural
    sender_epoch: Natural
    omit: tuple[Name, ...] = ()
    until_head: bool = False
    follows: tuple[Follow, ...] = ()


class Have(msgspec.Struct, frozen=True, array_like=True, tag=203):
    """Everything up to this commit is fsynced in the replica's log (or is in the snapshot that it installed)."""

    database: Name
    stream: Natural
    epoch: Natural
    txid: Natural


class Applied(msgspec.Struct, frozen=True, array_like=True, tag=204):
    """Readers of the replica see this commit."""

    database: Name
    stream: Natural
    txid: Natural


class SnapshotHave(msgspec.Struct, frozen=True, array_like=True, tag=205):
    """Snapshot bytes before `offset` have been written: the upstream may send more."""

    database: Name
    stream: Natural
    offset: Natural


# -- said by both ------------------------------------------------------------------------------------------------------


class Refuse(msgspec.Struct, frozen=True, array_like=True, tag=206):
    """The last word before a link is closed. `sender_epoch` is the highest epoch that the side which says it knows."""

    code: Text
    message: Text
    sender_epoch: Natural = 0


class RefuseCode:
    """Codes of Refuse."""

    STALE_EPOCH = "STALE_EPOCH"
    """You are of an older epoch than I know."""
    VERSION = "VERSION"
    """We speak different versions of these messages."""
    PROTOCOL = "PROTOCOL"
    """You said what cannot be said now."""
    CORRUPT = "CORRUPT"
    """What you sent cannot be right."""


class Head(msgspec.Struct, frozen=True, array_like=True):
    """Where a database stands: its newest durable commit, and what this link has been sent of stream `stream`."""

    database: Name
    epoch: Natural
    txid: Natural
    stream: Natural = 0
    sent_txid: Natural = 0
    unsent_bytes: Natural = 0


class Heartbeat(msgspec.Struct, frozen=True, array_like=True, tag=207):
    """Said by both at least every HEARTBEAT_S. `heads` (to the replica only) are those that changed since the last."""

    sender_epoch: Natural
    wall_ms: int
    heads: tuple[Head, ...] = ()


# -- said by the upstream ----------------------------------------------------------------------------------------------


class DatabaseList(msgspec.Struct, frozen=True, array_like=True, tag=211):
    """These databases exist. The first message to a replica, and again for each new database.

    `is_complete`: no others exist; a replica may drop what is not listed. False from a replica that does not know yet.
    """

    sender_epoch: Natural
    names: tuple[Name, ...]
    is_complete: bool = False


class DatabaseDropped(msgspec.Struct, frozen=True, array_like=True, tag=212):
    """This database is no more."""

    sender_epoch: Natural
    database: Name


class Entries(msgspec.Struct, frozen=True, array_like=True, tag=213):
    """Log entries, in order. The first one follows exactly the position `after_*`; each is its bytes in the log."""

    sender_epoch: Natural
    database: Name
    stream: Natural
    after_epoch: Natural
    after_txid: Natural
    after_checksum: Natural
    entries: tuple[bytes, ...]


class SnapshotBegin(msgspec.Struct, frozen=True, array_like=True, tag=214):
    """A snapshot of `size` bytes follows. `epoch`, `txid` and `checksum` are its position.

    `is_divergent`: the upstream cannot tell that the replica's position was ever in its history.
    """

    sender_epoch: Natural
    database: Name
    stream: Natural
    epoch: Natural
    txid: Natural
    checksum: Natural
    size: Natural
    page_size: Natural
    is_divergent: bool = False
    reason: Text = ""


class SnapshotChunk(msgspec.Struct, frozen=True, array_like=True, tag=215):
    """Snapshot bytes from `offset` on, at most SNAPSHOT_CHUNK_BYTES."""

    sender_epoch: Natural
    database: Name
    stream: Natural
    offset: Natural
    data: bytes


class SnapshotEnd(msgspec.Struct, frozen=True, array_like=True, tag=216):
    """The snapshot is complete; `checksum` is over its bytes as they travelled (CRC-64, as the shells compute it)."""

    sender_epoch: Natural
    database: Name
    stream: Natural
    size: Natural
    checksum: Natural


class CaughtUp(msgspec.Struct, frozen=True, array_like=True, tag=217):
    """Everything that was durable at the upstream has been sent. Said once per stream; with `until_head`, the end."""

    sender_epoch: Natural
    database: Name
    stream: Natural
    epoch: Natural
    txid: Natural
    checksum: Natural


ReplicaMessage = Subscribe | Follow | Have | Applied | SnapshotHave | Refuse | Heartbeat
"""Said by a replica."""

UpstreamMessage = (
    DatabaseList
    | DatabaseDropped
    | Entries
    | SnapshotBegin
    | SnapshotChunk
    | SnapshotEnd
    | CaughtUp
    | Heartbeat
    | Refuse
)
"""Said by an upstream."""


class Refusal(PandoError):
    """What the other side said cannot be accepted: it is sent a Refuse with this code, and the link ends."""

    def __init__(self, refuse_code: str, text: str) -> None:
        super().__init__(text)
        self.refuse_code = refuse_code
