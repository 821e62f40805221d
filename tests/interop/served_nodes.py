"""A primary and replicas as real processes, for clients that are programs of their own."""

import contextlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, replace
from pathlib import Path

START_S = 30.0
SHOWN_WAIT_S = 20
SECRET = "interop-" + "0123456789abcdef" * 4


class Refused(Exception):
    """A statement failed; says why."""


@dataclass(frozen=True)
class ServedNodes:
    """Addresses without a scheme and processes, by role, and a token for everything."""

    folder: Path
    addresses: dict[str, str]
    processes: dict[str, subprocess.Popen]
    token: str = ""

    def start(self, role):
        """Start a node, on the directory and at the address that it had if it ran before."""
        folder = self.folder / role
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-m", "pando", "serve", "--dir", str(folder), "--http", self.addresses[role]]
        if role != "primary":
            command += ["--primary", f"http://{self.addresses['primary']}"]
        log = self.folder / f"{role}.log"
        with log.open("a") as output:
            process = subprocess.Popen(command, env=environment(), stdout=output, stderr=output)
        self.processes[role] = process
        wait_until_ready(process, self.addresses[role], log)

    def rows(self, role, sql, **headers):
        """Ask a node; gives the values of all rows. Raises Refused for what SQL says, HTTPError for the rest."""
        body = {"requests": [{"type": "execute", "stmt": {"sql": sql}}, {"type": "close"}]}
        result = self.post(role, "/v2/pipeline", body, **headers)["results"][0]
        if result["type"] == "error":
            raise Refused(result["error"]["message"])
        rows = result["response"]["result"]["rows"]
        return [[cell.get("value") for cell in row] for row in rows]

    def post(self, role, path, body, **headers):
        headers = {"Authorization": f"Bearer {self.token}", **headers}
        url = f"http://{self.addresses[role]}{path}"
        request = urllib.request.Request(url, json.dumps(body).encode(), headers)
        with urllib.request.urlopen(request, timeout=20) as answer:
            return json.load(answer)

    def wait_for_rows(self, role, sql, expected, timeout_s=10.0):
        """Ask again and again until the rows are the expected ones; a node that just started may lack the table."""
        deadline = time.monotonic() + timeout_s
        while (found := self._rows_or_error(role, sql)) != expected:
            assert time.monotonic() < deadline, f"{role} gives {found}, not {expected}"
            time.sleep(0.02)

    def _rows_or_error(self, role, sql):
        try:
            return self.rows(role, sql)
        except (Refused, urllib.error.HTTPError) as error:
            return str(error)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


def wait_until_ready(process, address, log):
    deadline = time.monotonic() + START_S
    while True:
        assert process.poll() is None, f"the node ended: {log.read_text()[-2000:]}"
        assert time.monotonic() < deadline, f"the node does not serve: {log.read_text()[-2000:]}"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"http://{address}/health", timeout=2) as answer:
            if answer.status == 200:
                return
        time.sleep(0.05)


def environment():
    """On a busy machine a replica may be late; writes wait for it all the same."""
    return {**os.environ, "PANDO_SECRET": SECRET, "PANDO_SHOWN_WAIT_S": str(SHOWN_WAIT_S)}


@contextlib.contextmanager
def served_nodes(folder, roles=("primary", "replica"), first_port=0):
    """Start the nodes, the primary first, end them afterwards.

    Nodes that will be away for a while want ports that no outgoing connection takes meanwhile: those from `first_port`.
    """
    ports = range(first_port, first_port + len(roles)) if first_port else [free_port() for _ in roles]
    addresses = {role: f"127.0.0.1:{port}" for role, port in zip(roles, ports, strict=True)}
    nodes = ServedNodes(folder, addresses, {})
    try:
        for role in addresses:
            nodes.start(role)
        command = [sys.executable, "-m", "pando", "token", "--dir", str(folder / "primary")]
        token = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True, timeout=30)
        yield replace(nodes, token=token.stdout.strip())
    finally:
        for process in reversed(nodes.processes.values()):
            end(process)


def end(process):
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
