"""The routes of the plain feed and of consumer groups; how long changes are kept."""

import json

import pytest
from records_realtime_site import RealtimeSite
from records_site import PASSWORD

from pando import limits
from pando.records.engine import Statement
from pando.records.realtime import forgetting
from pando.records.realtime.feed import Feed
from pando.records.realtime.forgetting import forget_old
from pando.testing.waiting import until

TITLE = {"name": "title", "type": "text"}
NDJSON = {"accept": "application/x-ndjson"}
SSE = {"accept": "text/event-stream"}
DAY_MS = limits.FEED_KEPT_S * 1000


@pytest.fixture
def site(tmp_path):
    made = RealtimeSite(tmp_path)
    made.begin()
    made.collection("posts", TITLE)
    made.fed("posts", "users", "_collections")
    try:
        yield made
    finally:
        made.close()


def write(site, *titles):
    for title in titles:
        site.create("posts", title=title)


async def write_soon(site, title):
    answer = await site.ask("POST", "collections/posts/records", {"title": title}, token=site.su)
    assert answer.status == 200


def title_of(line):
    return line["new"]["title"]


# -- the feed ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["changes", "changes/groups"])
def test_only_superusers_read_the_feed(site, path):
    _, token = site.user("ann")
    assert site("GET", path).status == 401
    assert site("GET", path, token=token).status == 403


def test_changes_are_read_from_a_cursor_on_as_lines(site):
    write(site, "a", "b", "c")

    async def scenario():
        stream = site.open("changes?since=1", token=site.su, headers=NDJSON)
        assert [title_of(line) for line in await stream.lines(2)] == ["b", "c"]
        assert stream.headers["content-type"] == "application/x-ndjson"
        await write_soon(site, "d")
        *_, last = await stream.lines(3)
        assert (last["cursor"], last["table"], last["operation"], last["old"]) == (4, "posts", "insert", None)
        stream.leave()
        await stream.task

    site.node.run(scenario())


def test_without_a_cursor_only_new_changes_are_read(site):
    write(site, "old")

    async def scenario():
        stream = await site.open("changes", token=site.su, headers=NDJSON).begun()
        await write_soon(site, "new")
        assert [title_of(line) for line in await stream.lines(1)] == ["new"]

    site.node.run(scenario())


def test_an_event_source_goes_on_after_the_last_event(site):
    write(site, "a", "b")

    async def scenario():
        stream = site.open("changes?since=0", token=site.su, headers={**SSE, "Last-Event-ID": "1"})
        await until(lambda: b"data:" in stream.body)
        assert stream.headers["content-type"] == "text/event-stream"
        comment, event = stream.body.decode().split("\n\n")[:2]
        assert comment == ":"
        identifier, data = event.split("\n")
        assert identifier == "id:2" and title_of(json.loads(data.removeprefix("data:"))) == "b"

    site.node.run(scenario())


def test_cursors_that_cannot_be_gone_on_from_are_told(site):
    write(site, "a", "b", "c")
    site.sql("DELETE FROM _changes WHERE sequence <= 2")
    for since, status in (("0", 410), ("1", 410), ("9", 410), ("x", 400), ("-1", 400)):
        answer = site("GET", f"changes?since={since}", token=site.su)
        assert (answer.status, bool(answer.code("since"))) == (status, True), since


def test_secrets_are_not_told(site):
    site.user("ann")
    site("PATCH", "collections/users", {"listRule": ""}, token=site.su)

    async def scenario():
        stream = site.open("changes?since=0", token=site.su, headers=NDJSON)
        user, collection = await stream.lines(2)
        assert user["new"]["email"] == "ann@example.com"
        assert not {"password", "tokenKey"} & user["new"].keys()
        assert collection["table"] == "_collections"
        assert "options" not in collection["old"] and "options" not in collection["new"]

    site.node.run(scenario())


def test_who_is_no_superuser_any_more_is_told_nothing_more(site):
    async def scenario():
        stream = await site.open("changes", token=site.su, headers=NDJSON).begun()
        change = {"password": PASSWORD + "2", "passwordConfirm": PASSWORD + "2"}
        path = "collections/_superusers/records/su0000000000001"
        assert (await site.ask("PATCH", path, change, token=site.su)).status == 200
        await site.desk.engine.write([Statement("INSERT INTO posts (id, title) VALUES ('x', 'secret')")])
        site.commits.wake()
        await stream.task
        assert stream.body == b"\n"

    site.node.run(scenario())


def test_readers_are_bounded_and_end_with_the_process(site, monkeypatch):
    monkeypatch.setattr(limits, "FEED_READERS_MAX", 2)

    async def scenario():
        readers = [await site.open("changes", token=site.su).begun() for _ in range(2)]
        assert (await site.ask("GET", "changes", token=site.su)).status == 503
        readers.pop().leave()
        await until(lambda: len(site.changes._readers) == 1)
        readers.append(await site.open("changes", token=site.su).begun())
        site.changes.stop()
        for reader in readers:
            await reader.task
        assert (await site.ask("GET", "changes", token=site.su)).status == 503

    site.node.run(scenario())


# -- consumer groups --------------------------------------------------------------------------------------------------


def step(site, name, **body):
    return site("POST", f"changes/groups/workers/{name}", body, token=site.su)


def claimed(answer):
    assert answer.status == 200, answer.body
    return [(title_of(item["change"]), item["attempt"]) for item in answer.json["items"]]


