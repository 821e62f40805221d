"""Strange requests: whatever is sent, the answer is a record or says what is wrong; nothing of ours fails."""

import pytest
from records_site import NUMBER, TEXT, listed, relation

STRANGE_FILTERS = [
    "strftime('%s','now','x')=''",
    "strftime(1,2,3,4,5,6,7,8,9,10)=''",
    "title~'" + "%a" * 1500 + "'",
    "title='" + "x" * 3400 + "'",
    "geoDistance(1e,1,1,1)=1",
    "geoDistance(999999999999999999999,1,1,1)<1",
    "n=99999999999999999999999999999999999999999",
    "n=" + "9" * 400,
    "geoDistance(place.lon,place.lat,1,1)>=0",
    "data.a.0.b='x'",
    "data.0='x'",
    "data." + ".".join("a" * 300) + "='x'",
    "data.99999999999999999999='x'",
    "title='\x00'",
    "title='\ud7ff\U0001f600'",
    "(" * 60 + "n=1" + ")" * 60,
    "&&".join(["n=1"] * 200),
    "||".join(["n=1"] * 200),
    "&&".join(["n=1"] * 201),
    "&&".join(["tags:each='a'"] * 200),
    "||".join(["tags:each!='a'"] * 190),
    "=".join(["n"] * 3),
    "tags:length=1",
    "tags:each~'a'",
    "title:each='a'",
    "title:isset=1",
    "title:changed=1",
    "self.self.self.self.self.self.self.title='a'",
    "&&".join(f"self.self.self.things_via_self.{'self.' * n}title='a'" for n in range(3)),
    "@now>@now",
    "@nowhere=1",
    "@request",
    "@collection",
    "null=null",
    "true!=false",
    "''=''",
    "'a'~'b'",
    "1>2",
    ":",
    "#a=1",
    "a:=1",
    "n.x=1",
    "title.x.y=1",
    "_via_=1",
    "x_via_=1",
    "things_via_self=1",
    "things_via_self.id?=1",
    "_rowid_=1",
    "rowid=1",
    "collectionId='x'",
    "strftime()=1",
    "nope()=1",
    "strftime('%s',strftime('%s',strftime('%s',strftime('%s'))))=1",
]


def test_filters_never_fail_otherwise_than_by_a_400(site):
    tags = {"name": "tags", "type": "select", "values": ["a", "b"], "maxSelect": 2}
    place, data = {"name": "place", "type": "geoPoint"}, {"name": "data", "type": "json"}
    things = site.collection("things", TEXT, NUMBER, tags, place, data)
    fields = [*things["fields"], relation("self", things)]
    assert site("PATCH", "collections/things", {"fields": fields}, token=site.su).status == 200
    site.create("things", title="x", tags=["a", "b"], data={"a": [1]})
    for filter in STRANGE_FILTERS:
        for token in ("", site.su):
            answer = listed(site, "things", token, filter=filter)
            assert answer.status in (200, 400), (filter, answer.body)
            assert "SQL" not in answer.body.decode()
            for name in ("sort", "expand", "fields"):
                answer = listed(site, "things", token, **{name: filter[:250]})
                assert answer.status in (200, 400), (name, filter, answer.body)
    assert [line for line in site.log.lines if "SqlError" not in line["error"]] == []


VALUES = [
    *(None, True, -1, 0, 1.5, 1e308, -1e308, 1 << 63, 1 << 70, "", "x", "\x00", "a" * 5001, [], [1, None], [[["x"]]]),
    *({}, {"a": {"b": None}}, {"lon": "x", "lat": None}, ["x"] * 3000, "[", '["a"', "9" * 400, "NaN", "Infinity"),
    *("1e999", "-1e999", {"lon": 1e308, "lat": "Infinity"}, "\U0001f600" * 10, ["\x00"], {"\x00": 1}),
]
KINDS = [
    *("text", "editor", "number", "bool", "email", "url", "date", "autodate", "select", "relation", "file", "json"),
    *("password", "geoPoint"),
]


