"""Addresses, limits and the rows of sign-ins on a primary and a replica, each with two web processes."""

import http.client
import json
from urllib.parse import urlsplit

import pytest
from cluster_kit import wait_until
from records_cluster_kit import ANSWER_S, PASSWORD, Cluster

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]
SIGN_IN = "collections/users/auth-with-password"
RECORDS = "collections/things/records"


class Protected(Cluster):
    """The kit's cluster, asked from addresses of this machine."""

    def ask(self, node, method, path, body=None, *, at="127.0.0.1", token="", **headers):
        """Ask on a connection of its own; gives the status and the JSON."""
        parts = urlsplit(node.url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=ANSWER_S, source_address=(at, 0))
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if token:
            sent["Authorization"] = token
        if body is not None:
            sent["Content-Type"] = "application/json"
        try:
            connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), sent)
            answer = connection.getresponse()
            text = answer.read()
            return answer.status, json.loads(text) if text else None
        finally:
            connection.close()

    def settings(self, at="127.0.0.1", **groups):
        status, told = self.ask(self.primary, "PATCH", "settings", groups, at=at, token=self.su)
        assert status == 200, told

    def limit(self, label, most):
        rules = [{"label": label, "maxRequests": most, "duration": 3000}]
        self.settings(rateLimits={"enabled": True, "rules": rules})

    def user(self, who):
        values = {"email": f"{who}@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD}
        return self.primary.json("POST", "collections/users/records", values, token=self.su)

    def rows(self, node, collection):
        return node.json("GET", f"collections/{collection}/records", token=self.su)["items"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Protected(tmp_path_factory.mktemp("protected")).start()
    made.collection("things", {"name": "title", "type": "text"})
    yield made
    made.stop()


def test_the_primary_counts_what_comes_through_replicas_by_its_clients(cluster):
    cluster.limit("*:create", 3)
    both = [cluster.primary, cluster.replica]

    def create(node, at, **headers):
        return cluster.ask(node, "POST", RECORDS, {"title": "x"}, at=at, **headers)[0]

    assert [create(node, "127.0.0.2") for node in (*both, *both)] == [200, 200, 200, 429]
    assert [create(node, "127.0.0.3") for node in both] == [200, 200]
    forged = {"pando_client": f"1.{'0' * 64}.127.0.0.9", "x_forwarded_for": "127.0.0.9"}
    assert [create(node, "127.0.0.2", **forged) for node in both] == [429, 429]


def test_tries_to_sign_in_are_counted_in_one_place(cluster):
    cluster.user("tries")
    cluster.limit("*:auth", 4)
    wrong = {"identity": "tries@example.com", "password": "wrong"}
    nodes = [cluster.primary, cluster.replica] * 5
    told = [cluster.ask(node, "POST", SIGN_IN, wrong, at="127.0.0.4")[0] for node in nodes]
    assert told == [400] * 4 + [429] * 6
    cluster.settings(rateLimits={"enabled": False})


def test_superusers_ask_from_where_the_settings_say_through_any_node(cluster):
    cluster.settings(superuserIPs=["127.0.0.7", "127.0.0.1"])
    for node in (cluster.primary, cluster.replica):
        wait_until(lambda node=node: asked(cluster, node, "127.0.0.8") == {403}, 20, node.logs)
        assert asked(cluster, node, "127.0.0.7") == {200}
        assert cluster.ask(node, "GET", RECORDS, at="127.0.0.8")[0] == 200
    cluster.settings(superuserIPs=[])


def asked(cluster, node, at):
    """Statuses of a read and a write of a superuser."""
    told = [
        cluster.ask(node, "GET", "settings", at=at, token=cluster.su),
        cluster.ask(node, "PATCH", "settings", {"meta": {"appName": "Acme"}}, at=at, token=cluster.su),
        cluster.ask(node, "POST", RECORDS, {"title": "y"}, at=at, token=cluster.su),
    ]
    return {status for status, _ in told}


def test_a_sign_in_at_a_replica_is_noted_by_the_primary(cluster):
    made = cluster.user("places")
    body = {"identity": "places@example.com", "password": PASSWORD}
    for agent in ("one", "two", "one"):
        status, _ = cluster.ask(cluster.replica, "POST", SIGN_IN, body, user_agent=agent)
        assert status == 200

    def noted():
        return len([each for each in cluster.rows(cluster.primary, "_authOrigins") if each["recordRef"] == made["id"]])

    wait_until(lambda: noted() == 2, 20, cluster.replica.logs)


def test_the_steps_of_a_sign_in_may_go_to_different_nodes(cluster):
    made = cluster.user("steps")
    change = {"mfa": {"enabled": True, "duration": 600}, "otp": {"enabled": True, "duration": 180, "length": 8}}
    cluster.primary.json("PATCH", "collections/users", change, token=cluster.su)
    body = {"identity": "steps@example.com", "password": PASSWORD}
    status, told = cluster.ask(cluster.replica, "POST", SIGN_IN, body)
    assert (status, list(told)) == (401, ["mfaId"])
    [row] = cluster.rows(cluster.primary, "_mfas")
    assert (row["id"], row["recordRef"]) == (told["mfaId"], made["id"])
    assert cluster.ask(cluster.primary, "POST", SIGN_IN, {**body, "mfaId": row["id"]})[0] == 400, "the same way twice"
    other = {"collectionRef": row["collectionRef"], "recordRef": made["id"], "method": "otp"}
    begun = cluster.primary.json("POST", "collections/_mfas/records", other, token=cluster.su)
    status, told = cluster.ask(cluster.replica, "POST", f"{SIGN_IN}?mfaId={begun['id']}", body)
    assert status == 200 and told["record"]["id"] == made["id"]
    assert cluster.ask(cluster.primary, "POST", SIGN_IN, {**body, "mfaId": begun["id"]})[0] == 400, "once"
    cluster.primary.json("PATCH", "collections/users", {"mfa": {"enabled": False}}, token=cluster.su)


def test_without_a_primary_one_can_sign_in_still(cluster):
    cluster.user("alone")
    body = {"identity": "alone@example.com", "password": PASSWORD}
    cluster.limit("*:auth", 3)
    assert cluster.ask(cluster.replica, "POST", SIGN_IN, body)[0] == 200
    cluster.primary.stop()
    cluster.nodes.remove(cluster.primary)
    told = [cluster.ask(cluster.replica, "POST", SIGN_IN, body)[0] for _ in range(4)]
    assert told == [200, 200, 200, 429], "then each node counts for itself"
