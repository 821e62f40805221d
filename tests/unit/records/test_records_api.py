"""Records over the routes: what is stored, what is shown, who may."""

import asyncio

import pytest
from records_site import NUMBER, PASSWORD, TEXT, Site


def items(answer):
    assert answer.status == 200, answer.body
    return answer.json["items"]


# -- records ----------------------------------------------------------------------------------------------------------


def test_a_record_is_created_read_changed_and_deleted(site):
    site.collection("posts", TEXT, NUMBER, {"name": "created", "type": "autodate", "onCreate": True})
    made = site("POST", "collections/posts/records", {"title": "one", "n": "7", "unknown": 1})
    assert made.status == 200
    record = made.json
    assert (record["title"], record["n"], record["collectionName"], len(record["id"])) == ("one", 7, "posts", 15)
    assert list(record) == sorted(record)
    path = f"collections/posts/records/{record['id']}"
    assert site("GET", path).json == record
    changed = site("PATCH", path, {"title": "two"})
    assert (changed.status, changed.json["title"], changed.json["n"]) == (200, "two", 7)
    assert changed.json["created"] == record["created"]
    gone = site("DELETE", path)
    assert (gone.status, gone.body) == (204, b"")
    assert site("GET", path).status == 404
    assert site("DELETE", path).status == 404


def test_lists_are_paged_sorted_filtered_and_counted(site):
    site.collection("posts", TEXT, NUMBER)
    for number in range(7):
        site.create("posts", title=f"t{number % 2}", n=number)
    page = site("GET", "collections/posts/records?page=2&perPage=3&sort=-n").json
    assert [item["n"] for item in page["items"]] == [3, 2, 1]
    assert (page["page"], page["perPage"], page["totalItems"], page["totalPages"]) == (2, 3, 7, 3)
    some = site("GET", "collections/posts/records?filter=(title='t1'%26%26n>1)&sort=n&skipTotal=1").json
    assert ([item["n"] for item in some["items"]], some["totalItems"], some["totalPages"]) == ([3, 5], -1, -1)
    assert list(page) == ["items", "page", "perPage", "totalItems", "totalPages"]
    assert site("GET", "collections/posts/records?filter=nowhere='1'").status == 400
    assert site("GET", "collections/posts/records?sort=nowhere").status == 400
    assert site("GET", "collections/posts/records?perPage=5000").json["perPage"] == 1000
    short = site("GET", "collections/posts/records?fields=n&sort=n").json
    assert short["items"][0] == {"n": 0}


def test_what_is_wrong_is_told_by_field(site):
    site.collection(
        "posts",
        {**TEXT, "required": True, "max": 3},
        {"name": "kind", "type": "select", "values": ["a", "b"], "maxSelect": 1},
        indexes=["CREATE UNIQUE INDEX idx_title ON posts (title)"],
    )
    blank = site("POST", "collections/posts/records", {"kind": "z"})
    assert (blank.status, blank.code("title"), blank.code("kind")) == (
        400,
        "validation_required",
        "validation_invalid_value",
    )
    assert list(blank.json) == ["data", "message", "status"]
    assert blank.json["data"]["title"]["message"] == "Cannot be blank."
    assert (
        site("POST", "collections/posts/records", {"title": "long"}).code("title") == "validation_max_text_constraint"
    )
    record = site.create("posts", title="one")
    again = site("POST", "collections/posts/records", {"title": "one"})
    assert (again.status, again.code("title")) == (400, "validation_not_unique")
    other = site.create("posts", title="two")
    clash = site("PATCH", f"collections/posts/records/{other['id']}", {"title": "one"})
    assert (clash.status, clash.code("title")) == (400, "validation_not_unique")
    moved = site("PATCH", f"collections/posts/records/{record['id']}", {"id": "abcdefghijklmno"})
    assert moved.code("id") == "validation_pk_change"


@pytest.mark.parametrize("body", [b"{", b"[1]", b'"x"', b"\xff", b'{"title":'])
def test_a_body_that_is_no_object_is_refused(site, body):
    site.collection("posts", TEXT)
    answer = site("POST", "collections/posts/records", body)
    assert (answer.status, answer.json["data"]) == (400, {})


