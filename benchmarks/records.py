"""The records API beside a real PocketBase in the same run: one node, a replica, and three nodes behind their front.

Needs `wrk`. The load client is pbbench.py, given by BENCH_PBBENCH (default: ../shared/bench/pbbench.py beside the
checkout). `changing` adds what that client has not: lists while the table, or another one, is written to.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

from benchmarks.common import FIRST_PORT, SECRET, Bench, Node

LOAD = Path(os.environ.get("BENCH_PBBENCH", Path(__file__).parents[2] / "shared" / "bench" / "pbbench.py"))
FRONT = FIRST_PORT + 60
PANDO = f"{sys.executable} -m pando"
EMAIL, PASSWORD = "bench@example.com", "bench1234567890"
LIST = "/api/collections/posts/records?page=3&perPage=20&sort=-created"
FILTER = "/api/collections/posts/records?perPage=20&skipTotal=1&sort=n&filter=" + quote("n > 500 && active = true")
WRITES_PER_S = 20
ROWS = 10_000
_RESULT = re.compile(r"Requests/sec:\s+([\d.]+)")


def pocketbase() -> str | None:
    """Give the real program, which the interop tests know how to get; None when that cannot be done here."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "interop"))
    import pocketbase_program

    found = pocketbase_program.find_pocketbase()[0]
    return None if found is None else str(found)


def load(server: str, superuser: str, seconds: float, *options: str) -> dict[str, Any]:
    """Run the load client on a server of its own; gives its groups."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, str(LOAD), "--server", server, "--superuser", superuser]
        command += ["--seconds", str(seconds), "--json", out.name, *options]
        subprocess.run(command, check=True, env={**os.environ, "PANDO_SECRET": SECRET})
        found: dict[str, Any] = json.loads(Path(out.name).read_text())
        return {name: row for name, row in found.items() if isinstance(row, dict)}


def run(table: Bench, seconds: float = 4) -> dict[str, Any]:
    """Measure: PocketBase, then Pando alone, at a replica, behind the front; then lists while others write."""
    found: dict[str, Any] = {}
    program = pocketbase()
    if program is not None:
        found["PocketBase"] = load(
            f"{program} serve --dir {{dir}} --http 127.0.0.1:{{port}}",
            f"{program} superuser upsert {{email}} {{password}} --dir {{dir}}",
            seconds,
        )
    superuser = f"{PANDO} superuser upsert {{email}} {{password}} --dir {{dir}}"
    found["pando, one node"] = load(f"{PANDO} serve --dir {{dir}} --http 127.0.0.1:{{port}}", superuser, seconds)
    up = f"{PANDO} up --nodes {{nodes}} --no-sample --dir {{{{dir}}}} --http 127.0.0.1:{FRONT}"
    front = f"http://127.0.0.1:{FRONT}"
    node1 = superuser.replace("{dir}", "{dir}/node1")
    url = (
        "--url",
        front,
        "--write-url",
        f"http://127.0.0.1:{FRONT + 2}",
        "--read-url",
        f"http://127.0.0.1:{FRONT + 2}",
    )
    found["pando, a replica of two nodes"] = load(up.format(nodes=2), node1, seconds, *url)
    found["pando, front of three nodes"] = load(up.format(nodes=3), node1, seconds, "--url", front)
    found["pando, one node, while others write"] = changing(table, seconds)
    return found


# -- lists while others write ---------------------------------------------------------------------------------------


def changing(table: Bench, seconds: float) -> dict[str, Any]:
    """Load lists while nobody writes, while another table is written to, and while the table itself is."""
    directory = table.directory / "changing"
    command = [sys.executable, "-m", "pando", "superuser", "upsert", EMAIL, PASSWORD, "--dir", str(directory)]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PANDO_SECRET": SECRET})
    node = table.start(name="changing")
    token = call(node, "POST", "collections/_superusers/auth-with-password", identity=EMAIL, password=PASSWORD)["token"]
    call(node, "PATCH", "settings", token, batch={"enabled": True, "maxRequests": 1000, "timeout": 60})
    fields = [{"name": name, "type": kind} for name, kind in (("title", "text"), ("n", "number"), ("active", "bool"))]
    fields += [{"name": "body", "type": "text"}, {"name": "created", "type": "autodate", "onCreate": True}]
    for name in ("posts", "others"):
        index = [f"CREATE INDEX idx_{name}_n ON {name} (n)"]
        call(node, "POST", "collections", token, name=name, listRule="", fields=fields, indexes=index)
    ids = {"posts": fill(node, token, "posts", ROWS), "others": fill(node, token, "others", 100)}
    found: dict[str, Any] = {}
    for target in ("", "others", "posts"):
        with writing(node, token, target, ids.get(target, [""])[0]):
            for name, path in (("list", LIST), ("list_filter", FILTER)):
                found[f"{name}, {target or 'nothing'} written {WRITES_PER_S if target else 0}/s"] = {
                    "per_s": wrk(node.url + path, seconds)
                }
    node.stop()
    return found


def fill(node: Node, token: str, name: str, rows: int) -> list[str]:
    """Make records by batches; gives their ids."""
    ids: list[str] = []
    for first in range(0, rows, 500):
        bodies = [
            {"title": f"Post {n}", "body": "lorem ipsum " * 16, "n": n % 1000, "active": n % 2 == 0}
            for n in range(first, min(rows, first + 500))
        ]
        path = f"/api/collections/{name}/records"
        answers = call(
            node, "POST", "batch", token, requests=[{"method": "POST", "url": path, "body": each} for each in bodies]
        )
        ids += [each["body"]["id"] for each in answers]
    return ids


def call(node: Node, method: str, path: str, token: str = "", **body: Any) -> Any:
    """Ask the node's API."""
    parts = urlsplit(node.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=60)
    try:
        headers = {"content-type": "application/json", "authorization": token}
        connection.request(method, f"/api/{path}", json.dumps(body), headers)
        answer = connection.getresponse()
        text = answer.read()
    finally:
        connection.close()
    if answer.status >= 300:
        raise SystemExit(f"{method} {path}: {answer.status} {text[:500]!r}")
    return json.loads(text)


@contextlib.contextmanager
def writing(node: Node, token: str, name: str, record: str) -> Iterator[None]:
    """Change one record of a collection so many times a second meanwhile; of none if there is no name."""
    stopped = threading.Event()

    def change() -> None:
        number = 0
        while not stopped.wait(1 / WRITES_PER_S):
            number += 1
            call(node, "PATCH", f"collections/{name}/records/{record}", token, title=f"changed {number}")

    thread = threading.Thread(target=change if name else stopped.wait)
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def wrk(url: str, seconds: float) -> float:
    """Load one address; gives requests per second."""
    done = subprocess.run(["wrk", "-t1", "-c16", f"-d{seconds:g}s", url], capture_output=True, text=True, check=True)
    found = _RESULT.search(done.stdout)
    if found is None or "Non-2xx" in done.stdout:
        raise SystemExit(done.stdout)
    return float(found[1])
