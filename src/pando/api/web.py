"""The web process: uvicorn on the node's one port, with the process' site behind it.

Several of these share the port (SO_REUSEPORT). Each has a unix socket too, for siblings that got a request for a stream
which lives here. Not here: who starts it (`pando.node.supervisor`).
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn
import uvloop

from pando.api.prompt import PATHS, PromptPipelines
from pando.api.records_prompt import PREFIX, PromptRecords
from pando.api.site import OpenSite, Site
from pando.log import EventLog, bridge_logger
from pando.node.ending import LINGER_S, end_connections, take_waiting
from pando.node.http_protocol import SWEEP_S, Gate, bind_gate
from pando.node.runtime import Runtime
from pando.node.websocket_protocol import PING_S, bind_limit
from pando.store.adopt import Giver

KEEP_ALIVE_S: Final = 75
"""How long a connection may be idle between two requests; longer than the pools of usual clients keep theirs."""
BACKLOG: Final = 2048
GC_ALLOCATIONS: Final = 20_000
"""Objects between two garbage collections: requests make few cycles, and looking for them costs time each time."""
STOP_S: Final = 5
"""How long requests may go on after the process was told to stop."""


def main(runtime: Runtime, index: int, count: int) -> None:
    """Be web process `index` of `count`; returns when told to stop by SIGTERM."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _already_handled)
    gc.collect()
    gc.freeze()
    gc.set_threshold(GC_ALLOCATIONS, 20, 50)
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    runner.run(_WebProcess(runtime, index, count).run())
    sys.stderr.flush()
    os._exit(0)  # the loop is not closed: that may wait for connections that nobody will end


def _already_handled(_number: int, _frame: FrameType | None) -> None:
    """Uvicorn stops on a signal and then raises it again, for a handler of ours: there is nothing left to do."""


def listen_tcp(address: tuple[str, int]) -> socket.socket:
    """Open a listening socket on the node's port beside those of the siblings; raises OSError."""
    host, port = address
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setblocking(False)
        listening.bind((host, port))
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def listen_unix(path: Path) -> socket.socket:
    """Open a listening unix socket; one left behind by a dead process is replaced."""
    path.unlink(missing_ok=True)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listening.setblocking(False)
    listening.bind(str(path))
    listening.listen(BACKLOG)
    return listening


class _WebProcess:
    def __init__(self, runtime: Runtime, index: int, count: int) -> None:
        self._runtime = runtime
        self._index = index
        self._count = count
        settings = runtime.settings
        self._log = log = EventLog(f"web-{index}", level=settings.log_level, form=settings.log_format)
        self._gate = gate = Gate(
            connections_max=self._connections_max,
            giver=Giver(str(runtime.adopt_socket)),
            log=log,
            keep_alive_s=KEEP_ALIVE_S,
        )
        self._site = Site(
            runtime,
            index,
            log,
            on_ended=self._ended,
            keeps_house=lambda: index == 0,
            connections=lambda: len(gate.connections),
            on_open=self._answer_promptly,
        )

    @property
    def _connections_max(self) -> int:
        return max(8, self._runtime.settings.connections_max // self._count)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        if self._runtime.alive_fd >= 0:
            loop.add_reader(self._runtime.alive_fd, os._exit, 1)
        async with self._site:
            sweeping = loop.create_task(self._sweep_connections())
            sweeping.add_done_callback(self._ended)
            try:
                await self._serve()
            finally:
                sweeping.cancel()

    def _answer_promptly(self, found: OpenSite) -> None:
        """What needs no more than a moment is answered within the call that brought it."""
        settings = self._runtime.settings
        prompt = PromptPipelines(found.service, self._site.auth.authenticate, body_bytes_max=settings.body_size_max)
        self._gate.prompts = dict.fromkeys(PATHS, prompt)
        self._gate.prompt_under, self._gate.prefix = PromptRecords(found.records), PREFIX

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A background task that fails ends the process: the supervisor starts another one."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.emit("process.failed", error=repr(error))
            os._exit(1)

    async def _sweep_connections(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_S)
            self._gate.sweep(asyncio.get_running_loop().time())

    async def _serve(self) -> None:
        config = uvicorn.Config(
            self._site.app,
            http=bind_gate(self._gate),
            ws=bind_limit(self._connections_max // 2),
            ws_max_size=self._runtime.settings.body_size_max,
            ws_per_message_deflate=False,  # a short message could grow without end, and SQL answers are fast to send
            ws_ping_interval=PING_S,
            ws_ping_timeout=None,
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=STOP_S,
            backlog=BACKLOG,
        )
        bridge_logger("uvicorn.error", self._log)
        sockets = [
            listen_tcp(self._runtime.settings.http),
            listen_unix(self._runtime.web_socket(self._index)),
        ]
        await _Server(config, self._stop).serve(sockets=sockets)

    def _stop(self) -> None:
        self._gate.stop()
        self._site.stop()


class _Server(uvicorn.Server):
    """Ends as `pando.node.ending` says, and not by cutting connections that a request may be under way on."""

    def __init__(self, config: uvicorn.Config, stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._stopping = stopping

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop taking connections, and wait for answers."""
        self._stopping()
        for server, listening in zip(self.servers, sockets or [], strict=True):
            taken = take_waiting(listening)
            server.close()
            listening.close()
            for connection in taken:
                await asyncio.get_running_loop().connect_accepted_socket(self._protocol, connection)
        await end_connections(self.server_state.connections, STOP_S)  # type: ignore[arg-type]
        if self.server_state.tasks:  # what was given up puts away its files
            await asyncio.wait(self.server_state.tasks, timeout=LINGER_S)

    def _protocol(self) -> asyncio.Protocol:
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made
