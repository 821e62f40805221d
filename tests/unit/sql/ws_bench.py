"""A WebSocket session on a fake store, and short words to talk to it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from service_bench import Node

from pando.errors import Unauthorized
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.service import Call
from pando.sql.ws_session import Headers, WsSession

TOKENS = {
    b"Bearer good": FULL_ACCESS,
    b"Bearer reader": Access(read_only=True),
    b"Bearer other": Access(databases=frozenset({"other"})),
}


class Talk:
    """One connection, as its client sees it."""

    def __init__(self, node: Node, *, version: int = 3, headers: Headers | None = None, database: str = "data") -> None:
        self.answers: list[Any] = []
        self.sizes: list[int] = []
        self.bugs: list[Exception] = []
        self.tokens: dict[bytes, Access] = dict(TOKENS)
        self.gate: asyncio.Event | None = None
        """While it is not set, the client reads nothing."""
        self.send_error: OSError | None = None
        self.sending = 0
        self.changed = asyncio.Event()
        self.last_id = 0
        self.session = WsSession(
            node.service,
            self.authenticate,
            call=Call(database),
            headers=headers or [],
            version=version,
            send=self._send,
            on_bug=self._on_bug,
        )

    def authenticate(self, headers: Headers) -> Access:
        found = self.tokens.get(dict(headers).get(b"authorization", b""))
        if found is None:
            raise Unauthorized("no such token")
        return found

    async def _send(self, text: bytes) -> None:
        if self.send_error is not None:
            raise self.send_error
        self.sending += 1
        if self.gate is not None:
            await self.gate.wait()
        self.sending -= 1
        self.sizes.append(len(text))
        self.answers.append(json.loads(text))
        self.changed.set()

    async def _on_bug(self, error: Exception) -> None:
        self.bugs.append(error)
        self.changed.set()

    async def say(self, message: object) -> None:
        """Send a message."""
        await self.session.take(json.dumps(message))

    async def hello(self, jwt: str | None = "good") -> Any:
        """Send a hello; gives the last answer."""
        await self.say({"type": "hello", "jwt": jwt})
        return self.answers[-1]

    async def post(self, type_: str, **fields: object) -> int:
        """Send a request, give its number."""
        self.last_id += 1
        await self.say({"type": "request", "request_id": self.last_id, "request": {"type": type_, **fields}})
        return self.last_id

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until something is so; looks again after each answer."""
        async with asyncio.timeout(5):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def answer(self, request_id: int) -> Any:
        """Wait for an answer; gives the response, or the code of the error."""
        await self.until(lambda: any(each.get("request_id") == request_id for each in self.answers))
        found = next(each for each in self.answers if each.get("request_id") == request_id)
        return found["error"]["code"] if found["type"] == "response_error" else found["response"]

    async def ask(self, type_: str, **fields: object) -> Any:
        """Send a request and wait for its answer."""
        return await self.answer(await self.post(type_, **fields))

    async def open(self, *streams: int) -> Talk:
        """Say hello and open streams."""
        await self.hello()
        for stream in streams:
            assert await self.ask("open_stream", stream_id=stream) == {"type": "open_stream"}
        return self

    async def post_sql(self, stream: int, text: str, **fields: object) -> int:
        """Send a statement."""
        return await self.post("execute", stream_id=stream, stmt={"sql": text, **fields})

    async def rows(self, request_id: int) -> Any:
        """Wait for the rows of a statement; gives the code of the error instead."""
        answer = await self.answer(request_id)
        if isinstance(answer, str):
            return answer
        return [[cell.get("value") for cell in row] for row in answer["result"]["rows"]]

    async def sql(self, stream: int, text: str, **fields: object) -> Any:
        """Run a statement; gives its rows, or the code of the error."""
        return await self.rows(await self.post_sql(stream, text, **fields))

    def order(self) -> list[int]:
        """Numbers of the answers as they came."""
        return [each["request_id"] for each in self.answers if "request_id" in each]
