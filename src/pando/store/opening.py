"""Opens a database on its primary: reads file and WAL, compares with the log, and makes all three equal.

The decision is `recovery.decide_recovery`; this is the shell around it. It runs while no other store has the directory
(its lock is held). The write connection is opened first, since only SQLite can say how much of the WAL is committed:
frames that a killed process wrote just before it could say so count when SQLite builds the WAL index anew, but not
while another process, a reader, has kept the index. Redoing the log is the applier's work. Not here: the writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import apsw

from pando import limits
from pando.errors import CorruptionError, InternalError, NotReady, invariant
from pando.store import applier_protocol as wire
from pando.store.capture import Step, checksum_of, encode_commit, grown_pages
from pando.store.checksums import PageChecksums
from pando.store.commitlog import CommitLog
from pando.store.context import StoreContext
from pando.store.files import FileSystem
from pando.store.rawfile import RawFile
from pando.store.recovery import Capture, Clean, Decision, NewHistory, Redo, decide_recovery
from pando.store.walscan import WalContent, read_all_commits, read_frame
from pando.types import EMPTY_CHECKSUM, TXID, Checksum, Epoch, Pgno, Position, lock_pgno
from pando.wal import WalCommit

_BUSY_WAIT_MS = 2000
_WAL_HEADER_BYTES = 32
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Opened:
    """A database whose file, WAL and log agree; the first frames of the WAL are part of that."""

    path: str
    raw: RawFile
    log: CommitLog
    checksums: PageChecksums
    decision: Decision
    wal: WalContent
    connection: apsw.Connection


@dataclass(slots=True)
class Scan:
    """Checksums of the file alone, the commits in the WAL, and the rolling checksum after each of them."""

    checksums: PageChecksums
    wal: WalContent
    states: list[Checksum]


Connect = Callable[[str], apsw.Connection]
"""Opens the write connection and reads once. Raises StorageError, CorruptionError."""


async def open_checked(name: str, context: StoreContext, connect: Connect) -> Opened:
    """Recover a database to one position. Raises CorruptionError or StorageError; nothing is changed then."""
    run = partial(asyncio.get_running_loop().run_in_executor, context.executor)
    path = str(context.layout.require(name))
    is_synced = False
    decision: Decision | None = None
    for _ in range(_TRIES):
        found = await run(_look, name, path, context, connect)
        decision = found.decision
        if isinstance(decision, Clean | Capture) or (isinstance(decision, NewHistory) and is_synced):
            return await run(_settle, context, found)
        await run(_let_go, found)
        if isinstance(decision, Redo):
            request = wire.Redo(context.applier.next_id(), name, path, str(context.layout.log(name)))
            await context.applier.ask(request, wire.Redone)
        elif isinstance(decision, NewHistory):
            await run(sync_files, context.fs, path)
            is_synced = True
    if isinstance(decision, Redo):
        raise CorruptionError(f"the log of {name!r} was redone, but its file is still not at the log's end")
    raise NotReady(f"another program keeps on writing or closing {name!r}; end it, or try again")


@dataclass(slots=True)
class _Found:
    """What is open while it is decided what to do; without a decision another program was in the way."""

    path: str
    raw: RawFile
    log: CommitLog
    connection: apsw.Connection | None = None
    scan: Scan | None = None
    decision: Decision | None = None


def _look(name: str, path: str, context: StoreContext, connect: Connect) -> _Found:
    """Open everything, read everything, and decide."""
    prepare_file(path, context.fs)
    log = CommitLog.open(context.layout.log(name), context.fs)
    try:
        found = _Found(path, RawFile(path), log)
    except BaseException:
        log.close()
        raise
    try:
        found.connection = connect(path)
        # The last program to close the file may have taken away the WAL that we had opened.
        if found.raw.is_current():
            found.scan = scan_database(found.raw)
        if found.scan is not None:
            found.decision = decide_recovery(log.last, found.scan.states, log.find_checksum)
    except BaseException:
        _let_go(found)
        raise
    return found


def _let_go(found: _Found) -> None:
    if found.connection is not None:
        found.connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
        found.connection.close()
    found.raw.close()
    found.log.close()


def prepare_file(path: str, fs: FileSystem) -> None:
    """Make an empty or rollback-journal file a WAL file, rolling a hot journal back. WAL files are left alone.

    Raises NotReady when another program has the file locked, CorruptionError when it is no database.
    """
    file = Path(path)
    header = b""
    if file.exists():
        with file.open("rb") as opened:  # closing it drops no lock: nobody in this process has the database open
            header = opened.read(100)
    journal = Path(path + "-journal")
    if len(header) < 20 or header[18] != 2 or (journal.exists() and journal.stat().st_size):
        _convert(path)
    else:
        _cut_unused(path, header, fs)


def _convert(path: str) -> None:
    connection = apsw.Connection(path)
    try:
        connection.set_busy_timeout(_BUSY_WAIT_MS)
        mode = connection.execute("PRAGMA journal_mode=WAL").get
    except apsw.BusyError as error:
        raise NotReady(f"another program has {path} locked; end it, or try again") from error
    except apsw.Error as error:
        raise CorruptionError(f"{path} cannot be opened as a SQLite database: {error}") from error
    finally:
        connection.close()
    if mode != "wal":
        raise CorruptionError(f"{path} cannot be put into WAL mode; it stays in {mode!r}")


def _cut_unused(path: str, header: bytes, fs: FileSystem) -> None:
    """Cut off what lies behind the pages that the header counts, if there is no WAL that knows better.

    Some programs make files grow in larger steps; SQLite ignores the rest, but would count it in its next commit.
    """
    wal = Path(path + "-wal")
    if header[24:28] != header[92:96] or (wal.exists() and wal.stat().st_size > _WAL_HEADER_BYTES):
        return
    size = int.from_bytes(header[16:18], "big")
    used = int.from_bytes(header[28:32], "big") * (65536 if size == 1 else size)
    if 0 < used < Path(path).stat().st_size:
        handle = fs.open_append(Path(path), create=False)
        try:
            handle.truncate(used)
            handle.fdatasync()
        finally:
            handle.close()


def scan_database(raw: RawFile) -> Scan | None:
    """Read the whole file and the part of its WAL that SQLite calls committed; None if that changes meanwhile.

    About 1 microsecond a page of 4 KiB from the page cache, and 30 a frame.
    """
    state = raw.read_state()
    raw.learn_page_size()
    checksums = PageChecksums()
    skip = lock_pgno(raw.page_size) if raw.page_size else 0
    pgno = 1
    while raw.page_size and (pages := raw.read_pages(pgno)):
        for data in pages:
            if pgno != skip:
                checksums.put(Pgno(pgno), checksum_of(Pgno(pgno), data))
            pgno += 1
    checksums.resize(pgno - 1)
    wal = read_all_commits(raw, state)
    if raw.read_state() != state:
        return None
    if state is not None and wal.frames < state.frames:
        raise CorruptionError(
            f"{raw.path}-wal: {state.frames} frames are committed, {wal.frames} are sound: {wal.reason}"
        )
    states = [checksums.rolling if checksums.page_count else EMPTY_CHECKSUM]
    replay = Replay(raw, checksums.copy())
    for commit in wal.commits:
        states.append(replay.apply(commit))
    return Scan(checksums, wal, states)


class Replay:
    """Page checksums as the commits of a WAL change them, one after the other."""

    def __init__(self, raw: RawFile, checksums: PageChecksums) -> None:
        self._raw = raw
        self._offsets: dict[Pgno, int] = {}
        self.checksums = checksums

    def apply(self, commit: WalCommit) -> Checksum:
        """Go on by one commit; gives the rolling checksum after it."""
        grown = grown_pages(self.checksums.page_count, commit.page_count, self._raw.page_size)
        self._offsets.update(commit.pages)
        wanted = {pgno for pgno in commit.pages if pgno <= commit.page_count}
        wanted.update(grown)  # readers see there what an older frame or the file holds, if this commit did not write it
        return self.checksums.update(((pgno, checksum_of(pgno, self.read(pgno))) for pgno in wanted), commit.page_count)

    def read(self, pgno: Pgno) -> bytes:
        """Give a page as readers see it after the last commit."""
        offset = self._offsets.get(pgno)
        return self._raw.read_page(pgno) if offset is None else read_frame(self._raw, offset)


def _settle(context: StoreContext, found: _Found) -> Opened:
    """Carry out Clean, Capture and NewHistory."""
    try:
        checksums = _make_equal(context, found)
    except BaseException:
        _let_go(found)
        raise
    connection, scan, decision = found.connection, found.scan, found.decision
    if connection is None or scan is None or decision is None:
        raise InternalError("recovery settles what it has decided")
    return Opened(found.path, found.raw, found.log, checksums, decision, scan.wal, connection)


def _make_equal(context: StoreContext, found: _Found) -> PageChecksums:
    """Make the log say what readers see; gives the page checksums of that state."""
    raw, log, scan, decision = found.raw, found.log, found.scan, found.decision
    if scan is None:
        raise InternalError("recovery settles what it has read")
    commits = scan.wal.commits
    cut = decision.after_commit if isinstance(decision, Capture) else len(commits)
    replay = Replay(raw, scan.checksums)
    for commit in commits[:cut]:
        replay.apply(commit)
    raw.page_count = replay.checksums.page_count
    if not isinstance(decision, NewHistory):
        context.state.raise_epoch(max(context.state.epoch, log.last.epoch))
    if isinstance(decision, Capture):
        _capture_rest(context, raw, log, replay, commits[cut:])
    elif isinstance(decision, NewHistory):
        _begin_history(context, log, replay.checksums)
    invariant(replay.checksums.rolling == scan.states[-1], "recovery ends with what readers see", path=raw.path)
    return replay.checksums


def _capture_rest(
    context: StoreContext, raw: RawFile, log: CommitLog, replay: Replay, commits: list[WalCommit]
) -> None:
    """Log the commits behind the log's end: as one entry, or if that would be too large as a new base."""
    page_count = commits[-1].page_count
    written = {pgno for commit in commits for pgno in commit.pages if pgno <= page_count}
    if len(written) * raw.page_size > limits.ENTRY_PAGES_BYTES_MAX:
        for commit in commits:
            replay.apply(commit)
        raw.page_count = page_count
        sync_files(context.fs, raw.path)
        log.reset(Position(epoch=context.state.epoch, txid=TXID(log.last.txid + 1), checksum=replay.checksums.rolling))
        return
    before = replay.checksums.copy()
    for commit in commits:
        replay.apply(commit)
    written.update(grown_pages(before.page_count, page_count, raw.page_size))
    replay.checksums.assign(before)
    step = Step(log.last, context.state.epoch, context.clock.wall_ms(), ("*",))
    pages = {pgno: replay.read(pgno) for pgno in written}
    log.append(encode_commit(pages, page_count, raw=raw, checksums=replay.checksums, step=step))
    log.sync()


def _begin_history(context: StoreContext, log: CommitLog, checksums: PageChecksums) -> None:
    """Begin a new history with what is there; it has been made durable before."""
    last = log.last
    if last.txid:
        context.state.raise_epoch(Epoch(max(context.state.epoch, last.epoch) + 1))
    log.reset(Position(epoch=context.state.epoch, txid=TXID(last.txid + 1), checksum=checksums.rolling))


def sync_files(fs: FileSystem, path: str) -> None:
    """Make file and WAL durable. Only while nobody in this process has the database open: see `rawfile`."""
    for suffix in ("", "-wal"):
        file = Path(path + suffix)
        if fs.exists(file):
            _sync(fs, file)
    fs.fsync_dir(Path(path).parent)


def sync_wal(fs: FileSystem, path: str) -> None:
    """Make the WAL durable. SQLite holds no locks on it, so it may be opened and closed at any time."""
    wal = Path(path + "-wal")
    _sync(fs, wal)
    fs.fsync_dir(wal.parent)


def _sync(fs: FileSystem, path: Path) -> None:
    handle = fs.open_append(path, create=False)
    try:
        handle.fdatasync()
    finally:
        handle.close()
