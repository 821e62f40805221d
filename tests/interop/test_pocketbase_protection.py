"""Rate limits, superusers' addresses, second factors and batches: PocketBase and Pando give the same statuses."""

import http.client
import json
from concurrent.futures import ThreadPoolExecutor

import pytest
from pocketbase_program import ROOT, need_pocketbase, served_pando, served_pocketbase

pytestmark = [pytest.mark.interop, pytest.mark.full, pytest.mark.timeout(600)]
SIGN_IN = "collections/{}/auth-with-password"
ROOT_BODY = {"identity": ROOT[0], "password": ROOT[1]}
ANN = {"email": "ann@example.com", "password": "12345678", "passwordConfirm": "12345678"}
ANN_BODY = {"identity": ANN["email"], "password": ANN["password"]}


class Side:
    """One of the two, asked on a connection for each request."""

    def __init__(self, served):
        self.host, _, port = served.address.partition(":")
        self.port = int(port)
        self.root = self.ask("POST", SIGN_IN.format("_superusers"), ROOT_BODY)[1]["token"]

    def ask(self, method, path, body=None, *, token="", at=""):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=30)
        headers = {"Content-Type": "application/json"}
        headers |= {"Authorization": token} if token else {}
        headers |= {"X-Forwarded-For": at} if at else {}
        try:
            connection.request(method, f"/api/{path}", None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        return answer.status, json.loads(text) if text else None

    def change(self, at="", **groups):
        status, told = self.ask("PATCH", "settings", groups, token=self.root, at=at)
        assert status == 200, told

    def limited(self, rules, asks):
        """Set rules, which begins all counters anew, and give the statuses of requests."""
        keys = ("label", "maxRequests", "duration", "audience")
        made = [dict(zip(keys, (label, most, 60, audience), strict=True)) for label, most, audience in rules]
        self.change(rateLimits={"enabled": True, "rules": made})
        told = [self.ask(*ask)[0] for ask in asks]
        self.change(rateLimits={"enabled": False})
        return told


@pytest.fixture(scope="module")
def sides(tmp_path_factory):
    need_pocketbase()
    folder = tmp_path_factory.mktemp("protection")
    with served_pocketbase(folder / "theirs") as theirs, served_pando(folder / "ours") as ours:
        made = [Side(theirs), Side(ours)]
        rules = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"), "")
        for side in made:
            for name in "ab":
                body = {"name": name, "fields": [{"name": "t", "type": "text"}], **rules}
                assert side.ask("POST", "collections", body, token=side.root)[0] == 200
            assert side.ask("POST", "collections/users/records", ANN)[0] == 200
        yield made


def same(sides, do):
    """Do the same on both; gives what both gave."""
    with ThreadPoolExecutor(2) as pool:
        theirs, ours = pool.map(do, sides)
    assert ours == theirs
    return ours


LA, LB, HEALTH = ("GET", "collections/a/records"), ("GET", "collections/b/records"), ("GET", "health")
CA, CB = (("POST", f"collections/{name}/records", {"t": "x"}) for name in "ab")
WRONG = ("POST", SIGN_IN.format("users"), {"identity": "x", "password": "y"})
WRONG_ROOT = ("POST", SIGN_IN.format("_superusers"), {"identity": "x", "password": "y"})
PUT = {"method": "PUT", "url": "/api/collections/a/records", "body": {"t": "x"}}
BATCH = ("POST", "batch", {"requests": [{**PUT, "method": "POST"}] * 3})
LIMITS = [
    ([("*:create", 2, "")], [CA, CA, CB, CB, CB, CA, LA]),
    ([("a:create", 2, ""), ("*:create", 1, "")], [CA, CA, CA, CB, CB]),
    ([("/api/", 3, "")], [LA, LA, HEALTH, HEALTH, LA, LA, HEALTH, CA, CA, CA, CA]),
    ([("/api/", 3, ""), ("/api/collections/", 1, "")], [LA, LA, LA, LA, HEALTH, HEALTH, HEALTH, HEALTH]),
    ([("/api/collections/", 1, ""), ("/api/", 3, "")], [LA, LA, HEALTH, HEALTH, HEALTH, HEALTH]),
    ([("GET /api/", 1, ""), ("/api/", 3, "")], [LA, LA, HEALTH, HEALTH, CA, CA, CA, CA]),
    ([("/api/", 3, ""), ("GET /api/", 1, "")], [LA, LA, HEALTH, HEALTH, CA, CA, CA, CA]),
    ([("/api/collections/a/records", 1, ""), ("/api/", 3, "")], [LA, LA, CA, CA]),
    ([("/api/collections/a/records", 1, "@auth"), ("/api/collections/a/records", 2, "@guest")], [LA, LA, LA]),
    ([("create", 1, "")], [CA, CA]),
    ([("users:auth", 1, ""), ("users:authWithPassword", 3, "")], [WRONG] * 4),
    ([("*:auth", 1, "")], [WRONG, WRONG, WRONG_ROOT, WRONG_ROOT]),
    ([("/api/", 2, "")], [("GET", "collections/zz/records/x")] * 3 + [("GET", "zz")] * 3),
    ([("*:file", 1, "")], [("POST", "files/token")] * 2 + [("GET", "files/a/b/c")] * 2),
    ([("*:authRefresh", 1, "")], [("POST", "collections/users/auth-refresh")] * 2),
    ([("*:create", 2, "")], [BATCH, CA, CA, CA]),
    ([("/api/batch", 1, "")], [BATCH, BATCH]),
    ([("a:view", 1, "")], [("GET", "collections/a/records/nope"), ("GET", "collections/a/records/nope"), LA]),
]


@pytest.mark.parametrize(("rules", "asks"), LIMITS)
def test_rate_limits(sides, rules, asks):
    def do(side):
        side.change(batch={"enabled": True, "maxRequests": 5})
        return side.limited(rules, asks)

    same(sides, do)


def test_superusers_from_elsewhere(sides):
    def do(side):
        side.change(trustedProxy={"headers": ["X-Forwarded-For"]})
        side.change(superuserIPs=["10.0.0.0/8"])
        asks = [("GET", "settings"), HEALTH, LA, ("GET", "zz"), ("POST", "files/token"), WRONG]
        told = [side.ask(*ask, token=side.root, at=at) for ask in asks for at in ("11.0.0.1", "10.0.0.1")]
        for body in (ROOT_BODY, {**ROOT_BODY, "password": "x"}):
            told += [side.ask("POST", SIGN_IN.format("_superusers"), body, at=at) for at in ("11.0.0.1", "10.0.0.1")]
        told.append(side.ask("GET", "settings", at="11.0.0.1"))
        side.change(superuserIPs=[], trustedProxy={"headers": []}, at="10.0.0.1")
        return [status for status, _ in told]

    assert 403 in same(sides, do)


def test_second_factors(sides):
    def do(side):
        change = {"otp": {"enabled": True}, "mfa": {"enabled": True}}
        told = [side.ask("PATCH", "collections/users", change, token=side.root)[0]]
        sign_in = SIGN_IN.format("users")
        status, begun = side.ask("POST", sign_in, ANN_BODY)
        told += [status, sorted(begun)]
        [row] = side.ask("GET", "collections/_mfas/records", token=side.root)[1]["items"]
        told += [row["method"], row["id"] == begun["mfaId"]]
        other = {"collectionRef": row["collectionRef"], "recordRef": row["recordRef"], "method": "otp"}
        ids = [begun["mfaId"], "unknown", 5, ""]
        told += [side.ask("POST", sign_in, {**ANN_BODY, "mfaId": id})[0] for id in ids]
        status, made = side.ask("POST", "collections/_mfas/records", other, token=side.root)
        told.append(status)
        told += [side.ask("POST", f"{sign_in}?mfaId={made['id']}", ANN_BODY)[0] for _ in range(2)]
        for wrong in ({"recordRef": "nobodyhasit0000"}, {"collectionRef": "nowhere"}):
            status, refused = side.ask("POST", "collections/_mfas/records", {**other, **wrong}, token=side.root)
            told += [status, {name: each["code"] for name, each in refused["data"].items()}]
        side.ask("PATCH", "collections/users", {"mfa": {"enabled": False}}, token=side.root)
        return told

    assert 401 in same(sides, do)


def test_bounds_of_batches(sides):
    def do(side):
        told = []
        side.change(batch={"enabled": True, "maxRequests": 2, "timeout": 3, "maxBodySize": 400})
        told += [side.ask("POST", "batch", {"requests": [PUT] * count}) for count in (1, 2, 3)]
        told.append(side.ask("POST", "batch", {"requests": [{**PUT, "body": {"t": "x" * 500}}]}))
        side.change(batch={"enabled": False})
        told += [side.ask("POST", "batch", {"requests": [PUT]}, token=who) for who in ("", side.root)]
        return [status for status, _ in told]

    assert same(sides, do)[:3] == [200, 200, 400]
