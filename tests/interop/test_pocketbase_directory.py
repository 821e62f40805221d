"""A data directory goes from PocketBase to Pando and back, or the other way round: nothing is lost, everything works.

What is compared is what the APIs answer (`directory_world`); log-ins with old passwords, old tokens and files are used
with both programs.
"""

import contextlib
import sqlite3

import pytest
from directory_world import PASSWORD, World, files, hears, make, picture, thing, work
from pocketbase_program import ROOT, need_pocketbase, served_pando, served_pocketbase
from twin_requests import COLLECTIONS, OPEN, Ask, field, get, post, records

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]

SERVED = {"pocketbase": served_pocketbase, "pando": served_pando}
OTHER = {"pocketbase": "pando", "pando": "pocketbase"}
PEOPLE = ("", "m2", "root", "borrowed")
KEPT = {"name": "kept", **OPEN, "fields": [field("n", "number")]}
WARNING = 4
"""Level of PocketBase's log entries from which on somebody should look."""


@contextlib.contextmanager
def opened(name, directory, tokens=None):
    """Let a program have the directory."""
    with SERVED[name](directory) as served:
        world = World(served, tokens)
        try:
            yield world
        finally:
            world.close()


@pytest.mark.parametrize("first", SERVED)
def test_a_directory_goes_there_and_back(tmp_path, first):
    need_pocketbase()
    directory = tmp_path / "pb_data"
    with opened(first, directory) as world:
        make(world)
        tokens, before, files_before = world.side.kept, picture(world), files(world, "file")
    with opened(OTHER[first], directory, tokens) as world:
        assert picture(world) == before
        assert files(world, "file") == files_before
        world.sign_in_everybody("other_")
        assert_realtime(world, "other")
        work(world)
        tokens, after, files_after = world.side.kept, picture(world, PEOPLE), files(world, "other_file")
    with opened(first, directory, tokens) as world:
        assert picture(world, PEOPLE) == after
        assert files(world, "other_file") == files_after
        assert_log_ins(world)
        assert_realtime(world, "again")
        work_on(world)
        tokens, end = world.side.kept, picture(world, PEOPLE)
    with opened(OTHER[first], directory, tokens) as world:
        assert picture(world, PEOPLE) == end
    assert_sound(directory)


@pytest.mark.full
def test_a_directory_of_a_program_that_was_killed(tmp_path):
    """The last of it is in the WAL only; nothing of that is lost, either way."""
    need_pocketbase()
    directory = tmp_path / "pb_data"
    tokens = {}
    for number, name in enumerate(("pocketbase", "pando", "pocketbase", "pando"), 1):
        with opened(name, directory, tokens) as world:
            if not tokens:
                world.sign_in("root", *ROOT, "_superusers")
                world.ask(post(COLLECTIONS, KEPT))
            world.ask(post(records("kept"), {"n": number}))
            tokens = world.side.kept
            assert kept(world) == [*range(1, number + 1)]
            world.served.kill()
    assert_sound(directory)


@pytest.mark.full
def test_both_at_once_lose_nothing(tmp_path):
    """Nobody should do it, since each keeps definitions and settings in memory; but rows of both stay."""
    need_pocketbase()
    directory = tmp_path / "pb_data"
    with opened("pocketbase", directory) as theirs:
        theirs.sign_in("root", *ROOT, "_superusers")
        theirs.ask(post(COLLECTIONS, KEPT))
        with opened("pando", directory, theirs.side.kept) as ours:
            for number in range(1, 41):
                theirs.ask(post(records("kept"), {"n": number}))
                ours.ask(post(records("kept"), {"n": -number}))
            expected = [n for n in range(-40, 41) if n]
            assert kept(theirs) == expected
            assert kept(ours) == expected
            tokens = ours.side.kept
        theirs.ask(post(records("kept"), {"n": 41}))
    with opened("pando", directory, tokens) as world:
        assert kept(world) == [*expected, 41]
    assert_sound(directory)


@pytest.mark.full
def test_readers_of_changes_learn_that_pocketbase_had_the_directory(tmp_path):
    """What it does is in no change feed; a cursor of before must not seem to be up to date."""
    need_pocketbase()
    directory = tmp_path / "pb_data"
    with opened("pando", directory) as world:
        world.sign_in("root", *ROOT, "_superusers")
        world.ask(post(COLLECTIONS, KEPT))
        tokens = world.side.kept
    last = last_change(directory)
    with opened("pando", directory, tokens) as world:
        world.ask(Ask(method="HEAD", path=f"/api/changes?since={last}"))
    with opened("pocketbase", directory, tokens) as world:
        world.ask(post(records("kept"), {"n": 1}))
    with opened("pando", directory, tokens) as world:
        world.ask(Ask(method="HEAD", path=f"/api/changes?since={last}"), 410)
        world.ask(post(records("kept"), {"n": 2}))
        world.ask(Ask(method="HEAD", path=f"/api/changes?since={last}"), 410)
        world.ask(Ask(method="HEAD", path=f"/api/changes?since={last + 3}"))
    assert last_change(directory) == last + 3


def last_change(directory):
    with contextlib.closing(sqlite3.connect(directory / "data.db")) as database:
        return database.execute("SELECT max(sequence) FROM _changes").fetchone()[0]


def kept(world):
    """Give the numbers of all rows."""
    return [each["n"] for each in world.ask(get(records("kept", query="sort=n&fields=n&perPage=100")))["items"]]


def assert_log_ins(world):
    """Old passwords, a changed one, and people who were made by the other program."""
    world.sign_in_everybody("again_", (2, 4))
    world.sign_in("", "m3@a.example", f"{PASSWORD} 3", status=400)
    world.sign_in("again_m3", "m3@a.example", "a new password")
    world.sign_in("", "m1@a.example", f"{PASSWORD} 1", status=400)
    world.sign_in("", "third@example.org", PASSWORD, "_superusers")
    for by in ("m2", "other_m2", "m4", "borrowed", "other_borrowed"):
        world.ask(post(f"{COLLECTIONS}/members/auth-refresh", by=by))
    for by in ("m3", "other_m3"):
        world.ask(post(f"{COLLECTIONS}/members/auth-refresh", by=by), 401)
    for by in ("root", "other_root", "third"):
        world.ask(post(f"{COLLECTIONS}/_superusers/auth-refresh", by=by))


def assert_realtime(world, name):
    """A subscriber with an old token hears of a record that somebody with an old token makes."""
    body = {"title": name, "owner": "member000000002"}
    event = hears(world, "kinds/*", lambda: world.ask(post(records("kinds"), body, by="m2")), by="m2")
    assert (event["action"], event["record"]["title"]) == ("create", name)


def work_on(world):
    """The schema that the other program changed is as good as one's own."""
    world.ask(post(records("later"), {"id": "later0000000002", "kinds": [thing(22), thing(3)]}, by="m4"))
    world.ask(post(records("kinds"), {"id": thing(30), "title": "last", "number": 5}, by=""))
    world.ask(get(records("kinds", query="filter=number>4&fields=id,number"), by=""))
    world.ask(post("/api/batch", {"requests": [{"method": "DELETE", "url": records("later", "later0000000001")}]}))


def assert_sound(directory):
    for name in ("data.db", "auxiliary.db"):
        with contextlib.closing(sqlite3.connect(directory / name)) as database:
            assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    with contextlib.closing(sqlite3.connect(directory / "auxiliary.db")) as logs:
        told = logs.execute("SELECT level, message, data FROM _logs WHERE level > ?", (WARNING,)).fetchall()
        assert [row for row in told if "status" not in row[2]] == [], "requests that are refused are logged too"
