"""The log: what is synced stays, in order and whole, whatever fails and whenever the power goes."""

import contextlib
import random
import threading
from pathlib import Path

import pytest
from log_entries import chain, entry_after

from pando.errors import InvariantError, LogCorruption, StorageError, StorageFull
from pando.store.commitlog import CommitLog, LogEntry, LogOptions
from pando.store.files import FileSystem, RealFileSystem
from pando.store.segments import HEADER_SIZE
from pando.testing.faults import Fault, FaultyFileSystem, PowerLost, for_each_fault, for_each_power_loss
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Position

LOG = Path("/log")
SMALL = LogOptions(segment_size_bytes=1000)
ALL = 1 << 30


@pytest.fixture(params=["real", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, Path]:
    if request.param == "real":
        return RealFileSystem(), tmp_path / "a" / "log"
    return FaultyFileSystem(), LOG


def _fill(log: CommitLog, count: int, *, size: int = 100, seed: int = 0) -> list[LogEntry]:
    entries = list(chain(count, after=log.last, size=size, seed=seed))
    for entry in entries:
        log.append(entry)
    log.sync()
    return entries


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
    entries = _fill(log, 60)
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
    entries = _fill(log, 2)
    extra = entry_after(log.last)
    log.append(extra)
    assert (log.last, log.durable) == (extra.position, entries[-1].position)
    assert log.read(TXID(2), max_bytes=ALL, up_to=log.durable.txid) == []
    assert log.sync() == log.durable == extra.position
    assert log.sync() == extra.position
    log.close()


def test_find_and_holds(place):
    fs, directory = place
    log = CommitLog.open(directory, fs, options=SMALL)
    entries = _fill(log, 30)
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


def test_what_does_not_follow_is_refused(place):
    fs, directory = place
    log = CommitLog.open(directory, fs)
    _fill(log, 2)
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
    _fill(log, 40)
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
        entries = _fill(log, 20)
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
    _fill(log, 3)
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
    entries = _fill(log, 60)
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
    entries = _fill(log, 3)
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
    first = _fill(log, 1)[0]
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
    instead = _fill(log, 3, seed=2)
    assert reader.refresh() == instead[-1].position
    assert reader.read(TXID(1), max_bytes=ALL) == instead
    assert not reader.holds(taken_back.position)


def test_a_reader_notices_a_reset_that_looks_the_same_from_outside():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    _fill(log, 3)
    reader = CommitLog.reader(LOG, fs)
    base = Position(epoch=Epoch(2), txid=TXID(0), checksum=Checksum(1 << 63 | 2))
    log.reset(base)
    entries = _fill(log, 3)
    assert reader.read(TXID(3), max_bytes=ALL) == []
    assert reader.read(TXID(0), max_bytes=ALL) == entries
    assert reader.base == base


def test_a_reader_during_a_reset_sees_the_empty_new_log():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs, options=SMALL)
    _fill(log, 20)
    reader = CommitLog.reader(LOG, fs)
    base = Position(epoch=Epoch(2), txid=TXID(7), checksum=Checksum(1 << 63 | 2))
    fs.fail_next(Fault.IO_ERROR, after_calls=9)  # past the plan
    with pytest.raises(StorageError):
        log.reset(base)
    assert "reset.next" in fs.listdir(LOG)
    assert reader.refresh() == reader.base == CommitLog.peek_last(LOG, fs) == base
    again = CommitLog.open(LOG, fs)
    assert again.last == base
    assert fs.listdir(LOG) == ["0000000000000008.log"]
    entries = _fill(again, 2)
    assert reader.read(TXID(7), max_bytes=ALL) == entries


def test_a_reader_of_no_log():
    with pytest.raises(StorageError):
        CommitLog.reader(LOG, FaultyFileSystem())


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


def test_damage_in_an_older_segment_is_found_when_it_is_read():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs, options=SMALL)
    _fill(log, 30)
    log.close()
    path = LOG / fs.listdir(LOG)[1]
    data = fs.content(path)
    fs.set_content(path, data[:200] + b"\xff" + data[201:])
    log = CommitLog.open(LOG, fs, options=SMALL)
    with pytest.raises(LogCorruption):
        log.read(TXID(0), max_bytes=ALL)
    with pytest.raises(LogCorruption):
        CommitLog.reader(LOG, fs).read(TXID(0), max_bytes=ALL)


# -- faults ----------


