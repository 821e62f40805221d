"""Every command against a small server: what it prints, and how it ends."""

import json
import sqlite3
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pando.cli.cluster import KnownNode, NodeReport, NodeView, complaints
from pando.cli.main import app
from pando.cli.token import parse_duration
from pando.cli.verify import Verification, judge
from pando.errors import InvalidRequest
from pando.settings import rows
from pando.store.protocol import DatabaseStatus, ReplicaStatus


@pytest.fixture
def pando(server, tmp_path):
    def run(*args, stdin="", url=server.url):
        env = {"PANDO_URL": url, "PANDO_DIR": str(tmp_path), "PANDO_TOKEN": "t", "COLUMNS": "200"}
        return CliRunner().invoke(app, list(args), input=stdin, env=env)

    return run


def status_of(node, role, **more):
    database = {"name": "data", "epoch": 1, "txid": 7, "lag_txids": 2, "lag_bytes": 8192, "lag_s": 0.25}
    return {"node": node, "role": role, "epoch": 1, "databases": [{**database, "size_bytes": 4096}], **more}


# -- status


def test_status_shows_every_node(server, pando):
    server.routes["GET", "/cluster/status"] = status_of("n1", "primary", nodes=[{"node": "n1", "url": server.url}])
    done = pando("status")
    assert done.exit_code == 0
    assert ["n1", server.url, "primary", "1", "ready", "1", "0"] in [line.split() for line in done.stdout.splitlines()]
    assert "1/7" in done.stdout
    assert "0.25" in done.stdout


def test_status_as_json(server, pando):
    server.routes["GET", "/cluster/status"] = status_of("n1", "primary")
    data = json.loads(pando("status", "--json").stdout)
    assert data["degraded"] is False
    assert data["nodes"][0]["status"]["databases"][0]["lag_bytes"] == 8192


def test_status_fails_when_a_node_is_away(server, pando):
    nodes = [{"node": "n1", "url": server.url}, {"node": "n2", "url": "http://127.0.0.1:1"}]
    server.routes["GET", "/cluster/status"] = status_of("n1", "primary", nodes=nodes)
    done = pando("status")
    assert done.exit_code == 1
    assert "away" in done.stdout
    assert "degraded: http://127.0.0.1:1: no server at" in done.stderr


def view(role="primary", **more):
    return NodeReport(url="u", view=NodeView(node="n", role=role, **more))


@pytest.mark.parametrize(
    ("reports", "complaint"),
    [
        ([view("replica")], "no primary can be reached"),
        ([view(ready=False, reason="recovery")], "u is not ready: recovery"),
        ([view(), view("replica", upstream_connected=False, primary_url="p")], "u has no connection to the primary p"),
        ([view(databases=[DatabaseStatus(name="d", state="diverged", reason="x")])], "u database d is diverged: x"),
        ([view(replicas=[ReplicaStatus(node="r", connected=False)])], "replica r is not connected"),
    ],
)
def test_what_is_complained_about(reports, complaint):
    assert complaints(reports) == [complaint] or complaint in complaints(reports)[0]


def test_a_whole_cluster_is_not_complained_about():
    replicas = [ReplicaStatus(node="r", connected=True)]
    assert complaints([view(replicas=replicas, nodes=[KnownNode(url="x")]), view("replica")]) == []
    former = [ReplicaStatus(node="n", connected=False)]
    assert complaints([view(), view("replica", replicas=former)]) == []


# -- sql


def test_help_of_serve_tells_defaults_choices_and_environment(pando):
    text = " ".join(pando("serve", "--help").stdout.split())
    assert "[default: 127.0.0.1:8090; PANDO_HTTP]" in text
    assert "--durability async|quorum|all" in text


def test_sql_from_the_command_line(pando):
    done = pando("sql", "-c", "SELECT 1 AS a, 'x' AS b")
    assert (done.exit_code, done.stdout) == (0, "1|x\n")


def test_sql_from_a_pipe_stops_at_an_error_with_status_1(pando):
    done = pando(
        "sql", stdin="CREATE TABLE t (a);\nINSERT INTO t VALUES (5);\nSELECT a FROM t;\nSELECT b FROM t;\nSELECT 9;"
    )
    assert (done.exit_code, done.stdout) == (1, "5\n")
    assert "no such column: b" in done.stderr


def test_sql_as_json(pando):
    assert json.loads(pando("sql", "--json", "-c", "SELECT 1 AS a, NULL AS b").stdout) == [{"a": 1, "b": None}]


