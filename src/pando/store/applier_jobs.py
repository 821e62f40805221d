"""What the store asks of the applier and takes longer than a moment: each request is a job, run in steps.

A job is a generator; the session steps it between applies. It ends with its answer, or with a PandoError that the
session turns into JobFailed. Not here: the loop, applying what the store pushed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pando.clock import Clock
from pando.errors import CorruptionError, NotReady
from pando.store import applier_protocol as wire
from pando.store.applier_protocol import PAGES_NAMED_MAX, position_of
from pando.store.checksums import PageChecksums
from pando.store.files import FileSystem
from pando.store.newfile import remove_database
from pando.store.pages import PageFile
from pando.store.replica import EntrySource, Publisher, Replica, ReplicaState
from pando.store.snapshots import install_snapshot_steps, scan_file_steps, write_snapshot_steps
from pando.store.steps import Steps
from pando.types import NO_POSITION, Position

if TYPE_CHECKING:
    from pando.store.positions import PositionTable

POSITION_UNKNOWN: Final = "POSITION_UNKNOWN"
"""Code of the failure that says the file's checksum is nowhere in its log."""


@dataclass(slots=True)
class Held:
    """A replica in the applier's hands, and what the store wants of it."""

    replica: Replica
    log_directory: Path
    log: EntrySource
    target: int = 0
    retry_at: float = 0.0
    stalled_code: str = ""
    is_busy: bool = False
    """A job works on it: nothing is applied meanwhile."""


@dataclass(slots=True, kw_only=True)
class Workshop:
    """What jobs share: the replicas held, and the world."""

    fs: FileSystem
    positions: PositionTable
    clock: Clock
    open_log: Callable[[Path], EntrySource]
    send: Callable[[Any], None]
    held: dict[str, Held] = field(default_factory=dict)

    def ready(self, database: str, path: str) -> Held | None:
        """Give a replica whose file is at its position right now; its path must be the one meant."""
        held = self.held.get(database)
        if held is None or held.is_busy or held.replica.path != path or held.replica.state is not ReplicaState.READY:
            return None
        return held

    def release(self, database: str) -> None:
        """Close a replica, if it is held."""
        held = self.held.pop(database, None)
        if held is not None:
            held.replica.close()
            held.log.close()


def open_steps(replica: Replica) -> Steps:
    """Open a replica's file; one that SQLite cannot read is left closed, as if it had no pages."""
    try:
        yield from replica.open_steps()
    except CorruptionError:
        replica.close_file()
        replica.checksums = PageChecksums()


def open_replica(shop: Workshop, request: wire.OpenReplica) -> Steps:
    """Open, find the place in the log, be ready to apply."""
    shop.release(request.database)
    replica = Replica(
        database=request.database,
        path=request.path,
        fs=shop.fs,
        publisher=Publisher(shop.positions, request.slot),
    )
    log_directory = Path(request.log_directory)
    held = Held(replica, log_directory, shop.open_log(log_directory), is_busy=True)
    shop.held[request.database] = held
    try:
        yield from open_steps(replica)
        place = held.log.find_checksum(replica.checksums.rolling)
    except BaseException:
        shop.release(request.database)
        raise
    if place is None:
        replica.state = ReplicaState.UNKNOWN
    else:
        replica.start_at(place)
    held.is_busy = False
    position = replica.position
    shop.send(
        wire.ReplicaOpened(
            id=request.id,
            database=request.database,
            is_known=place is not None,
            epoch=position.epoch,
            txid=position.txid,
            checksum=replica.checksums.rolling,
            page_size=replica.page_size,
            page_count=replica.checksums.page_count,
        )
    )


def write_snapshot(shop: Workshop, request: wire.WriteSnapshot) -> Steps:
    """Write a database as it is now to a file."""
    file = PageFile(request.path, read_only=True)
    try:
        file.pin()
        held = shop.ready(request.database, request.path)
        position = held.replica.position if held is not None else position_of(request)
        shop.send(wire.SnapshotPinned(request.id))
        yield
        written = yield from write_snapshot_steps(
            shop.fs,
            file,
            Path(request.out_path),
            position,
            timestamp_ms=request.timestamp_ms or shop.clock.wall_ms(),
        )
    finally:
        file.close()
    shop.send(
        wire.SnapshotWritten(
            id=request.id,
            size_bytes=written.size_bytes,
            checksum=position.checksum,
            page_count=written.page_count,
            epoch=position.epoch,
            txid=position.txid,
        )
    )


