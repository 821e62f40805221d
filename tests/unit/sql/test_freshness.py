from __future__ import annotations

import pytest

from pando.errors import InvalidRequest
from pando.sql.freshness import Freshness, Level, Seen, Where, decide, parse_freshness
from pando.types import TXID, Bookmark, Epoch

EVENTUAL, SESSION, STRONG = (Freshness(level) for level in (Level.EVENTUAL, Level.SESSION, Level.STRONG))


def bookmark(epoch: int, txid: int) -> Bookmark:
    return Bookmark(database="data", epoch=Epoch(epoch), txid=TXID(txid))


def seen(epoch: int = 1, txid: int = 10, head: int = 10, age_ms: int = 0, *, is_primary: bool = False) -> Seen:
    return Seen((epoch, txid), head, age_ms, is_primary)


@pytest.mark.parametrize(
    ("text", "freshness"),
    [
        ("eventual", EVENTUAL),
        ("session", SESSION),
        ("strong", STRONG),
        ("bounded=250", Freshness(Level.BOUNDED, 250)),
    ],
)
def test_parse(text: str, freshness: Freshness) -> None:
    assert parse_freshness(text) == freshness


@pytest.mark.parametrize(
    "text", ["", "bounded", "bounded=", "bounded=-1", "bounded=1s", "STRONG", "strong ", "x" * 500]
)
def test_parse_refuses(text: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_freshness(text)


@pytest.mark.parametrize(
    ("wanted", "where"),
    [
        (None, Where.LOCAL),
        (bookmark(1, 10), Where.LOCAL),
        (bookmark(1, 11), Where.WAIT),
        (bookmark(2, 3), Where.WAIT),
        (bookmark(0, 99), Where.LOCAL),
    ],
)
def test_session_waits_for_a_newer_bookmark(wanted: Bookmark | None, where: Where) -> None:
    decision = decide(SESSION, wanted, seen())
    assert decision.where is where
    if wanted is not None and where is Where.WAIT:
        assert decision.position == (wanted.epoch, wanted.txid)


def test_eventual_takes_anything_and_strong_nothing() -> None:
    assert decide(EVENTUAL, bookmark(9, 9), seen(age_ms=10**9)).where is Where.LOCAL
    assert decide(STRONG, None, seen(is_primary=True)).where is Where.PRIMARY


def test_bounded() -> None:
    bounded = Freshness(Level.BOUNDED, 500)
    assert decide(bounded, None, seen(age_ms=500)).where is Where.LOCAL
    assert decide(bounded, None, seen(age_ms=501)).where is Where.PRIMARY
    behind = decide(bounded, None, seen(txid=8, head=10, age_ms=5))
    assert (behind.where, behind.position) == (Where.WAIT, (1, 10))
    assert decide(bounded, bookmark(1, 12), seen()).position == (1, 12)
    assert decide(bounded, None, seen(txid=8, head=10, age_ms=10**6, is_primary=True)).where is Where.LOCAL
