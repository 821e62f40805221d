"""Bytes that processes share: made once, seen by all, written by one at a time, and let go of when something fails."""

import os

import pytest

from pando.errors import StorageError
from pando.shared_memory import SharedMemory


def test_what_one_writes_the_other_reads_and_nobody_else_may(tmp_path):
    first, second = (SharedMemory.of_file(tmp_path / "bytes", 64, "the bytes") for _ in range(2))
    first.bytes[3] = 7
    assert bytes(second.bytes) == b"\0\0\0\7" + bytes(60)
    assert (tmp_path / "bytes").stat().st_mode & 0o077 == 0


def test_one_at_a_time_holds_the_lock(tmp_path):
    first, second = (SharedMemory.of_file(tmp_path / "bytes", 64, "the bytes") for _ in range(2))
    assert first.try_lock()
    assert not second.try_lock()
    first.unlock()
    assert second.try_lock()


def test_without_a_file_it_is_of_this_process_and_never_waits():
    memory = SharedMemory(8)
    assert bytes(memory.bytes) == bytes(8)
    assert memory.try_lock()
    assert memory.try_lock()
    memory.unlock()
    memory.close()


@pytest.mark.parametrize("size_bytes", [0, 3, 65])
def test_a_file_of_another_size_is_made_anew(tmp_path, size_bytes):
    (tmp_path / "bytes").write_bytes(b"x" * size_bytes)
    assert bytes(SharedMemory.of_file(tmp_path / "bytes", 64, "the bytes").bytes) == bytes(64)


def test_a_file_that_cannot_be_made_or_mapped_is_an_error_that_names_it_and_keeps_nothing_open(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    before = set(os.listdir("/dev/fd"))
    for name in ("folder", "pipe", "not there/bytes"):
        with pytest.raises(StorageError, match=f"cannot map the bytes .*{name}"):
            SharedMemory.of_file(tmp_path / name, 64, "the bytes")
    assert set(os.listdir("/dev/fd")) == before
