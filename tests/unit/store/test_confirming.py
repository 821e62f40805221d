"""When a command is answered, by durability."""

from types import SimpleNamespace

import pytest

from pando import limits
from pando.errors import InvalidRequest, NotReady
from pando.store.confirming import Confirming
from pando.testing.virtual_clock import VirtualClock
from pando.types import Durability


class Desk:
    """Confirming with replicas a and b, which keep up; `answers` by the name of the command."""

    def __init__(self, default=Durability.ASYNC, replicas="ab", **options):
        self.clock = VirtualClock()
        self.confirming = Confirming(
            me="p", known=[], clock=self.clock, default=default, voters=1 + len(replicas), **options
        )
        self.answers = {}
        self.txid = 1
        self.confirming.durable("data", 1)
        for node in replicas:
            self.confirming.joined(node, is_voter=True)
            self.confirming.acknowledged(node, "data", 1, 1)
            self.confirming.applied(node, "data", 1)

    def write(self, name, durability="", *, has_written=True):
        self.txid += has_written
        command = SimpleNamespace(
            run=SimpleNamespace(database="data", durability=durability),
            answer=lambda ran: self.answers.setdefault(name, []).append(ran),
        )
        self.confirming.durable("data", self.txid)
        self.confirming.confirm("data", command, SimpleNamespace(txid=self.txid), has_written=has_written)

    def in_logs(self, *nodes):
        for node in nodes:
            self.confirming.acknowledged(node, "data", 1, self.txid)

    def shown(self, *nodes):
        for node in nodes:
            self.confirming.applied(node, "data", self.txid)


def test_async_is_answered_at_once():
    desk = Desk()
    desk.write("default")
    desk.write("asked", "async")
    assert list(desk.answers) == ["default", "asked"]


def test_all_is_answered_when_everybody_shows_it():
    desk = Desk()
    desk.write("w", "all")
    desk.in_logs("a", "b")
    desk.shown("a")
    assert desk.answers == {}
    desk.shown("b")
    assert [ran.txid for ran in desk.answers["w"]] == [2]


def test_what_wrote_nothing_waits_for_nobody():
    desk = Desk(Durability.QUORUM)
    for durability in Durability:
        desk.write(str(durability), durability, has_written=False)
    assert set(desk.answers) == set(Durability)


def test_where_quorum_is_the_default_all_means_both():
    desk = Desk(Durability.QUORUM)
    desk.confirming.left("a")
    desk.confirming.left("b")
    desk.write("w", "all")
    assert desk.answers == {}  # nobody is connected who could show it, but a majority must have it
    desk.in_logs("a")
    assert len(desk.answers["w"]) == 1
    other = Desk(Durability.QUORUM)
    other.write("w", "all")
    other.in_logs("a", "b")
    assert other.answers == {}
    other.shown("a", "b")
    assert len(other.answers["w"]) == 1


def test_a_replica_that_does_not_keep_up_costs_one_wait():
    desk = Desk()
    desk.write("first", "all")
    desk.shown("a")
    desk.clock.advance(limits.SHOWN_WAIT_S)
    desk.confirming.tick(desk.clock.monotonic())
    assert len(desk.answers["first"]) == 1
    assert desk.confirming.keeping_up("data") == {"a"}
    desk.write("second", "all")
    desk.shown("a")
    assert len(desk.answers["second"]) == 1


def test_how_long_a_replica_is_waited_for_can_be_said():
    desk = Desk(shown_wait_s=5)
    desk.write("w", "all")
    desk.clock.advance(4.9)
    desk.confirming.tick(desk.clock.monotonic())
    assert desk.answers == {}
    desk.clock.advance(0.1)
    desk.confirming.tick(desk.clock.monotonic())
    assert len(desk.answers["w"]) == 1


def test_a_replica_that_leaves_or_begins_anew_holds_nobody_up():
    desk = Desk()
    desk.write("w", "all")
    desk.confirming.left("a")
    assert desk.answers == {}
    desk.confirming.disowned("b", "data")
    assert len(desk.answers["w"]) == 1


def test_who_has_read_a_commit_hears_when_all_show_it():
    desk = Desk()
    told = []
    desk.write("w", "async")
    desk.confirming.when_shown("data", desk.txid, told.append)
    desk.shown("a")
    assert told == []
    desk.shown("b")
    assert told == [None]
    desk.confirming.when_shown("data", desk.txid, told.append)
    assert told == [None, None]


def test_who_has_read_what_is_no_longer_there_is_told():
    desk = Desk()
    told = []
    desk.write("w", "async")
    desk.confirming.when_shown("data", desk.txid, told.append)
    desk.confirming.dropped("data", NotReady("gone"))
    assert [type(error) for error in told] == [NotReady]
    desk.confirming.when_shown("data", desk.txid, told.append)
    assert told[1:] == [None]


def test_the_end_of_a_database_is_told():
    desk = Desk()
    desk.write("w", "all")
    desk.confirming.dropped("data", NotReady("gone"))
    assert isinstance(desk.answers["w"][0], NotReady)


def test_an_unknown_durability_is_refused():
    with pytest.raises(InvalidRequest, match="async, quorum, all"):
        Desk().confirming.check("most")
