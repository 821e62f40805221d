"""Brings a SQL script from a request, or from where a URL points, into a new database file.

Not here: what a script may do (`pando.sql.loading`), the database that comes of the file (`pando.api.admin`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pando import limits
from pando.api.threads import in_thread
from pando.api.transfers import Transfers
from pando.errors import InvalidRequest, PandoError
from pando.node.http_client import download
from pando.sql.loading import Loader

FEED_BYTES: Final = limits.MIB
"""About as much of a script is handed to the thread at once."""
SILENCE_S: Final = 60.0
"""How long a server may take between two pieces of a script."""
URL_CHARS_MAX: Final = 4096


async def load_file(transfers: Transfers, chunks: AsyncIterator[bytes], size_bytes_max: int | None) -> Path:
    """Read a script into a temporary file; the caller passes it to `forget`. Raises PandoError."""
    path = transfers.reserve()
    try:
        loader = await in_thread(Loader, path, size_bytes_max=size_bytes_max)
        try:
            await _feed(loader, chunks)
        finally:
            await in_thread(loader.close)
    except BaseException:
        transfers.forget(path)
        raise
    return path


async def _feed(loader: Loader, chunks: AsyncIterator[bytes]) -> None:
    parts: list[bytes] = []
    size = 0
    async for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= FEED_BYTES:
            await in_thread(loader.feed, b"".join(parts))
            parts, size = [], 0
    await in_thread(loader.feed, b"".join(parts))
    await in_thread(loader.finish)


async def fetch_script(url: str) -> AsyncIterator[bytes]:
    """Give what is at an address. Raises InvalidRequest."""
    base, path = split_dump_url(url)
    try:
        async with download(base, path, [], pause_s=SILENCE_S) as answer:
            if answer.status != 200:
                raise InvalidRequest(f"dump_url answered with status {answer.status}, not 200: {url[:200]}")
            async for chunk in answer.chunks():
                yield chunk
    except InvalidRequest:
        raise
    except PandoError as error:
        raise InvalidRequest(f"dump_url cannot be read: {error.message}") from error


def split_dump_url(url: str) -> tuple[str, str]:
    """Cut an address into server and path; raises InvalidRequest."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise InvalidRequest(f"dump_url {url[:200]!r} is no address") from error
    if parts.scheme == "file":
        raise InvalidRequest(
            "dump_url must be http or https: files of the server are not read for clients; send the dump itself to "
            "POST /v1/namespaces/NAME/load, or use `pando databases load`"
        )
    if parts.scheme not in {"http", "https"} or not parts.hostname or len(url) > URL_CHARS_MAX:
        raise InvalidRequest(f"dump_url {url[:200]!r} is no http or https address")
    if parts.username is not None or not url.isascii() or any(character <= " " for character in url):
        raise InvalidRequest("dump_url must not hold a name, a password or blanks")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    number = port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{host}:{number}", (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
