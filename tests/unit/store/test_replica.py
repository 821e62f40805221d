"""Applying entries to a file: equal pages at every position, whatever SQL made them."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest
import sqlean
from applier_world import SCHEMA, History, MemoryLog, Primary

from pando.errors import ChecksumMismatch, CorruptionError, LogCorruption, LtxError
from pando.ltx import normalise_page_one
from pando.store.apply import ENTRY_DOES_NOT_FOLLOW, LOG_GAP, plan_change
from pando.store.files import RealFileSystem
from pando.store.pages import CheckpointMode, PageFile
from pando.store.replica import Publisher, Replica, ReplicaState
from pando.store.steps import run_steps
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Pgno, lock_pgno


class SeenPositions:
    """A positions table that remembers what was published, in order."""

    def __init__(self) -> None:
        self.published: list[tuple[str, int]] = []

    def publish_tables(self, slot: int, txid: int, tables: tuple[str, ...]) -> None:
        self.published.append(("tables", txid))

    def publish_about(self, slot: int, txid: int) -> None:
        self.published.append(("about", txid))

    def publish_visible(self, slot: int, epoch: int, txid: int, checksum: int) -> None:
        self.published.append(("visible", txid))


def open_replica(path: Path, log: MemoryLog, positions: SeenPositions | None = None) -> Replica:
    publisher = Publisher(positions, 0) if positions is not None else None  # type: ignore[arg-type]
    replica = Replica(database="data", path=str(path), fs=RealFileSystem(), publisher=publisher)
    run_steps(replica.open_steps())
    place = log.find_checksum(replica.checksums.rolling)
    if place is not None:
        replica.start_at(place)
    else:
        replica.state = ReplicaState.UNKNOWN
    return replica


def pages_of(path: Path) -> dict[Pgno, bytes]:
    """What a reader of its own connection sees."""
    file = PageFile(str(path), read_only=True)
    lock = lock_pgno(file.page_size)
    pages = {Pgno(n): normalise_page_one(d) if n == 1 else d for n, d in file.read_pages() if n != lock}
    file.close()
    return pages


def integrity(path: Path) -> list[tuple[str]]:
    connection = sqlean.connect(str(path))
    found = connection.execute("PRAGMA integrity_check").fetchall()
    connection.close()
    return found


def grown_primary(path: Path, *, page_size: int, auto_vacuum: int, seed: int, commits: int) -> Primary:
    primary = Primary(path, page_size=page_size, auto_vacuum=auto_vacuum)
    primary.sql(SCHEMA)
    primary.capture()
    history = History(primary, seed)
    for _ in range(commits):
        history.step()
        primary.capture()
    return primary


@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
@pytest.mark.slow
def test_every_position_has_the_primarys_pages(tmp_path: Path, page_size: int, auto_vacuum: int) -> None:
    primary = grown_primary(
        tmp_path / "p.db", page_size=page_size, auto_vacuum=auto_vacuum, seed=page_size + auto_vacuum, commits=120
    )
    replica = open_replica(tmp_path / "r.db", primary.log)
    assert replica.position == NO_POSITION
    for entry in primary.log.entries:
        single = MemoryLog(replica.position)
        single.entries = [entry]
        assert replica.apply_next(single, single.last.txid) == entry.position
        assert pages_of(tmp_path / "r.db") == primary.states[entry.max_txid]
    replica.close()
    assert integrity(tmp_path / "r.db") == [("ok",)]
    primary.close()


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.slow
def test_merged_commits_lead_to_the_same_pages(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    page_size = chance.choice((512, 2048, 8192))
    primary = grown_primary(tmp_path / "p.db", page_size=page_size, auto_vacuum=seed % 3, seed=seed, commits=150)
    replica = open_replica(tmp_path / "r.db", primary.log)
    rest = list(primary.log.entries)
    while rest:
        part = MemoryLog(replica.position)
        size = chance.randrange(1, 20)
        part.entries, rest = rest[:size], rest[size:]
        while replica.position != part.last:
            replica.apply_next(part, part.last.txid)
            assert pages_of(tmp_path / "r.db") == primary.states[replica.position.txid]
        if chance.random() < 0.3:
            replica.checkpoint(chance.choice(list(CheckpointMode)))
            assert replica.state is ReplicaState.READY
        if chance.random() < 0.3:
            replica.close()
            replica = open_replica(tmp_path / "r.db", primary.log)
            assert replica.state is ReplicaState.READY
            assert replica.position == part.last
    replica.close()
    assert integrity(tmp_path / "r.db") == [("ok",)]
    primary.close()


def small_primary(tmp_path: Path, commits: int = 3, **how: int) -> Primary:
    primary = Primary(tmp_path / "p.db", **how)
    primary.sql("CREATE TABLE t(a)")
    primary.capture()
    for number in range(commits - 1):
        primary.sql("INSERT INTO t VALUES(zeroblob(?))", (3000 * (number + 1),))
        primary.capture()
    return primary


def test_positions_are_announced_before_and_confirmed_after(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    positions = SeenPositions()
    replica = open_replica(tmp_path / "r.db", primary.log, positions)
    for txid in (1, 2, 3):
        one = MemoryLog(replica.position)
        one.entries = [primary.log.entries[txid - 1]]
        positions.published.clear()
        replica.apply_next(one, one.last.txid)
        assert [said for said in positions.published if said[0] == "visible"][-1] == ("visible", txid)
        said = [positions.published.index((what, txid)) for what in ("tables", "about", "visible")]
        assert said == sorted(said)
    replica.close()


def test_a_wrong_checksum_leaves_the_file_as_it_was(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    replica = open_replica(tmp_path / "r.db", primary.log)
    good = MemoryLog()
    good.entries = primary.log.entries[:2]
    replica.apply_next(good, good.last.txid)
    before = replica.position
    wrong = Checksum(primary.log.entries[2].post_checksum ^ 1)
    entry = primary.log.entries[2]
    change = plan_change(before, replica.checksums.page_count, 4096, [entry])
    with pytest.raises(ChecksumMismatch):
        replica.apply(replace(change, after=replace(change.after, checksum=wrong)))
    assert replica.position == before
    assert pages_of(tmp_path / "r.db") == primary.states[TXID(2)]
    replica.apply_next(primary.log, primary.log.last.txid)
    assert pages_of(tmp_path / "r.db") == primary.states[TXID(3)]
    replica.close()


def test_entries_that_do_not_follow_are_refused(tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=4)
    one, two, three, _four = primary.log.entries
    at_one = one.position
    other_history = replace(at_one, checksum=Checksum(at_one.checksum ^ 2))
    newer_epoch = replace(at_one, epoch=Epoch(9))
    for position, entry in ((at_one, three), (NO_POSITION, two)):
        with pytest.raises(CorruptionError) as gap:
            plan_change(position, 2, 4096, [entry])
        assert gap.value.code == LOG_GAP
    for position, entry in ((three.position, three), (other_history, two), (newer_epoch, two)):
        with pytest.raises(ChecksumMismatch) as refused:
            plan_change(position, 2, 4096, [entry])
        assert refused.value.code == ENTRY_DOES_NOT_FOLLOW
    assert plan_change(replace(at_one, epoch=Epoch(0)), 2, 4096, [two]).after == two.position


def test_an_envelope_that_lies_about_its_file_is_refused(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    one, two, three = primary.log.entries
    with pytest.raises(LogCorruption):
        plan_change(one.position, 2, 4096, [msgspec.structs.replace(two, payload=three.payload)])
    with pytest.raises(LogCorruption):
        plan_change(one.position, 2, 4096, [msgspec.structs.replace(two, post_checksum=three.post_checksum)])
    with pytest.raises(LogCorruption):
        plan_change(one.position, 2, 8192, [two])
    with pytest.raises(LtxError):
        plan_change(one.position, 2, 4096, [msgspec.structs.replace(two, payload=two.payload[:-1])])


def test_an_entry_with_a_hole_in_its_growth_is_refused(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    last = primary.log.last
    count = max(primary.pages)
    entry = primary.entry_for([(Pgno(1), primary.pages[Pgno(1)]), (Pgno(count + 2), bytes(4096))], count + 2, 1)
    with pytest.raises(LtxError):
        plan_change(last, count, 4096, [entry])


def test_a_log_without_the_next_entry_is_an_error(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    replica = open_replica(tmp_path / "r.db", primary.log)
    replica.apply_next(primary.log, primary.log.last.txid)
    with pytest.raises(CorruptionError):
        replica.apply_next(primary.log, TXID(9))
    replica.close()


def foreign_write(path: Path, sql: str) -> None:
    """Another program (another process, another library) writes to the file; exit status 5: it is locked."""
    code = (
        "import apsw, sys\n"
        f"c = apsw.Connection({str(path)!r})\n"
        "try:\n"
        f"    c.execute({sql!r})\n"
        "except apsw.BusyError:\n"
        "    sys.exit(5)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.slow
def test_the_write_lock_is_held_between_applies(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    replica = open_replica(tmp_path / "r.db", primary.log)
    replica.apply_next(primary.log, primary.log.last.txid)
    with pytest.raises(subprocess.CalledProcessError) as refused:
        foreign_write(tmp_path / "r.db", "INSERT INTO t VALUES('foreign')")
    assert refused.value.returncode == 5
    assert pages_of(tmp_path / "r.db") == primary.states[TXID(3)]
    replica.close()


@pytest.mark.slow
def test_a_write_of_someone_else_is_noticed_when_the_lock_was_given_up(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    replica = open_replica(tmp_path / "r.db", primary.log)
    replica.apply_next(primary.log, primary.log.last.txid)
    file = replica.file
    assert file is not None
    file.release()
    foreign_write(tmp_path / "r.db", "INSERT INTO t VALUES('foreign')")
    assert replica.relock()
    assert replica.state is ReplicaState.FOREIGN
    believed = replica.checksums
    run_steps(replica.rescan_steps())
    now = pages_of(tmp_path / "r.db")
    changed = [pgno for pgno, data in now.items() if data != primary.pages.get(pgno)]
    assert changed
    assert believed.differing(replica.checksums) == changed
    replica.close()


def test_the_lock_of_someone_else_is_waited_for(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    replica = open_replica(tmp_path / "r.db", primary.log)
    replica.apply_next(primary.log, primary.log.last.txid)
    file = replica.file
    assert file is not None
    file.release()
    other = PageFile(str(tmp_path / "r.db"))
    other.lock()
    assert not replica.relock()
    other.release()
    assert replica.relock()
    assert replica.state is ReplicaState.READY
    other.close()
    replica.close()


@pytest.mark.parametrize("unparsable", ["CREATE TABLE x(a FROM THE FUTURE ((", "CREATE NOTHING"])
def test_a_schema_that_cannot_be_parsed_is_copied_all_the_same(tmp_path: Path, unparsable: str) -> None:
    primary = small_primary(tmp_path)
    primary.sql("CREATE TABLE x(a)")
    primary.sql("PRAGMA writable_schema=ON")
    primary.sql("UPDATE sqlite_schema SET sql = ? WHERE name = 'x'", (unparsable,))
    primary.capture()
    primary.sql("INSERT INTO t VALUES(1)")
    primary.capture()
    replica = open_replica(tmp_path / "r.db", primary.log)
    for entry in primary.log.entries:
        one = MemoryLog(replica.position)
        one.entries = [entry]
        replica.apply_next(one, one.last.txid)
    replica.close()
    again = open_replica(tmp_path / "r.db", primary.log)
    assert again.position == primary.log.last
    assert pages_of(tmp_path / "r.db") == primary.pages
    again.close()


def test_free_pages_do_not_move_when_the_old_state_says_vacuum(tmp_path: Path) -> None:
    """auto_vacuum FULL before, NONE with free pages after, in one merged apply: SQLite must not vacuum at COMMIT."""
    primary = Primary(tmp_path / "p.db", auto_vacuum=1)
    primary.sql("CREATE TABLE t(a)")
    primary.sql(
        "INSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i+1 FROM n WHERE i<99) "
        "SELECT zeroblob(3000) FROM n"
    )
    primary.capture()
    replica = open_replica(tmp_path / "r.db", primary.log)
    replica.apply_next(primary.log, primary.log.last.txid)
    primary.sql("PRAGMA auto_vacuum=NONE")
    primary.sql("VACUUM")
    primary.capture()
    primary.sql("DELETE FROM t WHERE rowid % 2")
    primary.capture()
    assert primary.sql("PRAGMA freelist_count") != [(0,)]
    replica.apply_next(primary.log, primary.log.last.txid)
    assert replica.position == primary.log.last
    assert pages_of(tmp_path / "r.db") == primary.pages
    for _ in range(3):
        primary.sql("DELETE FROM t WHERE rowid % 5 = 0")
        primary.sql("INSERT INTO t VALUES(zeroblob(9000))")
        primary.capture()
        replica.apply_next(primary.log, primary.log.last.txid)
        assert pages_of(tmp_path / "r.db") == primary.pages
    replica.close()


def test_a_size_that_auto_vacuum_cannot_end_at(tmp_path: Path) -> None:
    """From auto_vacuum FULL to NONE at 414 pages of 512 bytes: page 414 would be one of pointers."""
    primary = Primary(tmp_path / "p.db", page_size=512, auto_vacuum=1)
    primary.sql("CREATE TABLE t(a)")
    for _ in range(405):
        primary.sql("INSERT INTO t VALUES(zeroblob(440))")
    primary.capture()
    replica = open_replica(tmp_path / "r.db", primary.log)
    replica.apply_next(primary.log, primary.log.last.txid)
    primary.sql("PRAGMA auto_vacuum=NONE")
    primary.sql("VACUUM")
    assert primary.sql("PRAGMA page_count") == [(414,)]
    primary.capture()
    replica.apply_next(primary.log, primary.log.last.txid)
    assert pages_of(tmp_path / "r.db") == primary.pages
    replica.close()


def test_a_large_entry_is_decoded_while_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pando.store.apply.STREAMED_ENTRY_BYTES", 1000)
    primary = small_primary(tmp_path, commits=2)
    primary.sql("INSERT INTO t VALUES(randomblob(100000))")
    primary.capture()
    primary.sql("DELETE FROM t")
    primary.sql("VACUUM")
    primary.capture()
    replica = open_replica(tmp_path / "r.db", primary.log)
    while replica.position != primary.log.last:
        replica.apply_next(primary.log, primary.log.last.txid)
        assert pages_of(tmp_path / "r.db") == primary.states[replica.position.txid]
    broken = msgspec.structs.replace(primary.log.entries[2], payload=primary.log.entries[2].payload[:-30] + bytes(30))
    with pytest.raises(LtxError):
        list(plan_change(primary.log.entries[1].position, 2, 4096, [broken]).pages)
    replica.close()


def test_a_broken_streamed_entry_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pando.store.apply.STREAMED_ENTRY_BYTES", 1000)
    primary = small_primary(tmp_path, commits=2)
    replica = open_replica(tmp_path / "r.db", primary.log)
    while replica.position != primary.log.last:
        replica.apply_next(primary.log, primary.log.last.txid)
    primary.sql("INSERT INTO t VALUES(randomblob(100000))")
    entry = primary.capture()
    assert entry is not None
    cut = MemoryLog(replica.position)
    cut.entries = [msgspec.structs.replace(entry, payload=entry.payload[:-100])]
    with pytest.raises(LtxError):
        replica.apply_next(cut, cut.last.txid)
    assert list(replica.in_hand) == cut.entries
    assert pages_of(tmp_path / "r.db") == primary.states[TXID(2)]
    replica.apply_next(primary.log, primary.log.last.txid)
    assert pages_of(tmp_path / "r.db") == primary.pages
    replica.close()


def test_a_checkpoint_moves_the_wal_into_the_file_and_keeps_the_lock(tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=10)
    replica = open_replica(tmp_path / "r.db", primary.log)
    one = MemoryLog()
    one.entries = primary.log.entries[:1]
    replica.apply_next(one, one.last.txid)
    replica.apply_next(primary.log, primary.log.last.txid)
    assert (tmp_path / "r.db").stat().st_size < max(primary.pages) * 4096
    replica.checkpoint(CheckpointMode.TRUNCATE)
    assert (tmp_path / "r.db").stat().st_size == max(primary.pages) * 4096
    assert (tmp_path / "r.db-wal").stat().st_size == 0
    assert replica.file is not None
    assert replica.file.is_locked
    replica.close()


def test_a_file_of_unknown_content_is_not_applied_to(tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    other = Primary(tmp_path / "r.db")
    other.sql("CREATE TABLE mine(a)")
    other.close()
    replica = open_replica(tmp_path / "r.db", primary.log)
    assert replica.state is ReplicaState.UNKNOWN
    assert replica.position == NO_POSITION
    assert replica.checksums.page_count == 2
    replica.close()


def test_the_applier_never_loads_the_other_library() -> None:
    code = "import sys, pando.store.applier; sys.exit('apsw' in sys.modules or 'sqlite3' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
