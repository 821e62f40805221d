"""Files over the routes: uploaded in forms, kept with their record, served, removed."""

import asyncio
import json

import pytest
from records_site import MULTIPART, multipart

from pando.errors import OutcomeUnknown, StorageFull
from pando.records.files import spool

PNG = (
    b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89"
    b"\x00\x00\x00\rIDATx\x9cc\xf8\xcf\xc0\xf0\x1f\x00\x05\x00\x01\xff\x89\x99=\x1d\x00\x00\x00\x00IEND\xaeB`\x82"
)
TITLE = {"name": "title", "type": "text"}
ONE = {"name": "one", "type": "file", "maxSelect": 1}
MANY = {"name": "many", "type": "file", "maxSelect": 3}
RECORDS = "collections/docs/records"


@pytest.fixture
def docs(site):
    return site.collection("docs", TITLE, ONE, MANY)


def text(name, content=b"content"):
    return name, ("note.txt", content)


def create(site, *parts, path=RECORDS):
    answer = site.form("POST", path, *parts)
    assert answer.status == 200, answer.body
    return answer.json


def change(site, record, *parts):
    return site.form("PATCH", f"{RECORDS}/{record['id']}", *parts)


def url(record, name):
    return f"files/{record['collectionName']}/{record['id']}/{name}"


def keys(record, *names):
    return sorted(f"{record['collectionId']}/{record['id']}/{name}" for name in names)


# -- in and out -------------------------------------------------------------------------------------------------------


def test_an_upload_is_stored_and_served(site, docs):
    record = create(site, ("title", "x"), ("one", ("My Note.txt", b"hello world")))
    assert record["title"] == "x"
    assert record["one"].startswith("my_note_") and record["one"].endswith(".txt")
    assert site.stored() == keys(record, record["one"])
    for reference in ("docs", "DOCS", docs["id"]):
        got = site("GET", f"files/{reference}/{record['id']}/{record['one']}")
        assert (got.status, got.body, got.headers["content-length"]) == (200, b"hello world", "11")
    assert got.headers["content-type"] == "text/plain; charset=utf-8"
    assert got.headers["content-disposition"].startswith("attachment")
    assert "x-frame-options" not in got.headers and got.headers["x-content-type-options"] == "nosniff"
    head = site("HEAD", url(record, record["one"]))
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", "11")


def test_a_long_file_goes_over_the_disk_and_comes_back_as_it_was(site, docs):
    content = bytes(range(256)) * 8000
    short = b"\r\n------betwee\r\n--"
    record = create(site, text("many", content), text("many", short), text("many", content[1:]), ("title", "after"))
    got = [site("GET", url(record, name)).body for name in record["many"]]
    assert (got == [content, short, content[1:]], record["title"]) == (True, "after")


def test_forms_mean_what_json_means(site):
    site.collection(
        "docs",
        TITLE,
        {"name": "n", "type": "number"},
        {"name": "yes", "type": "bool"},
        {"name": "kinds", "type": "select", "values": ["a", "b"], "maxSelect": 2},
    )
    payload = json.dumps({"title": "from the payload", "n": 7})
    record = create(site, ("@jsonPayload", payload), ("title", "012"), ("yes", "true"), ("kinds", "a"), ("kinds", "b"))
    assert (record["title"], record["n"], record["yes"], record["kinds"]) == ("012", 7, True, ["a", "b"])
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = b"title=a+b%26&n=12.5&kinds=b&@jsonPayload=%7B%22yes%22%3Atrue%7D"
    record = site("POST", RECORDS, body, headers=form).json
    assert (record["title"], record["n"], record["yes"], record["kinds"]) == ("a b&", 12.5, True, ["b"])


def test_other_routes_take_forms_too(site):
    form = {"content-type": "application/x-www-form-urlencoded"}
    body = b"identity=su@example.com&password=correct+horse"
    assert site("POST", "collections/_superusers/auth-with-password", body, headers=form).status == 200
    parts = multipart(("identity", "su@example.com"), ("x", ("a.txt", b"dropped")), ("password", "correct horse"))
    headers = {"content-type": MULTIPART}
    assert site("POST", "collections/_superusers/auth-with-password", parts, headers=headers).status == 200