def test_unknown_places_are_404(site):
    for path in ("nowhere", "collections/nowhere/records", "collections/users/records/none", "collections/users/x/y/z"):
        answer = site("GET", path)
        assert (answer.status, answer.json["status"], answer.json["data"]) == (404, 404, {}), path
    assert site("PUT", "collections/users/records").status == 404


def test_answers_carry_the_security_headers(site):
    answer = site("GET", "health")
    assert answer.json == {"message": "API is healthy.", "code": 200, "data": {}}
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-type"] == "application/json"


def test_modifiers_change_what_is_stored_and_two_at_once_lose_nothing(site):
    tags = {"name": "tags", "type": "select", "values": [str(number) for number in range(30)], "maxSelect": 30}
    site.collection("posts", {**NUMBER, "max": 100}, tags)
    record = site.create("posts", n=1, tags=["0"])
    path = f"collections/posts/records/{record['id']}"
    assert site("PATCH", path, {"n+": 4, "tags+": ["1", "2"], "+tags": "3"}).json["tags"] == ["3", "0", "1", "2"]
    assert site("PATCH", path, {"n-": 2, "tags-": ["0", "1"]}).json["n"] == 3

    async def all_at_once():
        asks = [site._ask("PATCH", f"/{path}"[1:], {"n+": 1, "tags+": str(10 + at)}, "", {}) for at in range(12)]
        return await asyncio.gather(*asks)

    answers = site.node.run(all_at_once())
    assert {answer.status for answer in answers} <= {200, 429, 503}
    done = sum(answer.status == 200 for answer in answers)
    stored = site("GET", path).json
    assert done >= 10
    assert (stored["n"], len(stored["tags"])) == (3 + done, 2 + done)
    assert site("PATCH", path, {"n+": 1000}).code("n") == "validation_max_number_constraint"


# -- rules ------------------------------------------------------------------------------------------------------------


def test_the_outcome_of_each_rule(site):
    closed = dict.fromkeys(("listRule", "viewRule", "createRule", "updateRule", "deleteRule"))
    site.collection("closed", TEXT, **closed)
    record = site.create("closed", title="x")
    path = f"collections/closed/records/{record['id']}"
    statuses = [
        site("GET", "collections/closed/records").status,
        site("GET", path).status,
        site("POST", "collections/closed/records", {}).status,
        site("PATCH", path, {}).status,
        site("DELETE", path).status,
    ]
    assert statuses == [403] * 5
    unmet = dict.fromkeys(closed, "@request.auth.id != ''")
    site.collection("guarded", TEXT, **unmet)
    record = site.create("guarded", title="x")
    path = f"collections/guarded/records/{record['id']}"
    assert items(site("GET", "collections/guarded/records")) == []
    statuses = [
        site("GET", path).status,
        site("POST", "collections/guarded/records", {"title": "y"}).status,
        site("PATCH", path, {"title": "y"}).status,
        site("DELETE", path).status,
    ]
    assert statuses == [404, 400, 404, 404]
    _, token = site.user("ann")
    assert len(items(site("GET", "collections/guarded/records", token=token))) == 1
    assert site("PATCH", path, {"title": "y"}, token=token).json["title"] == "y"
    assert site("DELETE", path, token=f"Bearer {token}").status == 204


def test_a_create_rule_sees_the_record_as_it_would_be(site):
    site.collection("posts", TEXT, NUMBER, createRule="n > 3 && @request.body.title != 'no'")
    assert site("POST", "collections/posts/records", {"title": "yes", "n": 4}).status == 200
    assert site("POST", "collections/posts/records", {"title": "yes", "n": 3}).status == 400
    assert site("POST", "collections/posts/records", {"title": "no", "n": 4}).status == 400
    assert site.rows("select count(*) from posts") == [(1,)]


def test_an_update_rule_sees_the_stored_record(site):
    site.collection("posts", TEXT, NUMBER, updateRule="n < 5")
    low, high = site.create("posts", n=1), site.create("posts", n=9)
    assert site("PATCH", f"collections/posts/records/{low['id']}", {"n": 9}).status == 200
    assert site("PATCH", f"collections/posts/records/{high['id']}", {"n": 1}).status == 404


