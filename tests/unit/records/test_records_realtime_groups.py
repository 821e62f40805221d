"""Consumer groups as values and as rows; random members that claim, acknowledge, sleep and vanish."""

import asyncio

import apsw
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from records_realtime_kit import Database

from pando import limits
from pando.errors import CorruptionError, InvariantError
from pando.records.problems import ValidationFailed
from pando.records.realtime import groups
from pando.records.realtime.feed import Feed
from pando.records.realtime.groups import Group, Lease


def claim(group, member, now_ms=0, *, most=10, newest=100, lease_ms=1000):
    return group.claim(member, now_ms, lease_ms=lease_ms, most=most, fresh=range(group.handed + 1, newest + 1))


def sequences(leases):
    return [lease.sequence for lease in leases]


def test_members_share_changes_and_get_each_once():
    group, first = claim(Group(name="g"), "a", most=3)
    group, second = claim(group, "b", most=2)
    assert (sequences(first), sequences(second)) == ([1, 2, 3], [4, 5])
    assert (group.floor, group.handed) == (0, 5)
    group, rest = claim(group, "a", newest=5)
    assert rest == []


def test_the_floor_rises_when_the_oldest_are_acknowledged():
    group, _ = claim(Group(name="g", handed=10), "a", most=4)
    floors = []
    for sequence in (12, 11, 14, 13):
        group, unknown = group.acknowledge("a", [sequence])
        assert unknown == []
        floors.append(group.floor)
    assert floors == [10, 12, 12, 14]
    assert group.leases == ()


def test_a_lease_that_is_over_goes_to_the_next_before_anything_new():
    group, _ = claim(Group(name="g"), "a", now_ms=0, most=3)
    group, _ = group.acknowledge("a", [2])
    group, nothing_due = claim(group, "b", now_ms=999, most=1, newest=3)
    assert nothing_due == []
    assert group.overdue(1000) == 2
    group, given = claim(group, "b", now_ms=1000, most=3)
    assert given == [Lease(1, "b", 2000, 2), Lease(3, "b", 2000, 2), Lease(4, "b", 2000, 1)]
    group, unknown = group.acknowledge("a", [1, 3, 9])
    assert unknown == [1, 3, 9], "they are b's now, and 9 is nobody's"
    group, unknown = group.acknowledge("b", [4, 3, 1])
    assert (unknown, group.floor) == ([], 4)


def test_a_slow_member_may_acknowledge_as_long_as_nobody_else_has_it():
    group, _ = claim(Group(name="g"), "a", most=1)
    group, unknown = group.acknowledge("a", [1])
    assert (unknown, group.overdue(10_000)) == ([], 0)


def test_a_lease_is_made_longer_or_given_up():
    group, _ = claim(Group(name="g"), "a", most=3)
    group, unknown = group.extend("a", [1, 2, 7], 5000)
    assert unknown == [7]
    assert (group.overdue(1000), group.overdue(5000)) == (1, 3)
    group, unknown = group.extend("b", [1], 9000)
    assert (unknown, group.overdue(5000)) == ([1], 3)
    group, _ = claim(group, "b", now_ms=500, most=2, newest=5)
    group = group.release("a")
    group, given = claim(group, "c", now_ms=600, newest=5)
    assert sequences(given) == [1, 2, 3]
    assert {lease.attempt for lease in given} == {2}


def test_a_group_goes_on_behind_changes_that_are_no_longer_kept():
    group, _ = claim(Group(name="g"), "a", most=6)
    assert sequences(group.without(4).leases) == [4, 5, 6]
    assert (group.without(4).handed, group.without(4).floor) == (6, 3)
    assert (group.without(20).handed, group.without(20).leases) == (19, ())
    assert group.without(1) == group


def test_what_is_in_flight_is_bounded(monkeypatch):
    monkeypatch.setattr(limits, "CONSUMER_IN_FLIGHT_MAX", 5)
    group, given = claim(Group(name="g"), "a", most=4)
    group, more = claim(group, "b", most=4)
    assert (sequences(given), sequences(more), group.room) == ([1, 2, 3, 4], [5], 0)
    assert claim(group, "b", most=4)[1] == []
    group, again = claim(group, "b", now_ms=1000, most=4)
    assert sequences(again) == [1, 2, 3, 4], "no room is needed for what is in flight already"
    group, _ = group.acknowledge("b", [3])
    assert sequences(claim(group, "a", most=4)[1]) == [6]


@pytest.mark.parametrize("fresh", [[1], [3], [2, 4], [3, 2]])
def test_changes_are_handed_out_without_a_gap(fresh):
    with pytest.raises(InvariantError):
        Group(name="g", handed=1).claim("a", 0, lease_ms=1, most=5, fresh=fresh)


@pytest.mark.parametrize(
    ("group", "member", "codes"),
    [
        ("", "m", {"group": "validation_required"}),
        ("g", "", {"member": "validation_required"}),
        ("g" * 129, "m" * 129, dict.fromkeys(("group", "member"), "validation_length_too_long")),
    ],
)
def test_names_are_checked(group, member, codes):
    with pytest.raises(ValidationFailed) as refused:
        claim(Group(name=group), member)
    assert {name: problem.code for name, problem in refused.value.data.items()} == codes
    groups.check_names("g" * 128, "m" * 128)


# -- rows --


class Table:
    def __init__(self):
        self.connection = apsw.Connection(":memory:")
        self.connection.execute(groups.CREATE)
        self.connection.execute(groups.CREATE)

    def run(self, statement):
        rows = self.connection.execute(statement.sql, statement.args).fetchall()
        return rows, self.connection.changes()

    def load(self, name):
        rows, _ = self.run(groups.load(name))
        return groups.group_of(rows[0]) if rows else None


