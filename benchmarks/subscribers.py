"""Thousands of event streams in a process of their own, for `benchmarks.realtime`.

Commands and reports are lines of JSON:

    {"do":"subscribe","url":...,"topics":[...],"tokens":[...]}   a stream per topic; answers when all are subscribed
    {"do":"expect","events":n}                                   forget what came; answers when so many have come
    {"do":"latencies","since":{n:time}}                          of what came, by the number in each record
    {"do":"close"}

Times are CLOCK_MONOTONIC's, which all processes of a machine share.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import re
import resource
import sys
import time
from array import array
from collections import defaultdict
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

from benchmarks.common import percentile

CONNECTING = 64
"""Streams that connect at once."""
ALL_S = 60.0
"""How long events may take."""
_NUMBER = re.compile(rb'"n":(\d+)')


class Events:
    """When events came, by the number in their record."""

    def __init__(self) -> None:
        self.reset(0)

    def reset(self, expected: int) -> None:
        """Wait for so many events."""
        self.at: dict[int, array[float]] = defaultdict(lambda: array("d"))
        self.count = 0
        self.last = 0.0
        self.expected = expected
        self.are_all_there = asyncio.Event()

    def came(self, data: bytes) -> None:
        """Take note of whole events."""
        now = time.monotonic()
        for number in _NUMBER.findall(data):
            self.at[int(number)].append(now)
            self.count += 1
        self.last = now
        if self.count >= self.expected:
            self.are_all_there.set()


class Stream(asyncio.Protocol):
    """One connection: GET /api/realtime, read for ever."""

    def __init__(self, request: bytes, events: Events) -> None:
        self._request = request
        self._events = events
        self._rest = b""
        self._parser = httptools.HttpResponseParser(self)
        self.client_id: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.is_lost = False

    def connection_made(self, transport: Any) -> None:
        """Ask."""
        self.transport = transport
        transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Take the HTTP off."""
        self._parser.feed_data(data)

    def on_body(self, data: bytes) -> None:
        """Called by the parser."""
        data = self._rest + data
        whole, end, self._rest = data.rpartition(b"\n\n")
        if not end:
            return
        if not self.client_id.done():
            self.client_id.set_result(json.loads(whole.partition(b"\ndata:")[2].split(b"\n")[0])["clientId"])
        self._events.came(whole)

    def connection_lost(self, _error: Exception | None) -> None:
        """The stream has ended."""
        self.is_lost = True
        if not self.client_id.done():
            self.client_id.set_exception(ConnectionError("the stream has ended"))


async def request(
    streams: tuple[asyncio.StreamReader, asyncio.StreamWriter], host: str, body: bytes, token: str
) -> None:
    """Send a subscription on a connection that stays open."""
    reader, writer = streams
    head = f"POST /api/realtime HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n"
    head += f"authorization: {token}\r\n" if token else ""
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
    answer = await reader.readuntil(b"\r\n\r\n")
    if b" 204 " not in answer.partition(b"\r\n")[0]:
        raise SystemExit(f"subscribing: {answer!r}")


class Subscribers:
    """Does what the commands say."""

    def __init__(self) -> None:
        self.events = Events()
        self.streams: list[Stream] = []

    async def subscribe(self, url: str, topics: list[str], tokens: list[str]) -> dict[str, Any]:
        """Open a stream for each topic."""
        began = time.monotonic()
        host = urlsplit(url).netloc
        address = urlsplit(url).hostname, urlsplit(url).port
        work = iter(zip(topics, tokens or [""] * len(topics), strict=True))
        get = f"GET /api/realtime HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n".encode()

        async def some() -> None:
            ask = await asyncio.open_connection(*address)
            for topic, token in work:
                _, stream = await asyncio.get_running_loop().create_connection(
                    lambda: Stream(get, self.events), *address
                )
                self.streams.append(stream)
                body = {"clientId": await stream.client_id, "subscriptions": [topic]}
                await request(ask, host, json.dumps(body).encode(), token)
            ask[1].close()

        await asyncio.gather(*[some() for _ in range(CONNECTING)])
        return {"streams": len(self.streams), "seconds": round(time.monotonic() - began, 2)}

    def expect(self, events: int) -> dict[str, Any]:
        """Begin anew."""
        self.events.reset(events)
        return {}

    async def wait(self) -> dict[str, Any]:
        """Give how many events came until all had, or it took too long."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.events.are_all_there.wait(), ALL_S)
        return {
            "events": self.events.count,
            "last": self.events.last,
            "lost": sum(stream.is_lost for stream in self.streams),
        }

    def latencies(self, since: dict[str, float]) -> dict[str, Any]:
        """Give percentiles of the time that each event came after `since`."""
        found = [at - since[str(number)] for number, times in self.events.at.items() for at in times]
        return {"p50_ms": round(percentile(found, 50) * 1e3, 2), "p99_ms": round(percentile(found, 99) * 1e3, 2)}

    def close(self) -> dict[str, Any]:
        """Leave."""
        for stream in self.streams:
            stream.transport.abort()
        self.streams = []
        gc.collect()
        return {}


async def main() -> None:
    """Follow commands until there are no more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 65_536)), hard))
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader(limit=1 << 26)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    subscribers = Subscribers()
    while line := await commands.readline():
        command = json.loads(line)
        found = getattr(subscribers, command.pop("do"))(**command)
        print(json.dumps(await found if asyncio.iscoroutine(found) else found), flush=True)


if __name__ == "__main__":
    gc.disable()  # its pauses would count as the server's
    uvloop.run(main())
