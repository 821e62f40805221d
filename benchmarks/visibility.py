"""Commit -> visible on a replica, at fixed rates and at saturation; then catching up from the log.

The moment of visibility is read from the replica's shared positions, which its applier publishes right after COMMIT.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import uvloop

from benchmarks.common import Bench, Node, StoreClient, bench, milliseconds
from benchmarks.write_path import CREATE, INSERT
from pando.store import protocol
from pando.store.positions import PositionTable


async def visible_after(primary: Node, replica: Node, rate: float, seconds: float) -> list[float]:
    """Seconds from the primary's answer until the replica shows the commit, at so many commits a second."""
    client = await StoreClient().dial(primary)
    other = await StoreClient().dial(replica)
    opened = await other.ask(protocol.OpenDatabase, "data")
    table = PositionTable.attach(replica.directory / ".pando" / "positions")
    await client.sql((CREATE, ()))
    found: list[float] = []
    started = time.perf_counter()
    number = 0
    while time.perf_counter() - started < seconds:
        ran = await client.sql((INSERT, (number,)))
        answered = time.perf_counter()
        while table.visible(opened.slot)[1] < ran.txid:
            await asyncio.sleep(0)
        found.append(time.perf_counter() - answered)
        number += 1
        if rate:
            await asyncio.sleep(max(0.0, started + number / rate - time.perf_counter()))
    table.close()
    return found


async def saturated(primary: Node, replica: Node, seconds: float) -> tuple[float, list[float]]:
    """The same for one commit in fifty while 32 clients write as fast as they can."""
    client = await StoreClient().dial(primary)
    opened = await (await StoreClient().dial(replica)).ask(protocol.OpenDatabase, "data")
    table = PositionTable.attach(replica.directory / ".pando" / "positions")
    found: list[float] = []
    count = 0
    started = time.perf_counter()

    async def write(index: int) -> None:
        nonlocal count
        while time.perf_counter() - started < seconds:
            ran = await client.sql((INSERT, (index,)))
            count += 1
            if count % 50 == 0:
                answered = time.perf_counter()
                while table.visible(opened.slot)[1] < ran.txid:
                    await asyncio.sleep(0)
                found.append(time.perf_counter() - answered)

    await asyncio.gather(*[write(index) for index in range(32)])
    return count / (time.perf_counter() - started), found


async def many_commits(primary: Node, commits: int) -> float:
    """Write so many single commits; gives seconds."""
    client = await StoreClient().dial(primary)
    started = time.perf_counter()
    for number in range(commits):
        await client.sql((INSERT, (number,)))
    return time.perf_counter() - started


def catch_up(table: Bench, primary: Node, replica: Node, commits: int) -> dict[str, Any]:
    """Stop the replica, commit, start it again: seconds until it shows everything."""
    replica.stop()
    wrote_s = uvloop.run(many_commits(primary, commits))

    async def head() -> protocol.Ran:
        return await (await StoreClient().dial(primary)).sql((INSERT, (0,)))

    target = uvloop.run(head()).txid
    started = time.perf_counter()
    again = table.start(primary=primary, name=replica.directory.name)
    positions = PositionTable.attach(again.directory / ".pando" / "positions")
    while positions.visible(0)[1] < target:
        time.sleep(0.002)
    seconds = time.perf_counter() - started
    positions.close()
    return {
        "commits": commits,
        "written_s": round(wrote_s, 2),
        "caught_up_s": round(seconds, 2),
        "per_s": round(commits / seconds),
    }


def run(table: Bench, seconds: float = 5, commits: int = 100_000) -> dict[str, Any]:
    """Measure."""
    primary = table.start()
    replica = table.start(primary=primary)
    found: dict[str, Any] = {}
    for rate in (10, 100, 1000):
        found[f"visible at {rate}/s"] = milliseconds(uvloop.run(visible_after(primary, replica, rate, seconds)))
    rate, times = uvloop.run(saturated(primary, replica, seconds))
    found["visible at saturation"] = {**milliseconds(times), "per_s": round(rate)}
    found["catch-up of the log"] = catch_up(table, primary, replica, commits)
    return found


if __name__ == "__main__":
    with bench() as made:
        for name, row in run(made).items():
            print(f"{name:36} {row}", flush=True)
