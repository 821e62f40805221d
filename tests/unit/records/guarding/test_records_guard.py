"""What the settings say about who may ask from where, and how often: through the routes."""

import asyncio
import inspect
import json
import re
import sys
from pathlib import Path
from random import Random

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from records_site import PASSWORD, Answer, Site

from pando.api.http import Request, Response
from pando.api.records_prompt import PromptRecords
from pando.records.guarding.guard import PROBE_PAUSE_S, Guard
from pando.records.guarding.peers import PeerProofs

TEXT = {"name": "title", "type": "text"}
LIST = "collections/a/records"
SIGN_IN = "collections/users/auth-with-password"
REFUSED = {"data": {}, "message": "You are not allowed to perform this request.", "status": 403}
TOO_MANY = b'{"data":{},"message":"Too Many Requests.","status":429}'


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path).begin()
    made.pauses = []

    async def pause(seconds):
        made.pauses.append(seconds)

    made.desk.guard = Guard(peers=PeerProofs(b"k" * 32), pause=pause)
    made.collection("a", TEXT)
    made.collection("b", TEXT)
    change(made, trustedProxy={"headers": ["X-Forwarded-For"]})
    yield made
    made.close()


def change(site, **groups):
    answer = site("PATCH", "settings", groups, token=site.su, headers=at("10.0.0.1"))
    assert answer.status == 200, answer.body


def at(address):
    return {"x-forwarded-for": address}


def limit(site, *rules, **more):
    made = []
    for label, most, *rest in rules:
        span, audience = (*rest, *(60, "")[len(rest) :])
        made.append({"label": label, "maxRequests": most, "duration": span, "audience": audience})
    change(site, rateLimits={"enabled": True, "rules": made, "excludedIPs": [], **more})


def statuses(site, *asks):
    return [site(*ask).status for ask in asks]


LA, LB, HEALTH = ("GET", LIST), ("GET", "collections/b/records"), ("GET", "health")
CREATE = ("POST", LIST, {"title": "x"})
WRONG = ("POST", SIGN_IN, {"identity": "x", "password": "y"})


# -- superusers -------------------------------------------------------------------------------------------------------


def test_superusers_ask_from_where_the_settings_say(site):
    root = {"identity": "su@example.com", "password": PASSWORD}
    sign_in = "collections/_superusers/auth-with-password"
    file_token = site("POST", "files/token", token=site.su).json["token"]
    change(site, superuserIPs=["10.0.0.0/8"])
    for ask in (("GET", "settings"), HEALTH, LA, CREATE, ("GET", "nowhere"), ("POST", "batch", {}), WRONG):
        answer = site(*ask, token=site.su, headers=at("11.0.0.1"))
        assert (answer.status, answer.json) == (403, REFUSED), ask
    assert site("GET", "settings", token=site.su, headers=at("10.9.9.9")).status == 200
    assert site("GET", "settings", token=site.su).status == 403, "no address is no allowed address"
    assert site("POST", sign_in, root, headers=at("11.0.0.1")).json == REFUSED
    assert site("POST", sign_in, {**root, "password": "x"}, headers=at("11.0.0.1")).status == 400
    assert site("POST", sign_in, root, headers=at("10.0.0.2")).status == 200
    assert site("GET", LIST, headers=at("11.0.0.1")).status == 200, "others are not asked"
    change(site, superuserIPs=[])
    site.collection("f", {"name": "f", "type": "file", "maxSelect": 1, "protected": True}, viewRule=None)
    made = site.form("POST", "collections/f/records", ("f", ("a.txt", b"x")), token=site.su).json
    path = f"files/f/{made['id']}/{made['f']}?token={file_token}"
    assert site("GET", path, headers=at("11.0.0.1")).status == 200
    change(site, superuserIPs=["10.0.0.0/8"])
    assert site("GET", path, headers=at("11.0.0.1")).status == 404
    assert site("GET", path, headers=at("10.0.0.1")).status == 200