def test_a_group_is_the_row_that_it_was_stored_in():
    table = Table()
    table.run(groups.add("g", 7, 1000))
    group = table.load("g")
    assert group == Group(name="g", version=1, handed=7)
    changed, _ = claim(group, "mémber '\"", most=3)
    assert table.run(groups.store(changed, 2000))[1] == 1
    found = table.load("g")
    assert (found.leases, found.handed, found.version) == (changed.leases, 10, 2)
    assert table.load("other") is None


def test_of_two_who_loaded_the_same_row_one_must_begin_anew():
    table = Table()
    table.run(groups.add("g", 0, 0))
    first, second = table.load("g"), table.load("g")
    assert table.run(groups.store(claim(first, "a")[0], 1))[1] == 1
    assert table.run(groups.store(claim(second, "b")[0], 2))[1] == 0
    assert {lease.member for lease in table.load("g").leases} == {"a"}


def test_adding_a_group_that_is_there_changes_nothing():
    table = Table()
    table.run(groups.add("g", 7, 0))
    table.run(groups.store(claim(table.load("g"), "a")[0], 5))
    before = table.load("g")
    table.run(groups.add("g", 99, 9))
    assert table.load("g") == before


def test_groups_are_listed_removed_and_hold_the_feed():
    table = Table()
    assert table.run(groups.lowest_floor(0))[0] == [(None,)]
    for name, after, now_ms in (("b", 9, 100), ("a", 4, 10), ("c", 12, 100)):
        table.run(groups.add(name, after, now_ms))
    assert [groups.group_of(row).name for row in table.run(groups.list_all(2))[0]] == ["a", "b"]
    assert table.run(groups.lowest_floor(0))[0] == [(4,)]
    assert table.run(groups.lowest_floor(11))[0] == [(9,)], "a has not moved since"
    table.run(groups.store(claim(table.load("b"), "m")[0], 200))
    assert table.run(groups.lowest_floor(11))[0] == [(9,)], "what is in flight is still needed"
    table.run(groups.remove("b"))
    assert (table.load("b"), table.run(groups.lowest_floor(11))[0]) == (None, [(12,)])


@pytest.mark.parametrize(
    "row",
    [
        ("g", 1, 0, 0, "not json"),
        ("g", 1, 0, 0, "[[1]]"),
        ("g", "x", 0, 0, "[]"),
        ("g", 1, 0, None, "[]"),
        (1, 1, 0, 0, "[]"),
    ],
)
def test_a_row_that_is_none_is_corrupt(row):
    with pytest.raises(CorruptionError):
        groups.group_of(row)


def test_steps_of_groups_are_no_changes_of_the_feed():
    db = Database()
    db.run(groups.CREATE)
    for statement in (groups.add("g", 0, 0), groups.store(claim(Group(name="g", version=1), "a")[0], 1)):
        db.run(statement.sql, *statement.args)
    assert db.connection.execute("SELECT version FROM _consumers").fetchall() == [(2,)]
    assert asyncio.run(Feed(db).newest()) == 0


# -- random members --

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("claim"), st.sampled_from("abc"), st.integers(0, 6)),
        st.tuples(st.just("ack"), st.sampled_from("abc"), st.integers(0, 5)),
        st.tuples(st.just("wait"), st.integers(1, 700)),
        st.tuples(st.just("vanish"), st.sampled_from("abc")),
        st.tuples(st.just("commit"), st.integers(1, 5)),
    ),
    max_size=80,
)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_every_change_is_acknowledged_once_and_nobody_has_what_another_has(steps):
    table = Table()
    table.run(groups.add("g", 0, 0))
    now_ms, newest = 0, 0
    done, holders, hands = [], {}, {}  # acknowledged; sequence -> (member, until); how often handed out

    def hand_out(member, most):
        group, given = claim(table.load("g"), member, now_ms, most=most, newest=newest)
        assert table.run(groups.store(group, now_ms))[1] == 1
        assert len(given) <= most
        for lease in given:
            holder = holders.get(lease.sequence)
            assert lease.sequence not in done
            assert holder is None or holder[1] <= now_ms, "somebody has it"
            hands[lease.sequence] = hands.get(lease.sequence, 0) + 1
            assert lease.attempt == hands[lease.sequence]
            holders[lease.sequence] = (member, lease.until_ms)
        return given

    def acknowledge(member, wanted):
        group, unknown = table.load("g").acknowledge(member, wanted)
        table.run(groups.store(group, now_ms))
        assert unknown == []
        for sequence in wanted:
            done.append(sequence)
            del holders[sequence]

    for step, *facts in steps:
        if step == "claim":
            hand_out(*facts)
        elif step == "ack":
            mine = [sequence for sequence, (member, _) in holders.items() if member == facts[0]]
            acknowledge(facts[0], mine[: facts[1]])
        elif step == "wait":
            now_ms += facts[0]
        elif step == "vanish":
            table.run(groups.store(table.load("g").release(facts[0]), now_ms))
            holders.update({s: (member, 0) for s, (member, _) in holders.items() if member == facts[0]})
        else:
            newest += facts[0]
        group = table.load("g")
        assert group.floor == next(n for n in range(newest + 1) if n + 1 not in done)
    now_ms += 10_000
    while given := hand_out("a", 50):
        acknowledge("a", sequences(given))
    assert sorted(done) == list(range(1, newest + 1))
    assert table.load("g").floor == newest
