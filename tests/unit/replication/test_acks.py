import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando import limits
from pando.errors import Overloaded, QuorumTimeout
from pando.replication.acks import Acks, majority


@pytest.mark.parametrize(("voters", "needed"), [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (7, 4)])
def test_majority(voters, needed):
    assert majority(voters) == needed


@pytest.mark.parametrize("voters", range(1, 6))
def test_two_majorities_always_share_a_voter(voters):
    everybody = range(voters)
    for one in itertools.combinations(everybody, majority(voters)):
        for other in itertools.combinations(everybody, majority(voters)):
            assert set(one) & set(other)


def acks(*replicas):
    return Acks(me="p", voters=replicas)


def test_alone_everything_durable_is_confirmed():
    counting = acks()
    assert counting.wait("data", 1, 5.0, "early") is False
    assert counting.durable("data", 1) == ["early"]
    assert counting.wait("data", 1, 5.0, "late") is True


def test_one_of_two_replicas_makes_a_majority_of_three():
    counting = acks("a", "b")
    counting.durable("data", 3)
    for txid in (1, 2, 3):
        assert not counting.wait("data", txid, 5.0, txid)
    assert counting.have("data", "a", 2) == [1, 2]
    assert counting.have("data", "b", 1) == []
    assert counting.have("data", "b", 3) == [3]
    assert counting.confirmed("data") == 3


def test_replicas_may_have_it_before_the_primary_is_told_of_its_own_fsync():
    counting = acks("a", "b")
    counting.wait("data", 1, 5.0, "x")
    assert counting.have("data", "a", 1) == []
    assert counting.durable("data", 1) == ["x"]


def test_nodes_that_are_no_voters_and_repeated_or_older_news_do_not_count():
    counting = acks("a", "b")
    counting.durable("data", 5)
    counting.wait("data", 5, 5.0, "x")
    assert counting.have("data", "stranger", 5) == []
    assert counting.have("data", "p", 5) == []
    assert counting.have("data", "a", 4) == []
    assert counting.have("data", "a", 3) == []
    assert counting.have("data", "a", 5) == ["x"]


def test_disowned_and_left_replicas_no_longer_count_but_confirmed_stays():
    counting = acks("a", "b")
    counting.durable("data", 1)
    counting.have("data", "a", 1)
    counting.have("data", "b", 2)
    counting.disown("data", "b")
    counting.disown("unknown", "b")
    counting.wait("data", 2, 5.0, "x")
    assert counting.durable("data", 2) == []
    assert counting.confirmed("data") == 1
    counting.have("data", "a", 9)
    counting.left("a")
    assert counting.confirmed("data") == 2


def test_databases_do_not_mix():
    counting = acks("a", "b")
    counting.durable("one", 1)
    counting.durable("two", 1)
    counting.wait("one", 1, 5.0, "one")
    assert counting.have("two", "a", 1) == []
    assert counting.waiting("one") == 1


def test_waiters_time_out_with_an_error_that_says_what_is_known():
    counting = acks("a", "b")
    counting.durable("data", 2)
    counting.wait("data", 1, 2.0, "soon")
    counting.wait("data", 2, 1.0, "sooner")
    assert counting.next_deadline == 1.0
    assert counting.expire(0.9) == []
    (value, error), *rest = counting.expire(1.0)
    assert (value, rest) == ("sooner", [])
    assert isinstance(error, QuorumTimeout)
    assert "1 of 3" in error.message
    assert not error.retryable
    assert counting.next_deadline == 2.0
    assert [value for value, _ in counting.expire(9.0)] == ["soon"]
    assert counting.next_deadline == float("inf")


def test_too_many_waiters_are_refused_before_the_write_and_time_out_after_it():
    counting = acks("a")
    for txid in range(1, limits.QUORUM_WAITERS_MAX + 1):
        counting.admit("data")
        counting.wait("data", txid, 1.0, txid)
    with pytest.raises(Overloaded):
        counting.admit("data")
    with pytest.raises(QuorumTimeout):
        counting.wait("data", limits.QUORUM_WAITERS_MAX + 1, 1.0, "x")
    counting.admit("other")


def test_fewer_voters_may_confirm_at_once():
    counting = acks("a", "b")
    counting.durable("data", 1)
    counting.wait("data", 1, 1.0, "x")
    assert counting.set_voters([]) == ["x"]
    assert counting.voters == {"p"}


def test_dropped_database_gives_its_waiters_back():
    counting = acks("a")
    counting.wait("data", 1, 1.0, "x")
    assert counting.drop("data") == ["x"]
    assert counting.drop("data") == []
    assert counting.expire(2.0) == []


events = st.lists(
    st.tuples(st.sampled_from(["wait", "durable", "a", "b", "c", "disown", "expire"]), st.integers(1, 12)), max_size=60
)


@given(events)
def test_confirmed_exactly_when_a_majority_has_it(history):
    counting = acks("a", "b", "c")
    have = dict.fromkeys(["p", "a", "b", "c"], 0)
    confirmed, waiting, now, last = 0, [], 0.0, 0
    for kind, number in history:
        released = []
        if kind == "wait":
            last = max(last, number)
            if counting.wait("data", last, now + 5.0, (last, len(waiting))):
                assert last <= confirmed
            else:
                waiting.append((last, len(waiting)))
        elif kind == "expire":
            now += number / 4
            gone = [value for value, _ in counting.expire(now)]
            waiting = [value for value in waiting if value not in gone]
        elif kind == "disown":
            have["a"] = 0
            counting.disown("data", "a")
        else:
            node = "p" if kind == "durable" else kind
            have[node] = max(have[node], number)
            released = counting.durable("data", number) if node == "p" else counting.have("data", node, number)
        confirmed = max(confirmed, sorted(have.values())[1])
        assert counting.confirmed("data") == confirmed
        assert released == [value for value in waiting if value[0] <= confirmed]
        waiting = [value for value in waiting if value not in released]
        counting.check_invariants()
