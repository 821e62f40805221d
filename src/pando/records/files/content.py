"""What a file is, by its first bytes, and the headers it is sent with. Pure.

The type of an upload is decided by its content alone, never by its name or by what the client says; the table of first
bytes is in `pando.records.files.signatures`. What browsers would run (HTML, SVG, scripts) is sent as an attachment, and
under a policy that allows nothing.
Not here: ranges and conditions (`pando.records.files.ranges`).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import quote

from pando.records.files.ranges import format_date
from pando.records.files.signatures import HEAD_BYTES, Kind, sniff
from pando.records.files.storage import Stored

__all__ = ["HEAD_BYTES", "Kind", "content_type_of", "file_headers", "is_inline", "sniff"]

CONTENT_SECURITY_POLICY: Final = "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox"
CACHE_CONTROL: Final = "max-age=2592000, stale-while-revalidate=86400"

_OVERRIDES: Final = {
    ".svg": "image/svg+xml",
    ".css": "text/css",
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
}
"""Types of which content tells too little; by extension."""

_INLINE: Final = frozenset(
    {
        *("image/png", "image/jpg", "image/jpeg", "image/gif", "image/webp", "image/avif", "image/bmp"),
        *("image/x-icon", "image/vnd.microsoft.icon"),
        *("video/webm", "video/mp4", "video/3gpp", "video/quicktime", "video/ogg", "video/x-ms-wmv"),
        *("audio/basic", "audio/aiff", "audio/mpeg", "audio/midi", "audio/mp3", "audio/ogg", "audio/webm"),
        *("audio/wave", "audio/wav", "audio/x-wav", "audio/x-m4a", "audio/mp4", "audio/aac", "audio/flac"),
        *("application/pdf", "application/x-pdf"),
    }
)
"""Types that a browser shows without running anything of the file."""


def plain_type(content_type: str) -> str:
    """Give a type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def content_type_of(stored: Stored, name: str) -> str:
    """Give the type that a stored file is sent with."""
    dot = name.rfind(".")
    return _OVERRIDES.get(name[dot:].lower() if dot >= 0 else "", stored.content_type)


def is_inline(content_type: str) -> bool:
    """Whether a browser may show a file of this type, rather than save it."""
    return plain_type(content_type) in _INLINE


def file_headers(stored: Stored, name: str, *, is_download: bool = False) -> dict[str, str]:
    """Give the headers that every answer with a file has, whatever part of it is sent.

    The general `X-Frame-Options` must not be sent with them: files may be framed.
    """
    content_type = content_type_of(stored, name)
    disposition = "inline" if is_inline(content_type) and not is_download else "attachment"
    return {
        "Accept-Ranges": "bytes",
        "Cache-Control": CACHE_CONTROL,
        "Content-Disposition": f"{disposition}; {_file_name(name)}",
        "Content-Security-Policy": CONTENT_SECURITY_POLICY,
        "Content-Type": _header_safe(content_type),
        "ETag": stored.etag,
        "Last-Modified": format_date(stored.modified_ms // 1000),
    }


def _file_name(name: str) -> str:
    """Give the parameters that name a file; a name with other letters is given once more, encoded."""
    plain = "".join("_" if each in '"\\' or not " " <= each <= "~" else each for each in name)
    shown = f'filename="{plain}"'
    return shown if plain == name else f"{shown}; filename*=UTF-8''{quote(name, safe='', errors='replace')}"


def _header_safe(text: str) -> str:
    """Give a stored type if it can be a header; it may come from a directory that others wrote."""
    return text if text.isascii() and text.isprintable() else "application/octet-stream"
