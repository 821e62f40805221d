"""Records to ask about: a schema with relations of all kinds, its tables in SQLite, random data and random filters."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

import apsw
from hypothesis import strategies as st

from pando.records.filter import RequestInfo
from pando.records.model import (
    AuthOptions,
    BoolField,
    Collection,
    CollectionType,
    EmailField,
    GeoPointField,
    JsonField,
    NumberField,
    RelationField,
    Rules,
    Schema,
    SelectField,
    TextField,
)

NOW = datetime(2026, 1, 31, 12, 30, 15, 123000, tzinfo=UTC)


@dataclass(frozen=True)
class Identity:
    """Who has signed in."""

    collection: Collection
    values: Mapping[str, object]


def relation(name, target, most):
    return RelationField(name=name, collection_id=target, max_select=most)


def make_schema(*, group_most=1, author_most=1, tags_most=3, is_owner_unique=False, rules=("", "", ""), manage=None):
    users = Collection(
        id="usr",
        name="users",
        type=CollectionType.AUTH,
        auth=AuthOptions(manage_rule=manage),
        rules=Rules(list=rules[0]),
        fields=(
            TextField(name="id"),
            EmailField(name="email"),
            BoolField(name="emailVisibility"),
            TextField(name="secret", hidden=True),
            TextField(name="name"),
            NumberField(name="level"),
            relation("friends", "usr", 5),
            relation("group", "grp", group_most),
        ),
    )
    posts = Collection(
        id="pst",
        name="posts",
        rules=Rules(list=rules[1]),
        fields=(
            TextField(name="id"),
            TextField(name="title"),
            NumberField(name="rank"),
            BoolField(name="public"),
            JsonField(name="meta"),
            GeoPointField(name="place"),
            SelectField(name="tags", values=("a", "b", "c"), max_select=tags_most),
            relation("author", "usr", author_most),
            relation("likers", "usr", 5),
        ),
    )
    groups = Collection(
        id="grp",
        name="groups",
        rules=Rules(list=rules[2]),
        indexes=("CREATE UNIQUE INDEX one ON groups (owner)",) if is_owner_unique else (),
        fields=(TextField(name="id"), TextField(name="title"), relation("owner", "usr", 1)),
    )
    return Schema((users, posts, groups))


def declared(field):
    """Give the type of a field's column, as PocketBase makes it."""
    if isinstance(field, JsonField | GeoPointField) or field.is_multiple:
        return "JSON"
    return {"number": "NUMERIC", "bool": "BOOLEAN"}.get(field.type, "TEXT")


class Raw(str):
    """A text that is put into a column as it is, JSON or not."""


def column(field, value):
    if isinstance(value, Raw):
        return str(value)
    if isinstance(field, JsonField | GeoPointField):
        return None if value is None else json.dumps(value, separators=(",", ":"), sort_keys=True)
    return json.dumps(value, separators=(",", ":")) if isinstance(value, list) else value


def make_database(schema, rows):
    connection = apsw.Connection(":memory:")
    for collection in schema.collections:
        columns = ", ".join(f'"{each.name}" {declared(each)}' for each in collection.fields)
        connection.execute(f'CREATE TABLE "{collection.name}" ({columns}, PRIMARY KEY (id))')
        marks = ", ".join("?" * len(collection.fields))
        for row in rows.get(collection.name, ()):
            values = tuple(column(each, row[each.name]) for each in collection.fields)
            connection.execute(f'INSERT INTO "{collection.name}" VALUES ({marks})', values)
    return connection


# -- random data ------------------------------------------------------------------------------------------------------

texts = st.sampled_from(["a"] * 4 + ["b"] * 3 + ["", "", "ab", "A", "5", "%", "a_b", "\\", "'", "ä"])
numbers = st.sampled_from([1, 1, 1, 2, 2, 0, 5, -1, 2.5])
jsons = st.sampled_from([None, "", "a", 5, 2.5, True, [], ["a", 1], {"a": {"b": 1}}, {"a": [{"b": "x"}]}, {"k": None}])
IDS = {"usr": ["u1", "u2", "u3"], "pst": ["p1", "p2", "p3"], "grp": ["g1", "g2"]}


def value_of(field):
    if isinstance(field, RelationField | SelectField):
        known = IDS[field.collection_id] if isinstance(field, RelationField) else field.values
        one = st.sampled_from([*known, *known, "gone"])
        return st.lists(one, max_size=2, unique=True) if field.is_multiple else st.one_of(one, one, st.just(""))
    if isinstance(field, JsonField):
        return jsons
    if isinstance(field, GeoPointField):
        return st.builds(lambda lon, lat: {"lat": lat, "lon": lon}, numbers, numbers)
    return {"number": numbers, "bool": st.sampled_from([0, 1])}.get(field.type, texts)


@st.composite
def records(draw, collection):
    found = []
    owners = draw(st.permutations([*IDS["usr"], ""]))
    least = draw(st.sampled_from([2, 2, 0]))
    for place, one in enumerate(
        draw(st.lists(st.sampled_from(IDS[collection.id]), min_size=least, max_size=3, unique=True))
    ):
        row = {each.name: draw(value_of(each)) for each in collection.fields} | {"id": one}
        if collection.indexes:
            row["owner"] = owners[place]
        found.append(row)
    return found


