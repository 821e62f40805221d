"""Readers of all kinds while a client's write transaction is open past its fair time, on a primary and a replica.

Whoever waits for the write lock after that time ends the transaction. Readers do not: each is answered soon, with what
is committed, and the transaction can still be committed afterwards.
"""

import itertools
import json
import time
import urllib.error
import urllib.request

import pytest
from cluster_kit import READY_S, free_base_port, wait_until

from pando.node.local_cluster import LocalCluster
from pando.node.tokens import make_token

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

FAIR_S = 0.2
ANSWER_S = 20.0
NUMBERS = itertools.count()
COUNT = "SELECT count(*) FROM t"


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    folder = tmp_path_factory.mktemp("beside")
    made = LocalCluster(folder / "nodes", nodes=2, http=f"127.0.0.1:{free_base_port(2)}", web=1)
    made.start(READY_S)
    try:
        yield made
    finally:
        made.stop()


class Node:
    """One node, asked by an administrator."""

    def __init__(self, cluster, number):
        self.url = cluster.node_urls[number]
        self.headers = {"Authorization": f"Bearer {make_token(cluster.secret)}", "Content-Type": "application/json"}

    def send(self, method, path, body=None, **headers):
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(self.url + path, data, {**self.headers, **names}, method=method)
        try:
            with urllib.request.urlopen(request, timeout=ANSWER_S) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def pipeline(self, *texts, database, baton=None, closes=True, **headers):
        requests = [{"type": "execute", "stmt": {"sql": text}} for text in texts]
        return self.requests(requests, database=database, baton=baton, closes=closes, **headers)

    def requests(self, requests, *, database, baton=None, closes=True, **headers):
        body = {"baton": baton, "requests": [*requests, *([{"type": "close"}] if closes else [])]}
        status, answer = self.send("POST", "/v3/pipeline", body, x_namespace=database, **headers)
        assert status == 200, (status, answer)
        return json.loads(answer)


def counts(answer):
    return [int(one["response"]["result"]["rows"][0][0]["value"]) for one in answer["results"][:1]]


@pytest.fixture
def held(cluster):
    """A database in which one row is committed, and another one waits for the COMMIT of an open transaction."""
    primary, replica = Node(cluster, 0), Node(cluster, 1)
    name = f"held{next(NUMBERS)}"
    assert primary.send("POST", f"/v1/namespaces/{name}/create", {"txn_timeout_s": FAIR_S})[0] == 200
    primary.pipeline("CREATE TABLE t (v)", "INSERT INTO t VALUES (1)", database=name)
    wait_until(lambda: _shows(replica, name), ANSWER_S, "the replica shows it")
    begun = primary.pipeline("BEGIN IMMEDIATE", "INSERT INTO t VALUES (2)", database=name, closes=False)
    opened = time.monotonic()
    wait_until(lambda: time.monotonic() > opened + FAIR_S, ANSWER_S, "its fair time is over")
    yield name, primary, replica
    ended = primary.pipeline(COUNT, "COMMIT", database=name, baton=begun["baton"])
    assert [one["type"] for one in ended["results"]] == ["ok", "ok", "ok"], ended
    assert counts(ended) == [2]


def _shows(replica, name):
    status, answer = replica.send(
        "POST", "/v3/pipeline", {"requests": [{"type": "execute", "stmt": {"sql": COUNT}}]}, x_namespace=name
    )
    return status == 200 and json.loads(answer)["results"][0].get("type") == "ok"


@pytest.mark.parametrize("level", ["strong", "bounded=0"])
def test_reads_that_only_the_primary_may_answer(held, level):
    name, *nodes = held
    for node in nodes:
        assert counts(node.pipeline(COUNT, database=name, Pando_Freshness=level)) == [1]
        described = node.requests([{"type": "describe", "sql": COUNT}], database=name, Pando_Freshness=level)
        assert described["results"][0]["type"] == "ok", described
        script = node.requests([{"type": "sequence", "sql": f"{COUNT}; {COUNT}"}], database=name, Pando_Freshness=level)
        assert script["results"][0]["type"] == "ok", script


@pytest.mark.parametrize(
    ("begin", "level"), [("BEGIN READONLY", "strong"), ("BEGIN READONLY", "session"), ("BEGIN", "strong")]
)
def test_transactions_that_only_read_so_far(held, begin, level):
    """A plain BEGIN waits a second for the writer, since its client may go on to write; it can do without."""
    name, *nodes = held
    for node in nodes:
        whole = node.pipeline(begin, COUNT, "COMMIT", database=name, Pando_Freshness=level)
        assert [one["type"] for one in whole["results"]] == ["ok"] * 4, whole
        begun = node.pipeline(begin, database=name, closes=False, Pando_Freshness=level)
        read = node.pipeline(COUNT, database=name, baton=begun["baton"], closes=False, Pando_Freshness=level)
        assert counts(read) == [1]


def test_reads_of_a_database_that_is_configured_to_be_read_at_the_primary(held):
    name, *nodes = held
    wanted = {"block_reads": False, "block_writes": False, "freshness": "strong"}
    path = f"/v1/namespaces/{name}/config"
    assert nodes[0].send("POST", path, wanted)[0] == 200
    for node in nodes:
        wait_until(lambda node=node: b'"strong"' in node.send("GET", path)[1], ANSWER_S, "it knows")
        assert counts(node.pipeline(COUNT, database=name)) == [1]


def test_whoever_takes_a_copy_or_asks_how_things_stand(held):
    name, *nodes = held
    for node in nodes:
        _, answer = node.send("GET", "/info", x_namespace=name)
        generation = json.loads(answer)["current_generation"]
        asked = [
            ("GET", "/dump", None),
            ("GET", f"/cluster/export?database={name}", None),
            ("GET", f"/export/{generation}", None),
            ("GET", f"/sync/{generation}/1/2", None),
            ("POST", "/pull-updates", b""),
            ("GET", f"/v1/namespaces/{name}/stats", None),
            ("GET", f"/v1/namespaces/{name}/config", None),
            ("GET", "/v1/namespaces", None),
            ("GET", "/v1/diagnostics", None),
            ("GET", "/cluster/status", None),
            ("GET", f"/cluster/verify?database={name}", None),
            ("GET", "/metrics", None),
            ("POST", f"/v1/namespaces/{name}/fork/copy{next(NUMBERS)}", {}),
        ]
        statuses = {path: node.send(method, path, body, x_namespace=name)[0] for method, path, body in asked}
        assert statuses.pop(f"/sync/{generation}/1/2") in (200, 400)  # 400: there is no more
        assert set(statuses.values()) == {200}, statuses
