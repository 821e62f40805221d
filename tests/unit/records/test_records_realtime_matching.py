"""Who hears of which change: rules, options, identities, and histories of random changes and subscribers."""

import asyncio
import gc
import json
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_realtime_kit import POSTS, SCHEMA, SECRETS, Streams, change, user

from pando import limits
from pando.errors import InternalError, NotReady, SqlError, StatementTimeout
from pando.records.model import SUPERUSERS_ID, Collection, Schema
from pando.records.problems import bad_request
from pando.records.realtime.changes import Change, Operation
from pando.records.realtime.clients import Ending
from pando.records.realtime.matching import Matcher


class World(Streams):
    """Streams with a matcher; `judge` decides, and notes what it was asked."""

    def __init__(self, schema=SCHEMA):
        super().__init__()
        self.schema = schema
        self.asked = []
        self.judge = lambda *question: dict(question[1])
        self.matcher = Matcher(self.registry, lambda: self.schema, self._allowed)

    async def _allowed(self, collection, values, rule, identity, options):
        self.asked.append((collection.name, values["id"], rule, identity, options))
        found = self.judge(collection, values, rule, identity, options)
        if isinstance(found, BaseException):
            raise found
        if asyncio.iscoroutine(found):
            found = await found
        return None if found is None else json.dumps(found, separators=(",", ":")).encode()

    def dispatch(self, *changes):
        async def all_of_them():
            return [await self.matcher.dispatch(each) for each in changes]

        return asyncio.run(all_of_them())


@pytest.fixture
def world():
    return World()


def heard(world, client):
    """What a stream has heard: (event, action, id)."""
    return [(name, data["action"], data["record"]["id"]) for _, name, data in world.read(client)]


@pytest.mark.parametrize(
    ("topic", "hears"),
    [
        ("posts/*", True),
        ("posts", True),
        ("posts/r1", True),
        ("pbc_posts/*", True),
        ("pbc_posts", True),
        ("pbc_posts/r1", True),
        ("posts/r2", False),
        ("posts/", False),
        ("Posts/*", False),
        ("users/*", False),
        ("post", False),
    ],
)
@pytest.mark.parametrize(("operation", "action"), [("insert", "create"), ("update", "update"), ("delete", "delete")])
def test_a_topic_hears_of_its_records(world, topic, hears, operation, action):
    client = world.connect()
    world.subscribe(client, topic)
    world.dispatch(change(1, operation=operation, title="x"))
    expected = [(client.id, topic, {"record": {"id": "r1", "title": "x"}, "action": action})]
    assert world.read(client) == (expected if hears else [])
    assert world.registry.cursor == 1


def test_the_row_that_is_judged_is_the_new_one_of_a_deleted_record_the_old_one(world):
    client = world.connect()
    world.subscribe(client, "posts/*")
    world.dispatch(change(1, old={"v": 1}, new={"v": 2}), change(2, operation="delete", old={"v": 2}))
    assert [data["record"]["v"] for *_, data in world.read(client)] == [2, 2]


def test_list_topics_are_under_the_list_rule_and_id_topics_under_the_view_rule(world):
    client = world.connect()
    world.subscribe(client, "posts/*", "posts/r1", "posts")
    world.judge = lambda _c, values, rule, *_: values if rule == "view rule of @request" else None
    world.dispatch(change(1))
    assert heard(world, client) == [("posts/r1", "update", "r1")]
    assert sorted(rule for _, _, rule, _, _ in world.asked) == ["list rule of @request", "view rule of @request"]


def test_a_rule_of_nobody_is_for_superusers(world):
    guest, ordinary, superuser = (world.connect() for _ in range(3))
    world.subscribe(guest, "secrets/*")
    world.subscribe(ordinary, "secrets/*", identity=user())
    world.subscribe(superuser, "secrets/*", identity=user(collection_id=SUPERUSERS_ID))
    world.dispatch(change(1, table="secrets"))
    assert [heard(world, client) for client in (guest, ordinary)] == [[], []]
    assert heard(world, superuser) == [("secrets/*", "update", "r1")]
    assert len(world.asked) == 1


def test_the_name_of_an_event_is_the_subscription_as_sent_and_options_reach_the_judge(world):
    client = world.connect()
    text = "posts/*?options=" + quote('{"query":{"filter":"a=1"},"headers":{"X-Y":"z"}}', safe="")
    world.subscribe(client, text)
    world.dispatch(change(1))
    assert [name for name, *_ in heard(world, client)] == [text]
    options = world.asked[0][4]
    assert (options.query, options.headers) == ((("filter", "a=1"),), (("x_y", "z"),))


