"""The applier as the store sees it: requests over a link, answers back; the session is turned by hand."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from applier_world import MemoryLog, Primary
from test_replica import SeenPositions, foreign_write, integrity, pages_of, small_primary

from pando import limits
from pando.errors import PandoError
from pando.ltx import LtxDecoder
from pando.store import applier_protocol as wire
from pando.store.applier_session import IDLE_CHECKPOINT_PAGES, Session
from pando.store.blocking_link import BlockingLink, LinkLost
from pando.store.files import RealFileSystem
from pando.store.link import make_decoder
from pando.testing.virtual_clock import VirtualClock
from pando.types import EMPTY_CHECKSUM, TXID, Checksum, Epoch, Position


class Desk:
    """The store's end of the link, and the session at the other end."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = VirtualClock()
        self.positions = SeenPositions()
        self.logs: dict[str, MemoryLog] = {}
        self.answers: list[Any] = []
        ours, theirs = socket.socketpair()
        self.link = BlockingLink(ours, make_decoder(wire.ApplierAnswer))
        self.session = Session(
            link=BlockingLink(theirs, make_decoder(wire.ApplierRequest)),
            alive_fd=None,
            directory=directory / "evidence",
            fs=RealFileSystem(),
            clock=self.clock,
            positions=self.positions,  # type: ignore[arg-type]
            open_log=lambda path: self.logs[path.name],
        )
        self._number = 0

    def close(self) -> None:
        self.session.close()
        self.session._link.close()
        self.link.close()

    def number(self) -> int:
        self._number += 1
        return self._number

    def say(self, *messages: Any) -> None:
        self.link.send(list(messages))

    def turn(self, turns: int = 1, *, is_idle: bool = False) -> list[Any]:
        found = []
        for _ in range(turns):
            self.session.turn(is_idle=is_idle)
            found += self.link.receive()
        self.answers += found
        return found

    def until(self, kind: type) -> Any:
        """Turn until an answer of this kind comes; bounded."""
        for _ in range(10_000):
            for answer in self.turn():
                if type(answer) is kind:
                    return answer
        raise AssertionError(f"no {kind.__name__} came, but {self.answers[-5:]}")

    def open(self, primary: Primary, name: str = "r", known: bool = True) -> wire.ReplicaOpened:
        self.logs.setdefault(name, primary.log)
        self.say(wire.OpenReplica(self.number(), name, str(self.directory / f"{name}.db"), name, 0, 1))
        opened = self.until(wire.ReplicaOpened)
        assert opened.is_known is known
        return opened

    def snapshot(self, primary: Primary, name: str = "s.ltx") -> Path:
        path = self.directory / name
        at = primary.log.last
        self.say(
            wire.WriteSnapshot(
                self.number(), "p", str(primary.path), str(path), at.epoch, at.txid, at.checksum, timestamp_ms=5
            )
        )
        self.until(wire.SnapshotWritten)
        return path

    def install(self, ltx: Path, at: Position, name: str = "r") -> wire.SnapshotInstalled:
        path = self.directory / f"{name}.db"
        self.say(wire.InstallSnapshot(self.number(), name, str(path), str(ltx), at.epoch, at.txid, at.checksum))
        return self.until(wire.SnapshotInstalled)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def test_a_new_replica_applies_the_whole_log(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=5)
    opened = desk.open(primary)
    assert (opened.txid, opened.checksum, opened.page_count) == (0, EMPTY_CHECKSUM, 0)
    desk.say(wire.ApplyTo("r", 5))
    applied = desk.until(wire.Applied)
    assert wire.position_of(applied) == primary.log.last
    assert pages_of(tmp_path / "r.db") == primary.pages


def test_a_live_commit_is_applied_in_one_turn(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    primary.sql("INSERT INTO t VALUES(1)")
    primary.capture()
    desk.say(wire.ApplyTo("r", 4))
    assert desk.turn() == [wire.Applied("r", 1, 4, primary.log.last.checksum)]
    assert desk.turn(3) == []


def test_apply_to_before_the_file_is_open_is_remembered(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    desk.logs["r"] = primary.log
    desk.say(
        wire.OpenReplica(1, "r", str(tmp_path / "r.db"), "r", 0, 1),
        wire.ApplyTo("r", 3),
        wire.ApplyTo("stranger", 3),
    )
    assert desk.until(wire.Applied).txid == 3
    assert type(desk.answers[0]) is wire.ReplicaOpened


def test_an_open_replica_is_found_at_its_place_again(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=4)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 2))
    desk.until(wire.Applied)
    desk.say(wire.CloseReplica(77, "r"))
    assert desk.until(wire.JobDone) == wire.JobDone(77)
    opened = desk.open(primary)
    assert wire.position_of(opened) in [entry.position for entry in primary.log.entries]
    assert opened.page_size == 4096


