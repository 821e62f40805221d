"""Databases as tenants on real nodes: made, copied, limited, blocked, dumped and deleted, through a replica too."""

import http.client
import http.server
import json
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import apsw
import pytest
from cluster_kit import Sql, wait_until

sys.path.append(str(Path(__file__).parents[1] / "interop"))
from served_nodes import served_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SOON_S = 20.0


class Nodes:
    """A primary and a replica, with the admin API and SQL of both."""

    def __init__(self, served):
        self.served = served
        self.sql = Sql(served.token)
        self.urls = {role: f"http://{address}" for role, address in served.addresses.items()}

    def admin(self, role, method, path, body=None, headers=()):
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        answer = self.sql.request(
            self.urls[role], data, path=f"/v1/namespaces{path}", method=method, headers=dict(headers)
        )
        assert answer.body == b"" or answer.json is not None
        return answer

    def does(self, role, method, path, body=None):
        answer = self.admin(role, method, path, body)
        assert answer.status == 200, (answer.status, answer.body)
        return answer.json if answer.body else None

    def ask(self, role, database, text, *args):
        stmt = {"sql": text, "args": [{"type": "text", "value": arg} for arg in args]}
        body = json.dumps({"requests": [{"type": "execute", "stmt": stmt}, {"type": "close"}]})
        return self.sql.request(self.urls[role], body, headers={"x-namespace": database})

    def rows(self, role, database, text):
        return self.ask(role, database, text).rows

    def names(self, role):
        return [one["name"] for one in self.does(role, "GET", "")["namespaces"]]

    def verified(self, role, database):
        answer = self.sql.request(self.urls[role], None, path=f"/cluster/verify?database={database}", method="GET")
        assert answer.status in {200, 503}, answer.body  # it may still be on its way to the replica
        return answer.json if answer.status == 200 else {"checksum": None}

    def dump(self, role, database, query=""):
        return self.sql.request(
            self.urls[role], None, path=f"/dump{query}", method="GET", headers={"x-namespace": database}
        )


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    with served_nodes(tmp_path_factory.mktemp("tenants")) as served:
        yield Nodes(served)


def soon(condition, what):
    return wait_until(condition, SOON_S, what)


def test_a_database_comes_and_goes_on_every_node(nodes):
    nodes.does("replica", "POST", "/shop/create", {})
    nodes.rows("primary", "shop", "CREATE TABLE t(v)")
    nodes.rows("replica", "shop", "INSERT INTO t VALUES ('one')")
    soon(lambda: "shop" in nodes.names("replica"), "the replica has it")
    assert nodes.rows("replica", "shop", "SELECT v FROM t") == [["one"]]
    again = nodes.admin("primary", "POST", "/shop/create", {})
    assert (again.status, again.json["code"]) == (400, "DATABASE_EXISTS")
    nodes.does("replica", "DELETE", "/shop")
    soon(lambda: "shop" not in nodes.names("replica"), "it is gone on the replica")
    assert "shop" not in nodes.names("primary")
    for role in nodes.urls:
        soon(lambda role=role: nodes.ask(role, "shop", "SELECT 1").status == 404, f"it is gone on the {role}")
    assert nodes.admin("primary", "DELETE", "/shop").status == 404
    files = list(nodes.served.folder.glob("*/databases/shop*"))
    assert files == []


def test_a_fork_is_equal_and_goes_its_own_way(nodes):
    nodes.does("primary", "POST", "/origin/create", {"max_db_size": "50MB"})
    nodes.rows("primary", "origin", "CREATE VIRTUAL TABLE words USING fts5(body)")
    for number in range(20):
        nodes.rows("primary", "origin", f"INSERT INTO words VALUES ('tree {number} ' || hex(randomblob(2000)))")
    nodes.does("replica", "POST", "/origin/fork/branch", {})
    origin, branch = (nodes.verified("primary", name) for name in ("origin", "branch"))
    assert (branch["checksum"], branch["pages"]) == (origin["checksum"], origin["pages"])
    assert branch["believed"] == branch["checksum"]
    soon(lambda: "branch" in nodes.names("replica"), "the replica has it")
    soon(lambda: nodes.verified("replica", "branch")["checksum"] == origin["checksum"], "the replica's copy is equal")
    assert nodes.does("replica", "GET", "/branch/config")["max_db_size"] == 50_000_000
    nodes.rows("replica", "branch", "DELETE FROM words WHERE words MATCH '7'")
    assert nodes.rows("primary", "origin", "SELECT count(*) FROM words") == [["20"]]
    assert nodes.rows("primary", "branch", "SELECT count(*) FROM words WHERE words MATCH 'tree'") == [["19"]]
    assert nodes.admin("primary", "POST", "/origin/fork/branch").status == 400
    refused = nodes.admin("primary", "POST", "/origin/fork/past", {"timestamp": "2026-01-01T00:00:00"})
    assert "no backups" in refused.json["error"]
    assert nodes.admin("primary", "POST", "/missing/fork/x").status == 404