def test_an_answer_for_a_superuser_is_not_kept_for_elsewhere(site):
    asking = site.node.run(site.desk.asking(site.su, method="GET", query={}, headers={}))
    assert not asking.notes.is_volatile
    change(site, superuserIPs=["10.0.0.0/8"])
    assert kept(site, LIST, site.su) is None
    assert kept(site, LIST, "") is not None
    limit(site, ("*:list", 100))
    assert kept(site, LIST, "") is None
    assert kept(site, "collections/a/records/nowhere", "") is None


def kept(site, path, token):
    """How long an answer may be given again; None: it may not."""
    headers = [(b"x-forwarded-for", b"10.0.0.1")] + ([(b"authorization", token.encode())] if token else [])
    whole = f"/api/{path}"
    scope = {
        "type": "http",
        "method": "GET",
        "path": whole,
        "raw_path": whole.encode(),
        "query_string": b"",
        "headers": headers,
    }
    return site.node.run(site.app.respond_for(Request(scope, None)))[1]


# -- rate limits ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "asks", "expected"),
    [
        ([("*:list", 2)], [LA, LA, LB, LB, LB, LA, HEALTH], [200, 200, 200, 200, 429, 429, 200]),
        ([("a:list", 2), ("*:list", 1)], [LA, LA, LA, LB, LB], [200, 200, 429, 200, 429]),
        (
            [("/api/", 3)],
            [LA, LA, HEALTH, HEALTH, LA, LA, HEALTH, HEALTH],
            [200, 200, 200, 200, 200, 429, 200, 429],
        ),
        ([("/api/", 1)], [("GET", "nowhere"), ("GET", "nowhere"), HEALTH], [404, 429, 429]),
        ([("/api/", 1)], [("GET", "collections/z/records")] * 3, [404, 404, 404]),
        ([("/api/health", 1)], [("HEAD", "health"), HEALTH], [200, 429]),
        ([("users:auth", 1)], [WRONG, WRONG], [400, 429]),
        ([("users:auth", 1), ("users:authWithPassword", 2)], [WRONG, WRONG, WRONG], [400, 400, 429]),
        ([("*:listAuthMethods", 1)], [("GET", "collections/users/auth-methods")] * 2, [200, 429]),
        ([("*:authRefresh", 1)], [("POST", "collections/users/auth-refresh")] * 2, [401, 429]),
        ([("*:file", 1)], [("POST", "files/token")] * 2 + [("GET", "files/a/b/c")] * 2, [401, 401, 404, 429]),
        ([("a:view", 1)], [("GET", f"{LIST}/nowhere")] * 2, [404, 429]),
        ([("a:list", 1)], [LA, ("GET", "collections/A/records"), ("HEAD", LIST)], [200, 429, 429]),
        ([(f"/api/{LIST}", 1)], [LA, ("GET", "collections/A/records"), ("HEAD", LIST)], [200, 429, 429]),
        ([(f"GET /api/{LIST}", 1)], [("HEAD", "collections/A/records"), LA, CREATE], [200, 429, 200]),
        ([("/api/collections/a/", 1)], [("GET", "collections/A/records"), LA, LB], [200, 429, 200]),
        ([("*:list", 1, 60, "@auth")], [LA, LA], [200, 200]),
        ([("*:list", 1, 60, "@guest")], [LA, LA], [200, 429]),
        ([("*:create", 1)], [CREATE, CREATE], [200, 429]),
    ],
)
def test_who_asks_too_often_has_to_wait(site, rules, asks, expected):
    limit(site, *rules)
    assert statuses(site, *asks) == expected


def test_the_answer_is_pocketbases(site):
    limit(site, ("*:list", 1))
    site(*LA)
    answer = site(*LA)
    assert (answer.status, answer.body) == (429, TOO_MANY)


