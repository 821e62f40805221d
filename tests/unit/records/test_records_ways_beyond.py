"""Ways around rules besides filters and tokens: routes for superusers, ids, files, event streams, fields, batches."""

import json
import re
from urllib.parse import quote

import pytest
from records_realtime_site import RealtimeSite
from records_site import PASSWORD, SECRET, TEXT, relation

from pando.api.records_table import ROUTES
from pando.records.auth.tokens import Issuer

OWN = "owner = @request.auth.id"


@pytest.fixture
def site(tmp_path):
    made = RealtimeSite(tmp_path)
    made.begin()
    try:
        yield made
    finally:
        made.close()


def alike(one, other, *, but):
    """Two answers tell the same, but for names that the caller wrote himself."""
    texts = [answer.body.decode().replace(name, "?") for answer, name in zip((one, other), but, strict=True)]
    assert (one.status, texts[0]) == (other.status, texts[1])


# -- what is for superusers -------------------------------------------------------------------------------------------

OPEN = {
    *("GET health", "GET openapi.json", "GET realtime", "POST realtime", "POST batch"),
    *("POST files/token", "GET files/*/*/*"),
    *(f"{method} collections/*/records" for method in ("GET", "POST")),
    *(f"{method} collections/*/records/*" for method in ("GET", "PATCH", "DELETE")),
    *("GET collections/*/auth-methods", "POST collections/*/auth-with-password", "POST collections/*/auth-refresh"),
}
"""Routes that others than superusers may use, under rules; a new one has to be put here by hand."""
CHANGES = ("GET changes", "GET changes/groups", "POST changes/groups/*/claim", "DELETE changes/groups/*")


def test_all_other_routes_are_for_superusers(site):
    site.collection("things", TEXT)
    made = site.create("things", title="x")
    _, token = site.user("ann")
    before = site.rows("select name, updated from _collections order by name")
    body = {"collections": [], "name": "x", "query": "select 1 as id", "deleteMissing": True, "meta": {"appName": "x"}}
    wanted = [*(set(ROUTES) - OPEN), *CHANGES]
    assert len(wanted) > 15
    for route in wanted:
        method, _, path = route.partition(" ")
        for one in ("things", "users", "_superusers", "nowhere"):
            way = path.replace("*", one, 1).replace("*", made["id"])
            for who, status in (("", 401), ("no.real.token", 401), (token, 403)):
                answer = site(method, way, body, token=who)
                assert answer.status == status, (route, way, answer.body)
    assert site.rows("select name, updated from _collections order by name") == before
    assert site.rows("select count(*) from things") == [(1,)]
    assert site("GET", "settings", token=site.su).json["meta"]["appName"] == "Acme"