def test_an_empty_file_input_of_a_browser_is_no_file(site, docs):
    assert create(site, ("title", "x"), ("one", ("", b"")))["one"] == ""
    assert create(site, ("one", ("empty.txt", b"")))["one"].startswith("empty_")


def test_files_of_unknown_parts_are_dropped(site, docs):
    record = create(site, ("title", ("a.txt", b"x")), ("nothing", ("a.txt", b"x")))
    assert (record["title"], site.stored()) == ("", [])


def test_parts_of_a_file_and_files_that_have_not_changed(site, docs):
    record = create(site, text("one", b"0123456789"))
    path = url(record, record["one"])
    part = site("GET", path, headers={"range": "bytes=2-4"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"234", "bytes 2-4/10")
    several = site("GET", path, headers={"range": "bytes=0-0,9-9"})
    assert several.status == 206 and several.headers["content-type"].startswith("multipart/byteranges")
    assert len(several.body) == int(several.headers["content-length"])
    tag = part.headers["etag"]
    same = site("GET", path, headers={"if-none-match": tag})
    assert (same.status, same.body) == (304, b"")
    assert site("GET", path, headers={"if-match": '"other"'}).status == 412
    beyond = site("GET", path, headers={"range": "bytes=50-"})
    assert (beyond.status, beyond.headers["content-range"]) == (416, "bytes */10")
    assert beyond.body == b"invalid range: failed to overlap\n" and "content-security-policy" in beyond.headers


def test_thumbs_are_made_once_and_go_with_their_file(site):
    site.collection("docs", {"name": "image", "type": "file", "thumbs": ["10x20"]})
    record = create(site, ("image", ("a.png", PNG)))
    path = url(record, record["image"])
    thumb = site("GET", f"{path}?thumb=10x20")
    assert (thumb.status, thumb.headers["content-type"]) == (200, "image/png")
    assert int.from_bytes(thumb.body[16:20]) == 10 and int.from_bytes(thumb.body[20:24]) == 20
    assert f'10x20_{record["image"]}"' in thumb.headers["content-disposition"]
    assert site("GET", f"{path}?thumb=11x11").body == PNG
    assert len(site.stored()) == 2
    assert site("GET", path).headers["content-disposition"].startswith("inline")
    assert site("GET", f"{path}?download=1").headers["content-disposition"].startswith("attachment")
    assert site("DELETE", f"{RECORDS}/{record['id']}").status == 204
    assert site.stored() == []


@pytest.mark.parametrize("name", ["nothing.txt", "..", "../x", "%2e%2e%2fdata.db", "{one}.attrs", "thumbs_{one}", ""])
def test_what_no_record_names_is_404(site, docs, name):
    record = create(site, text("one"))
    answer = site("GET", url(record, name.format(one=record["one"])))
    assert (answer.status, answer.json["status"]) == (404, 404)


def test_files_that_the_disk_has_lost_are_404(site, docs):
    record = create(site, text("one"))
    (site.storage / keys(record, record["one"])[0]).unlink()
    assert site("GET", url(record, record["one"])).status == 404


# -- who may ----------------------------------------------------------------------------------------------------------


def test_protected_files_are_for_those_who_may_view(site):
    closed = {"name": "one", "type": "file", "protected": True}
    site.collection("docs", closed, viewRule="@request.context = 'protectedFile' && @request.auth.name = 'ann'")
    ann, bob = (site.user(who, name=who)[1] for who in ("ann", "bob"))
    record = create(site, text("one"))

    def asked(token="", header=""):
        return site("GET", url(record, record["one"]) + f"?token={token}", token=header).status

    def token(of):
        return site("POST", "files/token", token=of).json["token"]

    assert (asked(token(ann)), asked(token(site.su))) == (200, 200)
    assert [asked(), asked(ann), asked("nothing"), asked(token(bob)), asked(header=ann)] == [404] * 5
    site.clock.wall += 181_000
    late = token(ann)
    site.clock.wall += 181_000
    assert asked(late) == 404
    assert site("PATCH", "collections/docs", {"viewRule": None}, token=site.su).status == 200
    assert (asked(token(ann)), asked(token(site.su))) == (404, 200)


def test_a_view_shows_files_of_the_records_behind_it(site, docs):
    record = create(site, text("one"), text("many", b"a"), text("many", b"b"))
    closed = dict.fromkeys(("createRule", "updateRule", "deleteRule"))
    site.collection("same", type="view", **closed, viewQuery="select id, one from docs")
    rows = "select (docs.id || 'x') as id, one, many from docs"
    site.collection("other", type="view", **closed, viewQuery=rows)
    assert site("GET", f"files/same/{record['id']}/{record['one']}").body == b"content"
    assert site("GET", f"files/other/{record['id']}x/{record['one']}").body == b"content"
    assert site("GET", f"files/other/{record['id']}x/{record['many'][1]}").body == b"b"
    assert site("GET", f"files/same/{record['id']}/{record['many'][1]}").status == 404


def test_who_may_not_create_need_not_send(site):
    site.collection("docs", ONE, createRule=None, updateRule=None)
    record = site.create("docs")
    headers = {"content-type": MULTIPART}
    assert site("POST", RECORDS, b"no form at all", headers=headers).status == 403
    assert site("PATCH", f"{RECORDS}/{record['id']}", b"no form at all", headers=headers).status == 403


# -- changes ----------------------------------------------------------------------------------------------------------


def test_a_new_file_takes_the_place_of_the_old_one(site, docs):
    old = create(site, text("one", b"old"), text("many", b"kept"))
    new = change(site, old, text("one", b"new")).json
    assert new["one"] != old["one"] and new["many"] == old["many"]
    assert site("GET", url(new, new["one"])).body == b"new"
    assert site("GET", url(old, old["one"])).status == 404
    assert site.stored() == keys(new, new["one"], *new["many"])


def test_lists_of_files_grow_shrink_and_change_their_order(site, docs):
    made = create(site, text("many", b"a"), text("many", b"b"))
    more = change(site, made, text("many+", b"c")).json
    assert (more["many"][:2], len(more["many"])) == (made["many"], 3)
    a, b, c = more["many"]
    fewer = change(site, more, ("many-", b)).json
    assert (fewer["many"], site.stored()) == ([a, c], keys(made, a, c))
    path = f"{RECORDS}/{made['id']}"
    assert site("PATCH", path, {"many": [c, a]}).json["many"] == [c, a]
    first = change(site, made, text("+many", b"d")).json["many"]
    assert first[1:] == [c, a] and len(site.stored()) == 3
    kept = change(site, made, ("many", a), text("many", b"e")).json["many"]
    assert kept[0] == a and len(kept) == 2 and site.stored() == keys(made, *kept)
    assert site("PATCH", path, {"many": None}).json["many"] == []
    assert site.stored() == []


@pytest.mark.parametrize(
    ("parts", "field", "code"),
    [
        ([("one", "stranger.txt")], "one", "validation_invalid_file"),
        ([text("many"), text("many"), text("many"), text("many")], "many", "validation_too_many_files"),
        ([text("small", b"12345678901")], "small", "validation_file_size_limit"),
        ([("image", ("a.png", b"no image"))], "image", "validation_invalid_mime_type"),
        ([("title", "taken"), text("one")], "title", "validation_not_unique"),
    ],
)
def test_what_is_refused_leaves_no_file(site, parts, field, code):
    small = {"name": "small", "type": "file", "maxSize": 10}
    image = {"name": "image", "type": "file", "mimeTypes": ["image/png", "image/jpeg"]}
    index = "CREATE UNIQUE INDEX idx_title ON docs (title) WHERE title != ''"
    site.collection("docs", TITLE, ONE, MANY, small, image, indexes=[index])
    site.create("docs", title="taken")
    record = create(site, text("one", b"stays"))
    stored = site.stored()
    for answer in (site.form("POST", RECORDS, *parts), change(site, record, *parts)):
        assert (answer.status, answer.code(field)) == (400, code), answer.body
    assert site.stored() == stored == keys(record, record["one"])


def test_a_type_goes_by_all_its_names(site):
    site.collection("docs", {"name": "image", "type": "file", "mimeTypes": ["image/x-png"]})
    assert create(site, ("image", ("a.png", PNG)))["image"]


def test_updates_at_once_leave_no_file_without_a_record(site, docs):
    record = create(site, text("one", b"0"), text("many", b"0"))
    path = f"/{RECORDS}/{record['id']}"[1:]
    bodies = [multipart(text("one", b"%d" % at)) for at in range(4)] + [multipart(("many-", record["many"][0]))]

    async def all_at_once():
        asks = [site._ask("PATCH", path, body, "", {"content-type": MULTIPART}) for body in bodies]
        return [answer.status for answer in await asyncio.gather(*asks)]

    assert site.node.run(all_at_once()) == [200] * 5
    last = site("GET", path).json
    assert last["many"] == []
    assert site.stored() == keys(last, last["one"])


# -- what goes with a record ------------------------------------------------------------------------------------------


def test_files_go_with_records_that_a_deletion_takes_along(site, docs):
    parent = create(site, text("one"))
    to_docs = {"name": "doc", "type": "relation", "collectionId": docs["id"], "cascadeDelete": True}
    site.collection("notes", ONE, to_docs)
    create(site, text("one"), ("doc", parent["id"]), path="collections/notes/records")
    other = create(site, text("one"), path="collections/notes/records")
    assert site("DELETE", f"{RECORDS}/{parent['id']}").status == 204
    assert site.stored() == keys(other, other["one"])


def test_a_deletion_that_fails_keeps_the_files(site, docs):
    parent = create(site, text("one"))
    site.collection("notes", {"name": "doc", "type": "relation", "collectionId": docs["id"], "required": True})
    site.create("notes", doc=parent["id"])
    assert site("DELETE", f"{RECORDS}/{parent['id']}").status == 400
    assert site("GET", url(parent, parent["one"])).status == 200


def test_emptying_and_removing_a_collection_removes_its_files(site, docs):
    for _ in range(3):
        create(site, text("one"), text("many"))
    assert len(site.stored()) == 6
    assert site("DELETE", "collections/docs/truncate", token=site.su).status == 204
    assert site.stored() == []
    create(site, text("one"))
    assert site("DELETE", "collections/docs", token=site.su).status == 204
    assert site.stored() == []


def test_an_import_that_drops_a_collection_drops_its_files(site, docs):
    other = site.collection("other", ONE)
    create(site, text("one"))
    kept = create(site, text("one"), path="collections/other/records")
    body = {"collections": [other], "deleteMissing": True}
    assert site("PUT", "collections/import", body, token=site.su).status == 204
    assert site.stored() == keys(kept, kept["one"])


def test_many_files_are_cleared_behind_the_answer(site, docs):
    for _ in range(40):
        create(site, text("one"))
    assert site("DELETE", "collections/docs/truncate", token=site.su).status == 204
    site.node.run(site.files.settle())
    assert site.stored() == []


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_lost_answer_to_the_commit_keeps_the_file(site, docs, monkeypatch):
    write = site.desk.engine.write

    async def written_and_lost(statements):
        await write(statements)
        raise OutcomeUnknown("the connection broke")

    monkeypatch.setattr(site.desk.engine, "write", written_and_lost)
    assert site.form("POST", RECORDS, text("one")).status == 503
    monkeypatch.undo()
    [record] = site("GET", RECORDS).json["items"]
    assert site("GET", url(record, record["one"])).body == b"content"


def test_a_full_disk_leaves_neither_record_nor_file(site, docs, monkeypatch):
    storage = site.files.place(site.node.run(site.desk.known()).settings.s3).storage
    put, calls = storage.put, []

    async def second_fails(key, *args, **options):
        calls.append(key)
        if len(calls) == 2:
            raise StorageFull("no space")
        return await put(key, *args, **options)

    monkeypatch.setattr(storage, "put", second_fails)
    answer = site.form("POST", RECORDS, text("many"), text("many"))
    assert (answer.status, site.stored()) == (507, [])
    assert site("GET", RECORDS).json["totalItems"] == 0


def test_too_many_uploads_at_once_are_told_to_come_again(site, docs, monkeypatch):
    monkeypatch.setattr(spool, "SPOOLS_MAX", 0)
    assert create(site, text("one", b"short"))["one"]
    answer = site.form("POST", RECORDS, text("one", bytes(100_000)))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (b"x", "multipart/form-data"),
        (b"x", "multipart/form-data; boundary="),
        (b"no boundary", MULTIPART),
        (multipart(("title", "x"))[:-6], MULTIPART),
        (b"------between\r\nContent-Type: text/plain\r\n\r\nx\r\n------between--\r\n", MULTIPART),
        (b"------between\r\n" + b"A: b\r\n" * 50 + b"\r\nx\r\n------between--\r\n", MULTIPART),
        (b"------between\r\nA: " + b"b" * 9000 + b"\r\n\r\nx\r\n------between--\r\n", MULTIPART),
        (multipart(("n" * 600, "x")), MULTIPART),
        (multipart(*[("f", ("a", b"x"))] * 1001), MULTIPART),
        (multipart(("@jsonPayload", "[1]")), MULTIPART),
        (multipart(("@jsonPayload", "{")), MULTIPART),
        (b"a=1&" * 10_001, "application/x-www-form-urlencoded"),
        (b"<a/>", "application/xml"),
        (b"x", "text/plain"),
    ],
)
def test_a_body_that_cannot_be_read_is_400(site, docs, body, content_type):
    answer = site("POST", RECORDS, body, headers={"content-type": content_type})
    assert (answer.status, answer.json["data"], site.stored()) == (400, {}, [])


