"""Lists of collections, filtered and sorted by what stands in `_collections`.

The language is that of records, about six columns. Not here: who may ask (`pando.api.records_collections`), what a
definition looks like on the wire (`pando.records.collections.wire`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pando.records.desk import Asking, Desk
from pando.records.filter import Compiler, Filter, Question, RequestInfo, Trust
from pando.records.listing import Page, read_page
from pando.records.model import BoolField, Collection, Field, Schema, TextField
from pando.records.problems import ApiError, bad_request

_TEXTS: Final = ("id", "created", "updated", "name", "type")
_FIELDS: Final[tuple[Field, ...]] = (*(TextField(id=name, name=name) for name in _TEXTS), BoolField(name="system"))
_DEFINITIONS: Final = Collection(id="_collections", name="_collections", fields=_FIELDS)
"""The table of definitions as if it were a collection with these fields."""
_COMPILER: Final = Compiler(Schema((_DEFINITIONS,)))


@dataclass(frozen=True, slots=True)
class CollectionPage:
    """Some of the collections; `total` is -1 if it was not asked for."""

    page: Page
    items: tuple[Collection, ...]
    total: int

    @property
    def pages(self) -> int:
        """Number of pages, -1 if the total was not asked for."""
        return -1 if self.total < 0 else -(-self.total // self.page.size)


async def list_collections(desk: Desk, asking: Asking, query: Mapping[str, str]) -> CollectionPage:
    """Give a page. Raises ApiError 400 for a filter or sort that cannot be."""
    page = read_page(query)
    filters = (Filter(query["filter"], Trust.CLIENT),) if query.get("filter") else ()
    rows = await _ask(
        desk, asking, columns=("id",), filters=filters, sort=query.get("sort", ""), limit=page.size, offset=page.offset
    )
    items = [asking.schema.find(str(row[0])) for row in rows]
    total = await _ask(desk, asking, filters=filters, count=True) if page.counts else [[-1]]
    return CollectionPage(page, tuple([each for each in items if each is not None]), total[0][0])


async def _ask(desk: Desk, asking: Asking, **parts: Any) -> list[Any]:  # noqa: ANN401 - those of a Question
    question = Question(collection=_DEFINITIONS, request=RequestInfo(), now=asking.now, **parts)
    try:
        compiled = _COMPILER.select(question)
    except ApiError as error:
        raise bad_request(error.message) from error
    return await desk.engine.reads().query(compiled.sql, compiled.args)
