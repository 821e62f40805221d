"""A server with requests that are answered at once at /p, and a client of it, for the tests of the protocol."""

import asyncio
from dataclasses import dataclass

from http_kit import serving

from pando.testing.waiting import run

LARGE = 16 << 20


class Echo:
    """The ordinary door: tells the body back; `slow` waits until told, `turns` for some turns of the loop."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.asked = []

    async def __call__(self, scope, receive, send):
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
            while (await receive())["type"] != "websocket.disconnect":
                continue
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body += message["body"]
            more = message["more_body"]
        self.asked.append(body)
        if body.startswith(b"slow"):
            await self.go_on.wait()
        if body.startswith(b"turns"):
            for _ in range(3):
                await asyncio.sleep(0)
        text = b"" if scope["method"] == "HEAD" else b"asgi " + body
        headers = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})


class Prompts:
    """What to do is the first word of the body."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.asked = []
        self.headers = []
        self.ended = 0
        self.server = None

    def __call__(self, headers, body):
        self.asked.append(body)
        self.headers = headers
        word = body.split(b" ")[0]
        if word in (b"now", b"large"):
            return self.whole(body + b"!" * (LARGE if word == b"large" else 0))
        if word == b"abort":
            for connection in self.server.state.connections:
                connection.transport.abort()
            return self.whole(body)
        if word in (b"wait", b"fail", b"turns"):
            return self.later(word, body)
        return None

    @staticmethod
    def whole(body):
        text = b"prompt " + body
        return 200, b"x-door: prompt\r\ncontent-length: %d\r\n" % len(text), text

    async def later(self, word, body):
        try:
            if word == b"turns":
                for _ in range(3):
                    await asyncio.sleep(0)
            else:
                await self.go_on.wait()
        finally:
            self.ended += 1
        if word == b"fail":
            raise ZeroDivisionError("oops")
        return self.whole(body)


@dataclass
class Reply:
    status: int
    headers: dict
    body: bytes


class Client:
    """One connection to a server with prompts at /p, and what both doors were asked."""

    def __init__(self, server, reader, writer):
        self.server, self.reader, self.writer = server, reader, writer
        self.prompts, self.app = server.prompts, server.app

    def send(self, *pieces):
        self.writer.write(b"".join(pieces))

    async def reply(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.rstrip("\r\n").split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return Reply(int(status.split()[1]), headers, body)

    async def bodies(self, count):
        return [(await self.reply()).body for _ in range(count)]

    async def at_end(self):
        """Whether the server closed, with nothing more said."""
        return await self.reader.read() == b""

    async def wait_until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0)

    @property
    def connection(self):
        (found,) = self.server.state.connections
        return found


def with_client(folder, scenario, **options):
    """Run a scenario with a client of a server of its own."""

    async def whole():
        async with serving(folder, app=Echo(), **options) as server:
            server.prompts = Prompts()
            server.prompts.server = server
            server.gate.prompts = {b"/p": server.prompts}
            client = Client(server, *await server.connect())
            try:
                await scenario(client)
            finally:
                client.writer.close()

    run(whole())


def post(body, *lines, path="/p", version="1.1"):
    head = (f"POST {path} HTTP/{version}", "Host: x", *lines, f"Content-Length: {len(body)}", "", "")
    return "\r\n".join(head).encode() + body


def chunked(body, *trailers):
    head = ("POST /p HTTP/1.1", "Host: x", "Transfer-Encoding: chunked", "", "")
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n"
    return "\r\n".join(head).encode() + chunks + b"".join(b"%b\r\n" % line for line in trailers) + b"\r\n"
