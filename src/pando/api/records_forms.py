"""Bodies of forms as they come in: multipart with files, and urlencoded.

Text parts stay in memory, within a bound of their own; files go to a `Spool`. Everything is bounded: the body, the
number of parts and files, the header of each part. What text parts mean is said elsewhere
(`pando.records.fields.forms`), so is what becomes of files (`pando.records.files`).
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import parse_qsl

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from pando.clock import Random
from pando.errors import RequestTooLarge
from pando.records.fields.forms import PARTS_MAX
from pando.records.fields.values import NewFile
from pando.records.files.content import sniff
from pando.records.files.names import stored_name
from pando.records.files.signatures import ALIASES
from pando.records.files.spool import Receiving, Spool, Upload
from pando.records.problems import ApiError, bad_request

FILES_MAX: Final = 1000
"""Files of one body."""
HEADERS_MAX: Final = 8
"""Header lines of one part."""
HEADER_BYTES_MAX: Final = 8192
"""One header line of a part."""
BOUNDARY_BYTES_MAX: Final = 70
"""RFC 2046."""
NAME_CHARS_MAX: Final = 512
"""Longest name of a part: `requests.49.` and a field's, with room."""
_SILENT: Final = logging.Logger("forms", logging.CRITICAL)
"""What is wrong with a body is for its sender to know, not for our log."""


@dataclass(slots=True)
class Form:
    """Text parts and files by the names of their parts, in the order in which they came."""

    texts: list[tuple[str, str]] = field(default_factory=list)
    files: list[tuple[str, Upload]] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class FormLimits:
    """Bytes of the whole body, and of its text parts together."""

    body: int
    texts: int


def is_form(content_type: str) -> bool:
    """Tell whether a body of this type is a form."""
    return plain_type(content_type) in ("multipart/form-data", "application/x-www-form-urlencoded")


def plain_type(content_type: str) -> str:
    """Give the type without its parameters."""
    return content_type.partition(";")[0].strip().lower()


@dataclass(frozen=True, slots=True)
class Files:
    """Where files of a form go; `random` makes their names."""

    spool: Spool
    random: Random


async def read_parts(
    chunks: AsyncIterator[bytes], content_type: str, limits: FormLimits, files: Files | None = None
) -> Form:
    """Read a form; without `files` those are dropped. Raises ApiError, RequestTooLarge, StorageError, Overloaded."""
    if plain_type(content_type) == "multipart/form-data":
        return await _read_multipart(chunks, content_type, limits, files)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > min(limits.body, limits.texts):
            raise too_large(min(limits.body, limits.texts))
    try:
        pairs = parse_qsl(body.decode(errors="replace"), keep_blank_values=True, max_num_fields=PARTS_MAX)
    except ValueError as error:
        raise bad_request(f"A form has {PARTS_MAX} parts at most.") from error
    return Form(pairs)


def too_large(most: int) -> RequestTooLarge:
    """Say that a body is over its limit."""
    return RequestTooLarge(f"The request body has more than {most} bytes.")


async def _read_multipart(
    chunks: AsyncIterator[bytes], content_type: str, limits: FormLimits, files: Files | None
) -> Form:
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not 0 < len(boundary) <= BOUNDARY_BYTES_MAX:
        raise bad_request("The content type of a multipart body names its boundary.")
    reader = _Reader(limits, files)
    parser = _Parser(boundary)
    size = 0
    async for chunk in chunks:
        size += len(chunk)
        if size > limits.body:
            raise too_large(limits.body)
        for event in parser.feed(chunk):
            await event.happen(reader)
    if size and not parser.is_complete:
        raise bad_request("The multipart body ends before its last boundary.")
    return reader.form


# -- what the parser tells, put off until there is time to wait -------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Begun:
    headers: dict[bytes, bytes]

    async def happen(self, reader: _Reader) -> None:
        reader.begin(self.headers)


@dataclass(frozen=True, slots=True)
class _Data:
    data: bytes

    async def happen(self, reader: _Reader) -> None:
        await reader.add(self.data)


