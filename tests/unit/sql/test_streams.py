from __future__ import annotations

from itertools import count

import pytest

from pando import limits
from pando.errors import Overloaded, StreamExpired
from pando.sql.batons import CLOSED, INVALID, USED, BatonCodec, BatonError
from pando.sql.messages import HranaProtocolError
from pando.sql.streams import EXPIRED_MEMORY_S, Stream, StreamTable
from pando.store.requests import GetAutocommit


@pytest.fixture
def table() -> StreamTable:
    numbers = count(100)
    return StreamTable(node="n", web=1, codec=BatonCodec(b"k" * 32), new_id=lambda: next(numbers))


def kept(table: StreamTable, now: float = 0.0, *, is_open: bool = False) -> tuple[Stream, str]:
    stream = table.new("data")
    stream.is_open = is_open
    stream.texts.store(1, "select 1")
    text = table.keep(stream, now)
    assert text is not None
    return stream, text


def take(table: StreamTable, text: str, database: str = "data") -> Stream:
    return table.take(table.owner(text), database)


def test_stream_with_nothing_to_remember_gets_no_baton(table: StreamTable) -> None:
    assert table.keep(table.new("data"), 0.0) is None
    stream, text = kept(table)
    assert take(table, text) is stream
    stream.texts.close(1)
    assert table.keep(stream, 1.0) is None
    assert len(table) == 0


def test_open_transaction_is_something_to_remember(table: StreamTable) -> None:
    stream = table.new("data")
    stream.is_open = True
    assert table.keep(stream, 0.0) is not None


def test_each_baton_is_good_once(table: StreamTable) -> None:
    stream, first = kept(table)
    assert take(table, first) is stream
    with pytest.raises(BatonError, match=f"^{USED}$"):  # in flight
        take(table, first)
    second = table.keep(stream, 1.0)
    assert second is not None
    with pytest.raises(BatonError, match=f"^{USED}$"):
        take(table, first)
    assert take(table, second) is stream


def test_baton_of_a_closed_stream_and_of_another_database(table: StreamTable) -> None:
    stream, text = kept(table)
    with pytest.raises(BatonError, match=f"^{INVALID}$"):
        take(table, text, "other")
    table.close(stream)
    with pytest.raises(BatonError, match=f"^{CLOSED}$"):
        take(table, text)


def test_baton_names_its_owner(table: StreamTable) -> None:
    _, text = kept(table)
    other = StreamTable(node="n", web=2, codec=BatonCodec(b"k" * 32), new_id=lambda: 1)
    assert table.is_here(table.owner(text))
    assert not other.is_here(other.owner(text))


def test_idle_streams_expire_and_are_remembered_for_a_while(table: StreamTable) -> None:
    old, old_baton = kept(table, 0.0, is_open=True)
    young, young_baton = kept(table, 30.0, is_open=True)
    assert table.expire(limits.STREAM_IDLE_S) == [old]
    with pytest.raises(StreamExpired):
        take(table, old_baton)
    assert take(table, young_baton) is young
    assert table.expire(1000.0) == []  # busy streams do not expire
    table.keep(young, 1000.0)
    table.expire(limits.STREAM_IDLE_S + EXPIRED_MEMORY_S + 1)
    table.expire_now(table.new("data"), limits.STREAM_IDLE_S + EXPIRED_MEMORY_S + 1)
    with pytest.raises(BatonError, match=f"^{CLOSED}$"):
        take(table, old_baton)


def test_use_keeps_a_stream_alive(table: StreamTable) -> None:
    stream, text = kept(table, 0.0, is_open=True)
    other, _ = kept(table, 10.0, is_open=True)
    take(table, text)
    assert table.keep(stream, 50.0) is not None
    assert table.expire(75.0) == [other]


def test_streams_that_hold_only_texts_live_long(table: StreamTable) -> None:
    stream, text = kept(table, 0.0)
    begun = table.new("data")
    begun.begun = GetAutocommit()
    assert table.keep(begun, 1.0) is not None
    assert table.expire(limits.STREAM_KEPT_S - 1) == []
    assert take(table, text) is stream
    assert table.keep(stream, limits.STREAM_KEPT_S) is not None
    assert table.expire(limits.STREAM_KEPT_S + 1) == [begun]


def test_number_of_streams_is_bounded(table: StreamTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_MAX", 2)
    stream, text = kept(table, is_open=True)
    kept(table, is_open=True)
    with pytest.raises(Overloaded):
        kept(table)
    take(table, text)
    assert table.keep(stream, 0.0) is not None  # those that are open go on


def test_longest_idle_stream_that_holds_nothing_makes_room(table: StreamTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_MAX", 3)
    _, open_text = kept(table, 0.0, is_open=True)
    _, first_text = kept(table, 1.0)
    second, second_text = kept(table, 2.0)
    kept(table, 3.0)
    with pytest.raises(StreamExpired):
        take(table, first_text)
    assert take(table, second_text) is second
    assert take(table, open_text)
    assert len(table) == 3


def test_texts_of_all_streams_are_bounded(table: StreamTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "STREAMS_CHARS_MAX", 3 * len("select 1"))
    first, first_text = kept(table, 0.0)
    for now in (1.0, 2.0):
        kept(table, now)
    take(table, first_text)
    first.texts.store(2, "select 1")
    assert table.keep(first, 3.0) is not None
    assert len(table) == 2
    first.texts.store(3, "select 1")
    first.texts.store(4, "select 1")
    assert table.keep(first, 4.0) is not None  # alone it may have what it has
    assert len(table) == 1


def test_stored_texts_are_bounded_in_number_and_length(table: StreamTable) -> None:
    stream = table.new("data")
    for number in range(limits.STORED_SQL_MAX):
        assert stream.texts.store(number, "x") is None
    refused = stream.texts.store(1000, "x")
    assert refused is not None
    assert refused.code == "SQL_STORE_TOO_MANY"
    assert stream.texts.refused == {1000: refused}
    stream.texts.close(1000)
    stream.texts.close(5)
    stream.texts.close(77777)
    too_long = stream.texts.store(5, "x" * (limits.SQL_SIZE_BYTES_MAX + 1))
    assert too_long is not None
    assert too_long.code == "SQL_STORE_TOO_LARGE"
    fresh = table.new("data")
    big = "x" * limits.SQL_SIZE_BYTES_MAX
    assert [fresh.texts.store(number, big) is None for number in range(5)] == [True] * 4 + [False]


def test_number_in_use_is_a_protocol_error(table: StreamTable) -> None:
    stream, _ = kept(table)
    with pytest.raises(HranaProtocolError, match="SQL text 1"):
        stream.texts.store(1, "select 2")


def test_sessions_have_numbers_of_their_own(table: StreamTable) -> None:
    assert len({table.new("data").session for _ in range(10)} - {0}) == 10
