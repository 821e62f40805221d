"""A node in this process, for clients with sockets of their own: the real handler and service on a fake store.

With CLIENT_BENCH_PORT in the environment it is the real node at that port instead (`test_client_served.py` does that).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import threading
from itertools import count

import uvicorn

from pando.api.pipeline import PipelineHandler
from pando.clock import SystemClock
from pando.errors import Unauthorized
from pando.sql.access import FULL_ACCESS
from pando.sql.batons import BatonCodec
from pando.sql.service import SqlService
from pando.sql.streams import StreamTable
from pando.testing.fake_sql_store import FakePositions, FakeSqlStore

TOKEN = os.environ.get("CLIENT_BENCH_TOKEN", "a-token")


def make_node(directory):
    """Give the node to work with."""
    port = os.environ.get("CLIENT_BENCH_PORT")
    return ServedNode(int(port)) if port else BenchNode(directory)


class ServedNode:
    """A node that others started."""

    def __init__(self, port):
        self.port = port
        self.url = f"http://127.0.0.1:{port}"

    def close(self):
        """It is not ours to end."""


class BenchNode:
    """Serves a database on loopback until it is closed; `seen` has the path and headers of every request."""

    def __init__(self, directory, *, role="primary"):
        self.role = role
        self.seen = []
        self.store = None
        self._directory = directory
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.port = self._do(self._start())

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        self._do(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._loop.close()

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _start(self):
        clock = SystemClock()
        self.store = FakeSqlStore(self._directory, clock)
        self.store.create("data")
        self.store.create("shop")
        ids = count(1)
        streams = StreamTable(node="n", web=0, codec=BatonCodec(b"k" * 32), new_id=lambda: next(ids))
        self._service = SqlService(store=self.store, positions=FakePositions(self.store), streams=streams, clock=clock)
        self._handler = PipelineHandler(self._service, self._authenticate)
        config = uvicorn.Config(
            self._serve, "127.0.0.1", 0, log_config=None, lifespan="off", interface="asgi3", timeout_keep_alive=75
        )
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None
        self._running = asyncio.ensure_future(self._server._serve())
        while not self._server.started:
            await asyncio.sleep(0)
        return self._server.servers[0].sockets[0].getsockname()[1]

    async def _stop(self):
        self._server.should_exit = self._server.force_exit = True
        with contextlib.suppress(asyncio.CancelledError):
            await self._running
        self._service.close()
        self.store.close()

    def _authenticate(self, headers):
        if dict(headers).get(b"authorization") != f"Bearer {TOKEN}".encode():
            raise Unauthorized("the token does not hold")
        return FULL_ACCESS

    async def _serve(self, scope, receive, send):
        self.seen.append((scope["path"], {name.decode(): value.decode() for name, value in scope["headers"]}))
        if scope["path"] == "/health":
            body = json.dumps({"status": "ok", "role": self.role}).encode()
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]}
            )
            await send({"type": "http.response.body", "body": body})
        else:
            await self._handler(scope, receive, send)