def test_hidden_fields_are_neither_shown_nor_taken_nor_told_apart(site):
    site.collection("posts", TEXT, {"name": "secret", "type": "text", "hidden": True})
    record = site.create("posts", title="a", secret="s")
    path = f"collections/posts/records/{record['id']}"
    assert record["secret"] == "s"
    assert "secret" not in site("GET", path).json
    assert "secret" not in items(site("GET", "collections/posts/records"))[0]
    assert site("GET", "collections/posts/records?filter=secret='s'").status == 400
    assert site("GET", "collections/posts/records?sort=secret").status == 400
    site("PATCH", path, {"secret": "changed"})
    assert site("GET", path, token=site.su).json["secret"] == "s"


# -- relations --------------------------------------------------------------------------------------------------------


@pytest.fixture
def library(site):
    authors = site.collection("authors", {"name": "name", "type": "text"})
    site.collection(
        "books",
        TEXT,
        {"name": "author", "type": "relation", "collectionId": authors["id"], "maxSelect": 1, "cascadeDelete": True},
        {"name": "others", "type": "relation", "collectionId": authors["id"], "maxSelect": 9},
    )
    ann, bob = site.create("authors", name="Ann"), site.create("authors", name="Bob")
    book = site.create("books", title="First", author=ann["id"], others=[ann["id"], bob["id"]])
    return site, ann, bob, book


def test_relations_are_expanded_both_ways(library):
    site, ann, bob, book = library
    found = site("GET", f"collections/books/records/{book['id']}?expand=author,others,nowhere").json
    assert found["expand"]["author"]["name"] == "Ann"
    assert [each["name"] for each in found["expand"]["others"]] == ["Ann", "Bob"]
    back = site("GET", f"collections/authors/records/{ann['id']}?expand=books_via_author.others").json
    assert back["expand"]["books_via_author"][0]["title"] == "First"
    assert len(back["expand"]["books_via_author"][0]["expand"]["others"]) == 2
    assert site("GET", f"collections/authors/records/{bob['id']}?expand=books_via_author").json["expand"] == {}


def test_paths_that_lead_nowhere_are_not_expanded(library):
    site, _, bob, book = library

    def beside(expand, record=book, collection="books"):
        return site("GET", f"collections/{collection}/records/{record['id']}?expand={expand}").json.get("expand")

    assert beside("nowhere,title,books_via_author") is None
    assert beside("author.nowhere") is None
    assert [*beside("author.nowhere,others")] == ["others"]
    assert [*beside("author.nowhere,author.books_via_author")] == ["author"]
    assert beside("books_via_author.nowhere", bob, "authors") == {}  # there is no record from which to go on


def test_what_a_caller_may_not_view_is_not_expanded(library):
    site, _, _, book = library
    site("PATCH", "collections/authors", {"viewRule": "name = 'Bob'"}, token=site.su)
    found = site("GET", f"collections/books/records/{book['id']}?expand=author,others").json
    assert "author" not in found["expand"]
    assert [each["name"] for each in found["expand"]["others"]] == ["Bob"]
    site("PATCH", "collections/authors", {"viewRule": None}, token=site.su)
    assert "expand" not in site("GET", f"collections/books/records/{book['id']}?expand=author,others").json


def test_deleting_takes_along_or_lets_go(library):
    site, ann, bob, book = library
    assert site("DELETE", f"collections/authors/records/{bob['id']}").status == 204
    assert site("GET", f"collections/books/records/{book['id']}").json["others"] == [ann["id"]]
    assert site("DELETE", f"collections/authors/records/{ann['id']}").status == 204
    assert site.rows("select count(*) from books") == [(0,)]


def test_a_required_reference_keeps_its_target(site):
    authors = site.collection("authors", TEXT)
    relation = {"name": "author", "type": "relation", "collectionId": authors["id"], "maxSelect": 1, "required": True}
    site.collection("books", TEXT, relation)
    ann = site.create("authors", title="Ann")
    site.create("books", author=ann["id"])
    assert site("DELETE", f"collections/authors/records/{ann['id']}").status == 400
    assert site.rows("select (select count(*) from authors), (select count(*) from books)") == [(1, 1)]


def test_related_records_must_exist(library):
    site, ann, _, _ = library
    answer = site("POST", "collections/books/records", {"title": "x", "others": [ann["id"], "missing"]})
    assert answer.code("others") == "validation_missing_rel_records"


