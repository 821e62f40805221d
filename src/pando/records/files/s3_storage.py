"""Files on S3, or on what speaks its protocol, through obstore.

Only obstore's blocking calls are used, in a few threads: its asyncio calls leave threads of their own behind that can
abort the interpreter when it ends. Make the storage after the fork of a process, never before: obstore does not live
through one. A body that comes piece by piece is pulled by the thread that uploads it, so that a slow one costs a
thread and no memory; the first part decides whether one request is enough. Metadata is percent-encoded, as
headers are ASCII.
Not here: this machine's disk (`pando.records.files.local_storage`).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import S3Store

from pando.errors import PandoError, StorageError
from pando.records.files.storage import (
    CHUNK_BYTES,
    DEFAULT_TYPE,
    Body,
    FileMissing,
    Stored,
    check_key,
    check_range,
    chunks_of,
)
from pando.records.workers import Workers

if TYPE_CHECKING:
    from obstore import Attributes, BytesStream, GetOptions, GetResult, ObjectMeta
    from obstore.store import ObjectStore

PART_BYTES: Final = 5 * 1024 * 1024
"""One part of a large upload: the least that S3 takes."""
PARTS_AT_ONCE: Final = 2
"""Parts of one upload under way at once: with the one that fills, 15 MiB of memory."""
UPLOADS_MAX: Final = 4
"""Uploads of one web process at once."""
READS_MAX: Final = 8
"""Other requests of one web process to S3 at once."""
WAITING_MAX: Final = 1024
"""Requests that wait for a thread."""
PIECE_WAIT_S: Final = 60.0
"""How long an upload waits for the next piece of its body."""
REQUEST_S: Final = 300.0
"""Longest request to S3, body included."""
CONNECT_S: Final = 5.0
RETRIES_MAX: Final = 3
RETRY_S: Final = 15.0
"""How long a request that failed is tried again."""
_DELETE_BATCH: Final = 1000
_TYPE: Final = "Content-Type"
_ERROR_CHARS_MAX: Final = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Settings:
    """Which bucket, and how it is reached. Without an endpoint it is Amazon's of the region."""

    bucket: str
    region: str
    endpoint: str = ""
    access_key: str = ""
    secret: str = ""
    is_path_style: bool = False
    """Whether the bucket is named in the path, not in the host name."""


def open_s3(settings: S3Settings) -> ObjectStorage:
    """Make the storage of a bucket; nothing is sent yet."""
    endpoint = _endpoint(settings)
    given = {"endpoint": endpoint} if endpoint else {}
    if settings.access_key:
        given |= {"access_key_id": settings.access_key, "secret_access_key": settings.secret}
    store = S3Store(
        settings.bucket,
        region=settings.region or "us-east-1",
        virtual_hosted_style_request=not settings.is_path_style,
        client_options={
            "allow_http": endpoint.startswith("http:"),
            "connect_timeout": timedelta(seconds=CONNECT_S),
            "timeout": timedelta(seconds=REQUEST_S),
        },
        retry_config={"max_retries": RETRIES_MAX, "retry_timeout": timedelta(seconds=RETRY_S)},
        **given,  # type: ignore[arg-type]
    )
    return ObjectStorage(store)


def _endpoint(settings: S3Settings) -> str:
    """Give the URL that requests go to; with the bucket in the host name, obstore wants it there already."""
    if not settings.endpoint:
        return ""
    text = settings.endpoint if "://" in settings.endpoint else f"https://{settings.endpoint}"
    parts = urlsplit(text.rstrip("/"))
    if settings.is_path_style or parts.netloc.startswith(f"{settings.bucket}."):
        return urlunsplit(parts)
    return urlunsplit(parts._replace(netloc=f"{settings.bucket}.{parts.netloc}"))


