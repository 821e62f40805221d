"""Finding and reading entries: the index with few points, and damage in older segments."""

from pathlib import Path

import pytest
from log_entries import ALL, SMALL, chain, entry_after, fill

from pando.errors import LogCorruption
from pando.store.commitlog import CommitLog
from pando.store.files import FileSystem, RealFileSystem
from pando.store.logview import Segment
from pando.store.segments import HEADER_SIZE
from pando.testing.faults import FaultyFileSystem
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Position

LOG = Path("/log")


@pytest.fixture(params=["real", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, Path]:
    if request.param == "real":
        return RealFileSystem(), tmp_path / "a" / "log"
    return FaultyFileSystem(), LOG


def test_find_and_holds(place):
    fs, directory = place
    log = CommitLog.open(directory, fs, options=SMALL)
    entries = fill(log, 30)
    merged = entry_after(log.last, commits=5)
    log.append(merged)
    log.sync()
    for view in (log, CommitLog.reader(directory, fs)):
        for entry in [*entries, merged]:
            info = view.find(entry.max_txid)
            assert (info.position, info.tables, info.timestamp_ms) == (entry.position, entry.tables, entry.timestamp_ms)
            assert view.holds(entry.position)
            assert not view.holds(Position(epoch=Epoch(9), txid=entry.max_txid, checksum=entry.post_checksum))
            assert not view.holds(Position(epoch=entry.epoch, txid=entry.max_txid, checksum=Checksum(1)))
            assert view.find_checksum(entry.post_checksum) == entry.position
        assert view.find(TXID(33)) is None, "inside a merged entry"
        assert view.find(TXID(36)) is None
        assert view.read(TXID(33), max_bytes=ALL) == []
        assert view.find_checksum(Checksum(5)) is None
        assert view.find_checksum(NO_POSITION.checksum) == NO_POSITION
        view.close()


def test_damage_in_an_older_segment_is_found_when_it_is_read():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs, options=SMALL)
    fill(log, 30)
    log.close()
    path = LOG / fs.listdir(LOG)[1]
    data = fs.content(path)
    fs.set_content(path, data[:200] + b"\xff" + data[201:])
    log = CommitLog.open(LOG, fs, options=SMALL)
    with pytest.raises(LogCorruption):
        log.read(TXID(0), max_bytes=ALL)
    with pytest.raises(LogCorruption):
        CommitLog.reader(LOG, fs).read(TXID(0), max_bytes=ALL)


@pytest.mark.slow
def test_a_hundred_thousand_entries_are_cheap(tmp_path):
    log = CommitLog.open(tmp_path / "log", RealFileSystem())
    entries = list(chain(100_000, size=200))
    for entry in entries:
        log.append(entry)
    log.sync()
    points = sum(len(segment.point_offsets) for segment in log._segments)
    assert points < log.size_bytes / 32_000
    for number in (0, 1, 49_999, 99_998, 99_999):
        assert log.find(TXID(number + 1)).position == entries[number].position
        assert log.read(TXID(number), max_bytes=1) == [entries[number]]
    log.close()


def test_points_are_far_apart_and_lead_to_an_entry_not_behind_the_one_asked_for():
    segment = Segment(LOG / "0000000000000001.log", NO_POSITION, HEADER_SIZE)
    offsets = [HEADER_SIZE + 5000 * number for number in range(100)]
    for number, offset in enumerate(offsets):
        segment.note(TXID(number + 1), offset)
    assert len(segment.point_offsets) == 1 + 99 * 5000 // 35_000
    for number, offset in enumerate(offsets):
        assert offset - 35_000 < segment.point(number + 1) <= offset
    assert segment.point(0) == HEADER_SIZE
    segment.cut(offsets[50], NO_POSITION)
    assert segment.point(99) < offsets[50] == segment.end
