"""The feed's reader on a table that the store's own feed has written, and on tables that somebody has cut."""

import asyncio
import random

import pytest
from records_realtime_kit import Database

from pando import limits
from pando.errors import CorruptionError
from pando.records.realtime.changes import Change, Operation
from pando.records.realtime.feed import CursorGone, Feed, SharedFeed, forget


@pytest.fixture
def db():
    database = Database()
    database.run("CREATE TABLE posts (id TEXT PRIMARY KEY, n, v)")
    return database


def read_all(db, *, most=limits.CHANGES_BATCH_MAX, after=0):
    async def scenario():
        feed, cursor, found = Feed(db), after, []
        while changes := await feed.read(cursor, most=most):
            assert len(changes) <= most
            found += changes
            cursor = changes[-1].sequence
        return found

    return asyncio.run(scenario())


def test_an_empty_feed_has_nothing_and_no_newest(db):
    assert read_all(db) == []
    assert asyncio.run(Feed(db).newest()) == 0


def test_changes_come_with_their_rows_as_they_were(db):
    db.run("INSERT INTO posts VALUES ('a', ?, ?)", 9e999, b"\x00\xff")
    db.clock.advance(1.5)
    db.run("UPDATE posts SET n = -9e999, v = 1.0 WHERE id = 'a'")
    db.run("DELETE FROM posts")
    first, second, third = read_all(db)
    assert (first.sequence, first.time_ms, first.table, first.key) == (1, 1_700_000_000_000, "posts", 1)
    assert first.operation is Operation.INSERT and first.operation.action == "create"
    assert first.old is None
    assert first.new == {"id": "a", "n": float("inf"), "v": b"\x00\xff"}
    assert second.time_ms == 1_700_000_001_500
    assert second.old == first.new
    assert second.new == {"id": "a", "n": float("-inf"), "v": 1.0}
    assert isinstance(second.new["v"], float)
    assert (third.operation.action, third.old, third.new) == ("delete", second.new, None)
    assert (first.values, second.values, third.values) == (first.new, second.new, third.old)


def test_what_is_shared_is_given_when_others_show_it_too(db):
    db.run("INSERT INTO posts VALUES ('a', 1, 2)")
    asked = []

    async def scenario():
        others = asyncio.Event()

        async def until_shown():
            asked.append(len(asked))
            await others.wait()

        feed = SharedFeed(db, until_shown)
        reading = asyncio.create_task(feed.read(0))
        while not asked:
            await asyncio.sleep(0)
        assert not reading.done()
        others.set()
        assert [change.sequence for change in await reading] == [1]
        assert await feed.read(1) == []

    asyncio.run(scenario())
    assert asked == [0]


@pytest.mark.parametrize("most", [1, 2, 7, 1000])
def test_batches_give_everything_once_and_in_order(db, most):
    for number in range(40):
        db.run("INSERT INTO posts VALUES (?, ?, NULL)", str(number), number)
    assert [change.sequence for change in read_all(db, most=most)] == list(range(1, 41))
    assert [change.new["n"] for change in read_all(db, most=most, after=30)] == list(range(30, 40))


