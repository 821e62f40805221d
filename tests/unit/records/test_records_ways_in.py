"""Ways around who asks: tokens, batches, kept answers, headers between nodes, texts of errors."""

import inspect
import json

import pytest
from records_site import CLOSED, NUMBER, PASSWORD, SECRET, TEXT, relation

from pando.api.records_prompt import PromptRecords
from pando.records.auth.tokens import Issuer

# -- who asks ---------------------------------------------------------------------------------------------------------


def test_a_blank_manage_rule_makes_nobody_a_manager(site):
    made, token = site.user("ann")
    site("PATCH", "collections/users", {"manageRule": "  "}, token=site.su)
    path = f"collections/users/records/{made['id']}"
    assert site("PATCH", path, {"verified": True}, token=token).status == 400
    body = {"email": "b@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD, "verified": True}
    assert site("POST", "collections/users/records", body, token=token).status == 400


def test_a_manager_is_judged_by_the_stored_record(site):
    site("PATCH", "collections/users", {"manageRule": "name = 'mine'", "updateRule": ""}, token=site.su)
    ann, _ = site.user("ann", name="other")
    _, token = site.user("bob")
    body = {"name": "mine", "verified": True}
    assert site("PATCH", f"collections/users/records/{ann['id']}", body, token=token).code("verified")
    assert site.rows("select name, verified from users where id = ?", ann["id"]) == [("other", 0)]


@pytest.mark.parametrize("name", ["_superusers", "_Superusers", "_SUPERUSERS", "pbc_3142635823", "PBC_3142635823"])
def test_nobody_is_taken_for_a_superuser_by_a_name(site, name):
    body = {"name": name, "type": "auth", "createRule": ""}
    assert site("POST", "collections", body, token=site.su).status == 400
    assert site("POST", "collections", {**body, "name": "fake", "id": name}, token=site.su).status == 400
    assert site("PATCH", "collections/users", {"name": name}, token=site.su).status == 400
    imported = site("PUT", "collections/import", {"collections": [{**body, "id": "pbc_1"}]}, token=site.su)
    assert imported.status == 400
    imported = site("PUT", "collections/import", {"collections": [{**body, "id": "pbc_3142635823"}]}, token=site.su)
    rule = site("GET", "collections/_superusers", token=site.su).json["createRule"]
    assert rule is None


def forged(site, collection, kind):
    """A token of another kind, rightly signed."""
    known = site.node.run(site.desk.known()).schema
    found = known.find(collection)
    id, key = site.rows(f"select id, tokenKey from {collection}")[0]
    issuer = Issuer(record_id=id, collection_id=found.id, token_key=key, auth=found.auth)
    now = site.clock.wall_ms() / 1000
    mail = "x@example.com"
    return {
        "auth": lambda: issuer.auth_token(now),
        "file": lambda: issuer.file_token(now),
        "verification": lambda: issuer.verification_token(now, mail),
        "passwordReset": lambda: issuer.password_reset_token(now, mail),
        "emailChange": lambda: issuer.email_change_token(now, mail, mail),
    }[kind]()


@pytest.mark.parametrize("kind", ["file", "verification", "passwordReset", "emailChange"])
def test_tokens_of_other_kinds_sign_no_request(site, kind):
    site.user("ann")
    assert site("GET", "settings", token=forged(site, "_superusers", "auth")).status == 200
    for collection in ("_superusers", "users"):
        token = forged(site, collection, kind)
        assert site("GET", "settings", token=token).status == 401
        assert site("POST", f"collections/{collection}/auth-refresh", token=token).status == 401
        assert site("POST", "files/token", token=token).status == 401


def test_a_token_of_one_collection_is_none_of_another_of_the_same_name(site):
    site.collection("members", type="auth")
    site.create("members", email="m@example.com", password=PASSWORD, passwordConfirm=PASSWORD)
    body = {"identity": "m@example.com", "password": PASSWORD}
    token = site("POST", "collections/members/auth-with-password", body).json["token"]
    assert site("POST", "collections/members/auth-refresh", token=token).status == 200
    site("PATCH", "collections/members", {"name": "people"}, token=site.su)
    assert site("POST", "collections/people/auth-refresh", token=token).status == 200, "a new name ends no token"
    assert site("POST", "collections/members/auth-refresh", token=token).status == 404
    record = site.rows("select * from people")[0]
    assert site("DELETE", "collections/people", token=site.su).status == 204
    assert site("POST", "files/token", token=token).status == 401
    site.collection("members", type="auth")
    site.sql(f"insert into members values({','.join('?' * len(record))})", *record)
    assert site("POST", "collections/members/auth-refresh", token=token).status == 401, "its secrets are new"


@pytest.mark.parametrize(
    "sql",
    [
        "update users set tokenKey = tokenKey || 'x'",
        "update users set tokenKey = ''",
        "delete from users",
        "update users set id = 'another'",
    ],
)
def test_a_token_ends_with_what_it_was_made_of(site, sql):
    _, token = site.user("ann")
    assert site("POST", "collections/users/auth-refresh", token=token).status == 200
    site.sql(sql)
    assert site("POST", "collections/users/auth-refresh", token=token).status == 401


def test_another_sign_in_rule_signs_everybody_out(site):
    _, token = site.user("ann")
    site("PATCH", "collections/users", {"authRule": "verified = true"}, token=site.su)
    assert site("POST", "collections/users/auth-refresh", token=token).status == 401
    body = {"identity": "ann@example.com", "password": PASSWORD}
    assert site("POST", "collections/users/auth-with-password", body).status == 403


def test_a_borrowed_token_is_refreshed_under_the_sign_in_rule_too(site):
    made, _ = site.user("ann", name="good")
    site("PATCH", "collections/users", {"authRule": "name = 'good'"}, token=site.su)
    borrowed = site("POST", f"collections/users/impersonate/{made['id']}", {}, token=site.su).json["token"]
    assert site("POST", "collections/users/auth-refresh", token=borrowed).status == 200
    site.create("users", email="x@example.com", password=PASSWORD, passwordConfirm=PASSWORD)
    site("PATCH", f"collections/users/records/{made['id']}", {"name": "bad"}, token=site.su)
    assert site("POST", "collections/users/auth-refresh", token=borrowed).status == 403


def test_tokens_work_in_their_own_collection_only(site):
    made, token = site.user("ann")
    site.collection("members", type="auth")
    assert site("POST", "collections/members/auth-refresh", token=token).status == 403
    assert site("POST", "collections/_superusers/auth-refresh", token=token).status == 403
    assert site("POST", "collections/users/auth-refresh", token=site.su).status == 403
    for path in (f"collections/users/impersonate/{made['id']}", "collections/users/impersonate/nobody"):
        assert site("POST", path, {}).status == 401
        assert site("POST", path, {}, token=token).status == 403


def test_a_password_alone_is_not_enough_where_two_factors_are_asked_for(site):
    site.user("ann")
    change = {"mfa": {"enabled": True, "duration": 600}, "otp": {"enabled": True, "duration": 180, "length": 8}}
    changed = site("PATCH", "collections/users", change, token=site.su)
    assert changed.status == 200, changed.body
    answer = site("POST", "collections/users/auth-with-password", {"identity": "ann@example.com", "password": PASSWORD})
    assert answer.status in (401, 403)
    assert "token" not in answer.json


def test_who_signs_in_sees_beside_itself_what_it_may_see(site):
    vault = site.collection("vault", TEXT, viewRule="@request.auth.collectionName = '_superusers'")
    mine = site.collection("mine", TEXT, viewRule="@request.auth.name = 'Ann'")
    users = site("GET", "collections/users", token=site.su).json
    fields = [*users["fields"], relation("locked", vault), relation("own", mine)]
    assert site("PATCH", "collections/users", {"fields": fields}, token=site.su).status == 200
    gold, own = site.create("vault", title="gold"), site.create("mine", title="own")
    made, token = site.user("ann", name="Ann", locked=gold["id"], own=own["id"])
    body = {"identity": "ann@example.com", "password": PASSWORD}
    for path, sent, who in (
        ("auth-with-password", body, ""),
        ("auth-with-password", body, site.su),
        ("auth-refresh", {}, token),
        (f"impersonate/{made['id']}", {}, site.su),
    ):
        answer = site("POST", f"collections/users/{path}?expand=locked,own", sent, token=who)
        assert list(answer.json["record"]["expand"]) == ["own"], path


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def batches(site):
    site("PATCH", "settings", {"batch": {"enabled": True}}, token=site.su)
    return site


def of_batch(answer):
    return [each["status"] for each in answer.json] if answer.status == 200 else answer.status


def item(method, path, body=None, **more):
    return {"method": method, "url": f"/api/collections/{path}", **({} if body is None else {"body": body}), **more}


def test_an_item_of_a_batch_does_not_say_who_asks(batches):
    site = batches
    site.collection("things", TEXT, createRule="@request.auth.id != ''")
    for name in ("Authorization", "authorization", "AUTHORIZATION"):
        one = item("POST", "things/records", {"title": "x"}, headers={name: site.su})
        assert of_batch(site("POST", "batch", {"requests": [one]})) == 400
        one = item("POST", "_superusers/records", {"email": "e@example.com"}, headers={name: site.su})
        assert of_batch(site("POST", "batch", {"requests": [one]})) == 400
    assert site.rows("select count(*) from things") == [(0,)]


def test_rules_in_a_batch_see_what_was_done_before(batches):
    site = batches
    site.collection("keys", TEXT)
    site.collection("things", TEXT, createRule="@collection.keys.title ?= 'open'", updateRule="title = 'open'")
    thing = item("POST", "things/records", {"title": "x"})
    key = item("POST", "keys/records", {"title": "open"})
    assert of_batch(site("POST", "batch", {"requests": [thing, key]})) == 400
    assert of_batch(site("POST", "batch", {"requests": [key, thing]})) == [200, 200]
    record = site.create("things", title="open")
    path = f"things/records/{record['id']}"
    changes = [item("PATCH", path, {"title": "locked"}), item("PATCH", path, {"title": "again"})]
    assert of_batch(site("POST", "batch", {"requests": changes})) == 400
    assert site.rows("select title from things where id = ?", record["id"]) == [("open",)]


def test_an_upsert_of_what_may_not_be_changed_changes_nothing(batches):
    site = batches
    site.collection("things", TEXT, viewRule=None, updateRule="title = 'mine'")
    record = site.create("things", title="other's")
    body = {"id": record["id"], "title": "taken"}
    answer = site("POST", "batch", {"requests": [item("PUT", "things/records", body)]})
    assert (answer.status, "other's" in answer.body.decode()) == (400, False)
    assert site.rows("select id, title from things") == [(record["id"], "other's")]


@pytest.mark.parametrize(
    "one",
    [
        item("PATCH", "things/records/../records/x", {}),
        item("POST", "things%2Frecords", {}),
        item("GET", "things/records"),
        item("DELETE", "things/truncate"),
        item("POST", "things", {}),
        item("PUT", "things/records/x", {}),
        {"method": "POST", "url": "http://elsewhere/api/collections/things/records"},
        {"method": "POST", "url": ""},
        {"method": "POST", "url": "/api/batch"},
        item("POST", "things/records?" + "&".join(f"a{n}=1" for n in range(2000)), {}),
        item("PATCH", "things/records/%00%ff", {"title": "x"}),
        item("PUT", "things/records", {"id": "\u0000"}),
        item("PUT", "`/records", {"id": "x"}),
    ],
)
def test_nothing_else_can_be_part_of_a_batch(batches, one):
    batches.collection("things", TEXT)
    answer = batches("POST", "batch", {"requests": [one]})
    assert answer.status == 400, answer.body


# -- answers that are kept --------------------------------------------------------------------------------------------


class Kept:
    """A site asked through the door that keeps answers."""

    def __init__(self, site):
        self.site, self.door = site, PromptRecords(self)
        self.is_right_still = site.app.is_right_still
        self.made = 0

    async def respond_for(self, request):
        self.made += 1
        return await self.site.app.respond_for(request)

    def __call__(self, path, token="", **headers):
        pairs = [(b"host", b"x"), *((name.encode(), value.encode()) for name, value in headers.items())]
        if token:
            pairs.append((b"authorization", token.encode()))

        async def ask():
            answer = self.door(b"GET", f"/api/collections/{path}".encode(), pairs, b"")
            return await answer if inspect.isawaitable(answer) else answer

        status, _, body = self.site.node.run(ask())
        return status, json.loads(body)


@pytest.fixture
def kept(site):
    return Kept(site)


def test_a_kept_answer_is_given_to_the_same_request_only(site, kept):
    site.collection("things", TEXT, SECRET, listRule="@request.auth.id != '' || @request.headers.x_key = 'k'")
    site.create("things", title="x", secret="s")
    _, token = site.user("ann")
    path = "things/records"
    assert [kept(path, token)[1]["totalItems"] for _ in range(2)] == [1, 1]
    assert kept.made == 1, "the second one was kept"
    assert kept(path)[1]["totalItems"] == 0
    assert kept(path, site.su)[1]["items"][0]["secret"] == "s"
    assert "secret" not in kept(path, token)[1]["items"][0]
    assert kept(path, **{"x-key": "k"})[1]["totalItems"] == 1
    assert kept(path, **{"x-key": "j"})[1]["totalItems"] == 0


@pytest.mark.parametrize(
    "change",
    [
        lambda site: site("PATCH", "collections/things", {"listRule": None}, token=site.su),
        lambda site: site.sql("update users set tokenKey = 'another key'"),
        lambda site: site.sql("delete from users"),
        lambda site: site("DELETE", "collections/things", token=site.su),
        lambda site: site("PATCH", "collections/things", {"listRule": "title = 'nothing'"}, token=site.su),
        lambda site: setattr(site.clock, "wall", site.clock.wall + 6 * 86_400_000),
    ],
)
def test_a_kept_answer_ends_with_what_it_was_made_of(site, kept, change):
    site.collection("things", TEXT, listRule="@request.auth.id != ''")
    site.create("things", title="x")
    _, token = site.user("ann")
    assert [kept("things/records", token)[1]["totalItems"] for _ in range(2)] == [1, 1]
    assert kept.made == 1
    change(site)
    status, value = kept("things/records", token)
    assert (status, value.get("totalItems", 0)) in ((200, 0), (403, 0), (404, 0))
    assert kept.made == 2


@pytest.mark.parametrize(
    "rule",
    [
        *("until > @now", "n >= @second || n < @second", "strftime('%s') != ''", "strftime('%s', 'now') != ''"),
        *("strftime('%s', @request.query.t) != ''", "parent.until > @now || n = 0", "strftime('%s', 'NOW ') != ''"),
    ],
)
def test_what_clock_or_chance_had_a_say_in_is_not_kept(site, kept, rule):
    things = site.collection("things", NUMBER, {"name": "until", "type": "date"})
    fields = [*things["fields"], relation("parent", things)]
    change = {"fields": fields, "listRule": rule}
    assert site("PATCH", "collections/things", change, token=site.su).status == 200
    site.create("things", until="2050-01-01 00:00:00.000Z")
    for _ in range(2):
        assert kept("things/records?t=now")[0] == 200
    assert kept.made == 2


def test_expanding_under_a_rule_of_the_clock_is_not_kept(site, kept):
    targets = site.collection("targets", {"name": "until", "type": "date"}, viewRule="until > @now")
    site.collection("things", relation("to", targets))
    site.create("things", to=site.create("targets", until="2050-01-01 00:00:00.000Z")["id"])
    for path in ("things/records?expand=to", "things/records?sort=@random", "things/records?filter=to.until>@now"):
        made = kept.made
        assert [kept(path)[0] for _ in range(2)] == [200, 200]
        assert kept.made == made + 2


# -- passing on to the primary ----------------------------------------------------------------------------------------


def test_headers_of_nodes_among_themselves_do_nothing_for_a_client(site):
    site.collection("things", TEXT, **CLOSED)
    headers = {"pando-records-hop": "1", "pando-bookmark": "1-1", "x-forwarded-for": "127.0.0.1"}
    assert site("GET", "collections/things/records", headers=headers).status == 403
    assert site("POST", "collections/things/records", {}, headers=headers).status == 403
    assert site("GET", "settings", headers=headers).status == 401


# -- errors -----------------------------------------------------------------------------------------------------------


def test_sql_errors_and_broken_rules_are_not_shown(site):
    site.collection("things", TEXT, SECRET)
    site.create("things", title="x")
    site.sql("""update _collections set listRule = 'wherever = ''own secret''' where name = 'things'""")
    site.sql("update _collections set updated = '2099-01-01 00:00:00.000Z' where name = 'things'")
    answer = site("GET", "collections/things/records")
    assert (answer.status, "wherever" in answer.body.decode()) == (400, False)
    site.sql("""update _collections set listRule = '', updated = '2099-01-02 00:00:00.000Z' where name = 'things'""")
    site.sql("drop table things")
    answer = site("GET", "collections/things/records")
    assert (answer.status, "no such table" in answer.body.decode()) == (400, False)


def test_superusers_are_verified_whatever_is_said(site):
    body = {"email": "b@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD, "verified": False}
    made = site("POST", "collections/_superusers/records", body, token=site.su)
    assert made.json["verified"] is True
    changed = site("PATCH", f"collections/_superusers/records/{made.json['id']}", {"verified": False}, token=site.su)
    assert (changed.status, changed.json["verified"]) == (200, True)
