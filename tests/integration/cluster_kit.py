"""What the cluster tests stand on: a local cluster that can be asked how it is, SQL at any address, a writer."""

import fcntl
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pando.node.local_cluster import LocalCluster

NODES = 3
READY_S = 60.0
HEAL_S = 5.0
"""How long a cluster may take after the death of one process (the issue's figure)."""
PORTS_AT_ONCE = 8


def free_base_port(count):
    """A port with `count` free ones after it, below those that systems give to outgoing connections.

    Nodes share ports (SO_REUSEPORT), so two tests that looked at the same moment would both listen there: whoever takes
    ports keeps a file locked until its process ends, and all workers and runs of the machine look there first.
    """
    blocks = range(11_000, 31_000, PORTS_AT_ONCE)
    assert count < PORTS_AT_ONCE
    for number in range(len(blocks)):
        base = blocks[(os.getpid() * 7 + number) % len(blocks)]
        if _is_claimed(base) and _are_free(range(base, base + count + 1)):
            return base
    raise AssertionError("no free ports")


def _is_claimed(base):
    """Locks the file of a block of ports for as long as this process lives; False when somebody has it."""
    folder = Path(tempfile.gettempdir()) / f"pando-test-ports-{os.getuid()}"
    folder.mkdir(exist_ok=True)
    claim = os.open(folder / str(base), os.O_CREAT | os.O_RDWR)  # never closed: it ends with the process
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(claim)
        return False
    return True


def _are_free(ports):
    for port in ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                return False
    return True


def wait_until(condition, seconds, what, meanwhile=lambda: None):
    """Waits for a true value and gives it; fails with `what` after `seconds`."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {what() if callable(what) else what}"
        meanwhile()
        time.sleep(0.01)
    return found


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # it may go between opening and reading
        return False


@dataclass
class Answer:
    status: int
    bookmark: str
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The error of the request, or of its first failed statement."""
        if self.status != 200:
            return self.json
        return next((found["error"] for found in self.json["results"] if found["type"] == "error"), None)

    @property
    def rows(self):
        assert self.status == 200 and self.error is None, (self.status, self.body[:500])
        result = self.json["results"][0]["response"]["result"]
        return [[value.get("value") for value in row] for row in result["rows"]]


@dataclass
class Sql:
    """SQL at any address with one token."""

    token: str

    def request(self, url, body, *, headers=(), path="/v2/pipeline", method="POST", timeout_s=30.0):
        parts = urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=timeout_s)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {self.token}", **dict(headers)})
            found = connection.getresponse()
            return Answer(found.status, found.getheader("Pando-Bookmark", ""), found.read())
        finally:
            connection.close()

    def run(self, url, sql, *args, bookmark="", durability="", timeout_s=30.0):
        stmt = {"sql": sql, "args": [{"type": "text", "value": str(arg)} for arg in args]}
        headers = {}
        if bookmark:
            headers["Pando-Bookmark"] = bookmark
        if durability:
            headers["Pando-Durability"] = durability
        body = json.dumps({"requests": [{"type": "execute", "stmt": stmt}, {"type": "close"}]})
        return self.request(url, body, headers=headers, timeout_s=timeout_s)

    def works(self, url, sql, *args):
        """Whether it was done; what is in the way (nobody there, not ready, unknown outcome) is no."""
        try:
            answer = self.run(url, sql, *args, timeout_s=HEAL_S)
        except (OSError, http.client.HTTPException):
            return False
        return answer.status == 200 and answer.error is None


class Writer:
    """Writes rows at all addresses in turn until it is stopped, and knows which were acknowledged."""

    def __init__(self, sql, urls, prefix):
        self.acknowledged = []
        self.tried = 0
        self._sql, self._urls, self._prefix = sql, urls, prefix
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join(60)
        assert not self._thread.is_alive()

    def _write(self):
        while not self._end.is_set():
            key = f"{self._prefix}-{self.tried}"
            if self._sql.works(self._urls[self.tried % len(self._urls)], "INSERT INTO kept VALUES (?)", key):
                self.acknowledged.append(key)
            self.tried += 1


class Cluster(LocalCluster):
    """A local cluster with what the tests ask of it."""

    def __init__(self, directory):
        super().__init__(directory, nodes=NODES, http=f"127.0.0.1:{free_base_port(NODES)}")
        self.sql = Sql(self.token())

    @property
    def urls(self):
        return [self.front_url, *self.node_urls]

    def process_ids(self):
        """Every process: (where, role) -> process id."""
        found = {("front", "front"): self.front_pid}
        found |= {(node.name, role): pid for node in self.nodes for role, pid in node.processes().items()}
        return found

    def create_table(self):
        answer = self.sql.run(self.front_url, "CREATE TABLE IF NOT EXISTS kept (key TEXT PRIMARY KEY)")
        assert answer.rows == []

    def is_whole(self):
        """Whether every process runs, and a write at each address takes effect."""
        pids = self.process_ids()
        expected = 1 + NODES * 4  # the front; supervisor, store, applier and a web process at least
        if len(pids) < expected or not all(pid and is_alive(pid) for pid in pids.values()):
            return False
        return all(self.sql.works(url, "INSERT INTO kept VALUES (hex(randomblob(16)))") for url in self.urls)

    def missing(self, url, keys, bookmark):
        answer = self.sql.run(url, "SELECT key FROM kept", bookmark=bookmark)
        return sorted(set(keys) - {row[0] for row in answer.rows})

    def check_kept(self, keys):
        """Every acknowledged row is at every address, and the bytes are the same on all nodes."""
        assert keys
        bookmarks = []

        def is_written():
            bookmark = self.sql.run(self.front_url, "INSERT INTO kept VALUES (hex(randomblob(16)))").bookmark
            bookmarks.append(bookmark)
            return bool(bookmark)

        wait_until(is_written, HEAL_S, "a write at the front", self.poll)
        bookmark = bookmarks[-1]
        for url in self.urls:
            assert self.missing(url, keys, bookmark) == [], f"acknowledged rows are missing at {url}"
            assert self.sql.run(url, "PRAGMA integrity_check", bookmark=bookmark).rows == [["ok"]]
        wait_until(self.verifies, HEAL_S, self.logs, self.poll)
        assert "store.diverged" not in self.logs(whole=True), self.logs()

    def verifies(self):
        """Whether `pando verify` finds equal bytes on all nodes; a node that cannot be asked yet is no.

        Bytes that differ fail at once: they would heal by a snapshot, and must not have differed.
        """
        command = [sys.executable, "-m", "pando", "verify", "--json", "--dir", str(self._directory), self.front_url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.stdout, done.stderr
        verdict = json.loads(done.stdout)
        results = {check["node"]: check["result"] for check in verdict["checks"]}
        assert not [found for found in results.values() if found == "differs" or found.startswith("damaged")], verdict
        if any(found.startswith(("failed", "away")) for found in results.values()):
            return False
        return verdict["equal"] and done.returncode == 0 and len(results) == NODES

    def reap(self):
        """Take note of the dead without starting them again."""
        for one in self._processes():
            if one.process is not None:
                one.process.poll()

    def logs(self, *, whole=False):
        """The end of each log, for the message of a failure, or all of it."""
        lines = []
        for path in sorted(self._directory.glob("logs/*.log")):
            lines += [f"== {path.name}", *path.read_text().splitlines()[0 if whole else -25 :]]
        return "\n".join(lines)


@contextmanager
def running(folder):
    """A cluster with its table, until the block ends."""
    cluster = Cluster(folder)
    cluster.start(READY_S)
    try:
        cluster.create_table()
        yield cluster
    finally:
        cluster.stop()
