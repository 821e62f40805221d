"""`pando token`: by a node that answers, else from the secret in the directory."""

import json

import pytest
from typer.testing import CliRunner

from pando.cli.main import app
from pando.cli.token import parse_duration
from pando.node.secret import read_or_create_secret
from pando.node.tokens import Authenticator, issue_token, make_token

NOWHERE = "http://127.0.0.1:1"
ROW = {
    "id": "abc",
    "name": "shop",
    "rights": "ro",
    "databases": ["a", "b"],
    "created": "2026-01-02T03:04:05Z",
    "expires": None,
    "revoked": None,
}


class Pando:
    def __init__(self, directory):
        self.directory = directory
        self.secret = read_or_create_secret(directory)

    def __call__(self, *args, url="", token=""):
        env = {"PANDO_DIR": str(self.directory), "PANDO_URL": url, "PANDO_TOKEN": token, "COLUMNS": "200"}
        return CliRunner().invoke(app, ["token", *args], env={**env, "PANDO_SECRET": None, "JWT_SECRET": None})

    def access(self, text):
        return Authenticator(self.secret).authenticate([(b"authorization", b"Bearer " + text.strip().encode())])


@pytest.fixture
def pando(tmp_path):
    return Pando(tmp_path)


@pytest.fixture
def bodies(server):
    """What the server was sent, by path; it makes the tokens "MADE"."""
    kept = []

    def make(_query, body):
        kept.append(json.loads(body))
        return {**ROW, "token": "MADE"}

    def revoke(_query, body):
        kept.append(json.loads(body))
        return {"revoked": json.loads(body)["id"], "listed": json.loads(body)["id"] == "abc"}

    server.routes["POST", "/cluster/tokens"] = make
    server.routes["POST", "/cluster/tokens/revoke"] = revoke
    server.routes["GET", "/cluster/tokens"] = {"tokens": [ROW, {**ROW, "id": "def", "databases": None}]}
    return kept


@pytest.mark.parametrize("words", [[], ["create"]])
def test_a_node_that_answers_makes_the_token(server, pando, bodies, words):
    done = pando(*words, url=server.url)
    assert (done.exit_code, done.stdout, done.stderr, bodies) == (0, "MADE\n", "", [{}])
    sent = server.requests[0][3]["authorization"].removeprefix("Bearer ")
    assert pando.access(sent).is_admin


def test_what_is_wanted_is_passed_on(server, pando, bodies):
    done = pando(
        "create", "--read-only", "-d", "a", "-d", "b", "--expires", "1m", "--name", "n", "--json", url=server.url
    )
    assert bodies == [{"read_only": True, "databases": ["a", "b"], "expires_s": 60.0, "name": "n"}]
    assert json.loads(done.stdout) == {
        "token": "MADE",
        "id": "abc",
        "name": "n",
        "read_only": True,
        "database": None,
        "databases": ["a", "b"],
        "expires_s": 60.0,
        "listed": True,
    }
    pando("--sql-only", url=server.url)
    assert bodies[1] == {"admin": False}


@pytest.mark.parametrize("words", [[], ["create"], ["--offline"]])
def test_without_a_node_the_secret_makes_it_and_it_is_said_that_it_is_not_listed(pando, words):
    done = pando(*words, url="" if "--offline" in words else NOWHERE)
    assert done.exit_code == 0
    assert pando.access(done.stdout).is_admin
    assert "not listed" in done.stderr


def test_without_a_node_all_options_count(pando):
    done = pando("--read-only", "--database", "a", "--expires", "1m", "--json", "--offline")
    made = json.loads(done.stdout)
    access = pando.access(made["token"])
    assert (access.read_only, access.databases, made["database"], made["listed"]) == (True, {"a"}, "a", False)
    assert not pando.access(pando("--sql-only", "--offline").stdout).is_admin


def test_a_full_list_does_not_stop_who_makes_token_after_token(server, pando):
    server.fail_next = [(400, {}, b'{"code": "TOKENS_TOO_MANY", "message": "full"}')]
    done = pando(url=server.url)
    assert pando.access(done.stdout).is_admin and "not listed" in done.stderr


def test_offline_asks_nobody(server, pando, bodies):
    assert pando("--offline", url=server.url).exit_code == 0
    assert (server.requests, bodies) == ([], [])


def test_a_node_that_was_named_and_refuses_is_an_error(server, pando):
    done = pando(url=server.url)  # it has no such route
    assert (done.exit_code, done.stdout) == (1, "")
    assert "NOT_FOUND" in done.stderr


@pytest.mark.parametrize("words", [["list"], ["revoke", "abc"]])
def test_list_and_revoke_need_a_node(pando, words):
    done = pando(*words, url=NOWHERE)
    assert done.exit_code == 1
    assert "no server" in done.stderr


def test_without_secret_and_node_the_way_out_is_named(pando, tmp_path):
    (tmp_path / ".pando" / "secret").unlink()
    done = pando("--offline")
    assert done.exit_code == 2 and "PANDO_SECRET" in done.stderr
    assert "no server" in pando(url=NOWHERE).stderr


def test_the_list(server, pando, bodies):
    done = pando("list", url=server.url)
    assert [line.split()[:4] for line in done.stdout.splitlines()[1:]] == [
        ["abc", "shop", "ro", "a"],
        ["def", "shop", "ro", "all"],
    ]
    assert json.loads(pando("list", "--json", url=server.url).stdout)["tokens"][0] == ROW


def test_revoke_by_id_and_by_the_token_itself(server, pando, bodies):
    done = pando("revoke", "abc", url=server.url)
    assert (done.stdout, done.stderr) == ("revoked abc\n", "")
    made = issue_token(pando.secret)
    done = pando("revoke", made.token, "--json", url=server.url)
    assert json.loads(done.stdout) == {"revoked": made.id, "listed": False}
    assert "no token with the id" in done.stderr
    assert bodies == [{"id": "abc"}, {"id": made.id}]


def test_a_token_without_an_id_cannot_be_revoked(server, pando, bodies):
    done = pando("revoke", "a.b.c", url=server.url)
    assert done.exit_code == 2 and "PANDO_SECRET" in done.stderr
    assert bodies == []


@pytest.mark.parametrize(
    "words", [["revoke"], ["list", "abc"], ["create", "abc"], ["forget"], ["--expires", "soon"], ["-d", "../x"]]
)
def test_wrong_use(pando, words):
    assert pando(*words, "--offline").exit_code == 2


def test_a_server_that_is_no_pando_is_told_apart(server, pando):
    server.routes["GET", "/cluster/tokens"] = {"tokens": 7}
    done = pando("list", url=server.url)
    assert done.exit_code == 1 and "NOT_PANDO" in done.stderr


def test_tokens_made_in_both_ways_are_alike(pando):
    assert pando.access(make_token(pando.secret)) == pando.access(pando("--offline").stdout)
    assert parse_duration("1m") == 60
