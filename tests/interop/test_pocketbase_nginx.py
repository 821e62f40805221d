"""Three nodes behind real nginx, which sends each request to the next one, set up as docs/balancing.md says.

The npm package `pocketbase` must not notice that there is more than one node, nor writers that one of them is killed.
"""

import collections
import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from debian_packages import need_debian_program
from served_nodes import end, free_port, served_nodes
from test_pocketbase_sdk import EMAIL, PASSWORD, check_all, make_superuser, packages, run

__all__ = ["packages"]
pytestmark = [pytest.mark.interop, pytest.mark.full, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[2] / "docs" / "balancing.md"
(BLOCK,) = re.findall(r"^```nginx\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
ROLES = ("primary", "replica", "replica2")
AROUND = """
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
{user}
worker_processes 1;
events {{ worker_connections 1024; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{block}
}}
"""
START_S = 30
WRITERS = 6
WRITES_BEFORE, WRITES_AFTER = 60, 240
"""How many writes are answered before the kill, and at least after it."""


@pytest.fixture
def nodes(tmp_path):
    with served_nodes(tmp_path, ROLES) as nodes:
        make_superuser(tmp_path / "primary")
        yield nodes


@pytest.fixture
def url(nodes, tmp_path):
    with balancer(tmp_path / "nginx", [nodes.addresses[role] for role in ROLES]) as url:
        yield url


@contextlib.contextmanager
def balancer(folder, addresses):
    """Run nginx with the block of the page; gives its address."""
    program = need_debian_program("nginx", "usr/sbin/nginx")
    folder.mkdir()
    port = free_port()
    block = BLOCK.replace("listen 80;", f"listen 127.0.0.1:{port};")
    for number, address in enumerate(addresses, 1):
        block = block.replace(f"10.0.0.{number}:8090", address)
    assert "10.0.0." not in block
    user = "user root;" if os.getuid() == 0 else ""
    (folder / "nginx.conf").write_text(AROUND.format(folder=folder, user=user, block=block))
    command = [program, "-p", str(folder), "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log")]
    with (folder / "output.log").open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        wait_for(f"http://127.0.0.1:{port}", process, folder)
        yield f"http://127.0.0.1:{port}"
    finally:
        end(process)


def wait_for(url, process, folder):
    deadline = time.monotonic() + START_S
    while True:
        said = "".join(path.read_text() for path in folder.glob("*.log"))
        assert process.poll() is None, f"nginx ended: {said}"
        assert time.monotonic() < deadline, f"nginx does not serve: {said}"
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/api/health", timeout=2):
            return
        time.sleep(0.05)


def test_the_sdk_does_not_notice_that_there_are_three_nodes(packages, nodes, url):
    check_all(run(packages, url=url, other=url, prefix="nginx", proxyHeader="X-Forwarded-For"))


def ask(url, method, path, body=None, token=""):
    """Give status and body; status 0 if there was no answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=60)
    headers = {"Content-Type": "application/json"} | ({"Authorization": token} if token else {})
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    except (OSError, http.client.HTTPException):
        return 0, b""
    finally:
        connection.close()


def ask_json(*args, **options):
    status, body = ask(*args, **options)
    assert status == 200, (args, status, body)
    return json.loads(body)


class Writers:
    """Threads that create records one after the other, and read each back, until they are told to stop."""

    def __init__(self, url):
        self.url = url
        self.answered = []
        self.failed = []
        self.not_found = []
        self.reads = collections.Counter()
        self._is_over = threading.Event()
        self._changed = threading.Condition()
        self._threads = [threading.Thread(target=self._write, args=(number,)) for number in range(WRITERS)]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._is_over.set()
        for thread in self._threads:
            thread.join()

    def wait_for(self, count):
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.answered) >= count, 120), (len(self.answered), self.failed)

    def _write(self, writer):
        number = 0
        while not self._is_over.is_set():
            number += 1
            title = f"{writer}/{number}"
            status, body = ask(self.url, "POST", "/api/collections/posts/records", {"title": title})
            if status != 200:
                self.failed.append((title, status, body))
                continue
            record = json.loads(body)["id"]
            read, _ = ask(self.url, "GET", f"/api/collections/posts/records/{record}")
            self.reads[read] += 1
            with self._changed:
                self.answered.append(title)
                self._changed.notify_all()


def make_posts(url):
    signing_in = {"identity": EMAIL, "password": PASSWORD}
    token = ask_json(url, "POST", "/api/collections/_superusers/auth-with-password", signing_in)["token"]
    fields = [{"name": "title", "type": "text"}]
    rules = {"listRule": "", "viewRule": "", "createRule": ""}
    ask_json(url, "POST", "/api/collections", {"name": "posts", "fields": fields, **rules}, token=token)


def kill_all(folder):
    """Kill every process of a node."""
    for pid in json.loads((folder / ".pando" / "processes.json").read_text()).values():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_replica_dies_while_others_write(nodes, url, tmp_path):
    make_posts(url)
    with Writers(url) as writers:
        writers.wait_for(WRITES_BEFORE)
        kill_all(tmp_path / "replica")
        nodes.processes["replica"].wait()
        writers.wait_for(len(writers.answered) + WRITES_AFTER)
        nodes.start("replica")
        writers.wait_for(len(writers.answered) + WRITES_AFTER)
    # What was under way at that moment has no answer, and nobody may send it again for the client.
    assert len(writers.failed) <= WRITERS, writers.failed
    assert {status for _, status, _ in writers.failed} <= {502}
    assert set(writers.reads) == {200}, writers.reads
    for role in ROLES:
        titles = nodes.rows(role, "SELECT title FROM posts") if role == "primary" else wait_for_all(nodes, role)
        missing = set(writers.answered) - {title for (title,) in titles}
        assert not missing, (role, missing)


def wait_for_all(nodes, role):
    count = nodes.rows("primary", "SELECT count(*) FROM posts")
    nodes.wait_for_rows(role, "SELECT count(*) FROM posts", count, timeout_s=60)
    return nodes.rows(role, "SELECT title FROM posts")