class ObjectStorage:
    """Keeps files in an object store. Raises StorageError, FileMissing; Overloaded when too many wait."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._uploads = Workers("uploads", threads=UPLOADS_MAX, waiting_max=WAITING_MAX)
        self._reads = Workers("objects", threads=READS_MAX, waiting_max=WAITING_MAX)

    # -- writing

    async def put(
        self, key: str, body: Body, *, content_type: str, metadata: Mapping[str, str] | None = None, size_max: int
    ) -> int:
        """Store a file, in one request or in parts; parts that break off are taken back."""
        check_key(key)
        attributes: Attributes = {_TYPE: content_type}
        attributes |= {name: quote(value, safe=" !#$&'()*+,/:;=?@[]~") for name, value in (metadata or {}).items()}
        chunks = chunks_of(body, size_max)
        try:
            first = await _first_part(chunks)
            if len(first) < PART_BYTES:
                await self._uploads.run(self._put_blocking, key, bytes(first), attributes)
                return len(first)
            return await self._put_parts(key, _Pull(first, chunks), attributes)
        finally:
            await chunks.aclose()

    async def _put_parts(self, key: str, pull: _Pull, attributes: Attributes) -> int:
        try:
            await self._uploads.run(self._put_blocking, key, pull, attributes)
        except StorageError:
            if pull.failure is not None:
                raise pull.failure from None
            raise
        finally:
            await pull.give_up()
        return pull.size

    def _put_blocking(self, key: str, data: bytes | Iterable[bytes], attributes: Attributes) -> None:
        with _translated("storing", key):
            obstore.put(
                self._store, key, data, attributes=attributes, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE
            )

    async def delete(self, key: str) -> None:
        """Remove a file."""
        check_key(key)
        await self._reads.run(self._delete_blocking, [key])

    def _delete_blocking(self, keys: list[str]) -> None:
        try:
            with _translated("removing", keys[0]):
                obstore.delete(self._store, keys)
        except FileMissing:
            return

    async def delete_prefix(self, prefix: str) -> None:
        """Remove all files under a prefix, as many in one request as S3 takes."""
        check_key(prefix)
        batch: list[str] = []
        async for key, _ in self.list(prefix):
            batch.append(key)
            if len(batch) == _DELETE_BATCH:
                await self._reads.run(self._delete_blocking, batch)
                batch = []
        if batch:
            await self._reads.run(self._delete_blocking, batch)

    # -- reading

    async def head(self, key: str) -> Stored:
        """Say what is known of a file."""
        check_key(key)
        return await self._reads.run(self._head_blocking, key)

    def _head_blocking(self, key: str) -> Stored:
        found = self._get_blocking(key, {"head": True})
        attributes = dict(found.attributes)
        content_type = attributes.pop(_TYPE, DEFAULT_TYPE)
        return Stored(
            key=key,
            size=found.meta["size"],
            modified_ms=int(found.meta["last_modified"].timestamp() * 1000),
            etag=_quoted(found.meta["e_tag"]),
            content_type=content_type,
            metadata={name: unquote(value) for name, value in attributes.items() if name == name.lower()},
        )

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Give a part of a file in pieces."""
        check_key(key)
        check_range(start, end)
        stream = await self._reads.run(self._open_blocking, key, start, end)
        while stream is not None and (data := await self._reads.run(_next_of, stream, key)):
            for at in range(0, len(data), CHUNK_BYTES):
                yield data[at : at + CHUNK_BYTES]

    def _open_blocking(self, key: str, start: int, end: int | None) -> BytesStream | None:
        if end is not None and start == end:
            self._head_blocking(key)
            return None
        options: GetOptions = {}
        if end is not None:
            options = {"range": (start, end)}
        elif start:
            options = {"range": {"offset": start}}
        try:
            found = self._get_blocking(key, options)
        except FileMissing:
            raise
        except StorageError:
            if options and self._head_blocking(key).size <= start:
                return None  # a range past the end is an error there, and no bytes here
            raise
        return found.stream(min_chunk_size=CHUNK_BYTES)

    def _get_blocking(self, key: str, options: GetOptions) -> GetResult:
        with _translated("reading", key):
            return obstore.get(self._store, key, options=options)

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Give key and size of all files under a prefix."""
        if prefix:
            check_key(prefix)
        listing = iter(obstore.list(self._store, prefix or None, chunk_size=_DELETE_BATCH))
        while batch := await self._reads.run(_next_batch, listing, prefix):
            for found in batch:
                yield found["path"], found["size"]

    async def close(self) -> None:
        """Let the threads go."""
        self._uploads.close()
        self._reads.close()


class _Pull:
    """A body whose pieces a thread asks the event loop for."""

    def __init__(self, first: bytearray, chunks: AsyncIterator[bytes]) -> None:
        self._first = bytes(first)
        self._chunks = chunks
        self._loop = asyncio.get_running_loop()
        self._taking: asyncio.Task[bytes | None] | None = None
        self._is_over = False
        self.size = len(first)
        self.failure: BaseException | None = None

    def __iter__(self) -> Iterator[bytes]:
        yield self._first
        while (piece := self._next()) is not None:
            yield piece

    def _next(self) -> bytes | None:
        """Ask for a piece, in the thread. Whatever is raised here ends the upload."""
        asked = asyncio.run_coroutine_threadsafe(self._take(), self._loop)
        try:
            return asked.result(PIECE_WAIT_S)
        except TimeoutError:
            asked.cancel()
            raise

    async def _take(self) -> bytes | None:
        if self._is_over:
            raise StorageError("the upload was given up")
        self._taking = asyncio.current_task()
        try:
            piece = await anext(self._chunks, None)
        except (PandoError, OSError) as error:
            self.failure = error
            raise
        finally:
            self._taking = None
        self.size += len(piece or b"")
        return piece

    async def give_up(self) -> None:
        """Let nobody ask any more; one that waits for a piece is told to stop."""
        self._is_over = True
        if self._taking is not None:
            taking = self._taking
            taking.cancel()
            await asyncio.wait({taking})


async def _first_part(chunks: AsyncIterator[bytes]) -> bytearray:
    first = bytearray()
    async for chunk in chunks:
        first += chunk
        if len(first) >= PART_BYTES:
            break
    return first


def _next_of(stream: BytesStream, key: str) -> bytes:
    with _translated("reading", key):
        return bytes(next(stream, b""))


def _next_batch(listing: Iterator[Sequence[ObjectMeta]], prefix: str) -> Sequence[ObjectMeta]:
    with _translated("listing", prefix):
        return next(listing, [])


def _quoted(etag: str | None) -> str:
    return etag if etag and etag.endswith('"') else f'"{etag or ""}"'


@contextmanager
def _translated(action: str, key: str) -> Iterator[None]:
    """Make errors of ours of obstore's."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileMissing(f"there is no {key!r} in the bucket") from error
    except (BaseError, OSError, TimeoutError) as error:
        text = str(error).partition("\n")[0][:_ERROR_CHARS_MAX]
        raise StorageError(f"{action} {key!r} on S3 failed: {text}; check the S3 settings") from error
