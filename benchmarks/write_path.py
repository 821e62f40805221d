"""Group commit against one commit per insert, and against bare SQLite with synchronous=FULL in the same run."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import apsw
import uvloop

from benchmarks.common import Bench, StoreClient, bench

INSERT = (
    "INSERT INTO w (k, v, n) VALUES ('key', 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx', ?)"
)
CREATE = "CREATE TABLE IF NOT EXISTS w (id INTEGER PRIMARY KEY, k TEXT, v TEXT, n INTEGER)"


def bare_sqlite(path: Path, seconds: float) -> float:
    """Commits per second of one connection, one insert per transaction, synchronous=FULL."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute(CREATE)
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        connection.execute(INSERT, (count,))
        count += 1
    connection.close()
    return count / (time.perf_counter() - started)


async def through_store(client: StoreClient, clients: int, seconds: float) -> float:
    """Inserts per second of so many clients, each waiting for its answer."""
    await client.sql((CREATE, ()))
    count = 0
    started = time.perf_counter()

    async def one() -> None:
        nonlocal count
        while time.perf_counter() - started < seconds:
            await client.sql((INSERT, (count,)))
            count += 1

    await asyncio.gather(*[one() for _ in range(clients)])
    return count / (time.perf_counter() - started)


def run(table: Bench, seconds: float = 3) -> dict[str, Any]:
    """Measure."""
    node = table.start()
    bare = bare_sqlite(table.directory / "bare.db", seconds)

    async def all_of_them() -> dict[int, float]:
        client = await StoreClient().dial(node)
        return {clients: await through_store(client, clients, seconds) for clients in (1, 8, 32, 128)}

    found = uvloop.run(all_of_them())
    return {
        "bare SQLite FULL, one writer": {"per_s": round(bare)},
        **{
            f"store, {clients} clients": {"per_s": round(rate), "ratio_to_bare": round(rate / bare, 2)}
            for clients, rate in found.items()
        },
    }


if __name__ == "__main__":
    with bench() as made:
        for name, row in run(made).items():
            print(f"{name:36} {row}")
