"""The admin API beside real sqld's: the same requests, the same statuses and fields; differences are listed here."""

import contextlib
import http.client
import http.server
import json
import subprocess
import threading
import time
from dataclasses import dataclass

import pytest
from served_nodes import end, free_port, served_nodes, wait_until_ready
from sqld_program import need_sqld

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]


@dataclass(frozen=True)
class Server:
    """Where SQL and the admin API of a server are; sqld has a port for each, and takes databases from the host."""

    sql: str
    admin: str
    token: str = ""

    def ask(self, method, path, body=None, *, name="", is_sql=False):
        connection = http.client.HTTPConnection(self.sql if is_sql else self.admin, timeout=30)
        headers = {"content-type": "application/json"}
        if self.token:
            headers |= {"authorization": f"Bearer {self.token}", "x-namespace": name or "data"}
        elif name:
            headers["host"] = f"{name}.db"
        try:
            data = body if isinstance(body, bytes) else None if body is None else json.dumps(body)
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def run(self, name, *texts):
        requests = [{"type": "execute", "stmt": {"sql": text}} for text in texts]
        status, body = self.ask("POST", "/v2/pipeline", {"requests": requests}, name=name, is_sql=True)
        assert status == 200, body
        return json.loads(body)["results"]

    def rows(self, name, text):
        (result,) = self.run(name, text)
        return [[cell.get("value", cell.get("base64")) for cell in row] for row in result["response"]["result"]["rows"]]


@contextlib.contextmanager
def served_sqld(folder):
    program = need_sqld()
    server = Server(f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}")
    options = ["--no-welcome", "--enable-namespaces", "--db-path", str(folder / "data")]
    addresses = ["--http-listen-addr", server.sql, "--admin-listen-addr", server.admin]
    with (folder / "log").open("a") as output:
        process = subprocess.Popen([str(program), *options, *addresses], stdout=output, stderr=output)
    try:
        wait_until_ready(process, server.sql, folder / "log")
        yield server
    finally:
        end(process)


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    folder = tmp_path_factory.mktemp("twins")
    (folder / "sqld").mkdir()
    with served_sqld(folder / "sqld") as sqld, served_nodes(folder, ["primary"]) as nodes:
        address = nodes.addresses["primary"]
        yield sqld, Server(address, address, nodes.token)


BLOCK = {"block_reads": False, "block_writes": True, "block_reason": "no money"}
ALIKE = [
    ("POST", "/shop/create", {}),
    ("POST", "/shop/create", {}),
    ("GET", "/shop/config", None),
    ("POST", "/shop/config", BLOCK),
    ("GET", "/shop/config", None),
    ("POST", "/shop/config", {"block_reads": False, "block_writes": False, "max_db_size": "1MB"}),
    ("GET", "/shop/stats", None),
    ("POST", "/shop/checkpoint", None),
    ("POST", "/shop/fork/copy", {}),
    ("POST", "/shop/fork/other", None),
    ("DELETE", "/shop/stats/top", None),
    ("DELETE", "/shop/stats/slowest", None),
    ("DELETE", "/copy", None),
    ("DELETE", "/copy", None),
    ("GET", "/missing/config", None),
    ("POST", "/missing/config", BLOCK),
    ("POST", "/missing/fork/x", {}),
    ("GET", "/missing/stats", None),
    ("POST", "/far/create", {"dump_url": "file:///no/such/file"}),
]
MORE = {"freshness", "processes", "node", "message", "code", "retryable"}
"""Fields that we have besides sqld's."""
DIFFERENT = [
    ("POST", "/a/create", {"nonsense": 1}, 200, 400, "a field that nobody knows is refused"),
    ("POST", "/b/create", {"max_db_size": "x"}, 422, 400, "what cannot be read is 400"),
    ("POST", "/c/create", {"allow_attach": True}, 200, 400, "what we cannot do is refused"),
]


def fields(body):
    found = json.loads(body) if body.strip() else {}
    return set(found) - MORE if isinstance(found, dict) else type(found)


def test_statuses_and_fields_are_the_same(twins):
    for method, path, body in ALIKE:
        theirs, ours = (server.ask(method, f"/v1/namespaces{path}", body) for server in twins)
        assert (ours[0], fields(ours[1])) == (theirs[0], fields(theirs[1])), (method, path, theirs, ours)


