from hypothesis import given
from hypothesis import strategies as st

from pando.sql.lateness import Lateness


def test_who_shows_the_head_is_never_late():
    late = Lateness()
    assert [late.late_s(5, 5, now) for now in (0.0, 100.0)] == [0.0, 0.0]


def test_who_stands_still_gets_later_from_the_moment_that_it_is_asked():
    late = Lateness()
    assert late.late_s(5, 7, 10.0) == 0.0
    assert late.late_s(5, 9, 12.0) == 2.0
    assert late.late_s(6, 9, 13.0) == 3.0
    assert late.late_s(7, 9, 14.0) == 0.0  # what was the head at first is shown: a new mark
    assert late.late_s(9, 9, 99.0) == 0.0
    assert late.late_s(9, 10, 100.0) == 0.0


def test_a_new_history_begins_anew():
    late = Lateness()
    late.late_s(5, 7, 10.0)
    assert late.late_s(1, 1, 12.0) == 0.0
    assert late.late_s(1, 2, 13.0) == 0.0


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.floats(0, 2)), max_size=60))
def test_it_is_never_more_than_the_age_of_the_oldest_commit_that_is_missing(steps):
    late, now, head, visible, known_at = Lateness(), 0.0, 0, 0, {}
    for commits, shows, pause in steps:
        now += pause
        for _ in range(commits):
            head += 1
            known_at[head] = now
        visible = min(head, visible + shows)
        oldest = now - known_at[visible + 1] if visible < head else 0.0
        assert 0.0 <= late.late_s(visible, head, now) <= oldest
