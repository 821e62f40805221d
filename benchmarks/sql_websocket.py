"""SQL over WebSocket (Hrana 2, JSON) beside a real sqld in the same run, and what idle streams cost.

Each connection has one stream and one request under way. The load client is one process with hand-made frames, so that
the servers and not the client are what is measured. Not here: HTTP (`sql_http`).
"""

from __future__ import annotations

import asyncio
import base64
import os
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import uvloop

from benchmarks.common import Bench, Node, milliseconds, token
from benchmarks.snapshots import memory_mb
from benchmarks.sql_http import sqld_pair

CONNECTIONS = (1, 8, 32, 128)
ROWS = 10_000
IDLE_STREAMS = 10_000
STREAMS_PER_CONNECTION = 500
_MASK = b"\0\0\0\0"
"""A mask of zeros leaves the payload as it is (RFC 6455 section 5.3); servers unmask it all the same."""
_SETUP = (
    "DROP TABLE IF EXISTS wt",
    "CREATE TABLE wt (id INTEGER PRIMARY KEY, k TEXT, v TEXT)",
    f"INSERT INTO wt SELECT value, 'key' || value, hex(randomblob(30)) FROM (WITH RECURSIVE s(value) AS "
    f"(SELECT 1 UNION ALL SELECT value + 1 FROM s WHERE value < {ROWS}) SELECT value FROM s)",
    "CREATE TABLE IF NOT EXISTS ww (id INTEGER PRIMARY KEY, k TEXT)",
)


@dataclass(frozen=True)
class Group:
    """Requests of one kind: JSON around a number."""

    name: str
    before: str
    after: str


def _step(sql: str, ok: int | None) -> str:
    condition = "" if ok is None else f'"condition":{{"type":"ok","step":{ok}}},'
    return f'{{{condition}"stmt":{{"sql":"{sql}"}}}}'


def _transaction() -> Group:
    texts = ["BEGIN IMMEDIATE", *["INSERT INTO ww (k) VALUES ('a')"] * 10, "COMMIT"]
    steps = ",".join(_step(sql, None if not number else number - 1) for number, sql in enumerate(texts))
    return Group("tx 10 rows", f'"type":"batch","batch":{{"steps":[{steps}],"x":"', '"}')


GROUPS = (
    Group(
        "select key",
        '"type":"execute","stmt":{"sql":"SELECT * FROM wt WHERE id = ?","args":[{"type":"integer","value":"',
        '"}]}',
    ),
    Group(
        "insert",
        '"type":"execute","stmt":{"sql":"INSERT INTO ww (k) VALUES (?)","args":[{"type":"text","value":"',
        '"}]}',
    ),
    _transaction(),
)


def frame(text: str) -> bytes:
    """Make a text frame as a client sends it."""
    data = text.encode()
    if len(data) < 126:
        head = bytes((0x81, 0x80 | len(data)))
    elif len(data) < 65536:
        head = bytes((0x81, 0xFE)) + len(data).to_bytes(2, "big")
    else:
        head = bytes((0x81, 0xFF)) + len(data).to_bytes(8, "big")
    return head + _MASK + data


