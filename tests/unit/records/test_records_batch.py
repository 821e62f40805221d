"""Batches: each request sees what those before it did, whatever of that has reached the store already."""

from contextlib import asynccontextmanager
from random import Random

import pytest
from records_site import PASSWORD, Site

from pando.records.sqlite_engine import SqliteEngine
from pando.records.sqlite_transaction import AHEAD_MAX
from pando.store.requests import Batch

UNIQUE = "CREATE UNIQUE INDEX one_title_{0} ON {0} (title)"


@pytest.fixture
def site(tmp_path):
    made = begun(tmp_path)
    yield made
    made.close()


def begun(directory):
    directory.mkdir(exist_ok=True)
    made = Site(directory).begin()
    made("PATCH", "settings", {"batch": {"enabled": True, "maxRequests": 500, "timeout": 60}}, token=made.su)
    return made


def things(site, name="things", *fields, **more):
    text, number = {"name": "title", "type": "text", "max": 20}, {"name": "n", "type": "number"}
    return site.collection(name, text, number, *fields, **more)


def item(method, path, body=None):
    collection, _, id = path.partition("/")
    url = f"/api/collections/{collection}/records" + (f"/{id}" if id else "")
    return {"method": method, "url": url, **({} if body is None else {"body": body})}


def post(collection="things", **body):
    return item("POST", collection, body)


def patch(path, **body):
    return item("PATCH", path, body)


def ask(site, *items, token=""):
    return site("POST", "batch", {"requests": items}, token=token)


def bodies(answer):
    assert answer.status == 200, answer.body
    return [each["body"] for each in answer.json]


def refused(answer):
    """Which request failed, and what its own answer would have been."""
    assert (answer.status, answer.json["message"]) == (400, "Batch transaction failed."), answer.body
    [(number, told)] = answer.json["data"]["requests"].items()
    assert told["code"] == "batch_request_failed"
    return int(number), told["response"]


def name(number):
    return f"thing{number:010}"


# -- messages ---------------------------------------------------------------------------------------------------------


def messages(site, *items, token=""):
    """How often the store was asked."""
    before = len(site.node.store.runs)
    bodies(ask(site, *items, token=token))
    return len(site.node.store.runs) - before


def test_requests_share_messages_to_the_store(site):
    _, token = site.user("ann")
    relation = {"name": "who", "type": "relation", "collectionId": "_pb_users_auth_", "maxSelect": 1}
    things(site, "things", relation, createRule="@request.auth.id = who", updateRule="n < 9 && who = @request.auth.id")
    [(me,)] = site.rows("select id from users")
    many = range(4 * AHEAD_MAX)
    creates = [post(id=name(n), title=f"t{n}", n=n % 5, who=me) for n in many]
    assert messages(site, *creates, token=token) == 2 + len(many) // AHEAD_MAX, "with BEGIN and COMMIT"
    updates = [patch(f"things/{name(n)}", title=f"new {n}") for n in many]
    assert messages(site, *updates, token=token) == 2 + len(many) // AHEAD_MAX
    sums = [patch(f"things/{name(n)}", **{"n+": 2}) for n in many]
    assert messages(site, *sums, token=token) == 2 + len(many) // AHEAD_MAX
    upserts = [item("PUT", "things", {"id": name(n), "title": f"put {n}"}) for n in many]
    assert messages(site, *upserts, token=token) == 2 + len(many) // AHEAD_MAX
    deletes = [item("DELETE", f"things/{name(n)}") for n in many]
    assert messages(site, *deletes) == 2 + len(many) // AHEAD_MAX
    assert messages(site, post(title="one")) == 2
    assert site.rows("select title from things") == [("one",)]


def test_what_cannot_be_foreseen_is_one_message_for_each(site):
    things(site, "things", {"name": "doc", "type": "json"})
    created = [post(id=name(n), n=0.5, doc={}) for n in range(5)]
    assert messages(site, *created) == 2
    assert messages(site, *[patch(f"things/{name(n)}", **{"n+": 0.25}) for n in range(5)]) == 7
    assert messages(site, *[patch(f"things/{name(n)}", doc={"a": n}) for n in range(5)]) == 7


