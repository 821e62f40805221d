"""A front before fake nodes, and short words to ask it."""

import asyncio
from contextlib import asynccontextmanager

import aiohttp

from pando.log import EventLog
from pando.node.front import Front, FrontOptions


@asynccontextmanager
async def front_of(*nodes, **options):
    """A front before these nodes, and a client whose paths are at the front."""
    lines = []
    for node in nodes:
        await node.start()
    given = FrontOptions(listen=("127.0.0.1", 0), nodes=tuple(node.url for node in nodes), **options)
    front = Front(given, EventLog("front", write=lines.append))
    await front.start()
    front.lines = lines
    async with aiohttp.ClientSession(f"http://127.0.0.1:{front.port}", auto_decompress=False) as client:
        try:
            yield front, client
        finally:
            await front.close()
            for node in nodes:
                await node.die()


async def raw(front, request, *, until=b"\r\n\r\n"):
    reader, writer = await asyncio.open_connection("127.0.0.1", front.port)
    writer.write(request)
    try:
        return await reader.readuntil(until)
    finally:
        writer.close()


async def get_text(client, path="/"):
    async with client.get(path) as found:
        return await found.text()


async def failure(response):
    body = await response.json()
    assert body["error"] == body["message"]
    return response.status, body["code"], body["retryable"]


@asynccontextmanager
async def websocket_node(handler):
    async def serve(request):
        if request.path == "/health":
            return aiohttp.web.Response()
        return await handler(request)

    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(serve))
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    url = f"http://127.0.0.1:{site._server.sockets[0].getsockname()[1]}"
    front = Front(FrontOptions(listen=("127.0.0.1", 0), nodes=(url,)), EventLog("front", write=lambda line: None))
    await front.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{front.port}") as client:
            yield front, client
    finally:
        await front.close()
        await runner.cleanup()