def test_blocks_hold_on_every_node_within_a_second(nodes):
    nodes.does("primary", "POST", "/debtor/create", {})
    nodes.rows("primary", "debtor", "CREATE TABLE t(v)")
    soon(lambda: "debtor" in nodes.names("replica"), "the replica has it")
    block = {"block_reads": False, "block_writes": True, "block_reason": "no money"}
    nodes.does("replica", "POST", "/debtor/config", block)
    begun = time.monotonic()
    for role in nodes.urls:
        answer = soon(lambda role=role: nodes.ask(role, "debtor", "INSERT INTO t VALUES (1)").error, f"{role} blocks")
        assert (answer["code"], answer["message"]) == ("BLOCKED", "Operation was blocked: no money")
        assert nodes.rows(role, "debtor", "SELECT count(*) FROM t") is not None
    assert time.monotonic() - begun < 5, "a second, on a machine that has nothing else to do"
    nodes.does("primary", "POST", "/debtor/config", {**block, "block_reads": True})
    for role in nodes.urls:
        soon(lambda role=role: nodes.ask(role, "debtor", "SELECT 1").error, f"{role} blocks reads")
        soon(lambda role=role: nodes.dump(role, "debtor").status == 403, f"{role} dumps nothing")
    nodes.does("primary", "POST", "/debtor/config", {"block_reads": False, "block_writes": False})
    for role in nodes.urls:
        soon(lambda role=role: nodes.ask(role, "debtor", "INSERT INTO t VALUES (1)").error is None, f"{role} lets in")


def test_a_maximum_size_holds_whoever_writes(nodes):
    nodes.does("primary", "POST", "/small/create", {"max_db_size": "200KB"})
    nodes.rows("primary", "small", "CREATE TABLE t(v)")
    row = "INSERT INTO t VALUES (hex(randomblob(10000)))"
    for role in ("replica", "primary"):
        errors = [nodes.ask(role, "small", row).error for _ in range(12)]
        assert errors[-1]["code"] == "SQLITE_FULL"
        assert "maximum size of 200000 bytes" in errors[-1]["message"]
    pages = nodes.rows("primary", "small", "PRAGMA page_count")[0][0]
    assert int(pages) <= 48
    nodes.does("primary", "POST", "/small/config", {"block_reads": False, "block_writes": False, "max_db_size": "1MB"})
    soon(lambda: nodes.ask("primary", "small", row).error is None, "there is room again")
    nodes.does("primary", "POST", "/small/checkpoint")
    nodes.does(
        "primary", "POST", "/small/config", {"block_reads": False, "block_writes": False, "max_db_size": "200KB"}
    )
    soon(lambda: nodes.ask("primary", "small", row).error is not None, "the smaller one holds")