def test_a_window_ends_and_addresses_are_counted_apart(site):
    limit(site, ("*:list", 1, 5))
    assert [site(*LA, headers=at(address)).status for address in ("1.1.1.1", "1.1.1.1", "2.2.2.2")] == [200, 429, 200]
    site.clock.wall += 5000
    assert site(*LA, headers=at("1.1.1.1")).status == 200


def test_superusers_and_some_addresses_are_not_limited(site):
    limit(site, ("/api/", 1), excludedIPs=["9.9.0.0/16"])
    assert [site(*LA, token=site.su).status for _ in range(3)] == [200] * 3
    assert [site(*LA, headers=at("9.9.1.1")).status for _ in range(3)] == [200] * 3
    assert [site(*LA, headers=at("9.8.1.1")).status for _ in range(2)] == [200, 429]


def test_other_settings_begin_anew_and_without_limits_there_are_none(site):
    for _ in range(2):
        limit(site, ("*:list", 1))
        assert statuses(site, LA, LA) == [200, 429]
    limit(site, ("*:list", 2))
    assert statuses(site, LA, LA, LA) == [200, 200, 429]
    change(site, rateLimits={"enabled": False})
    assert statuses(site, LA, LA, LA) == [200] * 3


def test_a_header_that_no_proxy_of_ours_sends_changes_nobodys_address(site):
    change(site, trustedProxy={"headers": []})
    limit(site, ("*:list", 1))
    assert [site(*LA, headers=at(f"1.1.1.{number}")).status for number in range(2)] == [200, 429]


def test_what_is_in_a_batch_is_counted(site):
    change(site, batch={"enabled": True})
    limit(site, ("*:create", 2), ("a:update", 1))
    one = {"method": "POST", "url": "/api/collections/a/records", "body": {"title": "x"}}

    def batch(*items, address="10.0.0.1"):
        return site("POST", "batch", {"requests": items}, headers=at(address))

    answer = batch(one, one, one)
    assert (answer.status, answer.json["data"]["requests"]["2"]["response"]) == (400, json.loads(TOO_MANY))
    spoofed = {**one, "headers": {"X-Forwarded-For": "5.5.5.5"}}
    assert batch(spoofed).status == 400, "an item does not say where its caller is"
    assert batch(one, address="5.5.5.5").status == 200
    made = site.create("a", title="x")
    put = {"method": "PUT", "url": "/api/collections/a/records", "body": {"id": made["id"], "title": "y"}}
    assert batch(put, put, address="6.6.6.6").code("requests", "1") == "batch_request_failed"
    assert site.rows("select title from a where id = ?", made["id"]) == [("x",)]


# -- batches ----------------------------------------------------------------------------------------------------------


def test_batches_have_bounds(site):
    one = {"method": "POST", "url": "/api/collections/a/records", "body": {"title": "x"}}
    assert site("POST", "batch", {"requests": [one]}).status == 403
    assert site("POST", "batch", {"requests": [one]}, token=site.su).status == 403
    change(site, batch={"enabled": True, "maxRequests": 2, "timeout": 3, "maxBodySize": 400})
    assert site("POST", "batch", {"requests": [one, one]}).status == 200
    assert site("POST", "batch", {"requests": [one, one, one]}).code("requests") == "validation_length_too_long"
    long = {**one, "body": {"title": "x" * 400}}
    assert site("POST", "batch", {"requests": [long]}).status == 413


class Endless:
    """Hashes for ever."""

    async def hash(self, *_):
        await asyncio.Event().wait()


