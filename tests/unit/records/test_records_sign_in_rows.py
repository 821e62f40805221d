"""What sign-ins leave in `_authOrigins` and `_mfas`, and when it goes."""

import asyncio
import hashlib

import pytest
from records_site import PASSWORD, Site

from pando.errors import InternalError, PrimaryUnavailable
from pando.records.aside import Aside
from pando.records.engine import Statement
from pando.records.fields import dates
from pando.records.guarding.expiring import delete_expired
from pando.records.origins_kept import FRESH_MS

USERS = "collections/users"
SIGN_IN = f"{USERS}/auth-with-password"


@pytest.fixture
def site(tmp_path):
    made = Site(tmp_path).begin()
    settle(made)
    made.sql("delete from _authOrigins")
    yield made
    made.close()


def settle(site):
    site.node.run(site.desk.aside.until_done())


def sign_in(site, who="ann", agent="browser", password=PASSWORD, **more):
    body = {"identity": f"{who}@example.com", "password": password, **more}
    answer = site("POST", SIGN_IN, body, headers={"user-agent": agent})
    settle(site)
    return answer


def origins(site):
    return [row[0] for row in site.rows("select fingerprint from _authOrigins order by updated, rowid")]


def print_of(agent, address="invalid IP"):
    return hashlib.md5((address + agent).encode(), usedforsecurity=False).hexdigest()


# -- places -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def ann(site):
    made, token = site.user("ann")
    settle(site)
    site.sql("delete from _authOrigins")
    return made, token


def test_a_sign_in_notes_where_it_came_from(site, ann):
    site("PATCH", "settings", {"trustedProxy": {"headers": ["X-Real-IP"]}}, token=site.su)
    body = {"identity": "ann@example.com", "password": PASSWORD}
    site("POST", SIGN_IN, body, headers={"user-agent": "browser", "x-real-ip": "10.1.1.1"})
    settle(site)
    assert origins(site) == [print_of("browser", "10.1.1.1")]
    [row] = site("GET", "collections/_authOrigins/records", token=ann[1]).json["items"]
    assert (row["collectionRef"], row["recordRef"]) == ("_pb_users_auth_", ann[0]["id"])
    assert row["created"] == row["updated"] > "2026" and len(row["id"]) == 15
    _, other = site.user("bob")
    found = site("GET", "collections/_authOrigins/records", token=other).json["items"]
    assert [each["fingerprint"] for each in found] == [print_of("")], "everybody sees the own places only"


def test_a_known_place_is_noted_once_in_a_while(site, ann):
    sign_in(site)
    [before] = site.rows("select id, created, updated from _authOrigins")
    position = site.desk.engine.position
    sign_in(site)
    assert site.rows("select id, created, updated from _authOrigins") == [before]
    assert site.desk.engine.position == position, "nothing was written"
    site.clock.wall += FRESH_MS
    sign_in(site)
    [after] = site.rows("select id, created, updated from _authOrigins")
    assert after[:2] == before[:2] and after[2] > before[2]


@pytest.mark.slow
def test_the_last_five_places_are_kept(site, ann):
    for number in range(4):
        sign_in(site, agent=f"a{number}")
    site.clock.wall += FRESH_MS
    for agent in ("a0", "a4", "a5"):
        sign_in(site, agent=agent)
    assert origins(site) == [print_of(agent) for agent in ("a2", "a3", "a0", "a4", "a5")]


def test_who_is_refused_or_refreshes_leaves_nothing(site, ann):
    assert sign_in(site, password="wrong").status == 400
    assert sign_in(site, who="nobody").status == 400
    site("POST", f"{USERS}/auth-refresh", token=ann[1])
    site("PATCH", USERS, {"authAlert": {"enabled": False}}, token=site.su)
    assert sign_in(site).status == 200
    site("PATCH", USERS, {"authAlert": {"enabled": True}, "authRule": "verified = true"}, token=site.su)
    assert sign_in(site).status == 403
    settle(site)
    assert origins(site) == []


def test_a_sign_in_needs_no_primary(site, ann, monkeypatch):
    async def write(_engine, _statements):
        raise PrimaryUnavailable("it is away")

    monkeypatch.setattr(type(site.desk.engine), "write", write)
    assert sign_in(site).status == 200
    monkeypatch.undo()
    assert origins(site) == []