# -- sign-in ----------------------------------------------------------------------------------------------------------


def test_a_user_signs_in_and_sees_itself(site):
    made, token = site.user("ann", name="Ann")
    path = f"collections/users/records/{made['id']}"
    assert site("GET", path).status == 404
    own = site("GET", path, token=token).json
    assert (own["email"], own["name"]) == ("ann@example.com", "Ann")
    assert "password" not in own and "tokenKey" not in own
    refreshed = site("POST", "collections/users/auth-refresh", token=token)
    assert (refreshed.status, refreshed.json["record"]["id"], list(refreshed.json)) == (
        200,
        made["id"],
        ["record", "token"],
    )
    assert site("POST", "collections/users/auth-refresh").status == 401
    assert site("POST", "collections/_superusers/auth-refresh", token=token).status == 403


def test_wrong_credentials_are_all_alike(site):
    site.user("ann")
    path = "collections/users/auth-with-password"
    for identity, password in (("ann@example.com", "wrong"), ("nobody@example.com", PASSWORD), ("ann", PASSWORD)):
        answer = site("POST", path, {"identity": identity, "password": password})
        assert (answer.status, answer.json["data"]) == (400, {})
    blank = site("POST", path, {})
    assert (blank.code("identity"), blank.code("password")) == ("validation_required", "validation_required")
    site.collection("posts", TEXT)
    assert site("POST", "collections/posts/auth-with-password", {"identity": "a", "password": "b"}).status == 404


def test_a_new_password_needs_the_old_one_and_ends_all_tokens(site):
    made, token = site.user("ann")
    path = f"collections/users/records/{made['id']}"
    new = {"password": "another one", "passwordConfirm": "another one"}
    assert site("PATCH", path, new, token=token).code("oldPassword") == "validation_required"
    wrong = {**new, "oldPassword": "another one"}
    assert site("PATCH", path, wrong, token=token).code("oldPassword") == "validation_invalid_old_password"
    assert site("PATCH", path, {**new, "oldPassword": PASSWORD}, token=token).status == 200
    assert site("GET", path, token=token).status == 404, "the old token is worth nothing now"
    again = {"identity": "ann@example.com", "password": "another one"}
    assert site("POST", "collections/users/auth-with-password", again).status == 200


def test_only_managers_change_addresses_and_verification(site):
    made, token = site.user("ann")
    path = f"collections/users/records/{made['id']}"
    answer = site("PATCH", path, {"email": "new@example.com", "verified": True}, token=token)
    assert (answer.code("email"), answer.code("verified")) == ("validation_values_mismatch",) * 2
    assert site("PATCH", path, {"email": "new@example.com", "verified": True}, token=site.su).json["verified"] is True


PASSWORDS = [
    # what is sent, and what is wrong with password, passwordConfirm, oldPassword (for others than superusers)
    (("", None, None), ("required", None, None)),
    (("", "x", None), ("required", "values_mismatch", "required")),
    (("123456789", None, None), (None, "required", "required")),
    ((None, "x", None), ("required", "values_mismatch", "required")),
    ((None, None, "x"), ("required", "required", None)),
    (("123456789", "123456780", None), (None, "values_mismatch", "required")),
    (("123456789", "123456780", "x"), (None, "values_mismatch", "invalid_old_password")),
    (("12", "12", "x"), (None, None, "invalid_old_password")),
    (("12", "12", PASSWORD), ("min_text_constraint", None, None)),
]
KEYS = ("password", "passwordConfirm", "oldPassword")


@pytest.mark.parametrize(("sent", "expected"), PASSWORDS)
def test_what_is_said_of_passwords_comes_before_other_checks(site, sent, expected):
    made, token = site.user("ann")
    path = f"collections/users/records/{made['id']}"
    body = {key: value for key, value in zip(KEYS, sent, strict=True) if value is not None}
    codes = {key: f"validation_{code}" for key, code in zip(KEYS, expected, strict=True) if code}

    def found(token):
        return {key: each["code"] for key, each in site("PATCH", path, body, token=token).json.get("data", {}).items()}

    assert found(token) == codes
    codes.pop("oldPassword", None)
    if codes:  # a superuser needs no old password
        assert found(site.su) == codes


