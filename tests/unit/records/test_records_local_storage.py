"""What only a directory can get wrong: layout, sidecars that others wrote, crashes, callers who go. The rest is in the
conformance suite."""

import asyncio
import base64
import hashlib
import json
import os
import threading

import pytest

from pando.errors import StorageError, StorageFull
from pando.records.files.local_files import FileReading, FileWriting, stat_file
from pando.records.files.local_storage import TEMPORARY_DIRECTORY, LocalStorage
from pando.records.files.storage import CHUNK_BYTES, FileMissing
from pando.store.files import RealFileSystem

KEY = "c1/r1/photo_1.png"


async def put(kept, key=KEY, body=b"content", **more):
    return await kept.put(key, body, content_type="image/png", size_max=1 << 30, **more)


async def read(kept, key=KEY):
    return b"".join([piece async for piece in kept.read(key)])


def files_in(directory):
    return sorted(path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file())


def test_the_layout_is_pocketbases(tmp_path):
    asyncio.run(put(LocalStorage(tmp_path), metadata={"original-filename": "Photo.png"}))
    assert files_in(tmp_path) == [KEY, KEY + ".attrs"]
    assert (tmp_path / KEY).read_bytes() == b"content"
    assert (tmp_path / (KEY + ".attrs")).read_text() == json.dumps(
        {
            "user.cache_control": "",
            "user.content_disposition": "",
            "user.content_encoding": "",
            "user.content_language": "",
            "user.content_type": "image/png",
            "user.metadata": {"original-filename": "Photo.png"},
            "md5": base64.b64encode(hashlib.md5(b"content").digest()).decode(),
        },
        separators=(",", ":"),
    )


@pytest.mark.parametrize(
    ("attributes", "content_type"),
    [
        (b'{"user.content_type":"text/css","user.metadata":null,"md5":"AAAA","other":1}', "text/css"),
        (b'{"user.content_type":"text/css","md5":null}', "text/css"),
        (b'{"user.content_type":"text/css","md5":"no base64!"}', "text/css"),
        (b"", "application/octet-stream"),
        (b"{", "application/octet-stream"),
        (b'{"user.content_type":7}', "application/octet-stream"),
        (b"[" * 5000, "application/octet-stream"),
        (None, "application/octet-stream"),
    ],
)
def test_files_that_others_put_there_are_read(tmp_path, attributes, content_type):
    path = tmp_path / KEY
    path.parent.mkdir(parents=True)
    path.write_bytes(b"theirs")
    if attributes is not None:
        path.with_name(path.name + ".attrs").write_bytes(attributes)

    async def scenario():
        kept = LocalStorage(tmp_path)
        found = await kept.head(KEY)
        assert (found.size, found.content_type) == (6, content_type) and found.etag.strip('"')
        assert await read(kept) == b"theirs"
        assert [each async for each in kept.list("")] == [(KEY, 6)]
        await kept.delete(KEY)

    asyncio.run(scenario())
    assert files_in(tmp_path) == []


def test_copies_of_a_file_have_one_tag(tmp_path):
    async def scenario():
        tags = []
        for name in ("one", "two"):
            kept = LocalStorage(tmp_path / name)
            await put(kept)
            os.utime(tmp_path / name / KEY, ns=(0, len(tags) * 10**9))
            tags.append((await kept.head(KEY)).etag)
        assert tags[0] == tags[1]

    asyncio.run(scenario())


def test_no_directory_is_left_of_a_prefix(tmp_path):
    async def scenario():
        kept = LocalStorage(tmp_path)
        await put(kept)
        await put(kept, "c1/r1/thumbs_photo_1.png/10x10_photo_1.png")
        await kept.delete_prefix("c1/r1")

    asyncio.run(scenario())
    assert not (tmp_path / "c1" / "r1").exists() and (tmp_path / "c1").exists()


