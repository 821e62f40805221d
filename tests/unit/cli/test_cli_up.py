import io
import json
import shlex

import pytest
from rich.console import Console

from pando.cli import up
from pando.cli.cluster import NodeReport, NodeView
from pando.cli.dashboard import ask_nodes, make_table
from pando.cli.output import console
from pando.cli.pasting import curl_line, list_line, sign_in_line, subscribe_line
from pando.cli.up import own_command, run_cluster, sample_password
from pando.errors import PandoError
from pando.node.secret import read_or_create_secret
from pando.store.protocol import DatabaseStatus


class FakeCluster:
    """Serves from the small server; is interrupted after some rounds of waiting."""

    def __init__(self, url, rounds=2):
        self.front_url = url
        self.node_urls = [url]
        self.rounds = rounds
        self.calls = []

    def start(self):
        self.calls.append("start")

    def restarts(self):
        return {self.front_url: 3}

    def wait(self, seconds):
        self.calls.append("wait")
        self.rounds -= 1
        if self.rounds < 0:
            raise KeyboardInterrupt

    def stop(self):
        self.calls.append("stop")


@pytest.fixture
def cluster(server, tmp_path):
    read_or_create_secret(tmp_path)
    status = {"node": "n1", "role": "primary", "databases": [{"name": "data", "epoch": 1, "txid": 4, "lag_s": 0.5}]}
    server.routes["GET", "/cluster/status"] = status
    return FakeCluster(server.url)


@pytest.fixture
def out():
    return io.StringIO()


def test_the_last_plain_line_says_ready(cluster, tmp_path, out):
    run_cluster(cluster, tmp_path, sample=False, as_json=False, out=console(out))
    lines = out.getvalue().splitlines()
    assert lines[-1] == f"ready {cluster.front_url}"
    assert lines[2].split() == [
        "n1",
        cluster.front_url,
        "primary",
        "ready",
        "data",
        "1/4",
        "0",
        "0",
        "0.500",
        "0",
        "B",
        "3",
    ]
    assert cluster.calls == ["start", "wait", "wait", "wait", "stop"]


def test_sample_data_are_loaded_before_it_says_ready(cluster, server, tmp_path, out, capsys, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        up, "load_sample", lambda client, report, password: loaded.append((client.url, password)) or report(1, 1)
    )
    run_cluster(cluster, tmp_path, sample=True, as_json=False, out=console(out))
    assert [url for url, _ in loaded] == [server.url]
    assert len(loaded[0][1]) == 16
    assert "loading sample data: 100 % (1 of 1)" in capsys.readouterr().err


def sample_is_there(server, *, status=200):
    for name in ("cities", "cities_fts", "countries"):
        server.db.execute(f"CREATE TABLE {name} (a)")
    server.db.execute("CREATE TABLE _collections (name)")
    server.db.execute("INSERT INTO _collections VALUES ('cities'), ('countries')")
    if status == 200:
        server.routes["POST", "/api/collections/users/auth-with-password"] = {}


def test_what_is_there_is_shown(cluster, server, tmp_path, out, monkeypatch):
    monkeypatch.setattr(up, "load_sample", lambda *_, password: None)
    sample_is_there(server)
    run_cluster(cluster, tmp_path, sample=True, as_json=False, out=console(out))
    lines = out.getvalue().splitlines()
    password = sample_password((tmp_path / ".pando" / "secret").read_text().strip())
    for line in (list_line(server.url), subscribe_line(server.url), sign_in_line(server.url, up.USER, password)):
        assert line in lines
    assert any(line.endswith(f"superuser upsert EMAIL PASSWORD --dir {tmp_path}") for line in lines)
    assert any("cities_fts MATCH" in line for line in lines)


def test_a_password_that_no_longer_holds_is_not_shown(cluster, server, tmp_path, out, monkeypatch):
    monkeypatch.setattr(up, "load_sample", lambda *_, password: None)
    sample_is_there(server, status=404)
    run_cluster(cluster, tmp_path, sample=True, as_json=False, out=console(out))
    assert up.USER not in out.getvalue()
    assert list_line(server.url) in out.getvalue()


