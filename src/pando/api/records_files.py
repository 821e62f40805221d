"""GET and HEAD /api/files/COLLECTION/RECORD/NAME: stored files and their thumbs.

Whatever is wrong is a 404: a name that no record has, as much as a protected file that the caller may not see. Who that
is says the token in the query, and nothing else. Not here: ranges and headers (`pando.records.files`), rules.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import replace
from typing import Final

from pando.api.http import Headers, Receive, Response
from pando.api.records_app import Route
from pando.api.records_http import SECURITY, ApiRequest
from pando.records.auth.tokens import TokenKind
from pando.records.collections.sql_tokens import quote
from pando.records.desk import Asking, Desk, find_all, find_by_id
from pando.records.files.filing import file_fields
from pando.records.files.names import file_key
from pando.records.files.proofs import HEADER
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
    is_node = _is_of_node(desk, asking, asked)
    collection = asking.collection(reference)
    record = await find_by_id(desk.engine.reads(), collection, id)
    field = None if record is None else _field_of(record, name)
    if record is None or field is None:
        raise not_found()
    if field.protected and not is_node and not await _may_see(desk, asking, asked, record):
        raise not_found()
    try:
        home = await _home_of(desk, asking, record, name) if collection.is_view else record
        return await _answer(desk, asking, asked, home, field, name, is_node=is_node)
    except FileMissing as error:
        raise not_found() from error


def _field_of(record: Record, name: str) -> FileField | None:
    return next((each for each in file_fields(record.collection) if name in record.texts(each.name)), None)


async def _may_see(desk: Desk, asking: Asking, asked: ApiRequest, record: Record) -> bool:
    token = asked.query.get("token", "")
    auth = await desk.signed_in(asking.schema, token, TokenKind.FILE, asking.now_ms) if token else None
    viewer = GUEST if auth is None else Viewer.of(auth)
    if viewer.is_superuser and not desk.guard.lets_superuser(asking.known.settings, asking.address):
        return False
    own = replace(asking, viewer=viewer, auth=auth)
    own = own.within("protectedFile", auth=auth, is_superuser=viewer.is_superuser)
    try:
        rule = may(own, record.collection.rules.view)
    except ApiError:
        return False
    return await holds(desk, own, record.collection, rule, record.id)


def _is_of_node(desk: Desk, asking: Asking, asked: ApiRequest) -> bool:
    """Tell whether a node of the cluster asks, which has made sure that its own caller may see the file."""
    text = asked.headers.get(HEADER.replace("-", "_"), "")
    if not text or desk.files.proofs is None:
        return False
    return desk.files.proofs.holds(text, asked.request.scope["raw_path"].decode("latin-1"), asking.now_ms // 1000)


async def _home_of(desk: Desk, asking: Asking, shown: Record, name: str) -> Record:
    """Find the record that a view shows a file of: mostly one with the same id. Raises ApiError 404."""
    owners = [each for each in asking.schema.collections if not each.is_view and file_fields(each)]
    for owner in owners:
        record = await find_by_id(desk.engine.reads(), owner, shown.id)
        if record is not None and _field_of(record, name) is not None:
            return record
    for owner in owners:
        for each in file_fields(owner):
            found = await find_all(desk.engine.reads(), owner, _names(each), (name,))
            if found and _field_of(found[0], name) is not None:
                return found[0]
    raise not_found()


def _names(field: FileField) -> str:
    column = quote(field.name)
    if not field.is_multiple:
        return f"{column} = ? LIMIT 1"
    listed = f"CASE WHEN json_valid({column}) THEN {column} ELSE json_array({column}) END"
    return f"EXISTS (SELECT 1 FROM json_each({listed}) WHERE value = ?) LIMIT 1"


async def _answer(
    desk: Desk, asking: Asking, asked: ApiRequest, record: Record, field: FileField, name: str, *, is_node: bool
) -> Response:
    place = desk.files.place(asking.known.settings.s3)
    key = file_key(record.collection.id, record.id, name)
    # What another node asks for is not fetched from a third one: they could ask each other for ever.
    stored = await (place.storage.head(key) if is_node else desk.files.find(place, key))
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
    return await response_of(answer, asked.request.receive)


def _headers_of(asked: ApiRequest) -> Mapping[str, str]:
    """Give headers by their own names."""
    return {name.replace("_", "-"): value for name, value in asked.headers.items()}


async def response_of(answer: FileAnswer, receive: Receive) -> Response:
    """Give the answer once its first bytes are there: until then it can still be a 404. Raises FileMissing."""
    headers: Headers = [(name.lower().encode(), value.encode("latin-1")) for name, value in answer.headers.items()]
    pieces = _nothing() if answer.body is None else answer.body
    first = await anext(pieces, b"")
    return Response(answer.status, [*headers, *_HEADERS], stream=_joined(first, pieces, receive))


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def _joined(first: bytes, pieces: AsyncIterator[bytes], receive: Receive) -> AsyncIterator[bytes]:
    """Give all pieces, or those until the client has gone: players of films often stop in the middle."""
    gone = asyncio.create_task(_until_gone(receive))
    try:
        if first:
            yield first
        async for piece in pieces:
            if gone.done():
                return
            yield piece
    finally:
        gone.cancel()
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


FILE_ROUTES: Final[Mapping[str, Route]] = {"GET files/*/*/*": serve}
