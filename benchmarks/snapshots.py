"""A new replica of a database of 1 GB against `cp` of the file; memory per node and per database."""

from __future__ import annotations

import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import apsw

from benchmarks.common import Bench, Node, bench, token


def make_database(path: Path, size_bytes: int) -> None:
    """Write a database with random rows of 4000 bytes."""
    connection = apsw.Connection(str(path))
    connection.execute("PRAGMA journal_mode=OFF")
    connection.execute("PRAGMA synchronous=OFF")
    connection.execute("CREATE TABLE big (id INTEGER PRIMARY KEY, v BLOB)")
    rows = size_bytes // 4096
    connection.execute(
        "INSERT INTO big WITH RECURSIVE s(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < ?) "
        "SELECT n, CASE n % 2 WHEN 0 THEN randomblob(3900) ELSE zeroblob(3900) END FROM s",
        (rows,),
    )
    connection.close()


def new_replica(table: Bench, size_bytes: int) -> dict[str, Any]:
    """Seconds from the start of an empty replica until it is ready, and of `cp`."""
    directory = table.directory / "primary"
    directory.mkdir()
    make_database(directory / "data.db", size_bytes)
    started = time.perf_counter()
    subprocess.run(["cp", str(directory / "data.db"), str(table.directory / "copy.db")], check=True)
    subprocess.run(["sync", str(table.directory / "copy.db")], check=True)
    copied = time.perf_counter() - started
    started = time.perf_counter()
    primary = table.start(name="primary")
    opened = time.perf_counter() - started
    started = time.perf_counter()
    table.start(primary=primary, name="replica")
    fetched = time.perf_counter() - started
    return {
        "size_mb": size_bytes >> 20,
        "cp_and_sync_s": round(copied, 2),
        "primary_opens_s": round(opened, 2),
        "replica_ready_s": round(fetched, 2),
        "ratio_to_cp": round(fetched / copied, 2),
    }


def memory_mb(node: Node) -> dict[str, float]:
    """Proportional memory (PSS) of the processes of a node, in MB."""
    found = {name: _pss_kb(pid) / 1024 for name, pid in node.pids().items()}
    return {**{name: round(value, 1) for name, value in found.items()}, "total": round(sum(found.values()), 1)}


def _pss_kb(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    return 0


def idle_and_databases(table: Bench, databases: int) -> dict[str, Any]:
    """Memory of an idle node, then with so many databases made and used once."""
    node = table.start(name="idle", extra=("--web", "2"))
    idle = memory_mb(node)
    secret = token(node)
    for number in range(databases):
        _post(node, secret, f"/dev/db{number}/v2/pipeline" if number >= 0 else "", number)
    used = memory_mb(node)
    return {
        "idle_mb": idle,
        f"after_{databases}_databases_mb": used,
        "per_open_database_kb": round((used["total"] - idle["total"]) * 1024 / databases, 1),
    }


def _post(node: Node, secret: str, path: str, number: int) -> None:
    headers = {"authorization": f"Bearer {secret}", "content-type": "application/json"}
    create = urllib.request.Request(
        node.url + "/cluster/databases", f'{{"name":"db{number}"}}'.encode(), headers, method="POST"
    )
    urllib.request.urlopen(create, timeout=30).read()
    body = b'{"requests":[{"type":"execute","stmt":{"sql":"create table t(x)"}},{"type":"close"}]}'
    urllib.request.urlopen(urllib.request.Request(node.url + path, body, headers, method="POST"), timeout=30).read()


def run(table: Bench, size_bytes: int = 1 << 30, databases: int = 200) -> dict[str, Any]:
    """Measure."""
    return {
        "snapshot of 1 GB": new_replica(table, size_bytes),
        "memory": idle_and_databases(table, databases),
    }


if __name__ == "__main__":
    with bench() as made:
        for name, row in run(made).items():
            print(f"{name:36} {row}", flush=True)
