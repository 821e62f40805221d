"""A cursor: the results of a batch as a row of entries, handed out piece by piece.

The batch has run to its end when the cursor is opened, within the limits of any answer; entries are made when they are
asked for, and the rows behind them are let go. Pure. Not here: where cursors live (`pando.sql.ws_session`), cursors
over HTTP (`pando.sql.http_encodings`), entries in protocol buffers (`pando.sql.protobuf_answers`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from pando import limits
from pando.sql.answers import encode_columns, error_body, row_values
from pando.store.requests import BatchResult, Failure, StatementResult

FETCH_BYTES_MAX: Final = limits.RESPONSE_SIZE_BYTES_MAX // 8
"""Entries in one answer (sqld's figure); one entry may be longer."""


class _StepBegin(msgspec.Struct, gc=False, tag_field="type", tag="step_begin"):
    step: int
    cols: msgspec.Raw


class _StepEnd(msgspec.Struct, gc=False, tag_field="type", tag="step_end"):
    affected_row_count: int
    last_insert_rowid: str | None


class _StepError(msgspec.Struct, gc=False, tag_field="type", tag="step_error"):
    step: int
    error: object


class _Row(msgspec.Struct, gc=False, tag_field="type", tag="row"):
    row: list[object]


class _Error(msgspec.Struct, gc=False, tag_field="type", tag="error"):
    error: object


class _Index(msgspec.Struct, gc=False, tag_field="type", tag="replication_index"):
    replication_index: str | None


_encode = msgspec.json.Encoder().encode

Entries = Callable[[BatchResult], Iterator[bytes]]
"""Writes the entries of a batch in one encoding."""


class Cursor:
    """What is left of one batch's entries."""

    def __init__(self, result: BatchResult, entries: Entries | None = None) -> None:
        self._entries = (entries or json_entries)(result)
        self._next = next(self._entries, None)

    @property
    def is_done(self) -> bool:
        """Tell whether all entries have been given."""
        return self._next is None

    def fetch(self, count_max: int, bytes_max: int = FETCH_BYTES_MAX) -> list[bytes]:
        """Give the next entries: at most so many, and together so long unless the first alone is longer."""
        fetched: list[bytes] = []
        size = 0
        while self._next is not None and len(fetched) < count_max:
            size += len(self._next)
            if fetched and size > bytes_max:
                break
            fetched.append(self._next)
            self._next = next(self._entries, None)
        return fetched


def json_entries(result: BatchResult) -> Iterator[bytes]:
    """Write the entries of the steps that ran, one by one; a skipped step has none."""
    for step, (rows, failure) in enumerate(zip(result.results, result.errors, strict=True)):
        if failure is not None:
            yield _encode(_StepError(step, error_body(failure)))
        elif rows is not None:
            yield from _step(step, rows)
            result.results[step] = None


def _step(step: int, result: StatementResult) -> Iterator[bytes]:
    yield _encode(_StepBegin(step, encode_columns(result.columns)))
    for row in result.rows:
        yield _encode(_Row(row_values(row)))
    rowid = result.last_insert_rowid
    yield _encode(_StepEnd(result.affected_row_count, None if rowid is None else str(rowid)))


def error_entry(failure: Failure) -> bytes:
    """Write why there are no further entries."""
    return _encode(_Error(error_body(failure)))


def index_entry(txid: int | None) -> bytes:
    """Write the `replication_index` that ends a cursor over HTTP: without it, clients think that it broke off."""
    return _encode(_Index(None if txid is None else str(txid)))