def test_a_new_account_without_a_password(site):
    answer = site("POST", "collections/users/records", {"email": "none"})
    assert {*answer.json["data"]} == {"password", "passwordConfirm"}, "of the address nothing is said yet"


def test_a_filter_of_blanks_is_none(site):
    assert site("GET", "collections/users/records?filter=%20%20", token=site.su).status == 400
    assert site("GET", "collections/users/records?filter=", token=site.su).status == 200


@pytest.mark.parametrize(
    ("duration", "status"), [(0, 200), (60, 200), (10**15, 200), (None, 200), (1.5, 400), ("5", 400)]
)
def test_how_long_one_acts_for_another(site, duration, status):
    made, _ = site.user("ann")
    path = f"collections/users/impersonate/{made['id']}"
    assert site("POST", path, {"duration": duration}, token=site.su).status == status
    answer = site("POST", path, {"duration": -1}, token=site.su)
    assert answer.code("duration") == "validation_min_greater_equal_than_required"


def test_passwords_must_be_confirmed(site):
    body = {"email": "x@example.com", "password": "12345678", "passwordConfirm": "123456789"}
    answer = site("POST", "collections/users/records", body)
    assert answer.code("passwordConfirm") == "validation_values_mismatch"
    del body["passwordConfirm"]
    assert site("POST", "collections/users/records", body).status == 400


def test_a_superuser_can_be_somebody_else_for_a_while(site):
    made, token = site.user("ann")
    path = f"collections/users/impersonate/{made['id']}"
    assert site("POST", path).status == 401
    assert site("POST", path, token=token).status == 403
    answer = site("POST", path, {"duration": 60}, token=site.su)
    assert (answer.status, answer.json["record"]["id"]) == (200, made["id"])
    borrowed = answer.json["token"]
    refreshed = site("POST", "collections/users/auth-refresh", token=borrowed)
    assert refreshed.json["token"] == borrowed
    site.clock.wall += 61_000
    assert site("POST", "collections/users/auth-refresh", token=borrowed).status == 401


def test_garbage_for_a_token_makes_a_guest(site):
    site.user("ann")
    for token in ("x", "a.b.c", "Bearer ", site.su[:-2] + "xx", "é"):
        assert site("GET", "collections/users/records", token=token).status == 200
        assert site("GET", "settings", token=token).status == 401


# -- superusers' routes -----------------------------------------------------------------------------------------------


def test_collections_are_superusers_alone(site):
    _, token = site.user("ann")
    for method, path in (
        ("GET", "collections"),
        ("POST", "collections"),
        ("GET", "collections/users"),
        ("GET", "settings"),
    ):
        assert (site(method, path).status, site(method, path, token=token).status) == (401, 403)


def test_a_collection_changes_with_its_table(site):
    made = site.collection("posts", TEXT, NUMBER)
    site.create("posts", title="kept", n=3)
    fields = [{**field, "name": "heading"} if field["name"] == "title" else field for field in made["fields"]]
    changed = site(
        "PATCH",
        "collections/posts",
        {"name": "articles", "fields": [*fields, {"name": "b", "type": "bool"}]},
        token=site.su,
    )
    assert changed.status == 200, changed.body
    record = items(site("GET", "collections/articles/records"))[0]
    assert (record["heading"], record["n"], record["b"]) == ("kept", 3, False)
    assert site("GET", "collections/posts/records").status == 404
    assert site("DELETE", "collections/articles", token=site.su).status == 204
    assert site("GET", "collections/articles/records").status == 404
    assert site("DELETE", "collections/_superusers", token=site.su).status == 400


def test_a_wrong_definition_leaves_nothing_behind(site):
    before = site.rows("select count(*) from _collections")
    bad = {"name": "posts", "fields": [TEXT], "listRule": "nowhere = 1"}
    answer = site("POST", "collections", bad, token=site.su)
    assert answer.code("listRule") == "validation_invalid_rule"
    index = {"name": "posts", "fields": [TEXT], "indexes": ["CREATE INDEX a ON posts (nowhere)"]}
    assert site("POST", "collections", index, token=site.su).status == 400
    assert site.rows("select count(*) from _collections") == before
    assert site.rows("select count(*) from sqlite_schema where name = 'posts'") == [(0,)]


