"""What the tests of hostile clients stand on: bytes on a socket, answers taken apart, neighbours that are served."""

import json
import os
import re
import socket
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pando.node.local_cluster import LocalCluster
from pando.testing.sql_client import NoAnswer, NotSent, SqlClient

LATENCY_S = 3.0
"""The longest that a neighbour may wait for an answer while others misbehave, on a busy machine with two cores."""
ERROR_KEYS = {"error", "message", "code", "retryable"}


@dataclass
class Reply:
    """One HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    def require_error(self, status, code, *, retryable=False):
        """Checks the answer of a node's error: status, JSON, its keys, a sentence."""
        assert self.status == status, (self.status, self.body[:300])
        assert self.headers["content-type"] == "application/json"
        found = self.json
        assert found.keys() >= ERROR_KEYS, found
        assert (found["code"], found["retryable"]) == (code, retryable), found
        assert len(found["message"]) > 10
        return found["message"]


def address_of(url):
    parts = urlsplit(url)
    return parts.hostname, parts.port


def connect(url, timeout_s=20.0):
    return socket.create_connection(address_of(url), timeout=timeout_s)


def read_reply(sock):
    """Reads one answer with a content-length; None when the other side closed without saying a word."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = sock.recv(65536)
        if not part:
            assert not data, f"a torn answer: {data[:200]!r}"
            return None
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    while len(body) < int(headers.get("content-length", 0)):
        part = sock.recv(65536)
        assert part, f"a torn body: {body[:200]!r}"
        body += part
    return Reply(int(status.split()[1]), headers, body)


def request_head(token, *lines, path="/v2/pipeline", method="POST"):
    fixed = [f"{method} {path} HTTP/1.1", "host: x", *([f"authorization: Bearer {token}"] if token else []), *lines]
    return "\r\n".join((*fixed, "", "")).encode()


def ask(url, token, body=b"", *lines, path="/v2/pipeline", method="POST"):
    """One request on a connection of its own."""
    with connect(url) as sock:
        head = request_head(token, f"content-length: {len(body)}", *lines, path=path, method=method)
        sock.sendall(head + body)
        return read_reply(sock)


def pipeline(*statements):
    requests = [{"type": "execute", "stmt": {"sql": sql}} for sql in statements]
    return json.dumps({"requests": [*requests, {"type": "close"}]}).encode()


# -- memory -----------------------------------------------------------------------------------------------------------


def resident_bytes(pid):
    return 1024 * int(re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


def peak_bytes(pid):
    """The most that the process held since `forget_peak`."""
    return 1024 * int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{pid}/status").read_text()).group(1))


def forget_peak(pid):
    Path(f"/proc/{pid}/clear_refs").write_text("5")


# -- neighbours -------------------------------------------------------------------------------------------------------


@dataclass
class Neighbours:
    """Well-behaved clients of every node, one thread for each; what they met."""

    urls: list[str]
    token: str
    answers: dict[str, int] = field(default_factory=dict)
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)
    _end: threading.Event = field(default_factory=threading.Event)

    def run(self, url, number):
        with SqlClient(self.token, timeout_s=20.0) as client:
            while not self._end.is_set():
                self._once(client, url, f"{number} {self.answers.get(url, 0)} {os.urandom(6).hex()}")
                self._end.wait(0.005)

    def _once(self, client, url, key):
        if self.answers.get(url, 0) % 5 == 0:
            client.drop(url)  # new connections are served too
        for sql, args in (("INSERT INTO kept VALUES (?)", (key,)), ("SELECT count(*) FROM kept", ())):
            begin = time.monotonic()
            try:
                error = client.run(url, sql, *args).error
            except (NotSent, NoAnswer) as failure:
                error = repr(failure)
            self.slowest = max(self.slowest, time.monotonic() - begin)
            if error is not None:
                self.wrong.append(f"{url}: {error}")
        self.answers[url] = self.answers.get(url, 0) + 1

    def stop(self):
        self._end.set()


@contextmanager
def served_meanwhile(cluster, at_least=3):
    """Well-behaved clients are served by every node while the block runs, soon, and without a single error."""
    found = Neighbours([cluster.front_url, *cluster.node_urls], cluster.token())
    threads = [threading.Thread(target=found.run, args=(url, at)) for at, url in enumerate(found.urls)]
    for thread in threads:
        thread.start()
    try:
        yield found
        deadline = time.monotonic() + 20
        while any(found.answers.get(url, 0) < at_least for url in found.urls) and time.monotonic() < deadline:
            threading.Event().wait(0.01)
    finally:
        found.stop()
        for thread in threads:
            thread.join(30)
    assert not found.wrong, found.wrong[:5]
    assert all(found.answers.get(url, 0) >= at_least for url in found.urls), found.answers
    assert found.slowest < LATENCY_S, f"a neighbour waited {found.slowest:.2f} s"


def make_cluster(directory, base_port):
    """A primary, a replica and a front, with a table."""
    made = LocalCluster(directory, nodes=2, http=f"127.0.0.1:{base_port}", web=1)
    made.start()
    with SqlClient(made.token()) as client:
        answer = client.run(made.node_urls[0], "CREATE TABLE kept (key TEXT PRIMARY KEY)")
        assert answer.error is None, answer.error
    return made
