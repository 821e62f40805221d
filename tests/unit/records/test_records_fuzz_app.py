"""Whatever is sent to the records API is answered, without a fault of ours, and with nothing of how it is made."""

import json
from urllib.parse import quote, urlencode

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from records_site import MULTIPART, Site, multipart

SIMPLE = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
LONG = settings(max_examples=1500, deadline=None, suppress_health_check=list(HealthCheck))
TELLING = ("SELECT", "sqlite", "SQL", "no such", "syntax error", "Traceback", "near \\")
KINDS = ("text", "editor", "number", "bool", "email", "url", "date", "select", "relation", "file", "json", "geoPoint")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    made = Site(tmp_path_factory.mktemp("fuzz")).begin()
    users = made("GET", "collections/users", token=made.su).json
    special = {
        "select": {"values": ["a", "b"], "maxSelect": 2},
        "relation": {"collectionId": users["id"], "maxSelect": 3},
        "file": {"maxSelect": 2},
    }
    fields = [{"name": kind, "type": kind, **special.get(kind, {})} for kind in KINDS]
    fields.append({"name": "secret", "type": "text", "hidden": True})
    made.collection("things", *fields)
    rule = "secret = 'open' || @request.auth.id != ''"
    assert made("PATCH", "collections/things", {"listRule": rule, "viewRule": rule}, token=made.su).status == 200
    made("PATCH", "settings", {"batch": {"enabled": True}}, token=made.su)
    made.ann, made.token = made.user("ann")
    for secret in ("open", "closed"):
        made.thing = made.create("things", text="x", secret=secret, select=["a"], relation=[made.ann["id"]])

    async def no_pause(_seconds):
        return

    made.desk.guard._pause = no_pause
    yield made
    made.close()


def check(site, answer, statuses):
    assert answer.status in statuses, (answer.status, answer.body[:500])
    text = answer.body.decode()
    if answer.status >= 400:
        assert set(answer.json) == {"data", "message", "status"} and answer.json["status"] == answer.status
        assert not [word for word in TELLING if word in answer.json["message"]], text[:500]
    assert "closed" not in text
    assert site.log.lines == []


# -- filters, sorts, and what else a query says -----------------------------------------------------------------------

words = st.sampled_from(
    [
        *KINDS,
        *("id", "secret", "nowhere", "relation.email", "relation.name", "things_via_relation.text", "select:each"),
        *("select:length", "json.a.0", "geoPoint.lon", "text:lower", "text:isset", "@now", "@todayStart", "@year"),
        *("@request.auth.id", "@request.body.x", "@collection.users.email", "null", "true", "''", "'x'", '"y"', "1"),
        *("-1.5", "1e9", "geoDistance(1,2,geoPoint.lon,geoPoint.lat)", "strftime('%Y', date)", "//c", "(", ")"),
        *("=", "!=", "~", "!~", ">", "?=", "?!~", "<=", "&&", "||", ",", ":", ".", "'", "\\", "%", "\x00", "\ud7ff"),
    ]
)
wild = st.one_of(
    st.text(max_size=120), st.lists(words, max_size=9).map(" ".join), st.lists(words, max_size=9).map("".join)
)


def ask_query(site, name, text):
    for token in ("", site.token, "not.a.token"):
        answer = site("GET", f"collections/things/records?{name}={quote(text)}", token=token)
        if token != site.token:
            check(site, answer, (200, 400, 403))
        assert answer.status in (200, 400, 403)
    if name in ("expand", "fields"):
        check(site, site("GET", f"collections/things/records/{site.thing['id']}?{name}={quote(text)}"), (400, 404))


@pytest.mark.slow
@SIMPLE
@given(
    st.sampled_from(["filter", "filter", "filter", "sort", "expand", "fields", "page", "perPage", "skipTotal"]), wild
)
@example("filter", "(" * 2000)
@example("filter", "text='" + "%_" * 1500 + "'")
@example("fields", ":excerpt(" * 50)
def test_queries(site, name, text):
    ask_query(site, name, text)


@pytest.mark.full
@LONG
@given(st.sampled_from(["filter", "filter", "sort", "expand", "fields"]), wild)
def test_queries_for_long(site, name, text):
    ask_query(site, name, text)


# -- bodies -----------------------------------------------------------------------------------------------------------