def test_long_texts_do_not_wait(site):
    site.collection("things", {"name": "title", "type": "text", "max": 2_000_000})
    assert messages(site, *[post(title="x" * 600_000) for _ in range(4)]) == 4


# -- what went wrong --------------------------------------------------------------------------------------------------


def test_the_first_that_failed_is_told_though_it_ran_later(site):
    things(site, indexes=[UNIQUE.format("things")])
    taken = site.create("things", title="taken")
    fine, unique, invalid = post(title="fine"), post(title="taken"), post(title="x" * 50)
    missing = patch("things/nothing", title="y")
    for items in ([fine, unique], [fine, unique, invalid], [fine, unique, missing], [fine, unique, *[post()] * 60]):
        number, told = refused(ask(site, *items))
        assert (number, told["status"], told["message"]) == (1, 400, "Failed to create record.")
        assert told["data"] == {"title": {"code": "validation_not_unique", "message": "Value must be unique."}}
        assert site.rows("select id from things") == [(taken["id"],)]
    assert refused(ask(site, fine, invalid, unique))[0] == 1
    number, told = refused(ask(site, fine, post(title="other", id=name(1)), patch(f"things/{name(1)}", title="taken")))
    assert (number, told["message"], list(told["data"])) == (2, "Failed to update record.", ["title"])
    number, told = refused(ask(site, post(id=name(1)), post(id=name(1), title="again")))
    assert (number, told["data"]["id"]["code"]) == (1, "validation_not_unique")
    assert site.rows("select id from things") == [(taken["id"],)]


def test_a_unique_value_is_free_again_once_its_record_is_gone(site):
    things(site, indexes=[UNIQUE.format("things")])
    taken = site.create("things", title="taken")
    path = f"things/{taken['id']}"
    bodies(ask(site, item("DELETE", path), post(title="taken", id=name(1))))
    bodies(ask(site, patch(f"things/{name(1)}", title="free"), post(title="taken", id=name(2))))
    assert site.rows("select id, title from things order by id") == [(name(1), "free"), (name(2), "taken")]


# -- what those before did --------------------------------------------------------------------------------------------


def test_a_record_is_seen_as_it_was_left(site):
    things(site, updateRule="n < 2", deleteRule="n > 0")
    made = bodies(ask(site, post(id=name(1)), patch(f"things/{name(1)}", n=1), patch(f"things/{name(1)}", title="b")))
    assert [(each["n"], each["title"]) for each in made] == [(0, ""), (1, ""), (1, "b")]
    more = patch(f"things/{name(1)}", **{"n+": 1})
    assert refused(ask(site, more, more))[0] == 1
    assert refused(ask(site, item("DELETE", f"things/{name(1)}"), more))[0] == 1
    gone = [item("DELETE", f"things/{name(1)}"), item("PUT", "things", {"id": name(1), "title": "anew"})]
    [_, anew] = bodies(ask(site, *gone))
    assert (anew["title"], anew["n"]) == ("anew", 0)
    put = item("PUT", "things", {"id": name(2), "title": "twice"})
    assert [each["title"] for each in bodies(ask(site, put, put))] == ["twice", "twice"]
    assert site.rows("select count(*) from things") == [(2,)]


def test_relations_may_lead_to_what_the_batch_has_made_and_not_to_what_it_has_deleted(site):
    things(site)
    relation = {"name": "thing", "type": "relation", "collectionId": "things", "maxSelect": 1}
    relation["collectionId"] = site("GET", "collections/things", token=site.su).json["id"]
    site.collection("parts", relation)
    part = post("parts", thing=name(1))
    assert refused(ask(site, part, post(id=name(1))))[0] == 0
    bodies(ask(site, post(id=name(1)), part, part))
    number, told = refused(ask(site, part, item("DELETE", f"things/{name(1)}"), part))
    assert (number, told["data"]["thing"]["code"]) == (2, "validation_missing_rel_records")
    expanded = item("POST", "parts", {"thing": name(2)})
    expanded["url"] += "?expand=thing"
    found = bodies(ask(site, post(id=name(2), title="two"), expanded, patch(f"things/{name(2)}", n=3), expanded))
    assert [each["expand"]["thing"]["n"] for each in (found[1], found[3])] == [0, 3]


