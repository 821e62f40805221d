"""GET and HEAD /api/files/COLLECTION/RECORD/NAME: stored files and their thumbs.

Whatever is wrong is a 404: a name that no record has, as much as a protected file that the caller may not see. Who that
is says the token in the query, and nothing else. Not here: ranges and headers (`pando.records.files`), rules.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Final

from pando.api.http import Headers, Response
from pando.api.records_app import Route
from pando.api.records_http import SECURITY, ApiRequest
from pando.records.auth.tokens import TokenKind
from pando.records.desk import Asking, Desk, find_by_id
from pando.records.files.filing import file_fields
from pando.records.files.names import file_key
from pando.records.files.ranges import Conditions
from pando.records.files.serving import BOUNDARY_BYTES, FileAnswer, answer_file
from pando.records.files.sizes import asked_size
from pando.records.files.storage import FileMissing
from pando.records.model import FileField
from pando.records.problems import ApiError, not_found
from pando.records.record import GUEST, Record, Viewer
from pando.records.rules import holds, may

_TRUE: Final = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_HEADERS: Final = [pair for pair in SECURITY if pair[0] != b"x-frame-options"]


async def serve(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """GET files/*/*/*."""
    _, reference, id, name = asked.segments
    collection = asking.collection(reference)
    record = await find_by_id(desk.engine.reads(), collection, id)
    field = None if record is None else _field_of(record, name)
    if record is None or field is None:
        raise not_found()
    if field.protected and not await _may_see(desk, asking, asked, record):
        raise not_found()
    try:
        return await _answer(desk, asking, asked, record, field, name)
    except FileMissing as error:
        raise not_found() from error


def _field_of(record: Record, name: str) -> FileField | None:
    return next((each for each in file_fields(record.collection) if name in record.texts(each.name)), None)


async def _may_see(desk: Desk, asking: Asking, asked: ApiRequest, record: Record) -> bool:
    token = asked.query.get("token", "")
    auth = await desk.signed_in(asking.schema, token, TokenKind.FILE, asking.now_ms) if token else None
    viewer = GUEST if auth is None else Viewer.of(auth)
    own = replace(asking, viewer=viewer, auth=auth)
    own = own.within("protectedFile", auth=auth, is_superuser=viewer.is_superuser)
    try:
        rule = may(own, record.collection.rules.view)
    except ApiError:
        return False
    return await holds(desk, own, record.collection, rule, record.id)


async def _answer(
    desk: Desk, asking: Asking, asked: ApiRequest, record: Record, field: FileField, name: str
) -> Response:
    place = desk.files.place(asking.known.settings.s3)
    stored = await desk.files.find(place, file_key(record.collection.id, record.id, name))
    size = asked_size(asked.query.get("thumb", ""), field.thumbs, stored.content_type)
    shown_name = name
    if size is not None and (thumb := await desk.files.find_thumb(place, stored, size)) is not None:
        stored, shown_name = thumb, f"{size}_{name}"
    answer = answer_file(
        place.storage,
        stored,
        shown_name,
        Conditions.of_headers(asked.method, _headers_of(asked)),
        boundary=desk.random.randbytes(BOUNDARY_BYTES).hex(),
        is_download=asked.query.get("download", "") in _TRUE,
    )
    return await response_of(answer)


def _headers_of(asked: ApiRequest) -> Mapping[str, str]:
    """Give headers by their own names."""
    return {name.replace("_", "-"): value for name, value in asked.headers.items()}


async def response_of(answer: FileAnswer) -> Response:
    """Give the answer once its first bytes are there: until then it can still be a 404. Raises FileMissing."""
    headers: Headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    pieces = _nothing() if answer.body is None else answer.body
    first = await anext(pieces, b"")
    return Response(answer.status, [*headers, *_HEADERS], stream=_joined(first, pieces))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def _joined(first: bytes, pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in pieces:
        yield piece


FILE_ROUTES: Final[Mapping[str, Route]] = {"GET files/*/*/*": serve}
