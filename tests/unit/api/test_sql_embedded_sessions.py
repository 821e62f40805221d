"""A client's connection through HTTP: what was to be in a transaction never takes effect without it."""

import asyncio
from dataclasses import dataclass

import pytest

from pando.api.embedded_sessions import IDLE_S, LOST, MARKS_S_MAX, ProxySessions, remove_old_marks
from pando.errors import PrimaryUnavailable, StorageError
from pando.sql.calls import Call
from pando.store.requests import Batch, BatchResult, Describe, Described, Statement, StatementResult, Step

CALL = Call("data", caller=b"Bearer x")


@dataclass(eq=False)
class Stream:
    has_transaction: bool = False
    lost: object = None


class Service:
    """Runs nothing; BEGIN and COMMIT have their effect."""

    def __init__(self):
        self.open = []
        self.ran = []
        self.fails = False

    def attach(self, _database):
        self.open.append(Stream())
        return self.open[-1]

    def detach(self, stream):
        self.open.remove(stream)

    async def run_attached_at(self, stream, request, _call):
        await asyncio.sleep(0)
        if self.fails:
            stream.has_transaction = False
            raise PrimaryUnavailable("gone")
        if isinstance(request, Describe):
            return Described((), (), is_explain=False, is_readonly=True), None
        sql = request.steps[0].statement.sql
        self.ran.append((sql, stream.has_transaction))
        stream.has_transaction = sql == "BEGIN" or (stream.has_transaction and sql not in {"COMMIT", "ROLLBACK"})
        return BatchResult([StatementResult((), [])], [None]), None


class Clock:
    now = 1000.0

    def monotonic(self):
        return self.now

    def wall_ms(self):
        return int(self.now * 1000)


@pytest.fixture
def service():
    return Service()


@pytest.fixture
def clock():
    return Clock()


def batch(sql):
    return Describe("x") if sql == "describe" else Batch((Step(Statement(sql)),))


def ask(sessions, *texts, client="c"):
    async def scenario():
        try:
            return [await sessions.run(client, batch(sql), CALL) for sql in texts]
        finally:
            if sessions._sweeping is not None:
                sessions._sweeping.cancel()
                sessions._sweeping = None

    return asyncio.run(scenario())


def test_a_transaction_is_marked_while_it_is_open(service, clock, tmp_path):
    sessions = ProxySessions(service, clock, tmp_path / "marks")
    assert [one.is_autocommit for one in ask(sessions, "SELECT 1", "BEGIN", "INSERT")] == [True, False, False]
    assert len(list((tmp_path / "marks").iterdir())) == 1
    assert ask(sessions, "COMMIT")[0].is_autocommit
    assert list((tmp_path / "marks").iterdir()) == []
    assert len(service.open) == 1, "a client has one connection"


def test_after_a_restart_the_client_is_told_once(service, clock, tmp_path):
    ask(ProxySessions(service, clock, tmp_path), "BEGIN", "INSERT a")
    later = Service()
    told, rolled_back, insert = ask(ProxySessions(later, clock, tmp_path), "INSERT b", "ROLLBACK", "INSERT c")
    assert (told.result, told.is_autocommit) == (LOST, True)
    assert rolled_back.result.errors == [None]
    assert insert.is_autocommit
    assert later.ran == [("INSERT c", False)]


def test_what_the_client_did_not_begin_is_not_rolled_back_silently(service, clock, tmp_path):
    sessions = ProxySessions(service, clock, tmp_path)
    ask(sessions, "ROLLBACK")
    assert service.ran == [("ROLLBACK", False)], "SQLite says what is wrong"


def test_describing_tells_nothing_and_changes_nothing(service, clock, tmp_path):
    ask(ProxySessions(service, clock, tmp_path), "BEGIN")
    sessions = ProxySessions(Service(), clock, tmp_path)
    described, insert, again, rolled_back = ask(sessions, "describe", "INSERT", "describe", "ROLLBACK")
    assert [one.result is LOST for one in (described, insert, again, rolled_back)] == [False, True, False, False]
    assert rolled_back.result.errors == [None]


def test_an_idle_transaction_is_lost(service, clock, tmp_path):
    sessions = ProxySessions(service, clock, tmp_path)
    ask(sessions, "BEGIN")
    clock.now += IDLE_S + 1
    sessions.sweep()
    assert service.open == []
    assert ask(sessions, "COMMIT")[0].result is LOST
    assert [one.result is LOST for one in ask(sessions, "INSERT", "SELECT")] == [False, False]


def test_a_transaction_that_went_with_the_primary_is_lost(service, clock, tmp_path):
    sessions = ProxySessions(service, clock, tmp_path)
    ask(sessions, "BEGIN")
    service.fails = True
    with pytest.raises(PrimaryUnavailable):
        ask(sessions, "INSERT a")
    service.fails = False
    assert [one.result is LOST for one in ask(sessions, "INSERT b", "INSERT c")] == [True, False]


def test_clients_are_kept_apart_and_can_leave(service, clock, tmp_path):
    sessions = ProxySessions(service, clock, tmp_path)
    ask(sessions, "BEGIN", client="a")
    assert ask(sessions, "INSERT", client="b")[0].is_autocommit
    sessions.disconnect("a", CALL)
    sessions.disconnect("nobody", CALL)
    assert len(service.open) == 1
    assert list(tmp_path.iterdir()) == []
    sessions.close()
    assert service.open == []


def test_without_a_mark_there_is_no_transaction(service, clock, tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("")
    sessions = ProxySessions(service, clock, blocked / "marks")
    with pytest.raises(StorageError):
        ask(sessions, "BEGIN")
    assert service.open == []


def test_old_marks_go(tmp_path):
    mark = tmp_path / "mark"
    mark.touch()
    written = mark.stat().st_mtime
    remove_old_marks(tmp_path, lambda: written + 1)
    assert mark.exists()
    remove_old_marks(tmp_path, lambda: written + MARKS_S_MAX + 1)
    assert not mark.exists()
    remove_old_marks(tmp_path / "none", lambda: 0)
