"""Lists of records and single records, as their callers may see them.

Not here: the language of filters and sorts (`filter`), what stands beside a record (`expanding`), writing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pando.records.desk import Asking, Desk, columns_of
from pando.records.engine import Row
from pando.records.expanding import expanded
from pando.records.fields import jsontext
from pando.records.filter import Filter, FilterError, Trust
from pando.records.managing import viewer_of
from pando.records.model import Collection
from pando.records.problems import bad_request, not_found
from pando.records.record import Record, from_row, from_rows, record_json
from pando.records.rules import BrokenRule, may

PER_PAGE: Final = 30
PER_PAGE_MAX: Final = 1000
WHOLE_CHARS_MAX: Final = 19
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_SKIPS: Final = {
    **dict.fromkeys(("", "0", "f", "F", "false", "FALSE", "False"), False),
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
}


@dataclass(frozen=True, slots=True)
class Page:
    """Which part of a list is wanted. `number` is from 1; `counts` asks for the total."""

    number: int = 1
    size: int = PER_PAGE
    counts: bool = True

    @property
    def offset(self) -> int:
        """How many records come before it."""
        return (self.number - 1) * self.size


def read_page(query: Mapping[str, str]) -> Page:
    """Read `page`, `perPage` and `skipTotal`; what is out of bounds has its default. Raises ApiError."""
    number, size = _whole(query.get("page", "")), _whole(query.get("perPage", ""))
    skips = _SKIPS.get(query.get("skipTotal", ""))
    if skips is None:
        raise bad_request()
    return Page(
        min(max(1, number), 1 << 40),
        min(size, PER_PAGE_MAX) if size > 0 else PER_PAGE,
        not skips,
    )


def _whole(text: str) -> int:
    if not text:
        return 0
    if len(text) > WHOLE_CHARS_MAX or not _WHOLE.fullmatch(text):
        raise bad_request()
    return int(text)


async def list_records(
    desk: Desk, asking: Asking, collection: Collection, query: Mapping[str, str]
) -> dict[str, object]:
    """Give the JSON of a page. Raises ApiError."""
    rule = may(asking, collection.rules.list)
    page = read_page(query)
    text = query.get("filter", "")
    filters = _filters(asking, rule, text)
    columns, rows = await desk.ask(
        asking,
        collection,
        columns=columns_of(collection),
        filters=filters,
        sort=query.get("sort", ""),
        limit=page.size,
        offset=page.offset,
    )
    total = pages = -1
    if page.counts:
        total = _number((await desk.ask(asking, collection, filters=filters, count=True))[1])
        pages = -(-total // page.size)
    records = from_rows(collection, columns, rows)
    if not records and text and rule:
        await desk.guard.slow_probe(collection.id, asking.address, asking.now_ms, desk.random)
    shown = await enriched(desk, asking, collection, records, query.get("expand", ""))
    return {"items": shown, "page": page.number, "perPage": page.size, "totalItems": total, "totalPages": pages}


def _filters(asking: Asking, rule: str, text: str) -> tuple[Filter, ...]:
    found = []
    if rule:
        found.append(Filter(rule, Trust.RULE))
    if text:
        if text.isspace():
            raise bad_request("The filter is blank.")
        found.append(Filter(text, Trust.SUPERUSER if asking.is_superuser else Trust.CLIENT))
    return tuple(found)


def _number(rows: Sequence[Row]) -> int:
    value = rows[0][0]
    return value if isinstance(value, int) else 0


async def view_record(desk: Desk, asking: Asking, collection: Collection, id: str, expand: str) -> dict[str, object]:
    """Give the JSON of one record. Raises ApiError 403, 404."""
    record = await find_visible(desk, asking, collection, id, may(asking, collection.rules.view))
    return (await enriched(desk, asking, collection, [record], expand))[0]


async def find_visible(desk: Desk, asking: Asking, collection: Collection, id: str, rule: str) -> Record:
    """Read a record that satisfies a rule. Raises ApiError 404."""
    return from_row(collection, columns_of(collection), await find_visible_row(desk, asking, collection, id, rule))


async def find_visible_row(desk: Desk, asking: Asking, collection: Collection, id: str, rule: str) -> Row:
    """The same, as the columns hold it, in the order of `columns_of`."""
    columns, filters = columns_of(collection), (Filter(rule, Trust.RULE),) if rule else ()
    try:
        _, rows = await desk.ask(asking, collection, columns=columns, filters=filters, ids=(id,), limit=1)
    except FilterError as error:
        raise BrokenRule from error
    if not rows:
        raise not_found()
    return rows[0]


async def enriched(
    desk: Desk, asking: Asking, collection: Collection, records: list[Record], expand: str
) -> list[dict[str, object]]:
    """Give records as JSON, with what is to stand beside them."""
    if expand.strip() and records:
        records = await expanded(desk, asking, collection, records, expand)
    viewer = await viewer_of(desk, asking, records)
    return [record_json(record, viewer) for record in records]


def encode(value: object) -> bytes:
    """Write JSON as records have it."""
    return jsontext.encode(value)