def test_a_mismatch_stops_the_database_keeps_evidence_and_heals_by_snapshot(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=3)
    log = MemoryLog()
    log.entries = primary.log.entries[:2]
    desk.logs["r"] = log
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 2))
    desk.until(wire.Applied)
    wrong = msgspec.structs.replace(primary.log.entries[2], pre_checksum=Checksum(7 | 1 << 63))
    log.entries.append(wrong)
    desk.say(wire.ApplyTo("r", 3))
    diverged = desk.until(wire.Diverged)
    assert diverged.txid == 2
    assert diverged.code == "ENTRY_DOES_NOT_FOLLOW"
    case = Path(diverged.evidence)
    assert case.parent == tmp_path / "evidence"
    report = msgspec.json.decode((case / "report.json").read_bytes())
    assert report["position"] == str(log.entries[1].position)
    assert (case / f"{3:016x}-{3:016x}.ltx").read_bytes() == wrong.payload
    assert pages_of(tmp_path / "r.db") == primary.states[TXID(2)]

    desk.say(wire.ApplyTo("r", 3))
    assert desk.turn(3) == []  # stopped
    ltx = desk.snapshot(primary)
    desk.logs["r"] = primary.log
    installed = desk.install(ltx, primary.log.last)
    assert not installed.was_replaced
    assert pages_of(tmp_path / "r.db") == primary.pages
    primary.sql("INSERT INTO t VALUES('goes on')")
    primary.capture()
    desk.say(wire.ApplyTo("r", 4))
    assert desk.until(wire.Applied).txid == 4
    assert pages_of(tmp_path / "r.db") == primary.pages


def test_a_damaged_page_is_named_when_the_next_commit_shows_it(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=3)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    held = desk.session._shop.held["r"]
    held.replica.checksums.put(2, Checksum(5 | 1 << 63))  # what was applied and what is in the file differ
    primary.sql("INSERT INTO t VALUES(1)")
    primary.capture()
    desk.say(wire.ApplyTo("r", 4))
    diverged = desk.until(wire.Diverged)
    assert diverged.code == "CHECKSUM_MISMATCH"
    assert diverged.bad_pages == (2,)


def test_a_gap_in_the_log_is_told(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=3)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    desk.say(wire.ApplyTo("r", 9))
    assert desk.until(wire.Diverged).code == "LOG_GAP"


@pytest.mark.slow
def test_a_foreign_write_is_told_with_its_pages_and_healed(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=3)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    file = desk.session._shop.held["r"].replica.file
    assert file is not None
    file.release()
    foreign_write(tmp_path / "r.db", "CREATE TABLE foreign_table(a)")
    before = pages_of(tmp_path / "r.db")
    differing = [n for n in before if before[n] != primary.pages.get(n)]
    desk.say(wire.ApplyTo("r", 3))
    foreign = desk.until(wire.ForeignWrite)
    assert sorted(foreign.pages) == sorted(differing)
    assert foreign.txid == 3
    assert not any(isinstance(answer, (wire.Diverged, wire.ForeignWrite)) for answer in desk.turn(5))
    primary.sql("INSERT INTO t VALUES(1)")
    primary.capture()
    desk.say(wire.ApplyTo("r", 4))
    assert desk.turn(5) == []
    assert pages_of(tmp_path / "r.db") == before
    desk.install(desk.snapshot(primary), primary.log.last)
    assert pages_of(tmp_path / "r.db") == primary.pages
    desk.say(wire.ApplyTo("r", 4))
    assert desk.turn(3) == []


