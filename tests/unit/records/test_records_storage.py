"""The conformance suite of storages: what every implementation does."""

import asyncio
import itertools

import pytest
from obstore.store import MemoryStore

from pando.errors import InvariantError, RequestTooLarge
from pando.records.files.local_storage import LocalStorage
from pando.records.files.s3_storage import ObjectStorage
from pando.records.files.storage import CHUNK_BYTES, FileMissing, Storage

KEY = "c1/r1/photo_1234567890.png"
BIG = bytes(itertools.islice(itertools.cycle(range(251)), 2 * CHUNK_BYTES + 17))
BOUND = 10 * CHUNK_BYTES


@pytest.fixture(params=["local", "objects"])
def kept(request, tmp_path) -> Storage:
    return LocalStorage(tmp_path / "storage") if request.param == "local" else ObjectStorage(MemoryStore())


def run(scenario):
    async def all_of_it():
        try:
            return await scenario
        finally:
            await asyncio.get_running_loop().shutdown_asyncgens()

    return asyncio.run(all_of_it())


async def put(kept, key, body=b"x", content_type="text/plain", **more):
    return await kept.put(key, body, content_type=content_type, size_max=BOUND, **more)


async def read(kept, key, *bounds):
    return b"".join([piece async for piece in kept.read(key, *bounds)])


async def keys(kept, prefix=""):
    return sorted([key async for key, _ in kept.list(prefix)])


async def pieces(*parts):
    for part in parts:
        yield part


@pytest.mark.parametrize("body", [b"", b"one", BIG], ids=["empty", "small", "big"])
def test_what_was_put_is_read(kept, body):
    async def scenario():
        assert await put(kept, KEY, body, "image/png") == len(body)
        found = await kept.head(KEY)
        assert (found.key, found.size, found.content_type) == (KEY, len(body), "image/png")
        assert found.modified_ms > 1_600_000_000_000
        assert found.etag[0] == found.etag[-1] == '"' and len(found.etag) > 2
        assert await read(kept, KEY) == body

    run(scenario())


def test_a_body_may_come_in_pieces(kept):
    async def scenario():
        assert await put(kept, KEY, pieces(b"ab", b"", BIG, b"cd")) == len(BIG) + 4
        assert await read(kept, KEY) == b"ab" + BIG + b"cd"
        assert await put(kept, "c1/r1/none", pieces()) == 0
        assert await read(kept, "c1/r1/none") == b""

    run(scenario())


def test_reading_comes_in_bounded_pieces(kept):
    async def scenario():
        await put(kept, KEY, BIG)
        sizes = [len(piece) async for piece in kept.read(KEY)]
        assert max(sizes) <= CHUNK_BYTES and sum(sizes) == len(BIG) and min(sizes) > 0

    run(scenario())


@pytest.mark.parametrize(
    "bounds",
    [
        (0, 1),
        (0, 0),
        (5, 5),
        (1, 3),
        (len(BIG) - 1, None),
        (len(BIG) - 1, len(BIG)),
        (len(BIG) - 1, len(BIG) + 100),
        (len(BIG), None),
        (len(BIG) + 5, len(BIG) + 9),
        (len(BIG) + 5, None),
        (CHUNK_BYTES - 1, CHUNK_BYTES + 1),
        (3, 2 * CHUNK_BYTES + 5),
    ],
)
def test_a_range_gives_what_is_there_of_it(kept, bounds):
    async def scenario():
        await put(kept, KEY, BIG)
        assert await read(kept, KEY, *bounds) == BIG[slice(*bounds)]

    run(scenario())


def test_a_range_of_an_empty_file_is_empty(kept):
    async def scenario():
        await put(kept, KEY, b"")
        assert await read(kept, KEY, 0, 10) == b""

    run(scenario())


def test_metadata_is_kept(kept):
    async def scenario():
        await put(kept, KEY, metadata={"original-filename": "Photo.png"})
        assert (await kept.head(KEY)).metadata == {"original-filename": "Photo.png"}

    run(scenario())


def test_what_is_not_there_is_missing(kept):
    async def scenario():
        with pytest.raises(FileMissing):
            await kept.head(KEY)
        with pytest.raises(FileMissing):
            await read(kept, KEY)
        with pytest.raises(FileMissing):
            await read(kept, KEY, 3, 5)
        await put(kept, KEY)
        with pytest.raises(FileMissing):
            await kept.head("c1/r1")
        with pytest.raises(FileMissing):
            await read(kept, "c1/r1")
        with pytest.raises(FileMissing):
            await kept.head(KEY + "/more")

    run(scenario())


def test_putting_again_replaces(kept):
    async def scenario():
        await put(kept, KEY, b"first", "text/plain")
        first = await kept.head(KEY)
        await put(kept, KEY, b"second", "text/html")
        second = await kept.head(KEY)
        assert (second.size, second.content_type) == (6, "text/html") and second.etag != first.etag
        assert await read(kept, KEY) == b"second"

    run(scenario())