def test_deleting_takes_along_what_the_batch_has_made(site):
    things(site)
    target = site("GET", "collections/things", token=site.su).json["id"]
    relation = {"name": "thing", "type": "relation", "collectionId": target, "maxSelect": 1, "cascadeDelete": True}
    site.collection("parts", relation)
    one = post(id=name(1)), post("parts", id=name(9), thing=name(1))
    bodies(ask(site, *one, item("DELETE", f"things/{name(1)}")))
    assert site.rows("select count(*) from parts") == site.rows("select count(*) from things") == [(0,)]


@pytest.mark.slow
def test_accounts_change_in_a_batch_with_what_hangs_on_them(site):
    ann, _ = site.user("ann")
    bob, _ = site.user("bob")
    password = {"password": "another password", "passwordConfirm": "another password"}
    site.sql("insert into _authOrigins(id, collectionRef, recordRef) values('o1', '_pb_users_auth_', ?)", ann["id"])
    site.sql("insert into _authOrigins(id, collectionRef, recordRef) values('o2', '_pb_users_auth_', ?)", bob["id"])
    [(before,)] = site.rows("select tokenKey from users where id = ?", ann["id"])
    change = patch(f"users/{ann['id']}", **password)
    bodies(
        ask(site, change, item("DELETE", f"users/{bob['id']}"), patch(f"users/{ann['id']}", name="A"), token=site.su)
    )
    assert site.rows("select count(*) from _authOrigins where collectionRef = '_pb_users_auth_'") == [(0,)]
    [(name, after)] = site.rows("select name, tokenKey from users")
    assert (name, after != before) == ("A", True)
    for password, status in ((PASSWORD, 400), ("another password", 200)):
        body = {"identity": "ann@example.com", "password": password}
        assert site("POST", "collections/users/auth-with-password", body).status == status


@pytest.mark.parametrize(
    "sql",
    [
        "create trigger also after update of title on things begin update things set n = n + 5; end",
        "create table log(thing references things(id) on delete cascade)",
    ],
)
def test_rows_that_a_statement_changes_unasked_are_seen_too(site, sql):
    things(site, updateRule="n < 3")
    for n in (1, 2):
        site.create("things", id=name(n))
    site.sql(sql)
    answer = ask(site, patch(f"things/{name(1)}", title="x"), patch(f"things/{name(2)}", title="y"))
    assert (answer.status == 200) is ("trigger" not in sql), answer.body


# -- the same as one after the other ----------------------------------------------------------------------------------


class Plain(SqliteEngine):
    """Its transactions have all done at once, at the primary."""

    @asynccontextmanager
    async def transaction(self):
        async with super().transaction() as found:
            found._here, later = None, found.later

            async def at_once(statement, refused, place=None):
                await later(statement, refused, place)
                await found.settle()

            found.later = at_once
            yield found


def world(directory, engine=None):
    made = begun(directory)
    if engine is not None:
        made.desk.engine = engine(made.node.service, "data")
    tags = {"name": "tags", "type": "select", "values": ["a", "b", "c"], "maxSelect": 3}
    flag, doc = {"name": "flag", "type": "bool"}, {"name": "doc", "type": "json"}
    file = {"name": "file", "type": "file", "maxSelect": 1}
    fields = tags, flag, doc, file, {"name": "at", "type": "date"}, {"name": "point", "type": "geoPoint"}
    found = things(made, "things", *fields, updateRule="n < 4 && tags:length < 3", indexes=[UNIQUE.format("things")])
    relation = {"name": "thing", "type": "relation", "collectionId": found["id"], "maxSelect": 1}
    things(made, "kept", {**relation, "required": True}, createRule="thing.n < 3")
    things(made, "parts", {**relation, "cascadeDelete": True}, deleteRule="@collection.kept.n ?> 0")
    things(made, "loose", {**relation, "maxSelect": 3}, createRule="@collection.parts.n ?< 2")
    return made