class _Life:
    """A log in use: keeps what was promised, to compare with what is found afterwards."""

    def __init__(self) -> None:
        self.seed = 0

    def start(self) -> None:
        self.written: dict[Position, list[LogEntry]] = {NO_POSITION: []}
        self.synced: Position | None = None
        self.bases = [NO_POSITION]
        self.dropped_to = 0

    def scenario(self, fs: FaultyFileSystem) -> None:
        """Append, sync, roll, drop, reset and append again; go on after failures as the store would."""
        self.start()
        log = CommitLog.open(LOG, fs, options=LogOptions(segment_size_bytes=600))
        for step in range(14):
            self.put(log, seed=step)
            if step % 3 == 1:
                self.sync(log)
            if step == 10:
                self.dropped_to = 6
                log.drop_before(TXID(6))
        self.sync(log)
        base = Position(epoch=Epoch(2), txid=TXID(log.last.txid + 1), checksum=Checksum(1 << 63 | 5))
        self.bases.append(base)
        self.written[base] = []
        try:
            log.reset(base)
        except StorageError:
            self.use_old(log)
            raise
        self.bases, self.synced = [base], None
        for step in range(5):
            self.put(log, seed=100 + step)
        self.sync(log)
        log.close()

    def use_old(self, log: CommitLog) -> None:
        """After a reset that failed: if the log takes entries, then it was not reset, and never will be."""
        try:
            log.append(entry_after(log.last, size=150, seed=200))
            self.synced = log.sync()
        except StorageError:
            return
        self.bases = [NO_POSITION]
        self.written[NO_POSITION] += log.read(TXID(self.synced.txid - 1), max_bytes=1)

    def put(self, log: CommitLog, seed: int) -> None:
        try:
            entry = entry_after(log.last, size=150, seed=seed)
            log.append(entry)
        except StorageError:
            assert log.last == log.durable
            entry = entry_after(log.last, size=150, seed=seed)
            log.append(entry)
        self.written[self.bases[-1]].append(entry)

    def sync(self, log: CommitLog) -> None:
        try:
            self.synced = log.sync()
        except StorageError:
            assert log.last == log.durable
            self.synced = log.sync()

    def check(self, fs: FaultyFileSystem) -> None:
        """Open gives a whole chain of what was written, with everything that was synced, and the log can be used."""
        peeked = CommitLog.peek_last(LOG, fs) if fs.exists(LOG) else None
        log = CommitLog.open(LOG, fs, options=LogOptions(segment_size_bytes=600))
        assert peeked is None or peeked == log.last
        found = log.read(TXID(0), max_bytes=ALL)
        base = log.base
        for entry in found:
            assert entry.pre_checksum == base.checksum
            assert entry.min_txid == base.txid + 1
            base = entry.position
        history = log.base if log.base in self.written else NO_POSITION
        assert history in self.bases
        assert all(entry in self.written[history] for entry in found)
        assert log.base.txid <= max(self.dropped_to, history.txid)
        if self.synced is not None and len(self.bases) == 1:
            assert log.holds(self.synced), (self.synced, log.last)
        more = _fill(log, 2, seed=77)
        log.close()
        after = CommitLog.open(LOG, fs.after_power_loss())
        assert after.read(TXID(0), max_bytes=ALL) == found + more


def test_no_fault_loses_what_was_synced():
    life = _Life()
    assert for_each_fault(life.scenario, life.check) > 100


def test_no_fault_followed_by_power_loss_loses_what_was_synced():
    life = _Life()

    def check(fs: FaultyFileSystem) -> None:
        for seed in (None, 1, 2):
            life.check(fs.after_power_loss(random.Random(seed) if seed else None))

    assert for_each_fault(life.scenario, check) > 100


def _check_crash_then_power_loss(fs: FaultyFileSystem) -> None:
    """What the next process finds, and calls durable, survives: at once, and after it wrote more."""
    crashed = fs.after_crash()
    log = CommitLog.open(LOG, crashed, options=LogOptions(segment_size_bytes=600))
    assert log.last == log.durable
    entries = log.read(TXID(0), max_bytes=ALL)
    for more in (0, 2):
        entries += _fill(log, more, seed=9)
        if more:
            log.append(entry_after(log.last))
        for seed in (None, 1, 2, 3):
            left = crashed.after_power_loss(random.Random(seed) if seed else None)
            found = CommitLog.open(LOG, left)
            assert found.read(TXID(0), max_bytes=ALL)[: len(entries)] == entries


def test_no_fault_followed_by_a_crash_and_then_power_loss_loses_what_was_synced():
    life = _Life()
    for_each_fault(life.scenario, _check_crash_then_power_loss)


def test_what_a_failed_sync_left_in_memory_is_not_taken_for_durable_by_the_next_process():
    """The system marks pages clean that a failed sync did not write, and shows them until the power goes."""
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    _fill(log, 2)
    for entry in chain(2, after=log.last, size=2000):
        log.append(entry)
    fs.fail_next(Fault.IO_ERROR, lasting=True)  # neither the sync nor the cut
    with pytest.raises(StorageError):
        log.sync()
    fs.heal()
    assert CommitLog.open(LOG, fs.after_crash()).last.txid == 4
    _check_crash_then_power_loss(fs)


