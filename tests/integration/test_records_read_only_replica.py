"""A replica with `replica_writes = reject`: reads and sign-in there, writes refused, the primary named."""

import json
from urllib.parse import urlsplit

import pytest
from cluster_kit import READY_S, free_base_port, wait_until
from records_cluster_kit import PASSWORD, Node

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes(tmp_path):
    port = free_base_port(2)
    primary = Node(tmp_path / "n1", port, name="n1")
    started = [primary]
    try:
        reject = ["--replica-writes", "reject"]
        started.append(Node(tmp_path / "n2", port + 1, name="n2", primary=primary.url, more=reject))
        for node in started:
            wait_until(node.is_ready, READY_S, node.logs)
        yield started
    finally:
        for node in reversed(started):
            node.stop()


def test_reads_and_sign_in_there_and_writes_at_the_primary(nodes):
    primary, replica = nodes
    primary.json("GET", "collections/users/auth-methods")
    user = {"email": "a@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD}
    path = "collections/users/records"
    made = primary.json("POST", path, user)

    refused = replica.ask("POST", path, {**user, "email": "b@example.com"})
    assert refused.status == 403
    assert json.loads(refused.body)["code"] == "REPLICA_READ_ONLY"
    assert refused.headers["X-Replica-Id"] == "n2"
    assert refused.headers["X-Replica-Mode"] == "true"
    to = refused.headers["X-Master-Url"]
    assert urlsplit(to).port == urlsplit(primary.url).port

    identity = {"identity": "a@example.com", "password": PASSWORD}
    signing_in = replica.ask("POST", "collections/users/auth-with-password", identity)
    assert signing_in.status == 200 and signing_in.headers["X-Replica-Id"] == "n2"
    token = json.loads(signing_in.body)["token"]
    assert replica.json("GET", f"{path}/{made['id']}", token=token)["email"] == "a@example.com"
    for method, place in (("PATCH", f"{path}/{made['id']}"), ("DELETE", f"{path}/{made['id']}"), ("POST", "batch")):
        assert replica.ask(method, place, {"name": "x"}, token=token).status == 403
    with replica.stream() as stream:
        assert stream is not None

    status = replica.json("GET", "replica/status")
    assert (status["replica"], status["replicaId"], status["connected"], status["writes"]) == (
        True,
        "n2",
        True,
        "reject",
    )
    assert status["masterUrl"] == to
    told = primary.ask("GET", "replica/status")
    assert "X-Replica-Id" not in told.headers and json.loads(told.body)["replica"] is False