def some_request(random):
    collection = random.choice(["things", "things", "things", "parts", "kept", "loose"])
    id = name(random.randrange(5))
    body = {"title": random.choice(["", "a", "b"]), "n": random.choice([0, 1, 2, 3, 1.5, -0.0, 2**60])}
    body |= random.choice([{"n+": 1}, {"n-": 2}, {"n+": 0.5}, {"n+": 2**53}, {"title": "x" * 30}, {}, {}, {}, {}])
    if collection == "things":
        body["title"] = random.choice("abcdefgh") * random.randrange(1, 3)
        lists = {"tags": random.choice([["a"], ["a", "b"]])}, {"tags+": random.choice("abc")}, {"tags-": "a"}
        points = {"point": {"lon": 1.50, "lat": 2}}, {"at": random.choice(["2026-01-02", ""])}
        body |= random.choice([*lists, *points, {"doc": random.choice([1, "1e5", 1.0, None, [], {"b": 1, "a": 2}])}])
        body |= random.choice([{"flag": True}, {"flag": "false"}, {}])
    else:
        body["thing"] = name(random.randrange(4))
    kept = {key: value for key, value in body.items() if random.random() < 0.6}
    method = random.choice(["POST", "PUT", "PUT", "PUT", "PATCH", "PATCH", "PATCH", "DELETE"])
    if method in ("POST", "PUT"):
        made = item(method, collection, {**kept, "id": id})
    else:
        made = item(method, f"{collection}/{id}", kept if method == "PATCH" else None)
    made["url"] += random.choice(["", "", "?expand=thing", "?expand=parts_via_thing,kept_via_thing", "?fields=id,n"])
    return made


TABLES = "things", "kept", "parts", "loose"


@pytest.mark.slow
def test_batches_do_what_their_requests_do_one_after_the_other(tmp_path):
    quick, plain = world(tmp_path / "quick"), world(tmp_path / "plain", Plain)
    random = Random(20261122)
    outcomes = []
    for _ in range(80):
        items = [some_request(random) for _ in range(random.choice([1, 1, 2, 3, 6]))]
        is_superuser = random.random() < 0.7
        answers = [ask(each, *items, token=each.su if is_superuser else "") for each in (quick, plain)]
        assert answers[0].status == answers[1].status, (items, answers)
        assert answers[0].json == answers[1].json, items
        outcomes.append(answers[0].status)
        for table in TABLES:
            sql = f"select * from {table} order by id"
            assert quick.rows(sql) == plain.rows(sql), (table, items)
    shared = [run for run in quick.node.store.runs if run.requests and isinstance(run.requests[0], Batch)]
    for each in (quick, plain):
        each.close()
    assert min(outcomes.count(200), outcomes.count(400)) > 15, "of both kinds are some"
    assert len(shared) > 20


@pytest.mark.parametrize(
    "change",
    [
        {"title": "x\u0000y\ud7ff"},
        {"n": 1.0},
        {"n": -0.0},
        {"n": 1.5},
        {"n": 2**53},
        {"n": 1e300},
        {"n+": 2**53 - 8},
        {"n+": 0.1},
        {"n+": 3, "n-": 1},
        {"flag": 1},
        {"tags": ["c", "a"]},
        {"tags+": ["c", "b"]},
        {"doc": "1e5"},
        {"doc": 1.0},
        {"at": "2026-01-02T03:04:05.6Z"},
        {"point": {"lon": 1.0, "lat": 0.1}},
    ],
)
def test_an_update_answers_what_is_stored(tmp_path, change):
    site = world(tmp_path)
    site.create("things", id=name(1), title="first", n=7, tags=["a"], doc={"z": 1}, at="2025-05-05")
    site.sql("update things set n = 3")
    [told] = bodies(ask(site, patch(f"things/{name(1)}", **change), token=site.su))
    stored = site("GET", f"collections/things/records/{name(1)}", token=site.su).json
    site.close()
    assert told == stored