def test_system_collections_are_closed(site):
    ann, token = site.user("ann")
    site.node.run(site.desk.aside.until_done())
    for name in ("_superusers", "_mfas", "_otps", "_externalAuths", "_authOrigins"):
        for who in ("", token):
            found = site("GET", f"collections/{name}/records", token=who)
            items = found.json.get("items", [])
            assert found.status == 403 if name == "_superusers" else found.status == 200
            assert all(each["recordRef"] == ann["id"] for each in items) and (who or not items)
            body = {"collectionRef": "_pb_users_auth_", "recordRef": ann["id"], "method": "otp", "password": "x"}
            more = {"email": "x@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD, "fingerprint": "x"}
            assert site("POST", f"collections/{name}/records", {**body, **more}, token=who).status == 403
            path = f"collections/{name}/records/su0000000000001"
            assert site("GET", path, token=who).status in (403, 404)
            assert site("PATCH", path, {"email": "x@example.com", "method": "x"}, token=who).status == 403
            assert site("DELETE", path, token=who).status in (403, 404)
    assert site.rows("select email from _superusers") == [("su@example.com",)]


# -- ids --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def owned(site):
    """Ann's record and Bob's, each to be seen and changed by its owner."""
    users = site("GET", "collections/users", token=site.su).json
    rules = {"listRule": OWN, "viewRule": OWN, "updateRule": OWN, "deleteRule": OWN, "createRule": OWN}
    site.collection("owned", TEXT, SECRET, relation("owner", users), **rules)
    site.collection("links", TEXT, relation("to", site("GET", "collections/owned", token=site.su).json))
    ann, token = site.user("ann")
    bob, bob_token = site.user("bob")
    site.anns = site.create("owned", title="ann's", secret="s", owner=ann["id"])["id"]
    site.bobs = site.create("owned", title="bob's", secret="t", owner=bob["id"])["id"]
    return site, token, bob_token


@pytest.mark.parametrize("body", [{}, {"title": "x"}, {"owner": "x"}, {"title": 5, "owner+": "y"}, {"id": "z"}])
def test_an_id_that_is_anothers_is_as_one_that_nobody_has(owned, body):
    site, token, _ = owned
    for who in (token, ""):
        for method in ("GET", "PATCH", "DELETE"):
            sent = body if method == "PATCH" else None
            asks = [
                site(method, f"collections/owned/records/{id}?expand=owner", sent, token=who)
                for id in (site.bobs, "nobodyhasit0000")
            ]
            alike(*asks, but=(site.bobs, "nobodyhasit0000"))
            assert asks[0].status in (400, 404)
    assert site.rows("select title from owned where id = ?", site.bobs) == [("bob's",)]


def test_nobody_gives_away_or_takes(owned):
    site, token, _ = owned
    ann = site.rows("select owner from owned where id = ?", site.anns)[0][0]
    path = f"collections/owned/records/{site.anns}"
    assert site("PATCH", path, {"id": site.bobs}, token=token).code("id") == "validation_pk_change"
    assert site("POST", "collections/owned/records", {"id": site.bobs, "owner": ann}, token=token).status == 400
    for id in (site.bobs.upper(), f"{site.bobs} ", f"../owned/{site.bobs}", f"{site.bobs}%00", f"{site.bobs}'--"):
        assert site("GET", f"collections/owned/records/{quote(id, safe='%')}", token=token).status == 404
    assert site.rows("select title from owned where id = ?", site.bobs) == [("bob's",)]


def test_what_is_expanded_through_ones_own_record_is_under_its_own_rule(owned):
    site, token, _ = owned
    link = site.create("links", title="l", to=site.bobs)
    for expand in ("to", "to.owner", "to,to.owner", "TO", "to.links_via_to", "to.links_via_to.to"):
        found = site("GET", f"collections/links/records/{link['id']}?expand={expand}", token=token)
        assert found.status == 200 and "bob's" not in found.body.decode()
        assert not found.json.get("expand"), found.body
    own = site("POST", "collections/links/records?expand=to", {"title": "m", "to": site.bobs}, token=token)
    assert own.status == 200 and not own.json.get("expand")


@pytest.mark.parametrize(
    "fields", ["*", "secret", "*,secret", "items.secret", "*.secret", "secret:excerpt(10)", "expand"]
)
def test_fields_show_no_more_than_there_is(owned, fields):
    site, token, _ = owned
    link = site.create("links", title="l", to=site.anns)
    for path in ("owned/records", f"owned/records/{site.anns}", f"links/records/{link['id']}"):
        found = site("GET", f"collections/{path}?expand=to&fields={quote(fields)}", token=token)
        assert found.status == 200 and '"s"' not in found.body.decode()


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_opens_nothing(owned):
    site, token, _ = owned
    site("PATCH", "settings", {"batch": {"enabled": True}}, token=site.su)
    ann = site.rows("select owner from owned where id = ?", site.anns)[0][0]
    path = "/api/collections/owned/records"
    bobs = [
        {"method": "PATCH", "url": f"{path}/{site.bobs}", "body": {"title": "x"}},
        {"method": "DELETE", "url": f"{path}/{site.bobs}"},
        {"method": "PUT", "url": path, "body": {"id": site.bobs, "title": "x"}},
        {
            "method": "PATCH",
            "url": f"{path}/{site.bobs}",
            "headers": {"Authorization": site.su},
            "body": {"title": "x"},
        },
        {"method": "POST", "url": "/api/collections/_superusers/records", "body": {"email": "x@example.com"}},
        {"method": "PATCH", "url": "/api/settings", "body": {}},
        {"method": "GET", "url": f"{path}/{site.bobs}"},
    ]
    mine = {"method": "POST", "url": f"{path}?expand=owner&fields=*,secret", "body": {"owner": ann, "secret": "x"}}
    for one in bobs:
        answer = site("POST", "batch", {"requests": [mine, one]}, token=token)
        assert answer.status == 400 and set(answer.json["data"]["requests"]) == {"1"}, one
    assert site.rows("select title, secret from owned order by title") == [("ann's", "s"), ("bob's", "t")]
    answer = site("POST", "batch", {"requests": [mine]}, token=token)
    assert answer.status == 200 and "secret" not in answer.json[0]["body"]


# -- files ------------------------------------------------------------------------------------------------------------


def test_protected_files_open_to_nobody_else_by_any_name(owned):
    site, token, bob_token = owned
    users = site("GET", "collections/users", token=site.su).json
    file = {"name": "file", "type": "file", "maxSelect": 1, "protected": True, "thumbs": ["10x10"]}
    site.collection("papers", file, relation("owner", users), viewRule=OWN)
    site.collection(
        "seen",
        type="view",
        viewQuery="select id, file, owner from papers",
        createRule=None,
        updateRule=None,
        deleteRule=None,
        viewRule=OWN,
    )
    ann = site.rows("select owner from owned where id = ?", site.anns)[0][0]
    made = site.form(
        "POST", "collections/papers/records", ("file", ("a.txt", b"of ann")), ("owner", ann), token=site.su
    ).json
    id, name = made["id"], made["file"]

    def asked(path, who=""):
        opened = site("POST", "files/token", token=who).json["token"] if who else ""
        return site("GET", f"files/{path}{'&' if '?' in path else '?'}token={opened}")

    for collection in ("papers", "seen", "pbc_0", made["collectionId"]):
        for path in (f"{collection}/{id}/{name}", f"{collection}/{id}/{name}?thumb=10x10&download=1"):
            is_there = collection != "pbc_0"
            assert asked(path, token).status == (200 if is_there else 404), path
            for who in ("", bob_token):
                assert asked(path, who).status == 404, path
    absent = [asked(f"papers/{id}/nothing.txt"), asked(f"papers/nobodyhasit0000/{name}"), asked(f"papers/{id}/{name}")]
    assert len({(each.status, re.sub(rb"\s", b"", each.body)) for each in absent}) == 1
    for path in (
        f"papers/{id}/..%2F{id}%2F{name}",
        f"papers/{id}/thumbs_{name}%2F10x10_{name}",
        f"papers/..%2F{made['collectionId']}%2F{id}/{name}",
        f"owned/{site.anns}/{name}",
        f"papers/{id}/{name}%00",
        f"users/{ann}/{name}",
    ):
        assert asked(path, token).status == 404, path


def test_a_token_for_files_signs_no_request_and_the_other_way_round(owned):
    site, token, _ = owned
    opened = site("POST", "files/token", token=token).json["token"]
    assert site("GET", f"collections/owned/records/{site.anns}", token=opened).status == 404
    assert site("POST", "files/token", token=opened).status == 401
    assert site("POST", "collections/users/auth-refresh", token=opened).status == 401


def test_old_keys_and_other_collections_sign_nothing(owned):
    site, token, _ = owned
    path = f"collections/owned/records/{site.anns}"
    assert site("GET", path, token=token).status == 200
    body = {"name": "staff", "type": "auth"}
    assert site("POST", "collections", body, token=site.su).status == 200
    ann, key = site.rows("select id, tokenKey from users where email = 'ann@example.com'")[0]
    schema = site.node.run(site.desk.known()).schema
    staff, users = schema.find("staff"), schema.find("users")
    now = site.clock.wall / 1000
    for of, secrets, used_key in (
        (staff, staff, key),
        (staff, users, key),
        (users, staff, key),
        (users, users, "another key"),
        (users, users, key.swapcase()),
    ):
        issuer = Issuer(record_id=ann, collection_id=of.id, token_key=used_key, auth=secrets.auth)
        assert site("GET", path, token=issuer.auth_token(now)).status == 404
    change = {"password": "another one", "passwordConfirm": "another one"}
    assert site("PATCH", f"collections/users/records/{ann}", change, token=site.su).status == 200
    assert site("GET", path, token=token).status == 404


# -- event streams ----------------------------------------------------------------------------------------------------


def options(topic, query=None, headers=None):
    return f"{topic}?options={quote(json.dumps({'query': query or {}, 'headers': headers or {}}))}"


def test_an_event_stream_tells_nothing_that_a_list_does_not(owned):
    site, token, bob_token = owned
    site.fed("owned", "links", "users", "_superusers")

    async def scenario():
        stream, owner = site.open(), site.open()
        topics = [
            "owned/*",
            f"owned/{site.bobs}",
            *(
                "users/*",
                "_superusers/*",
                "_mfas/*",
                "_authOrigins/*",
                "_collections/*",
                "_params/*",
                "sqlite_schema/*",
            ),
            options("owned/*", {"filter": "secret = 't'"}),
            options("owned/*", {"filter": "owner != ''", "fields": "secret"}),
            options("owned/*", {"filter": "@request.auth.id != ''"}),
            options("owned/*", {"filter": "@collection.users.email != ''"}),
            options("owned/*", headers={"Authorization": site.su}),
            options(f"owned/{site.bobs}", headers={"authorization": bob_token}),
            options("links/*", {"expand": "to,to.owner", "fields": "*,secret,expand"}),
        ]
        await site.subscribe(stream, *topics, token=token)
        await site.subscribe(owner, "owned/*", token=bob_token)
        path = f"collections/owned/records/{site.bobs}"
        for change in ({"title": "new"}, {"secret": "u"}):
            await site.ask("PATCH", path, change, token=site.su)
        await site.ask("POST", "collections/links/records", {"title": "l", "to": site.bobs}, token=site.su)
        await site.ask("DELETE", path, token=site.su)
        body = {"email": "c@example.com", "password": PASSWORD, "passwordConfirm": PASSWORD}
        await site.ask("POST", "collections/users/records", body, token=site.su)
        await site.ask("POST", "collections/links/records", {"title": "end"}, token=site.su)
        told = await stream.events(3)  # the link, which lost its end when Bob's record went, and the last one
        assert {name for _, name, _ in told} == {topics[-1]}
        assert [data["record"].get("title") for *_, data in told] == ["l", "l", "end"]
        assert not any(data["record"].get("expand") for *_, data in told)
        assert all("secret" not in data["record"] for *_, data in await owner.events(3))
        assert "bob's" not in stream.body.decode() and "c@example.com" not in stream.body.decode()

    site.node.run(scenario())


def test_a_stream_is_anothers_for_all_who_know_its_id(owned):
    site, token, bob_token = owned

    async def scenario():
        stream = site.open()
        client_id = await stream.client_id()
        await site.subscribe(stream, "owned/*", token=token, client_id=client_id)
        for who in (bob_token, ""):
            await site.subscribe(stream, "owned/*", token=who, status=403, client_id=client_id)

    site.node.run(scenario())