def test_who_cannot_hear_different_things_is_judged_once(world):
    clients = [world.connect() for _ in range(60)]
    for number, client in enumerate(clients):
        identity = [None, user(), user("u2")][number % 3]
        world.subscribe(client, "posts/*", "posts", 'posts/*?options={"query":{"a":1}}', identity=identity)
    world.judge = lambda _c, values, _r, identity, options: {
        **values,
        "for": identity and identity.record_id,
        "with": options.get("a"),
    }
    assert world.dispatch(change(1)) == [180]
    assert len(world.asked) == 6
    for number, client in enumerate(clients):
        who = [None, "u1", "u2"][number % 3]
        got = [(data["record"]["for"], data["record"]["with"]) for *_, data in world.read(client)]
        assert sorted(got, key=str) == sorted([(who, ""), (who, ""), (who, "1")], key=str)


def test_equal_rules_are_one_question():
    open_posts = Collection(id="pbc_posts", name="posts", rules=POSTS.rules.__class__(list="", view=""))
    world = World(Schema((open_posts,)))
    client = world.connect()
    world.subscribe(client, "posts/*", "posts/r1")
    assert world.dispatch(change(1)) == [2]
    assert len(world.asked) == 1


@pytest.mark.parametrize(
    ("collection", "rule", "query", "questions"),
    [
        ("posts", "public = true", {}, 2),
        ("posts", "", {"fields": "id", "filter": "n > 1"}, 2),
        ("posts", "@Request.auth.id = owner", {}, 4),
        ("posts", "", {"filter": "@request.auth.id = owner"}, 4),
        ("posts", "", {"filter": "owner.name = 'ann'"}, 4),
        ("posts", "", {"expand": "owner"}, 4),
        ("users", "", {}, 4),
    ],
)
def test_who_is_signed_in_matters_only_where_it_is_asked_for(collection, rule, query, questions):
    base = next(each for each in SCHEMA.collections if each.name == collection)
    world = World(Schema((replace(base, rules=replace(base.rules, list=rule)),)))
    text = f"{collection}/*?options=" + quote(json.dumps({"query": query}))
    identities = [None, user(), user("u2"), user("su", collection_id=SUPERUSERS_ID)]
    for identity in identities:
        world.subscribe(world.connect(), text, identity=identity)
    assert world.dispatch(change(1, table=collection)) == [4]
    asked = [each[3] for each in world.asked]
    assert len(asked) == questions and {None, identities[3]} <= set(asked)


@pytest.mark.parametrize(
    ("error", "ending"),
    [
        (bad_request("no such field"), None),
        (SqlError("malformed JSON"), None),
        (NotReady("starting"), Ending.MISSED),
        (StatementTimeout("too long"), Ending.MISSED),
    ],
)
def test_an_evaluation_that_fails_concerns_only_who_asked(world, error, ending):
    asking, other = world.connect(), world.connect()
    world.subscribe(asking, 'posts/*?options={"query":{"filter":"?"}}')
    world.subscribe(other, "posts/*")
    world.judge = lambda _c, values, _r, _i, options: error if options.get("filter") else values
    assert world.dispatch(change(1)) == [1]
    assert (asking.ending, world.read(asking)) == (ending, [])
    assert heard(world, other) == [("posts/*", "update", "r1")]


def test_an_evaluation_that_takes_too_long_ends_the_stream_that_asked(world, monkeypatch):
    monkeypatch.setattr(limits, "REALTIME_JUDGE_S", 0.01)
    asking, other = world.connect(), world.connect()
    world.subscribe(asking, 'posts/*?options={"query":{"filter":"?"}}')
    world.subscribe(other, "posts/*")
    world.judge = lambda _c, values, _r, _i, options: asyncio.Event().wait() if options.get("filter") else values
    assert world.dispatch(change(1)) == [1]
    assert (asking.ending, other.ending) == (Ending.MISSED, None)


def test_a_bug_is_not_hidden(world):
    client = world.connect()
    world.subscribe(client, "posts/*")
    world.judge = lambda *_: InternalError("a bug")
    with pytest.raises(InternalError):
        world.dispatch(change(1))


def test_a_bug_leaves_no_evaluation_behind(world):
    ended = []

    async def waits():
        try:
            await asyncio.sleep(0)
        finally:
            ended.append("the one that waited")

    def judge(_collection, _values, _rule, identity, _options):
        return waits() if identity is None else InternalError("a bug")

    world.judge = judge
    world.subscribe(world.connect(), "posts/*")
    world.subscribe(world.connect(), "posts/*", identity=user())
    with pytest.raises(InternalError):
        world.dispatch(change(1))
    gc.collect()  # a coroutine that nobody awaited would be told of here
    assert ended == ["the one that waited"]


