"""A database past 1 GiB: the lock page is never read, sent or written, and the size crosses it both ways."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pando.ltx import LtxHeader, encode_ltx, normalise_page_one
from pando.store.apply import plan_change
from pando.store.checksums import PageChecksums
from pando.store.files import RealFileSystem
from pando.store.pages import PageFile
from pando.store.replica import Replica, scan_steps
from pando.store.segments import LogEntry
from pando.store.snapshots import install_snapshot_steps, write_snapshot_steps
from pando.store.steps import run_steps
from pando.types import TXID, Checksum, Epoch, Pgno, Position, lock_pgno

PAGE_SIZE = 65536
LOCK = lock_pgno(PAGE_SIZE)

pytestmark = [pytest.mark.full, pytest.mark.timeout(600)]


def run_sql(path: Path, *statements: str) -> None:
    """Write with the other library, in its own process."""
    code = (
        "import apsw, sys\n"
        "c = apsw.Connection(sys.argv[1])\n"
        "for s in sys.argv[2:]: c.execute(s).fetchall()\n"
        "c.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path), *statements], check=True)


def table_of(path: Path) -> PageChecksums:
    file = PageFile(str(path))
    file.pin()
    table = PageChecksums()
    run_steps(scan_steps(file, table))
    file.close()
    return table


def snapshot(path: Path, out: Path, position: Position) -> None:
    file = PageFile(str(path))
    file.pin()
    run_steps(write_snapshot_steps(RealFileSystem(), file, out, position, timestamp_ms=1))
    file.close()


def entry_between(path: Path, before: Position, old: PageChecksums, new: PageChecksums) -> LogEntry:
    changed = old.differing(new, most=100_000)
    file = PageFile(str(path))
    pages = []
    for pgno in changed:
        data = file.read_page(pgno)
        if data is not None and pgno <= new.page_count:
            pages.append((pgno, normalise_page_one(data) if pgno == 1 else data))
    file.close()
    txid = TXID(before.txid + 1)
    header = LtxHeader(
        page_size=PAGE_SIZE,
        commit=new.page_count,
        min_txid=txid,
        max_txid=txid,
        pre_apply_checksum=before.checksum,
    )
    return LogEntry(
        epoch=Epoch(1),
        min_txid=txid,
        max_txid=txid,
        pre_checksum=before.checksum,
        post_checksum=new.rolling,
        timestamp_ms=1,
        payload=encode_ltx(header, pages, new.rolling, previous_commit=old.page_count),
    )


def at(txid: int, table: PageChecksums) -> Position:
    return Position(epoch=Epoch(1), txid=TXID(txid), checksum=table.rolling)


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder that is emptied afterwards: what is in it is gigabytes."""
    yield tmp_path
    for path in tmp_path.iterdir():
        path.unlink()


def test_a_database_past_the_lock_page(folder: Path) -> None:
    primary, target, ltx = folder / "p.db", folder / "r.db", folder / "s.ltx"
    fs = RealFileSystem()
    run_sql(
        primary,
        f"PRAGMA page_size={PAGE_SIZE}",
        "PRAGMA journal_mode=WAL",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a)",
        "INSERT INTO t(a) VALUES(zeroblob(900000000))",
        "INSERT INTO t(a) VALUES(zeroblob(150000000))",
    )
    table = table_of(primary)
    assert table.page_count < LOCK
    snapshot(primary, ltx, at(5, table))
    replica = Replica(database="r", path=str(target), fs=fs, publisher=None)
    assert run_steps(install_snapshot_steps(fs, replica, ltx, at(5, table))).was_replaced

    def follow(txid: int, *statements: str) -> PageChecksums:
        run_sql(primary, *statements)
        new = table_of(primary)
        entry = entry_between(primary, replica.position, replica.checksums, new)
        replica.apply(plan_change(replica.position, replica.checksums.page_count, PAGE_SIZE, [entry]))
        assert replica.position == at(txid, new)
        return new

    grown = follow(6, "INSERT INTO t(a) VALUES(randomblob(90000000))", "INSERT INTO t(a) VALUES('small')")
    assert grown.page_count > LOCK
    assert grown.get(Pgno(LOCK)) == Checksum(0)
    assert table_of(target).differing(grown) == []

    snapshot(target, ltx, at(6, grown))  # a snapshot of a replica, past the lock page
    other = Replica(database="o", path=str(folder / "o.db"), fs=fs, publisher=None)
    run_steps(install_snapshot_steps(fs, other, ltx, at(6, grown)))
    assert table_of(folder / "o.db").differing(grown) == []

    shrunk = follow(7, "DELETE FROM t WHERE id > 1", "VACUUM")
    assert shrunk.page_count < LOCK
    assert table_of(target).differing(shrunk) == []
    snapshot(target, ltx, at(7, shrunk))
    run_steps(install_snapshot_steps(fs, other, ltx, at(7, shrunk)))
    assert table_of(folder / "o.db").differing(shrunk) == []

    regrown = follow(8, "INSERT INTO t(a) VALUES(zeroblob(300000000))")
    assert regrown.page_count > LOCK
    assert table_of(target).differing(regrown) == []
    snapshot(target, ltx, at(8, regrown))
    assert not run_steps(install_snapshot_steps(fs, other, ltx, at(8, regrown))).was_replaced
    assert table_of(folder / "o.db").differing(regrown) == []
    replica.close()
    other.close()
    code = "import apsw, sys; print(apsw.Connection(sys.argv[1]).execute('PRAGMA integrity_check').fetchall())"
    said = subprocess.run([sys.executable, "-c", code, str(target)], check=True, capture_output=True, text=True)
    assert said.stdout.strip() == "[('ok',)]"
