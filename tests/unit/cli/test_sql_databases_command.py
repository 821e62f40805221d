"""`pando databases`: what it asks of the admin API, what it says, and how it ends."""

import json

import pytest
from typer.testing import CliRunner

from pando.cli.main import app

DATABASES = [
    {"name": "data", "size_bytes": 4096, "block_reads": False, "block_writes": False, "max_db_size": None},
    {"name": "shop", "size_bytes": 8192, "block_reads": True, "block_writes": True, "max_db_size": 1 << 20},
]


@pytest.fixture
def pando(server, tmp_path):
    def run(*args, url=server.url):
        env = {"PANDO_URL": url, "PANDO_DIR": str(tmp_path), "PANDO_TOKEN": "t", "COLUMNS": "200"}
        return CliRunner().invoke(app, list(args), env=env)

    return run


def noting(server, method, path, answer=b""):
    """A route that gives an answer; what is sent to it is in the list."""
    bodies = []
    server.routes[method, path] = lambda query, body: bodies.append(json.loads(body) if body else query) or answer
    return bodies


def test_the_list_is_read_to_its_end(server, pando):
    pages = iter([{"namespaces": DATABASES[:1], "next": "data"}, {"namespaces": DATABASES[1:], "next": None}] * 2)
    asked = noting(server, "GET", "/v1/namespaces")
    server.routes["GET", "/v1/namespaces"] = lambda query, body: asked.append(query) or next(pages)
    lines = pando("databases", "list").stdout.splitlines()
    assert lines[2].split() == ["shop", "8.0", "KiB", "1.0", "MiB", "reads", "and", "writes"]
    assert [query.get("after") for query in asked] == [None, "data"]
    data = json.loads(pando("databases", "--json").stdout)
    assert (data["databases"], data["details"]) == (["data", "shop"], DATABASES)


def test_a_database_is_made_with_its_settings(server, pando, tmp_path):
    bodies = noting(server, "POST", "/v1/namespaces/new/create")
    key = tmp_path / "key.pem"
    key.write_text("the key")
    options = ["--max-size", "5MB", "--txn-timeout", "2.5", "--freshness", "strong", "--jwt-key", str(key)]
    done = pando("databases", "create", "new", *options, "--dump-url", "http://h/d.sql")
    assert done.stdout == "created new\n"
    wanted = {"max_db_size": "5MB", "txn_timeout_s": 2.5, "freshness": "strong", "jwt_key": "the key"}
    assert bodies == [{**wanted, "dump_url": "http://h/d.sql"}]


def test_a_copy_is_made(server, pando):
    bodies = noting(server, "POST", "/v1/namespaces/data/fork/copy")
    assert json.loads(pando("databases", "fork", "default", "copy", "--json").stdout)["created"] == "copy"
    assert bodies == [{}]


def test_deleting_wants_to_be_meant(server, pando):
    asked = noting(server, "DELETE", "/v1/namespaces/shop")
    refused = pando("databases", "delete", "shop")
    assert (refused.exit_code, asked) == (2, [])
    assert "give --yes" in refused.stderr
    assert pando("databases", "delete", "shop", "--yes").stdout == "deleted shop\n"
    assert len(asked) == 1


def test_the_configuration_is_shown_and_changed(server, pando):
    state = {"block_reads": False, "block_writes": True, "block_reason": "x", "max_db_size": None, "freshness": None}
    server.routes["GET", "/v1/namespaces/shop/config"] = state
    bodies = noting(server, "POST", "/v1/namespaces/shop/config")
    lines = [line.split() for line in pando("databases", "config", "shop").stdout.splitlines()]
    assert ["block_writes", "True"] in lines
    assert bodies == []
    done = pando("databases", "config", "shop", "--block-reads", "--max-size", "none", "--json")
    assert json.loads(done.stdout) == state
    assert bodies == [{"block_reads": True, "block_writes": True, "block_reason": "x", "max_db_size": None}]
    pando("databases", "config", "shop", "--allow-writes")
    assert bodies[1] == {"block_reads": False, "block_writes": False, "block_reason": None}


