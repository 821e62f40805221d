"""Opens a database on its primary: reads file and WAL, compares with the log, and makes all three equal.

The decision is `recovery.decide_recovery`; this is the shell around it. It runs before SQLite opens the file for
writing, while no other store has the directory (its lock is held). Redoing the log is the applier's work. Not here:
the writer.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import apsw

from pando import limits
from pando.errors import CorruptionError, NotReady, invariant
from pando.store import applier_protocol as wire
from pando.store.capture import Step, checksum_of, encode_commit, grown_pages
from pando.store.checksums import PageChecksums
from pando.store.commitlog import CommitLog
from pando.store.context import StoreContext
from pando.store.files import FileSystem
from pando.store.rawfile import RawFile
from pando.store.recovery import Capture, Decision, NewHistory, Redo, decide_recovery
from pando.store.walscan import WalContent, read_all_commits, read_frame
from pando.types import EMPTY_CHECKSUM, TXID, Checksum, Epoch, Pgno, Position, lock_pgno
from pando.wal import WalCommit

_BUSY_WAIT_MS = 2000
_WAL_HEADER_BYTES = 32


@dataclass(frozen=True, slots=True)
class Opened:
    """A database whose file, WAL and log agree; the first frames of the WAL are part of that."""

    path: str
    raw: RawFile
    log: CommitLog
    checksums: PageChecksums
    decision: Decision
    wal: WalContent


@dataclass(slots=True)
class Scan:
    """Checksums of the file alone, the commits in the WAL, and the rolling checksum after each of them."""

    checksums: PageChecksums
    wal: WalContent
    states: list[Checksum]


async def open_checked(name: str, context: StoreContext) -> Opened:
    """Recover a database to one position. Raises CorruptionError or StorageError; nothing is changed then."""
    run = partial(asyncio.get_running_loop().run_in_executor, context.executor)
    for _ in range(2):
        path = str(context.layout.require(name))
        await run(prepare_file, path, context.fs)
        log = await run(CommitLog.open, context.layout.log(name), context.fs)
        raw = RawFile(path)
        try:
            scan = await run(scan_database, raw)
            decision = decide_recovery(log.last, scan.states, log.find_checksum)
            if not isinstance(decision, Redo):
                checksums = await run(_settle, context, raw, log, scan, decision)
                return Opened(path, raw, log, checksums, decision, scan.wal)
        except BaseException:
            raw.close()
            log.close()
            raise
        raw.close()
        log.close()
        request = wire.Redo(context.applier.next_id(), name, path, str(context.layout.log(name)))
        await context.applier.ask(request, wire.Redone)
    raise CorruptionError(f"the log of {name!r} was redone, but its file is still not at the log's end")


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


def scan_database(raw: RawFile) -> Scan:
    """Read the whole file and its WAL. About 1 microsecond a page of 4 KiB from the page cache."""
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
    wal = read_all_commits(raw)
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


def _settle(context: StoreContext, raw: RawFile, log: CommitLog, scan: Scan, decision: Decision) -> PageChecksums:
    """Carry out Clean, Capture and NewHistory; gives the page checksums of the state that readers see."""
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
        _begin_history(context, raw, log, replay.checksums)
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


def _begin_history(context: StoreContext, raw: RawFile, log: CommitLog, checksums: PageChecksums) -> None:
    """Begin a new history with what is there. It must be durable before the log says so."""
    last = log.last
    if last.txid:
        context.state.raise_epoch(Epoch(max(context.state.epoch, last.epoch) + 1))
    sync_files(context.fs, raw.path)
    log.reset(Position(epoch=context.state.epoch, txid=TXID(last.txid + 1), checksum=checksums.rolling))


def sync_files(fs: FileSystem, path: str) -> None:
    """Make WAL and file durable. Only while SQLite does not have the file open: see `sync_wal`."""
    _sync(fs, Path(path))
    sync_wal(fs, path)


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