def test_a_dump_of_any_node_is_loaded_equal(nodes, tmp_path):
    nodes.does("primary", "POST", "/library/create", {})
    for text in (
        "CREATE TABLE books(id INTEGER PRIMARY KEY AUTOINCREMENT, title TEXT, cover BLOB)",
        "CREATE VIRTUAL TABLE found USING fts5(title, content='books', content_rowid='id')",
        "CREATE TRIGGER kept AFTER INSERT ON books BEGIN INSERT INTO found(rowid, title) "
        "VALUES (new.id, new.title); END",
        "INSERT INTO books(title, cover) VALUES ('it''s; a book', X'00FF'), ('another', NULL)",
    ):
        nodes.rows("replica", "library", text)
    soon(lambda: nodes.dump("replica", "library").status == 200, "the replica has it")
    scripts = {role: nodes.dump(role, "library", "?preserve_row_ids=true") for role in nodes.urls}
    assert scripts["replica"].body == scripts["primary"].body
    script = scripts["primary"].body
    assert script.startswith(b"PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE IF NOT EXISTS books")
    again = apsw.Connection(str(tmp_path / "again.db"))
    again.execute(script.decode())
    assert again.execute("SELECT title FROM books ORDER BY id").fetchall() == [("it's; a book",), ("another",)]
    nodes.does("replica", "POST", "/copy/load", script)
    rows = nodes.rows("primary", "copy", "SELECT rowid, title FROM found WHERE found MATCH 'book'")
    assert rows == [["1", "it's; a book"]]
    assert nodes.dump("primary", "copy", "?preserve_row_ids=true").body == script
    with serving({"/library.sql": script}) as url:
        nodes.does("primary", "POST", "/fetched/create", {"dump_url": f"{url}/library.sql"})
        missing = nodes.admin("primary", "POST", "/never/create", {"dump_url": f"{url}/none"})
        assert (missing.status, "404" in missing.json["error"]) == (400, True)
    assert nodes.dump("primary", "fetched", "?preserve_row_ids=true").body == script
    broken = nodes.admin("primary", "POST", "/never/load", b"BEGIN; CREATE TABLE t(a); ATTACH 'x' AS y; COMMIT;")
    assert (broken.status, "may not" in broken.json["error"]) == (400, True)
    assert "never" not in nodes.names("primary")
    assert nodes.dump("primary", "missing").status == 404


