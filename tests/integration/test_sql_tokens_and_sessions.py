"""Who may ask, and how fresh the answer is, with real nodes: tokens on each of them, a replica that is held up."""

import http.client
import json
import os
import signal
from base64 import b64encode, urlsafe_b64encode
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import jwt
import pytest
from cluster_kit import READY_S, free_base_port, wait_until
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from typer.testing import CliRunner
from websockets.sync.client import connect

from pando.cli.main import app
from pando.node.local_cluster import LocalCluster
from pando.node.tokens import make_token

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

PRIVATE = Ed25519PrivateKey.generate()
PUBLIC = urlsafe_b64encode(PRIVATE.public_key().public_bytes_raw()).decode()
BASIC = b64encode(b"me:secret").decode()
COUNT = "SELECT count(*) FROM notes WHERE key = ?"
INSERT = "INSERT INTO notes VALUES (?)"
SOON_S = 20.0
"""For what takes milliseconds on a machine that has nothing else to do."""
ANSWER_S = 20.0
CONNECTIONS = 8
"""So many new ones reach all web processes of a node."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sessions")
    config = folder / "settings.toml"
    settings = {
        "bookmark_wait_s": 0.05,
        "sql_jwt_key": PUBLIC,
        "sql_http_auth": f"basic:{BASIC}",
        "sql_token_tag": "blue",
    }
    config.write_text("".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items()))
    http_address = f"127.0.0.1:{free_base_port(2)}"
    made = LocalCluster(folder / "nodes", nodes=2, http=http_address, web=2, flags=["--config", str(config)])
    made.start(READY_S)
    try:
        assert ask(made.node_urls[0], "CREATE TABLE notes (key TEXT PRIMARY KEY)", headers=anybody(made)).status == 200
        yield made
    finally:
        made.stop()


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    json: object

    @property
    def results(self):
        assert self.status == 200, (self.status, self.json)
        found = self.json["results"][0] if "results" in self.json else {"response": self.json}
        return found["response"]["result"]

    @property
    def value(self):
        """The only value of a read."""
        return int(self.results["rows"][0][0]["value"])

    @property
    def bookmark(self):
        return self.headers["pando-bookmark"]


def send(url, method, path, body, headers):
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=ANSWER_S)
    try:
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        found = connection.getresponse()
        names = {name.lower(): value for name, value in found.getheaders()}
        return Answer(found.status, names, json.loads(found.read() or b"null"))
    finally:
        connection.close()


def ask(url, sql, *args, headers, path="/v2/pipeline", **more):
    """Run one statement on a connection of its own."""
    stmt = {"sql": sql, "args": [{"type": "text", "value": arg} for arg in args], **more}
    if path.startswith("/v1/"):
        return send(url, "POST", path, {"stmt": stmt}, headers)
    return send(url, "POST", path, {"requests": [{"type": "execute", "stmt": stmt}, {"type": "close"}]}, headers)


def bearer(token):
    return {"Authorization": f"Bearer {token}"}


def anybody(cluster):
    """Somebody whom no node has seen yet, and who may do everything."""
    return bearer(make_token(cluster.secret))


# -- who may ask -------------------------------------------------------------------------------------------------------


def elsewhere(**claims):
    return bearer(jwt.encode(claims, PRIVATE, algorithm="EdDSA"))


@pytest.mark.parametrize(
    ("headers", "read", "write"),
    [
        (lambda _: {}, 401, 401),
        (lambda _: bearer("x"), 401, 401),
        (lambda secret: bearer(make_token(secret, read_only=True)), 200, 403),
        (lambda secret: bearer(make_token(secret, databases=["data", "other"])), 200, 200),
        (lambda secret: bearer(make_token(secret, database="other")), 404, 404),
        (lambda secret: bearer(make_token(secret, life_s=-1)), 401, 401),
        (lambda secret: {"x-authorization": f"Bearer {make_token(secret, read_only=True)}"}, 200, 403),
        (lambda _: {"Authorization": f"Basic {BASIC}"}, 200, 200),
        (lambda _: {"Authorization": f"Basic {BASIC[4:]}"}, 401, 401),
        (lambda _: elsewhere(), 200, 200),
        (lambda _: elsewhere(a="ro"), 200, 403),
        (lambda _: elsewhere(id="other"), 404, 404),
        (lambda _: elsewhere(p={"ro": {"ns": ["default"]}, "rw": {"ns": ["other"]}}), 200, 403),
        (lambda _: elsewhere(p={"rw": {"tags": ["blue"]}}), 200, 200),
        (lambda _: elsewhere(p={"rw": {"tags": ["red"]}}), 404, 404),
        (lambda _: elsewhere(exp=1), 401, 401),
    ],
)
def test_rights_are_the_same_on_every_node_and_route(cluster, headers, read, write):
    for url in cluster.node_urls:
        for path in ("/v2/pipeline", "/v1/execute"):
            asked = headers(cluster.secret)
            assert ask(url, "SELECT 1", headers=asked, path=path).status == read, (url, path)
            assert ask(url, "DELETE FROM notes WHERE key = 'x'", headers=asked, path=path).status == write, (url, path)


def administer(url, cluster, method, path, body=None):
    answer = send(url, method, path, body, anybody(cluster))
    assert answer.status in (200, 201), answer
    return answer.json


def test_a_revoked_token_is_refused_by_every_process_of_every_node_soon(cluster):
    primary, replica = cluster.node_urls
    made = administer(replica, cluster, "POST", "/cluster/tokens", {"name": "short of life"})
    token = bearer(made["token"])
    places = [(url, headers) for url in cluster.node_urls for headers in [token] * CONNECTIONS]
    assert {ask(url, "SELECT 1", headers=headers).status for url, headers in places} == {200}
    with Socket(replica, jwt=made["token"]) as held:
        assert held.read("SELECT 1 WHERE ?1 = 'x'", "x") == 1
        administer(primary, cluster, "POST", "/cluster/tokens/revoke", {"id": made["id"]})
        wait_until(
            lambda: {ask(url, "SELECT 1", headers=headers).status for url, headers in places} == {401},
            SOON_S,
            "everybody refuses it",
        )
        assert held.ask("SELECT 1")["error"]["code"] == "AUTH_JWT_INVALID"
    for url in cluster.node_urls:
        listed = administer(url, cluster, "GET", "/cluster/tokens")["tokens"]
        assert [bool(row["revoked"]) for row in listed if row["name"] == "short of life"] == [True]
        assert made["token"] not in json.dumps(listed)


def test_the_command_makes_lists_and_revokes_tokens_at_any_node(cluster):
    replica = cluster.node_urls[1]

    def pando(*words):
        env = {"PANDO_URL": replica, "PANDO_SECRET": cluster.secret, "PANDO_TOKEN": None}
        done = CliRunner().invoke(app, ["token", *words, "--json"], env=env)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout)

    made = pando("create", "--read-only", "-d", "data", "--expires", "1h", "--name", "by command")
    assert made["listed"] is True
    for url in cluster.node_urls:
        assert ask(url, "SELECT 1", headers=bearer(made["token"])).status == 200
        assert ask(url, "DELETE FROM notes", headers=bearer(made["token"])).status == 403
    (listed,) = [row for row in pando("list")["tokens"] if row["name"] == "by command"]
    assert (listed["id"], listed["rights"], listed["databases"], listed["revoked"]) == (
        made["id"],
        "ro",
        ["data"],
        None,
    )
    assert pando("revoke", made["token"]) == {"revoked": made["id"], "listed": True}
    wait_until(
        lambda: {ask(url, "SELECT 1", headers=bearer(made["token"])).status for url in cluster.node_urls} == {401},
        SOON_S,
        "it is refused everywhere",
    )


def test_a_process_that_starts_refuses_what_was_revoked_before_from_its_first_answer_on(cluster):
    replica = cluster.nodes[1]
    made = administer(replica.url, cluster, "POST", "/cluster/tokens", {"name": "revoked before"})
    administer(replica.url, cluster, "POST", "/cluster/tokens/revoke", {"id": made["id"]})
    before = {role: pid for role, pid in replica.processes().items() if role.startswith("web")}
    answered = []

    def are_new():
        """Asks on, and tells whether other processes answer now."""
        for _ in range(CONNECTIONS):
            with suppress(OSError, http.client.HTTPException):  # a process that is being killed
                answered.append(ask(replica.url, "SELECT 1", headers=bearer(made["token"])).status)
        now = replica.processes()
        are_others = all(now.get(role, pid) != pid for role, pid in before.items())
        return are_others and answered[-CONNECTIONS:] == [401] * CONNECTIONS

    wait_until(lambda: ask(replica.url, "SELECT 1", headers=bearer(made["token"])).status == 401, SOON_S, "revoked")
    for pid in before.values():
        os.kill(pid, signal.SIGKILL)
    wait_until(are_new, SOON_S, "processes that started after the revocation")
    assert set(answered) <= {401, 503}


OWN = Ed25519PrivateKey.generate()
OWN_PUBLIC = urlsafe_b64encode(OWN.public_key().public_bytes_raw()).decode()


def configure(cluster, **config):
    """Configure the usual database, at the replica, which passes it on."""
    body = {"block_reads": False, "block_writes": False, **config}
    administer(cluster.node_urls[1], cluster, "POST", "/v1/namespaces/data/config", body)


def test_a_database_with_a_key_of_its_own_takes_tokens_of_that_key_and_the_clusters(cluster):
    own = bearer(jwt.encode({}, OWN, algorithm="EdDSA"))
    asked = [own, elsewhere(), {"Authorization": f"Basic {BASIC}"}, anybody(cluster)]

    def statuses():
        """What each is answered, the same by all processes of all nodes, else nothing."""
        found = {
            tuple(ask(url, "SELECT 1", headers=headers).status for headers in asked)
            for url in cluster.node_urls
            for _ in range(CONNECTIONS)
        }
        return found.pop() if len(found) == 1 else ()

    assert statuses() == (401, 200, 200, 200)
    configure(cluster, jwt_key=OWN_PUBLIC)
    try:
        wait_until(lambda: statuses() == (200, 401, 401, 200), SOON_S, statuses)
    finally:
        configure(cluster, jwt_key=None)
    wait_until(lambda: statuses() == (401, 200, 200, 200), SOON_S, statuses)


# -- how fresh ---------------------------------------------------------------------------------------------------------


@contextmanager
def held_up(cluster):
    """The replica takes commits and does not show them."""
    primary, replica = cluster.node_urls
    applier = cluster.nodes[1].processes()["applier"]
    os.kill(applier, signal.SIGSTOP)
    try:
        yield primary, replica
    finally:
        os.kill(applier, signal.SIGCONT)

    def newest(url):
        return ask(url, "SELECT count(*) FROM notes", headers=anybody(cluster)).value

    wait_until(lambda: newest(replica) == newest(primary), SOON_S, "the replica shows everything again")


class Socket:
    """A WebSocket with one stream."""

    def __init__(self, url, *, jwt, headers=()):
        self._open = connect(
            url.replace("http", "ws", 1), subprotocols=["hrana3"], compression=None, additional_headers=dict(headers)
        )
        self._connection = self._open.__enter__()
        self._send({"type": "hello", "jwt": jwt})
        self._send({"type": "request", "request_id": 1, "request": {"type": "open_stream", "stream_id": 1}})
        assert self._receive() == {"type": "hello_ok"}
        self._receive()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._open.__exit__(None, None, None)

    def _send(self, message):
        self._connection.send(json.dumps(message))

    def _receive(self):
        return json.loads(self._connection.recv(timeout=ANSWER_S))

    def ask(self, sql, *args, **more):
        stmt = {"sql": sql, "args": [{"type": "text", "value": arg} for arg in args], **more}
        request = {"type": "execute", "stream_id": 1, "stmt": stmt}
        self._send({"type": "request", "request_id": 2, "request": request})
        return self._receive()

    def read(self, sql, *args, **more):
        return int(self.ask(sql, *args, **more)["response"]["result"]["rows"][0][0]["value"])


def test_each_level_on_a_replica_that_is_held_up(cluster):
    with held_up(cluster) as (primary, replica):
        written = ask(primary, INSERT, "levels", headers=anybody(cluster))
        bookmark, index = written.bookmark, int(written.bookmark.rpartition(".")[2], 16)
        expected = [
            ({}, {}, 0),
            ({"Pando-Freshness": "eventual"}, {}, 0),
            ({"Pando-Freshness": "session"}, {}, 0),
            ({"Pando-Freshness": "eventual", "Pando-Bookmark": bookmark}, {}, 0),
            ({"Pando-Bookmark": bookmark}, {}, 1),
            ({"Cookie": f"a=b; pando_bookmark={bookmark}"}, {}, 1),
            ({"Pando-Freshness": "session", "Pando-Bookmark": bookmark}, {}, 1),
            ({}, {"replication_index": str(index)}, 1),
            ({}, {"replication_index": index}, 1),
            ({"Pando-Freshness": "bounded=60000"}, {}, 1),
            ({"Pando-Freshness": "strong"}, {}, 1),
        ]
        for headers, more, seen in expected:
            for path in ("/v2/pipeline", "/v1/execute"):
                answer = ask(replica, COUNT, "levels", headers={**headers, **anybody(cluster)}, path=path, **more)
                assert answer.value == seen, (path, headers, more)
            with Socket(replica, jwt=make_token(cluster.secret), headers=headers) as socket:
                assert socket.read(COUNT, "levels", **more) == seen, ("WebSocket", headers, more)


def test_an_index_that_no_commit_has_yet_is_not_waited_for_for_ever(cluster):
    for url in cluster.node_urls:
        assert ask(url, COUNT, "none", headers=anybody(cluster), replication_index=10**9).value == 0


def test_a_client_with_nothing_but_its_token_reads_its_writes_on_one_node(cluster):
    with held_up(cluster) as (_, replica):
        me = anybody(cluster)
        assert ask(replica, INSERT, "mine", headers=me).status == 200
        assert [ask(replica, COUNT, "mine", headers=me).value for _ in range(CONNECTIONS)] == [1] * CONNECTIONS
        assert ask(replica, COUNT, "mine", headers=anybody(cluster)).value == 0
        assert ask(replica, COUNT, "mine", headers={**me, "Pando-Freshness": "eventual"}).value == 0
        with Socket(replica, jwt=me["Authorization"].removeprefix("Bearer ")) as socket:
            assert socket.read(COUNT, "mine") == 1
    assert ask(replica, COUNT, "mine", headers=anybody(cluster)).value == 1


@dataclass
class Balanced:
    """A client of a balancer that sends each request to another node; it carries a bookmark, or cookies."""

    urls: list[str]
    token: dict[str, str]
    by_cookie: bool
    kept: dict[str, str] = field(default_factory=dict)
    asked: int = 0

    def __call__(self, sql, *args):
        self.asked += 1
        answer = ask(self.urls[self.asked % len(self.urls)], sql, *args, headers={**self.token, **self.kept})
        if self.by_cookie:
            self.kept = {"Cookie": answer.headers.get("set-cookie", "begun=1").partition(";")[0]}
        else:
            self.kept = {"Pando-Bookmark": answer.bookmark}
        return answer


@pytest.mark.parametrize("by_cookie", [False, True])
def test_a_client_that_carries_its_bookmark_reads_its_writes_behind_a_balancer(cluster, by_cookie):
    with held_up(cluster) as urls:
        client = Balanced(list(urls), anybody(cluster), by_cookie, {"Cookie": "begun=1"} if by_cookie else {})
        seen = 0
        for number in range(3):
            assert client(INSERT, f"{by_cookie} {number}").status == 200
            for _ in range(2):
                counted = client("SELECT count(*) FROM notes").value
                assert counted >= seen
                seen = counted
            assert client(COUNT, f"{by_cookie} {number}").value == 1


def test_a_database_that_is_configured_to_be_read_at_the_primary(cluster):
    configure(cluster, freshness="strong")
    try:
        wait_until(lambda: freshness_at(cluster, cluster.node_urls[1]) == {"strong"}, SOON_S, "the replica knows it")
        with held_up(cluster) as (primary, replica):
            ask(primary, INSERT, "by default", headers=anybody(cluster))
            for _ in range(CONNECTIONS):
                assert ask(replica, COUNT, "by default", headers=anybody(cluster)).value == 1
            eventual = {"Pando-Freshness": "eventual", **anybody(cluster)}
            assert ask(replica, COUNT, "by default", headers=eventual).value == 0
            with Socket(replica, jwt=make_token(cluster.secret)) as socket:
                assert socket.read(COUNT, "by default") == 1
    finally:
        configure(cluster, freshness=None)


def freshness_at(cluster, url):
    """What the processes of a node know to be configured."""
    path = "/v1/namespaces/data/config"
    return {administer(url, cluster, "GET", path)["freshness"] for _ in range(CONNECTIONS)}
