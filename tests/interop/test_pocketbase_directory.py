"""A data directory goes from PocketBase to Pando and back, or the other way round: nothing is lost, everything works.

What is compared is what the APIs answer (`directory_world`); log-ins with old passwords, old tokens and files are used
with both programs.
"""

import contextlib
import sqlite3

import pytest
from directory_world import PASSWORD, World, files, hears, make, picture, thing, work
from pocketbase_program import need_pocketbase, served_pando, served_pocketbase
from twin_requests import COLLECTIONS, get, post, records

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(600)]

SERVED = {"pocketbase": served_pocketbase, "pando": served_pando}
OTHER = {"pocketbase": "pando", "pando": "pocketbase"}
PEOPLE = ("", "m2", "root", "borrowed")
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
