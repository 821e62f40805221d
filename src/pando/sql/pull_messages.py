"""Messages of `/pull-updates`, by which Turso's clients keep a file of their own up to date: protobuf, pure.

The request is one message; the answer is a header and then pages, each with its length before it. Pages are numbered
from 0 there and are 4096 bytes. Fields that are not known are skipped. Not here: which pages (`pull_pages`,
`pull_reading`), the bitmap that a client selects pages with (`pull_bitmaps`), HTTP (`pando.api.pull_updates`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from pando.errors import InvalidRequest

PAGE_SIZE: Final = 4096
"""The only page size that these clients know."""
REVISION_CHARS_MAX: Final = 256
_PROTOCOL_PAGES: Final = 1
_VARINT_BYTES_MAX: Final = 10
_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5
_NUMBERS: Final = {1: "encoding", 4: "long_poll_ms", 8: "stream_kind"}
_TEXTS: Final = {2: "server_revision", 3: "client_revision"}
_SELECTOR: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PullRequest:
    """What a client asks for. What it says of encoding and kind of stream is taken and changes nothing: pages, raw.

    Without `client_revision` it has nothing and wants every page; `server_revision` says as of which state, or else
    the newest one. `selector` is the bitmap of the pages it wants, empty: all.
    """

    server_revision: str = ""
    client_revision: str = ""
    long_poll_ms: int = 0
    selector: bytes = b""


def decode_pull(body: bytes) -> PullRequest:
    """Read a request; an empty body asks for everything. Raises InvalidRequest."""
    numbers = {"long_poll_ms": 0}
    texts = {"server_revision": "", "client_revision": ""}
    selector = b""
    at = 0
    while at < len(body):
        key, at = _varint(body, at)
        field, kind = key >> 3, key & 7
        if kind == _VARINT:
            number, at = _varint(body, at)
            if field in _NUMBERS:
                numbers[_NUMBERS[field]] = number
            continue
        value, at = _sized(body, at, kind)
        if kind == _BYTES and field in _TEXTS:
            texts[_TEXTS[field]] = _text(value, _TEXTS[field])
        elif kind == _BYTES and field == _SELECTOR:
            selector = value
    return PullRequest(**texts, long_poll_ms=numbers["long_poll_ms"], selector=selector)


def check_page_size(size: int) -> None:
    """Raise InvalidRequest for a database whose pages these clients cannot take."""
    if size != PAGE_SIZE:
        raise InvalidRequest(f"the database has pages of {size} bytes; clients that sync can only take {PAGE_SIZE}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for index in range(at, min(at + _VARINT_BYTES_MAX, len(data))):
        byte = data[index]
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, index + 1
        shift += 7
    raise InvalidRequest(f"the request is no protobuf: a number at byte {at} does not end")


def _sized(data: bytes, at: int, kind: int) -> tuple[bytes, int]:
    """Give the bytes of a field that is no varint, and where the next one begins."""
    if kind == _BYTES:
        size, at = _varint(data, at)
    elif kind in (_FIXED_64, _FIXED_32):
        size = 8 if kind == _FIXED_64 else 4
    else:
        raise InvalidRequest(f"the request is no protobuf: there is no kind {kind} of field (byte {at})")
    if size > len(data) - at:
        raise InvalidRequest(f"the request is no protobuf: {size} bytes are announced at byte {at}, fewer are there")
    return data[at : at + size], at + size


def _text(value: bytes, name: str) -> str:
    if len(value) > REVISION_CHARS_MAX:
        raise InvalidRequest(f"{name} has {len(value)} bytes, over the limit of {REVISION_CHARS_MAX}")
    try:
        return value.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"{name} is no UTF-8 text") from error


# -- the answer --------------------------------------------------------------------------------------------------------


def encode_header(revision: str, pages: int) -> bytes:
    """Give the first message: which state the pages lead to, and how many pages the database has then.

    The protocol can also say that all pages replace what the client has. Clients up to now refuse that, and all pages
    put over what it has come to the same.
    """
    text = revision.encode()
    parts = [b"\x0a", encode_varint(len(text)), text]
    if pages:
        parts += [b"\x10", encode_varint(pages)]
    parts.append(b"\x1a\x00")  # raw
    parts += [b"\x40", encode_varint(_PROTOCOL_PAGES)]
    body = b"".join(parts)
    return encode_varint(len(body)) + body


_PAGE_TAIL: Final = b"\x12\x80\x20"
"""Field 2, 4096 bytes long."""


def encode_page(number: int, page: bytes) -> bytes:
    """Give the message of one page; `number` counts from 0."""
    head = b"\x08" + encode_varint(number) + _PAGE_TAIL
    return b"".join((encode_varint(len(head) + PAGE_SIZE), head, page))


def encode_varint(value: int) -> bytes:
    """Give an unsigned LEB128 integer."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)
