"""Collections as programs use them: lists, single records, writes. Not here: calls themselves (`calling`)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, TypeAlias

from pando.embedded.calling import Asked, Files
from pando.embedded.records import Page, Record, record_of
from pando.records.problems import not_found

BATCH: Final = 1000
"""Records that `full_list` asks for at a time."""
Ask = Callable[[Asked], Awaitable[Any]]


Records: TypeAlias = list[Record]


class Collection:
    """The records of one collection. Errors are `ApiError` with PocketBase's status, message and data."""

    def __init__(self, name: str, ask: Ask) -> None:
        self.name = name
        self._ask = ask

    async def list(
        self,
        page: int = 1,
        per_page: int = 30,
        *,
        filter: str = "",
        sort: str = "",
        expand: str = "",
        fields: str = "",
        skip_total: bool = False,
    ) -> Page:
        """Give a page of records."""
        query = {**shaped(filter=filter, sort=sort, expand=expand, fields=fields)}
        query |= {"page": str(page), "perPage": str(per_page)}
        if skip_total:
            query["skipTotal"] = "1"
        found = await self._ask(Asked(method="GET", segments=self._path(), query=query))
        items = [record_of(each) for each in found.get("items", ())]
        return Page(
            items,
            found.get("page", page),
            found.get("perPage", per_page),
            found.get("totalItems", -1),
            found.get("totalPages", -1),
        )

    async def full_list(
        self, *, filter: str = "", sort: str = "", expand: str = "", fields: str = "", batch: int = BATCH
    ) -> Records:
        """Give all records, asked for in pages."""
        found: Records = []
        number = 1
        while True:
            page = await self.list(
                number, batch, filter=filter, sort=sort, expand=expand, fields=fields, skip_total=True
            )
            found += page.items
            if len(page.items) < page.per_page:
                return found
            number += 1

    async def first(self, filter: str = "", *, sort: str = "", expand: str = "", fields: str = "") -> Record:
        """Give the first record that a filter holds for. Raises ApiError 404 if there is none."""
        page = await self.list(1, 1, filter=filter, sort=sort, expand=expand, fields=fields, skip_total=True)
        if not page.items:
            raise not_found()
        return page.items[0]

    async def view(self, id: str, *, expand: str = "", fields: str = "") -> Record:
        """Give one record. Raises ApiError 404."""
        query = shaped(expand=expand, fields=fields)
        return record_of(await self._ask(Asked(method="GET", segments=self._path(id), query=query)))

    async def create(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        files: Files | None = None,
        expand: str = "",
        fields: str = "",
    ) -> Record:
        """Make a record. `files`: by field, a path or name and content, or several of them."""
        query = shaped(expand=expand, fields=fields)
        asked = Asked(method="POST", segments=self._path(), query=query, body=dict(values or {}), files=files)
        return record_of(await self._ask(asked))

    async def update(
        self,
        id: str,
        values: Mapping[str, Any] | None = None,
        *,
        files: Files | None = None,
        expand: str = "",
        fields: str = "",
    ) -> Record:
        """Change a record; `name+`, `+name` and `name-` add and take away."""
        query = shaped(expand=expand, fields=fields)
        asked = Asked(method="PATCH", segments=self._path(id), query=query, body=dict(values or {}), files=files)
        return record_of(await self._ask(asked))

    async def delete(self, id: str) -> None:
        """Delete a record, with what refers to it as the collection says."""
        await self._ask(Asked(method="DELETE", segments=self._path(id)))

    def _path(self, *more: str) -> tuple[str, ...]:
        if more == ("",):
            raise not_found("Missing required record id.")
        return ("collections", self.name, "records", *more)


def shaped(**query: str) -> dict[str, str]:
    """Give parameters without those that say nothing."""
    return {name: value for name, value in query.items() if value}
