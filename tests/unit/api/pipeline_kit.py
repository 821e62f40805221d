"""SQL over HTTP on a fake store, and a request as an ASGI server passes it on."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from pando.api.pipeline import Headers, PipelineHandler
from pando.clock import SystemClock
from pando.errors import PandoError
from pando.sql.access import Access
from pando.sql.batons import BatonCodec
from pando.sql.service import SqlService
from pando.sql.streams import StreamTable
from pando.testing.fake_sql_store import FakePositions, FakeSqlStore


@dataclass
class Reply:
    """A whole HTTP answer."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes

    @property
    def json(self) -> Any:
        assert self.headers[b"content-type"] == b"application/json"
        return json.loads(self.body)

    @property
    def text(self) -> str:
        assert self.headers[b"content-type"] == b"text/plain"
        return self.body.decode()


@dataclass
class Exchange:
    """One request as an ASGI server passes it on; counts what is taken of the body."""

    chunks: list[bytes]
    is_endless: bool = False
    stays: asyncio.Event | None = None
    taken: int = 0
    sent: list[dict[str, Any]] = field(default_factory=list)
    taken_at_answer: int | None = None

    async def receive(self) -> dict[str, Any]:
        if self.taken < len(self.chunks):
            self.taken += 1
            more = self.is_endless or self.taken < len(self.chunks)
            return {"type": "http.request", "body": self.chunks[self.taken - 1], "more_body": more}
        if self.is_endless:
            self.taken += 1
            return {"type": "http.request", "body": b"x" * 65536, "more_body": True}
        if self.stays is not None:
            await self.stays.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.taken_at_answer = self.taken
        self.sent.append(message)

    def reply(self) -> Reply:
        start, *bodies = self.sent
        assert [body.get("more_body", False) for body in bodies] == [True] * (len(bodies) - 1) + [False]
        body = b"".join(message.get("body", b"") for message in bodies)
        headers = dict(start["headers"])
        assert headers.get(b"content-length", b"%d" % len(body)) == b"%d" % len(body)
        return Reply(start["status"], headers, body)


class Site:
    """A handler on a fake store."""

    def __init__(self, directory: Path, *, is_primary: bool = True, web: int = 0, **options: Any) -> None:
        self.store = FakeSqlStore(directory, SystemClock(), is_primary=is_primary)
        self.store.create("data", "create table t(a integer primary key, b); insert into t values(1, 'one')")
        self.store.create("other", "create table o(x); insert into o values('other')")
        self.runner = asyncio.Runner()
        ids = count(1000)
        self.streams = StreamTable(node="n", web=web, codec=BatonCodec(b"k" * 32), new_id=lambda: next(ids))
        self.service = SqlService(
            store=self.store, positions=FakePositions(self.store), streams=self.streams, clock=SystemClock()
        )
        self.access: Access | PandoError = Access()
        self.handler = PipelineHandler(self.service, self.authenticate, **options)

    def authenticate(self, headers: Headers) -> Access:
        if isinstance(self.access, PandoError):
            raise self.access
        return self.access

    def exchange(
        self,
        exchange: Exchange,
        path: str = "/v2/pipeline",
        method: str = "POST",
        headers: dict[str, str] | None = None,
    ) -> Reply:
        pairs = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
        scope = {"type": "http", "method": method, "path": path, "headers": pairs}
        self.runner.run(self.handler(scope, exchange.receive, exchange.send))
        return exchange.reply()

    def post(self, *requests: object, path: str = "/v2/pipeline", baton: str | None = None, **headers: str) -> Reply:
        body = json.dumps({"baton": baton, "requests": requests}).encode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.exchange(Exchange([body]), path, headers=named | {"content-length": str(len(body))})

    def close(self) -> None:
        self.service.close()
        self.store.close()
        self.runner.close()