def test_the_sample_of_a_view_leaves_hidden_fields_out(site):
    site.collection("posts", TEXT, {"name": "secret", "type": "text", "hidden": True})
    site.create("posts", title="t", secret="s")
    query = {"query": "select id, title, secret from posts"}
    dry = site("POST", "collections/meta/dry-run-view", query, token=site.su)
    assert [field["name"] for field in dry.json["fields"]] == ["id", "title", "secret"]
    assert [sorted(row) for row in dry.json["sample"]] == [["collectionId", "collectionName", "id", "title"]]


def test_a_view_is_a_query_with_fields_and_rules(site):
    site.collection("posts", TEXT, NUMBER)
    for number in range(3):
        site.create("posts", title=f"t{number}", n=number)
    query = "select id, title, n * 2 as twice, count(*) as many from posts group by id"
    dry = site("POST", "collections/meta/dry-run-view", {"query": query}, token=site.su)
    assert dry.status == 200, dry.body
    assert [field["name"] for field in dry.json["fields"]] == ["id", "title", "twice", "many"]
    assert len(dry.json["sample"]) == 3
    twice = site("POST", "collections/meta/dry-run-view", {"query": "select id, id from posts"}, token=site.su)
    assert twice.status == 400 and "name of its own" in twice.json["message"]
    view = site(
        "POST",
        "collections",
        {"name": "seen", "type": "view", "viewQuery": query, "listRule": "", "viewRule": "many = 1"},
        token=site.su,
    )
    assert view.status == 200, view.body
    found = items(site("GET", "collections/seen/records?filter=many=1&sort=-title"))
    assert (found[0]["title"], found[0]["many"], found[0]["collectionName"]) == ("t2", 1, "seen")
    assert site("GET", f"collections/seen/records/{found[0]['id']}").status == 200
    assert site("POST", "collections/seen/records", {"title": "x"}, token=site.su).status == 400
    bad = site(
        "POST", "collections", {"name": "bad", "type": "view", "viewQuery": "select nowhere from posts"}, token=site.su
    )
    assert bad.code("viewQuery") == "validation_invalid_view_query"
    assert site.rows("select count(*) from sqlite_schema where type = 'view'") == [(1,)]


def test_a_view_is_refused_while_it_gives_records_without_an_id(site):
    site.collection("posts", TEXT)
    view = {"name": "titles", "type": "view", "viewQuery": "select title as id from posts"}
    site.create("posts", title="")
    assert site("POST", "collections", view, token=site.su).code("viewQuery") == "validation_invalid_view_query"
    assert site("POST", "collections/meta/dry-run-view", {"query": view["viewQuery"]}, token=site.su).status == 400
    with_ids = {**view, "viewQuery": view["viewQuery"] + " where title != ''"}
    assert site("POST", "collections", with_ids, token=site.su).status == 200
    assert site("PATCH", "collections/titles", view, token=site.su).status == 400
    listed = site("PATCH", "collections/posts", {"listRule": None}, token=site.su)
    assert listed.status == 200, "what others do to their collections is no matter of the view's ids"


def test_an_import_brings_all_collections_to_what_a_list_says(site):
    site.collection("posts", TEXT)
    site.create("posts", title="kept")
    exported = [each for each in items(site("GET", "collections?perPage=500", token=site.su)) if not each["system"]]
    posts = next(each for each in exported if each["name"] == "posts")
    posts["fields"].append({"name": "more", "type": "bool"})
    view = {"name": "titles", "type": "view", "viewQuery": "select id, title from posts"}
    answer = site("PUT", "collections/import", {"collections": [posts, view], "deleteMissing": False}, token=site.su)
    assert (answer.status, answer.body) == (204, b"")
    assert items(site("GET", "collections/posts/records"))[0]["more"] is False
    assert items(site("GET", "collections/titles/records", token=site.su))[0]["title"] == "kept"
    wrong = site(
        "PUT",
        "collections/import",
        {"collections": [{"name": "x", "fields": [{"name": "null", "type": "text"}]}]},
        token=site.su,
    )
    assert wrong.code("collections") == "validation_collections_import_failure"
    gone = site("PUT", "collections/import", {"collections": [posts], "deleteMissing": True}, token=site.su)
    assert gone.status == 204, gone.body
    assert site("GET", "collections/users", token=site.su).status == 404
    assert site("GET", "collections/titles/records", token=site.su).status == 404