@dataclass(frozen=True, slots=True)
class _Ended:
    async def happen(self, reader: _Reader) -> None:
        await reader.end()


class _Parser:
    """Turns the library's callbacks into events; those of one chunk are at most as many as it has bytes."""

    def __init__(self, boundary: bytes) -> None:
        self.is_complete = False
        self._events: list[_Begun | _Data | _Ended] = []
        self._headers: dict[bytes, bytes] = {}
        self._name = self._value = b""
        try:
            self._parser = MultipartParser(
                boundary,
                {
                    "on_header_field": self._on_name,
                    "on_header_value": self._on_value,
                    "on_header_end": self._on_header,
                    "on_headers_finished": self._on_begun,
                    "on_part_data": self._on_data,
                    "on_part_end": self._on_ended,
                    "on_end": self._on_end,
                },
                max_header_count=HEADERS_MAX,
                max_header_size=HEADER_BYTES_MAX,
            )
        except FormParserError as error:
            raise _malformed(error) from error
        self._parser.logger = _SILENT

    def feed(self, chunk: bytes) -> list[_Begun | _Data | _Ended]:
        """Give what happens in the next bytes. Raises ApiError."""
        self._events = []
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise _malformed(error) from error
        return self._events

    def _on_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _on_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _on_header(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _on_begun(self) -> None:
        self._events.append(_Begun(self._headers))
        self._headers = {}

    def _on_data(self, data: bytes, start: int, end: int) -> None:
        self._events.append(_Data(data[start:end]))

    def _on_ended(self) -> None:
        self._events.append(_Ended())

    def _on_end(self) -> None:
        self.is_complete = True


def _malformed(error: FormParserError) -> ApiError:
    return bad_request(f"The multipart body cannot be read: {error}.")


class _Reader:
    """Puts parts together."""

    def __init__(self, limits: FormLimits, files: Files | None) -> None:
        self.form = Form()
        self._limits = limits
        self._files = files
        self._files_seen = 0
        self._name = self._file_name = ""
        self._is_file = False
        self._receiving: Receiving | None = None
        self._text = bytearray()
        self._text_size = 0

    def begin(self, headers: dict[bytes, bytes]) -> None:
        """A part begins: it is a file if it has a file name. Raises ApiError."""
        _, options = parse_options_header(headers.get(b"content-disposition", b""))
        if b"name" not in options:
            raise bad_request("Each part of a form has a name.")
        self._name = options[b"name"].decode(errors="replace")
        if len(self._name) > NAME_CHARS_MAX:
            raise bad_request(f"The name of a part has {NAME_CHARS_MAX} characters at most.")
        if len(self.form.texts) >= PARTS_MAX:
            raise bad_request(f"A form has {PARTS_MAX} parts at most.")
        self._receiving = None
        self._text.clear()
        self._is_file = b"filename" in options
        if not self._is_file:
            return
        self._files_seen += 1
        if self._files_seen > FILES_MAX:
            raise bad_request(f"A form has {FILES_MAX} files at most.")
        self._file_name = options[b"filename"].decode(errors="replace")
        self._receiving = None if self._files is None else self._files.spool.receive()

    async def add(self, data: bytes) -> None:
        """Some of the part came."""
        if self._receiving is not None:
            await self._receiving.add(data)
        if self._is_file:
            return
        self._text_size += len(data)
        if self._text_size > self._limits.texts:
            raise too_large(self._limits.texts)
        self._text += data

    async def end(self) -> None:
        """The part is complete."""
        received = self._receiving
        if not self._is_file:
            self.form.texts.append((self._name, self._text.decode(errors="replace")))
        if received is None or self._files is None:
            return
        await received.finish()
        if not self._file_name and not received.size:
            return  # a browser's file input in which nothing was chosen
        kind = sniff(received.head)
        name = stored_name(self._file_name, self._files.random, sniffed_extension=kind.extension)
        plain = plain_type(kind.mime)
        file = NewFile(name, received.size, kind.mime, ALIASES.get(plain, ()))
        self.form.files.append((self._name, received.as_upload(file)))