def test_the_token_is_sent(server, pando):
    pando("sql", "-c", "SELECT 1")
    assert server.requests[0][3]["authorization"] == "Bearer t"


def test_an_error_as_json(pando):
    done = pando("sql", "--json", "-c", "SELECT nothing")
    assert json.loads(done.stderr)["error"]["code"] == "SQLITE_ERROR"


# -- databases, import, export, sync


def test_databases(server, pando):
    server.routes["GET", "/v1/namespaces"] = {"namespaces": [{"name": "data", "size_bytes": 4096}], "next": None}
    created = []
    server.routes["POST", "/v1/namespaces/new/create"] = lambda query, body: created.append(json.loads(body)) or b""
    assert pando("databases").stdout.split() == ["database", "size", "maximum", "blocked", "data", "4.0", "KiB"]
    assert pando("databases", "create", "new").exit_code == 0
    assert created == [{}]


@pytest.mark.parametrize("args", [("create",), ("list", "x"), ("create", "../x"), ("drop", "x")])
def test_wrong_use_of_databases(pando, args):
    assert pando("databases", *args).exit_code == 2


def make_database(path, *, wal=False):
    db = sqlite3.connect(path)
    if wal:
        db.execute("PRAGMA journal_mode = wal")
    db.execute("CREATE TABLE t (a)")
    db.commit()
    return db


def test_import_sends_the_file(server, pando, tmp_path):
    file = tmp_path / "shop.db"
    make_database(file).close()
    done = pando("import", str(file))
    assert done.exit_code == 0, done.output
    assert server.uploads["shop"] == file.read_bytes()
    assert server.requests[-1][2] == {"name": "shop", "replace": "false"}
    assert "importing shop.db: 100 %" in done.output
    assert pando("import", str(file), "--name", "other", "--replace", "--json").exit_code == 0
    assert server.requests[-1][2] == {"name": "other", "replace": "true"}


def test_import_as_json_is_one_document(pando, tmp_path):
    file = tmp_path / "shop.db"
    make_database(file).close()
    assert json.loads(pando("import", str(file), "--json").stdout)["imported"] == "shop"


def test_import_refuses_what_is_no_database(server, pando, tmp_path):
    (tmp_path / "text.db").write_text("hello")
    assert "no SQLite database file" in pando("import", str(tmp_path / "text.db")).stderr
    (tmp_path / "dump.sql").write_text("PRAGMA foreign_keys=OFF;")
    assert "`pando databases load NAME" in pando("import", str(tmp_path / "dump.sql")).stderr
    (tmp_path / "empty.db").touch()
    assert "`pando databases create NAME`" in pando("import", str(tmp_path / "empty.db")).stderr
    assert pando("import", str(tmp_path / "missing.db")).exit_code == 2
    assert pando("import", str(tmp_path)).exit_code == 2
    assert not server.requests


def test_import_of_a_file_whose_name_is_no_database_name_names_the_option(pando, tmp_path):
    make_database(tmp_path / "my shop.db").close()
    assert "--name" in pando("import", str(tmp_path / "my shop.db")).stderr
    assert "--name" not in pando("import", str(tmp_path / "my shop.db"), "--name", "a b").stderr


def test_sql_says_what_is_no_address(server, pando, tmp_path):
    (tmp_path / "q.sql").write_text("SELECT 1")
    file = pando("sql", str(tmp_path / "q.sql"))
    assert (file.exit_code, "pando sql <" in file.stderr) == (2, True)
    statement = pando("sql", "SELECT 1")
    assert (statement.exit_code, "-c" in statement.stderr) == (2, True)
    assert not server.requests


def test_a_script_that_forgets_its_commit_is_told(pando):
    assert "no COMMIT" in pando("sql", "-c", "CREATE TABLE t (a); BEGIN; INSERT INTO t VALUES (1)").stderr
    assert "COMMIT" not in pando("sql", "-c", "BEGIN; INSERT INTO t VALUES (1); COMMIT").stderr


def test_export_writes_a_new_file(server, pando, tmp_path):
    server.routes["GET", "/cluster/export"] = b"SQLite format 3\x00" + b"x" * 5000
    target = tmp_path / "out.db"
    assert pando("export", "data", str(target)).exit_code == 0
    assert target.stat().st_size == 5016
    again = pando("export", "data", str(target))
    assert again.exit_code == 2
    assert "exists" in again.stderr


