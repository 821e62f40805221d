"""Which part of a file a request asks for: Range and the If-* headers of RFC 9110, decided from values alone. Pure.

Order: If-Match, else If-Unmodified-Since (412); If-None-Match, else If-Modified-Since (304); If-Range; Range (206 or
416).
As Go's file server: ranges that together are longer than the file, or too many, are answered with the whole file;
malformed byte ranges with 416; other units than bytes are ignored.
Not here: reading files (`storage`), the other headers (`content`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Final

RANGES_MAX: Final = 64
"""Ranges of one request; more are answered with the whole file."""
HEADER_CHARS_MAX: Final = 4096
"""A longer header is taken not to be there."""

_RANGE: Final = re.compile(r"(\d{0,18})[ \t]*-[ \t]*(\d{0,18})", re.ASCII)
_TAG: Final = re.compile(r'(?:W/)?"[\x21\x23-\x7e\x80-\xff]*"')
_TAGS_SEPARATOR: Final = re.compile(r"[ \t]*,[ \t,]*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The headers of a request that matter here; "" for one that is not there."""

    method: str = "GET"
    range: str = ""
    if_match: str = ""
    if_none_match: str = ""
    if_modified_since: str = ""
    if_unmodified_since: str = ""
    if_range: str = ""

    @classmethod
    def of_headers(cls, method: str, headers: Mapping[str, str]) -> Conditions:
        """Take them from headers with lower-case names."""

        def given(name: str) -> str:
            text = headers.get(name, "").strip()
            return text if len(text) <= HEADER_CHARS_MAX else ""

        return cls(
            method=method,
            range=given("range"),
            if_match=given("if-match"),
            if_none_match=given("if-none-match"),
            if_modified_since=given("if-modified-since"),
            if_unmodified_since=given("if-unmodified-since"),
            if_range=given("if-range"),
        )


@dataclass(frozen=True, slots=True)
class Version:
    """What a file is now: bytes, strong tag in quotes, seconds since 1970."""

    size: int
    etag: str
    modified_s: int


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes `start` up to `end`, not included."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """How many bytes."""
        return self.end - self.start

    def content_range(self, size: int) -> str:
        """Give the value of Content-Range."""
        return f"bytes {self.start}-{self.end - 1}/{size}"


@dataclass(frozen=True, slots=True)
class Selection:
    """The status to answer with, and for 206 which bytes."""

    status: int
    spans: tuple[Span, ...] = ()


WHOLE: Final = Selection(200)
NOT_MODIFIED: Final = Selection(304)
PRECONDITION_FAILED: Final = Selection(412)
UNSATISFIABLE: Final = Selection(416)


def select(asked: Conditions, now: Version) -> Selection:
    """Decide what of a file answers a request."""
    is_read = asked.method in ("GET", "HEAD")
    if asked.if_match:
        if not _matches(asked.if_match, now.etag, is_weak_enough=False):
            return PRECONDITION_FAILED
    elif (since := parse_date(asked.if_unmodified_since)) is not None and now.modified_s > since:
        return PRECONDITION_FAILED
    if asked.if_none_match:
        if _matches(asked.if_none_match, now.etag, is_weak_enough=True):
            return NOT_MODIFIED if is_read else PRECONDITION_FAILED
    elif is_read and (since := parse_date(asked.if_modified_since)) is not None and now.modified_s <= since:
        return NOT_MODIFIED
    if not is_read or not asked.range or not _is_same(asked.if_range, now):
        return WHOLE
    return _select_ranges(asked.range, now.size)


def _select_ranges(header: str, size: int) -> Selection:
    unit, equals, text = header.partition("=")
    if not equals or unit.strip().lower() != "bytes":
        return WHOLE
    asked = [part.strip() for part in text.split(",") if part.strip()]
    if len(asked) > RANGES_MAX:
        return WHOLE
    found = [_span(part, size) for part in asked]
    spans = tuple(span for span in found if span is not None and span.length > 0)
    if None in found or (asked and not spans and size > 0):
        return UNSATISFIABLE
    if not spans or sum(span.length for span in spans) > size:
        return WHOLE
    return Selection(206, spans)


def _span(text: str, size: int) -> Span | None:
    """Read one range; empty if none of it is in the file, None if it is malformed."""
    found = _RANGE.fullmatch(text)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        return Span(max(size - int(found[2]), 0), size)
    start = int(found[1])
    if found[2] and int(found[2]) < start:
        return None
    end = min(int(found[2]) + 1, size) if found[2] else size
    return Span(min(start, end), end)


def _matches(header: str, etag: str, *, is_weak_enough: bool) -> bool:
    if header == "*":
        return True
    at = 0
    while found := _TAG.match(header, at):
        tag = found[0]
        if (tag.removeprefix("W/") if is_weak_enough else tag) == etag:
            return True
        separator = _TAGS_SEPARATOR.match(header, found.end())
        if separator is None:
            return False
        at = separator.end()
    return False


def _is_same(if_range: str, now: Version) -> bool:
    """Whether what the client has a part of is what the file is now; without the header it is taken to be."""
    if not if_range:
        return True
    if if_range.startswith('"'):
        return if_range == now.etag
    return parse_date(if_range) == now.modified_s


# -- dates ------------------------------------------------------------------------------------------------------------


def parse_date(text: str) -> int | None:
    """Read an HTTP date as seconds since 1970; None for what is none."""
    if not text:
        return None
    try:
        found = parsedate_to_datetime(text)
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError, TypeError, IndexError):
        return None


def format_date(seconds: int) -> str:
    """Write an HTTP date."""
    return format_datetime(datetime.fromtimestamp(seconds, UTC), usegmt=True)


# -- several ranges in one body ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Part:
    """What goes before a span in a body of several, and the span."""

    head: bytes
    span: Span


@dataclass(frozen=True, slots=True)
class Multipart:
    """A body of type multipart/byteranges."""

    content_type: str
    parts: tuple[Part, ...]
    tail: bytes

    @property
    def length(self) -> int:
        """Length of the whole body in bytes."""
        return sum(len(part.head) + part.span.length for part in self.parts) + len(self.tail)


def multipart(spans: Sequence[Span], *, size: int, content_type: str, boundary: str) -> Multipart:
    """Put several spans into one body; the boundary must be a text that no file has."""
    parts = []
    for number, span in enumerate(spans):
        before = "\r\n" if number else ""
        head = (
            f"{before}--{boundary}\r\nContent-Range: {span.content_range(size)}\r\nContent-Type: {content_type}\r\n\r\n"
        )
        parts.append(Part(head.encode("latin-1", "replace"), span))
    return Multipart(f"multipart/byteranges; boundary={boundary}", tuple(parts), f"\r\n--{boundary}--\r\n".encode())
