"""Durable writes and the file-system seam, on the real disk and on the faulty one."""

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pando.errors import StorageError, StorageFull
from pando.store.files import (
    FileLock,
    FileMissing,
    FileSystem,
    RealFileSystem,
    is_temporary,
    make_directories,
    read_bounded,
    remove_if_possible,
    temporary_path,
    translate,
    write_durably,
)
from pando.testing.faults import FaultyFileSystem, for_each_fault, for_each_power_loss


@pytest.fixture(params=["real", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[FileSystem, Path]:
    if request.param == "real":
        return RealFileSystem(), tmp_path
    return FaultyFileSystem(), Path("/")


def test_handle_reads_what_was_appended(place):
    fs, root = place
    handle = fs.open_append(root / "a")
    handle.write(b"hello ")
    handle.write(memoryview(b"world"))
    handle.fdatasync()
    assert handle.pread(4, 100) == b"o world"
    assert handle.pread(100, 10) == b""
    handle.truncate(5)
    handle.write(b"!")
    handle.write_at(0, b"J")
    handle.write_at(5, b"?!")
    assert handle.stat().size == 7
    handle.write(b".")
    handle.close()
    handle.close()
    reader = fs.open_read(root / "a")
    assert reader.pread(0, 10) == b"Jello?!."
    assert reader.stat() == fs.stat(root / "a")
    with pytest.raises(StorageError):
        reader.write(b"x")
    reader.close()


def test_names(place):
    fs, root = place
    make_directories(fs, root / "x" / "y")
    make_directories(fs, root / "x" / "y")
    fs.mkdir(root / "x")
    write_durably(fs, root / "x" / "b", b"1")
    write_durably(fs, root / "x" / "a", b"2")
    assert fs.listdir(root / "x") == ["a", "b", "y"]
    before = fs.stat(root / "x" / "a").identity
    fs.replace(root / "x" / "a", root / "x" / "b")
    assert fs.stat(root / "x" / "b").identity == before
    assert not fs.exists(root / "x" / "a")
    fs.unlink(root / "x" / "b")
    fs.rmdir(root / "x" / "y")
    assert fs.listdir(root / "x") == []
    fs.fsync_dir(root / "x")


def test_missing_names_and_refusals_are_our_errors(place):
    fs, root = place
    for call in (
        lambda: fs.open_read(root / "no"),
        lambda: fs.open_append(root / "no", create=False),
        lambda: fs.stat(root / "no"),
        lambda: fs.unlink(root / "no"),
        lambda: fs.listdir(root / "no"),
        lambda: fs.replace(root / "no", root / "no2"),
        lambda: fs.fsync_dir(root / "no"),
        lambda: fs.mkdir(root / "no" / "no"),
    ):
        with pytest.raises(FileMissing):
            call()
    write_durably(fs, root / "file", b"")
    with pytest.raises(StorageError):
        fs.mkdir(root / "file")
    fs.mkdir(root / "dir")
    write_durably(fs, root / "dir" / "file", b"")
    with pytest.raises(StorageError):
        fs.rmdir(root / "dir")
    assert remove_if_possible(fs, root / "no")
    assert not remove_if_possible(fs, root / "dir")


def test_errors_by_number():
    assert isinstance(translate(OSError(errno.ENOSPC, "full"), "writing", Path("a")), StorageFull)
    assert isinstance(translate(OSError(errno.EDQUOT, "quota"), "writing", Path("a")), StorageFull)
    plain = translate(OSError(errno.EIO, "io"), "writing", Path("a"))
    assert type(plain) is StorageError
    assert "writing 'a'" in plain.message


def test_write_durably_sets_the_mode_and_leaves_no_temporary_file(tmp_path):
    temporary_path(tmp_path / "secret").write_bytes(b"left by a crash, and longer than what comes")
    write_durably(RealFileSystem(), tmp_path / "secret", b"key", mode=0o600)
    assert (tmp_path / "secret").read_bytes() == b"key"
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["secret"]
    assert is_temporary(temporary_path(tmp_path / "secret").name)
    assert not is_temporary("secret")


def test_read_bounded(place):
    fs, root = place
    write_durably(fs, root / "a", b"12345")
    assert read_bounded(fs, root / "a", 5) == b"12345"
    with pytest.raises(StorageError):
        read_bounded(fs, root / "a", 4)


def _replace_file(fs: FaultyFileSystem) -> None:
    write_durably(fs, Path("/f"), b"old" * 300)
    fs.listdir(Path("/"))
    write_durably(fs, Path("/f"), b"new" * 500)


def test_write_durably_is_all_or_nothing_under_every_fault():
    def check(fs: FaultyFileSystem) -> None:
        if fs.exists(Path("/f")):
            assert fs.content(Path("/f")) in {b"old" * 300, b"new" * 500}
        write_durably(fs, Path("/f"), b"again")
        assert fs.after_power_loss().content(Path("/f")) == b"again"

    assert for_each_fault(_replace_file, check) > 20


def test_write_durably_survives_power_loss_at_every_call():
    stage = []

    def scenario(fs: FaultyFileSystem) -> None:
        stage[:] = [None]
        write_durably(fs, Path("/f"), b"old" * 300)
        stage[:] = [b"old" * 300]
        write_durably(fs, Path("/f"), b"new" * 500)
        stage[:] = [b"new" * 500]

    def check(fs: FaultyFileSystem) -> None:
        found = fs.content(Path("/f")) if fs.exists(Path("/f")) else None
        allowed = {None: {None, b"old" * 300}, b"old" * 300: {b"old" * 300, b"new" * 500}}
        assert found in allowed.get(stage[0], {b"new" * 500})

    assert for_each_power_loss(scenario, check) > 50


def test_lock_is_exclusive_between_processes_and_names_its_holder(tmp_path):
    lock = FileLock(tmp_path / "lock")
    assert lock.holder() is None
    assert lock.try_acquire()
    assert lock.try_acquire()
    other = FileLock(tmp_path / "lock")
    assert not other.try_acquire()
    assert other.holder() == os.getpid()
    program = (
        "import sys; from pathlib import Path; from pando.store.files import FileLock;"
        "lock = FileLock(Path(sys.argv[1])); print(lock.try_acquire(), lock.holder())"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "lock")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == f"False {os.getpid()}\n"
    lock.release()
    lock.release()
    assert not lock.is_held
    assert other.try_acquire()
    other.release()


def test_lock_in_a_directory_that_is_not_there(tmp_path):
    with pytest.raises(FileMissing):
        FileLock(tmp_path / "no" / "lock").try_acquire()
