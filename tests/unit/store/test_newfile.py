"""A file is built beside its place and takes it whole, whatever fails and whenever the power goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from pando.errors import InvariantError
from pando.ltx import rolling_checksum
from pando.store.checksums import PageChecksums
from pando.store.evidence import CASES_MAX, save_evidence
from pando.store.files import FileSystem, RealFileSystem, make_directories
from pando.store.newfile import build_steps, move_into_place, remove_database
from pando.store.segments import LogEntry
from pando.store.steps import in_background, run_steps
from pando.testing.faults import FaultyFileSystem, for_each_fault, for_each_power_loss
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Pgno

PATH = Path("/d/r.db")
SIZE = 65536
PAGES = [(Pgno(n), bytes([n]) * SIZE) for n in range(1, 8)]
NEW = b"".join(data for _, data in PAGES)
OLD = {"r.db": b"old" * 100, "r.db-wal": b"old wal", "r.db-shm": b"old shm"}


def prepare(fs: FileSystem) -> None:
    make_directories(fs, PATH.parent)
    for name, content in OLD.items():
        handle = fs.open_append(PATH.parent / name)
        handle.write(content)
        handle.fdatasync()
        handle.close()
    fs.fsync_dir(PATH.parent)


def replace_file(fs: FileSystem) -> None:
    table = PageChecksums()
    built = run_steps(build_steps(fs, PATH, SIZE, len(PAGES), PAGES, table))
    assert table.rolling == rolling_checksum(PAGES, SIZE)
    move_into_place(fs, built, PATH)


def names_and_main(fs: FaultyFileSystem) -> tuple[set[str], bytes | None]:
    names = set(fs.listdir(PATH.parent)) if fs.exists(PATH.parent) else set()
    return names, fs.content(PATH) if "r.db" in names else None


def check_never_mixed(fs: FaultyFileSystem) -> None:
    names, main = names_and_main(fs)
    assert main in (None, OLD["r.db"], NEW) or not main or OLD["r.db"].startswith(main)
    if main == NEW:
        assert not names & {"r.db-wal", "r.db-shm"}, "a WAL met another file"


def test_every_fault_leaves_the_old_the_new_or_nothing() -> None:
    def scenario(fs: FaultyFileSystem) -> None:
        prepare(fs)
        replace_file(fs)

    assert for_each_fault(scenario, check_never_mixed) > 40


def test_every_loss_of_power_leaves_the_old_the_new_or_nothing() -> None:
    finished = []

    def scenario(fs: FaultyFileSystem) -> None:
        finished.clear()
        prepare(fs)
        replace_file(fs)
        finished.append(True)

    def check(fs: FaultyFileSystem) -> None:
        check_never_mixed(fs)
        if finished:
            assert names_and_main(fs) == ({"r.db"}, NEW)

    assert for_each_power_loss(scenario, check) > 40


def test_pages_must_be_whole_and_in_order() -> None:
    fs = FaultyFileSystem()
    make_directories(fs, PATH.parent)
    for pages in (PAGES[1:], PAGES[:-1], [*PAGES[:3], *PAGES[4:]]):
        with pytest.raises(InvariantError):
            run_steps(build_steps(fs, PATH, SIZE, len(PAGES), pages, PageChecksums()))
        assert fs.listdir(PATH.parent) == []


def test_a_database_is_removed_with_what_is_beside_it(tmp_path: Path) -> None:
    fs = RealFileSystem()
    for suffix in ("", "-wal", "-shm", "-journal", ".tmp"):
        (tmp_path / f"r.db{suffix}").write_bytes(b"x")
    remove_database(fs, tmp_path / "r.db")
    remove_database(fs, tmp_path / "r.db")
    assert [path.name for path in tmp_path.iterdir()] == ["r.db.tmp"]


def entry(txid: int, payload: bytes) -> LogEntry:
    return LogEntry(
        epoch=Epoch(1),
        min_txid=TXID(txid),
        max_txid=TXID(txid),
        pre_checksum=Checksum(1 << 63),
        post_checksum=Checksum(1 << 63),
        timestamp_ms=0,
        payload=payload,
    )


def keep(fs: FileSystem, wall_ms: int, entries: list[LogEntry]) -> str:
    return save_evidence(
        fs,
        Path("/d/evidence"),
        database="r",
        wall_ms=wall_ms,
        reason="because",
        position=NO_POSITION,
        bad_pages=[3],
        entries=entries,
    )


def test_evidence_is_bounded_and_never_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pando.store.evidence.EVIDENCE_BYTES_MAX", 100)
    fs = FaultyFileSystem()
    make_directories(fs, Path("/d"))
    first = keep(fs, 1, [entry(1, b"a" * 60), entry(2, b"b" * 60)])
    assert fs.listdir(Path(first)) == [f"{1:016x}-{1:016x}.ltx", "report.json"]
    for number in range(2, CASES_MAX + 1):
        assert keep(fs, number, [])
    assert keep(fs, CASES_MAX + 1, []) == ""

    def scenario(fs: FaultyFileSystem) -> None:
        keep(fs, 1, [entry(1, b"a")])

    assert for_each_fault(scenario, lambda fs: None) > 10


def test_a_background_action_raises_in_the_steps() -> None:
    def fail() -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        run_steps(in_background(fail))
