"""A server of HTTP with the gate of a web process, and an application that tells what it got."""

import asyncio
from contextlib import asynccontextmanager

import uvicorn
from uvicorn.server import ServerState

from pando.log import EventLog
from pando.node.http_protocol import Gate, bind_gate
from pando.store.adopt import Giver

KEEP_ALIVE_S = 50.0


class App:
    """Answers with what it got; holds requests for /slow until told."""

    def __init__(self):
        self.go_on = asyncio.Event()
        self.largest = 0

    async def __call__(self, scope, receive, send):
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            self.largest = max(self.largest, len(message.get("body", b"")))
            if not message.get("more_body"):
                break
        if scope["path"] == "/slow":
            await self.go_on.wait()
        body = f"{scope['method']} {scope['path']} {size}".encode()
        headers = [(b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


class Server:
    def __init__(self, gate, app, lines):
        self.gate, self.app, self.lines = gate, app, lines
        self.state = ServerState()
        self.port = 0

    async def connect(self):
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def until_in_flight(self, count):
        async with asyncio.timeout(10):
            while sum(one.idle_since(KEEP_ALIVE_S) is None for one in self.state.connections) != count:
                await asyncio.sleep(0)

    async def until_open(self, count):
        async with asyncio.timeout(10):
            while len(self.state.connections) != count:
                await asyncio.sleep(0)


@asynccontextmanager
async def serving(folder, connections_max=100, app=None, ws="none"):
    lines = []
    giver = Giver(str(folder / "adopt.sock"))
    log = EventLog("web-0", form="json", write=lines.append)
    gate = Gate(connections_max=connections_max, giver=giver, log=log, keep_alive_s=KEEP_ALIVE_S)
    server = Server(gate, app or App(), lines)
    config = uvicorn.Config(
        server.app,
        http=bind_gate(gate),
        ws=ws,
        lifespan="off",
        log_config=None,
        timeout_keep_alive=KEEP_ALIVE_S,
        interface="asgi3",
        proxy_headers=False,
    )
    config.load()
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(
        lambda: config.http_protocol_class(config=config, server_state=server.state, app_state={}, _loop=loop),
        "127.0.0.1",
        0,
    )
    server.port = listening.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listening.close()
        for connection in list(server.state.connections):
            connection.transport.abort()
        giver.close()


async def next_millisecond():
    """Wait until the loop's clock has moved: connections that went idle in the same instant are equals."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    while loop.time() < before + 0.002:
        await asyncio.sleep(0)


class Written:
    """A transport that keeps what is written, piece by piece."""

    def __init__(self):
        self.pieces = []
        self.is_closed = False

    def write(self, data):
        self.pieces.append(data)

    def close(self):
        self.is_closed = True

    abort = close

    def __getattr__(self, name):
        return lambda *_: name
