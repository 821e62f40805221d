"""Notices of commits: who asked hears, once per pause, of everything."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando import limits
from pando.errors import Overloaded
from pando.store.protocol import Committed
from pando.store.watching import PAUSE_S, Watching


class Link:
    def __init__(self, log=None):
        self.is_congested = False
        self.told = [] if log is None else log

    def push(self, message):
        assert not self.is_congested
        self.told.append(message)


class World:
    """Timers that fire when the test says so."""

    def __init__(self):
        self.timers = []
        self.watching = Watching(lambda after_s, call: self.timers.append((after_s, call)))

    def fire(self):
        """Fire the one timer; gives how long it was."""
        [(after_s, call)] = self.timers
        self.timers.clear()
        call()
        return after_s


def told(link):
    return [(message.database, message.txid, message.tables) for message in link.told]


def test_nobody_hears_who_did_not_ask_and_no_timer_runs():
    world = World()
    link = Link()
    world.watching.watch(link, "data")
    world.watching.committed("other", 1, 5, ("t",))
    assert world.timers == []
    world.watching.committed("data", 2, 6, ("t",))
    assert world.fire() == 0.0
    assert link.told == [Committed("data", 2, 6, ("t",))]


def test_what_comes_within_the_pause_is_one_notice():
    world = World()
    link = Link()
    world.watching.watch(link, "data")
    world.watching.committed("data", 1, 1, ("a",))
    world.fire()
    for txid in range(2, 50):
        world.watching.committed("data", 1, txid, (f"t{txid % 3}",))
    assert len(link.told) == 1
    assert world.fire() == PAUSE_S
    assert told(link)[1:] == [("data", 49, ("t0", "t1", "t2"))]
    assert world.fire() == PAUSE_S
    assert world.timers == [], "nothing new: no timer"
    assert len(link.told) == 2


@pytest.mark.parametrize("tables", [(), ("*",), tuple(f"t{n}" for n in range(limits.COMMITTED_TABLES_MAX + 1))])
def test_what_cannot_be_told_is_any_table(tables):
    for order in (1, -1):
        world = World()
        link = Link()
        world.watching.watch(link, "data")
        for changed in [("a",), tables, ("b",)][::order]:
            world.watching.committed("data", 1, 9, changed)
        world.fire()
        assert told(link) == [("data", 9, ())]


def test_a_congested_link_is_owed_one_notice_per_database():
    world = World()
    slow, quick = Link(), Link()
    for link in (slow, quick):
        world.watching.watch(link, "data")
    slow.is_congested = True
    world.watching.committed("data", 1, 1, ("a",))
    world.fire()
    world.fire()
    assert (told(slow), told(quick)) == ([], [("data", 1, ("a",))])
    world.watching.committed("data", 1, 2, ("b",))
    world.fire()
    slow.is_congested = False
    world.fire()
    assert told(slow) == [("data", 2, ("a", "b"))]
    assert told(quick) == [("data", 1, ("a",)), ("data", 2, ("b",))]


def test_a_watch_is_taken_back():
    world = World()
    link = Link()
    world.watching.unwatch(link, "data")
    world.watching.watch(link, "data")
    world.watching.watch(link, "data")
    world.watching.committed("data", 1, 1, ())
    world.watching.unwatch(link, "data")
    world.fire()
    assert link.told == []
    world.watching.committed("data", 1, 2, ())
    assert link.told == []


def test_a_link_watches_a_bounded_number(monkeypatch):
    monkeypatch.setattr(limits, "WATCHES_PER_LINK_MAX", 2)
    world = World()
    link, other = Link(), Link()
    for name in ("a", "b"):
        world.watching.watch(link, name)
        world.watching.watch(other, name)
    with pytest.raises(Overloaded):
        world.watching.watch(link, "c")
    world.watching.watch(link, "a")  # it does already
    world.watching.left(link)
    world.watching.watch(link, "c")


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("commit"), st.sampled_from("xy"), st.sampled_from([(), ("a",), ("b", "c")])),
        st.tuples(st.just("watch"), st.integers(0, 2), st.sampled_from("xy")),
        st.tuples(st.just("unwatch"), st.integers(0, 2), st.sampled_from("xy")),
        st.tuples(st.just("congest"), st.integers(0, 2), st.booleans()),
        st.tuples(st.just("fire")),
    ),
    max_size=60,
)


@given(STEPS)
def test_who_watches_hears_in_the_end_of_the_last_commit_and_all_tables(steps):
    world = World()
    links = [Link() for _ in range(3)]
    missing = {}  # (link, database) -> last TXID and tables since the last notice
    heard = dict.fromkeys(range(3), 0)

    def collect():
        for number, link in enumerate(links):
            for message in link.told[heard[number] :]:
                txid, tables = missing.pop((number, message.database))
                assert message.txid == txid
                assert message.tables == (() if () in tables else tuple(sorted({t for each in tables for t in each})))
            heard[number] = len(link.told)

    txid = 0
    watched = set()
    for step, *facts in steps:
        if step == "commit":
            txid += 1
            world.watching.committed(facts[0], 1, txid, facts[1])
            for number, database in watched:
                if database == facts[0]:
                    known = missing.get((number, database), (0, []))[1]
                    missing[number, database] = (txid, [*known, facts[1]])
        elif step == "watch":
            world.watching.watch(links[facts[0]], facts[1])
            watched.add((facts[0], facts[1]))
        elif step == "unwatch":
            world.watching.unwatch(links[facts[0]], facts[1])
            watched.discard((facts[0], facts[1]))
            missing.pop((facts[0], facts[1]), None)
        elif step == "congest":
            links[facts[0]].is_congested = facts[1]
        elif world.timers:
            world.fire()
        assert len(world.timers) <= 1
        collect()
    for link in links:
        link.is_congested = False
    for _ in range(3):
        if world.timers:
            world.fire()
    collect()
    assert missing == {}