@pytest.mark.slow
def test_a_foreign_lock_stalls_and_goes_on(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=3)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 1))
    desk.until(wire.Applied)
    primary.sql("INSERT INTO t VALUES(1)")
    primary.capture()
    file = desk.session._shop.held["r"].replica.file
    assert file is not None
    file.release()
    code = (
        "import apsw, sys\n"
        f"c = apsw.Connection({str(tmp_path / 'r.db')!r})\n"
        "c.execute('BEGIN IMMEDIATE')\nprint('held', flush=True)\nsys.stdin.read(1)\nc.execute('ROLLBACK')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == b"held\n"
        desk.say(wire.ApplyTo("r", 4))
        assert [type(answer) for answer in desk.turn(3)] == [wire.ApplyStalled]
        other.communicate(b"x")
    assert desk.turn(3) == []
    desk.clock.advance(1)
    assert desk.until(wire.Applied).txid == 4


def test_a_snapshot_is_pinned_before_it_is_written(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=20)
    at, pages = primary.log.last, primary.pages
    path = tmp_path / "s.ltx"
    desk.say(wire.WriteSnapshot(9, "p", str(primary.path), str(path), at.epoch, at.txid, at.checksum, 5))
    assert desk.turn() == [wire.SnapshotPinned(9)]
    primary.sql("DELETE FROM t")
    written = desk.until(wire.SnapshotWritten)
    assert written.checksum == at.checksum
    assert written.size_bytes == path.stat().st_size
    with path.open("rb") as file:
        decoder = LtxDecoder(file.read)
        assert dict(decoder) == pages
    assert (decoder.header.min_txid, decoder.header.max_txid, decoder.header.timestamp_ms) == (1, 20, 5)
    primary.capture()
    wrong = primary.log.last
    desk.say(wire.WriteSnapshot(10, "p", str(primary.path), str(path), 1, wrong.txid, at.checksum, 5))
    assert desk.until(wire.JobFailed).code == "CHECKSUM_MISMATCH"
    assert not path.exists()


@pytest.mark.parametrize("page_size", [512, 65536])
def test_a_snapshot_of_another_page_size_replaces_the_file(desk: Desk, tmp_path: Path, page_size: int) -> None:
    small = small_primary(tmp_path)
    desk.open(small)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    (tmp_path / "other").mkdir()
    primary = small_primary(tmp_path / "other", commits=7, page_size=page_size)
    ltx = desk.snapshot(primary)
    desk.logs["r"] = primary.log
    assert desk.install(ltx, primary.log.last).was_replaced
    assert pages_of(tmp_path / "r.db") == primary.pages
    primary.sql("INSERT INTO t VALUES(1)")
    primary.capture()
    desk.say(wire.ApplyTo("r", 8))
    assert desk.until(wire.Applied).txid == 8
    assert pages_of(tmp_path / "r.db") == primary.pages


def test_only_differing_pages_are_written_over_a_database(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=30)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 30))
    desk.until(wire.Applied)
    primary.sql("INSERT INTO t VALUES('one more')")
    primary.capture()
    installed = desk.install(desk.snapshot(primary), primary.log.last)
    assert not installed.was_replaced
    assert 1 <= installed.pages_written <= 4
    assert pages_of(tmp_path / "r.db") == primary.pages
    primary.sql("DELETE FROM t WHERE rowid > 3")
    primary.sql("VACUUM")
    primary.capture()
    desk.install(desk.snapshot(primary), primary.log.last)
    assert pages_of(tmp_path / "r.db") == primary.pages
    desk.say(wire.CloseReplica(99, "r"))
    desk.until(wire.JobDone)
    assert integrity(tmp_path / "r.db") == [("ok",)]


@pytest.mark.parametrize("cut", [50, 3000, -1])
def test_a_broken_snapshot_leaves_the_file_as_it_was(desk: Desk, tmp_path: Path, cut: int) -> None:
    primary = small_primary(tmp_path, commits=5)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 5))
    desk.until(wire.Applied)
    before = primary.pages
    primary.sql("INSERT INTO t VALUES(randomblob(50000))")
    primary.capture()
    ltx = desk.snapshot(primary)
    ltx.write_bytes(ltx.read_bytes()[:cut])
    at = primary.log.last
    desk.say(wire.InstallSnapshot(50, "r", str(tmp_path / "r.db"), str(ltx), at.epoch, at.txid, at.checksum))
    assert desk.until(wire.JobFailed).id == 50
    assert pages_of(tmp_path / "r.db") == before
    desk.say(wire.InstallSnapshot(51, "n", str(tmp_path / "n.db"), str(ltx), at.epoch, at.txid, at.checksum))
    assert desk.until(wire.JobFailed).id == 51
    assert not list(tmp_path.glob("n.db*"))


