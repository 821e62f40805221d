"""Every file system that the log may be given behaves alike, the fakes of the tests included."""

import pytest

from pando.errors import StorageError
from pando.store.files import FileMissing, RealFileSystem, read_bounded, write_durably
from pando.testing.disk_seams import Disk, SeamFileSystem
from pando.testing.faults import FaultyFileSystem
from pando.testing.flaky_files import FlakyFileSystem


@pytest.fixture(params=["real", "faulty", "flaky", "seams"])
def place(request, tmp_path):
    """A file system and an empty directory of it."""
    folder = tmp_path / "files"
    made = {
        "real": RealFileSystem,
        "faulty": FaultyFileSystem,
        "flaky": FlakyFileSystem,
        "seams": lambda: SeamFileSystem(Disk(tmp_path, lambda operation, path: None)),
    }
    fs = made[request.param]()
    if request.param == "faulty":
        for parent in [*reversed(folder.parents), folder]:
            if parent.name:
                fs.mkdir(parent)
    else:
        fs.mkdir(folder)
    return fs, folder


def write(fs, path, data):
    handle = fs.open_append(path)
    handle.write(data)
    handle.fdatasync()
    handle.close()


def test_what_is_written_can_be_read_at_any_offset(place):
    fs, folder = place
    handle = fs.open_append(folder / "a")
    handle.write(b"hello ")
    handle.write(memoryview(b"world"))
    assert handle.pread(0, 100) == b"hello world"
    assert handle.pread(6, 3) == b"wor"
    assert handle.pread(11, 5) == b""
    assert handle.stat().size == 11
    handle.write_at(0, b"J")
    handle.truncate(5)
    handle.write(bytearray(b"!"))
    assert handle.pread(0, 100) == b"Jello!"
    handle.close()
    handle.close()
    again = fs.open_read(folder / "a")
    assert again.pread(0, 100) == b"Jello!"
    again.close()
    more = fs.open_append(folder / "a", create=False)
    more.write(b"?")
    assert more.pread(0, 100) == b"Jello!?"
    more.close()


def test_cutting_to_a_larger_size_fills_with_zeros(place):
    fs, folder = place
    handle = fs.open_append(folder / "a")
    handle.write(b"ab")
    handle.truncate(4)
    handle.write(b"c")
    assert handle.pread(0, 10) == b"ab\0\0c"
    handle.close()


def test_missing_names_are_told_apart(place):
    fs, folder = place
    for action in (
        lambda: fs.open_read(folder / "no"),
        lambda: fs.open_append(folder / "no", create=False),
        lambda: fs.unlink(folder / "no"),
        lambda: fs.stat(folder / "no"),
        lambda: fs.listdir(folder / "no"),
        lambda: fs.replace(folder / "no", folder / "other"),
        lambda: fs.rmdir(folder / "no"),
    ):
        with pytest.raises(FileMissing):
            action()
    assert not fs.exists(folder / "no")


def test_names_move_and_go(place):
    fs, folder = place
    write(fs, folder / "a", b"a")
    write(fs, folder / "b", b"b")
    identity = fs.stat(folder / "a").identity
    fs.replace(folder / "a", folder / "b")
    assert fs.listdir(folder) == ["b"]
    assert fs.stat(folder / "b").identity == identity
    assert read_bounded(fs, folder / "b", 10) == b"a"
    fs.fsync_dir(folder)
    fs.unlink(folder / "b")
    assert fs.listdir(folder) == []


def test_an_open_file_outlives_its_name(place):
    fs, folder = place
    write(fs, folder / "a", b"content")
    handle = fs.open_read(folder / "a")
    fs.unlink(folder / "a")
    assert handle.pread(0, 10) == b"content"
    handle.close()


def test_directories(place):
    fs, folder = place
    fs.mkdir(folder / "d")
    fs.mkdir(folder / "d")
    write(fs, folder / "d" / "x", b"")
    with pytest.raises(StorageError):
        fs.rmdir(folder / "d")
    fs.unlink(folder / "d" / "x")
    fs.rmdir(folder / "d")
    assert not fs.exists(folder / "d")


def test_durable_writing_replaces_as_a_whole(place):
    fs, folder = place
    write_durably(fs, folder / "f", b"one")
    write_durably(fs, folder / "f", b"two")
    assert fs.listdir(folder) == ["f"]
    assert read_bounded(fs, folder / "f", 10) == b"two"
    with pytest.raises(StorageError):
        read_bounded(fs, folder / "f", 2)