def test_nothing_is_shown_that_is_not_there(cluster, server, tmp_path, out, monkeypatch):
    monkeypatch.setattr(up, "load_sample", lambda *_, password: None)
    run_cluster(cluster, tmp_path, sample=True, as_json=False, out=console(out))
    assert "/api/" not in out.getvalue()
    assert "sqlite_version()" in out.getvalue()


def test_without_sample_data_the_records_api_is_not_even_asked(cluster, server, tmp_path, out):
    run_cluster(cluster, tmp_path, sample=False, as_json=False, out=console(out))
    assert [path for _, path, *_ in server.requests if path.startswith("/api/")] == []
    assert "/api/" not in out.getvalue()


def test_the_sample_password_is_always_the_same_for_a_secret():
    assert sample_password("one") == sample_password("one") != sample_password("other")


def test_as_json_it_is_one_document(cluster, tmp_path, out, capsys):
    run_cluster(cluster, tmp_path, sample=False, as_json=True, out=console(out))
    data = json.loads(capsys.readouterr().out)
    assert data["ready"] == cluster.front_url
    assert data["token"].count(".") == 2
    assert data["nodes"][0]["databases"][0]["txid"] == 4


def test_processes_are_stopped_when_the_start_fails(cluster, tmp_path, out):
    def fail():
        raise PandoError("the port is taken")

    cluster.start = fail
    with pytest.raises(PandoError, match="taken"):
        run_cluster(cluster, tmp_path, sample=False, as_json=False, out=console(out))
    assert cluster.calls == ["stop"]


def test_on_a_terminal_the_table_is_drawn_again_and_again(cluster, tmp_path, server, out):
    terminal = Console(file=out, force_terminal=True, width=200)
    run_cluster(cluster, tmp_path, sample=False, as_json=False, out=terminal)
    asked = [path for _, path, *_ in server.requests if path == "/cluster/status"]
    assert len(asked) == 4
    assert "restarts" in out.getvalue()


def test_the_query_to_paste_is_a_shell_command_with_the_token():
    words = shlex.split(curl_line("http://h:1", "a.b.c", sample=True))
    assert words[:2] == ["curl", "-s"]
    assert "Authorization: Bearer a.b.c" in words
    body = json.loads(words[-1])
    assert "cities_fts MATCH ?" in body["requests"][0]["stmt"]["sql"]
    assert len(curl_line("http://h:1", "t", sample=True).splitlines()) == 1


def test_the_query_to_paste_answers(cluster, server):
    body = json.loads(shlex.split(curl_line(server.url, "t", sample=False))[-1])
    answer = json.loads(server._pipeline(body))
    assert answer["results"][0]["type"] == "ok"


def test_the_command_to_paste_can_be_found(tmp_path, monkeypatch):
    program = tmp_path / "bin" / "pando"
    program.parent.mkdir()
    program.write_text("#!/bin/sh")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", "/usr/bin")
    assert own_command(str(program)) == str(program)
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin")
    assert own_command(str(program)) == "pando"
    assert own_command("/x/__main__.py").endswith(" -m pando")


def test_a_node_that_is_away_has_a_row():
    text = io.StringIO()
    console(text).print(make_table(ask_nodes(["http://127.0.0.1:1"], None), {"http://127.0.0.1:1": 2}))
    assert text.getvalue().splitlines()[1].split() == ["?", "http://127.0.0.1:1", "?", "away", "2"]


def test_databases_of_one_node_share_its_head():
    databases = [DatabaseStatus(name="data", txid=1), DatabaseStatus(name="shop", txid=2, lag_bytes=5)]
    view = NodeView(node="n", role="replica", upstream_connected=False, databases=databases)
    text = io.StringIO()
    console(text).print(make_table([NodeReport(url="u", view=view)], {}))
    first, second = [line.split() for line in text.getvalue().splitlines()[1:]]
    assert first[:6] == ["n", "u", "replica", "cut", "off", "data"]
    assert second[:2] == ["shop", "0/2"]