def test_statistics_are_tables(server, pando):
    slow = {"elapsed_ms": 12, "elapsed_us": 12500, "query": "select\n 1", "rows_read": 3, "rows_written": 0}
    insights = {"count": 7, "elapsed": {"sum": 13.0, "p50": 0.25}}
    told = {"id": "shop", "query_count": 7, "slowest_queries": [slow], "queries": insights}
    server.routes["GET", "/v1/namespaces/shop/stats"] = told
    lines = [line.split() for line in pando("databases", "stats", "shop").stdout.splitlines()]
    assert ["query_count", "7"] in lines
    assert ["p50_ms", "0.25"] in lines
    assert ["12.5", "3", "0", "select", "1"] in lines
    assert json.loads(pando("databases", "stats", "shop", "--json").stdout)["query_count"] == 7


def test_a_dump_goes_to_a_new_file_or_to_standard_output(server, pando, tmp_path):
    asked = []
    server.routes["GET", "/dump"] = lambda query, body: asked.append(query) or b"BEGIN;\nCOMMIT;\n"
    file = tmp_path / "shop.sql"
    assert pando("databases", "dump", "shop", str(file)).exit_code == 0
    assert file.read_text() == "BEGIN;\nCOMMIT;\n"
    assert server.requests[-1][3]["x-namespace"] == "shop"
    assert pando("databases", "dump", "shop", "--no-row-ids").stdout == "BEGIN;\nCOMMIT;\n"
    assert pando("databases", "dump", "shop", "-").stdout == "BEGIN;\nCOMMIT;\n"
    assert [query["preserve_row_ids"] for query in asked] == ["true", "false", "true"]
    assert pando("databases", "dump", "shop", str(file)).exit_code == 2
    assert pando("databases", "dump", "shop", "--json").exit_code == 2
    server.fail_next.append((404, {}, b'{"error": "gone", "code": "UNKNOWN_DATABASE"}'))
    assert pando("databases", "dump", "gone", str(tmp_path / "gone.sql")).exit_code == 1
    assert not (tmp_path / "gone.sql").exists()


def test_a_database_file_is_no_script(server, pando, tmp_path):
    (tmp_path / "shop.db").write_bytes(b"SQLite format 3\x00" + b"x" * 100)
    done = pando("databases", "load", "shop", str(tmp_path / "shop.db"))
    assert (done.exit_code, "`pando import` takes it" in done.stderr) == (2, True)
    assert not server.requests


def test_a_script_is_loaded_with_progress(server, pando, tmp_path):
    sent = []
    server.routes["POST", "/v1/namespaces/shop/load"] = lambda query, body: sent.append(body) or b""
    file = tmp_path / "shop.sql"
    file.write_bytes(b"BEGIN;COMMIT;")
    done = pando("databases", "load", "shop", str(file))
    assert (done.exit_code, sent) == (0, [b"BEGIN;COMMIT;"])
    assert "loading shop.sql: 100 %" in done.stderr
    assert pando("databases", "load", "shop", str(tmp_path / "none.sql")).exit_code == 2


@pytest.mark.parametrize(
    "args",
    [
        ("fork", "a"),
        ("fork", "a", "../b"),
        ("config", "shop", "--txn-timeout", "soon"),
        ("create", "shop", "--jwt-key", "/none"),
        ("rename", "a", "b"),
    ],
)
def test_wrong_use_ends_with_2(pando, args):
    assert pando("databases", *args).exit_code == 2


def test_options_may_stand_before_the_command(server, pando):
    noting(server, "POST", "/v1/namespaces/new/create")
    done = pando("databases", "--url", server.url, "--token", "T", "create", "new", url="")
    assert (done.exit_code, server.requests[-1][3]["authorization"]) == (0, "Bearer T")
