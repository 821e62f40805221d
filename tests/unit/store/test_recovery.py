"""Decisions of recovery over simulated crashes: what the log ends with against what file and WAL show."""

from hypothesis import given
from hypothesis import strategies as st

from pando.store.recovery import Capture, Clean, NewHistory, Redo, decide_recovery
from pando.types import EMPTY_CHECKSUM, NO_POSITION, TXID, Checksum, Epoch, Position


def position(txid):
    return Position(epoch=Epoch(1), txid=TXID(txid), checksum=checksum(txid))


def checksum(txid):
    return Checksum(txid * 7919 + 13 | 1 << 63)


def log_of(first, last):
    known = {checksum(txid): position(txid) for txid in range(first, last + 1)}
    return known.get


MIXTURE = Checksum(5 | 1 << 63)


@given(
    st.integers(1, 30),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(0, 20),
)
def test_every_crash_within_the_invariant_keeps_the_history(base, log_more, moved, wal_more, lost):
    """The log holds base..end; the file holds everything up to `moved`, the WAL goes on to `seen`."""
    end = base + log_more
    moved = min(base + moved, end)  # a checkpoint never passes the durable log
    seen = max(moved, min(base + wal_more, end + 5) - lost)
    states = [MIXTURE if txid < moved else checksum(txid) for txid in range(base, seen + 1)]
    states[0] = checksum(moved) if len(states) == 1 else states[0]
    decision = decide_recovery(position(end), states, log_of(base, end))
    if seen == end:
        assert isinstance(decision, Clean)
    elif seen > end:
        assert isinstance(decision, Capture)
        assert states[decision.after_commit] == checksum(end)
        assert decision.after_commit < len(states) - 1
    else:
        assert decision == Redo(start=position(seen), reason=decision.reason)


@given(st.integers(1, 10), st.lists(st.integers(100, 200), min_size=1, max_size=10))
def test_states_that_the_log_does_not_know_begin_a_new_history(end, txids):
    decision = decide_recovery(position(end), [checksum(txid) for txid in txids], log_of(1, end))
    assert isinstance(decision, NewHistory)


def test_a_database_without_a_log():
    nothing = log_of(1, 0)
    assert isinstance(decide_recovery(NO_POSITION, [checksum(4)], nothing), NewHistory)
    assert isinstance(decide_recovery(NO_POSITION, [EMPTY_CHECKSUM], nothing), Clean)


def test_equal_content_needs_nothing_even_if_it_was_reached_on_a_detour():
    states = [checksum(1), checksum(2), checksum(1)]
    assert isinstance(decide_recovery(position(1), states, log_of(1, 1)), Clean)


def test_the_newest_matching_state_is_taken():
    states = [checksum(1), checksum(2), checksum(1), checksum(3)]
    decision = decide_recovery(position(1), states, log_of(1, 1))
    assert isinstance(decision, Capture)
    assert decision.after_commit == 2