@pytest.mark.parametrize("operation", list(Operation))
def test_a_row_that_cannot_be_told_ends_the_streams_that_might_have_heard_of_it(world, operation):
    topics = ["posts/*", "posts", "posts/r7", "pbc_posts/r1"]
    concerned = [world.connect() for _ in topics]
    for client, topic in zip(concerned, topics, strict=True):
        world.subscribe(client, topic)
    other = world.connect()
    world.subscribe(other, "users/*", "secrets/*", "postscript/*", "posts of mine")
    world.dispatch(Change(1, 0, "posts", operation, 1), Change(2, 0, "secrets", operation, 1))
    assert [client.ending for client in concerned] == [Ending.MISSED] * 4
    assert other.ending is None
    assert world.asked == []


def test_tables_that_are_no_collections_concern_nobody(world):
    client = world.connect()
    world.subscribe(client, "anything/*", "_collections/*", "_collections")
    assert world.dispatch(change(1, table="anything"), change(2, table="_collections")) == [0, 0]
    assert (client.ending, world.registry.cursor) == (None, 2)


def test_a_collection_that_was_renamed_after_the_change_is_found(world):
    by_old, by_new, by_id = (world.connect() for _ in range(3))
    for client, topic in ((by_old, "posts/*"), (by_new, "articles/*"), (by_id, "pbc_posts/r1")):
        world.subscribe(client, topic)
    world.schema = Schema((Collection(id="pbc_posts", name="articles", rules=POSTS.rules), SECRETS))
    world.dispatch(change(1))
    assert [len(heard(world, client)) for client in (by_old, by_new, by_id)] == [1, 1, 1]
    world.dispatch(change(2, "pbc_posts", table="_collections"), change(3), change(4, table="articles"))
    assert [len(heard(world, client)) for client in (by_old, by_new, by_id)] == [0, 1, 1]


def test_a_subscriber_that_leaves_or_changes_while_it_is_judged_hears_nothing(world):
    leaving, changing, staying = (world.connect() for _ in range(3))
    for client in (leaving, changing, staying):
        world.subscribe(client, "posts/*", identity=user(f"u{client.id}"))

    def judge(_c, values, _r, identity, _o):
        if identity.record_id.endswith(staying.id):
            world.registry.end(leaving, Ending.LEFT)
            world.subscribe(changing, "users/*", identity=changing.identity, seen=9)
        return values

    world.judge = judge
    world.dispatch(change(1))
    assert world.read(leaving) == []
    assert world.read(changing) == []
    assert heard(world, staying) == [("posts/*", "update", "r1")]


def test_a_change_from_before_the_subscription_is_not_heard_of(world):
    client = world.connect()
    world.subscribe(client, "posts/*", seen=5)
    world.registry.cursor = 3
    world.dispatch(change(4), change(5), change(6))
    assert [data["record"] for *_, data in world.read(client)] == [{"id": "r1"}]
    assert len(world.asked) == 1


# -- identities --


def test_a_user_hears_of_its_own_deletion_and_is_a_guest_afterwards(world):
    client = world.connect()
    world.subscribe(client, "users/*", "posts/*", identity=user())
    world.judge = lambda _c, values, _r, identity, _o: {**values, "as": identity and identity.record_id}
    world.dispatch(change(1, "u1", table="users", operation="delete", tokenKey="key"), change(2))
    assert [(data["action"], data["record"]["as"]) for *_, data in world.read(client)] == [
        ("delete", "u1"),
        ("update", None),
    ]


def test_a_changed_token_key_counts_before_the_change_is_judged_and_newer_columns_too(world):
    client = world.connect()
    world.subscribe(client, "users/*", identity=user())
    world.judge = lambda _c, values, _r, identity, _o: {**values, "as": identity and identity.values.get("role")}
    world.dispatch(
        change(1, "u1", table="users", tokenKey="key", old={"role": "a"}, new={"role": "b"}),
        change(2, "u1", table="users", role="b", old={"tokenKey": "key"}, new={"tokenKey": "other"}),
    )
    assert [data["record"]["as"] for *_, data in world.read(client)] == ["b", None]


def test_a_deleted_collection_makes_guests_of_its_users(world):
    client = world.connect()
    world.subscribe(client, "posts/*", identity=user())
    world.dispatch(change(1, "pbc_users", table="_collections", operation="delete"))
    assert (client.identity, client.ending) == (None, None)


# -- places --


def test_only_the_last_event_of_a_change_says_that_it_has_been_told(world):
    client = world.connect(place=4)
    world.subscribe(client, "posts/*", "posts", "posts/r1", seen=4)
    world.dispatch(change(5), change(6, "r2"))
    places = [each[0].rpartition(".")[2] for each in world.read(client)]
    assert places == ["4", "4", "5", "5", "6"]


