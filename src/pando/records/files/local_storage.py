"""Files on this machine's disk, laid out as PocketBase's local driver does: `DIR/{key}`, and `DIR/{key}.attrs` by it.

The `.attrs` file is JSON with the content type, metadata and MD5. Both are written durably through
`pando.store.files`: to a temporary name in `DIR/.pando_tmp`, synced, renamed; attributes first, so that a crash
leaves at most attributes of a file that is not there. What a crash leaves in `DIR/.pando_tmp` has no key and is removed
by `remove_leftovers`.
Not here: other machines (`s3_storage`).
"""

from __future__ import annotations

import os
from base64 import b64decode, b64encode
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Final

import msgspec

from pando.clock import random_bytes
from pando.errors import StorageError
from pando.records.files.local_files import FileReading, FileWriting, stat_file
from pando.records.files.names import ATTRIBUTES_SUFFIX
from pando.records.files.storage import CHUNK_BYTES, DEFAULT_TYPE, Body, Stored, check_key, check_range, chunks_of
from pando.records.workers import Workers
from pando.store.files import (
    FileMissing,
    FileSystem,
    RealFileSystem,
    make_directories,
    read_bounded,
    remove_if_possible,
    translate,
    write_durably,
)

THREADS: Final = 4
"""File calls of one web process that are under way at once."""
WAITING_MAX: Final = 1024
"""File calls that wait for a thread."""
ATTRIBUTES_BYTES_MAX: Final = 64 * 1024
"""Longest `.attrs` file that is read."""
TEMPORARY_DIRECTORY: Final = ".pando_tmp"
_MODE: Final = 0o644  # as PocketBase, so that another program may serve them
_DIRECTORY_MODE: Final = 0o755
_LIST_BATCH: Final = 256
_PUT_TRIES: Final = 3


class Attributes(msgspec.Struct, frozen=True, kw_only=True):
    """What the `.attrs` file says. Keys are those of Go's blob drivers; `md5` is base64."""

    cache_control: str = msgspec.field(default="", name="user.cache_control")
    content_disposition: str = msgspec.field(default="", name="user.content_disposition")
    content_encoding: str = msgspec.field(default="", name="user.content_encoding")
    content_language: str = msgspec.field(default="", name="user.content_language")
    content_type: str = msgspec.field(default="", name="user.content_type")
    metadata: dict[str, str] | None = msgspec.field(default=None, name="user.metadata")
    md5: str | None = None


_decode_attributes: Final = msgspec.json.Decoder(Attributes).decode