@contextmanager
def serving(files):
    """Serves files over HTTP."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            found = files.get(self.path)
            self.send_response(404 if found is None else 200)
            self.send_header("content-length", str(len(found or b"")))
            self.end_headers()
            self.wfile.write(found or b"")

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_system_database_is_out_of_reach(nodes):
    soon(lambda: nodes.ask("replica", "_pando", "SELECT count(*) FROM databases").status == 200, "the replica has it")
    assert "_pando" not in nodes.names("primary")
    open_status = nodes.sql.request(
        nodes.urls["primary"], None, path="/cluster/status", method="GET", headers={"Authorization": ""}
    )
    assert "_pando" not in [database["name"] for database in open_status.json["databases"]]
    for method, path in (("POST", "/_pando/create"), ("DELETE", "/_pando"), ("POST", "/data/fork/_pando")):
        assert nodes.admin("primary", method, path).status == 400, path
    for role in nodes.urls:
        assert nodes.ask(role, "_pando", "DELETE FROM databases").status == 403
    assert nodes.admin("primary", "DELETE", "/data").status == 400
    assert nodes.admin("primary", "GET", "", headers={"Authorization": ""}).status == 401
    assert nodes.admin("primary", "PUT", "/data/config").status == 405
    assert nodes.admin("primary", "GET", "/data/nothing").status == 404
    assert nodes.admin("primary", "GET", f"/{quote('a/../b', safe='')}/config").status in {400, 404}


def test_statistics_and_diagnostics_are_the_nodes(nodes):
    nodes.does("primary", "POST", "/counted/create", {})
    nodes.rows("replica", "counted", "CREATE TABLE t(v)")
    for _ in range(5):
        nodes.rows("replica", "counted", "INSERT INTO t VALUES (1), (2)")
        nodes.rows("primary", "counted", "SELECT * FROM t")
    soon(lambda: "counted" in nodes.names("replica"), "the replica has it")
    primary, replica = (nodes.does(role, "GET", "/counted/stats") for role in ("primary", "replica"))
    assert (primary["query_count"], replica["query_count"]) == (5, 6)
    assert (replica["write_requests_delegated"], replica["rows_written_count"]) == (6, 10)
    assert primary["top_queries"][0]["query"] == "SELECT * FROM t"
    assert primary["storage_bytes_used"] >= 4096
    nodes.does("primary", "DELETE", "/counted/stats/top")
    assert nodes.does("primary", "GET", "/counted/stats")["top_queries"] == []
    begun = nodes.sql.request(
        nodes.urls["primary"],
        json.dumps({"requests": [{"type": "execute", "stmt": {"sql": "BEGIN IMMEDIATE"}}]}),
        headers={"x-namespace": "counted"},
    ).json
    found = nodes.sql.request(nodes.urls["primary"], None, path="/v1/diagnostics", method="GET").json
    assert any("stream of counted by baton: transaction: a transaction on the primary" in line for line in found)
    end = {"baton": begun["baton"], "requests": [{"type": "close"}]}
    nodes.sql.request(nodes.urls["primary"], json.dumps(end), headers={"x-namespace": "counted"})


@pytest.mark.parametrize("role", ["primary", "replica"])
def test_who_listens_hears_of_changes_of_the_table(nodes, role):
    name = f"heard-{role}"
    nodes.does("primary", "POST", f"/{name}/create", {})
    nodes.rows("primary", name, "CREATE TABLE t(v)")
    nodes.rows("primary", name, "CREATE TABLE other(v)")
    connection, answer = soon(lambda: listening(nodes, role, name), "the node has it")
    assert answer.getheader("content-type") == "text/event-stream"
    assert answer.readline() == b":keep-alive\n"
    nodes.rows("primary", name, "INSERT INTO t VALUES (1)")
    lines = [answer.readline() for _ in range(4)]
    assert lines[1:3] == [b"event:changes\n", b'data:{"unknown":1}\n']
    connection.close()


def listening(nodes, role, name):
    """Ask to be told of a table; nothing if the node cannot tell yet."""
    connection = http.client.HTTPConnection(nodes.served.addresses[role], timeout=SOON_S)
    connection.request(
        "GET", "/beta/listen?table=T", headers={"Authorization": f"Bearer {nodes.sql.token}", "x-namespace": name}
    )
    answer = connection.getresponse()
    if answer.status == 200:
        return connection, answer
    connection.close()
    return None


@pytest.mark.full
def test_what_is_configured_holds_after_the_primary_was_killed(nodes):
    nodes.does("primary", "POST", "/kept/create", {"max_db_size": "200KB"})
    nodes.rows("primary", "kept", "CREATE TABLE t(v)")
    nodes.does("primary", "POST", "/closed/create", {"block_writes": True, "block_reason": "closed"})
    process = nodes.served.processes["primary"]
    process.kill()
    process.wait()
    nodes.served.start("primary")
    row = "INSERT INTO t VALUES (hex(randomblob(10000)))"
    errors = [nodes.ask("primary", "kept", row).error for _ in range(12)]
    assert (errors[0], errors[-1]["code"]) == (None, "SQLITE_FULL")
    blocked = soon(lambda: nodes.ask("primary", "closed", "CREATE TABLE t(v)").error, "blocks hold")
    assert blocked["code"] == "BLOCKED"
    through = soon(lambda: nodes.ask("replica", "kept", row).error, "the replica has a link again")
    assert through["code"] in {"SQLITE_FULL", "PRIMARY_UNAVAILABLE"}


def opened(nodes):
    """Give the databases that are open, without that of the system: it notes the tokens that were made."""
    status = nodes.sql.request(nodes.urls["primary"], None, path="/cluster/status", method="GET").json
    return {database["name"] for database in status["databases"]} - {"_pando"}


@pytest.mark.full
def test_a_thousand_databases_cost_nothing_until_they_are_asked(tmp_path):
    folder = tmp_path / "primary" / "databases"
    folder.mkdir(parents=True)
    connection = apsw.Connection(str(folder / "d0000.db"))
    connection.execute("CREATE TABLE t(v); INSERT INTO t VALUES ('one')")
    connection.close()
    content = (folder / "d0000.db").read_bytes()
    for number in range(1, 1000):
        (folder / f"d{number:04}.db").write_bytes(content)
    with served_nodes(tmp_path, ["primary"]) as served:
        many = Nodes(served)
        assert opened(many) == {"data"}, "the others are not even opened"
        assert len(many.names("primary")) == 1000, "a page of the list"
        assert many.rows("primary", "d0777", "SELECT v FROM t") == [["one"]]
        assert opened(many) == {"data", "d0777"}
