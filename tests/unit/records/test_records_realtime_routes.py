"""The routes of event streams: connecting, subscribing, who hears what in which form, endings."""

import json
from urllib.parse import quote

import pytest
from records_realtime_site import KEY, RealtimeSite
from records_site import PASSWORD, SECRET

from pando import limits
from pando.api.records_realtime import CUT_S
from pando.api.stream_forwarder import HOP
from pando.records.engine import Statement
from pando.records.realtime.client_ids import make_client_id
from pando.testing.waiting import turns, until

TITLE = {"name": "title", "type": "text"}


@pytest.fixture
def site(tmp_path):
    made = RealtimeSite(tmp_path)
    made.begin()
    made.collection("posts", TITLE, SECRET)
    made.collection("own", TITLE, {"name": "owner", "type": "text"}, listRule="owner = @request.auth.id")
    made.collection("closed", TITLE, listRule=None, viewRule=None)
    made.fed("posts", "own", "closed", "users")
    try:
        yield made
    finally:
        made.close()


def with_options(topic, query=None, headers=None):
    return f"{topic}?options={quote(json.dumps({'query': query or {}, 'headers': headers or {}}))}"


def records(name, id=""):
    return f"collections/{name}/records" + (f"/{id}" if id else "")


async def write_and_change(site, name, title, **values):
    made = (await site.ask("POST", records(name), {"title": title, **values}, token=site.su)).json
    await site.ask("PATCH", records(name, made["id"]), {"title": f"{title}!"}, token=site.su)
    await site.ask("DELETE", records(name, made["id"]), token=site.su)
    return [("create", title), ("update", f"{title}!"), ("delete", f"{title}!")]


def test_a_stream_begins_with_its_client_id(site):
    async def scenario():
        stream = await site.open().begun()
        assert stream.status == 200
        assert stream.headers["content-type"] == "text/event-stream"
        assert stream.headers["cache-control"] == "no-store"
        assert stream.headers["x-accel-buffering"] == "no"
        client_id = await stream.client_id()
        assert len(client_id) == 40
        assert stream.body == f'id:{client_id}\nevent:PB_CONNECT\ndata:{{"clientId":"{client_id}"}}\n\n'.encode()
        assert site.realtime.streams == 1
        stream.leave()
        await stream.task
        assert site.realtime.streams == 0

    site.node.run(scenario())


def test_head_opens_no_stream(site):
    assert site("HEAD", "realtime").headers["content-type"] == "text/event-stream"
    assert site.realtime.streams == 0


def test_all_changes_are_heard_in_order_under_the_text_of_the_subscription(site):
    async def scenario():
        streams = [site.open(), site.open()]
        topic = with_options("posts/*", {"expand": "x"})
        await site.subscribe(streams[0], "posts/*", "posts", topic)
        await site.subscribe(streams[1], site.desk.cache._known.schema.find("posts").id + "/*")
        told = await write_and_change(site, "posts", "one")
        assert await streams[1].changes(3) == told
        events = await streams[0].events(9)
        assert {name for _, name, _ in events} == {"posts/*", "posts", topic}
        assert [data["action"] for _, name, data in events if name == "posts"] == ["create", "update", "delete"]
        assert all(list(data) == ["record", "action"] for *_, data in events)

    site.node.run(scenario())


def test_one_record_is_under_the_view_rule(site):
    async def scenario():
        made = (await site.ask("POST", records("own"), {"title": "a"}, token=site.su)).json
        stream = site.open()
        await site.subscribe(stream, f"own/{made['id']}", "own/*")
        await site.ask("PATCH", records("own", made["id"]), {"title": "b"}, token=site.su)
        assert await stream.events(1) == [
            (stream_id(stream), f"own/{made['id']}", {"record": made | {"title": "b"}, "action": "update"})
        ]

    site.node.run(scenario())


def stream_id(stream):
    return stream.body.decode().split("\n")[0].removeprefix("id:")


def test_rules_are_asked_about_the_row_of_the_change_for_who_subscribed(site):
    ann, token = site.user("ann")

    async def scenario():
        stream, guest, root = site.open(), site.open(), site.open()
        await site.subscribe(stream, "own/*", "closed/*", token=token)
        await site.subscribe(guest, "own/*")
        await site.subscribe(root, "own/*", "closed/*", token=site.su)
        theirs = await write_and_change(site, "own", "not hers", owner="other")
        closed = await write_and_change(site, "closed", "closed")
        hers = await write_and_change(site, "own", "hers", owner=ann["id"])
        assert await stream.changes(3) == hers
        assert await root.changes(9) == [*theirs, *closed, *hers]
        assert guest.body.count(b"\n\n") == 1

    site.node.run(scenario())


