"""What is synced stays, in order and whole, whatever fails and whenever the power goes."""

import contextlib
import random
from pathlib import Path

import pytest
from log_entries import ALL, SMALL, chain, entry_after, fill

from pando.errors import StorageError, StorageFull
from pando.store.commitlog import CommitLog, LogEntry, LogOptions
from pando.testing.faults import Fault, FaultyFileSystem, PowerLost, for_each_fault, for_each_power_loss
from pando.types import NO_POSITION, TXID, Checksum, Epoch, Position

LOG = Path("/log")


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
        more = fill(log, 2, seed=77)
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
        entries += fill(log, more, seed=9)
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
    fill(log, 2)
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
        entries = fill(log, 2)
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
        entries = fill(log, 9)
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
            fill(log, 1)

    crashed = FaultyFileSystem()
    log = CommitLog.open(LOG, crashed)
    synced = fill(log, 3)[-1].position
    for entry in chain(3, after=synced):
        log.append(entry)
    assert for_each_fault(scenario, check) > 5
    crashed.open_append(LOG / crashed.listdir(LOG)[0]).write(b"torn")
    assert for_each_fault(scenario, check) > 5


@pytest.mark.parametrize("fault", [Fault.DISK_FULL, Fault.TORN_FULL])
def test_a_full_disk_leaves_a_usable_log(fault):
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    entries = fill(log, 3)
    fs.fail_next(fault)
    with pytest.raises(StorageFull):
        log.append(entry_after(log.last))
    fs.heal()
    assert log.last == log.durable == entries[-1].position
    entries += fill(log, 2)
    assert CommitLog.open(LOG, fs.after_power_loss()).read(TXID(0), max_bytes=ALL) == entries


def test_a_disk_that_stays_full_refuses_each_write_and_then_goes_on():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs, options=SMALL)
    entries = fill(log, 3)
    for _ in range(5):
        fs.fail_next(Fault.TORN_FULL)
        with pytest.raises(StorageFull):
            log.append(entry_after(log.last))
    entries += fill(log, 20)
    assert CommitLog.open(LOG, fs.after_power_loss()).read(TXID(0), max_bytes=ALL) == entries


def test_a_log_that_cannot_be_cut_back_refuses_everything_until_it_is_opened_again():
    fs = FaultyFileSystem()
    log = CommitLog.open(LOG, fs)
    entries = fill(log, 3)
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
