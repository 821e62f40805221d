"""A primary and a replica as real processes, for the tests of records: requests, event streams as clients read them."""

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

from cluster_kit import READY_S, free_base_port, wait_until

SECRET = "the secret of this test's cluster"
WEB = 2
PASSWORD = "correct horse"
ANSWER_S = 20.0
PANDO = [sys.executable, "-m", "pando"]


class Node:
    """One node with two web processes."""

    def __init__(self, directory, port, *, name, primary="", more=()):
        self.url = f"http://127.0.0.1:{port}"
        self.directory = directory
        self._log = directory.with_suffix(".log")
        directory.mkdir()
        flags = ["--dir", str(directory), "--http", f"127.0.0.1:{port}", "--node", name, "--web", str(WEB)]
        flags += more
        if primary:
            flags += ["--primary", primary]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*PANDO, "serve", *flags],
                env={**os.environ, "PANDO_SECRET": SECRET},
                stdout=log,
                stderr=log,
            )

    def logs(self):
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])

    def is_ready(self):
        try:
            return self.ask("GET", "health").status == 200
        except (OSError, http.client.HTTPException):
            return False

    def pid_of(self, role):
        return json.loads((self.directory / ".pando" / "processes.json").read_text()).get(role, 0)

    def stop(self):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(30)

    def ask(self, method, path, body=None, *, token="", headers=None):
        """Ask on a connection of its own; `path` is below `/api/`."""
        connection = self._connect()
        try:
            self._request(connection, method, path, body, token, headers)
            answer = connection.getresponse()
            answer.body = answer.read()
            return answer
        finally:
            connection.close()

    def json(self, method, path, body=None, *, token="", status=200):
        answer = self.ask(method, path, body, token=token)
        assert answer.status == status, (method, path, answer.status, answer.body, self.logs())
        return json.loads(answer.body) if answer.body else None

    @contextmanager
    def stream(self, path="realtime", *, token="", headers=None):
        """Open an event stream."""
        connection = self._connect()
        try:
            self._request(connection, "GET", path, None, token, headers)
            answer = connection.getresponse()
            assert answer.status == 200, answer.read()
            yield Stream(self, answer)
        finally:
            connection.close()

    def _connect(self):
        parts = urlsplit(self.url)
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=ANSWER_S)

    @staticmethod
    def _request(connection, method, path, body, token, headers):
        found = {"Authorization": token, **(headers or {})} if token else dict(headers or {})
        if body is not None:
            found["Content-Type"] = "application/json"
        connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), found)


class Stream:
    """An event stream that is read event by event."""

    def __init__(self, node, answer):
        self.node = node
        self.headers = answer.headers
        self._answer = answer
        self.last_id = ""

    def lines(self):
        """The lines of one event; none at the end of the stream."""
        found = []
        while (line := self._answer.readline()) not in (b"\n", b""):
            found.append(line.decode().rstrip("\n"))
        return found

    def event(self):
        """Name and data of the next event."""
        lines = dict(line.split(":", 1) for line in self.lines())
        assert lines, "the stream has ended"
        self.last_id = lines["id"]
        return lines["event"], json.loads(lines["data"])

    def client_id(self):
        name, data = self.event()
        assert name == "PB_CONNECT" and data == {"clientId": self.last_id.split(".")[0]}
        return data["clientId"]

    def change(self, name=None):
        """Action and title of the next event."""
        found, data = self.event()
        assert name is None or found == name
        return data["action"], data["record"]["title"]


class Cluster:
    def __init__(self, directory):
        port = free_base_port(2)
        self.primary = Node(directory / "p", port, name="first")
        self.replica = Node(directory / "r", port + 1, name="second", primary=self.primary.url)
        self.nodes = [self.primary, self.replica]
        self.su = ""

    def start(self):
        wait_until(self.primary.is_ready, READY_S, self.primary.logs)
        wait_until(self.replica.is_ready, READY_S, self.replica.logs)
        subprocess.run(
            [*PANDO, "superuser", "upsert", "su@example.com", PASSWORD, "--dir", str(self.primary.directory)],
            env={**os.environ, "PANDO_SECRET": SECRET},
            check=True,
            capture_output=True,
            timeout=60,
        )
        body = {"identity": "su@example.com", "password": PASSWORD}
        self.su = self.primary.json("POST", "collections/_superusers/auth-with-password", body)["token"]
        return self

    def stop(self):
        for node in reversed(self.nodes):
            node.stop()

    def collection(self, name, *fields, **rules):
        """Make a collection, open to everybody but for the rules given."""
        every = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), "")
        body = {"name": name, "fields": list(fields), **every, **rules}
        return self.primary.json("POST", "collections", body, token=self.su)
