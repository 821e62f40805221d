"""What only S3 can get wrong: requests on the wire, parts, refusals. The rest is in the conformance suite."""

import asyncio

import pytest
import small_s3
from obstore.store import MemoryStore

from pando.errors import RequestTooLarge, StorageError
from pando.records.files import s3_storage
from pando.records.files.s3_storage import PART_BYTES, ObjectStorage, S3Settings, open_s3

KEY = "c1/r1/a_1.png"
PIECE = bytes(range(256)) * 4096  # 1 MiB


def settings(url, **changes):
    given = {"bucket": "bucket", "region": "eu-west-1", "endpoint": url, "access_key": "someone", "secret": "s"}
    return S3Settings(**given | {"is_path_style": True} | changes)


@pytest.fixture
def s3():
    with small_s3.served() as (found, url):
        found.url = url
        yield found


async def pieces(count, error=None):
    for _ in range(count):
        yield PIECE
    if error:
        raise error


async def put(kept, body, size_max=100 * PART_BYTES, **more):
    return await kept.put(KEY, body, content_type="image/png", size_max=size_max, **more)


async def read(kept, *bounds):
    return b"".join([piece async for piece in kept.read(KEY, *bounds)])


def test_a_small_file_is_one_request_there_and_back(s3):
    async def scenario():
        kept = open_s3(settings(s3.url))
        await put(kept, b"content", metadata={"original-filename": "Größe 100%.png"})
        found = await kept.head(KEY)
        assert (found.size, found.content_type, found.metadata) == (
            7,
            "image/png",
            {"original-filename": "Größe 100%.png"},
        )
        assert found.modified_ms == small_s3.MOMENT.timestamp() * 1000
        assert found.etag == s3.objects[KEY][1]
        assert await read(kept) == b"content"
        assert await read(kept, 2, 4) == b"nt"
        assert await read(kept, 3) == b"tent"

    asyncio.run(scenario())
    assert [each[0] for each in s3.requests] == ["PUT", "HEAD", "GET", "GET", "GET"]


def test_ranges_past_the_end_are_empty(s3):
    async def scenario():
        kept = open_s3(settings(s3.url))
        await put(kept, b"content")
        assert [await read(kept, 7), await read(kept, 9, 12), await read(kept, 5, 100), await read(kept, 3, 3)] == [
            b"",
            b"",
            b"nt",
            b"",
        ]
        await put(kept, b"")
        assert await read(kept, 0, 5) == b""

    asyncio.run(scenario())


@pytest.mark.slow
def test_a_large_file_goes_in_parts(s3):
    async def scenario():
        kept = open_s3(settings(s3.url))
        assert await put(kept, pieces(12)) == 12 * len(PIECE)
        assert await read(kept) == PIECE * 12
        assert (await kept.head(KEY)).content_type == "image/png"

    asyncio.run(scenario())
    assert len([each for each in s3.requests if "partNumber" in each[2]]) == 3
    assert not s3.uploads and not s3.aborted


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "error", "size_max", "expected"),
    [
        (12, ConnectionResetError("gone"), 100 * PART_BYTES, ConnectionResetError),
        (12, None, 11 * len(PIECE), RequestTooLarge),
        (12, ValueError("odd"), 100 * PART_BYTES, ValueError),
    ],
)
def test_parts_that_break_off_are_taken_back(s3, count, error, size_max, expected):
    async def scenario():
        kept = open_s3(settings(s3.url))
        with pytest.raises(expected):
            await put(kept, pieces(count, error), size_max)

    asyncio.run(scenario())
    assert not s3.objects and not s3.uploads and len(s3.aborted) == 1


@pytest.mark.slow
def test_parts_of_one_who_goes_are_taken_back(s3):
    async def scenario():
        kept = open_s3(settings(s3.url))
        is_waiting = asyncio.Event()

        async def body():
            for _ in range(8):
                yield PIECE
            is_waiting.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(put(kept, body()))
        await is_waiting.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await kept.close()
        kept._uploads._pool.shutdown(wait=True)

    asyncio.run(scenario())
    assert not s3.objects and not s3.uploads and len(s3.aborted) == 1


def test_a_piece_that_never_comes_ends_the_upload(monkeypatch):
    monkeypatch.setattr(s3_storage, "PIECE_WAIT_S", 0.01)

    async def scenario():
        kept = ObjectStorage(MemoryStore())

        async def body():
            yield b"x" * PART_BYTES
            await asyncio.Event().wait()

        with pytest.raises(StorageError):
            await put(kept, body())
        assert [key async for key, _ in kept.list("")] == []

    asyncio.run(scenario())


def test_lists_of_several_pages_and_bulk_deletes(s3):
    async def scenario():
        kept = open_s3(settings(s3.url))
        for number in range(205):
            s3.objects[f"c1/r1/f{number:03}"] = (b"x" * number, '"e"', {})
        s3.objects["c1/r11/other"] = (b"", '"e"', {})
        found = [each async for each in kept.list("c1/r1")]
        assert found == [(f"c1/r1/f{number:03}", number) for number in range(205)]
        await kept.delete_prefix("c1/r1")

    asyncio.run(scenario())
    assert list(s3.objects) == ["c1/r11/other"]
    assert len([each for each in s3.requests if each[0] == "POST"]) == 1


def test_a_refusal_is_an_error_of_the_storage(s3):
    async def scenario():
        kept = open_s3(settings(s3.url, access_key="nobody"))
        for call in (put(kept, b"x"), kept.head(KEY), read(kept), kept.delete(KEY), kept.delete_prefix("c1")):
            with pytest.raises(StorageError) as caught:
                await call
            assert len(str(caught.value)) < 500 and "\n" not in str(caught.value)

    asyncio.run(scenario())


def test_a_server_that_is_not_there_is_an_error_of_the_storage(monkeypatch):
    monkeypatch.setattr(s3_storage, "RETRIES_MAX", 0)

    async def scenario():
        kept = open_s3(settings("http://127.0.0.1:9"))
        with pytest.raises(StorageError):
            await kept.head(KEY)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("endpoint", "is_path_style", "expected"),
    [
        ("", False, ""),
        ("", True, ""),
        ("s3.example.org", True, "https://s3.example.org"),
        ("http://s3.example.org:9000/", True, "http://s3.example.org:9000"),
        ("s3.example.org", False, "https://bucket.s3.example.org"),
        ("https://bucket.s3.example.org", False, "https://bucket.s3.example.org"),
        ("https://s3.example.org:9000", False, "https://bucket.s3.example.org:9000"),
    ],
)
def test_endpoints(endpoint, is_path_style, expected):
    assert s3_storage._endpoint(settings(endpoint, is_path_style=is_path_style)) == expected
