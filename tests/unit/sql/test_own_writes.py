from __future__ import annotations

from pando.sql import own_writes
from pando.sql.own_writes import BEHIND_S, OwnWrites


def test_owed_until_shown() -> None:
    writes = OwnWrites()
    assert not writes
    writes.remember(b"me", "data", (1, 5), 0.0)
    writes.remember(b"me", "data", (1, 4), 0.0)
    assert writes
    assert writes.owed(b"me", "data", (1, 4)) == (1, 5)
    assert writes.owed(b"you", "data", (1, 4)) is None
    assert writes.owed(b"me", "other", (1, 4)) is None
    assert writes.owed(b"me", "data", (1, 5)) is None
    assert not writes


def test_new_epoch_pays_everything_of_the_old() -> None:
    writes = OwnWrites()
    writes.remember(b"me", "data", (1, 50), 0.0)
    assert writes.owed(b"me", "data", (2, 40)) is None


def test_behind_for_a_while() -> None:
    writes = OwnWrites()
    writes.remember(b"me", "data", (1, 5), 10.0)
    assert writes.is_behind("data", 10.0 + BEHIND_S / 2)
    assert not writes.is_behind("other", 10.0)
    assert not writes.is_behind("data", 10.0 + BEHIND_S)


def test_bounded() -> None:
    writes = OwnWrites()
    for number in range(own_writes.REMEMBERED_MAX + 5):
        writes.remember(b"%d" % number, "data", (1, 5), 0.0)
    assert writes.owed(b"4", "data", (1, 1)) is None
    assert writes.owed(b"5", "data", (1, 1)) == (1, 5)
