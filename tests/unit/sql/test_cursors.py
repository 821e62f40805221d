from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pando.sql.cursors import FETCH_BYTES_MAX, Cursor
from pando.store.requests import BatchResult, Failure, StatementResult

COLUMNS = (("a", "INTEGER"), ("b", None))


def rows(*found: tuple[Any, ...], **rest: Any) -> StatementResult:
    return StatementResult(COLUMNS, list(found), **rest)


def decoded(entries: list[msgspec.Raw]) -> list[Any]:
    return [msgspec.json.decode(entry) for entry in entries]


def test_entries_of_steps_that_ran_failed_and_were_skipped() -> None:
    results = [rows((1, "x"), (None, b"\x00")), None, None, rows(affected_row_count=3, last_insert_rowid=1 << 60)]
    errors = [None, Failure("no", "SQLITE_CONSTRAINT", "SQLITE_CONSTRAINT_UNIQUE"), None, None]
    cursor = Cursor(BatchResult(results, errors))
    assert not cursor.is_done
    columns = [{"name": "a", "decltype": "INTEGER"}, {"name": "b", "decltype": None}]
    assert decoded(cursor.fetch(100)) == [
        {"type": "step_begin", "step": 0, "cols": columns},
        {"type": "row", "row": [{"type": "integer", "value": "1"}, {"type": "text", "value": "x"}]},
        {"type": "row", "row": [{"type": "null"}, {"type": "blob", "base64": "AA"}]},
        {"type": "step_end", "affected_row_count": 0, "last_insert_rowid": None},
        {
            "type": "step_error",
            "step": 1,
            "error": {"message": "no", "code": "SQLITE_CONSTRAINT", "extended_code": "SQLITE_CONSTRAINT_UNIQUE"},
        },
        {"type": "step_begin", "step": 3, "cols": columns},
        {"type": "step_end", "affected_row_count": 3, "last_insert_rowid": str(1 << 60)},
    ]
    assert cursor.is_done
    assert cursor.fetch(100) == []


def test_batch_without_steps_is_done_at_once() -> None:
    assert Cursor(BatchResult([], [])).is_done


def test_fetch_gives_no_more_than_asked_for() -> None:
    cursor = Cursor(BatchResult([rows((1, 1))], [None]))
    assert cursor.fetch(0) == []
    assert [entry["type"] for entry in decoded(cursor.fetch(1))] == ["step_begin"]
    assert [entry["type"] for entry in decoded(cursor.fetch(1))] == ["row"]
    assert not cursor.is_done
    assert [entry["type"] for entry in decoded(cursor.fetch(1))] == ["step_end"]
    assert cursor.is_done


def test_one_entry_longer_than_an_answer_goes_alone() -> None:
    cursor = Cursor(BatchResult([rows((1, "x" * FETCH_BYTES_MAX), (2, "y"))], [None]))
    sizes = []
    while not cursor.is_done:
        sizes.append([len(entry) for entry in cursor.fetch(10)])
    assert [len(each) for each in sizes] == [1, 1, 2]
    assert sizes[1][0] > FETCH_BYTES_MAX


@given(
    st.lists(st.lists(st.tuples(st.integers(0, 9), st.text(max_size=20)), max_size=8), max_size=4),
    st.integers(1, 5),
    st.integers(1, 200),
)
def test_pieces_joined_are_the_whole(steps: list[list[tuple[int, str]]], count: int, size: int) -> None:
    def batch() -> BatchResult:
        return BatchResult([rows(*step) for step in steps], [None] * len(steps))

    whole = Cursor(batch()).fetch(10_000)
    cursor, pieces = Cursor(batch()), []
    while not cursor.is_done:
        piece = cursor.fetch(count, size)
        assert 1 <= len(piece) <= count
        assert len(piece) == 1 or sum(map(len, piece)) <= size
        pieces += piece
    assert decoded(pieces) == decoded(whole)
