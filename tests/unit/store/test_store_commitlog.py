"""The log as its writer sees it: append, sync, open, reset, retention, and damage told from a torn tail."""

import threading
from pathlib import Path

import pytest
from log_entries import ALL, SMALL, chain, entry_after, fill

from pando.errors import InvariantError, LogCorruption
from pando.store.commitlog import CommitLog, LogEntry, LogOptions
from pando.store.files import FileSystem, RealFileSystem
from pando.store.segments import HEADER_SIZE
from pando.testing.faults import FaultyFileSystem
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Position

LOG = Path("/log")


@pytest.fixture(params=["real", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, Path]:
    if request.param == "real":
        return RealFileSystem(), tmp_path / "a" / "log"
    return FaultyFileSystem(), LOG


def test_a_new_log_is_empty(place):
    fs, directory = place
    assert CommitLog.peek_last(directory, fs) is None
    log = CommitLog.open(directory, fs)
    assert log.base == log.last == log.durable == NO_POSITION
    assert log.read(TXID(0), max_bytes=ALL) == []
    assert log.holds(NO_POSITION)
    assert log.find(TXID(0)) is None
    assert log.size_bytes == HEADER_SIZE
    assert CommitLog.peek_last(directory, fs) == NO_POSITION
    log.close()


def test_what_was_appended_is_read_back_after_opening_again(place):
    fs, directory = place
    log = CommitLog.open(directory, fs, options=SMALL)
    entries = fill(log, 60)
    assert log.last == log.durable == entries[-1].position
    log.close()
    assert len(fs.listdir(directory)) > 6
    assert CommitLog.peek_last(directory, fs) == entries[-1].position
    for view in (CommitLog.open(directory, fs, options=SMALL), CommitLog.reader(directory, fs)):
        assert view.base == NO_POSITION
        assert view.last == entries[-1].position
        assert view.size_bytes == log.size_bytes
        assert view.read(TXID(0), max_bytes=ALL) == entries
        for after in range(61):
            assert view.read(TXID(after), max_bytes=1) == entries[after : after + 1]
            assert view.read(TXID(after), max_bytes=700) == entries[after : after + 3]
        assert view.read(TXID(3), max_bytes=ALL, up_to=TXID(7)) == entries[3:7]
        assert view.read(TXID(3), max_bytes=ALL, up_to=TXID(3)) == []
        view.close()


def test_append_and_sync_are_apart(place):
    fs, directory = place
    log = CommitLog.open(directory, fs)
    entries = fill(log, 2)
    extra = entry_after(log.last)
    log.append(extra)
    assert (log.last, log.durable) == (extra.position, entries[-1].position)
    assert log.read(TXID(2), max_bytes=ALL, up_to=log.durable.txid) == []
    assert log.sync() == log.durable == extra.position
    assert log.sync() == extra.position
    log.close()


def test_what_does_not_follow_is_refused(place):
    fs, directory = place
    log = CommitLog.open(directory, fs)
    fill(log, 2)
    good = entry_after(log.last)
    fields = {name: getattr(good, name) for name in good.__struct_fields__}
    for change in (
        {"min_txid": 4, "max_txid": 4},
        {"min_txid": 2},
        {"max_txid": 2},
        {"pre_checksum": 1 << 63},
        {"epoch": 0},
    ):
        with pytest.raises(InvariantError):
            log.append(LogEntry(**fields | change))
    log.append(good)
    log.close()


def test_reset_starts_a_new_history(place):
    fs, directory = place
    log = CommitLog.open(directory, fs, options=SMALL)
    reader = CommitLog.reader(directory, fs)
    fill(log, 40)
    reader.refresh()
    for base in (
        Position(epoch=Epoch(5), txid=TXID(41), checksum=Checksum(1 << 63 | 1)),
        Position(epoch=Epoch(6), txid=TXID(0), checksum=Checksum(1 << 63 | 2)),
        Position(epoch=Epoch(7), txid=TXID(0), checksum=Checksum(1 << 63 | 3)),
    ):
        log.reset(base)
        assert log.base == log.last == log.durable == base
        assert len(fs.listdir(directory)) == 1
        assert CommitLog.peek_last(directory, fs) == base
        assert reader.refresh() == base == reader.base
        entries = fill(log, 20)
        assert reader.read(base.txid, max_bytes=ALL)[0] == entries[0]
        assert reader.refresh() == entries[-1].position
        again = CommitLog.open(directory, fs)
        assert again.read(base.txid, max_bytes=ALL) == entries
        again.close()
    log.close()
    reader.close()


def test_begin_replaces_a_damaged_log(place):
    fs, directory = place
    log = CommitLog.open(directory, fs)
    fill(log, 3)
    log.close()
    handle = fs.open_append(directory / fs.listdir(directory)[0])
    handle.write_at(0, b"garbage")
    handle.close()
    with pytest.raises(LogCorruption):
        CommitLog.open(directory, fs)
    with pytest.raises(LogCorruption):
        CommitLog.peek_last(directory, fs)
    base = Position(epoch=Epoch(2), txid=TXID(7), checksum=Checksum(1 << 63))
    log = CommitLog.begin(directory, fs, base)
    assert log.last == base
    log.close()


def test_old_segments_are_dropped_and_the_base_moves(place):
    fs, directory = place
    log = CommitLog.open(directory, fs, options=SMALL)
    reader = CommitLog.reader(directory, fs)
    entries = fill(log, 60)
    assert reader.read(TXID(0), max_bytes=300)[0] == entries[0]
    before = log.size_bytes
    assert log.drop_before(TXID(0)) == 0
    assert log.drop_before(TXID(30)) > 1
    assert 20 < log.base.txid <= 30
    assert log.base == entries[log.base.txid - 1].position
    assert log.size_bytes < before
    assert log.read(log.base.txid, max_bytes=ALL) == entries[log.base.txid :]
    assert log.read(TXID(0), max_bytes=ALL) == entries[log.base.txid :]
    assert log.find(TXID(5)) is None
    assert log.holds(log.base)
    assert not log.holds(entries[4].position)
    reader.refresh()
    assert reader.base == log.base
    assert reader.read(log.base.txid, max_bytes=ALL) == entries[log.base.txid :]
    log.drop_before(TXID(1000))
    assert log.last == entries[-1].position
    assert len(fs.listdir(directory)) == 1
    reader.close()
    log.close()


# -- damage ----------


def _one_segment(count: int, *, synced: bool = True) -> tuple[FaultyFileSystem, list[LogEntry], Path]:
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    entries = []
    for entry in chain(count, size=30):
        log.append(entry)
        if synced:
            log.sync()
        entries.append(entry)
    return fs, entries, LOG / fs.listdir(LOG)[0]


def test_opening_cuts_a_tail_torn_at_any_byte():
    fs, entries, path = _one_segment(3)
    data = fs.content(path)
    log = CommitLog.open(LOG, fs)
    ends = [log.find(entry.max_txid).end for entry in entries]
    for size in range(HEADER_SIZE, len(data)):
        fs.set_content(path, data[:size])
        peeked = CommitLog.peek_last(LOG, fs)
        log = CommitLog.open(LOG, fs)
        assert peeked == log.last
        whole = log.last.txid
        assert whole == sum(end <= size for end in ends)
        assert log.read(TXID(0), max_bytes=ALL) == entries[:whole]
        assert fs.stat(path).size == log.size_bytes <= size
        log.append(entries[whole])
        log.sync()
        log.close()
        assert CommitLog.peek_last(LOG, fs) == entries[whole].position


def test_opening_tells_damage_from_a_torn_tail_for_a_flip_of_any_byte():
    fs, entries, path = _one_segment(3)
    data = fs.content(path)
    last = CommitLog.open(LOG, fs).find(TXID(3)).offset
    for at in range(len(data)):
        fs.set_content(path, data[:at] + bytes([data[at] ^ 0x40]) + data[at + 1 :])
        if at < last:
            with pytest.raises(LogCorruption):
                CommitLog.open(LOG, fs)
        else:
            assert CommitLog.open(LOG, fs).last == entries[1].position


def test_sync_in_one_thread_while_another_appends(tmp_path):
    log = CommitLog.open(tmp_path / "log", RealFileSystem(), options=LogOptions(segment_size_bytes=20_000))
    stop = threading.Event()
    seen = []

    def sync() -> None:
        while not stop.is_set():
            seen.append(log.sync())

    thread = threading.Thread(target=sync)
    thread.start()
    entries = []
    for entry in chain(1500):
        log.append(entry)
        entries.append(entry)
    stop.set()
    thread.join()
    assert log.sync() == entries[-1].position
    assert [position.txid for position in seen] == sorted(position.txid for position in seen)
    assert log.read(TXID(0), max_bytes=ALL) == entries
    log.close()