def test_what_was_cut_off_does_not_come_back_behind_what_was_written_instead():
    for seed in range(150):
        fs = FaultyFileSystem()
        log = CommitLog.open(LOG, fs)
        entries = _fill(log, 2)
        for entry in chain(4, after=log.last, seed=1):
            log.append(entry)
        fs.fail_next(Fault.IO_ERROR)
        with pytest.raises(StorageError):
            log.append(entry_after(log.last))
        log.append(entry_after(log.last, seed=2))
        found = CommitLog.open(LOG, fs.after_power_loss(random.Random(seed)))
        assert found.read(TXID(0), max_bytes=ALL)[:2] == entries


@pytest.mark.slow
def test_power_loss_at_every_call_keeps_what_was_synced():
    life = _Life()
    assert for_each_power_loss(life.scenario, life.check, seeds=6) > 300


def test_a_reset_cut_short_by_a_crash_and_then_by_power_loss_is_whole_or_has_not_happened():
    old_base = NO_POSITION
    base = Position(epoch=Epoch(2), txid=TXID(3), checksum=Checksum(1 << 63 | 2))
    runs = 0
    for reset_calls in range(1000):
        fs = FaultyFileSystem()
        log = CommitLog.open(LOG, fs, options=SMALL)
        entries = _fill(log, 9)
        fs.lose_power(after_calls=reset_calls)
        with contextlib.suppress(PowerLost):
            log.reset(base)
        is_done = not fs.fault_fired
        for open_calls in range(1000):
            crashed = fs.after_crash()
            crashed.lose_power(after_calls=open_calls)
            with contextlib.suppress(PowerLost):
                CommitLog.open(LOG, crashed)
            for seed in range(5):
                found = CommitLog.open(LOG, crashed.after_power_loss(random.Random(f"{reset_calls}/{seed}")))
                assert found.base in (base, old_base)
                assert found.read(TXID(0), max_bytes=ALL) == (entries if found.base == old_base else [])
                assert found.base == base or not is_done
                runs += 1
            if not crashed.fault_fired:
                break
        if is_done:
            break
    assert runs > 500


def test_faults_while_opening_after_a_crash():
    def scenario(fs: FaultyFileSystem) -> None:
        fs._root = crashed.after_crash()._root
        CommitLog.open(LOG, fs)

    def check(fs: FaultyFileSystem) -> None:
        for left in (fs, fs.after_power_loss()):
            log = CommitLog.open(LOG, left)
            assert log.holds(synced)
            _fill(log, 1)

    crashed = FaultyFileSystem()
    log = CommitLog.open(LOG, crashed)
    synced = _fill(log, 3)[-1].position
    for entry in chain(3, after=synced):
        log.append(entry)
    assert for_each_fault(scenario, check) > 5
    crashed.open_append(LOG / crashed.listdir(LOG)[0]).write(b"torn")
    assert for_each_fault(scenario, check) > 5


@pytest.mark.parametrize("fault", [Fault.DISK_FULL, Fault.TORN_FULL])
def test_a_full_disk_leaves_a_usable_log(fault):
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    entries = _fill(log, 3)
    fs.fail_next(fault)
    with pytest.raises(StorageFull):
        log.append(entry_after(log.last))
    fs.heal()
    assert log.last == log.durable == entries[-1].position
    entries += _fill(log, 2)
    assert CommitLog.open(LOG, fs.after_power_loss()).read(TXID(0), max_bytes=ALL) == entries


def test_a_disk_that_stays_full_refuses_each_write_and_then_goes_on():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs, options=SMALL)
    entries = _fill(log, 3)
    for _ in range(5):
        fs.fail_next(Fault.TORN_FULL)
        with pytest.raises(StorageFull):
            log.append(entry_after(log.last))
    entries += _fill(log, 20)
    assert CommitLog.open(LOG, fs.after_power_loss()).read(TXID(0), max_bytes=ALL) == entries


def test_a_log_that_cannot_be_cut_back_refuses_everything_until_it_is_opened_again():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    entries = _fill(log, 3)
    log.append(entry_after(log.last))
    fs.fail_next(Fault.IO_ERROR, lasting=True)
    with pytest.raises(StorageError):
        log.sync()
    fs.heal()
    for refused in (lambda: log.append(entry_after(log.last)), log.sync, lambda: log.reset(NO_POSITION)):
        with pytest.raises(StorageError):
            refused()
    assert log.last == log.durable == entries[-1].position
    assert CommitLog.open(LOG, fs.after_power_loss()).last == entries[-1].position


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
