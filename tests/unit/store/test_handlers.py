"""What a client's link may ask of the store, with a catalog and databases that only remember what they were told."""

import asyncio

from store_kit import run, sql

from pando import limits
from pando.errors import NotReady, Overloaded, UnknownDatabase
from pando.store import protocol as wire
from pando.store.handlers import ClientLink, shrink
from pando.store.handshake import LinkKind
from pando.store.watching import Watching


class FakeLink:
    is_congested = False

    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)

    def of(self, request_id):
        return [message for message in self.sent if getattr(message, "id", None) == request_id]


class FakeTable:
    def visible(self, slot):
        return 1, 40 + slot


class FakeSlot:
    number = 3
    table = FakeTable()


class FakeDatabase:
    def __init__(self, name):
        self.name = name
        self.path = f"/{name}.db"
        self.slot = FakeSlot()
        self.commands, self.told, self.waits = [], [], []
        self.refusal = None

    def submit(self, command):
        if self.refusal is not None:
            raise self.refusal
        self.commands.append(command)

    def cancel(self, link, run_id):
        self.told.append(("cancel", link, run_id))

    def end_session(self, key):
        self.told.append(("end session", *key))

    def end_link(self, link):
        self.told.append(("end link", link))

    def wait(self, epoch, txid, deadline, answer):
        self.waits.append((epoch, txid, deadline, answer))


class FakeCatalog:
    def __init__(self):
        self.databases = {}
        self.gates = {}
        self.failures = {}

    def get(self, name):
        return self.databases.get(name)

    def opened(self):
        return list(self.databases.values())

    def names(self):
        return ["data", "other"]

    def generation(self, database):
        return 9

    async def open(self, name):
        if name in self.gates:
            await asyncio.shield(self.gates[name])
        if name in self.failures:
            raise self.failures[name]
        return self.databases.setdefault(name, FakeDatabase(name))


class FakeServices:
    def __init__(self):
        self.catalog = FakeCatalog()
        self.watching = Watching(lambda after_s, call: None)
        self.asked = []

    def now(self):
        return 100.0

    def topology(self):
        return wire.Topology("n", "primary", 1, "", True)

    def node_status(self, request_id):
        return wire.NodeStatus(request_id, "n", "primary", 1, "", False, [], [])

    async def create_database(self, name):
        self.asked.append(("create", name))
        return await self.catalog.open(name)

    async def import_database(self, name, path, *, replace):
        self.asked.append(("import", name, path, replace))
        return await self.catalog.open(name)

    async def delete_database(self, name):
        self.asked.append(("delete", name))

    async def verify_database(self, name):
        return wire.Verified(0, 1, 2, 3, 3, 4)

    async def sync_now(self):
        raise ZeroDivisionError("a bug")


class World:
    def __init__(self, kind=LinkKind.WEB):
        self.services = FakeServices()
        self.link = FakeLink()
        self.client = ClientLink(5, self.link, self.services, kind)

    def say(self, *messages):
        self.client.on_messages(list(messages))

    def run(self, number, name="data", session=0):
        self.say(wire.Run(number, name, session, (sql("SELECT 1"),)))


def in_loop(scenario):
    async def whole():
        await scenario(World())

    run(whole())


async def turns():
    for _ in range(10):
        await asyncio.sleep(0)


def test_the_first_thing_said_is_who_is_who():
    async def scenario(world):
        assert isinstance(world.link.sent[0], wire.Topology)

    in_loop(scenario)


def test_runs_for_a_database_that_is_being_opened_keep_their_order():
    async def scenario(world):
        world.services.catalog.gates["data"] = gate = asyncio.get_running_loop().create_future()
        world.run(1, session=7)
        world.run(2, session=7)
        await turns()
        gate.set_result(None)
        world.services.catalog.databases["data"] = FakeDatabase("data")
        world.run(3, session=7)  # the database is open by now, but 1 and 2 have not been submitted
        await turns()
        world.run(4, session=7)
        commands = world.services.catalog.databases["data"].commands
        assert [command.run.id for command in commands] == [1, 2, 3, 4]
        assert {command.key for command in commands} == {(5, 7)}

    in_loop(scenario)


