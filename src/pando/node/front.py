"""The front of a cluster on one machine: one address that spreads requests over the nodes that are well.

A process of its own: `python -m pando.node.front --listen 127.0.0.1:8090 --node http://127.0.0.1:8091 ...`. It holds no
data and no secret, may be ended at any instant, and ends by itself when whoever started it is gone. Not here: how a
request is passed on (`pando.node.front_proxy`), the server (`front_server`), whose turn it is (`front_nodes`).
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import aiohttp
import uvloop

from pando import limits
from pando.errors import InvalidSetting, PandoError
from pando.log import EventLog
from pando.node.ending import take_waiting
from pando.node.front_ending import Stopping
from pando.node.front_nodes import FrontNode, Rotation
from pando.node.front_proxy import Proxy, describe, is_unsent, make_session
from pando.node.front_server import FrontServer
from pando.setting_kinds import ADDRESS, URL, BadValue

CHECK_EVERY_S: Final = 0.5
BEGIN_EVERY_S: Final = 0.1
BEGIN_WAIT_S: Final = 30.0
"""How long a front of the command line waits for the first node."""
CHECK_ANSWER_S: Final = 1.0
"""How long a node may take to say that it is ready."""
END_S: Final = 5.0
"""How long requests under way may take to end when the front is told to stop."""
_BACKLOG: Final = 2048
_FILES_KEPT: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontOptions:
    """How a front is started. `alive_fd`: readable or at its end means that whoever started it is gone (-1: none).

    `begin_wait_s`: how long it waits for the first node that is well before it listens. Clients that are refused a
    connection try again, and many do not when the first answer is 503.
    """

    listen: tuple[str, int]
    nodes: tuple[str, ...]
    alive_fd: int = -1
    begin_wait_s: float = 0.0
    connections_max: int = limits.CONNECTIONS_MAX
    end_s: float = END_S
    log_level: str = "info"
    log_format: str = "text"


class Front:
    """The parts of a running front, for a loop that runs already."""

    def __init__(self, options: FrontOptions, log: EventLog) -> None:
        """Raises InvalidSetting without nodes."""
        self._options = options
        self._log = log
        self.rotation = Rotation(options.nodes, self._tell)
        self._looks = [asyncio.Event() for _ in self.rotation.nodes]
        self._tasks: list[asyncio.Task[None]] = []
        self._listener: asyncio.Server | None = None

    async def start(self, end: asyncio.Event | None = None) -> None:
        """Listen, once every node was asked how it is. Raises InvalidSetting when the address cannot be used.

        `end`: somebody wants it to end, so that nobody need be waited for.
        """
        limit = files_limit(self._options.connections_max)
        self._session = make_session(limit)
        self._checks = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),  # a new connection may reach another process of the node
            timeout=aiohttp.ClientTimeout(total=CHECK_ANSWER_S),
        )
        await self._first_checks(end or asyncio.Event())
        stopping = Stopping()
        proxy = Proxy(self.rotation, self._session, self._look_again, stopping)
        self._server = FrontServer(proxy, self.rotation, self._session, limit=limit, log=self._log, stopping=stopping)
        host, port = self._options.listen
        try:
            self._listener = await asyncio.get_running_loop().create_server(
                self._server, host, port, backlog=_BACKLOG, reuse_address=True
            )
        except OSError as error:
            await self.close()
            raise InvalidSetting(f"the front cannot listen at {host}:{port}: {error.strerror}") from error
        self._tasks = [
            asyncio.ensure_future(self._keep_checking(node, look))
            for node, look in zip(self.rotation.nodes, self._looks, strict=True)
        ]

    @property
    def port(self) -> int:
        """The port that is listened at."""
        assert self._listener is not None
        port: int = self._listener.sockets[0].getsockname()[1]
        return port

    @property
    def is_busy(self) -> bool:
        """Whether requests are under way."""
        return self._server.is_busy

    async def close(self) -> None:
        """Stop listening, let requests under way end for a moment, and close everything."""
        if self._listener is not None:
            await self._stop_listening(self._listener)
            await self._server.end(self._options.end_s)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._session.close()
        await self._checks.close()

    async def _stop_listening(self, listener: asyncio.Server) -> None:
        taken = []
        for listening in listener.sockets:
            with socket.socket(fileno=os.dup(listening.fileno())) as same:
                taken += take_waiting(same)
        listener.close()
        for connection in taken:
            await asyncio.get_running_loop().connect_accepted_socket(self._server, connection)

    def _look_again(self) -> None:
        for look in self._looks:
            look.set()

    async def _first_checks(self, end: asyncio.Event) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.begin_wait_s
        while True:
            await asyncio.gather(*(self._check(node) for node in self.rotation.nodes))
            if end.is_set() or loop.time() >= deadline or any(node.is_up for node in self.rotation.nodes):
                return
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEGIN_EVERY_S):
                    await end.wait()

    async def _keep_checking(self, node: FrontNode, look: asyncio.Event) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_EVERY_S):  # wait_for of Python 3.11 can lose a cancellation
                    await look.wait()
            look.clear()
            await self._check(node)

    async def _check(self, node: FrontNode) -> None:
        try:
            async with self._checks.get(f"{node.url}/health", allow_redirects=False) as answer:
                if answer.status == 200:
                    self.rotation.is_well(node)
                else:
                    self.rotation.is_away(node, f"it is not ready (status {answer.status})")
        except (aiohttp.ClientError, TimeoutError, ConnectionError) as error:
            if is_unsent(error):
                self.rotation.is_away(node, describe(error))
            else:
                self.rotation.is_late(node, describe(error))

    def _tell(self, node: FrontNode) -> None:
        if node.is_up:
            self._log.emit("front.node_up", url=node.url)
        else:
            self._log.emit("front.node_down", url=node.url, reason=node.reason)


def files_limit(connections_max: int) -> int:
    """Ask the system for as many open files as are needed (two for a connection), and give how many connections fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 2 * connections_max + _FILES_KEPT
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    if soft == resource.RLIM_INFINITY:
        return connections_max
    return max(1, min(connections_max, (soft - _FILES_KEPT) // 2))


async def _serve(options: FrontOptions, log: EventLog) -> None:
    front = Front(options, log)
    loop = asyncio.get_running_loop()
    end = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end.set)
    if options.alive_fd >= 0:
        loop.add_reader(options.alive_fd, end.set)
    await front.start(end)
    try:
        await end.wait()
    finally:
        if options.alive_fd >= 0:
            loop.remove_reader(options.alive_fd)
        await front.close()


def run_front(options: FrontOptions) -> None:
    """Be a front until told to stop by SIGTERM, SIGINT or the end of `alive_fd`. Raises PandoError at the start."""
    log = EventLog("front", level=options.log_level, form=options.log_format)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(options, log))