def test_an_older_change_is_told_to_one_stream(world):
    behind, other = world.connect(place=3), world.connect()
    world.subscribe(other, "posts/*", seen=5)
    world.subscribe(behind, "posts/*", "users/*", seen=5)
    assert behind.behind == 3

    async def catch_up():
        told = [await world.matcher.dispatch_to(behind, change(4)), await world.matcher.dispatch_to(behind, change(3))]
        return [*told, await world.matcher.dispatch_to(behind, change(5, table="unknown"))]

    assert asyncio.run(catch_up()) == [1, 0, 0]
    world.dispatch(change(6))
    assert [len(heard(world, client)) for client in (behind, other)] == [1, 1]


def test_an_older_change_that_cannot_be_told_ends_the_stream_only_if_it_might_have_heard_of_it(world):
    concerned, other = world.connect(place=3), world.connect(place=3)
    world.subscribe(concerned, "posts/r9", seen=5)
    world.subscribe(other, "users/*", seen=5)
    for client in (concerned, other):
        asyncio.run(world.matcher.dispatch_to(client, Change(4, 0, "posts", Operation.DELETE, 1)))
    assert (concerned.ending, other.ending) == (Ending.MISSED, None)


# -- histories --

RECORDS = ["r1", "r2", "r3"]
TOPICS = ["posts/*", "posts", "pbc_posts/*", "posts/r1", "pbc_posts/r2", "users/*", "secrets/*", "other"]
TOPICS += ['posts/*?options={"query":{"want":"x"}}', 'posts/r1?options={"query":{"want":"y"}}']
IDENTITIES = [None, user("u1"), user("u2"), user("root", collection_id=SUPERUSERS_ID)]

STEPS = st.lists(
    st.one_of(
        st.tuples(
            st.just("change"),
            st.sampled_from(["posts", "posts", "posts", "users", "secrets", "unknown"]),
            st.sampled_from(RECORDS),
            st.sampled_from(["insert", "update", "delete"]),
            st.sets(st.sampled_from([None, "u1", "u2", "root"])),
            st.sampled_from(["x", "y"]),
        ),
        st.tuples(st.just("subscribe"), st.integers(0, 3), st.lists(st.sampled_from(TOPICS), max_size=4)),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(st.just("read"), st.integers(0, 3)),
    ),
    max_size=60,
)


def may_see(values, identity, options):
    wanted = options.get("want")
    return str(identity and identity.record_id) in values["readers"].split() and wanted in ("", values["kind"])


def is_about(text, changed):
    topic = text.partition("?")[0]
    names = {"posts": ("posts", "pbc_posts"), "users": ("users",), "secrets": ("secrets",)}.get(changed.table, ())
    record_id = changed.values["id"]
    return any(topic in (name, f"{name}/*", f"{name}/{record_id}") for name in names)


class Model:
    """What one subscriber should hear, said in the plainest way."""

    def __init__(self, identity):
        self.identity = identity
        self.texts = []
        self.expected = []

    def hear(self, changed):
        for text in dict.fromkeys(self.texts):
            options = {"want": ""}
            if "?" in text:
                options = json.loads(text.partition("options=")[2])["query"]
            if changed.table == "secrets" and not (self.identity and self.identity.is_superuser):
                continue
            if is_about(text, changed) and may_see(changed.values, self.identity, options):
                self.expected.append((changed.sequence, text, changed.operation.action))


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(STEPS, st.randoms(use_true_random=False))
def test_each_subscriber_hears_exactly_its_events_in_the_order_of_commits(steps, rng):
    world = World()

    async def judge(values, identity, options):
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)  # answers come in any order
        return values if may_see(values, identity, options) else None

    world.judge = lambda _c, values, _r, identity, options: judge(values, identity, options)

    async def scenario():
        clients = [world.connect() for _ in range(4)]
        models = [Model(identity) for identity in IDENTITIES]
        got = [[] for _ in clients]
        sequence = 0
        for step, *facts in steps:
            if step == "change":
                sequence += 1
                table, record_id, operation, readers, kind = facts
                values = {"readers": " ".join(sorted(map(str, readers))), "kind": kind, "n": sequence}
                changed = change(sequence, record_id, table=table, operation=operation, **values)
                for model in models:
                    model.hear(changed)
                await world.matcher.dispatch(changed)
                continue
            client, model = clients[facts[0]], models[facts[0]]
            if step == "subscribe" and client.ending is None:
                world.subscribe(client, *facts[1], identity=model.identity, seen=sequence)
                model.texts = facts[1]
            elif step == "leave":
                got[facts[0]] += world.read(client)
                world.registry.end(client, Ending.LEFT)
                model.texts = []
            elif step == "read":
                got[facts[0]] += world.read(client)
        for number, (client, model) in enumerate(zip(clients, models, strict=True)):
            events = [
                (data["record"]["n"], name, data["action"]) for _, name, data in [*got[number], *world.read(client)]
            ]
            assert [each[0] for each in events] == sorted(each[0] for each in events)
            assert sorted(events) == sorted(model.expected)

    asyncio.run(scenario())