class Connection(asyncio.Protocol):
    """One WebSocket; `ask` sends a request and waits for the next message."""

    def __init__(self, url: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        self._hello = (
            f"GET / HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: hrana2\r\n\r\n"
        ).encode()
        self._data = bytearray()
        self._is_open = False
        self._waiting: asyncio.Future[bytes] | None = None
        self._came: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        """Ask for the upgrade."""
        self.transport = transport
        transport.write(self._hello)

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail who waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(ConnectionError("the server closed the connection"))

    def data_received(self, data: bytes) -> None:
        """Take whole messages out."""
        self._data += data
        if not self._is_open:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            if not head.startswith(b"HTTP/1.1 101"):
                raise SystemExit(f"no WebSocket: {bytes(head[:80])!r}")
            self._is_open, self._data = True, rest
            self._tell(b"open")
        while (message := self._message()) is not None:
            self._tell(message)

    def _message(self) -> bytes | None:
        data = self._data
        if len(data) < 2:
            return None
        size, at = data[1] & 0x7F, 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if len(data) < 2 + width:
                return None
            size, at = int.from_bytes(data[2 : 2 + width], "big"), 2 + width
        if len(data) < at + size:
            return None
        message = bytes(data[at : at + size])
        del data[: at + size]
        return message

    def _tell(self, message: bytes) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(message)
        else:
            self._came.append(message)

    async def next(self) -> bytes:
        """Give the next message."""
        if self._came:
            return self._came.pop(0)
        self._waiting = asyncio.get_running_loop().create_future()
        return await self._waiting

    async def ask(self, request: str) -> None:
        """Send a request that must succeed; raises SystemExit for an error."""
        if (answer := await self.try_(request)) is not None:
            raise SystemExit(answer[:300].decode())

    async def try_(self, request: str) -> bytes | None:
        """Send a request; gives the answer if it is an error."""
        self.transport.write(frame(f'{{"type":"request","request_id":1,"request":{{{request}}}}}'))
        answer = await self.next()
        return answer if b"response_ok" not in answer[:60] or b'"step_errors":[{' in answer else None


async def opened(url: str, secret: str, streams: int = 1) -> Connection:
    """Connect, say hello, open streams."""
    address = urlsplit(url)
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: Connection(url), address.hostname, address.port)
    await connection.next()
    hello = f'"{secret}"' if secret else "null"
    connection.transport.write(frame(f'{{"type":"hello","jwt":{hello}}}'))
    if b"hello_ok" not in await connection.next():
        raise SystemExit("the token was refused")
    for stream in range(1, streams + 1):
        await connection.ask(f'"type":"open_stream","stream_id":{stream}')
    return connection


async def measure(url: str, secret: str, group: Group, connections: int, seconds: float) -> dict[str, Any]:
    """Let so many connections ask one after the other; gives rate and latency."""
    made = [await opened(url, secret) for _ in range(connections)]
    taken: list[float] = []
    errors: list[bytes] = []
    until = time.perf_counter() + seconds

    async def work(connection: Connection, number: int) -> None:
        while (began := time.perf_counter()) < until:
            number = number * 7919 % ROWS + 1
            answer = await connection.try_(f'"stream_id":1,{group.before}{number}{group.after}')
            if answer is None:
                taken.append(time.perf_counter() - began)
            else:
                errors.append(answer)

    began = time.perf_counter()
    await asyncio.gather(*(work(connection, number) for number, connection in enumerate(made)))
    elapsed = time.perf_counter() - began
    for connection in made:
        connection.transport.close()
    return {"per_s": round(len(taken) / elapsed), **milliseconds(taken), "errors": len(errors)}


def load(write: str, read: str, secret: str, seconds: float) -> dict[str, Any]:
    """Run all groups: reads at `read`, writes at `write`, and inserts at `read` too if it is another node."""

    async def run() -> dict[str, Any]:
        setup = await opened(write, secret)
        for sql in _SETUP:
            await setup.ask(f'"type":"execute","stream_id":1,"stmt":{{"sql":"{sql}"}}')
        setup.transport.close()
        await asyncio.sleep(1)
        found = {}
        for connections in CONNECTIONS:
            for group in GROUPS:
                where = read if group.name.startswith("select") else write
                found[f"{group.name}, c{connections}"] = await measure(where, secret, group, connections, seconds)
            if read != write:
                found[f"insert fwd, c{connections}"] = await measure(read, secret, GROUPS[1], connections, seconds)
        return found

    return uvloop.run(run())


def _bytes(node: Node) -> float:
    return memory_mb(node)["total"] * (1 << 20)


def idle_streams(node: Node, secret: str) -> dict[str, Any]:
    """Open streams and leave them alone; gives what each costs."""

    async def run() -> dict[str, Any]:
        before = _bytes(node)
        connections = IDLE_STREAMS // STREAMS_PER_CONNECTION
        made = [await opened(node.url, secret, STREAMS_PER_CONNECTION) for _ in range(connections)]
        after = _bytes(node)
        for connection in made:
            connection.transport.close()
        return {"streams": IDLE_STREAMS, "bytes_each": round((after - before) / IDLE_STREAMS)}

    return uvloop.run(run())


def run(table: Bench, seconds: float = 3) -> dict[str, Any]:
    """Measure: sqld with a replica, then Pando with one; then idle streams."""
    found: dict[str, Any] = {}
    with sqld_pair() as pair:
        if pair is not None:
            found["sqld"] = load(*pair, "", seconds)
    primary = table.start(name="primary")
    replica = table.start(primary=primary, name="replica")
    secret = token(primary)
    found["pando"] = load(primary.url, replica.url, secret, seconds)
    found["idle streams over WebSocket"] = {"pando": idle_streams(primary, secret)}
    return found
