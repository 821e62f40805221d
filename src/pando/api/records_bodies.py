"""Bodies of requests that write records, with the files that came with them.

A body may be as long as its collection's fields can fill. Not here: forms part by part (`records_forms`), what the
values mean (`pando.records.bodies`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from pando.api.records_forms import Files, FormLimits, is_form, read_parts, too_large
from pando.api.records_http import BODY_BYTES_MAX, ApiRequest
from pando.errors import RequestTooLarge
from pando.records.desk import Desk
from pando.records.fields.choices import FILE_SIZE_BYTES_DEFAULT
from pando.records.fields.forms import read_form, with_files
from pando.records.files.spool import Spool, Upload, Uploads
from pando.records.model import Collection, EditorField, FileField, JsonField
from pando.records.problems import ApiError

EDITOR_BYTES_DEFAULT: Final = 5 << 20
JSON_BYTES_DEFAULT: Final = 1 << 20
DROPPED_BYTES_MAX: Final = 128 << 20
"""By so much a body may be too long and is taken all the same, since many clients listen only when all is sent."""


@dataclass(frozen=True, slots=True)
class Body:
    """Values by key, and files by the names of their parts."""

    values: dict[str, Any]
    files: list[tuple[str, Upload]] = field(default_factory=list)

    @property
    def uploads(self) -> Uploads:
        """The files by the names under which they are to be stored."""
        return {upload.file.name: upload for _, upload in self.files}

    def of(self, collection: Collection) -> Mapping[str, Any]:
        """Give the body of a record with its files."""
        return joined(collection, self.values, self.files)


def joined(collection: Collection, values: Mapping[str, Any], files: Iterable[tuple[str, Upload]]) -> Mapping[str, Any]:
    """Put files into the values of a record, each under its part's name."""
    found = [(name, upload.file) for name, upload in files]
    return with_files(collection, values, found) if found else values


@asynccontextmanager
async def received(desk: Desk, asked: ApiRequest, limits: FormLimits) -> AsyncIterator[Body]:
    """Take a body; its files are there until the context ends. Raises ApiError, RequestTooLarge, StorageError."""
    async with desk.files.spools.open() as spool:
        try:
            body = await _read(desk, asked, limits, spool)
        except RequestTooLarge as error:
            is_asking_first = "expect" in asked.headers  # and sends nothing if the answer is no
            if is_asking_first or not 0 < _length(asked) <= limits.body + DROPPED_BYTES_MAX:
                raise
            await asked.request.drop()  # a connection closed on what is unread would take the answer along
            raise ApiError(413, error.message) from error
        yield body


async def _read(desk: Desk, asked: ApiRequest, limits: FormLimits, spool: Spool) -> Body:
    if _length(asked) > limits.body:
        raise too_large(limits.body)
    content_type = asked.headers.get("content_type", "")
    if not is_form(content_type):
        return Body(await asked.json(limits.texts))
    form = await read_parts(asked.request.chunks(), content_type, limits, Files(spool, desk.random))
    return Body(read_form(form.texts), form.files)


def _length(asked: ApiRequest) -> int:
    """Give the length that the request says its body has; 0 if it says none."""
    text = asked.headers.get("content_length", "")
    return int(text[:19]) if text.isascii() and text.isdigit() else 0


def limits_of(collection: Collection) -> FormLimits:
    """Say how long the body of a record of a collection may be."""
    found: FormLimits | None = collection.__dict__.get("_form_limits")
    if found is None:
        found = collection.__dict__["_form_limits"] = _limits_of(collection)
    return found


def _limits_of(collection: Collection) -> FormLimits:
    texts = files = 0
    for each in collection.fields:
        if isinstance(each, FileField):
            files += (each.max_size or FILE_SIZE_BYTES_DEFAULT) * max(1, each.max_select)
        elif isinstance(each, EditorField):
            texts += each.max_size or EDITOR_BYTES_DEFAULT
        elif isinstance(each, JsonField):
            texts += each.max_size or JSON_BYTES_DEFAULT
    return FormLimits(body=BODY_BYTES_MAX + texts + files, texts=BODY_BYTES_MAX + texts)
