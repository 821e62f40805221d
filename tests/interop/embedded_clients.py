"""Programs that keep a local copy of a database, and a stand-in that makes them take libSQL's first protocol."""

import contextlib
import http.client
import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from client_packages import need_npm_package, need_pypi_package

CLIENTS = Path(__file__).parent / "clients"
NPM_CLIENT = ("@libsql/client", "0.18.0")
PYPI_LIBSQL = ("libsql", "0.1.11")
ANSWER_S = 90


class LocalCopy:
    """One client program and its file."""

    def __init__(self, kind, path, url, token):
        self.path = path
        self.said = []
        if kind == "python":
            command = [str(need_pypi_package(*PYPI_LIBSQL)), str(CLIENTS / "embedded_libsql.py")]
        else:
            library = need_npm_package(*NPM_CLIENT) / "lib-esm" / "node.js"
            command = ["node", str(CLIENTS / "embedded_libsql.mjs"), str(library)]
        self.process = subprocess.Popen(
            [*command, str(path), url, token], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def ask(self, action, *arguments):
        """Have something done; gives the answer, raises with the client's error."""
        self.process.stdin.write(json.dumps([action, *arguments]) + "\n")
        self.process.stdin.flush()
        watch = threading.Timer(ANSWER_S, self.process.kill)
        watch.start()
        line = self.process.stdout.readline()
        while line and not line.startswith("{"):  # what the library says of itself
            self.said.append(line)
            line = self.process.stdout.readline()
        watch.cancel()
        assert line, f"the client ended or did not answer {action} {arguments}"
        answer = json.loads(line)
        if "error" in answer:
            raise ClientError(answer["error"])
        return answer["ok"]

    def execute(self, sql, *args):
        rows = self.ask("execute", sql, *args)
        self.ask("commit")
        return rows

    def close(self):
        if self.process.returncode is None:
            with contextlib.suppress(OSError, ClientError, AssertionError):
                self.ask("close")
            with contextlib.suppress(OSError):
                self.process.stdin.close()
            self.process.wait(20)
        self.process.stdout.close()

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(20)
        with contextlib.suppress(OSError):
            self.process.stdin.close()

    def content(self, table):
        """Read the file with SQLite itself, after the client has gone."""
        with contextlib.closing(sqlite3.connect(self.path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
            return connection.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall()


class ClientError(Exception):
    """What the client said went wrong."""


class _Passing(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *_arguments):
        return

    def _body(self):
        if "chunked" not in self.headers.get("transfer-encoding", ""):
            return self.rfile.read(int(self.headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _pass(self):
        body = self._body()
        if self.path == "/info":
            self._answer(404, [], b"")
            return
        self.server.seen.add(self.path)
        own = {"transfer-encoding", "content-length", "connection"}
        connection = http.client.HTTPConnection(self.server.target, timeout=60)
        try:
            headers = {name: value for name, value in self.headers.items() if name.lower() not in own}
            connection.request(self.command, self.path, body, headers)
            answer = connection.getresponse()
            kept = [pair for pair in answer.getheaders() if pair[0].lower() not in own]
            self._answer(answer.status, kept, answer.read())
        except (OSError, http.client.HTTPException):
            self._answer(502, [], b"")
        finally:
            connection.close()

    def _answer(self, status, headers, body):
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _pass  # noqa: N815


@contextlib.contextmanager
def first_protocol(target):
    """Pass everything on to a node but /info, without which libSQL's clients take their first protocol."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Passing)
    server.daemon_threads = True
    server.target, server.seen = target, set()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def kill_node(nodes, role):
    """Kill every process of a node at once."""
    pids = json.loads((nodes.folder / role / ".pando" / "processes.json").read_text()).values()
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    nodes.processes[role].wait(20)


def restart_node(nodes, role):
    """Kill and start a node; returns when each of its processes answers."""
    kill_node(nodes, role)
    nodes.start(role)
    wait_until_all_answer(nodes, role)


def wait_until_all_answer(nodes, role):
    deadline = time.monotonic() + 30
    while not all(answers(nodes, role) for _ in range(20)):
        assert time.monotonic() < deadline, f"{role} does not answer after its restart"
        time.sleep(0.05)


def answers(nodes, role):
    try:
        return nodes.rows(role, "SELECT 1") == [["1"]]
    except (OSError, http.client.HTTPException):
        return False


class SteadyWrites:
    """Writes rows on a node, one after the other, until the block ends."""

    def __init__(self, nodes, role, table):
        self.nodes, self.role, self.table = nodes, role, table
        self.count = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self):
        while not self._ended.is_set():
            self.nodes.rows(self.role, f"INSERT INTO {self.table} (data) VALUES (randomblob(700))")
            self.count += 1

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_arguments):
        self._ended.set()
        self._thread.join()
