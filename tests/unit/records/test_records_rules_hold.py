"""Nothing that a rule forbids is readable: random rules, rows and requests through the API, and the slow evaluator."""

from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from records_filter_reference import World, find
from records_filter_world import NOW, Identity, column, filters, make_schema, records, texts
from records_site import Site

from pando.records.auth.tokens import Issuer
from pando.records.engine import Statement
from pando.records.filter import RequestInfo

EVERY = {"deadline": None, "suppress_health_check": list(HealthCheck)}
SCHEMA = make_schema()
EXPANDS = {
    "users": ["", "group", "friends.group", "group.owner,friends", "posts_via_author.likers", "groups_via_owner.owner"],
    "posts": ["", "author", "likers.friends", "author.group.owner", "author.posts_via_author", "likers,author.friends"],
    "groups": ["", "owner", "owner.friends", "users_via_group", "users_via_group.posts_via_likers.author"],
}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with the collections of the schema, under their ids."""
    made = Site(tmp_path_factory.mktemp("rules")).begin()
    made("DELETE", "collections/users", token=made.su)
    for stage in (False, True):
        for collection in SCHEMA.collections:
            fields = [_field(each, stage) for each in collection.fields]
            body = {"id": collection.id, "name": collection.name, "type": collection.type.value}
            body["fields"] = [each for each in fields if each]
            if not stage:
                answer = made("POST", "collections", body, token=made.su)
            else:
                known = made("GET", f"collections/{collection.id}", token=made.su).json["fields"]
                old = {each["name"]: each for each in known}
                new = [each for each in body["fields"] if each["name"] not in old]
                answer = made("PATCH", f"collections/{collection.id}", {"fields": [*known, *new]}, token=made.su)
            assert answer.status == 200, answer.body
    indexes = made.rows("select name from sqlite_schema where name like 'idx_email%' and tbl_name = 'users'")
    for (name,) in indexes:  # the random addresses are not unique
        made.sql(f'drop index "{name}"')

    async def no_pause(_seconds):
        return

    made.desk.guard._pause = no_pause
    yield made
    made.close()


def _field(field, stage):
    if field.name in ("id", "email", "emailVisibility"):
        return None
    found = {"name": field.name, "type": field.type, "hidden": field.hidden}
    if field.type == "relation":
        return {**found, "collectionId": field.collection_id, "maxSelect": field.max_select} if stage else None
    if field.type == "select":
        found |= {"values": list(field.values), "maxSelect": field.max_select}
    return found


# -- random worlds ----------------------------------------------------------------------------------------------------


RULES = {
    "users": [
        "level > 0",
        "id = @request.auth.id || level = 1",
        "friends.id ?= @request.auth.id",
        "group.title != 'a'",
    ],
    "posts": ["public = true", "author.level ?> 0", "author.id ?= @request.auth.id || rank = 1", "likers.name ?~ 'a'"],
    "groups": ["title != 'a'", "owner.level > 0", "owner.id = @request.auth.id", "users_via_group.id ?= 'u1'"],
}
"""Rules that often hold for some records and not for others."""


@st.composite
def rules(draw, collection):
    often = st.sampled_from(["", *RULES[collection.name]])
    some = st.sampled_from(["id = @request.auth.id", "@request.auth.id != ''", "@request.context = 'default'"])
    return draw(st.one_of(often, often, some, filters(SCHEMA, collection, is_client=False, most=2)))


@st.composite
def worlds(draw):
    made = {each.name: (draw(rules(each)), draw(rules(each))) for each in SCHEMA.collections}
    if draw(st.integers(0, 4)) == 0:
        closed = draw(st.sampled_from([*made]))
        made[closed] = (made[closed][0], None)
    schema = make_schema(rules=tuple(made[name][0] for name in ("users", "posts", "groups")))
    rows = {each.name: draw(records(each)) for each in schema.collections}
    who = draw(st.sampled_from([*rows["users"], None]))
    asks = []
    for _ in range(draw(st.integers(1, 4))):
        collection = draw(st.sampled_from(schema.collections))
        client = draw(st.one_of(st.just(""), filters(schema, collection, is_client=True, most=3)))
        asks.append((collection, client, draw(st.sampled_from(EXPANDS[collection.name]))))
    query = draw(st.dictionaries(st.sampled_from(["q", "r"]), texts))
    headers = draw(st.dictionaries(st.just("x_token"), texts.filter(str.isascii)))
    return schema, rows, {name: view for name, (_, view) in made.items()}, who, asks, query, headers


def store(site, schema, rows, views):
    """Put rules and rows into the database."""
    site.clock.wall = int(NOW.timestamp() * 1000)
    site.count = getattr(site, "count", 0) + 1
    statements = [Statement(f"DELETE FROM {each.name}") for each in schema.collections]
    for collection in schema.collections:
        change = "UPDATE _collections SET listRule = ?, viewRule = ?, updated = ? WHERE id = ?"
        moment = f"2030-01-01 00:{site.count // 60000:02d}:{site.count % 60000 // 1000:02d}.{site.count % 1000:03d}Z"
        statements.append(Statement(change, (collection.rules.list, views[collection.name], moment, collection.id)))
        for row in rows[collection.name]:
            values = {each.name: column(each, row[each.name]) for each in collection.fields}
            if collection.is_auth:
                values |= {"tokenKey": f"key of {row['id']}", "password": "x", "verified": 0}
            names = ", ".join(f'"{name}"' for name in values)
            marks = ", ".join("?" * len(values))
            sql = f"INSERT INTO {collection.name} ({names}) VALUES ({marks})"
            statements.append(Statement(sql, tuple(values.values())))
    site.node.run(site.desk.engine.write(statements))


def token_of(site, row):
    users = site.node.run(site.desk.known()).schema.find("usr")
    issuer = Issuer(record_id=row["id"], collection_id="usr", token_key=f"key of {row['id']}", auth=users.auth)
    return issuer.auth_token(site.clock.wall / 1000)


class Reader:
    """Asks as somebody, and checks what comes with what may come."""

    def __init__(self, site, world, views, who, query, headers):
        self.site, self.world, self.views, self.query = site, world, views, query
        self.who = who
        self.token = token_of(site, who) if who else ""
        self.headers = headers
        self.telling = 0

    def get(self, path, more):
        query = {**self.query, **{name: value for name, value in more.items() if value}}
        text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        sent = {name.replace("_", "-"): value for name, value in self.headers.items()}
        answer = self.site("GET", f"collections/{path}?{text}", token=self.token, headers=sent)
        auth = Identity(self.world.schema.find("users"), self.who) if self.who else None
        self.world.request = RequestInfo(method="GET", auth=auth, query=query, headers=self.headers)
        return answer

    def ids(self, collection, *filters, context="default"):
        world = replace(self.world, request=replace(self.world.request, context=context))
        return sorted(row["id"] for row in find(world, collection, filters))

    def list(self, collection, client, expand):
        answer = self.get(f"{collection.name}/records", {"filter": client, "expand": expand})
        note(f"list {collection.name} {client!r}: {answer.status} {answer.body[:1000]}")
        if answer.status == 400:
            return  # too much to ask at once
        assert answer.status == 200, answer.body
        expected = self.ids(collection, (collection.rules.list, False), (client, True))
        assert sorted(each["id"] for each in answer.json["items"]) == expected
        assert answer.json["totalItems"] == len(expected)
        self.telling += 0 < len(expected) < len(self.world.rows[collection.name])
        for item in answer.json["items"]:
            self.check(item)

    def view(self, collection, id, expand):
        rule = self.views[collection.name]
        answer = self.get(f"{collection.name}/records/{id}", {"expand": expand})
        note(f"view {collection.name} {id}: {answer.status} {answer.body[:1000]}")
        if rule is None:
            assert answer.status == 403
        elif answer.status != 400:
            assert (answer.status == 200) == (id in self.ids(collection, (rule, False)))
            assert answer.status in (200, 404)
        if answer.status == 200:
            self.check(answer.json)

    def check(self, item):
        """Check what stands in a record, and beside it."""
        assert "secret" not in item and "password" not in item and "tokenKey" not in item
        row = next(each for each in self.world.rows[item["collectionName"]] if each["id"] == item["id"])
        if item["collectionName"] == "users":
            is_own = self.who is not None and self.who["id"] == item["id"]
            assert ("email" in item) == (bool(row["emailVisibility"]) or is_own)
        for beside in item.get("expand", {}).values():
            for each in beside if isinstance(beside, list) else [beside]:
                self.check_beside(each)

    def check_beside(self, item):
        rule = self.views[item["collectionName"]]
        assert rule is not None, "only superusers see these"
        collection = self.world.schema.find(item["collectionName"])
        assert item["id"] in self.ids(collection, (rule, False), context="expand")
        self.telling += 1
        self.check(item)


def read_all(site, drawn):
    schema, rows, views, who, asks, query, headers = drawn
    note(f"{[(each.name, each.rules.list, views[each.name]) for each in schema.collections]} {rows} {who}")
    store(site, schema, rows, views)
    reader = Reader(site, World(schema, rows, None, NOW), views, who, query, headers)
    for collection, client, expand in asks:
        reader.list(collection, client, expand)
        for id in [*(row["id"] for row in rows[collection.name]), "nowhere"]:
            reader.view(collection, id, expand)
    return reader.telling


@pytest.mark.slow
@settings(max_examples=20, **EVERY)
@given(worlds())
def test_nothing_is_readable_that_a_rule_forbids(site, drawn):
    read_all(site, drawn)


@pytest.mark.full
@pytest.mark.timeout(1800)
@settings(max_examples=1000, **EVERY)
@given(worlds())
def test_nothing_is_readable_that_a_rule_forbids_for_long(site, drawn):
    read_all(site, drawn)