def test_a_place_is_not_noted_of_who_has_gone_or_changed_the_password(site, ann):
    body = {"identity": "ann@example.com", "password": PASSWORD}
    begun = []
    site.desk.aside.begin = begun.append
    assert site("POST", SIGN_IN, body).status == 200
    site.sql("update users set tokenKey = 'another' where id = ?", ann[0]["id"])
    site.node.run(begun.pop())
    assert origins(site) == []


def test_a_new_password_ends_places_and_half_sign_ins_and_codes(site, ann):
    made, token = ann
    path = f"{USERS}/records/{made['id']}"

    def left():
        site.sql("delete from _authOrigins")
        site.sql("delete from _mfas")
        site.sql("delete from _otps")
        for table, more in (("_authOrigins", "fingerprint"), ("_mfas", "method"), ("_otps", "password")):
            for of in (made["id"], "another00000000"):
                sql = f"insert into {table}(id, collectionRef, recordRef, {more}) values (?, '_pb_users_auth_', ?, 'x')"
                site.sql(sql, f"{table}{of}"[:15], of)
        return lambda: [
            site.rows(f"select count(*) from {table}")[0][0] for table in ("_authOrigins", "_mfas", "_otps")
        ]

    counted = left()
    assert site("PATCH", path, {"name": "x"}, token=token).status == 200
    assert counted() == [2, 2, 2]
    other = {"password": "another one", "passwordConfirm": "another one"}
    assert site("PATCH", path, {**other, "oldPassword": "wrong"}, token=token).status == 400
    assert counted() == [2, 2, 2]
    assert site("PATCH", path, {"email": "b@example.com"}, token=site.su).status == 200
    assert counted() == [2, 2, 1]
    counted = left()
    assert site("PATCH", path, other, token=site.su).status == 200
    assert counted() == [1, 1, 1]


def test_what_follows_a_request_is_bounded():
    async def run():
        held = asyncio.Event()
        aside = Aside(tasks_max=2)

        async def wait():
            await held.wait()

        async def fails():
            raise PrimaryUnavailable("away")

        assert [aside.begin(wait()) for _ in range(3)] == [True, True, False]
        held.set()
        await aside.until_done()
        assert aside.begin(fails()) and aside.begin(wait())
        await aside.until_done()
        held.clear()
        assert aside.begin(wait())
        await asyncio.wait_for(aside.close(), 20)

        async def breaks():
            raise InternalError("a bug")

        said = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: said.append(context))
        assert aside.begin(breaks())
        await asyncio.gather(*aside._tasks, return_exceptions=True)

    asyncio.run(run())


# -- second factors ---------------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(site, ann):
    change = {"mfa": {"enabled": True, "duration": 600}, "otp": {"enabled": True, "duration": 180, "length": 8}}
    assert site("PATCH", USERS, change, token=site.su).status == 200
    return site, ann[0]


def begun(site, record, method="otp", collection="_pb_users_auth_", age_ms=0):
    """A first step by another method, as PocketBase leaves it."""
    id = f"mfa{site.clock.wall_ms() % 10**12:012d}"
    now = dates.from_unix_ms(site.clock.wall - age_ms)
    sql = "insert into _mfas(id, collectionRef, recordRef, method, created, updated) values (?, ?, ?, ?, ?, ?)"
    site.node.run(site.desk.engine.write([Statement(sql, (id, collection, record["id"], method, now, now))]))
    return id


def test_a_password_is_the_first_step(guarded):
    site, ann = guarded
    answer = sign_in(site)
    assert (answer.status, list(answer.json)) == (401, ["mfaId"])
    [row] = site("GET", "collections/_mfas/records", token=site.su).json["items"]
    assert row["id"] == answer.json["mfaId"]
    assert (row["collectionRef"], row["recordRef"], row["method"]) == ("_pb_users_auth_", ann["id"], "password")
    assert row["created"] == row["updated"] > "2026"
    assert origins(site) == [], "nobody has signed in yet"
    assert sign_in(site, mfaId=answer.json["mfaId"]).status == 400, "the same way twice"
    assert sign_in(site, password="wrong").status == 400
    assert len(site.rows("select 1 from _mfas")) == 1