def parse_options(arguments: Sequence[str]) -> FrontOptions:
    """Read the command line; raises InvalidSetting, or SystemExit with argparse's own message."""
    parser = argparse.ArgumentParser(prog="python -m pando.node.front", description="Spread requests over nodes.")
    parser.add_argument("--listen", default="127.0.0.1:8090", metavar="HOST:PORT")
    parser.add_argument("--node", action="append", default=[], metavar="URL", help="a node; may be given several times")
    parser.add_argument("--alive-fd", type=int, default=-1, help="descriptor whose end means that the parent is gone")
    parser.add_argument("--connections-max", type=int, default=limits.CONNECTIONS_MAX)
    parser.add_argument("--log-level", default="info", choices=["debug", "info", "warning", "error"])
    parser.add_argument("--log-format", default="text", choices=["text", "json"])
    given = parser.parse_args(arguments)
    try:
        listen, nodes = ADDRESS.parse(given.listen), tuple(URL.parse(url) for url in given.node)
    except BadValue:
        raise InvalidSetting("the front needs --listen HOST:PORT, and --node http://HOST:PORT for each node") from None
    return FrontOptions(
        listen=listen,
        nodes=nodes,
        alive_fd=given.alive_fd,
        begin_wait_s=BEGIN_WAIT_S,
        connections_max=given.connections_max,
        log_level=given.log_level,
        log_format=given.log_format,
    )


def main() -> None:
    """Run the front from the command line; exit status 2 when it cannot start as it was told."""
    try:
        run_front(parse_options(sys.argv[1:]))
    except PandoError as error:
        EventLog("front").emit("process.failed", error=f"{error.code}: {error.message}")
        sys.exit(2)


if __name__ == "__main__":
    main()