def test_filters_and_the_request_of_options_decide_too(site):
    site.collection("keyed", TITLE, listRule="@request.query.key = 'k' && @request.headers.x_a = 'b'")
    site.collection("by_context", TITLE, listRule="@request.context = 'realtime'")
    site.fed("keyed", "by_context")

    async def scenario():
        stream = site.open()
        topic = with_options("posts/*", {"filter": "title ~ 'yes'"})
        right = with_options("keyed/*", {"key": "k"}, {"X-A": "b"})
        wrong = with_options("keyed/*", {"key": "k"})
        broken, hidden = (
            with_options("posts/*", {"filter": "title ~"}),
            with_options("posts/*", {"filter": "secret=''"}),
        )
        await site.subscribe(stream, topic, right, wrong, broken, hidden, "by_context/*")
        await write_and_change(site, "posts", "no")
        await write_and_change(site, "posts", "yes")
        await write_and_change(site, "keyed", "key")
        await write_and_change(site, "by_context", "context")
        names = [name for _, name, _ in await stream.events(9)]
        assert names == [topic] * 3 + [right] * 3 + ["by_context/*"] * 3

    site.node.run(scenario())


def test_records_look_as_their_subscriber_sees_them(site):
    posts = site("GET", "collections/posts", token=site.su).json
    site.collection("notes", TITLE, {"name": "post", "type": "relation", "collectionId": posts["id"]})
    site.fed("notes")

    async def scenario():
        guest, root = site.open(), site.open()
        topics = ["posts/*", with_options("notes/*", {"expand": "post", "fields": "title,expand.post.title"})]
        await site.subscribe(guest, *topics)
        await site.subscribe(root, *topics, token=site.su)
        post = (await site.ask("POST", records("posts"), {"title": "p", "secret": "s"}, token=site.su)).json
        await site.ask("POST", records("notes"), {"title": "n", "post": post["id"]}, token=site.su)
        told, about_root = await guest.events(2), await root.events(2)
        assert "secret" not in told[0][2]["record"] and about_root[0][2]["record"]["secret"] == "s"
        assert told[1][2]["record"] == {"title": "n", "expand": {"post": {"title": "p"}}}

    site.node.run(scenario())


def test_a_new_subscription_replaces_the_old_ones(site):
    async def scenario():
        stream = site.open()
        client_id = await stream.client_id()
        await site.subscribe(stream, "posts/*", client_id=client_id)
        await site.subscribe(stream, "own/*", "closed/*", client_id=client_id, token=site.su)
        await write_and_change(site, "posts", "not heard")
        told = await write_and_change(site, "closed", "heard")
        assert await stream.changes(3) == told
        await site.subscribe(stream, client_id=client_id, token=site.su)
        await write_and_change(site, "closed", "not heard")
        assert stream.body.count(b"\n\n") == 4

    site.node.run(scenario())


def test_what_is_wrong_with_a_subscription_is_told(site):
    _, token = site.user("ann")

    async def scenario():
        stream = site.open()
        client_id = await stream.client_id()
        for body, code in (({}, "validation_required"), ({"clientId": "x" * 256}, "validation_length_out_of_range")):
            answer = await site.ask("POST", "realtime", body)
            assert (answer.status, answer.code("clientId")) == (400, code)
        many = {"clientId": client_id, "subscriptions": ["x"] * (limits.REALTIME_TOPICS_MAX + 1)}
        assert (await site.ask("POST", "realtime", many)).code("subscriptions") == "validation_length_too_long"
        for unknown in ("x", make_client_id("here", 0, b"x" * 16)):
            await site.subscribe(stream, client_id=unknown, status=404)
        await site.subscribe(stream, client_id=client_id, token=token)
        await site.subscribe(stream, client_id=client_id, token=site.su, status=403)
        await site.subscribe(stream, client_id=client_id, status=403)
        site.ip = "10.0.0.2"
        await site.subscribe(stream, client_id=client_id, token=token, status=400)

    site.node.run(scenario())