def test_an_empty_form_is_an_empty_body(site, docs):
    assert site("POST", RECORDS, b"", headers={"content-type": MULTIPART}).status == 200


def test_a_body_longer_than_its_fields_can_be_is_413(site):
    site.collection("docs", TITLE, {"name": "one", "type": "file", "maxSize": 10})
    most = (32 << 20) + 10
    lying = {"content-type": MULTIPART, "content-length": str(most + 1)}
    told = site("POST", RECORDS, b"", headers=lying)
    assert (told.status, "connection" in told.headers) == (413, False), "the client may yet send it"
    far = {"content-type": MULTIPART, "content-length": str(1 << 40)}
    assert site("POST", RECORDS, b"", headers=far).headers["connection"] == "close"
    whole = multipart(text("one", bytes(most)))
    answer = site("POST", RECORDS, whole, headers={"content-type": MULTIPART, "content-length": ""})
    assert (answer.status, answer.headers["connection"]) == (413, "close")
    texts = multipart(("title", "x" * ((32 << 20) + 1)))
    assert site("POST", RECORDS, texts, headers={"content-type": MULTIPART, "content-length": "1"}).status == 413


# -- batches ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def batching(site, docs):
    answer = site("PATCH", "settings", {"batch": {"enabled": True, "maxRequests": 10, "timeout": 3}}, token=site.su)
    assert answer.status == 200, answer.body
    return site