keys = st.one_of(
    st.sampled_from([*KINDS, "id", "secret", "password", "email", "identity", "mfaId", "requests", "@jsonPayload", ""]),
    st.text(max_size=20),
).flatmap(lambda name: st.sampled_from([name, f"{name}+", f"+{name}", f"{name}-", f"{name}:autogenerate"]))
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=30),
    st.sampled_from(["a", "b", "x@example.com", "2026-01-01", "https://example.com", "\x00", "9" * 400, "[", "{"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=8,
)
objects = st.dictionaries(keys, values, max_size=6)
texts = st.one_of(st.text(max_size=40), values.map(lambda value: json.dumps(value)))
forms = st.lists(st.tuples(keys, texts), max_size=6)
parts = st.lists(
    st.tuples(
        keys.map(lambda key: key.replace('"', "").replace("\r", "").replace("\n", "")),
        st.one_of(texts, st.tuples(st.sampled_from(["a.txt", "", "../a", "\x01", "a" * 300]), st.binary(max_size=80))),
    ),
    max_size=6,
)
bodies = st.one_of(
    objects.map(lambda value: ("application/json", json.dumps(value).encode())),
    values.map(lambda value: ("application/json; charset=utf-8", json.dumps(value).encode())),
    forms.map(lambda pairs: ("application/x-www-form-urlencoded", urlencode(pairs, errors="replace").encode())),
    parts.map(lambda found: (MULTIPART, multipart(*found))),
    st.tuples(
        st.sampled_from(["application/json", "application/x-www-form-urlencoded", MULTIPART, "multipart/form-data"]),
        st.binary(max_size=200),
    ),
    parts.flatmap(lambda found: st.integers(0, 400).map(lambda at: (MULTIPART, multipart(*found)[:at]))),
    st.tuples(st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=30), st.binary(max_size=60)),
)
ROUTES = [
    ("POST", "collections/things/records"),
    ("PATCH", "collections/things/records/{thing}"),
    ("POST", "collections/users/records"),
    ("PATCH", "collections/users/records/{ann}"),
    ("POST", "collections/users/auth-with-password"),
    ("POST", "collections/users/auth-refresh"),
    ("POST", "collections/users/impersonate/{ann}"),
    ("POST", "batch"),
    ("POST", "files/token"),
    ("POST", "collections"),
    ("PATCH", "collections/things"),
    ("PUT", "collections/import"),
    ("POST", "collections/meta/dry-run-view"),
    ("PATCH", "settings"),
]


def send(site, route, sent, signed_in):
    method, path = route
    kind, body = sent
    path = path.format(thing=site.thing["id"], ann=site.ann["id"])
    answer = site(method, path, body, token=site.token if signed_in else "", headers={"content-type": kind})
    check(site, answer, (200, 204, 400, 401, 403, 404, 413)) if not signed_in else None
    assert answer.status < 500, answer.body[:500]
    assert site.log.lines == []
    assert site("GET", "collections/users/auth-methods").status == 200


@pytest.mark.slow
@SIMPLE
@given(st.sampled_from(ROUTES), bodies, st.booleans())
@example(
    ("POST", "batch"), ("application/json", b'{"requests":[{"method":"POST","url":"/api/collections/%00"}]}'), False
)
@example(
    ("POST", "batch"), ("application/json", b'{"requests":[{"method":"PUT","url":"//api","body":{"id":1}}]}'), True
)
def test_bodies(site, route, sent, signed_in):
    send(site, route, sent, signed_in)


@pytest.mark.full
@LONG
@given(st.sampled_from(ROUTES), bodies, st.booleans())
def test_bodies_for_long(site, route, sent, signed_in):
    send(site, route, sent, signed_in)


@pytest.mark.slow
@SIMPLE
@given(st.sampled_from([each for each in ROUTES if each[1] != "settings"]), bodies)
def test_bodies_of_superusers(site, route, sent):
    method, path = route
    path = path.format(thing=site.thing["id"], ann=site.ann["id"])
    answer = site(method, path, sent[1], token=site.su, headers={"content-type": sent[0]})
    assert answer.status < 500, answer.body[:500]
    assert site.log.lines == []


batches = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "method": st.sampled_from(["POST", "PUT", "PATCH", "DELETE", "GET", "post", ""]),
            "url": st.one_of(
                st.sampled_from(
                    [
                        *("/api/collections/things/records", "/api/collections/users/records?expand=x&fields=id"),
                        *(
                            "/api/batch",
                            "/api/settings",
                            "api/collections/things/records",
                            "/api/collections/%2e%2e/records",
                        ),
                    ]
                ),
                st.text(max_size=40),
            ),
            "headers": st.one_of(st.dictionaries(st.text(max_size=10), st.text(max_size=10), max_size=3), values),
            "body": st.one_of(objects, values),
        },
    ),
    max_size=4,
)


@pytest.mark.slow
@SIMPLE
@given(batches)
def test_batches(site, requests):
    before = site.rows("select count(*) from things")[0][0]
    answer = site("POST", "batch", {"requests": requests})
    check(site, answer, (200, 400))
    if answer.status == 400:
        assert site.rows("select count(*) from things")[0][0] == before, "nothing of it was done"


# -- addresses, methods, headers --------------------------------------------------------------------------------------

steps = st.sampled_from(
    [
        "collections",
        "things",
        "users",
        "records",
        "files",
        "batch",
        "settings",
        "realtime",
        "..",
        ".",
        "",
        "%00",
        "%2F",
        "meta",
    ]
)


@pytest.mark.slow
@SIMPLE
@given(
    st.sampled_from(["GET", "POST", "PATCH", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "X"]),
    st.lists(st.one_of(steps, st.text(st.characters(codec="ascii", exclude_characters="?#"), max_size=12)), max_size=6),
    st.lists(
        st.tuples(
            st.sampled_from(["authorization", "x-forwarded-for", "pando-client", "pando-node-file", "range", "accept"]),
            st.text(st.characters(codec="latin-1"), max_size=30),
        ),
        max_size=3,
    ),
)
def test_addresses_and_headers(site, method, path, headers):
    sent = {name: value.encode("latin-1").decode("latin-1") for name, value in headers}
    answer = site(method, "/".join(path), None, headers={k: v for k, v in sent.items() if v.isascii()})
    assert answer.status < 500, answer.body
    assert "closed" not in answer.body.decode("utf-8", "replace")
    assert site.log.lines == []
