"""What the sender and the receiver ask of their shells: frozen values, to be carried out in the order given.

`reason` says why, for logs and tests. `stream` comes back in the shell's answer, so that an answer to an older question
is recognised. Not here: the machines themselves.
"""

from __future__ import annotations

from dataclasses import dataclass

from pando.replication.entry import Entry
from pando.replication.messages import ReplicaMessage, UpstreamMessage
from pando.types import TXID, Checksum, Epoch, Position

# -- both --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Give this message to the link; the bytes in it are not copied."""

    message: UpstreamMessage | ReplicaMessage
    reason: str


# -- sender ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLog:
    """Read entries after a position: answer `log_read`, or `log_lacks` if the log does not hold `after` exactly."""

    database: str
    stream: int
    after: Position
    max_bytes: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartSnapshot:
    """Make a snapshot of a durable position, as new as can be: answer `snapshot_ready` or `snapshot_failed`."""

    database: str
    stream: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadSnapshot:
    """Read bytes of the snapshot: answer `snapshot_read` or `snapshot_failed`."""

    database: str
    stream: int
    offset: int
    max_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EndSnapshot:
    """The snapshot of this stream is not needed any more (or its making can stop)."""

    database: str
    stream: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged:
    """The replica holds our history up to here, fsynced: what quorum writes wait for."""

    database: str
    epoch: Epoch
    txid: TXID


@dataclass(frozen=True, slots=True, kw_only=True)
class Disowned:
    """The replica asked anew: what it acknowledged before no longer counts (it may have lost it)."""

    database: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaApplied:
    """Readers of the replica see this commit."""

    database: str
    txid: TXID


@dataclass(frozen=True, slots=True, kw_only=True)
class Stale:
    """Somebody knows a newer epoch than ours: we must not take writes before we know our place again."""

    epoch: Epoch
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Close the link, after what was given to it to send. The machine takes no more input."""

    reason: str


SenderAction = (
    Send
    | ReadLog
    | StartSnapshot
    | ReadSnapshot
    | EndSnapshot
    | Acknowledged
    | Disowned
    | ReplicaApplied
    | Stale
    | Close
)


# -- receiver ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendEntries:
    """Append to the log (made if there is none), fsync, then `Receiver.appended` or `append_failed`.

    Several of one database may be appended before one fsync and one answer. After a failure those that were asked for
    before the answer are dropped.
    """

    database: str
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplyTo:
    """Have the applier show readers the commits up to this one; then `applied`, or `diverged`."""

    database: str
    txid: TXID


@dataclass(frozen=True, slots=True, kw_only=True)
class BeginSnapshot:
    """Make an empty temporary file for this stream; older ones of the database are of no use."""

    database: str
    stream: int
    position: Position
    size: int
    page_size: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteSnapshot:
    """Write at the end of the temporary file: answer `snapshot_written` with the offset after it."""

    database: str
    stream: int
    offset: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class InstallSnapshot:
    """Verify and install the file, reset the log to `position`: answer `snapshot_installed` or `snapshot_failed`.

    If `evidence` is not empty, first keep what the log holds under `evidence/`, with this text.
    """

    database: str
    stream: int
    position: Position
    checksum: Checksum
    evidence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropSnapshot:
    """Remove the temporary file of this stream."""

    database: str
    stream: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """Stop applying this database and keep evidence of its log and file; then `evidence_saved`."""

    database: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DropDatabase:
    """The upstream does not have this database any more: remove it here."""

    database: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptEpoch:
    """Write this epoch down durably before carrying out what follows."""

    epoch: Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconnect:
    """Close the link if it is open; connect after so many seconds, or not before it is asked for (None)."""

    after_s: float | None
    reason: str
    is_done: bool = False
    """A run to the head has ended: everything that the upstream had is here."""


ReceiverAction = (
    Send
    | AppendEntries
    | ApplyTo
    | BeginSnapshot
    | WriteSnapshot
    | InstallSnapshot
    | DropSnapshot
    | Freeze
    | DropDatabase
    | AdoptEpoch
    | Reconnect
)