@st.composite
def requests(draw, schema, rows):
    users = schema.find("users")
    auth = draw(st.sampled_from([*rows["users"], None]))
    posts = schema.find("posts")
    body = {each.name: draw(value_of(each)) for each in posts.fields if each.name != "id" and draw(st.booleans())}
    return RequestInfo(
        auth=None if auth is None else Identity(users, auth),
        body=body,
        query=draw(st.dictionaries(st.sampled_from(["q", "r"]), texts)),
        headers=draw(st.dictionaries(st.sampled_from(["x_token"]), texts)),
    )


# -- random filters ---------------------------------------------------------------------------------------------------


@st.composite
def paths(draw, schema, collection, hops):
    """Draw a path that leads somewhere from a collection, with a modifier now and then."""
    backs = [(each.collection, each.field) for each in schema.back_relations(collection)]
    if hops and draw(st.booleans()):
        follow = [each for each in collection.fields if isinstance(each, RelationField)]
        step = draw(st.sampled_from([*follow, *backs]))
        if isinstance(step, tuple):
            start, target = f"{step[0].name}_via_{step[1].name}", step[0]
        else:
            start, target = step.name, schema.find(step.collection_id)
        return f"{start}.{draw(paths(schema, target, hops - 1))}"
    field = draw(st.sampled_from([each for each in collection.fields if each.name != "secret"]))
    if isinstance(field, JsonField):
        return field.name + draw(st.sampled_from(["", ".a", ".a.b", ".a.0.b", ".0", ".k"]))
    if isinstance(field, GeoPointField):
        return field.name + draw(st.sampled_from([".lon", ".lat"]))
    if isinstance(field, RelationField | SelectField):
        return field.name + draw(st.sampled_from(["", ":each", ":length"]))
    if isinstance(field, TextField | EmailField):
        return field.name + draw(st.sampled_from(["", "", ":lower"]))
    return field.name


@st.composite
def names(draw, schema, collection, is_client):
    kind = draw(st.sampled_from(["path"] * 6 + ([] if is_client else ["collection", "auth", "body", "other"])))
    if kind == "path":
        return draw(paths(schema, collection, 2))
    if kind == "collection":
        other = draw(st.sampled_from(schema.collections))
        return f"@collection.{other.name}{draw(st.sampled_from(['', ':x']))}.{draw(paths(schema, other, 1))}"
    if kind == "auth":
        known = paths(schema, schema.find("users"), 1)
        return f"@request.auth.{draw(st.one_of(known, st.sampled_from(['id', 'collectionName'])))}"
    if kind == "body" and collection.name == "posts":
        sent = ["title", "title:isset", "title:changed", "rank", "rank:changed", "tags:each", "tags:length", "meta"]
        return "@request.body." + draw(
            st.sampled_from(
                [*sent, "author", "author.name", "author.id", "likers.level", "meta:changed", "tags:changed"]
            )
        )
    return draw(
        st.sampled_from(
            [
                *("@request.query.q", "@request.query.r:isset", "@request.headers.x_token:lower", "@request.context"),
                *("@request.method", "@year", "@now", "true", "false", "null"),
            ]
        )
    )


def quoted(text):
    return "'" + text.replace("'", "\\'") + "'"


literals = st.one_of(
    texts.filter(lambda text: not text.endswith("\\")).map(quoted),
    numbers.map(str),
    st.sampled_from(["u1", "u2", "p1", "g1", "c"]).map(quoted),
)
OPERATORS = ["=", "!=", ">", ">=", "<", "<=", "~", "!~"]


@st.composite
def comparisons(draw, schema, collection, is_client):
    left = draw(names(schema, collection, is_client))
    right = draw(st.one_of(literals, names(schema, collection, is_client)))
    if draw(st.integers(0, 5)) == 0:
        left, right = right, left
    return f"{left} {draw(st.sampled_from(['', '?']))}{draw(st.sampled_from(OPERATORS))} {right}"


@st.composite
def pairs(draw, schema, collection):
    """Draw two comparisons about the records that one path leads to: both must hold for the same record."""
    ways = [(each.name, each.collection_id) for each in collection.fields if isinstance(each, RelationField)]
    ways += [(f"{e.collection.name}_via_{e.field.name}", e.collection.id) for e in schema.back_relations(collection)]
    way, target = draw(st.sampled_from(ways))
    known = {"usr": ["name ?= 'a'", "name ?!= 'b'", "level ?= 1", "level ?> 1", "friends.name ?= 'a'", "id ?!= 'u1'"]}
    known["pst"] = ["title ?= 'a'", "title != 'b'", "rank ?= 1", "rank ?< 2", "public ?= true", "likers.id ?= 'u1'"]
    known["grp"] = ["title ?= 'a'", "title != 'b'", "id ?= 'g1'", "owner ?= 'u1'", "owner.name ?= 'a'"]
    one, other = draw(st.lists(st.sampled_from(known[target]), min_size=2, max_size=2, unique=True))
    return f"{way}.{one} && {way}.{other}"


def filters(schema, collection, is_client, *, most=4):
    def grouped(inner):
        return st.lists(st.tuples(inner, st.sampled_from(["&&", "||"])), min_size=2, max_size=3).map(
            lambda items: "(" + " ".join(f"{text} {join}" for text, join in items).rpartition(" ")[0] + ")"
        )

    one = comparisons(schema, collection, is_client)
    return st.recursive(st.one_of(one, one, pairs(schema, collection)), grouped, max_leaves=most)