@pytest.mark.parametrize("place", ["body", "query"])
def test_a_password_is_the_second_step(guarded, place):
    site, ann = guarded
    id = begun(site, ann)
    body = {"identity": "ann@example.com", "password": PASSWORD}
    assert sign_in(site, password="wrong", mfaId=id).status == 400
    ask = (SIGN_IN, {**body, "mfaId": id}) if place == "body" else (f"{SIGN_IN}?mfaId={id}", body)
    answer = site("POST", *ask)
    assert answer.status == 200 and answer.json["record"]["id"] == ann["id"]
    assert site("POST", f"{USERS}/auth-refresh", token=answer.json["token"]).status == 200
    assert site.rows("select 1 from _mfas") == []
    assert site("POST", *ask).status == 400, "once"


@pytest.mark.slow
def test_steps_of_others_or_of_long_ago_count_for_nothing(guarded):
    site, ann = guarded
    bob = site.create("users", email="bob@example.com", password=PASSWORD, passwordConfirm=PASSWORD)
    wrong = [
        begun(site, bob),
        begun(site, ann, collection="pbc_3142635823"),
        begun(site, ann, method="password"),
        begun(site, ann, age_ms=600_001),
        "nowhere00000000",
        5,
        ["x"],
        {},
    ]
    for id in wrong:
        answer = sign_in(site, mfaId=id)
        assert (answer.status, "token" in answer.json) == (400, False), id
    assert len(site.rows("select 1 from _mfas")) == 4
    for nothing in ("", None):
        assert sign_in(site, mfaId=nothing).status == 401


def test_one_step_is_used_once_even_at_the_same_time(guarded):
    site, ann = guarded
    id = begun(site, ann)
    body = {"identity": "ann@example.com", "password": PASSWORD, "mfaId": id}

    async def both():
        return await asyncio.gather(*(site._ask("POST", SIGN_IN, body, "", {}) for _ in range(3)))

    statuses = sorted(each.status for each in site.node.run(both()))
    assert statuses == [200, 400, 400]


def test_a_rule_says_for_whom_it_is(guarded):
    site, _ = guarded
    site("PATCH", USERS, {"mfa": {"enabled": True, "duration": 600, "rule": "verified = true"}}, token=site.su)
    assert sign_in(site).status == 200
    site.sql("update users set verified = 1")
    assert sign_in(site).status == 401
    site("PATCH", USERS, {"authRule": "verified = false"}, token=site.su)
    assert sign_in(site).status == 403, "who may not sign in is not asked for more"


@pytest.mark.parametrize("collection", ["_mfas", "_otps", "_authOrigins", "_externalAuths"])
def test_rows_belong_to_a_record_that_is_there(guarded, collection):
    site, ann = guarded
    more = {"method": "otp", "password": "12345678", "fingerprint": "f", "provider": "google", "providerId": "x"}
    path = f"collections/{collection}/records"

    def code(owner, id, field):
        body = {**more, "collectionRef": owner, "recordRef": id}
        return site("POST", path, body, token=site.su).code(field)

    assert code("nowhere", ann["id"], "collectionRef") == "validation_invalid_collection_id"
    assert code("users", ann["id"], "collectionRef") == "validation_invalid_collection_id", "its id, not its name"
    assert code("pbc_2279338944", ann["id"], "collectionRef") == "validation_invalid_collection_id"
    assert code("_pb_users_auth_", "nobodyhasit0000", "recordRef") == "validation_invalid_record"
    assert code("_pb_users_auth_", "", "recordRef") == "validation_required"
    site.sql(f"delete from {collection}")
    made = site("POST", path, {**more, "collectionRef": "_pb_users_auth_", "recordRef": ann["id"]}, token=site.su)
    assert made.status == 200, made.body
    change = {"recordRef": "nobodyhasit0000"}
    assert site("PATCH", f"{path}/{made.json['id']}", change, token=site.su).code("recordRef")


def test_what_is_over_is_deleted(guarded):
    site, ann = guarded
    live = begun(site, ann, age_ms=500_000)
    for _ in range(3):
        begun(site, ann, age_ms=700_000)
    site.sql(
        "insert into _otps(id, collectionRef, recordRef, password, created) values"
        " ('o1', '_pb_users_auth_', 'x', 'x', '2020-01-01 00:00:00.000Z'), ('o2', 'elsewhere', 'x', 'x', '2020')"
    )
    known = site.node.run(site.desk.known())
    assert site.node.run(delete_expired(site.desk.engine, known.schema, site.clock.wall)) == 4
    assert site.rows("select id from _mfas") == [(live,)]
    assert site.rows("select id from _otps") == [("o2",)]
    assert site.node.run(delete_expired(site.desk.engine, known.schema, site.clock.wall)) == 0
