"""A small server that speaks what the commands need, on a real socket, with the standard library's SQLite behind it."""

import base64
import json
import sqlite3
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import pytest


def from_wire(value):
    match value["type"]:
        case "null":
            return None
        case "integer":
            return int(value["value"])
        case "blob":
            return base64.b64decode(value["base64"] + "==")
    return value["value"]


def to_wire(value):
    match value:
        case None:
            return {"type": "null"}
        case int():
            return {"type": "integer", "value": str(value)}
        case float():
            return {"type": "float", "value": value}
        case bytes():
            return {"type": "blob", "base64": base64.b64encode(value).decode().rstrip("=")}
    return {"type": "text", "value": value}


class FakeServer:
    """One database in memory; what clients sent is in `requests`, other routes answer from `routes`."""

    def __init__(self):
        self.requests = []
        self.routes = {}
        self.uploads = {}
        self.fail_next = []
        self.db = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._lock = threading.Lock()
        self._batons = 0
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self):
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        self.db.close()

    # -- HTTP

    def _handler(self):
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def _serve(self):
                size = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(size)
                parts = urlsplit(self.path)
                query = dict(parse_qsl(parts.query))
                status, headers, data = server._answer(self.command, parts.path, query, dict(self.headers), body)
                self.send_response(status)
                for name, value in {"content-length": str(len(data)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(data)
                self.close_connection = "close" in headers.get("connection", "")

            def do_GET(self):
                self._serve()

            def do_POST(self):
                self._serve()

            def do_PATCH(self):
                self._serve()

            def do_DELETE(self):
                self._serve()

        return Handler

    def _answer(self, method, path, query, headers, body):
        headers = {name.lower(): value for name, value in headers.items()}
        with self._lock:
            self.requests.append((method, path, query, headers))
            if self.fail_next:
                return self.fail_next.pop(0)
            if path == "/v2/pipeline":
                return 200, {"pando-bookmark": f"data.1.{len(self.requests):x}"}, self._pipeline(json.loads(body))
            if path == "/cluster/import":
                self.uploads[query["name"]] = body
                return 200, {}, b"{}"
            found = self.routes.get((method, path))
            if found is None:
                return 404, {}, json.dumps({"error": f"nothing at {path}", "code": "NOT_FOUND"}).encode()
            answer = found(query, body) if callable(found) else found
            return 200, {}, answer if isinstance(answer, bytes) else json.dumps(answer).encode()

    # -- SQL

    def _pipeline(self, message):
        results = [self._request(request) for request in message["requests"]]
        closed = any(request["type"] == "close" for request in message["requests"])
        if closed and self.db.in_transaction:
            self.db.execute("ROLLBACK")
        self._batons += 1
        baton = f"b{self._batons}" if self.db.in_transaction else None
        return json.dumps({"baton": baton, "base_url": None, "results": results}).encode()

    def _request(self, request):
        try:
            result = self._run(request)
        except sqlite3.Error as error:
            return {"type": "error", "error": {"message": str(error), "code": error.sqlite_errorname}}
        return {"type": "ok", "response": {"type": request["type"], **result}}

    def _run(self, request):
        match request["type"]:
            case "execute":
                return {"result": self._execute(request["stmt"])}
            case "batch":
                return {"result": self._batch(request["batch"]["steps"])}
            case "sequence":
                self.db.executescript(request["sql"])
        return {}

    def _execute(self, stmt):
        cursor = self.db.execute(stmt["sql"], [from_wire(value) for value in stmt.get("args", [])])
        rows = [[to_wire(value) for value in row] for row in cursor]
        columns = [{"name": name[0], "decltype": None} for name in cursor.description or []]
        return {
            "cols": columns,
            "rows": rows,
            "affected_row_count": max(cursor.rowcount, 0),
            "last_insert_rowid": str(cursor.lastrowid) if cursor.lastrowid else None,
        }

    def _batch(self, steps):
        results, errors = [], []
        for step in steps:
            condition = step.get("condition")
            result = error = None
            if condition is None or results[condition["step"]] is not None:
                try:
                    result = self._execute(step["stmt"])
                except sqlite3.Error as caught:
                    error = {"message": str(caught), "code": caught.sqlite_errorname}
            results.append(result)
            errors.append(error)
        return {"step_results": results, "step_errors": errors}


@pytest.fixture
def server():
    made = FakeServer()
    yield made
    made.close()
