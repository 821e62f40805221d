"""The application with its SQL routes on a fake store, asked over HTTP and over WebSocket without a server."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

from pando.api.app import App
from pando.api.pipeline import PipelineHandler
from pando.api.websocket import WebSocketHandler
from pando.clock import SystemClock
from pando.log import EventLog
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.batons import BatonCodec
from pando.sql.service import SqlService
from pando.sql.streams import StreamTable
from pando.testing.fake_sql_store import FakePositions, FakeSqlStore

HELLO = {"type": "hello", "jwt": None}
ANSWER_S = 20


@dataclass(frozen=True)
class Said:
    """What came back over HTTP."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class World:
    """One web process. `clock_s` is added to the time that it sees."""

    def __init__(self, directory: Path, script: str = "") -> None:
        self.clock = _Clock()
        self.store = FakeSqlStore(directory, self.clock)
        self.store.create("data", script or "create table t(a integer primary key, b)")
        self.lines: list[str] = []
        ids = count(1)
        self.streams = StreamTable(node="n", web=0, codec=BatonCodec(b"k" * 32), new_id=lambda: next(ids))
        self.service = SqlService(
            store=self.store, positions=FakePositions(self.store), streams=self.streams, clock=self.clock
        )
        log = EventLog("web-0", form="json", write=self.lines.append)
        self.app = App({}, log, lambda: "the store is starting")
        self.app.sql = PipelineHandler(self.service, _anybody)
        self.app.websocket = WebSocketHandler(self.service, _anybody, log)
        self.runner = asyncio.Runner()

    def post(self, body: bytes, path: str = "/v3/pipeline", method: str = "POST") -> Said:
        return self.runner.run(self._post(body, path, method))

    def pipeline(self, *requests: object, baton: str | None = None) -> Said:
        return self.post(json.dumps({"baton": baton, "requests": requests}).encode())

    async def _post(self, body: bytes, path: str, method: str) -> Said:
        scope = {"type": "http", "method": method, "path": path, "raw_path": path.encode(), "query_string": b""}
        scope["headers"] = [(b"host", b"x"), (b"content-length", b"%d" % len(body))]
        status, parts, waiting = 0, [], deque([body])

        async def receive() -> dict[str, Any]:
            if waiting:
                return {"type": "http.request", "body": waiting.popleft(), "more_body": False}
            await asyncio.Event().wait()  # the client stays
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                parts.append(message.get("body", b""))

        async with asyncio.timeout(ANSWER_S):
            await self.app(scope, receive, send)
        return Said(status, b"".join(parts))

    def talk(self, *frames: str | bytes, answers: int, protocol: str = "hrana3") -> tuple[list[Any], int | None]:
        """Send frames; gives the messages that came and the code with which the server closed, if it did.

        The client goes when it has got so many answers, or after a moment without one.
        """
        return self.runner.run(self._talk(frames, answers, protocol))

    async def _talk(self, frames: tuple[str | bytes, ...], answers: int, protocol: str) -> tuple[list[Any], int | None]:
        waiting = deque([{"type": "websocket.connect"}, *({_kind(frame): frame} | _RECEIVE for frame in frames)])
        said: list[Any] = []
        code: int | None = None
        enough = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if waiting:
                return waiting.popleft()
            await enough.wait()
            return {"type": "websocket.disconnect", "code": 1000}

        async def send(message: Any) -> None:
            nonlocal code
            if message["type"] == "websocket.send":
                text = message.get("text")
                said.append(message["bytes"] if text is None else json.loads(text))
            elif message["type"] == "websocket.close":
                code = message["code"]
            if len(said) >= answers or code is not None:
                enough.set()

        scope = {"type": "websocket", "path": "/", "headers": [(b"host", b"x")], "subprotocols": [protocol]}
        async with asyncio.timeout(ANSWER_S):
            await self.app(scope, receive, send)
        return said, code

    def over_websocket(self, *requests: dict[str, Any]) -> list[Any]:
        """Send requests on one stream; gives their answers in order. Those about stored texts belong to no stream."""
        frames: list[object] = [HELLO, _asked(0, {"type": "open_stream", "stream_id": 1})]
        for number, request in enumerate(requests, start=1):
            stream = {} if request["type"] in {"store_sql", "close_sql"} else {"stream_id": 1}
            frames.append(_asked(number, {**request, **stream}))
        said, _ = self.talk(*map(json.dumps, frames), answers=len(frames))
        answers = {message["request_id"]: message for message in said if "request_id" in message}
        return [answers[number] for number in range(1, len(requests) + 1)]

    def is_at_rest(self) -> bool:
        """Tell whether no stream and no transaction is left."""
        held = [*self.service._runs.holding, *self.store._sessions]
        return not held and not len(self.streams) and not self.store.database("data").writer.in_transaction

    def close(self) -> None:
        self.service.close()
        self.store.close()
        self.runner.close()


class _Clock(SystemClock):
    ahead = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


_RECEIVE = {"type": "websocket.receive"}


def _kind(frame: str | bytes) -> str:
    return "text" if isinstance(frame, str) else "bytes"


def _asked(number: int, request: dict[str, Any]) -> dict[str, Any]:
    return {"type": "request", "request_id": number, "request": request}


def _anybody(_headers: object) -> Access:
    return FULL_ACCESS