def test_truncating_empties_a_collection(site):
    site.collection("posts", TEXT)
    for number in range(3):
        site.create("posts", title=str(number))
    assert site("DELETE", "collections/posts/truncate", token=site.su).status == 204
    assert site.rows("select count(*) from posts") == [(0,)]


def test_settings_are_saved_and_followed(site):
    answer = site("PATCH", "settings", {"meta": {"appName": "Mine"}, "smtp": {"password": "p"}}, token=site.su)
    assert (answer.status, answer.json["meta"]["appName"], "password" in answer.json["smtp"]) == (200, "Mine", False)
    assert site("GET", "settings", token=site.su).json["meta"]["appName"] == "Mine"
    assert (
        site("PATCH", "settings", {"meta": {"appName": ""}}, token=site.su).code("meta", "appName")
        == "validation_required"
    )


# -- batches ----------------------------------------------------------------------------------------------------------


def test_a_batch_takes_effect_as_a_whole(site):
    site.collection("posts", {**TEXT, "required": True})
    path = "/api/collections/posts/records"
    assert site("POST", "batch", {"requests": []}, token=site.su).status == 403
    site("PATCH", "settings", {"batch": {"enabled": True}}, token=site.su)
    first = site(
        "POST",
        "batch",
        {"requests": [{"method": "POST", "url": path, "body": {"id": "aaaaaaaaaaaaaaa", "title": "x"}}]},
    )
    assert (first.status, first.json[0]["status"], first.json[0]["body"]["title"]) == (200, 200, "x")
    requests = [
        {"method": "PATCH", "url": f"{path}/aaaaaaaaaaaaaaa?fields=title", "body": {"title": "y"}},
        {"method": "PUT", "url": path, "body": {"id": "aaaaaaaaaaaaaaa", "title": "z"}},
        {"method": "PUT", "url": path, "body": {"id": "bbbbbbbbbbbbbbb", "title": "new"}},
        {"method": "DELETE", "url": f"{path}/bbbbbbbbbbbbbbb"},
    ]
    second = site("POST", "batch", {"requests": requests})
    assert [each["status"] for each in second.json] == [200, 200, 200, 204]
    assert second.json[0]["body"] == {"title": "y"}
    assert site.rows("select id, title from posts") == [("aaaaaaaaaaaaaaa", "z")]
    failing = [*requests[:1], {"method": "POST", "url": path, "body": {}}]
    third = site("POST", "batch", {"requests": failing})
    assert third.status == 400
    told = third.json["data"]["requests"]["1"]
    assert (told["code"], told["response"]["data"]["title"]["code"]) == ("batch_request_failed", "validation_required")
    assert site.rows("select title from posts") == [("z",)], "nothing of it took effect"


def test_batches_are_bounded(site):
    site("PATCH", "settings", {"batch": {"enabled": True, "maxRequests": 2}}, token=site.su)
    one = {"method": "POST", "url": "/api/collections/users/records", "body": {}}
    assert site("POST", "batch", {"requests": [one] * 3}).status == 400
    for wrong in ({"method": "GET", "url": one["url"]}, {"method": "POST", "url": "/api/settings"}, {"method": "POST"}):
        assert site("POST", "batch", {"requests": [wrong]}).status == 400


# -- replicas ---------------------------------------------------------------------------------------------------------


def test_a_replica_without_collections_says_so(tmp_path):
    replica = Site(tmp_path, is_primary=False)
    try:
        answer = replica("GET", "collections/users/records")
        assert (answer.status, answer.json["status"]) == (503, 503)
        assert replica("POST", "collections/users/records", {}).status == 503, "writes are passed on"
    finally:
        replica.close()


def test_ids_in_a_relation_are_text_whatever_they_are_compared_with(site):
    to = site.collection("groups", TEXT)["id"]
    site.collection("men", {"name": "groups", "type": "relation", "collectionId": to, "maxSelect": 3})
    site.create("groups", id="000000000000001", title="x")
    site.create("men", groups=["000000000000001"])
    assert len(items(site("GET", "collections/men/records?filter=groups.id?<=1", token=site.su))) == 1
    assert len(items(site("GET", "collections/men/records?filter=groups.id?>1", token=site.su))) == 0
