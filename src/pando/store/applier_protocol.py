"""Messages between the store and the applier of a node: one tagged union each way, tags 301-349.

The applier dials the store's unix socket (`pando.store.handshake`, kind `applier`), then the store asks and the applier
answers. Databases are named; positions travel as (epoch, txid, checksum). Requests with an `id` are answered exactly
once: by their own answer or by `JobFailed`. When the link ends, the applier drops all jobs and closes all files; a new
link starts from nothing. New fields get defaults; nothing is renamed or retyped. Not here: sockets.
"""

from __future__ import annotations

import msgspec

from pando.types import TXID, Checksum, Epoch, Position

PAGES_NAMED_MAX = 1000
"""Most page numbers in one message: enough to see what happened, bounded for any file."""


# -- asked of the applier --


class OpenReplica(msgspec.Struct, frozen=True, array_like=True, tag=301):
    """Open a replica's file, take its write lock, find its place in the log. Answered by ReplicaOpened.

    `slot`/`generation`: where to publish (see `pando.store.positions`); the store has claimed the slot.
    """

    id: int
    database: str
    path: str
    log_directory: str
    slot: int
    generation: int


class ApplyTo(msgspec.Struct, frozen=True, array_like=True, tag=302):
    """The log holds entries up to `txid`, durably: apply them. Answered by Applied, as often as it takes (0: is there).

    For a database that is still opening, or installing a snapshot, it is remembered.
    """

    database: str
    txid: int


class WriteSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=303):
    """Write the whole database as one LTX file (stream encoding, min_txid 1) to `out_path`.

    SnapshotPinned comes at once: until then the store holds commits, so that the given position is what is read.
    Then SnapshotWritten.
    """

    id: int
    database: str
    path: str
    out_path: str
    epoch: int
    txid: int
    checksum: int
    timestamp_ms: int = 0


class InstallSnapshot(msgspec.Struct, frozen=True, array_like=True, tag=304):
    """Make the file equal to the snapshot at `ltx_path`. Answered by SnapshotInstalled.

    Of an open replica: it goes on from the new position, with the log read anew. Otherwise the file is left closed.
    """

    id: int
    database: str
    path: str
    ltx_path: str
    epoch: int
    txid: int
    checksum: int


class Redo(msgspec.Struct, frozen=True, array_like=True, tag=305):
    """Bring a file that nobody has open to the end of its log, and close it. Answered by Redone."""

    id: int
    database: str
    path: str
    log_directory: str


class Scan(msgspec.Struct, frozen=True, array_like=True, tag=306):
    """Read every page of one snapshot. SnapshotPinned comes at once; answered by Scanned."""

    id: int
    database: str
    path: str


class CloseReplica(msgspec.Struct, frozen=True, array_like=True, tag=307):
    """Close a replica's file. Answered by JobDone, also when it is not open."""

    id: int
    database: str


class Drop(msgspec.Struct, frozen=True, array_like=True, tag=308):
    """Close and remove the file, its WAL and its shared memory. Answered by JobDone."""

    id: int
    database: str
    path: str


class CancelJob(msgspec.Struct, frozen=True, array_like=True, tag=309):
    """Stop the request of this id, if it still runs; it is answered by JobFailed with code CANCELLED."""

    id: int


class CheckpointReplica(msgspec.Struct, frozen=True, array_like=True, tag=310):
    """Move as much of the WAL into the file as readers allow, now, and shorten the WAL. Answered by JobDone."""

    id: int
    database: str


ApplierRequest = (
    OpenReplica
    | ApplyTo
    | WriteSnapshot
    | InstallSnapshot
    | Redo
    | Scan
    | CloseReplica
    | Drop
    | CancelJob
    | CheckpointReplica
)


# -- answered by the applier --


