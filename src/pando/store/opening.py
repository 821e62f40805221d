"""Opens a database on its primary: reads file and WAL, compares with the log, and makes all three equal.

The decision is `recovery.decide_recovery`; this is the shell around it. It runs before SQLite opens the file for writing, while no other
store has the directory (its lock is held). Redoing the log is the applier's work. Not here: the writer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, replace

import apsw

from pando.errors import CorruptionError, invariant
from pando.ltx import normalise_page_one, page_checksum
from pando.store import applier_protocol as wire
from pando.store.capture import encode_commit
from pando.store.checksums import PageChecksums
from pando.store.commitlog import CommitLog
from pando.store.context import StoreContext
from pando.store.rawfile import RawFile
from pando.store.recovery import Capture, Clean, Decision, NewHistory, Redo, decide_recovery
from pando.store.walscan import WalCommit, read_all_commits
from pando.types import EMPTY_CHECKSUM, TXID, Checksum, Epoch, Pgno, Position, lock_pgno


@dataclass(frozen=True, slots=True)
class Opened:
    """A database whose file, WAL and log agree."""

    path: str
    raw: RawFile
    log: CommitLog
    checksums: PageChecksums
    decision: Decision


@dataclass(slots=True)
class Scan:
    """Checksums of the file alone, the commits in the WAL, and the rolling checksum after each of them."""

    checksums: PageChecksums
    commits: list[WalCommit]
    states: list[Checksum]


async def open_checked(name: str, context: StoreContext) -> Opened:
    """Recover a database to one position. Raises CorruptionError or StorageError; nothing is changed then."""
    run = asyncio.get_running_loop().run_in_executor
    for _ in range(2):
        path = str(context.layout.require(name))
        await run(context.executor, prepare_file, path)
        log = await run(context.executor, CommitLog.open, context.layout.log(name), context.fs)
        raw = RawFile(path)
        try:
            scan = await run(context.executor, scan_database, raw)
            decision = decide_recovery(log.last, scan.states, _finder(log))
            if not isinstance(decision, Redo):
                checksums = await run(context.executor, _settle, context, raw, log, scan, decision)
                return Opened(path, raw, log, checksums, decision)
        except BaseException:
            raw.close()
            log.close()
            raise
        raw.close()
        log.close()
        request = wire.Redo(context.applier.next_id(), name, path, str(context.layout.log(name)))
        await context.applier.ask(request, wire.Redone)
    raise CorruptionError(f"the log of {name!r} was redone, but its file is still not at the log's end")


def prepare_file(path: str) -> None:
    """Make an empty or rollback-journal file a WAL file, rolling a hot journal back. WAL files are left alone."""
    raw = RawFile(path)
    header = raw.read_header()
    is_wal = len(header) >= 20 and header[18] == 2
    raw.close()
    if is_wal:
        return
    connection = apsw.Connection(path)
    try:
        connection.set_busy_timeout(2000)
        connection.execute("PRAGMA journal_mode=WAL")
    except apsw.Error as error:
        raise CorruptionError(f"{path} cannot be opened as a SQLite database: {error}") from error
    finally:
        connection.close()


def scan_database(raw: RawFile) -> Scan:
    """Read the whole file and its WAL. About 1 microsecond a page of 4 KiB from the page cache."""
    raw.learn_page_size()
    checksums = PageChecksums()
    skip = lock_pgno(raw.page_size) if raw.page_size else 0
    pgno = 1
    while raw.page_size and (pages := raw.read_pages(pgno)):
        for data in pages:
            if pgno == 1:
                data = normalise_page_one(data)
            if pgno != skip:
                checksums.put(Pgno(pgno), page_checksum(Pgno(pgno), data))
            pgno += 1
    checksums.resize(pgno - 1)
    commits = read_all_commits(raw)
    states = [checksums.rolling if checksums.page_count else EMPTY_CHECKSUM]
    moving = checksums.copy()
    for commit in commits:
        states.append(apply_commit(moving, commit, raw))
    return Scan(checksums, commits, states)


def apply_commit(checksums: PageChecksums, commit: WalCommit, raw: RawFile) -> Checksum:
    """Update the table with one commit of the WAL."""
    return checksums.update(
        [(pgno, page_checksum(pgno, data)) for pgno, data in commit.pages(raw).items()], commit.page_count
    )


def _finder(log: CommitLog) -> Callable[[Checksum], Position | None]:
    def find(checksum: Checksum) -> Position | None:
        return log.find_checksum(checksum)

    return find


def _settle(context: StoreContext, raw: RawFile, log: CommitLog, scan: Scan, decision: Decision) -> PageChecksums:
    """Carry out Clean, Capture and NewHistory; gives the page checksums of the state that readers see."""
    checksums = scan.checksums
    cut = decision.after_commit if isinstance(decision, Capture) else len(scan.commits)
    for commit in scan.commits[:cut]:
        apply_commit(checksums, commit, raw)
    raw.page_count = checksums.page_count
    if isinstance(decision, Capture):
        _capture_rest(context, raw, log, checksums, scan.commits[cut:])
    elif isinstance(decision, NewHistory):
        _begin_history(context, log, checksums)
    elif isinstance(decision, Clean):
        context.state.raise_epoch(max(context.state.epoch, log.last.epoch))
    invariant(checksums.rolling == scan.states[-1], "recovery ends with what readers see", path=raw.path)
    return checksums


def _capture_rest(
    context: StoreContext, raw: RawFile, log: CommitLog, checksums: PageChecksums, commits: list[WalCommit]
) -> None:
    pages: dict[Pgno, bytes] = {}
    for commit in commits:
        pages.update(commit.pages(raw))
    epoch = Epoch(max(context.state.epoch, log.last.epoch))
    entry = encode_commit(
        pages,
        page_count=commits[-1].page_count,
        raw=raw,
        checksums=checksums,
        previous=log.last,
        epoch=epoch,
        timestamp_ms=context.clock.wall_ms(),
        tables=("*",),
    )
    log.append(entry)
    log.sync()


def _begin_history(context: StoreContext, log: CommitLog, checksums: PageChecksums) -> None:
    last = log.last
    if last.txid:
        context.state.raise_epoch(Epoch(max(context.state.epoch, last.epoch) + 1))
    log.reset(replace(last, epoch=context.state.epoch, txid=TXID(last.txid + 1), checksum=checksums.rolling))
