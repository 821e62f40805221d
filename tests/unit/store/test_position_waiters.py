import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando import limits
from pando.errors import BookmarkTimeout, NotReady, Overloaded
from pando.store.waiters import PositionWaiters
from pando.types import TXID, Epoch


class Answers(list):
    def of(self, name):
        return lambda error: self.append((name, type(error).__name__ if error is not None else "shown"))


def add(waiters, answers, txid, *, epoch=1, deadline=10.0):
    waiters.add(epoch=Epoch(epoch), txid=TXID(txid), deadline=deadline, answer=answers.of(txid))


def test_those_are_answered_whose_commit_is_shown():
    waiters, answers = PositionWaiters(), Answers()
    for txid in (5, 3, 4):
        add(waiters, answers, txid)
    waiters.advance(Epoch(1), TXID(4))
    assert answers == [(3, "shown"), (4, "shown")]
    assert len(waiters) == 1


def test_an_older_epoch_does_not_count_for_a_newer_one():
    waiters, answers = PositionWaiters(), Answers()
    add(waiters, answers, 3, epoch=2)
    waiters.advance(Epoch(1), TXID(9))
    assert not answers
    waiters.advance(Epoch(2), TXID(9))
    assert answers == [(3, "shown")]


def test_deadlines_and_the_end():
    waiters, answers = PositionWaiters(), Answers()
    add(waiters, answers, 1, deadline=5.0)
    add(waiters, answers, 2, deadline=6.0)
    add(waiters, answers, 3, deadline=7.0)
    waiters.expire(5.5)
    assert answers == [(1, BookmarkTimeout.__name__)]
    waiters.advance(Epoch(1), TXID(2))
    waiters.refuse_all(NotReady("closing"))
    assert answers[1:] == [(2, "shown"), (3, NotReady.__name__)]
    assert len(waiters) == 0


def test_they_are_bounded(monkeypatch):
    monkeypatch.setattr(limits, "WAITERS_MAX", 2)
    waiters, answers = PositionWaiters(), Answers()
    add(waiters, answers, 1)
    add(waiters, answers, 2)
    with pytest.raises(Overloaded):
        add(waiters, answers, 3)


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(1, 3)), max_size=30), st.lists(st.integers(1, 20), max_size=8)
)
def test_each_is_answered_once_and_never_too_early(wanted, shown):
    waiters, answers, epoch = PositionWaiters(), Answers(), 0
    for number, (txid, wants) in enumerate(wanted):
        waiters.add(epoch=Epoch(wants), txid=TXID(txid), deadline=1.0, answer=answers.of(number))
    at = 0
    for txid in sorted(shown):
        epoch, at = min(3, epoch + 1), txid
        waiters.advance(Epoch(epoch), TXID(at))
        for number, _ in answers:
            assert wanted[number][0] <= at
            assert wanted[number][1] <= epoch
    waiters.expire(2.0)
    assert sorted(number for number, _ in answers) == list(range(len(wanted)))
