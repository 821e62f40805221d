"""The registry of streams: statuses of subscription requests, what waits, and how streams end."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from records_realtime_kit import Streams, make_id, user

from pando import limits
from pando.errors import InvariantError, Overloaded
from pando.records.problems import ApiError
from pando.records.realtime.client_ids import event_id, parse_client_id, split_event_id
from pando.records.realtime.clients import Ending, Event, StaleIdentity
from pando.records.realtime.identities import CollectionEffect, RecordEffect, When


@pytest.fixture
def streams():
    return Streams()


def texts(streams, *topics):
    return [held.subscription.text for held in streams.registry.holders(topics)]


def test_the_first_event_of_a_stream_tells_its_id(streams):
    client_id = make_id(99)
    client = streams.registry.connect(client_id, "ip", 0.0, lambda: None)
    expected = f'id:{client_id}\nevent:PB_CONNECT\ndata:{{"clientId":"{client_id}"}}\n\n'
    assert streams.registry.take(client, 0.0) == expected.encode()
    assert streams.registry.take(client, 0.0) == b""


def test_a_request_replaces_what_was_subscribed_to(streams):
    client = streams.connect()
    streams.subscribe(client, "posts/*", "posts/a")
    streams.subscribe(client, "posts/a", "users/*")
    assert texts(streams, "posts/*", "posts/a", "users/*") == ["posts/a", "users/*"]
    streams.subscribe(client)
    assert texts(streams, "posts/*", "posts/a", "users/*") == []
    assert not streams.registry.topics


def test_what_stays_misses_nothing_and_what_is_new_hears_of_later_changes(streams):
    client = streams.connect()
    streams.subscribe(client, "a", seen=5)
    streams.subscribe(client, "a", "b", seen=9)
    assert {text: held.since for text, held in client.held.items()} == {"a": 5, "b": 9}


def test_one_topic_with_two_options_is_two_subscriptions(streams):
    client = streams.connect()
    one = 'a?options={"query":{"x":"1"}}'
    streams.subscribe(client, "a", one)
    assert texts(streams, "a") == ["a", one]


@pytest.mark.parametrize("client_id", ["nobody", make_id(7777), "x" * 255])
def test_an_unknown_stream_is_404(streams, client_id):
    with pytest.raises(ApiError) as refused:
        streams.registry.subscribe(client_id, (), None, "1.1.1.1", 0)
    assert refused.value.status == 404


def test_another_address_is_400_also_for_the_same_user(streams):
    client = streams.connect()
    streams.subscribe(client, "a", identity=user())
    with pytest.raises(ApiError) as refused:
        streams.subscribe(client, "b", identity=user(), ip="2.2.2.2")
    assert refused.value.status == 400
    assert list(client.held) == ["a"]


@pytest.mark.parametrize(
    ("before", "after", "status"),
    [
        (None, None, 0),
        (None, user(), 0),
        (user(), user(), 0),
        (user(), user(token_key="newer"), 0),
        (user(), None, 403),
        (user(), user("u2"), 403),
        (user(), user(collection_id="pbc_other"), 403),
    ],
)
def test_a_guest_may_sign_in_and_nobody_may_become_another(streams, before, after, status):
    client = streams.connect()
    streams.subscribe(client, "a", identity=before)
    if not status:
        streams.subscribe(client, "b", identity=after)
        assert (client.identity, list(client.held)) == (after, ["b"])
        return
    with pytest.raises(ApiError) as refused:
        streams.subscribe(client, "b", identity=after)
    assert refused.value.status == status
    assert (client.identity, list(client.held)) == (before, ["a"])


def test_an_identity_that_was_read_before_a_change_that_is_out_must_be_read_again(streams):
    client = streams.connect()
    streams.subscribe(client, "a", seen=5)
    streams.registry.cursor = 8
    with pytest.raises(StaleIdentity) as refused:
        streams.subscribe(client, "a", identity=user(), seen=7)
    assert refused.value.retryable
    assert client.identity is None
    streams.subscribe(client, "a", identity=user(), seen=8)
    assert client.identity == user()


def test_the_feed_is_needed_while_somebody_subscribes_or_is_somebody(streams):
    registry = streams.registry
    client, other = streams.connect(), streams.connect()
    assert (registry.needs_feed, registry.cursor) == (False, None)
    streams.subscribe(client, "a", seen=3)
    assert (registry.needs_feed, registry.cursor) == (True, 3)
    streams.subscribe(other, "b", seen=9)
    assert registry.cursor == 3
    streams.subscribe(client, seen=9)
    registry.end(other, Ending.LEFT)
    assert (registry.needs_feed, registry.cursor) == (False, None)
    streams.subscribe(client, identity=user(), seen=12)
    assert (registry.needs_feed, registry.cursor) == (True, 12)
    registry.apply(RecordEffect(user().key, None, When.AFTER), 13)
    assert (registry.needs_feed, registry.cursor, client.ending) == (False, None, None)


@pytest.mark.parametrize(
    ("effect", "left"),
    [
        (RecordEffect(user().key, {"tokenKey": "key", "name": "new"}, When.BEFORE), {"tokenKey": "key", "name": "new"}),
        (RecordEffect(user().key, {"tokenKey": "other"}, When.BEFORE), None),
        (RecordEffect(user().key, None, When.AFTER), None),
        (RecordEffect(("pbc_users", "u2"), None, When.AFTER), user().values),
        (CollectionEffect("pbc_users"), None),
        (CollectionEffect("pbc_other"), user().values),
    ],
)
def test_what_changes_of_the_record_do_to_an_identity(streams, effect, left):
    clients = [streams.connect() for _ in range(3)]
    for client in clients[:2]:
        streams.subscribe(client, "a", identity=user(), seen=5)
    streams.subscribe(clients[2], "a", seen=5)
    streams.registry.apply(effect, 5)
    assert all(client.identity == user() for client in clients[:2]), "they have this change in them"
    streams.registry.apply(effect, 6)
    for client in clients[:2]:
        assert (client.identity.values if client.identity else None) == left
    assert clients[2].identity is None
    assert texts(streams, "a") == ["a"] * 3, "they go on as guests"
    if left is None:
        streams.subscribe(clients[0], "a", identity=user("u9"), seen=6)
        assert clients[0].identity == user("u9")


def test_what_waits_is_taken_in_order_and_once(streams):
    client = streams.connect()
    for number in range(3):
        streams.registry.tell(client, Event("topic", b"%d" % number))
    assert streams.ready[client.id] == 4
    assert streams.read(client) == [(client.id, "topic", number) for number in range(3)]
    assert streams.read(client) == []


@pytest.mark.parametrize("by", ["events", "bytes"])
def test_a_stream_that_is_not_read_ends_and_what_waits_is_dropped(streams, by):
    client, other = streams.connect(), streams.connect()
    data = b"1" if by == "events" else b"1" * (limits.REALTIME_OUTBOX_BYTES_MAX // 4)
    most = limits.REALTIME_OUTBOX_EVENTS_MAX if by == "events" else 4
    for _ in range(most):
        streams.registry.tell(client, Event("t", data))
        assert client.ending is None
    streams.registry.tell(client, Event("t", data))
    assert client.ending is Ending.OVERFLOW
    assert streams.registry.take(client, 0.0) == b""
    assert (other.ending, len(streams.registry)) == (None, 1)
    ready = streams.ready[client.id]
    streams.registry.tell(client, Event("t", data))
    assert (streams.ready[client.id], streams.registry.take(client, 0.0)) == (ready, b"")


def test_one_event_of_any_size_goes_out_alone(streams):
    client = streams.connect()
    streams.registry.tell(client, Event("t", b"1" * (limits.REALTIME_OUTBOX_BYTES_MAX + 1)))
    assert client.ending is None
    assert len(streams.registry.take(client, 0.0)) > limits.REALTIME_OUTBOX_BYTES_MAX


def test_when_too_much_waits_for_all_the_one_with_the_most_ends(streams, monkeypatch):
    monkeypatch.setattr(limits, "REALTIME_OUTBOXES_BYTES_MAX", 1000)
    clients = [streams.connect() for _ in range(4)]
    for client, size in zip(clients, (100, 500, 300, 90), strict=True):
        streams.registry.tell(client, Event("t", b"1" * size))
    assert [client.ending for client in clients] == [None] * 4
    streams.registry.tell(clients[0], Event("t", b"1" * 20))
    assert [client.ending for client in clients] == [None, Ending.OVERFLOW, None, None]
    streams.registry.tell(clients[0], Event("t", b"1" * 450))
    assert [client.ending for client in clients[2:]] == [None, None]


def test_what_waits_for_many_is_held_once(streams, monkeypatch):
    monkeypatch.setattr(limits, "REALTIME_OUTBOXES_BYTES_MAX", 1000)
    clients = [streams.connect() for _ in range(4)]
    for _ in range(3):
        large, other = Event("t", b"1" * 900), Event("t", b"2" * 90)
        for client in clients:
            streams.registry.tell(client, large)
        streams.registry.tell(clients[0], other)
        assert [client.ending for client in clients] == [None] * 4
        for client in clients:  # the last one who takes it makes room
            assert b"1" * 900 in streams.registry.take(client, 0.0)
    streams.registry.tell(clients[0], large)
    streams.registry.tell(clients[1], large)
    streams.registry.end(clients[0], Ending.AGE)
    assert streams.registry.take(clients[0], 0.0) and streams.registry.take(clients[0], 0.0) == b""
    streams.registry.tell(clients[2], other)
    assert [client.ending for client in clients[1:]] == [None] * 3
    streams.registry.tell(clients[2], Event("t", b"3" * 20))
    assert [client.ending for client in clients[1:]] == [Ending.OVERFLOW, None, None]


def test_streams_end_when_idle_and_when_old(streams):
    registry = streams.registry
    idle, busy, stuck = (streams.connect() for _ in range(3))
    for now in range(1, 1900):
        streams.now = float(now)
        if now % 100 == 0:
            registry.tell(busy, Event("t", b"1"))
            streams.read(busy)
        if now == 200:
            registry.tell(stuck, Event("t", b"1"))
        registry.expire(streams.now)
        assert idle.ending == (Ending.IDLE if now >= 300 else None)
        assert stuck.ending == (Ending.OVERFLOW if now >= 300 else None)
        assert busy.ending == (Ending.AGE if now >= 1800 else None)
    assert len(registry) == 0


def test_what_waits_when_a_stream_is_old_is_still_sent(streams):
    client = streams.connect()
    streams.now = limits.REALTIME_STREAM_S
    streams.registry.tell(client, Event("t", b"7"))
    streams.registry.expire(streams.now)
    assert client.ending is Ending.AGE
    assert streams.read(client) == [(client.id, "t", 7)]
    assert streams.registry._waiting_bytes == 0


def test_ending_twice_is_ending_once(streams):
    client = streams.connect()
    streams.subscribe(client, "a", identity=user())
    streams.registry.tell(client, Event("t", b"123"))
    streams.registry.end(client, Ending.IDLE)
    streams.registry.end(client, Ending.LEFT)
    assert client.ending is Ending.IDLE
    assert streams.registry.get(client.id) is None
    streams.read(client)
    assert streams.registry._waiting_bytes == 0
    streams.connect()
    streams.registry.end_all(Ending.STOPPED)
    assert len(streams.registry) == 0


def test_a_custom_topic_reaches_who_subscribes_to_it(streams):
    client, other = streams.connect(), streams.connect()
    text = 'news?options={"query":{}}'
    streams.subscribe(client, text, "other")
    streams.subscribe(other, "newspaper")
    assert streams.registry.publish("news", b'"hi"') == 1
    assert streams.read(client) == [(client.id, text, "hi")]
    assert streams.read(other) == []


def test_streams_and_topics_are_bounded(streams, monkeypatch):
    monkeypatch.setattr(limits, "REALTIME_CLIENTS_MAX", 2)
    monkeypatch.setattr(limits, "REALTIME_TOPICS_CHARS_MAX", 10)
    client, other = streams.connect(), streams.connect()
    with pytest.raises(Overloaded):
        streams.connect()
    streams.subscribe(client, "abcdef")
    with pytest.raises(Overloaded):
        streams.subscribe(other, "uvwxy")
    streams.subscribe(other, "uvwx")
    streams.subscribe(client, "abcxyz")
    streams.subscribe(client, "a")
    streams.subscribe(other, "123456789")
    streams.registry.end(other, Ending.LEFT)
    streams.subscribe(client, "1234567890")


def test_an_id_is_used_once(streams):
    client = streams.connect()
    with pytest.raises(InvariantError):
        streams.registry.connect(client.id, "ip", 0.0, lambda: None)


# -- streams with a place --


def test_events_tell_their_place_and_ids_of_events_are_ids_of_the_stream(streams):
    client = streams.connect(place=7)
    streams.registry.tell(client, Event("t", b"1", None))
    streams.registry.tell(client, Event("t", b"2", 9))
    streams.registry.tell(client, Event("t", b"3", None))
    ids = [each[0] for each in streams.read(client)]
    assert ids == [f"{client.id}.7", f"{client.id}.9", f"{client.id}.9"]
    assert streams.registry.get(ids[0]) is client
    streams.registry.subscribe(ids[0], (), None, "1.1.1.1", 9)
    assert parse_client_id(ids[0]) == parse_client_id(client.id) is not None


@given(st.integers(0, 2**53))
def test_ids_of_events_come_apart_again(place):
    assert split_event_id(event_id(make_id(1), place)) == (make_id(1), place)


@pytest.mark.parametrize("text", ["", "abc", "abc.", "abc.-1", "abc.1x", "abc.\u0661", "abc." + "1" * 17, ".."])
def test_other_texts_have_no_place(text):
    assert split_event_id(text) == (text, None)


@pytest.mark.parametrize(
    ("place", "cursor", "seen", "behind"),
    [(5, None, 5, None), (5, None, 9, 5), (5, 5, 9, None), (5, 7, 9, 5), (9, 7, 8, None), (9, None, 8, None)],
)
def test_the_first_subscriptions_go_back_to_the_place(streams, place, cursor, seen, behind):
    other = streams.connect()
    if cursor is not None:
        streams.subscribe(other, "x", seen=cursor)
    client = streams.connect(place=place)
    streams.subscribe(client, seen=seen)
    streams.subscribe(client, "a", seen=seen)
    assert (client.behind, client.held["a"].since) == (behind, place)
    assert texts(streams, "a") == ([] if behind is not None else ["a"])
    streams.subscribe(client, "a", "b", seen=seen + 1)
    assert (client.behind, client.held["b"].since) == (behind, seen + 1)
    if behind is not None:
        client.behind = 30
        streams.registry.caught_up(client)
        assert {held.since for held in client.held.values()} == {30}
    assert texts(streams, "a", "b") == ["a", "b"]
