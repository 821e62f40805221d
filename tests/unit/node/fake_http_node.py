"""A node of the tests: a real socket, a script that says how to answer."""

import asyncio
from dataclasses import dataclass, field


@dataclass
class Seen:
    """One request as it came over the socket."""

    method: str
    target: str
    headers: list
    body: bytes = b""

    def header(self, name):
        return [value for key, value in self.headers if key.lower() == name.lower()]


def answer(body=b"", status="200 OK", headers=()):
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *(f"{key}: {value}" for key, value in headers)]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class FakeNode:
    """`script(seen, reader, writer)` answers what is not /health; returning bytes is the simple way."""

    name: str = "node"
    script: object = None
    health: bytes = field(default_factory=lambda: answer(b"{}"))
    port: int = 0
    reads_body: bool = True

    def __post_init__(self):
        self.seen = []
        self.checks = 0
        self.open = set()
        self._server = None
        self._tasks = set()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def start(self):
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def die(self):
        """As a killed process: nobody listens, all connections are cut."""
        self._server.close()
        for writer in list(self.open):
            writer.transport.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader, writer):
        self.open.add(writer)
        self._tasks.add(asyncio.current_task())
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            self.open.discard(writer)
            self._tasks.discard(asyncio.current_task())
            writer.close()

    async def _one(self, reader, writer):
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").strip().split("\r\n")
        method, target, _ = first.split(" ")
        seen = Seen(method, target, [tuple(line.split(": ", 1)) for line in lines])
        if target == "/health":
            self.checks += 1
            writer.write(self.health)
            return True
        self.seen.append(seen)
        if self.reads_body:
            seen.body = await read_body(seen, reader)
        if self.script is None:
            writer.write(answer(self.name.encode()))
            return True
        given = await self.script(seen, reader, writer)
        if given is not None:
            writer.write(given)
        await writer.drain()
        return given is not None


async def read_body(seen, reader):
    lengths = seen.header("content-length")
    if lengths:
        return await reader.readexactly(int(lengths[0]))
    body = b""
    if seen.header("transfer-encoding"):
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
    return body
