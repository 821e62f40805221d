"""Where files are kept: the interface, and what all implementations share.

A key is parts with `/` between, made by `pando.records.files.names`; a prefix is whole parts too (`a/b` holds `a/b/c`,
not `a/bc`). One conformance suite runs against every implementation (tests/unit/records/test_records_storage.py).
Not here: files on this machine (`local_storage`), on S3 (`s3_storage`), which names there are (`names`).
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol

from pando.errors import RequestTooLarge, invariant
from pando.records.files.names import is_safe_part
from pando.store.files import FileMissing

__all__ = [
    "CHUNK_BYTES",
    "DEFAULT_TYPE",
    "Body",
    "FileMissing",
    "Storage",
    "Stored",
    "check_key",
    "check_range",
    "chunks_of",
]

CHUNK_BYTES: Final = 256 * 1024
"""What is in memory of a file that is read or written as a stream."""
DEFAULT_TYPE: Final = "application/octet-stream"

Body = bytes | AsyncIterable[bytes]
"""What is stored: whole, or piece by piece."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """What is known of a stored file. `etag` is a quoted strong tag; the same bytes may have another elsewhere."""

    key: str
    size: int
    modified_ms: int
    etag: str
    content_type: str = DEFAULT_TYPE
    metadata: Mapping[str, str] = field(default_factory=dict)


class Storage(Protocol):
    """Keeps files. A missing key raises FileMissing; every other refusal is a StorageError.

    Readers see a file whole or not at all, also while it is replaced; what `put` has returned from survives a crash.
    """

    async def put(
        self, key: str, body: Body, *, content_type: str, metadata: Mapping[str, str] | None = None, size_max: int
    ) -> int:
        """Store, over what is there; give the size. Over `size_max` it raises RequestTooLarge and leaves nothing."""
        ...

    async def head(self, key: str) -> Stored:
        """Say what is known of a file."""
        ...

    def read(self, key: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Give bytes `start` up to `end` (not included; None: the file's), in pieces of at most CHUNK_BYTES.

        A range past the end gives what is there. FileMissing comes with the first piece.
        """
        ...

    async def delete(self, key: str) -> None:
        """Remove a file; one that is not there is no error."""
        ...

    async def delete_prefix(self, prefix: str) -> None:
        """Remove all files under a prefix; none there is no error."""
        ...

    def list(self, prefix: str) -> AsyncIterator[tuple[str, int]]:
        """Give key and size of all files under a prefix ("" for all), in no promised order."""
        ...

    async def close(self) -> None:
        """Give back what is held."""
        ...


def check_key(key: str) -> None:
    """Raise InvariantError for a key that `names` cannot have made: the last fence before a disk or bucket."""
    invariant(all(is_safe_part(part) for part in key.split("/")), "a key has safe parts", key=key)


def check_range(start: int, end: int | None) -> None:
    """Raise InvariantError for a range that runs backwards."""
    invariant(start >= 0 and (end is None or end >= start), "a range goes forward", start=start, end=end)


async def chunks_of(body: Body, size_max: int) -> AsyncGenerator[bytes, None]:
    """Give a body in pieces of at most CHUNK_BYTES; raises RequestTooLarge as soon as there is more than `size_max`."""
    size = 0
    async for piece in _pieces(body):
        size += len(piece)
        if size > size_max:
            raise RequestTooLarge(f"the file has more than the {size_max} bytes that are allowed")
        for start in range(0, len(piece), CHUNK_BYTES):
            yield piece[start : start + CHUNK_BYTES]


async def _pieces(body: Body) -> AsyncIterator[bytes]:
    if isinstance(body, bytes):
        yield body
        return
    async for piece in body:
        yield piece