def ask_batch(site, requests, *files):
    return site.form("POST", "batch", ("@jsonPayload", json.dumps({"requests": requests})), *files)


def test_files_of_a_batch_go_to_their_requests(batching):
    site = batching
    old = create(site, text("one", b"old"))
    posted = {"method": "POST", "url": f"/api/{RECORDS}"}
    changed = {"method": "PATCH", "url": f"/api/{RECORDS}/{old['id']}", "body": {"title": "t"}}
    answer = ask_batch(
        site,
        [{**posted, "body": {"title": "first"}}, changed, posted],
        ("requests.0.one", ("a.txt", b"zero")),
        ("requests[1].one", ("b.txt", b"one")),
        ("requests.1.many+", ("c.txt", b"more")),
        ("requests.7.one", ("d.txt", b"nobody's")),
    )
    assert answer.status == 200, answer.body
    first, second, third = (each["body"] for each in answer.json)
    assert (first["title"], second["title"], third["one"]) == ("first", "t", "")
    assert site("GET", url(first, first["one"])).body == b"zero"
    assert site("GET", url(second, second["one"])).body == b"one"
    assert site.stored() == sorted(keys(first, first["one"]) + keys(second, second["one"], *second["many"]))


def test_a_batch_that_fails_leaves_files_as_they_were(batching):
    site = batching
    old = create(site, text("one", b"old"))
    requests = [
        {"method": "POST", "url": f"/api/{RECORDS}"},
        {"method": "PATCH", "url": f"/api/{RECORDS}/{old['id']}", "body": {"one": ""}},
        {"method": "DELETE", "url": f"/api/{RECORDS}/nothing"},
    ]
    answer = ask_batch(site, requests, ("requests.0.one", ("a.txt", b"zero")))
    assert (answer.status, list(answer.json["data"]["requests"])) == (400, ["2"])
    assert site.stored() == keys(old, old["one"])
    assert ask_batch(site, requests[:2], ("requests.0.one", ("a.txt", b"zero"))).status == 200
    assert len(site.stored()) == 1 and site("GET", url(old, old["one"])).status == 404