def test_a_failed_export_leaves_nothing_behind(server, pando, tmp_path):
    done = pando("export", "missing", str(tmp_path / "out.db"))
    assert done.exit_code == 1
    assert not (tmp_path / "out.db").exists()


def test_sync(server, pando):
    server.routes["POST", "/cluster/sync"] = {}
    assert pando("sync").exit_code == 0
    assert server.requests[-1][:2] == ("POST", "/cluster/sync")


# -- verify


def test_verify_tells_once_that_the_token_does_not_hold(server, pando):
    refused = (401, {}, b'{"error": "the token is not one of this cluster; `pando token` makes one", "code": "AUTH"}')
    server.routes["GET", "/cluster/status"] = lambda *_: server.fail_next.append(refused) or status_of("n1", "primary")
    done = pando("verify")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.count("not one of this cluster; give a token with --token") == 1


def test_verify_asks_every_node(server, pando):
    nodes = [{"node": "n1", "url": server.url}]
    server.routes["GET", "/cluster/status"] = status_of("n1", "primary", nodes=nodes)
    found = {"epoch": 1, "txid": 7, "checksum": "c", "believed": "c", "pages": 3}
    server.routes["GET", "/cluster/verify"] = lambda query, _: found
    done = pando("verify")
    assert done.exit_code == 0
    assert "equal: every node holds the same bytes" in done.stderr
    found["believed"] = "other"
    done = pando("verify", "--json")
    assert done.exit_code == 1
    assert json.loads(done.stdout)["equal"] is False


def check(txid=1, checksum="a", believed="", result=""):
    return Verification(epoch=1, txid=txid, checksum=checksum, believed=believed or checksum, result=result)


@pytest.mark.parametrize(
    ("found", "results"),
    [
        ([check(), check()], ["equal", "equal"]),
        ([check(), check(checksum="b")], ["differs", "differs"]),
        ([check(), check(txid=2)], ["at another position"] * 2),
        ([check(), check(believed="b")], ["equal", "damaged: the node believes b"]),
        ([check(), check(result="away: x")], ["equal", "away: x"]),
    ],
)
def test_judgement(found, results):
    assert [row.result for row in judge(found)] == results


# -- token


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("15m", 900), ("12h", 43200), ("30d", 2592000)])
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "s", "-5s", "1.5h", "0s", "5w", "9999999999s"])
def test_what_is_no_duration(text):
    with pytest.raises(InvalidRequest):
        parse_duration(text)


def test_token_needs_a_secret(pando):
    done = pando("token", "--offline")
    assert done.exit_code == 2
    assert "there is no secret" in done.stderr


# -- serve


def test_serve_has_an_option_for_each_setting_with_a_flag():
    options = {option for parameter in commands()["serve"].params for option in parameter.opts}
    flags = {row.flag for _, row in rows().values() if row.flag}
    assert len(flags) > 10
    assert flags <= options


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--http", "nowhere"), "flag --http: http cannot be 'nowhere'"),
        (("--role", "replica"), "a replica needs the address of its primary"),
        (("--config", "/does/not/exist"), "it is not there"),
    ],
)
def test_serve_refuses_wrong_settings(pando, args, message):
    done = CliRunner().invoke(app, ["serve", *args])
    assert done.exit_code == 2
    assert message in done.stderr


# -- all of them


def commands():
    root = typer.main.get_command(app)
    return {name: command for name, command in root.commands.items() if not hasattr(command, "commands")}


@pytest.mark.parametrize("name", commands())
def test_every_command_takes_json_and_has_help(name):
    command = commands()[name]
    options = {option for parameter in command.params for option in parameter.opts}
    assert "--json" in options
    assert command.help
    assert all(getattr(parameter, "help", None) for parameter in command.params)


@pytest.mark.parametrize("args", [("status",), ("verify",), ("databases",), ("sync",), ("sql", "-c", "SELECT 1")])
def test_without_a_server_the_next_step_is_named(pando, args):
    done = pando(*args, url="http://127.0.0.1:1")
    assert done.exit_code == 1
    assert "start one with `pando serve`" in done.stderr


def test_one_module_for_each_command():
    modules = {command.callback.__module__ for command in commands().values()}
    assert len(modules) == len(commands())
    assert all(Path(__import__(name, fromlist=["x"]).__file__).is_file() for name in modules)
