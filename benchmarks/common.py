"""Shared by the benchmarks: nodes as real processes on loopback, a link client for the store, percentiles.

Every figure is taken beside its peer or beside bare SQLite in the same run; quote ratios and medians.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pando.node.runtime import sockets_directory
from pando.store import protocol
from pando.store.handshake import LinkKind
from pando.store.link import Link, make_decoder
from pando.store.link_open import LinkHandlers, dial_unix, new_dialer
from pando.store.requests import Execute, Statement

SECRET = "benchmark-secret"
FIRST_PORT = int(os.environ.get("BENCH_PORT", "18400"))


@dataclass
class Node:
    """One node under test."""

    directory: Path
    url: str
    process: subprocess.Popen[bytes]

    def wait_ready(self, limit_s: float = 30) -> None:
        """Wait until /health answers 200."""
        deadline = time.monotonic() + limit_s
        while time.monotonic() < deadline:
            with contextlib.suppress(OSError), urllib.request.urlopen(self.url + "/health", timeout=1) as answer:
                if answer.status == 200:
                    return
            time.sleep(0.05)
        raise SystemExit(f"{self.url} is not ready after {limit_s} s; see {self.directory}.log")

    def stop(self) -> None:
        """End the node in order."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(40)

    def pids(self) -> dict[str, Any]:
        """Process ids by role."""
        return dict(json.loads((self.directory / ".pando" / "processes.json").read_text()))


@dataclass
class Bench:
    """A temporary directory with nodes in it."""

    directory: Path
    nodes: list[Node] = field(default_factory=list)

    def start(self, *, primary: Node | None = None, name: str = "", extra: tuple[str, ...] = ()) -> Node:
        """Start a node and wait for it."""
        number = len(self.nodes)
        directory = self.directory / (name or f"node{number + 1}")
        url = f"http://127.0.0.1:{FIRST_PORT + number}"
        command = [
            sys.executable,
            "-m",
            "pando",
            "serve",
            "--dir",
            str(directory),
            "--http",
            url.removeprefix("http://"),
        ]
        if primary is not None:
            command += ["--primary", primary.url]
        log = directory.with_suffix(".log").open("ab")
        environment = {**os.environ, "PANDO_SECRET": SECRET}
        process = subprocess.Popen([*command, *extra], stdout=log, stderr=log, env=environment)
        node = Node(directory, url, process)
        self.nodes.append(node)
        node.wait_ready()
        return node


@contextlib.contextmanager
def bench() -> Iterator[Bench]:
    """Give an empty bench; everything on it is ended and removed."""
    directory = Path(tempfile.mkdtemp(prefix="pando-bench-"))
    made = Bench(directory)
    try:
        yield made
    finally:
        for node in made.nodes:
            node.stop()
        shutil.rmtree(directory, ignore_errors=True)


def token(node: Node) -> str:
    """Make a token that may do everything."""
    command = [sys.executable, "-m", "pando", "token", "--dir", str(node.directory)]
    environment = {**os.environ, "PANDO_SECRET": SECRET}
    return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.strip()


class StoreClient:
    """Speaks to a node's store over its unix socket, as a web process does."""

    def __init__(self) -> None:
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self.link: Link | None = None

    async def dial(self, node: Node) -> StoreClient:
        """Connect."""
        path = sockets_directory(node.directory) / "store.sock"
        await dial_unix(str(path), new_dialer(LinkKind.WEB, "bench"), self._opened)
        return self

    def _opened(self, link: Link, _peer: object) -> LinkHandlers:
        self.link = link
        decoder = make_decoder(protocol.StoreAnswer)
        return LinkHandlers(decoder=decoder, on_messages=self._messages, on_closed=lambda end: None)

    def _messages(self, messages: list[Any]) -> None:
        for message in messages:
            if not isinstance(message, protocol.Topology | protocol.Committed):
                self._waiting.pop(message.id).set_result(message)

    async def ask(self, kind: Any, *fields: Any) -> Any:
        """Send a request and wait for its answer."""
        self._number += 1
        future = asyncio.get_running_loop().create_future()
        self._waiting[self._number] = future
        assert self.link is not None
        self.link.send(kind(self._number, *fields))
        return await future

    async def sql(self, *statements: tuple[str, tuple[Any, ...]], durability: str = "") -> protocol.Ran:
        """Run statements on the writer."""
        requests = tuple(Execute(Statement(sql, args)) for sql, args in statements)
        answer = await self.ask(protocol.Run, "data", 0, requests, durability)
        if not isinstance(answer, protocol.Ran):
            raise SystemExit(f"{answer}")
        return answer


def percentile(values: list[float], percent: float) -> float:
    """Give a percentile of unsorted values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def milliseconds(values: list[float]) -> dict[str, float]:
    """Summarise seconds as milliseconds."""
    return {
        "p50_ms": round(percentile(values, 50) * 1e3, 3),
        "p99_ms": round(percentile(values, 99) * 1e3, 3),
        "n": len(values),
    }


def median_of(runs: int, measure: Any) -> float:
    """Give the median of several runs."""
    return statistics.median(measure() for _ in range(runs))