def install_snapshot(shop: Workshop, request: wire.InstallSnapshot) -> Steps:
    """Make a database equal to a snapshot; an open replica goes on from there."""
    held = shop.held.get(request.database)
    if held is None:
        replica = Replica(database=request.database, path=request.path, fs=shop.fs, publisher=None)
        try:
            yield from open_steps(replica)
            yield from _install(shop, replica, request)
        finally:
            replica.close()
        return
    if held.is_busy:
        raise NotReady(f"another request works on database {request.database!r}")
    held.is_busy = True
    try:
        held.replica.state = ReplicaState.UNKNOWN
        yield from _install(shop, held.replica, request)
        held.log.close()
        held.log = shop.open_log(held.log_directory)
        held.retry_at, held.stalled_code = 0.0, ""
    finally:
        held.is_busy = False


def _install(shop: Workshop, replica: Replica, request: wire.InstallSnapshot) -> Steps:
    position = position_of(request)
    done = yield from install_snapshot_steps(shop.fs, replica, Path(request.ltx_path), position)
    shop.send(
        wire.SnapshotInstalled(
            id=request.id,
            database=request.database,
            epoch=position.epoch,
            txid=position.txid,
            checksum=position.checksum,
            pages_written=done.pages_written,
            was_replaced=done.was_replaced,
        )
    )


def redo(shop: Workshop, request: wire.Redo) -> Steps:
    """Bring a closed file to the end of its log."""
    replica = Replica(database=request.database, path=request.path, fs=shop.fs, publisher=None)
    log = shop.open_log(Path(request.log_directory))
    try:
        yield from open_steps(replica)
        place = log.find_checksum(replica.checksums.rolling)
        if place is None:
            raise CorruptionError(
                f"the file's checksum {replica.checksums.rolling:016x} is nowhere in its log", code=POSITION_UNKNOWN
            )
        replica.start_at(place)
        end = log.last.txid
        while replica.position.txid < end:
            replica.require_lock()
            replica.apply_next(log, end)
            yield
        position = replica.position
    finally:
        replica.close()
        log.close()
    shop.send(wire.Redone(request.id, request.database, position.epoch, position.txid, position.checksum))


def scan(shop: Workshop, request: wire.Scan) -> Steps:
    """Read every page of a database as it is now."""
    if not shop.fs.exists(Path(request.path)) or shop.fs.stat(Path(request.path)).size == 0:
        shop.send(wire.SnapshotPinned(request.id))
        _send_scanned(shop, request, PageChecksums(), None, NO_POSITION)
        return
    file = PageFile(request.path, read_only=True)
    try:
        file.pin()
        held = shop.ready(request.database, request.path)
        believed = held.replica.checksums.copy() if held is not None else None
        position = held.replica.position if held is not None else NO_POSITION
        shop.send(wire.SnapshotPinned(request.id))
        yield
        table = yield from scan_file_steps(file)
    finally:
        file.close()
    _send_scanned(shop, request, table, believed, position)


def _send_scanned(
    shop: Workshop, request: wire.Scan, table: PageChecksums, believed: PageChecksums | None, position: Position
) -> None:
    bad = believed.differing(table, most=PAGES_NAMED_MAX) if believed is not None else []
    shop.send(
        wire.Scanned(
            id=request.id,
            database=request.database,
            checksum=table.rolling,
            page_count=table.page_count,
            bad_pages=tuple(bad),
            epoch=position.epoch,
            txid=position.txid,
        )
    )


def close_replica(shop: Workshop, request: wire.CloseReplica) -> Steps:
    """Let go of a replica."""
    shop.release(request.database)
    shop.send(wire.JobDone(request.id))
    return
    yield


def drop(shop: Workshop, request: wire.Drop) -> Steps:
    """Remove a database's files."""
    shop.release(request.database)
    remove_database(shop.fs, Path(request.path))
    shop.send(wire.JobDone(request.id))
    return
    yield


def checkpoint_replica(shop: Workshop, request: wire.CheckpointReplica) -> Steps:
    """Checkpoint now."""
    held = shop.held.get(request.database)
    if held is None or held.is_busy:
        raise NotReady(f"database {request.database!r} is not open as a replica, or busy")
    held.replica.checkpoint()
    shop.send(wire.JobDone(request.id))
    return
    yield


def inspect_foreign_write(shop: Workshop, held: Held) -> Steps:
    """After someone else wrote to a replica's file: name the pages that differ, and tell the store.

    When none does (it was a write without effect), applying goes on.
    """
    replica = held.replica
    held.is_busy = True
    try:
        believed = replica.checksums
        yield from replica.rescan_steps()
        bad = believed.differing(replica.checksums, most=PAGES_NAMED_MAX)
        if not bad:
            replica.start_at(replica.position)
            return
        replica.state = ReplicaState.UNKNOWN
    finally:
        held.is_busy = False
    position = replica.position
    shop.send(
        wire.ForeignWrite(
            database=replica.database,
            pages=tuple(bad),
            epoch=position.epoch,
            txid=position.txid,
            checksum=position.checksum,
        )
    )
