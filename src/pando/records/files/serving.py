"""One answer with a file: status, headers, and a body that is read from the storage while it is sent.

Not here: whether the caller may have it (rules, protected files), which thumb is meant (`pando.records.files.sizes`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

from pando.records.files.content import file_headers
from pando.records.files.ranges import Conditions, Multipart, Span, Version, multipart, select
from pando.records.files.storage import Storage, Stored

BOUNDARY_BYTES: Final = 16
_NOT_MODIFIED_HEADERS: Final = ("Cache-Control", "ETag", "Last-Modified")
_NO_OVERLAP: Final = b"invalid range: failed to overlap\n"


@dataclass(frozen=True, slots=True)
class FileAnswer:
    """What is sent. `body` is None where nothing follows the headers; one that is not read to its end is closed."""

    status: int
    headers: dict[str, str]
    body: AsyncIterator[bytes] | None = None


def answer_file(
    storage: Storage, stored: Stored, name: str, asked: Conditions, *, boundary: str, is_download: bool = False
) -> FileAnswer:
    """Answer with a stored file under a name. `boundary`: random text, for bodies of several ranges.

    Reading begins with the first piece of the body, and raises FileMissing and StorageError there.
    """
    headers = file_headers(stored, name, is_download=is_download)
    selection = select(asked, Version(stored.size, stored.etag, stored.modified_ms // 1000))
    match selection.status:
        case 304:
            return FileAnswer(304, {name: headers[name] for name in _NOT_MODIFIED_HEADERS})
        case 412:
            return FileAnswer(412, {"Content-Length": "0"})
        case 416:
            return _unsatisfiable(headers, stored.size, is_head=asked.method == "HEAD")
    if len(selection.spans) > 1:
        return _several(storage, stored, asked, headers, selection.spans, boundary)
    span = selection.spans[0] if selection.spans else Span(0, stored.size)
    headers["Content-Length"] = str(span.length)
    if selection.spans:
        headers["Content-Range"] = span.content_range(stored.size)
    body = None if asked.method == "HEAD" else storage.read(stored.key, span.start, span.end)
    return FileAnswer(selection.status, headers, body)


def _unsatisfiable(headers: dict[str, str], size: int, *, is_head: bool) -> FileAnswer:
    """Say that none of what was asked for is in the file, as Go's file server does."""
    kept = {name: headers[name] for name in ("Content-Disposition", "Content-Security-Policy")}
    more = {"Content-Type": "text/plain; charset=utf-8", "Content-Range": f"bytes */{size}"}
    kept |= more | {"Content-Length": str(len(_NO_OVERLAP))}
    return FileAnswer(416, kept, None if is_head else _one(_NO_OVERLAP))


async def _one(text: bytes) -> AsyncIterator[bytes]:
    yield text


def _several(
    storage: Storage,
    stored: Stored,
    asked: Conditions,
    headers: dict[str, str],
    spans: tuple[Span, ...],
    boundary: str,
) -> FileAnswer:
    made = multipart(spans, size=stored.size, content_type=headers["Content-Type"], boundary=boundary)
    headers |= {"Content-Type": made.content_type, "Content-Length": str(made.length)}
    return FileAnswer(206, headers, None if asked.method == "HEAD" else _parts(storage, stored.key, made))


async def _parts(storage: Storage, key: str, made: Multipart) -> AsyncIterator[bytes]:
    for part in made.parts:
        yield part.head
        async for piece in storage.read(key, part.span.start, part.span.end):
            yield piece
    yield made.tail