@pytest.mark.slow
def test_a_batch_that_takes_too_long_leaves_nothing(site):
    change(site, batch={"enabled": True, "maxRequests": 2, "timeout": 1})
    site.desk.passwords = Endless()
    ann = {"email": "ann@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD}
    requests = [
        {"method": "POST", "url": "/api/collections/a/records", "body": {"title": "x"}},
        {"method": "POST", "url": "/api/collections/users/records", "body": ann},
    ]
    answer = site("POST", "batch", {"requests": requests})
    assert answer.status == 400, answer.body
    assert site.rows("select (select count(*) from a), (select count(*) from users)") == [(0, 0)]
    assert site("POST", LIST, {"title": "y"}).status == 200, "nobody waits for it"


# -- lists that find nothing ------------------------------------------------------------------------------------------


def test_who_probes_with_filters_is_answered_late(site):
    site("PATCH", "collections/a", {"listRule": "title != 'secret'"}, token=site.su)
    probe = f"{LIST}?filter=title%3D'x'"
    for _ in range(3):
        assert site("GET", probe).status == 200
    assert site.pauses == []
    assert site("GET", probe).status == 200
    assert len(site.pauses) == 1 and 0 <= site.pauses[0] <= PROBE_PAUSE_S
    assert site("GET", probe, headers=at("8.8.8.8")).status == 200
    site("GET", LIST)
    site("GET", probe, token=site.su)
    assert len(site.pauses) == 1, "others, lists without a filter and superusers do not wait"
    site.clock.wall += 3000
    site("GET", probe)
    assert len(site.pauses) == 1


def test_lists_that_are_open_to_all_are_not_slowed(site):
    for _ in range(6):
        assert site("GET", f"{LIST}?filter=title%3D'x'").status == 200
    site.create("a", title="x")
    site("PATCH", "collections/a", {"listRule": "title != 'secret'"}, token=site.su)
    for _ in range(6):
        assert site("GET", f"{LIST}?filter=title%3D'x'").json["totalItems"] == 1
    assert site.pauses == []


# -- from node to node ------------------------------------------------------------------------------------------------


def test_a_client_cannot_say_where_it_is(site):
    change(site, trustedProxy={"headers": []}, superuserIPs=[])
    limit(site, ("*:list", 1))
    other = PeerProofs(b"o" * 32)
    now = site.clock.wall // 1000
    url = f"/api/{LIST}"
    assert site(*LA).status == 200
    for text in ("1.2.3.4", f"{now}.{'0' * 64}.1.2.3.4", other.make("1.2.3.4", "GET", url, now)):
        assert site(*LA, headers={"pando-client": text}).status == 429
    for address in ("1.2.3.4", "1.2.3.5"):
        told = site.desk.guard.peers.make(address, "GET", url, now)
        assert site(*LA, headers={"pando-client": told}).status == 200
        assert site(*LA, headers={"pando-client": told}).status == 429
    rule = "@request.headers.pando_client != ''"
    site("PATCH", "collections/a", {"listRule": rule}, token=site.su)
    told = site.desk.guard.peers.make("7.7.7.7", "GET", url, now)
    site.create("a", title="x")
    assert site(*LA, headers={"pando-client": told}).json["totalItems"] == 0, "rules do not see it"


class Elsewhere:
    """A primary that keeps what comes."""

    def __init__(self):
        self.asked = []

    async def __call__(self, asked):
        self.asked.append((dict(asked.request.headers), await asked.request.body()))
        return Response(418, [], b"elsewhere")


@pytest.fixture
def replica(site):
    """The same process, which can be told that it is no primary."""
    site.elsewhere = site.app._forward = Elsewhere()
    return site


def test_a_replica_tells_the_primary_who_asks(replica, monkeypatch):
    site = replica
    limit(site, ("*:auth", 1))
    monkeypatch.setattr(type(site.desk.engine), "is_primary", property(lambda _: False))
    forged = site.desk.guard.peers.make("6.6.6.6", "POST", "/elsewhere", 5)
    answer = site("POST", LIST, {"title": "x"}, headers={"pando-client": forged})
    assert answer.status == 418
    headers, body = site.elsewhere.asked.pop()
    assert json.loads(body) == {"title": "x"}
    told = headers[b"pando-client"].decode()
    assert told != forged
    assert site.desk.guard.peers.read(told, "POST", f"/api/{LIST}", site.clock.wall // 1000) == ""


def test_a_replica_lets_the_primary_count_sign_ins_where_they_are_limited(replica, monkeypatch):
    site = replica
    site.user("ann")
    body = {"identity": "ann@example.com", "password": PASSWORD}
    monkeypatch.setattr(type(site.desk.engine), "is_primary", property(lambda _: False))
    assert site("POST", SIGN_IN, body).status == 200, "without limits a replica does it"
    monkeypatch.undo()
    limit(site, ("*:auth", 1))
    monkeypatch.setattr(type(site.desk.engine), "is_primary", property(lambda _: False))
    assert site("POST", SIGN_IN, body).status == 418
    assert json.loads(site.elsewhere.asked[0][1]) == body
    site.app._forward = Site._forward.__get__(site)
    answers: list[Answer] = [site("POST", SIGN_IN, body) for _ in range(2)]
    assert [each.status for each in answers] == [200, 429], "without a primary it counts itself"


def test_delays_are_of_the_given_chance():
    told = []

    async def pause(seconds):
        told.append(seconds)

    async def run():
        guard = Guard(pause=pause)
        for _ in range(10):
            await guard.slow_probe("c", "1.1.1.1", 1000, Random(3))

    asyncio.run(run())
    assert len(told) == 7 and len(set(told)) == 1 and 0 < told[0] < PROBE_PAUSE_S


def test_who_locks_superusers_out_finds_the_way_in_again_in_the_docs(site):
    change(site, superuserIPs=["10.0.0.0/8"])
    page = (Path(__file__).parents[4] / "docs" / "http-records.md").read_text()
    [statement] = re.findall(r"`(UPDATE _params [^`]+)`", page)
    site.sql(statement)
    assert site("GET", "settings", token=site.su, headers=at("11.0.0.1")).status == 200


def test_the_short_way_knows_who_asks_from_where(site):
    change(site, superuserIPs=["10.0.0.0/8"], trustedProxy={"headers": []})
    door = PromptRecords(site.app)

    def ask(address, token):
        async def asked():
            headers = [(b"host", b"x"), (b"authorization", token.encode())]
            answer = door(b"GET", b"/api/collections/a/records", headers, b"", (address, 1))
            return await answer if inspect.isawaitable(answer) else answer

        return site.node.run(asked())[0]

    assert [ask(address, site.su) for address in ("10.0.0.1", "11.0.0.1", "10.0.0.1")] == [200, 403, 200]
    _, token = user(site)
    assert [ask(address, token) for address in ("10.0.0.1", "11.0.0.1")] == [200, 200]


def user(site):
    body = {"email": "ann@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD}
    assert site("POST", "collections/users/records", body).status == 200
    answer = site("POST", SIGN_IN, {"identity": "ann@example.com", "password": PASSWORD})
    return answer.json["record"], answer.json["token"]


class CountingWorker:
    """Says what was asked of it."""

    def __init__(self):
        self.asked = []

    async def check(self, password, hashed, cost):
        self.asked.append((password, hashed, cost))
        return False


def test_an_identity_that_nobody_has_takes_as_long_and_looks_alike(site):
    made, _ = user(site)
    site.sql("update users set password = 'no hash at all' where id = ?", made["id"])
    worker = site.desk.passwords = CountingWorker()
    answers = [
        site("POST", SIGN_IN, {"identity": identity, "password": "guess", **more})
        for identity in ("ann@example.com", "nobody@example.com", "nobody", "ANN@example.com")
        for more in ({}, {"identityField": "email"})
    ]
    assert {(each.status, each.body) for each in answers} == {(400, answers[0].body)}
    assert len(worker.asked) == len(answers), "each was checked, once"
    assert {(password, cost) for password, _, cost in worker.asked} == {("guess", 10)}
    assert site.rows("select count(*) from _authOrigins where recordRef = ?", made["id"])[0][0] <= 1
