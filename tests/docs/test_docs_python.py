"""What docs/python.md shows, runs: its blocks in order, in one folder."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pando

PAGE = (Path(__file__).parents[2] / "docs" / "python.md").read_text()
SCRIPTS = re.findall(r"^```python try\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
PRINTED = re.search(r"^```text\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL).group(1)
MOUNTED = re.search(r"^```python starlette\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL).group(1)


def run(script, folder):
    done = subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


async def ask(site, path):
    sent = []
    scope = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http"}
    scope |= {"path": path, "raw_path": path.encode(), "root_path": "", "headers": [], "query_string": b""}

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    await site(scope, receive, send)
    return sent[0]["status"], json.loads(b"".join(each.get("body", b"") for each in sent[1:]))


async def visit(site):
    """Serve a Starlette application for two requests, as a server would."""
    messages, sent = asyncio.Queue(2), asyncio.Queue(2)
    living = asyncio.create_task(site({"type": "lifespan", "asgi": {"version": "3.0"}}, messages.get, sent.put))
    await messages.put({"type": "lifespan.startup"})
    assert await sent.get() == {"type": "lifespan.startup.complete"}
    titles = await ask(site, "/titles")
    records = await ask(site, "/backend/api/collections/posts/records")
    await messages.put({"type": "lifespan.shutdown"})
    assert await sent.get() == {"type": "lifespan.shutdown.complete"}
    await living
    return titles, records


@pytest.mark.slow
def test_the_examples_run(tmp_path, monkeypatch):
    assert len(SCRIPTS) == 2
    assert run(SCRIPTS[0], tmp_path) == PRINTED
    assert run(SCRIPTS[1], tmp_path) == "Hello\n1\n"
    pytest.importorskip("starlette")
    monkeypatch.chdir(tmp_path)
    namespace = {}
    exec(MOUNTED, namespace)
    titles, (status, page) = asyncio.run(visit(namespace["site"]))
    assert titles == (200, ["Hello"])
    assert status == 200 and page["totalItems"] == 1


def test_every_name_of_the_package_is_there_and_in_the_page():
    names = set(dir(pando)) - {name for name in dir(pando) if name.startswith("_")} - {"annotations", "importlib"}
    for name in ("Pando", "ApiError", "Record", "Page", "Rows", "Event", "PandoError", "SqlError", "ValidationFailed"):
        assert name in names and isinstance(getattr(pando, name), type)
        assert f"`{name}" in PAGE or f"`pando.{name}" in PAGE or f" {name}" in PAGE


def test_importing_the_package_imports_nothing_else():
    script = "import sys; before = set(sys.modules); import pando; print(sorted(set(sys.modules) - before))"
    found = run(script, None)
    assert "pando.embedded" not in found and "msgspec" not in found and "asyncio" not in found