def test_links_are_not_followed_out_of_the_directory(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("x")
    (tmp_path / "storage" / "c1").mkdir(parents=True)
    (tmp_path / "storage" / "c1" / "r1").symlink_to(outside)

    async def scenario():
        kept = LocalStorage(tmp_path / "storage")
        await kept.delete_prefix("c1")
        assert [each async for each in kept.list("")] == []

    asyncio.run(scenario())
    assert (outside / "secret").read_text() == "x"


def test_what_a_crash_left_is_removed_when_it_is_old(tmp_path):
    kept = LocalStorage(tmp_path)
    assert kept.remove_leftovers(before_ms=10**15) == 0
    directory = tmp_path / TEMPORARY_DIRECTORY
    directory.mkdir()
    for name, modified_s in (("old", 1000), ("new", 2000)):
        (directory / name).write_text("x")
        os.utime(directory / name, (modified_s, modified_s))
    assert kept.remove_leftovers(before_ms=1_500_000) == 1
    assert files_in(tmp_path) == [f"{TEMPORARY_DIRECTORY}/new"]
    assert asyncio.run(_listed(kept)) == []


async def _listed(kept):
    return [each async for each in kept.list("")]


class Failing(RealFileSystem):
    """The n-th call that changes something fails."""

    def __init__(self, failing_at):
        self.calls = 0
        self.failing_at = failing_at

    def _step(self):
        self.calls += 1
        if self.calls == self.failing_at:
            raise StorageFull("no space left")

    def open_append(self, path, **more):
        self._step()
        return super().open_append(path, **more)

    def replace(self, source, target):
        self._step()
        super().replace(source, target)

    def mkdir(self, path, **more):
        self._step()
        super().mkdir(path, **more)

    def fsync_dir(self, path):
        self._step()
        super().fsync_dir(path)


@pytest.mark.slow
def test_a_put_that_fails_anywhere_leaves_the_old_file_or_the_new_one_and_no_rest(tmp_path):
    failures = 0
    for number in range(1, 100):
        directory = tmp_path / str(number)
        for key, old in ((KEY, b"old"), ("c1/r2/new", None)):
            kept = LocalStorage(directory)
            if old:
                asyncio.run(put(kept, key, old))
            fs = Failing(number)
            try:
                asyncio.run(put(LocalStorage(directory, fs=fs), key, b"new"))
            except StorageFull:
                failures += 1
            else:
                assert fs.calls < number
                assert asyncio.run(read(kept, key)) == b"new"
                if old is None:
                    assert failures > 10
                    return
                continue
            content = (directory / key).read_bytes() if (directory / key).exists() else None
            assert content in (old, b"new")
            assert not list((directory / TEMPORARY_DIRECTORY).glob("*"))
    pytest.fail("a put has no end")


def test_a_caller_who_goes_leaves_no_temporary_file(tmp_path):
    async def scenario():
        kept = LocalStorage(tmp_path)
        is_waiting = asyncio.Event()

        async def body():
            yield b"x" * CHUNK_BYTES
            is_waiting.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(put(kept, body=body()))
        await is_waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scenario())
    assert files_in(tmp_path) == []


# -- files in threads -------------------------------------------------------------------------------------------------


def descriptors():
    return len(os.listdir("/proc/self/fd"))


def in_thread(function, *arguments):
    failures = []

    def guarded():
        try:
            function(*arguments)
        except StorageError as error:
            failures.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join(20)
    return failures


def test_a_file_that_is_closed_while_a_thread_uses_it_is_closed_by_that_thread(tmp_path):
    before = descriptors()
    writing = FileWriting(RealFileSystem(), tmp_path / "t" / "x")
    writing.begin()
    entered, leave = threading.Event(), threading.Event()

    def work():
        with writing.in_use():
            entered.set()
            assert leave.wait(20)

    thread = threading.Thread(target=work)
    thread.start()
    assert entered.wait(20)
    writing.close()
    assert writing.path.exists() and descriptors() == before + 1
    leave.set()
    thread.join(20)
    assert not writing.path.exists() and descriptors() == before
    assert in_thread(writing.add, b"x")


def test_a_file_is_not_opened_for_one_who_has_gone(tmp_path):
    before = descriptors()
    (tmp_path / "x").write_text("x")
    reading, writing = FileReading(RealFileSystem(), tmp_path / "x"), FileWriting(RealFileSystem(), tmp_path / "y")
    reading.close()
    writing.close()
    assert in_thread(reading.begin) and in_thread(writing.begin)
    reading.close()
    assert descriptors() == before and not (tmp_path / "y").exists()


def test_a_written_file_keeps_size_and_hash(tmp_path):
    writing = FileWriting(RealFileSystem(), tmp_path / "x")
    writing.begin()
    writing.add(b"ab")
    writing.add(b"c")
    assert (writing.size, writing.md5.hexdigest()) == (3, hashlib.md5(b"abc").hexdigest())
    writing.close()
    writing.close()
    assert not writing.path.exists()


def test_a_reader_that_has_not_begun_reads_nothing(tmp_path):
    with pytest.raises(StorageError):
        FileReading(RealFileSystem(), tmp_path / "x").pread(0, 1)


def test_a_directory_is_no_file(tmp_path):
    with pytest.raises(FileMissing):
        stat_file(tmp_path)
    with pytest.raises(FileMissing):
        stat_file(tmp_path / "x" / "y")