def test_bodies_never_fail_otherwise_than_by_a_400(site):
    users = site("GET", "collections/users", token=site.su).json
    special = {
        "select": {"values": ["a", "x"], "maxSelect": 2},
        "relation": {"collectionId": users["id"], "maxSelect": 3},
        "file": {"maxSelect": 2},
        "autodate": {"onCreate": True},
    }
    site.collection("things", *({"name": f"f{kind}", "type": kind, **special.get(kind, {})} for kind in KINDS))
    record = site.create("things")
    statuses = set()
    for kind in KINDS:
        for value in VALUES:
            for key in (f"f{kind}", f"f{kind}+", f"f{kind}-", f"+f{kind}", f"f{kind}:autogenerate"):
                body = {key: value}
                if key != f"f{kind}" and value not in (VALUES[1], VALUES[9], VALUES[12], VALUES[13]):
                    continue
                for method, path in (("POST", ""), ("PATCH", f"/{record['id']}")):
                    answer = site(method, f"collections/things/records{path}", body)
                    assert answer.status in (200, 400), (kind, str(value)[:50], answer.body)
                    statuses.add(answer.status)
    assert statuses == {200, 400}
    assert site.log.lines == []


@pytest.mark.parametrize(
    "body",
    [
        b'{"title":"\\ud800"}',
        b'{"title":"\\udc00x","\\ud800":1}',
        b'{"data":{"\\ud800":1}}',
        b'{"title":"\xff"}',
        b"[" * 100_000,
        b'{"data":' + b"[" * 900 + b"]" * 900 + b"}",
        b'{"data":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"n":1e400}',
        b'{"n":' + b"9" * 5000 + b"}",
        b'{"data":' + b"9" * 5000 + b"}",
        b'{"data":1e400}',
        b'{"id":"\\u0000"}',
        b'{"id":123456789012345}',
        b'{"id":{}}',
        b'{"title":1,"title":2}',
        b'{"":1,"+":2,"-":3,":autogenerate":4}',
    ],
)
def test_strange_json_is_a_record_or_a_400(site, body):
    site.collection("things", TEXT, NUMBER, {"name": "data", "type": "json"})
    record = site.create("things")
    for method, path in (("POST", "things/records"), ("PATCH", f"things/records/{record['id']}")):
        answer = site(method, f"collections/{path}", body)
        assert answer.status in (200, 400), answer.body
        if method == "POST" and answer.status == 200:
            assert site("GET", f"collections/things/records/{answer.json['id']}").status == 200
    assert listed(site, "things").status == 200
    for path in ("users/auth-with-password", "users/impersonate/x", "users/auth-refresh"):
        assert site("POST", f"collections/{path}", body, token=site.su).status in (200, 400, 403, 404)
    assert site.log.lines == []


@pytest.mark.parametrize(
    "path",
    [
        "collections/things/records/%00",
        "collections/things/records/%ff%fe",
        "collections/things/records/" + "a" * 5000,
        "collections/%00/records",
        "collections//records",
        "collections/things/records/",
        "collections/things/records/a%2Fb",
        "collections/THINGS/records/%27%20or%201=1",
        "collections/things/records?page=-1&perPage=-1",
        "collections/things/records?page=99999999999999999999",
        "collections/things/records?page=9223372036854775807&perPage=1000",
        "collections/things/records?perPage=1e9",
        "collections/things/records?filter=%FF",
        "collections/things/records?sort=%00",
        "collections/things/records?" + "&".join(f"a{n}=1" for n in range(1001)),
        "collections/things/records?fields=" + "a" * 20_000,
        "collections/things/records?fields=" + ",".join("a" * 90),
        "collections/things/records?fields=" + ".".join("a" * 1000),
        "collections/things/records?expand=" + ".".join("a" * 1000),
        "collections/things/records?expand=" + ",".join(f"a{n}" for n in range(1000)),
        "collections/things/records?sort=" + ",".join("n" * 9),
        "collections/things/records?sort=" + "n" * 256,
        "collections/things/records?" + "a" * 70_000,
    ],
)
def test_strange_addresses_are_a_400_or_404_at_worst(site, path):
    site.collection("things", TEXT, NUMBER)
    site.create("things")
    for token in ("", site.su, "\x00", "a" * 10_000, "..", "Bearer Bearer x"):
        answer = site("GET", path, token=token)
        assert answer.status in (200, 400, 404), answer.body
    assert site.log.lines == []


def test_strange_definitions_are_refused(site):
    strange = [None, 1, "x", [], [1], {}, {"a": []}, [{}], "((", "\x00", 1 << 70]
    for value in strange:
        for key in ("type", "name", "id", "hidden", "min", "pattern", "values", "maxSelect", "collectionId"):
            for kind in ("text", "select", "relation", "file"):
                field = {"name": "q", "type": kind, key: value}
                assert site("POST", "collections", {"name": "things", "fields": [field]}, token=site.su).status in (
                    200,
                    400,
                )
                site("DELETE", "collections/things", token=site.su)
    assert site.log.lines == []