def test_a_snapshot_at_another_position_than_asked_is_refused(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=5)
    ltx = desk.snapshot(primary)
    at = primary.log.last
    for txid, checksum in ((at.txid + 1, at.checksum), (at.txid, at.checksum ^ 1)):
        desk.say(wire.InstallSnapshot(60, "n", str(tmp_path / "n.db"), str(ltx), 1, txid, checksum))
        desk.until(wire.JobFailed)
    assert not list(tmp_path.glob("n.db*"))
    assert desk.install(ltx, at, "n").was_replaced
    assert pages_of(tmp_path / "n.db") == primary.pages


def test_a_file_that_is_no_database_is_replaced(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    (tmp_path / "r.db").write_bytes(b"this is no database" * 1000)
    (tmp_path / "r.db-wal").write_bytes(b"nor is this a WAL" * 1000)
    opened = desk.open(primary, known=True)  # as if there were no file: the log begins at nothing
    assert opened.page_count == 0
    desk.install(desk.snapshot(primary), primary.log.last)
    assert pages_of(tmp_path / "r.db") == primary.pages


def test_redo_brings_a_closed_file_to_the_end_of_its_log(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=10)
    early = MemoryLog()
    early.entries = primary.log.entries[:4]
    desk.logs["early"], desk.logs["whole"] = early, primary.log
    path = str(tmp_path / "f.db")
    desk.say(wire.Redo(1, "f", path, "early"))
    assert desk.until(wire.Redone).txid == 4
    desk.say(wire.Redo(2, "f", path, "whole"))
    assert wire.position_of(desk.until(wire.Redone)) == primary.log.last
    assert pages_of(tmp_path / "f.db") == primary.pages
    desk.logs["early"] = early
    desk.say(wire.Redo(3, "f", path, "early"))
    failed = desk.until(wire.JobFailed)
    assert (failed.id, failed.code) == (3, "POSITION_UNKNOWN")


def test_a_scan_finds_the_pages_that_differ(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=4)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 4))
    desk.until(wire.Applied)
    desk.say(wire.Scan(5, "r", str(tmp_path / "r.db")))
    scanned = desk.until(wire.Scanned)
    assert (scanned.checksum, scanned.bad_pages, scanned.txid) == (primary.log.last.checksum, (), 4)
    assert scanned.page_count == len(primary.pages)
    desk.session._shop.held["r"].replica.checksums.put(3, Checksum(1 << 63))
    desk.say(wire.Scan(6, "r", str(tmp_path / "r.db")))
    assert desk.until(wire.Scanned).bad_pages == (3,)
    desk.say(wire.Scan(7, "p", str(primary.path)))
    scanned = desk.until(wire.Scanned)
    assert (scanned.checksum, scanned.txid) == (primary.log.last.checksum, 0)
    desk.say(wire.Scan(8, "nobody", str(tmp_path / "nobody.db")))
    assert desk.until(wire.Scanned).checksum == EMPTY_CHECKSUM


def test_a_cancelled_job_is_answered_and_leaves_nothing(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=4)
    at = primary.log.last
    path = tmp_path / "s.ltx"
    desk.say(wire.WriteSnapshot(9, "p", str(primary.path), str(path), at.epoch, at.txid, at.checksum, 5))
    desk.turn()
    desk.say(wire.CancelJob(9), wire.CancelJob(1234))
    failed = desk.until(wire.JobFailed)
    assert (failed.id, failed.code) == (9, "CANCELLED")
    assert not path.exists()


def test_drop_removes_every_file(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    desk.say(wire.Drop(8, "r", str(tmp_path / "r.db")), wire.Drop(9, "r", str(tmp_path / "r.db")))
    desk.until(wire.JobDone)
    assert not list(tmp_path.glob("r.db*"))


def test_a_missing_file_for_a_snapshot_is_told(desk: Desk, tmp_path: Path) -> None:
    desk.say(wire.WriteSnapshot(9, "p", str(tmp_path / "none.db"), str(tmp_path / "s.ltx"), 1, 1, 1 << 63))
    failed = desk.until(wire.JobFailed)
    assert (failed.id, failed.code) == (9, "STORAGE_ERROR")


def test_an_idle_moment_is_used_for_a_checkpoint(desk: Desk, tmp_path: Path) -> None:
    primary = Primary(tmp_path / "p.db", page_size=512)
    primary.sql("CREATE TABLE t(a)")
    primary.capture()
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 1))
    desk.until(wire.Applied)
    primary.sql("INSERT INTO t VALUES(randomblob(?))", (512 * IDLE_CHECKPOINT_PAGES,))
    primary.capture()
    desk.say(wire.ApplyTo("r", 2))
    desk.until(wire.Applied)
    size = (tmp_path / "r.db").stat().st_size
    assert desk.session._wait_ms() is not None
    desk.turn(is_idle=True)
    assert (tmp_path / "r.db").stat().st_size > size
    assert desk.session._wait_ms() is None