def test_a_batch_is_bounded_in_bytes(db, monkeypatch):
    monkeypatch.setattr(limits, "CHANGES_BATCH_BYTES_MAX", 1000)
    rng = random.Random(5)
    sizes = [rng.choice([1, 100, 400, 950, 3000, 12_345]) for _ in range(60)]
    for number, size in enumerate(sizes):
        db.run("INSERT INTO posts VALUES (?, ?, ?)", str(number), number, "é" * (size // 2))
    found = read_all(db)
    assert [change.new["v"] for change in found] == ["é" * (size // 2) for size in sizes]
    assert db.largest <= 1100


def test_a_large_row_is_read_in_pieces_old_and_new(db, monkeypatch):
    monkeypatch.setattr(limits, "CHANGES_BATCH_BYTES_MAX", 999)
    db.run("INSERT INTO posts VALUES ('a', 1, ?)", "x" * 10_000)
    db.run("UPDATE posts SET v = ?", "ü" * 5_000)
    db.run("DELETE FROM posts")
    _, update, delete = read_all(db)
    assert (update.old["v"], update.new["v"]) == ("x" * 10_000, "ü" * 5_000)
    assert (delete.old, delete.new) == (update.new, None)
    assert db.largest <= 999


def fill(db, count):
    for number in range(count):
        db.run("INSERT INTO posts VALUES (?, ?, NULL)", str(number), number)


@pytest.mark.parametrize(("cursor", "is_gone"), [(0, True), (3, True), (4, False), (9, False), (10, False)])
def test_a_cursor_before_what_is_kept_is_refused(db, cursor, is_gone):
    fill(db, 10)
    db.connection.execute("DELETE FROM _changes WHERE sequence <= 4")
    if not is_gone:
        assert [change.sequence for change in read_all(db, after=cursor)] == list(range(cursor + 1, 11))
        asyncio.run(Feed(db).check(cursor))
        return
    for ask in (Feed(db).read, Feed(db).check):
        with pytest.raises(CursorGone, match="up to 4") as refused:
            asyncio.run(ask(cursor))
        assert (refused.value.status, refused.value.oldest) == (410, 5)
        assert refused.value.data["since"].code == "validation_cursor_gone"


def test_a_hole_ends_the_batch_before_it_and_then_the_cursor_is_gone(db):
    fill(db, 10)
    db.connection.execute("DELETE FROM _changes WHERE sequence IN (5, 6)")
    assert [change.sequence for change in asyncio.run(Feed(db).read(0))] == [1, 2, 3, 4]
    with pytest.raises(CursorGone, match="up to 6"):
        asyncio.run(Feed(db).read(4))


@pytest.mark.parametrize("large", [False, True])
def test_changes_that_are_deleted_while_they_are_read_are_not_skipped(db, monkeypatch, large):
    if large:
        monkeypatch.setattr(limits, "CHANGES_BATCH_BYTES_MAX", 10)
    fill(db, 10)

    def cut(sql):
        if "octet_length" not in sql or "table" in sql:
            db.connection.execute("DELETE FROM _changes WHERE sequence < 3")

    db.before_query = cut
    with pytest.raises(CursorGone):
        asyncio.run(Feed(db).read(0))


@pytest.mark.parametrize("cursor", [-1, 11, 2**60])
def test_a_cursor_that_the_feed_never_gave_is_refused(db, cursor):
    fill(db, 10)
    with pytest.raises(CursorGone, match="newest change is 10"):
        asyncio.run(Feed(db).check(cursor))


def test_forgetting_keeps_what_is_needed_what_is_young_and_the_last_one(db):
    fill(db, 5)
    db.clock.advance(10)
    old = db.clock.wall_ms()
    fill_more = [("x", 1), ("y", 2)]
    for key, number in fill_more:
        db.run("INSERT INTO posts VALUES (?, ?, NULL)", key, number)

    def left(statement):
        db.connection.execute(statement.sql, statement.args)
        return [row[0] for row in db.connection.execute("SELECT sequence FROM _changes ORDER BY 1")]

    assert left(forget(2, old)) == [3, 4, 5, 6, 7]
    assert left(forget(100, old)) == [6, 7]
    assert left(forget(100, old + 1_000_000)) == [7]
    db.run("DELETE FROM posts WHERE id = 'x'")
    assert [change.sequence for change in read_all(db, after=7)] == [8]


def test_rows_that_no_feed_of_ours_has_written_are_corrupt(db):
    db.connection.execute("INSERT INTO _changes VALUES (1, 0, 't', 'upsert', 1, NULL, NULL)")
    with pytest.raises(CorruptionError):
        asyncio.run(Feed(db).read(0))


@pytest.mark.parametrize("image", ["", "[]", '{"a":[1]}', '{"a":true}', "[" * 5000, '{"a":{"base64":"!"}}'])
def test_an_image_that_cannot_be_read_is_none(image):
    change = Change(1, 0, "t", Operation.INSERT, 1, None, image)
    assert change.new is None


def test_one_change_is_found_by_its_number(db):
    fill(db, 5)
    db.connection.execute("DELETE FROM _changes WHERE sequence IN (1, 3)")

    async def scenario():
        return [await Feed(db).get(sequence) for sequence in range(7)]

    found = asyncio.run(scenario())
    assert [change and change.sequence for change in found] == [None, None, 2, None, 4, 5, None]