def test_all_are_refused_when_the_database_cannot_be_opened():
    async def scenario(world):
        world.services.catalog.failures["data"] = UnknownDatabase("gone")
        for number in (1, 2, 3):
            world.run(number)
        await turns()
        assert [(m.id, m.code) for m in world.link.sent[1:]] == [(n, "UNKNOWN_DATABASE") for n in (1, 2, 3)]
        del world.services.catalog.failures["data"]
        world.run(4)
        await turns()
        assert [command.run.id for command in world.services.catalog.databases["data"].commands] == [4]

    in_loop(scenario)


def test_each_is_answered_once_when_opening_fails_in_an_unexpected_way():
    async def scenario(world):
        world.services.catalog.failures["data"] = ZeroDivisionError("a bug")
        world.run(1)
        world.run(2)
        await turns()
        assert [(m.id, m.code) for m in sorted(world.link.sent[1:], key=lambda m: m.id)] == [
            (1, "INTERNAL"),
            (2, "INTERNAL"),
        ]

    in_loop(scenario)


def test_runs_that_wait_for_opening_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "WRITE_QUEUE_MAX", 3)

    async def scenario(world):
        world.services.catalog.gates["data"] = asyncio.get_running_loop().create_future()
        for number in range(1, 6):
            world.run(number)
        assert [m.id for m in world.link.sent[1:]] == [4, 5]
        world.services.catalog.gates["data"].set_result(None)
        await turns()
        assert len(world.services.catalog.databases["data"].commands) == 3

    in_loop(scenario)


def test_cancelling_and_ending_what_still_waits_for_opening():
    async def scenario(world):
        world.services.catalog.gates["data"] = asyncio.get_running_loop().create_future()
        world.run(1)
        world.run(2, session=4)
        world.run(3)
        world.say(wire.Cancel(1), wire.EndSession(4))
        assert [(m.id, type(m)) for m in world.link.sent[1:]] == [(1, wire.Refused), (2, wire.Refused)]
        world.services.catalog.gates["data"].set_result(None)
        await turns()
        assert [command.run.id for command in world.services.catalog.databases["data"].commands] == [3]

    in_loop(scenario)


def test_answers_go_back_with_their_number():
    async def scenario(world):
        database = await world.services.catalog.open("data")
        world.run(1)
        world.run(2)
        first, second = database.commands
        second.answer(NotReady("busy"))
        first.answer(wire.Ran(1, [], 1, 2, True))
        assert [(m.id, type(m)) for m in world.link.sent[1:]] == [(2, wire.Refused), (1, wire.Ran)]
        refused = world.link.of(2)[0]
        assert (refused.code, refused.status, refused.retryable) == ("NOT_READY", 503, True)

    in_loop(scenario)


def test_a_writer_that_refuses_is_heard():
    async def scenario(world):
        database = await world.services.catalog.open("data")
        database.refusal = Overloaded("full")
        world.run(1)
        assert world.link.of(1)[0].code == "OVERLOADED"

    in_loop(scenario)


def test_a_link_that_closes_takes_its_work_along():
    async def scenario(world):
        database = await world.services.catalog.open("data")
        world.services.catalog.gates["slow"] = asyncio.get_running_loop().create_future()
        world.run(1, "slow")
        await turns()
        world.client.on_closed(None)
        await turns()
        world.services.catalog.gates["slow"].set_result(None)
        await turns()
        assert database.told == [("end link", 5)]
        assert "slow" not in world.services.catalog.databases

    in_loop(scenario)


def test_cancel_and_end_session_reach_every_open_database():
    async def scenario(world):
        for name in ("data", "other"):
            await world.services.catalog.open(name)
        world.say(wire.Cancel(8), wire.EndSession(3))
        for database in world.services.catalog.opened():
            assert database.told == [("cancel", 5, 8), ("end session", 5, 3)]

    in_loop(scenario)


