"""Event streams: 5,000 subscribers of one node, beside a real PocketBase with as many in the same run.

All on one topic (each write becomes 5,000 events) and each on a topic of its own (one event a write). The subscribers
are another process on the same machine. Needs the PocketBase program of tests/interop for the peer, and leaves it out
where it cannot be had.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from benchmarks.common import SECRET, Bench, bench

ROOT = ("root@example.org", "root-password-1")
COLLECTION = "bench"
WRITERS = 16
PEER_FOLDER = Path(__file__).parents[1] / "tests" / "interop"


@dataclass(frozen=True)
class Size:
    """How much is done."""

    subscribers: int = 5_000
    calm_writes: int = 20
    """Writes to all, each after the one before was heard by all."""
    hasty_writes: int = 200
    """Writes to all, by 16 clients."""
    own_writes: int = 5_000
    """Writes to one subscriber each, by 16 clients."""


FULL = Size()
QUICK = Size(subscribers=500, calm_writes=5, hasty_writes=20, own_writes=500)


class Audience:
    """The process of the subscribers."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "benchmarks.subscribers"]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[1]
        )

    async def ask(self, do: str, **values: Any) -> dict[str, Any]:
        """Have something done."""
        return await asyncio.to_thread(self._ask, {"do": do, **values})

    def _ask(self, command: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("the subscribers' process has ended")
        return dict(json.loads(line))

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()


@dataclass(frozen=True)
class Peer:
    """A server under test."""

    url: str
    pids: Callable[[], list[int]]

    def memory_kb(self) -> int:
        """Give the memory of all processes, shared pages by share."""
        return sum(_pss_kb(pid) for pid in self.pids())


def _pss_kb(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


class Writer:
    """Writes records, and remembers when each write was asked for and answered."""

    def __init__(self, session: aiohttp.ClientSession, url: str, token: str) -> None:
        self._session = session
        self._url = f"{url}/api/collections"
        self._token = token
        self._number = 0
        self.collection = COLLECTION
        self.asked: dict[int, float] = {}
        self.answered: dict[int, float] = {}

    @classmethod
    async def signed_in(cls, session: aiohttp.ClientSession, url: str) -> Writer:
        """Make one with the rights of a superuser."""
        body = {"identity": ROOT[0], "password": ROOT[1]}
        async with session.post(f"{url}/api/collections/_superusers/auth-with-password", json=body) as answer:
            return cls(session, url, (await answer.json())["token"])

    async def do(self, method: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Ask for what must be done; gives the answer."""
        headers = {"Authorization": self._token}
        async with self._session.request(method, self._url + path, json=body, headers=headers) as answer:
            text = await answer.read()
            if answer.status != 200:
                raise SystemExit(f"{method} {path}: {answer.status} {text!r}")
            return dict(json.loads(text))

    async def make(self, records: int) -> None:
        """Make the collection and its records."""
        fields = [{"name": "n", "type": "number"}, {"name": "title", "type": "text"}]
        rules = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), "")
        await self.do("POST", "", {"name": COLLECTION, "type": "base", "fields": fields, **rules})
        await self.in_parallel(records, self._create)

    async def _create(self, number: int) -> None:
        await self.do("POST", f"/{COLLECTION}/records", {"id": key_of(number), "n": 0, "title": "a title " * 8})

    async def write(self, record: int) -> None:
        """Change a record."""
        self._number += 1
        number = self._number
        self.asked[number] = time.monotonic()
        await self.do("PATCH", f"/{self.collection}/records/{key_of(record)}", {"n": number})
        self.answered[number] = time.monotonic()

    async def in_parallel(self, count: int, work: Callable[[int], Awaitable[None]]) -> None:
        """Do it for each number, WRITERS at a time."""
        numbers = iter(range(count))

        async def some() -> None:
            for number in numbers:
                await work(number)

        await asyncio.gather(*[some() for _ in range(min(count, WRITERS))])


def key_of(number: int) -> str:
    """Give the id of a record."""
    return f"record{number:09d}"


async def measure(peer: Peer, size: Size) -> dict[str, Any]:
    """Measure one server."""
    audience = Audience()
    try:
        async with aiohttp.ClientSession() as session:
            writer = await Writer.signed_in(session, peer.url)
            await writer.make(size.subscribers)
            return await _measure(peer, size, audience, writer)
    finally:
        audience.end()


async def _measure(peer: Peer, size: Size, audience: Audience, writer: Writer) -> dict[str, Any]:
    found: dict[str, Any] = {}
    empty_kb = peer.memory_kb()
    topics = [f"{COLLECTION}/*"] * size.subscribers
    opened = await audience.ask("subscribe", url=peer.url, topics=topics, tokens=[])
    found["opened"] = {
        **opened,
        "kb_per_stream": round((peer.memory_kb() - empty_kb) / size.subscribers, 1),
    }

    latencies: list[dict[str, Any]] = []
    for _ in range(size.calm_writes):
        latencies.append(await run_and_hear(audience, writer, size.subscribers, writer.write(0)))
    found["one write to all"] = {
        name: round(sorted(each[name] for each in latencies)[len(latencies) // 2], 2)
        for name in ("after_answer_p50_ms", "after_answer_p99_ms", "after_request_p50_ms", "after_request_p99_ms")
    }
    found["writes to all, 16 clients"] = await run_and_hear(
        audience,
        writer,
        size.subscribers * size.hasty_writes,
        writer.in_parallel(size.hasty_writes, lambda _: writer.write(0)),
    )
    found["opened"]["kb_per_stream_after"] = round((peer.memory_kb() - empty_kb) / size.subscribers, 1)
    await audience.ask("close")
    await asyncio.sleep(2)
    topics = [f"{COLLECTION}/{key_of(number)}" for number in range(size.subscribers)]
    await audience.ask("subscribe", url=peer.url, topics=topics, tokens=[])
    own = [number % size.subscribers for number in range(size.own_writes)]
    found["one write to one"] = await run_and_hear(audience, writer, 200, _at_rate(writer, own[:200], 100))
    found["writes to one each, 16 clients"] = await run_and_hear(
        audience, writer, len(own), writer.in_parallel(len(own), lambda number: writer.write(own[number]))
    )
    return found


async def _at_rate(writer: Writer, records: list[int], per_s: float) -> None:
    began = time.monotonic()
    for at, record in enumerate(records):
        await asyncio.sleep(max(0.0, began + at / per_s - time.monotonic()))
        await writer.write(record)


async def run_and_hear(audience: Audience, writer: Writer, events: int, work: Awaitable[None]) -> dict[str, Any]:
    """Write, and wait until all events have come."""
    writer.asked, writer.answered = {}, {}
    await audience.ask("expect", events=events)
    began = time.monotonic()
    await work
    wrote_s = time.monotonic() - began
    heard = await audience.ask("wait")
    if heard["events"] != events:
        raise SystemExit(f"{heard['events']} of {events} events came; {heard['lost']} streams ended")
    after_answer = await audience.ask("latencies", since=writer.answered)
    after_request = await audience.ask("latencies", since=writer.asked)
    return {
        "events_per_s": round(events / (heard["last"] - began)),
        "writes_per_s": round(len(writer.asked) / wrote_s),
        **{f"after_answer_{name}": value for name, value in after_answer.items()},
        **{f"after_request_{name}": value for name, value in after_request.items()},
    }


@contextlib.contextmanager
def pando(table: Bench) -> Iterator[Peer]:
    """Serve by Pando."""
    node = table.start(name="realtime")
    command = [sys.executable, "-m", "pando", "superuser", "upsert", *ROOT, "--dir", str(node.directory)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PANDO_SECRET": SECRET})
    try:
        yield Peer(node.url, lambda: list(node.pids().values()))
    finally:
        node.stop()


@contextlib.contextmanager
def pocketbase() -> Iterator[Peer | None]:
    """Serve by PocketBase, if there is one."""
    sys.path.insert(0, str(PEER_FOLDER))
    import pocketbase_program as program

    if program.find_pocketbase()[0] is None:
        yield None
        return
    with (
        tempfile.TemporaryDirectory(prefix="pocketbase-bench-") as folder,
        program.served_pocketbase(Path(folder) / "data") as served,
    ):
        yield Peer(f"http://{served.address}", lambda: _processes_with(served.address))


def _processes_with(word: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if word.encode() in path.read_bytes().split(b"\0"):
                found.append(int(path.parent.name))
    return found


def both(table: Bench, measure: Callable[[Peer], Coroutine[Any, Any, dict[str, Any]]]) -> dict[str, Any]:
    """Measure Pando, and PocketBase if there is one."""
    found: dict[str, Any] = {}
    with pando(table) as ours:
        found["pando"] = asyncio.run(measure(ours))
    with pocketbase() as peer:
        if peer is not None:
            found["pocketbase"] = asyncio.run(measure(peer))
    return found


def show(result: dict[str, Any]) -> None:
    """Print what was found, a line each."""
    for server, rows in result.items():
        for what, row in rows.items():
            print(f"{server:12} {what:40} {row}", flush=True)


def run(table: Bench, size: Size) -> dict[str, Any]:
    """Measure both."""
    return both(table, lambda peer: measure(peer, size))


if __name__ == "__main__":
    with bench() as made:
        result = run(made, QUICK if "--quick" in sys.argv else FULL)
    show(result)
