"""PocketBase itself, built once by Go into a cache folder outside the repository, and a Pando that serves the same API.

A test that needs PocketBase where it cannot be had is skipped with the reason. Both listen on loopback only.
"""

import contextlib
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest
from served_nodes import SECRET, end, free_port

SOURCE = Path(__file__).parent / "clients" / "pocketbase"
BUILD_TIMEOUT_S = 840
START_S = 60.0
ROOT = ("root@example.org", "root-password-1")
"""Address and password of the superuser that both have."""


@dataclass(frozen=True)
class Served:
    """A server that runs: who it is, where it listens, what it wrote to its log."""

    name: str
    address: str
    log: Path
    process: subprocess.Popen

    def kill(self):
        """End it without a chance to tidy up."""
        self.process.kill()
        self.process.wait()


@functools.cache
def find_pocketbase():
    """Give the path of the program, or the reason why there is none."""
    go = shutil.which("go")
    content = hashlib.sha256(b"".join(path.read_bytes() for path in sorted(SOURCE.iterdir()))).hexdigest()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = home / "pando" / "pocketbase" / content[:16]
    program = folder / "pocketbase"
    if program.exists():
        return program, ""
    if go is None:
        return None, "go is not on PATH"
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f"unfinished.{os.getpid()}"
    environment = {**os.environ, "CGO_ENABLED": "0", "GOTOOLCHAIN": "auto"}
    command = [go, "build", "-buildvcs=false", "-o", str(unfinished), "."]
    try:
        result = subprocess.run(
            command, cwd=SOURCE, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return None, f"building PocketBase: {type(error).__name__}"
    if result.returncode:
        return None, f"PocketBase cannot be built: {result.stderr.strip()[-200:]}"
    unfinished.replace(program)
    return program, ""


def need_pocketbase():
    program, reason = find_pocketbase()
    if program is None:
        pytest.skip(reason)
    return program


@contextlib.contextmanager
def served_pocketbase(directory):
    """Serve a data directory by PocketBase; without one yet, it is made, with the superuser."""
    program = need_pocketbase()
    log = directory.with_suffix(".log")
    common = ["--dir", str(directory), "--dev=false"]
    if not directory.exists():
        run([program, "superuser", "upsert", *ROOT, *common])
    address = f"127.0.0.1:{free_port()}"
    command = [program, "serve", "--http", address, *common]
    with _started(command, log, address, "/api/health", os.environ) as process:
        yield Served("pocketbase", address, log, process)


@contextlib.contextmanager
def served_pando(directory):
    """The same by Pando."""
    environment = {**os.environ, "PANDO_SECRET": SECRET}
    pando = [sys.executable, "-m", "pando"]
    log = directory.with_suffix(".log")
    is_new = not directory.exists()
    address = f"127.0.0.1:{free_port()}"
    command = [*pando, "serve", "--dir", str(directory), "--http", address]
    with _started(command, log, address, "/health", environment) as process:
        if is_new:
            run([*pando, "superuser", "upsert", *ROOT, "--dir", str(directory)], env=environment)
        yield Served("pando", address, log, process)


def run(command, **options):
    result = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=START_S, **options)
    assert result.returncode == 0, f"{command}: {result.stdout[-1000:]}{result.stderr[-1000:]}"
    return result.stdout


@contextlib.contextmanager
def _started(command, log, address, health, environment):
    with log.open("a") as output:
        process = subprocess.Popen([*map(str, command)], env=environment, stdout=output, stderr=output)
        try:
            wait_served(process, f"http://{address}{health}", log)
            yield process
        finally:
            end(process)


def wait_served(process, url, log):
    deadline = time.monotonic() + START_S
    while not _serves(url):
        assert process.poll() is None, f"the server ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"the server does not serve: {log.read_text()[-2000:]}"
        time.sleep(0.05)


def _serves(url):
    with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=2) as answer:
        return answer.status == 200
    return False