class ReplicaOpened(msgspec.Struct, frozen=True, array_like=True, tag=321):
    """The file is open and its write lock held.

    `is_known`: the position is the newest one of the log with the file's checksum. Otherwise `epoch` and `txid` are 0,
    `checksum` is what is in the file, and nothing is applied until a snapshot was installed.
    """

    id: int
    database: str
    is_known: bool
    epoch: int
    txid: int
    checksum: int
    page_size: int
    page_count: int


class Applied(msgspec.Struct, frozen=True, array_like=True, tag=322):
    """Readers see this position now."""

    database: str
    epoch: int
    txid: int
    checksum: int


class SnapshotPinned(msgspec.Struct, frozen=True, array_like=True, tag=323):
    """What a WriteSnapshot or Scan reads is fixed; commits may go on."""

    id: int


class SnapshotWritten(msgspec.Struct, frozen=True, array_like=True, tag=325):
    """The snapshot is complete and verified against its position; it is not synced.

    The position is the one asked for; of an open replica it is where the replica was when it was pinned, which can be
    later, since the store learns of an apply after it happened.
    """

    id: int
    size_bytes: int
    checksum: int
    page_count: int
    epoch: int = 0
    txid: int = 0


class SnapshotInstalled(msgspec.Struct, frozen=True, array_like=True, tag=326):
    """The file is at the snapshot's position. `was_replaced`: by a new file, readers must open it again."""

    id: int
    database: str
    epoch: int
    txid: int
    checksum: int
    pages_written: int
    was_replaced: bool


class Redone(msgspec.Struct, frozen=True, array_like=True, tag=327):
    """File and log agree, at this position."""

    id: int
    database: str
    epoch: int
    txid: int
    checksum: int


class Scanned(msgspec.Struct, frozen=True, array_like=True, tag=328):
    """What is in the file. For an open replica `bad_pages` differ from what was applied, at the position given.

    For any other file epoch and txid are 0 and `bad_pages` is empty: the caller knows what to compare with.
    """

    id: int
    database: str
    checksum: int
    page_count: int
    bad_pages: tuple[int, ...]
    epoch: int
    txid: int


class JobDone(msgspec.Struct, frozen=True, array_like=True, tag=329):
    """Done, nothing to tell."""

    id: int


class JobFailed(msgspec.Struct, frozen=True, array_like=True, tag=330):
    """A request failed as a whole. Fields as in `pando.errors`; codes are in `APPLIER.md`."""

    id: int
    database: str
    code: str
    message: str
    retryable: bool = False


class Diverged(msgspec.Struct, frozen=True, array_like=True, tag=331):
    """Applying stopped at this position: the next entry does not fit, or the result was not the primary's.

    Nothing is applied until a snapshot was installed. `evidence` is the directory with what was kept.
    """

    database: str
    epoch: int
    txid: int
    checksum: int
    code: str
    reason: str
    evidence: str = ""
    bad_pages: tuple[int, ...] = ()


class ForeignWrite(msgspec.Struct, frozen=True, array_like=True, tag=332):
    """Another program wrote to a replica's file; `pages` (at most PAGES_NAMED_MAX) differ from what was applied.

    Nothing is applied until a snapshot was installed. The position is the one before the foreign write.
    """

    database: str
    pages: tuple[int, ...]
    epoch: int
    txid: int
    checksum: int


class ApplyStalled(msgspec.Struct, frozen=True, array_like=True, tag=333):
    """Applying waits for something outside: disk full, an I/O error, a foreign lock. It is tried again by itself."""

    database: str
    code: str
    reason: str


ApplierAnswer = (
    ReplicaOpened
    | Applied
    | SnapshotPinned
    | SnapshotWritten
    | SnapshotInstalled
    | Redone
    | Scanned
    | JobDone
    | JobFailed
    | Diverged
    | ForeignWrite
    | ApplyStalled
)


def position_of(
    message: Applied | Redone | ReplicaOpened | SnapshotInstalled | WriteSnapshot | InstallSnapshot,
) -> Position:
    """Give the position that a message carries."""
    return Position(epoch=Epoch(message.epoch), txid=TXID(message.txid), checksum=Checksum(message.checksum))
