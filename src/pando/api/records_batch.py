"""POST /api/batch: several writes of records in one transaction.

Each request is treated as if it had come by itself, but that all see one transaction. Not here: the writes
(`pando.records.writing`, `deleting`).
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final
from urllib.parse import unquote

import msgspec

from pando.api.http import Response
from pando.api.records_app import Route
from pando.api.records_bodies import Body, joined, received
from pando.api.records_forms import FormLimits
from pando.api.records_guard import admit_item
from pando.api.records_http import ApiRequest, envelope, raw_answer, read_headers, read_query
from pando.errors import PandoError
from pando.records.deleting import delete_record
from pando.records.desk import Asking, Desk
from pando.records.engine import Transaction
from pando.records.files.filing import Filing
from pando.records.files.spool import Upload
from pando.records.listing import encode, enriched
from pando.records.model import Collection
from pando.records.problems import REQUIRED, ApiError, Problem, Problems, ValidationFailed, bad_request, forbidden
from pando.records.projection import parse_fields
from pando.records.record import Record
from pando.records.transaction_engine import TransactionEngine
from pando.records.writing import create_record, update_record

BODY_BYTES_DEFAULT: Final = 128 << 20
URL_CHARS_MAX: Final = 2000
_FILE_PART: Final = re.compile(r"requests(?:\.(\d{1,9})\.|\[(\d{1,9})\]\.)(.+)", re.ASCII | re.DOTALL)
"""Name of a part with a file: for which request, and there for which field."""
_METHODS: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
Admit = Callable[[Collection, str], None]
"""Counts one request of a batch under what its collection calls it. Raises ApiError 429."""


class _Told(msgspec.Struct, frozen=True):
    """One request of a batch as it is told in JSON."""

    method: str = ""
    url: str = ""
    headers: dict[str, str] | None = None
    body: dict[str, Any] | None = None


class _Batch(msgspec.Struct, frozen=True):
    requests: list[_Told] | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    """One request of a batch, with the files that came for it."""

    told: _Told
    files: Sequence[tuple[str, Upload]] = ()


class BatchFailed(ApiError):
    """One request failed, so none took effect."""

    def __init__(self, number: int, error: PandoError) -> None:
        super().__init__(400, "Batch transaction failed.")
        self.number = number
        self.error = error


async def batch(desk: Desk, asking: Asking, asked: ApiRequest) -> Response:
    """POST batch."""
    settings = asking.known.settings.batch
    if not settings.enabled:
        raise forbidden("Batch requests are not allowed.")
    most = settings.max_body_size or BODY_BYTES_DEFAULT
    try:
        async with received(desk, asked, FormLimits(body=most, texts=most)) as body:
            items = _read(body, settings.max_requests)
            filing = desk.files.filing(asking.known.settings.s3, body.uploads, is_batch=True)
            async with asyncio.timeout(settings.timeout), filing:
                return await _run(desk, asking, asked, items, filing)
    except TimeoutError as error:
        raise bad_request(f"The batch took longer than {settings.timeout} s; nothing of it took effect.") from error
    except BatchFailed as failed:
        return _failure(failed)


def _read(body: Body, most: int) -> list[_Item]:
    """Read the requests; files whose parts name a request go to it."""
    try:
        items = msgspec.convert(body.values, _Batch).requests
    except (msgspec.MsgspecError, RecursionError) as error:
        raise bad_request(f"The batch cannot be read: {error}.") from error
    if not items:
        raise ValidationFailed({"requests": REQUIRED})
    if len(items) > most:
        text = f"{most} requests at most."
        raise ValidationFailed({"requests": Problem("validation_length_too_long", text, {"max": most, "min": 0})})
    wrong: dict[str, Problems] = {str(number): found for number, each in enumerate(items) if (found := _wrong(each))}
    if wrong:
        raise ValidationFailed({"requests": wrong})
    by_item: dict[int, list[tuple[str, Upload]]] = {}
    for name, upload in body.files:
        if named := _FILE_PART.fullmatch(name):
            by_item.setdefault(int(named[1] or named[2]), []).append((named[3], upload))
    return [_Item(each, by_item.get(number, ())) for number, each in enumerate(items)]


def _wrong(told: _Told) -> dict[str, Problem]:
    found: dict[str, Problem] = {}
    if told.method not in (*_METHODS, "GET"):
        found["method"] = Problem("validation_in_invalid", "Must be a valid value.") if told.method else REQUIRED
    if len(told.url) > URL_CHARS_MAX:
        text = f"The length must be no more than {URL_CHARS_MAX}."
        found["url"] = Problem("validation_length_too_long", text, {"max": URL_CHARS_MAX, "min": 0})
    elif not told.url:
        found["url"] = REQUIRED
    return found


async def _run(desk: Desk, asking: Asking, asked: ApiRequest, items: list[_Item], filing: Filing) -> Response:
    answers: list[dict[str, object]] = []
    admit = partial(admit_item, desk, asking, asked)
    async with desk.engine.transaction() as transaction:
        engine = TransactionEngine(transaction, BatchFailed)
        inside = desk.within(engine)
        for number, item in enumerate(items):
            engine.number = number
            try:
                answers.append(await _one(inside, asking, item, filing, admit))
            except BatchFailed:
                raise
            except PandoError as error:
                await _settle(transaction)
                raise BatchFailed(number, error) from error
        answer = encode(answers)
        filing.commits()
    return raw_answer(answer)


async def _settle(transaction: Transaction) -> None:
    """Raise BatchFailed if an earlier request turns out to have failed."""
    try:
        await transaction.settle()
    except BatchFailed:
        raise
    except PandoError:
        pass  # the transaction is lost: what was found first is told


async def _one(desk: Desk, asking: Asking, item: _Item, filing: Filing, admit: Admit) -> dict[str, object]:
    """Do one request. `admit` counts it for who asked for the batch: headers of its own do not say where he is."""
    path, _, text = item.told.url.partition("?")
    query = read_query(text.encode())
    segments = [unquote(part) for part in path.split("/")[1:]]
    method = item.told.method
    is_one = len(segments) == 5
    if (
        method not in _METHODS
        or segments[:2] != ["api", "collections"]
        or segments[3:4] != ["records"]
        or not (is_one or len(segments) == 4)
    ):
        raise bad_request(f"{method[:10]} {path[:100]} cannot be part of a batch.")
    headers = {**asking.info.headers, **_own_headers(item)}
    asking = asking.within("batch", method=method, query=query, headers=headers)
    collection = asking.collection(segments[2])
    body = joined(collection, item.told.body or {}, item.files)
    if is_one and method == "DELETE":
        admit(collection, "delete")
        await delete_record(desk, asking, collection, segments[4], filing)
        return {"body": None, "status": 204}
    if is_one and method == "PATCH":
        admit(collection, "update")
        record = await update_record(desk, asking, collection, segments[4], body, filing)
    elif not is_one and method == "POST":
        admit(collection, "create")
        record = await create_record(desk, asking, collection, body, filing)
    elif not is_one and method == "PUT":
        record = await _upsert(desk, asking, collection, body, filing, admit)
    else:
        raise bad_request(f"{method} {path[:100]} cannot be part of a batch.")
    return {"body": await _shown(desk, asking, record, query), "status": 200}


def _own_headers(item: _Item) -> Mapping[str, str]:
    """Give the headers of one request; who asks is who asked for the batch."""
    pairs = [(name.lower().encode("utf-8"), value.encode("utf-8")) for name, value in (item.told.headers or {}).items()]
    return {name: value for name, value in read_headers(pairs).items() if name != "authorization"}


async def _upsert(
    desk: Desk, asking: Asking, collection: Collection, body: Mapping[str, Any], filing: Filing, admit: Admit
) -> Record:
    id = body.get("id")
    if isinstance(id, str) and id:
        sql = f"SELECT 1 FROM `{collection.name}` WHERE `id` = ?"
        if await desk.engine.reads_of(collection.name, (id,)).query(sql, (id,)):
            admit(collection, "update")
            return await update_record(desk, asking, collection, id, body, filing)
    admit(collection, "create")
    return await create_record(desk, asking, collection, body, filing)


async def _shown(desk: Desk, asking: Asking, record: Record, query: Mapping[str, str]) -> object:
    shown = (await enriched(desk, asking, record.collection, [record], query.get("expand", "")))[0]
    projection = parse_fields(query.get("fields", ""))
    return shown if projection is None else msgspec.Raw(projection.apply_to_text(encode(shown)))


def _failure(failed: BatchFailed) -> Response:
    inner = msgspec.Raw(envelope(failed.error).body)
    told = {"code": "batch_request_failed", "message": "Batch request failed.", "response": inner}
    value = {"data": {"requests": {str(failed.number): told}}, "message": failed.message, "status": 400}
    return Response(400, envelope(failed).headers, msgspec.json.encode(value))


BATCH_ROUTES: Final[Mapping[str, Route]] = {"POST batch": batch}