def test_statistics_have_the_same_fields_of_the_same_kinds(twins):
    found = []
    for server in twins:
        server.ask("POST", "/v1/namespaces/counts/create", {})
        server.run("counts", "CREATE TABLE t(a)", "INSERT INTO t VALUES (1), (2)", "SELECT a FROM t", "SELECT a FROM t")
        stats = json.loads(server.ask("GET", "/v1/namespaces/counts/stats")[1])
        queries = stats["queries"]
        (select,) = [each for each in queries["stats"] if each["query"] == "SELECT a FROM t"]
        found.append((kinds(queries), kinds(queries["elapsed"]), kinds(select), kinds(stats["slowest_queries"][0])))
        assert (select["count"], queries["count"], len(queries["stats"])) == (2, 4, 3)
        assert 0 < queries["elapsed"]["p50"] <= queries["elapsed"]["p999"] <= queries["elapsed"]["sum"]
    theirs, ours = found
    assert ours[:3] == theirs[:3]
    assert ours[3].items() >= theirs[3].items()


def kinds(fields):
    return {name: type(value) for name, value in fields.items()}


@pytest.mark.parametrize(("method", "path", "body", "theirs", "ours", "why"), DIFFERENT)
def test_differences_are_these(twins, method, path, body, theirs, ours, why):
    found = tuple(server.ask(method, f"/v1/namespaces{path}", body)[0] for server in twins)
    assert found == (theirs, ours), why


def test_what_is_blocked_and_what_is_full_is_told_alike(twins):
    found = []
    for server in twins:
        server.ask("POST", "/v1/namespaces/told/create", {})
        server.run("told", "CREATE TABLE t(a)")
        server.ask("POST", "/v1/namespaces/told/config", BLOCK)
        blocked = wait_for_error(server, "INSERT INTO t VALUES (1)")
        server.ask("POST", "/v1/namespaces/told/config", {**BLOCK, "block_reads": True, "block_reason": None})
        unread = wait_for_error(server, "SELECT 1")
        limits = {"block_reads": False, "block_writes": False, "max_db_size": "100KB"}
        server.ask("POST", "/v1/namespaces/told/config", limits)
        full = wait_for_error(server, "INSERT INTO t VALUES (zeroblob(2000000))", but="BLOCKED")
        found.append([(blocked["code"], blocked["message"]), (unread["code"], unread["message"]), full["code"]])
    assert found[1] == found[0]


def wait_for_error(server, text, but=""):
    """Run a statement until it fails, other than with a code: each process of a node hears by itself."""
    deadline = time.monotonic() + 20
    while True:
        (result,) = server.run("told", text)
        if result["type"] == "error" and result["error"]["code"] != but:
            return result["error"]
        assert time.monotonic() < deadline, result
        time.sleep(0.01)


def test_each_loads_what_the_other_dumps(twins):
    schema = (
        "CREATE TABLE books(id INTEGER PRIMARY KEY AUTOINCREMENT, title, cover BLOB, n INT AS (length(title)) STORED)",
        "CREATE VIRTUAL TABLE words USING fts5(body)",
        "CREATE VIEW shown AS SELECT title FROM books",
        "INSERT INTO books(title, cover) VALUES ('it''s; ' || char(10) || 'a book', X'00FF'), (1.5, NULL)",
        "INSERT INTO words VALUES ('a tree')",
        "CREATE TRIGGER kept AFTER INSERT ON books BEGIN INSERT INTO words VALUES (new.title); SELECT 1; END",
    )
    asked = ("SELECT id, title, cover, n FROM books ORDER BY id", "SELECT body FROM words WHERE words MATCH 'tree'")
    asked += ("SELECT type, name FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY 1, 2",)
    for source, target in (twins, twins[::-1]):
        name = "fromsqld" if source is twins[0] else "frompando"
        source.ask("POST", f"/v1/namespaces/{name}/create", {})
        for text in schema:
            source.run(name, text)
        status, script = source.ask("GET", "/dump?preserve_row_ids=true", name=name, is_sql=True)
        assert status == 200
        with serving(script) as url:
            done = target.ask("POST", f"/v1/namespaces/loaded{name}/create", {"dump_url": url})
        assert done == (200, b"")
        for text in asked:
            assert target.rows(f"loaded{name}", text) == source.rows(name, text), (name, text)


@contextlib.contextmanager
def serving(content):
    """Serves one file over HTTP; gives its address."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/dump.sql"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
