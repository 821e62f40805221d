"""The faulty file system itself: what survives, what fails and when."""

import random
from pathlib import Path

import pytest

from pando.errors import StorageError, StorageFull
from pando.testing.faults import Fault, FaultyFileSystem, PowerLost, for_each_fault

F = Path("/f")


def _with_file(content: bytes) -> FaultyFileSystem:
    fs = FaultyFileSystem()
    handle = fs.open_append(F)
    handle.write(content)
    handle.fdatasync()
    fs.fsync_dir(Path("/"))
    return fs


def test_only_synced_bytes_survive_a_loss_of_power():
    fs = _with_file(b"safe")
    fs.open_append(F).write(b" lost")
    assert fs.content(F) == b"safe lost"
    assert fs.after_crash().content(F) == b"safe lost"
    assert fs.after_power_loss().content(F) == b"safe"
    assert fs.after_crash().after_power_loss().content(F) == b"safe"


def test_a_name_survives_only_after_its_directory_was_synced():
    fs = FaultyFileSystem()
    handle = fs.open_append(F)
    handle.write(b"x")
    handle.fdatasync()
    assert not fs.after_power_loss().exists(F)
    fs.fsync_dir(Path("/"))
    fs.replace(F, Path("/g"))
    assert fs.after_power_loss().exists(F)
    assert not fs.after_power_loss().exists(Path("/g"))
    fs.fsync_dir(Path("/"))
    assert fs.after_power_loss().listdir(Path("/")) == ["g"]


def test_chance_keeps_prefixes_and_single_sectors():
    fs = _with_file(b"safe")
    fs.open_append(F).write(b"a" * 3000)
    found = {fs.after_power_loss(random.Random(seed)).content(F) for seed in range(200)}
    assert all(content.startswith(b"safe") for content in found)
    assert b"safe" in found
    assert b"safe" + b"a" * 3000 in found
    assert any(b"\0" * 400 + b"a" in content for content in found), "a hole where a sector was not written"
    assert len({len(content) % 512 for content in found}) > 2, "torn inside a sector"


def test_what_a_failed_sync_covered_is_lost_for_good():
    fs = _with_file(b"safe")
    handle = fs.open_append(F)
    handle.write(b" lost" * 400)
    fs.fail_next(Fault.IO_ERROR)
    with pytest.raises(StorageError):
        handle.fdatasync()
    handle.write(b"later")
    handle.fdatasync()
    assert fs.content(F).endswith(b" lostlater")
    assert fs.after_power_loss().content(F) != fs.content(F)


def test_faults_hit_the_call_they_are_meant_for():
    fs = FaultyFileSystem(fail_on_call=3)
    handle = fs.open_append(F)
    handle.write(b"one")
    with pytest.raises(StorageError) as caught:
        handle.write(b"two")
    assert type(caught.value) is StorageError
    assert fs.fault_fired
    handle.write(b"three")
    assert fs.content(F) == b"onethree"


def test_a_full_disk_can_be_read_and_emptied_but_not_written():
    fs = _with_file(b"old")
    handle = fs.open_append(F)
    fs.fail_next(Fault.TORN_FULL, lasting=True)
    for _ in range(3):
        with pytest.raises(StorageFull):
            handle.write(b"0123456789")
    assert len(fs.content(F)) > 3, "a part was written"
    assert handle.pread(0, 3) == b"old"
    handle.truncate(3)
    fs.unlink(F)
    fs.heal()
    handle.write(b"!")
    assert handle.pread(0, 10) == b"old!"


def test_after_the_power_is_lost_nothing_works():
    fs = FaultyFileSystem(lose_power_on_call=2)
    handle = fs.open_append(F)
    with pytest.raises(PowerLost):
        handle.fdatasync()
    with pytest.raises(PowerLost):
        fs.listdir(Path("/"))
    assert fs.after_power_loss().listdir(Path("/")) == []


def test_for_each_fault_visits_each_call_once():
    visits = []

    def scenario(fs: FaultyFileSystem) -> None:
        visits.append(fs)
        handle = fs.open_append(F)
        handle.write(b"x")
        handle.fdatasync()

    assert for_each_fault(scenario, lambda fs: None, faults=(Fault.IO_ERROR,)) == 3
    assert len(visits) == 4


def test_for_each_fault_names_the_call_that_broke_the_check():
    with pytest.raises(AssertionError) as caught:
        for_each_fault(lambda fs: fs.mkdir(Path("/d")), lambda fs: _fail())
    assert "on call 1" in caught.value.__notes__[0]


def _fail() -> None:
    raise AssertionError("broken")