def test_each_change_goes_to_one_member_until_it_is_acknowledged(site):
    write(site, "a", "b", "c", "d")
    assert claimed(step(site, "claim", member="one", max=2, since=0)) == [("a", 1), ("b", 1)]
    assert claimed(step(site, "claim", member="two")) == [("c", 1), ("d", 1)]
    assert claimed(step(site, "claim", member="two")) == []
    assert step(site, "ack", member="one", cursors=[1, 3]).json == {"missing": [3]}
    (group,) = site("GET", "changes/groups", token=site.su).json["items"]
    assert group == {"name": "workers", "acknowledged": 1, "handedOut": 4, "inFlight": 3}
    assert step(site, "release", member="one").status == 204
    assert claimed(step(site, "claim", member="two")) == [("b", 2)]


def test_a_lease_that_is_over_goes_to_whoever_claims_next(site):
    write(site, "a", "b")
    assert len(claimed(step(site, "claim", member="one", leaseSeconds=10, since=0))) == 2
    assert step(site, "extend", member="one", cursors=[2], leaseSeconds=1000).json == {"missing": []}
    site.clock.wall += 11_000
    assert claimed(step(site, "claim", member="two")) == [("a", 2)]
    assert step(site, "ack", member="one", cursors=[1, 2]).json == {"missing": [1]}


def test_a_new_group_begins_now_unless_it_says_where(site):
    write(site, "old")
    assert claimed(step(site, "claim", member="one")) == []
    write(site, "new")
    assert claimed(step(site, "claim", member="one", since=0)) == [("new", 1)]


def test_a_claim_waits_for_changes(site):
    async def scenario():
        claim = site.node.runner.get_loop().create_task(
            site.ask("POST", "changes/groups/workers/claim", {"member": "m", "waitSeconds": 20}, token=site.su)
        )
        await until(lambda: site.commits._listeners)
        await write_soon(site, "late")
        assert claimed(await claim) == [("late", 1)]

    site.node.run(scenario())


def test_changes_that_a_group_can_no_longer_have_are_told_as_lost(site):
    write(site, "a", "b", "c")
    claimed(step(site, "claim", member="one", max=1, leaseSeconds=1, since=0))
    site.sql("DELETE FROM _changes WHERE sequence <= 2")
    site.clock.wall += 2000
    answer = step(site, "claim", member="one")
    assert claimed(answer) == [("c", 1)] and answer.json["lost"] == 2


@pytest.mark.parametrize(
    "body", [{}, {"member": "x" * 129}, {"member": "m", "max": 0}, {"member": "m", "leaseSeconds": "1"}]
)
def test_claims_that_cannot_be_are_refused(site, body):
    assert step(site, "claim", **body).status == 400


def test_groups_are_unknown_until_somebody_claims_and_after_they_are_deleted(site):
    assert step(site, "ack", member="m", cursors=[]).status == 404
    assert site("GET", "changes/groups", token=site.su).json == {"items": []}
    claimed(step(site, "claim", member="m"))
    assert site("DELETE", "changes/groups/workers", token=site.su).status == 204
    assert site("DELETE", "changes/groups/workers", token=site.su).status == 404


def test_groups_belong_to_the_primary(tmp_path):
    replica = RealtimeSite(tmp_path, is_primary=True)
    replica.begin()
    replica.node.store.is_primary = False
    try:
        assert step(replica, "claim", member="m").status == 503
    finally:
        replica.close()


# -- how long changes are kept ----------------------------------------------------------------------------------------


def forget(site, now_ms):
    return site.node.run(forget_old(site.desk.engine, now_ms))


def kept(site):
    return [sequence for (sequence,) in site.rows("SELECT sequence FROM _changes ORDER BY sequence")]


def feed(site, *times_ms):
    for time_ms in times_ms:
        site.sql("INSERT INTO _changes (time_ms, \"table\", operation, new) VALUES (?, 't', 'insert', '{}')", time_ms)


def test_changes_older_than_a_day_are_forgotten_but_the_last(site, monkeypatch):
    monkeypatch.setattr(forgetting, "STEP", 2)
    feed(site, 1, 2, 3, 4, 1000, 1001)
    assert forget(site, 1000 + DAY_MS) == 4
    assert kept(site) == [5, 6]
    assert forget(site, 9000 + DAY_MS) == 1
    assert kept(site) == [6]
    assert forget(site, 9000 + DAY_MS) == 0
    assert site.node.run(Feed(site.desk.engine).newest()) == 6


def test_only_so_many_changes_are_kept(site, monkeypatch):
    monkeypatch.setattr(limits, "FEED_CHANGES_MAX", 3)
    feed(site, *range(100, 110))
    assert forget(site, 200) == 7
    assert kept(site) == [8, 9, 10]


def test_groups_that_move_keep_what_they_need(site):
    now = site.clock.wall
    feed(site, *range(5))
    claimed_items = step(site, "claim", member="m", since=0, max=3, leaseSeconds=43200).json["items"]
    assert len(claimed_items) == 3
    step(site, "ack", member="m", cursors=[1, 2])
    assert forget(site, now + 1000) == 2
    assert kept(site) == [3, 4, 5]
    assert forget(site, now + 2 * DAY_MS) == 2
    assert kept(site) == [5]


def test_nothing_is_forgotten_where_there_is_no_feed(site):
    site.sql("DROP TABLE _changes")
    assert forget(site, 1 << 50) == 0