def test_another_address_may_not_be_claimed(site):
    async def scenario():
        stream = site.open()
        body = {"clientId": await stream.client_id(), "subscriptions": []}
        site.ip = "10.0.0.2"
        text = json.dumps(body).encode()
        forged = {HOP.decode(): f"1;{KEY.hex()};10.0.0.1", "content-type": "application/json"}
        assert (await site.ask("POST", "realtime", text, headers=forged)).status == 400

    site.node.run(scenario())


def test_a_stream_of_a_process_that_is_not_there_is_unknown(site):
    async def scenario():
        for node, index in (("here", 1), ("first", 0), ("nobody", 0)):
            body = {"clientId": make_client_id(node, index, b"x" * 16), "subscriptions": []}
            assert (await site.ask("POST", "realtime", body)).status == 404

    site.node.run(scenario())


def test_who_loses_the_right_to_a_token_goes_on_as_a_guest(site):
    ann, token = site.user("ann")

    async def scenario():
        stream = site.open()
        await site.subscribe(stream, "own/*", "posts/*", token=token)
        own = await write_and_change(site, "own", "hers", owner=ann["id"])
        assert await stream.changes(3) == own
        change = {"password": PASSWORD + "2", "passwordConfirm": PASSWORD + "2"}
        assert (await site.ask("PATCH", records("users", ann["id"]), change, token=site.su)).status == 200
        await write_and_change(site, "own", "not hers any more", owner=ann["id"])
        told = await write_and_change(site, "posts", "open")
        assert await stream.changes(3) == told

    site.node.run(scenario())


def test_streams_end_with_the_process(site):
    async def scenario():
        streams = [await site.open().begun() for _ in range(3)]
        site.realtime.stop()
        for stream in streams:
            await stream.task
        assert (await site.ask("GET", "realtime")).status == 503
        await until(lambda: site.ended)
        assert site.ended[0].cancelled()

    site.node.run(scenario())


def test_a_stream_ends_when_nothing_is_said_for_long(site):
    async def scenario():
        stream = await site.open().begun()
        site.clock.ahead = limits.REALTIME_IDLE_S + 1
        await stream.task

    site.node.run(scenario())


def test_who_does_not_read_is_cut_off(site, monkeypatch):
    monkeypatch.setattr(limits, "REALTIME_OUTBOX_EVENTS_MAX", 10)
    monkeypatch.setattr("pando.api.records_realtime.CUT_S", 0.01)
    assert CUT_S > 1

    async def scenario():
        slow, other = site.open(), site.open()
        await site.subscribe(slow, "posts/*")
        await site.subscribe(other, "posts/*")
        slow.room.clear()
        told = []
        for number in range(5):
            told += await write_and_change(site, "posts", f"{number}")
            assert await other.changes(3) == told[-3:]
        await until(lambda: slow.cuts)
        assert site.realtime.streams == 1
        slow.room.set()
        await slow.task
        sent = slow.body.count(b"\n\n") - 1  # what was under way when it stopped reading
        assert 1 <= sent < len(told) - 3
        assert await slow.changes(sent) == told[:sent]

    site.node.run(scenario())


def test_a_stream_with_places_is_gone_on_with_after_the_last_event(site):
    async def scenario():
        stream = site.open("realtime?places=true")
        await site.subscribe(stream, "posts/*")
        told = await write_and_change(site, "posts", "seen")
        *_, (last_id, _, _) = await stream.events(3)
        stream.leave()
        await stream.task
        missed = await write_and_change(site, "posts", "missed")
        again = site.open(headers={"Last-Event-ID": last_id})
        await site.subscribe(again, "posts/*")
        later = await write_and_change(site, "posts", "later")
        assert await again.changes(6) == [*missed, *later] and told

    site.node.run(scenario())


def test_a_place_that_is_no_longer_kept_is_gone(site):
    async def scenario():
        await write_and_change(site, "posts", "forgotten")
        await site.desk.engine.write([Statement("DELETE FROM _changes WHERE sequence = 1")])
        client_id = make_client_id("here", 0, b"x" * 16)
        for place in (0, 99):
            answer = await site.ask("GET", "realtime", headers={"Last-Event-ID": f"{client_id}.{place}"})
            assert answer.status == 410

    site.node.run(scenario())


def test_the_pump_ends_the_process_when_it_fails(site):
    async def scenario():
        stream = site.open()
        await site.subscribe(stream, "posts/*")
        site.realtime._pump._registry.cursor = "no number"
        site.commits.wake()
        await until(lambda: site.ended)
        assert site.ended[0].exception() is not None
        await turns()

    site.node.run(scenario())
