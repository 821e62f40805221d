from hypothesis import given
from hypothesis import strategies as st

from pando.replication.lag import NO_LAG, SAMPLES_MAX, Lag, LagMeter


def test_no_lag_at_the_head_or_beyond():
    meter = LagMeter(5, 0.0)
    assert meter.lag(5, 100.0) == NO_LAG
    assert meter.lag(6, 100.0) == NO_LAG


def test_lag_counts_commits_bytes_and_the_age_of_the_oldest_missing_commit():
    meter = LagMeter(5, 0.0)
    meter.advanced(6, 100, 1.0)
    meter.advanced(9, 300, 2.0)
    assert meter.lag(5, 4.0) == Lag(lag_txids=4, lag_bytes=400, lag_s=3.0)
    assert meter.lag(6, 4.0) == Lag(lag_txids=3, lag_bytes=300, lag_s=2.0)
    assert meter.lag(7, 4.0) == Lag(lag_txids=2, lag_bytes=300, lag_s=2.0)
    meter.advanced(9, 50, 3.0)
    assert meter.head == 9
    assert meter.lag(9, 9.0) == NO_LAG


def test_reset_begins_anew():
    meter = LagMeter(5, 0.0)
    meter.advanced(6, 100, 1.0)
    meter.reset(3, 2.0)
    assert meter.lag(2, 5.0) == Lag(lag_txids=1, lag_bytes=0, lag_s=3.0)


steps = st.lists(st.tuples(st.integers(1, 3), st.integers(0, 100), st.floats(0, 2)), min_size=1, max_size=30)


@given(steps, st.integers(0, 40), st.integers(0, 3))
def test_memory_is_bounded_and_lag_is_never_too_small(pattern, behind, extra):
    meter = LagMeter(0, 0.0)
    exact, now, head, total = [(0, 0.0, 0)], 0.0, 0, 0
    for _ in range(3 * SAMPLES_MAX // len(pattern) + extra):
        for commits, size, pause in pattern:
            now, head, total = now + pause, head + commits, total + size
            meter.advanced(head, size, now)
            exact.append((head, now, total))
    meter.check_invariants()
    position = max(0, head - behind * head // 40)
    lag = meter.lag(position, now)
    assert lag.lag_txids == head - position
    if position < head:
        first_missing = next(point for point in exact if point[0] > position)
        known = max(point for point in exact if point[0] <= position)
        assert lag.lag_s >= now - first_missing[1] - 1e-9
        assert lag.lag_bytes >= total - known[2]