def test_everything_else_is_answered_by_its_kind():
    async def scenario(world):
        world.say(
            wire.ListDatabases(1),
            wire.GetStatus(2),
            wire.OpenDatabase(3, "default"),
            wire.CreateDatabase(4, "new"),
            wire.ImportDatabase(5, "new", "/file", True),
            wire.DeleteDatabase(6, "new"),
            wire.VerifyDatabase(7, "data"),
            wire.SyncNow(8),
            wire.CreateDatabase(9, "no good name!"),
        )
        await turns()
        kinds = {number: type(world.link.of(number)[0]).__name__ for number in range(1, 10)}
        assert list(kinds.values()) == [
            "Listed", "NodeStatus", "Opened", "Opened", "Opened", "Finished", "Verified", "Refused", "Refused",
        ]  # fmt: skip
        opened = world.link.of(3)[0]
        assert (opened.path, opened.slot, opened.generation) == ("/data.db", 3, 9)
        assert world.link.of(8)[0].code == "INTERNAL"
        assert world.link.of(9)[0].code == "INVALID_DATABASE_NAME"
        assert world.services.asked == [("create", "new"), ("import", "new", "/file", True), ("delete", "new")]

    in_loop(scenario)


def test_waiting_for_a_position_has_a_limit():
    async def scenario(world):
        world.say(wire.WaitPosition(1, "data", 2, 30, 1000.0), wire.WaitPosition(2, "data", 2, 30, -5.0))
        await turns()
        database = world.services.catalog.get("data")
        assert [wait[2] for wait in database.waits] == [100.0 + limits.BOOKMARK_WAIT_S, 100.0]
        database.waits[0][3](None)
        database.waits[1][3](NotReady("late"))
        assert [type(m) for m in world.link.sent[1:]] == [wire.Finished, wire.Refused]

    in_loop(scenario)


def test_who_watches_hears_where_the_database_is_and_of_commits_until_it_does_not_want_to():
    async def scenario(world):
        world.say(wire.Watch(1, "default"))  # not open yet
        assert world.link.sent[1:] == [wire.Finished(1)]
        await world.services.catalog.open("data")
        world.say(wire.Watch(2, "data"))
        assert world.link.sent[2:] == [wire.Finished(2), wire.Committed("data", 1, 43)]

    in_loop(scenario)


def test_commits_are_told_until_they_are_not_wanted_or_the_link_is_closed():
    async def scenario(world):
        timed = []
        watching = world.services.watching = Watching(lambda after_s, call: timed.append(call))
        world.say(wire.Watch(1, "data"), wire.Watch(2, "other"))
        watching.committed("data", 1, 7, ("t",))
        timed.pop()()
        assert world.link.sent[-1] == wire.Committed("data", 1, 7, ("t",))
        world.say(wire.Watch(3, "data", wanted=False))
        watching.committed("data", 1, 8, ())
        assert world.link.sent[-1] == wire.Finished(3)
        world.client.on_closed(None)
        timed.clear()
        watching.committed("other", 1, 9, ())
        assert timed == []

    in_loop(scenario)


def test_only_web_processes_of_the_node_watch():
    for kind in (LinkKind.PEER, LinkKind.CLI):
        world = World(kind)
        world.say(wire.Watch(1, "data"), wire.Watch(2, "no good name!"))
        assert [message.code for message in world.link.sent[1:]] == ["INVALID_REQUEST"] * 2
    world = World()
    world.say(wire.Watch(2, "no good name!"))
    assert [message.code for message in world.link.sent[1:]] == ["INVALID_DATABASE_NAME"]


def test_an_answer_that_is_too_large_becomes_a_refusal():
    small = shrink(wire.Ran(4, [], 1, 2, True))
    assert (small.id, small.code, small.status) == (4, "RESPONSE_TOO_LARGE", 413)
    assert shrink(wire.Listed(1, ())) is None


def test_a_store_that_stops_begins_nothing_and_still_answers_who_asks_how_it_is():
    async def scenario(world):
        world.run(1)
        await turns()
        world.client.refuse_work(NotReady("it stops"))
        world.run(2)
        world.say(wire.OpenDatabase(3, "other"), wire.GetStatus(4), wire.CreateDatabase(5, "new"), wire.EndSession(7))
        await turns()
        assert {world.link.of(number)[0].code for number in (2, 3, 5)} == {"NOT_READY"}
        assert isinstance(world.link.of(4)[0], wire.NodeStatus)
        assert [command.run.id for command in world.services.catalog.databases["data"].commands] == [1]
        assert ("end session", 5, 7) in world.services.catalog.databases["data"].told
        assert world.services.asked == []

    in_loop(scenario)
