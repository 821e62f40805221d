"""A log as another process sees it: appends, new segments, resets, and what was taken back."""

from pathlib import Path

import pytest
from log_entries import ALL, SMALL, chain, entry_after, fill

from pando.errors import StorageError
from pando.store.commitlog import CommitLog
from pando.store.files import FileSystem, RealFileSystem
from pando.store.logreader import LogReader
from pando.store.logview import RESET_NAME
from pando.testing.faults import Fault, FaultyFileSystem
from pando.types import TXID, Checksum, Epoch, Position

LOG = Path("/log")


@pytest.fixture(params=["real", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, Path]:
    if request.param == "real":
        return RealFileSystem(), tmp_path / "a" / "log"
    return FaultyFileSystem(), LOG


def test_a_reader_follows_appends_and_new_segments(place):
    fs, directory = place
    log = CommitLog.open(directory, fs, options=SMALL)
    reader = CommitLog.reader(directory, fs)
    position = 0
    for entry in chain(50):
        log.append(entry)
        found = reader.read(TXID(position), max_bytes=ALL) or reader.read(TXID(position), max_bytes=ALL)
        assert found == [entry]
        assert reader.holds(entry.position)
        position = entry.max_txid
    assert reader.last == log.last
    log.close()
    reader.close()


def test_a_reader_does_not_see_half_an_entry(place):
    fs, directory = place
    log = CommitLog.open(directory, fs)
    entries = fill(log, 3)
    log.close()
    path = directory / fs.listdir(directory)[0]
    handle = fs.open_append(path)
    data = handle.pread(0, ALL)
    start = fs.stat(path).size
    handle.truncate(start - 1)
    reader = CommitLog.reader(directory, fs)
    assert reader.last == entries[1].position
    assert reader.read(TXID(2), max_bytes=ALL) == []
    handle.write(data[-1:])
    assert reader.read(TXID(2), max_bytes=ALL) == entries[2:]
    handle.close()
    reader.close()


def test_a_reader_forgets_what_the_writer_took_back():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    reader = CommitLog.reader(LOG, fs)
    first = fill(log, 1)[0]
    taken_back = entry_after(first.position, seed=1)
    log.append(taken_back)
    assert reader.read(TXID(1), max_bytes=ALL) == [taken_back]
    fs.fail_next(Fault.IO_ERROR)
    with pytest.raises(StorageError):
        log.sync()
    assert log.last == log.durable == first.position
    assert reader.refresh() == first.position
    assert not reader.holds(taken_back.position)
    log.append(taken_back)
    reader.refresh()
    fs.fail_next(Fault.IO_ERROR)
    with pytest.raises(StorageError):
        log.sync()
    instead = fill(log, 3, seed=2)
    assert reader.refresh() == instead[-1].position
    assert reader.read(TXID(1), max_bytes=ALL) == instead
    assert not reader.holds(taken_back.position)


def test_a_reader_notices_a_reset_that_looks_the_same_from_outside():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    fill(log, 3)
    reader = CommitLog.reader(LOG, fs)
    base = Position(epoch=Epoch(2), txid=TXID(0), checksum=Checksum(1 << 63 | 2))
    log.reset(base)
    entries = fill(log, 3)
    assert reader.read(TXID(3), max_bytes=ALL) == []
    assert reader.read(TXID(0), max_bytes=ALL) == entries
    assert reader.base == base


def test_a_reader_during_a_reset_sees_the_empty_new_log():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs, options=SMALL)
    fill(log, 20)
    reader = CommitLog.reader(LOG, fs)
    base = Position(epoch=Epoch(2), txid=TXID(7), checksum=Checksum(1 << 63 | 2))
    fs.fail_next(Fault.IO_ERROR, after_calls=9)  # past the plan
    with pytest.raises(StorageError):
        log.reset(base)
    assert RESET_NAME in fs.listdir(LOG)
    assert reader.refresh() == reader.base == CommitLog.peek_last(LOG, fs) == base
    again = CommitLog.open(LOG, fs)
    assert again.last == base
    assert fs.listdir(LOG) == ["0000000000000008.log"]
    entries = fill(again, 2)
    assert reader.read(TXID(7), max_bytes=ALL) == entries


def test_a_reader_of_no_log():
    with pytest.raises(StorageError):
        LogReader.open(LOG, FaultyFileSystem())
