from hypothesis import given
from hypothesis import strategies as st

from pando import limits
from pando.replication.shown import JOIN_S, PENALTY_S, PENALTY_S_MAX, Shown


def shown(*replicas, head=1):
    """Count for a database whose head all these show."""
    counting = Shown()
    counting.durable("data", head)
    for node in replicas:
        assert counting.applied("data", node, head, 0.0) == []
    return counting


def test_alone_nothing_is_waited_for():
    assert shown().wait("data", 2, 1.0, "x") is True


def test_everybody_who_keeps_up_is_waited_for():
    counting = shown("a", "b")
    assert counting.wait("data", 2, 1.0, "x") is False
    assert counting.wait("data", 3, 1.0, "y") is False
    assert counting.applied("data", "a", 3, 0.1) == []
    assert counting.applied("data", "b", 2, 0.1) == ["x"]
    assert counting.applied("data", "b", 3, 0.1) == ["y"]
    assert counting.wait("data", 3, 1.0, "z") is True


def test_waits_of_readers_come_in_any_order():
    counting = shown("a")
    counting.durable("data", 4)
    assert not counting.wait("data", 4, 1.0, "write")
    assert not counting.wait_for_what_was_read("data", 3, 1.0, "read 3")
    assert not counting.wait_for_what_was_read("data", 2, 1.0, "read 2")
    assert counting.wait_for_what_was_read("data", 1, 1.0, "read 1")
    assert counting.applied("data", "a", 2, 0.1) == ["read 2"]
    assert counting.applied("data", "a", 4, 0.1) == ["read 3", "write"]


def test_a_reader_may_have_seen_what_is_not_durable_yet():
    counting = shown("a")
    assert not counting.wait_for_what_was_read("data", 2, 1.0, "read")
    assert counting.durable("data", 2) == []
    assert counting.applied("data", "a", 2, 0.1) == ["read"]


def test_nobody_is_to_blame_for_what_does_not_become_durable():
    counting = shown("a")
    assert not counting.wait_for_what_was_read("data", 9, 1.0, "read")
    assert counting.expire(1.0) == ["read"]
    assert counting.keeping_up("data") == {"a"}
    assert not counting.wait("data", 2, 3.0, "write")  # the head is where it was
    assert counting.applied("data", "a", 2, 1.1) == ["write"]


def test_who_waits_for_what_is_not_durable_is_answered_when_it_is_and_nobody_else_is_left():
    counting = shown("a")
    assert not counting.wait_for_what_was_read("data", 2, 1.0, "read")
    assert counting.left("a") == []
    assert counting.durable("data", 2) == ["read"]
    assert counting.wait_for_what_was_read("data", 3, 1.0, "alone")


def test_who_is_too_slow_is_waited_for_once():
    counting = shown("slow", "fast")
    assert not counting.wait("data", 2, 1.0, "x")
    counting.applied("data", "fast", 2, 0.1)
    assert counting.expire(0.99) == []
    assert counting.expire(1.0) == ["x"]
    assert counting.keeping_up("data") == {"fast"}
    assert not counting.wait("data", 3, 2.0, "y")
    assert counting.applied("data", "fast", 3, 1.1) == ["y"]


def test_who_was_too_slow_and_has_caught_up_is_waited_for_again_later_each_time():
    counting = shown("a")
    now, txid, pauses = 0.0, 1, []
    for _ in range(10):
        txid += 1
        assert not counting.wait("data", txid, now + 1, "x")
        now += 1
        assert counting.expire(now) == ["x"]
        dropped_at = now
        while "a" not in counting.keeping_up("data"):
            counting.applied("data", "a", txid, now)
            now += 0.5
        pauses.append(now - 0.5 - dropped_at)
    assert pauses == [min(PENALTY_S * 2**power, PENALTY_S_MAX) for power in range(10)]


def test_a_replica_that_is_never_quite_at_the_head_keeps_up_if_it_is_near():
    counting = shown()
    for number in range(1, 10):
        counting.durable("data", number * 10)
        counting.applied("data", "near", number * 10 - 5, number * JOIN_S / 3)
        counting.applied("data", "far", number * 2, number * JOIN_S / 3)
    assert counting.keeping_up("data") == {"near"}


def test_who_shows_an_old_head_late_does_not_keep_up():
    counting = shown(head=10)
    counting.applied("data", "a", 5, 0.0)
    counting.durable("data", 20)
    counting.applied("data", "a", 10, JOIN_S + 0.01)
    assert counting.keeping_up("data") == frozenset()


def test_who_leaves_or_begins_anew_holds_nobody_up():
    for leave in (lambda counting: counting.left("a"), lambda counting: counting.disown("data", "a")):
        counting = shown("a", "b")
        counting.wait("data", 2, 1.0, "x")
        counting.applied("data", "b", 2, 0.1)
        assert leave(counting) == ["x"]
        assert leave(counting) == []
        assert counting.keeping_up("data") == {"b"}


def test_a_dropped_database_gives_back_who_waits():
    counting = shown("a")
    counting.wait("data", 2, 1.0, "x")
    assert counting.drop("data") == ["x"]
    assert counting.drop("data") == []
    assert counting.keeping_up("data") == frozenset()


def test_too_many_are_not_kept_waiting():
    counting = shown("a")
    for number in range(limits.SHOWN_WAITERS_MAX):
        assert not counting.wait("data", 2 + number, 1.0, number)
    assert counting.wait("data", 2 + limits.SHOWN_WAITERS_MAX, 1.0, "more") is True


@given(
    st.lists(
        st.tuples(st.sampled_from(["commit", "applied", "left", "time"]), st.sampled_from("abc"), st.integers(0, 5)),
        max_size=80,
    )
)
def test_each_waiter_is_answered_once_in_order_and_never_before_those_who_keep_up(steps):
    counting, now, txid, answered, waiting = Shown(), 0.0, 0, [], []
    have = dict.fromkeys("abc", 0)

    def take(released):
        assert released == waiting[: len(released)]
        del waiting[: len(released)]
        answered.extend(released)

    for what, node, number in steps:
        now += 0.05
        if what == "commit":
            txid += 1
            counting.durable("data", txid)
            if counting.wait("data", txid, now + 1, txid):
                assert all(have[each] >= txid for each in counting.keeping_up("data"))
                answered.append(txid)
            else:
                waiting.append(txid)
        elif what == "applied":
            have[node] = max(have[node], min(txid, have[node] + number))
            take(counting.applied("data", node, have[node], now))
        elif what == "left":
            have[node] = 0
            take(counting.left(node))
        else:
            now += number / 3
            take(counting.expire(now))
        for waiter in waiting:
            assert any(have[each] < waiter for each in counting.keeping_up("data"))
    take(counting.expire(now + 10))
    assert waiting == [] and sorted(answered) == list(range(1, txid + 1))