def test_a_long_wal_is_moved_and_begun_anew(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "WAL_PAGES_CHECKPOINT", 50)
    monkeypatch.setattr(limits, "WAL_PAGES_RESTART", 100)
    monkeypatch.setattr("pando.store.applier_session.IDLE_CHECKPOINT_PAGES", 10)
    primary = small_primary(tmp_path, page_size=512)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    sizes = []
    for number in range(30):
        primary.sql("INSERT INTO t VALUES(randomblob(5000))")
        primary.capture()
        desk.say(wire.ApplyTo("r", 4 + number))
        desk.until(wire.Applied)
        sizes.append((tmp_path / "r.db-wal").stat().st_size)
    assert max(sizes) < 200 * 536
    assert pages_of(tmp_path / "r.db") == primary.pages


def test_the_end_of_the_link_is_told(desk: Desk) -> None:
    desk.link.close()
    with pytest.raises(LinkLost):
        desk.session.turn(is_idle=False)


def test_a_frame_that_is_garbage_ends_the_link(desk: Desk) -> None:
    desk.link._socket.sendall(b"\0\0\0\5hello")
    with pytest.raises(PandoError):
        desk.session.turn(is_idle=False)


def test_positions_of_messages() -> None:
    at = Position(epoch=Epoch(3), txid=TXID(4), checksum=Checksum(5 | 1 << 63))
    assert wire.position_of(wire.Applied("d", at.epoch, at.txid, at.checksum)) == at


def test_a_full_disk_stalls_until_there_is_room(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    file = desk.session._shop.held["r"].replica.file
    assert file is not None
    file._cursor.execute("PRAGMA max_page_count=1").fetchall()  # SQLite answers SQLITE_FULL to growth
    primary.sql("INSERT INTO t VALUES(randomblob(50000))")
    primary.capture()
    desk.say(wire.ApplyTo("r", 4))
    stalled = desk.until(wire.ApplyStalled)
    assert stalled.code == "STORAGE_FULL"
    assert pages_of(tmp_path / "r.db") == primary.states[TXID(3)]
    desk.clock.advance(1)
    assert desk.turn(3) == []  # tried again, told once
    file._cursor.execute("PRAGMA max_page_count=100000").fetchall()
    desk.clock.advance(1)
    assert desk.until(wire.Applied).txid == 4
    assert pages_of(tmp_path / "r.db") == primary.pages


def test_a_snapshot_of_a_replica_is_at_the_replicas_own_position(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path, commits=4)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 4))
    desk.until(wire.Applied)
    early = primary.log.entries[1].position
    out = tmp_path / "s.ltx"
    path = str(tmp_path / "r.db")
    desk.say(wire.WriteSnapshot(5, "r", path, str(out), early.epoch, early.txid, early.checksum, 5))
    written = desk.until(wire.SnapshotWritten)
    assert (written.epoch, written.txid, written.checksum) == (1, 4, primary.log.last.checksum)
    with out.open("rb") as file:
        assert LtxDecoder(file.read).header.max_txid == 4


@pytest.mark.slow
def test_applies_go_on_between_the_slices_of_a_snapshot(desk: Desk, tmp_path: Path) -> None:
    primary = small_primary(tmp_path)
    desk.open(primary)
    desk.say(wire.ApplyTo("r", 3))
    desk.until(wire.Applied)
    (tmp_path / "big").mkdir()
    big = Primary(tmp_path / "big" / "p.db")
    big.sql("CREATE TABLE t(a)")
    big.sql("INSERT INTO t VALUES(randomblob(6000000))")
    big.capture()
    at = big.log.last
    desk.say(wire.WriteSnapshot(5, "b", str(big.path), str(tmp_path / "s.ltx"), at.epoch, at.txid, at.checksum, 5))
    desk.turn()
    for txid in (4, 5, 6):
        primary.sql("INSERT INTO t VALUES(1)")
        primary.capture()
        desk.say(wire.ApplyTo("r", txid))
        assert [answer.txid for answer in desk.turn() if isinstance(answer, wire.Applied)] == [txid]
    desk.until(wire.SnapshotWritten)
