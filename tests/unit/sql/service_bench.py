"""A web process on a fake store, and short words to ask it, for the tests of the SQL service."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Coroutine
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pando.clock import SystemClock
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.batons import BatonCodec
from pando.sql.freshness import SESSION, Freshness
from pando.sql.messages import decode_pipeline
from pando.sql.service import Call, SqlService
from pando.sql.streams import StreamTable
from pando.testing.fake_sql_store import FakePositions, FakeSqlStore
from pando.types import TXID, Bookmark, Epoch

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
LONG = "with recursive n(i) as (select 1 union all select i + 1 from n limit 50000) select count(*) from n"
CLOSE = {"type": "close"}


class SteerableClock(SystemClock):
    """The real clock, moved forward at will."""

    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


@dataclass
class Asked:
    """A decoded answer."""

    baton: str | None
    results: list[Any]
    bookmark: Bookmark | None

    def rows(self, index: int = 0) -> list[list[Any]]:
        result = self.results[index]["response"]["result"]
        return [[cell.get("value", cell.get("base64")) for cell in row] for row in result["rows"]]

    def error(self, index: int = 0) -> dict[str, str]:
        found: dict[str, str] = self.results[index]["error"]
        return found


class Node:
    """A web process on a fake store, with a loop of its own."""

    def __init__(self, directory: Path, *, is_primary: bool, **options: Any) -> None:
        self.clock = SteerableClock()
        self.store = FakeSqlStore(directory, self.clock, is_primary=is_primary)
        self.store.create("data", "create table t(a integer primary key, b); insert into t values(1, 'one')")
        self.runner = asyncio.Runner()
        self.service = self.web(**options)

    def web(self, number: int = 0, **options: Any) -> SqlService:
        ids = count(1000 * (number + 1))
        streams = StreamTable(node="n", web=number, codec=BatonCodec(b"k" * 32), new_id=lambda: next(ids))
        return SqlService(
            store=self.store, positions=FakePositions(self.store), streams=streams, clock=self.clock, **options
        )

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.runner.run(work)

    async def ask(
        self,
        *requests: object,
        baton: str | None = None,
        database: str = "data",
        access: Access = FULL_ACCESS,
        bookmark: Bookmark | None = None,
        freshness: Freshness = SESSION,
        durability: str = "",
        caller: bytes = b"",
    ) -> Asked:
        pipeline = decode_pipeline(json.dumps({"baton": baton, "requests": requests}))
        answer = await self.service.answer(pipeline, Call(database, access, bookmark, freshness, durability, caller))
        body = json.loads(answer.body)
        return Asked(body["baton"], body["results"], answer.bookmark)

    def __call__(self, *requests: object, **rest: Any) -> Asked:
        return self.run(self.ask(*requests, **rest))

    def close(self) -> None:
        self.service.close()
        self.store.close()
        self.runner.close()


def sql(text: str, *args: str, **rest: object) -> dict[str, object]:
    return {"type": "execute", "stmt": {"sql": text, "args": [{"type": "text", "value": arg} for arg in args], **rest}}


def batch(*texts: str) -> dict[str, object]:
    return {"type": "batch", "batch": {"steps": [{"stmt": {"sql": text}} for text in texts]}}


def marked(txid: int, epoch: int = 1, database: str = "data") -> Bookmark:
    return Bookmark(database=database, epoch=Epoch(epoch), txid=TXID(txid))