class LocalStorage:
    """Keeps files under a directory. Raises StorageError, StorageFull, FileMissing; Overloaded when too many wait."""

    def __init__(
        self, directory: Path, *, fs: FileSystem | None = None, random: Callable[[int], bytes] = random_bytes
    ) -> None:
        self._directory = directory
        self._fs = fs or RealFileSystem()
        self._random = random
        self._workers = Workers("files", threads=THREADS, waiting_max=WAITING_MAX)

    # -- writing

    async def put(
        self, key: str, body: Body, *, content_type: str, metadata: Mapping[str, str] | None = None, size_max: int
    ) -> int:
        """Store a file and what describes it."""
        check_key(key)
        temporary = self._directory / TEMPORARY_DIRECTORY / self._random(12).hex()
        writing = FileWriting(self._fs, temporary)
        try:
            await self._workers.run(writing.begin)
            async for chunk in chunks_of(body, size_max):
                await self._workers.run(writing.add, chunk)
            await self._workers.run(self._finish, writing, key, content_type, metadata)
        finally:
            writing.close()
        return writing.size

    def _finish(self, writing: FileWriting, key: str, content_type: str, metadata: Mapping[str, str] | None) -> None:
        described = Attributes(
            content_type=content_type,
            metadata=dict(metadata) if metadata else None,
            md5=b64encode(writing.md5.digest()).decode(),
        )
        with writing.in_use():
            writing.sync()
            temporary = writing.path.with_name(writing.path.name + ATTRIBUTES_SUFFIX)
            try:
                write_durably(self._fs, temporary, msgspec.json.encode(described), _MODE)
                self._place(temporary, writing.path, self._path(key))
            except StorageError:
                remove_if_possible(self._fs, temporary)
                raise

    def _place(self, attributes: Path, content: Path, target: Path) -> None:
        """Give both their names; a directory that someone removes as empty meanwhile is made again."""
        for tries_left in reversed(range(_PUT_TRIES)):
            make_directories(self._fs, target.parent, _DIRECTORY_MODE)
            try:
                if self._fs.exists(attributes):
                    self._fs.replace(attributes, _attributes_path(target))
                self._fs.replace(content, target)
                self._fs.fsync_dir(target.parent)
            except FileMissing:
                if not tries_left:
                    raise
            else:
                return

    async def delete(self, key: str) -> None:
        """Remove a file and what describes it."""
        check_key(key)
        await self._workers.run(self._delete_blocking, self._path(key))

    def _delete_blocking(self, path: Path) -> None:
        if self._fs.exists(path.parent):
            self._unlink_if_there(path)
            self._unlink_if_there(_attributes_path(path))
            self._fs.fsync_dir(path.parent)

    def _unlink_if_there(self, path: Path) -> None:
        try:
            self._fs.unlink(path)
        except FileMissing:
            return

    async def delete_prefix(self, prefix: str) -> None:
        """Remove a directory with all that is in it."""
        check_key(prefix)
        await self._workers.run(self._delete_tree, self._path(prefix))

    def _delete_tree(self, directory: Path) -> None:
        """Remove what is below, deepest first; what comes to be meanwhile stays, with its directory."""
        emptied = [directory]
        for folder, folders, names in os.walk(directory, onerror=_raise_unless_missing):
            emptied += [Path(folder, name) for name in folders]
            for name in names:
                self._unlink_if_there(Path(folder, name))
        for path in reversed(emptied):
            try:
                self._fs.rmdir(path)
            except StorageError:
                continue  # not there, or not empty any more: both are fine
        if self._fs.exists(directory.parent):
            self._fs.fsync_dir(directory.parent)

    def remove_leftovers(self, *, before_ms: int) -> int:
        """Remove temporary files that were last written before a time; give how many. Blocks."""
        directory = self._directory / TEMPORARY_DIRECTORY
        if not self._fs.exists(directory):
            return 0
        paths = [directory / name for name in self._fs.listdir(directory)]
        old = [path for path in paths if _modified_ms(stat_file(path)) < before_ms]
        return sum(remove_if_possible(self._fs, path) for path in old)

    # -- reading

    async def head(self, key: str) -> Stored:
        """Say what is known of a file; without an `.attrs` file its type is not known."""
        check_key(key)
        return await self._workers.run(self._head_blocking, key)

    def _head_blocking(self, key: str) -> Stored:
        path = self._path(key)
        found = stat_file(path)
        attributes = self._attributes(path)
        modified = _modified_ms(found)
        return Stored(
            key=key,
            size=found.st_size,
            modified_ms=modified,
            etag=_etag(attributes, modified, found.st_size),
            content_type=attributes.content_type or DEFAULT_TYPE,
            metadata=attributes.metadata or {},
        )

    def _attributes(self, path: Path) -> Attributes:
        """Read what describes a file; what cannot be read (others write it without syncing) describes nothing."""
        try:
            return _decode_attributes(read_bounded(self._fs, _attributes_path(path), ATTRIBUTES_BYTES_MAX))
        except (FileMissing, msgspec.MsgspecError, RecursionError):
            return Attributes()

    async def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Give a part of a file in pieces."""
        check_key(key)
        check_range(start, end)
        reading = FileReading(self._fs, self._path(key))
        try:
            await self._workers.run(reading.begin)
            while end is None or start < end:
                size = CHUNK_BYTES if end is None else min(CHUNK_BYTES, end - start)
                piece = await self._workers.run(reading.pread, start, size)
                if not piece:
                    return
                yield piece
                start += len(piece)
        finally:
            reading.close()

    async def list(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Give key and size of all files below a directory."""
        if prefix:
            check_key(prefix)
        walk = self._walk(self._path(prefix))
        while batch := await self._workers.run(_next_batch, walk):
            for each in batch:
                yield each

    def _walk(self, directory: Path) -> Iterator[tuple[str, int]]:
        for folder, folders, names in os.walk(directory, onerror=_raise_unless_missing):
            folders[:] = sorted(name for name in folders if not name.startswith("."))
            for name in sorted(names):
                if name.endswith(ATTRIBUTES_SUFFIX):
                    continue
                path = Path(folder, name)
                try:
                    size = stat_file(path).st_size
                except FileMissing:
                    continue  # removed meanwhile
                yield path.relative_to(self._directory).as_posix(), size

    async def close(self) -> None:
        """Let the threads go."""
        self._workers.close()

    def _path(self, key: str) -> Path:
        return self._directory / key


def _attributes_path(path: Path) -> Path:
    return path.with_name(path.name + ATTRIBUTES_SUFFIX)


def _modified_ms(found: os.stat_result) -> int:
    return found.st_mtime_ns // 1_000_000


def _etag(attributes: Attributes, modified_ms: int, size: int) -> str:
    """Make a tag of the content's hash, so that every node that holds a copy gives the same; else of time and size."""
    try:
        digest = b64decode(attributes.md5 or "", validate=True)
    except ValueError:
        digest = b""
    return f'"{digest.hex()}"' if digest else f'"{modified_ms:x}-{size:x}"'


def _raise_unless_missing(error: OSError) -> None:
    translated = translate(error, "listing", Path(error.filename or "."))
    if not isinstance(translated, FileMissing):
        raise translated from error


def _next_batch(walk: Iterator[tuple[str, int]]) -> list[tuple[str, int]]:
    return list(islice(walk, _LIST_BATCH))