@pytest.mark.parametrize("body", [b"x" * 11, [b"x" * 6, b"y" * 5], [b"x" * 10, b"", b"y"]])
def test_a_body_over_the_bound_leaves_nothing(kept, body):
    async def scenario():
        await kept.put("c1/r1/ok", b"x" * 10, content_type="a/b", size_max=10)
        given = body if isinstance(body, bytes) else pieces(*body)
        with pytest.raises(RequestTooLarge):
            await kept.put(KEY, given, content_type="a/b", size_max=10)
        assert await keys(kept) == ["c1/r1/ok"]

    run(scenario())


async def breaking():
    yield b"some"
    raise ConnectionResetError("the client went")


def test_a_body_that_breaks_off_leaves_the_old_file(kept):
    async def scenario():
        await put(kept, KEY, b"old")
        with pytest.raises(ConnectionResetError):
            await put(kept, KEY, breaking())
        assert await read(kept, KEY) == b"old"
        with pytest.raises(ConnectionResetError):
            await put(kept, "c1/r1/new", breaking())
        assert await keys(kept) == [KEY]

    run(scenario())


def test_deleting(kept):
    async def scenario():
        await put(kept, KEY)
        await put(kept, KEY + ".other")
        await kept.delete(KEY)
        await kept.delete(KEY)
        await kept.delete("c9/r9/never")
        assert await keys(kept) == [KEY + ".other"]
        await put(kept, KEY, b"again")
        assert await read(kept, KEY) == b"again"

    run(scenario())


def test_deleting_a_prefix_takes_whole_parts(kept):
    async def scenario():
        for key in ("c1/r1/a", "c1/r1/thumbs_a/1x1_a", "c1/r1/b", "c1/r11/a", "c1/r2/a", "c2/r1/a"):
            await put(kept, key)
        await kept.delete_prefix("c1/r1/thumbs_a")
        assert await keys(kept, "c1/r1") == ["c1/r1/a", "c1/r1/b"]
        await kept.delete_prefix("c1/r1")
        assert await keys(kept) == ["c1/r11/a", "c1/r2/a", "c2/r1/a"]
        await kept.delete_prefix("c1/r1")
        await kept.delete_prefix("c1")
        await kept.delete_prefix("c9")
        assert await keys(kept) == ["c2/r1/a"]
        await put(kept, "c1/r1/a", b"again")
        assert await read(kept, "c1/r1/a") == b"again"

    run(scenario())


def test_listing_takes_whole_parts_and_tells_sizes(kept):
    async def scenario():
        made = {f"c1/r{number}/f{number}": number for number in range(700)}
        assert await keys(kept) == [] and await keys(kept, "c1") == []
        for key, size in list(made.items())[:20]:
            await put(kept, key, b"x" * size)
        assert sorted([each async for each in kept.list("c1")]) == sorted(list(made.items())[:20])
        assert await keys(kept, "c1/r1") == ["c1/r1/f1"]
        assert await keys(kept, "c") == []

    run(scenario())


@pytest.mark.slow
def test_many_files_are_listed_and_deleted(kept):
    async def scenario():
        for start in range(0, 300, 50):
            await asyncio.gather(*(put(kept, f"c1/r{number}/f") for number in range(start, start + 50)))
        assert len(await keys(kept, "c1")) == 300
        await kept.delete_prefix("c1")
        assert await keys(kept) == []

    run(scenario())


@pytest.mark.parametrize("key", ["", "/", "a//b", "../a", "a/../b", "/a", "a/", "a\\b", "a/\0"])
def test_keys_that_no_name_makes_are_stopped(kept, key):
    async def scenario():
        for call in (kept.head(key), kept.delete(key), kept.delete_prefix(key), put(kept, key), read(kept, key)):
            with pytest.raises(InvariantError):
                await call

    run(scenario())


def test_a_range_that_runs_backwards_is_stopped(kept):
    async def scenario():
        await put(kept, KEY)
        with pytest.raises(InvariantError):
            await read(kept, KEY, 5, 4)
        with pytest.raises(InvariantError):
            await read(kept, KEY, -1)

    run(scenario())


def test_puts_of_one_key_at_once_leave_one_of_them_whole(kept):
    async def scenario():
        bodies = [bytes([number]) * 1000 for number in range(8)]
        await asyncio.gather(*(put(kept, KEY, pieces(body[:300], body[300:])) for body in bodies))
        assert await read(kept, KEY) in bodies
        assert await keys(kept) == [KEY]

    run(scenario())


def test_a_reader_that_stops_early_holds_nothing(kept):
    async def scenario():
        await put(kept, KEY, BIG)
        async for piece in kept.read(KEY):
            assert BIG.startswith(piece)
            break
        await kept.delete(KEY)
        assert await keys(kept) == []

    run(scenario())


def test_closing_ends_it(kept):
    async def scenario():
        await put(kept, KEY)
        await kept.close()

    run(scenario())
