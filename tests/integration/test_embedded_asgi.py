"""`app.asgi` behind a real server: several workers, mounted under a path, event streams across workers."""

import http.client
import json
import os
import signal
import subprocess
import sys
from contextlib import contextmanager

import pytest
from cluster_kit import free_base_port, is_alive, wait_until
from embedded_kit import READY_S, running

pytestmark = pytest.mark.slow

SITE = """
import os
from pando import Pando

pando = Pando(os.environ["DATA"])
alone = pando.asgi


async def mounted(scope, receive, send):
    '''Passes no lifespan on, as frameworks do.'''
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
    elif scope["path"].startswith("/backend/"):
        await pando.asgi({**scope, "root_path": "/backend"}, receive, send)
    else:
        body = str(len(await pando.collection("posts").full_list())).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
"""
EVERY = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), "")
POSTS = {"name": "posts", "fields": [{"name": "title", "type": "text"}], **EVERY}
SETUP = """
import json, sys
from pando import Pando

with Pando(sys.argv[1]).sync as app:
    app.send("POST", "/api/collections", body=json.loads(sys.argv[2]))
"""
STOPPED_S = 30.0


class Server:
    """Uvicorn with an application of somebody's."""

    def __init__(self, folder, name, workers, prefix):
        self.data, self.prefix = folder / "data", prefix
        self._log = folder / "server.log"
        self._run([sys.executable, "-c", SETUP, self.data, json.dumps(POSTS)])
        (folder / "somebodys.py").write_text(SITE)
        self.port = free_base_port(0)
        flags = ["--port", str(self.port), "--workers", str(workers), "--timeout-graceful-shutdown", "2"]
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", f"somebodys:{name}", "--app-dir", str(folder), *flags],
                env={**os.environ, "DATA": str(self.data)},
                stdout=log,
                stderr=log,
            )

    @staticmethod
    def _run(command):
        done = subprocess.run(command, timeout=READY_S, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def logs(self):
        return self._log.read_text(errors="replace")[-4000:]

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)

    def ask(self, method, path, body=None, connection=None):
        used = connection or self.connect()
        try:
            headers = {} if body is None else {"content-type": "application/json"}
            used.request(method, path, None if body is None else json.dumps(body), headers)
            answer = used.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            if connection is None:
                used.close()

    def create(self, title):
        return self.ask("POST", f"{self.prefix}/api/collections/posts/records", {"title": title})

    def works(self):
        try:
            return self.create("is it there?")[0] == 200
        except (OSError, http.client.HTTPException):
            return False

    def workers(self):
        """The processes of the server that have Pando open."""
        found = []
        for entry in os.listdir("/proc"):
            if entry.isdigit() and entry != str(self.process.pid):
                try:
                    with open(f"/proc/{entry}/stat") as file:
                        parent = int(file.read().rpartition(")")[2].split()[1])
                    with open(f"/proc/{entry}/cmdline", "rb") as file:
                        words = file.read()
                except OSError:
                    continue
                if parent == self.process.pid and b"resource_tracker" not in words:
                    found.append(int(entry))
        return found


@contextmanager
def serving(folder, name, *, workers=1, prefix=""):
    server = Server(folder, name, workers, prefix)
    try:
        wait_until(server.works, READY_S, server.logs)
        yield server
    finally:
        server.process.send_signal(signal.SIGINT)
        try:
            server.process.wait(STOPPED_S)
        finally:
            server.process.kill()
        wait_until(lambda: not running(server.data), STOPPED_S, lambda: f"{running(server.data)} {server.logs()}")


@pytest.mark.full  # test_embedded_application does the same without a server
def test_mounted_under_a_path_it_begins_with_the_first_request(tmp_path):
    with serving(tmp_path, "mounted", prefix="/backend") as server:
        before = server.ask("GET", "/count")[1]
        status, made = server.create("one")
        assert status == 200
        assert server.ask("GET", "/count") == (200, before + 1)
        status, found = server.ask("GET", f"/backend/api/collections/posts/records/{made['id']}")
        assert (status, found) == (200, made)
        assert server.ask("GET", "/backend/api/nothing")[0] == 404


def events(answer):
    """The events of a stream, each as its name and data."""
    lines = {}
    while line := answer.readline():
        if line == b"\n":
            if "event" in lines:
                yield lines["event"], json.loads(lines["data"])
            lines = {}
        else:
            name, _, value = line.decode().rstrip("\n").partition(":")
            lines[name] = value


def test_workers_share_a_node_and_outlive_the_one_that_started_it(tmp_path):
    with serving(tmp_path, "alone", workers=2) as server:
        workers = server.workers()
        assert len(workers) == 2, server.logs()
        streams = [server.connect() for _ in range(4)]  # they come to whichever worker
        answers = []
        for one in streams:
            one.request("GET", "/api/realtime")
            answers.append(events(one.getresponse()))
        for answer in answers:
            client = next(answer)[1]["clientId"]
            told = server.ask("POST", "/api/realtime", {"clientId": client, "subscriptions": ["posts/*"]})
            assert told == (204, None), "whichever worker takes this knows which one has the stream"
        status, made = server.create("heard by all")
        assert status == 200
        for answer in answers:
            assert next(answer) == ("posts/*", {"action": "create", "record": made})
        for one in streams:
            one.close()
        for pid in workers:  # one after the other: one of them started the node
            os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not is_alive(pid), READY_S, "its end")  # noqa: B023
            wait_until(server.works, READY_S, server.logs)
            status, found = server.ask("GET", f"/api/collections/posts/records/{made['id']}")
            assert (status, found) == (200, made)
