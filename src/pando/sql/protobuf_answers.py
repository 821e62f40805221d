"""What `pando.store.requests` defines as results, written as Hrana 3's protocol buffers. Pure: values in, bytes out.

Fields that have their default are left out, as usual. Not here: requests (`pando.sql.protobuf_messages`), the same in
JSON (`pando.sql.answers`, `pando.sql.cursors`, `pando.sql.ws_messages`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from functools import lru_cache

from pando.errors import invariant
from pando.sql.protobuf_wire import (
    bytes_field,
    double_field,
    joined_field,
    number_field,
    sint64_field,
    text_field,
    varint,
)
from pando.store import requests as store
from pando.store.requests import Failure, Result, StatementResult, Value

_DOUBLE = struct.Struct("<d")

Columns = tuple[tuple[str | None, str | None], ...]

# -- parts that HTTP and WebSocket share ---------------------------------------------------------------------------


def encode_row(row: tuple[Value, ...]) -> bytes:
    """Write a row. Hot: the fields of a value are written out by hand."""
    parts: list[bytes] = []
    for value in row:
        kind = type(value)
        if kind is str:
            data = value.encode()  # type: ignore[union-attr]
            written = b"\x22%b%b" % (varint(len(data)), data)
        elif kind is int:
            written = b"\x10" + varint((value << 1) ^ (value >> 63))  # type: ignore[operator]
        elif value is None:
            written = b"\x0a\x00"
        elif kind is float:
            written = b"\x19" + _DOUBLE.pack(value)
        else:
            written = bytes_field(5, value)  # type: ignore[arg-type]
        parts.append(b"\x0a%b%b" % (varint(len(written)), written))
    return b"".join(parts)


def _optional_text(field: int, text: str | None) -> bytes:
    return b"" if text is None else text_field(field, text)


def _optional_number(field: int, number: int | None) -> bytes:
    return b"" if number is None else number_field(field, number)


def _nonzero(field: int, number: int) -> bytes:
    return number_field(field, number) if number else b""


@lru_cache(maxsize=512)
def _columns(field: int, columns: Columns) -> bytes:
    return b"".join(
        joined_field(field, (_optional_text(1, name), _optional_text(2, decltype))) for name, decltype in columns
    )


def encode_error(failure: Failure) -> bytes:
    """Write an error; there is no field for `extended_code`."""
    return text_field(1, failure.message) + text_field(2, failure.code)


def _rows(result: StatementResult, index: int | None) -> bytes:
    parts = [_columns(1, result.columns)]
    parts += [bytes_field(2, encode_row(row)) for row in result.rows]
    parts.append(_nonzero(3, result.affected_row_count))
    if result.last_insert_rowid is not None:
        parts.append(sint64_field(4, result.last_insert_rowid))
    parts.append(_optional_number(5, index))
    parts.append(_nonzero(6, result.rows_read))
    parts.append(_nonzero(7, result.rows_written))
    if result.duration_ms:
        parts.append(double_field(8, result.duration_ms))
    return b"".join(parts)


def _batch(result: store.BatchResult, index: int | None) -> bytes:
    """Write what is there of the steps, by their numbers."""
    parts = [
        joined_field(1, (number_field(1, step), bytes_field(2, _rows(rows, index))))
        for step, rows in enumerate(result.results)
        if rows is not None
    ]
    parts += [
        joined_field(2, (number_field(1, step), bytes_field(2, encode_error(failure))))
        for step, failure in enumerate(result.errors)
        if failure is not None
    ]
    return b"".join(parts)


def _described(result: store.Described) -> bytes:
    parameters = b"".join(bytes_field(1, _optional_text(1, name)) for name in result.parameters)
    columns = _columns(2, tuple((name or "", decltype) for name, decltype in result.columns))
    return parameters + columns + _nonzero(3, result.is_explain) + _nonzero(4, result.is_readonly)


_WORDS = {"close": 1, "execute": 2, "batch": 3, "sequence": 4, "describe": 5, "store_sql": 6, "close_sql": 7}
_GET_AUTOCOMMIT = 8
_WS_WORDS = {
    "open_stream": 2,
    "close_stream": 3,
    "execute": 4,
    "batch": 5,
    "open_cursor": 6,
    "close_cursor": 7,
    "fetch_cursor": 8,
    "sequence": 9,
    "describe": 10,
    "store_sql": 11,
    "close_sql": 12,
    "get_autocommit": 13,
}


def _response(result: Result | str, index: int | None) -> tuple[str, bytes]:
    """Give the kind of a response and what it holds; no Failure."""
    if type(result) is StatementResult:
        return "execute", bytes_field(1, _rows(result, index))
    if isinstance(result, store.BatchResult):
        return "batch", bytes_field(1, _batch(result, index))
    if isinstance(result, store.Described):
        return "describe", bytes_field(1, _described(result))
    if isinstance(result, store.Autocommit):
        return "get_autocommit", _nonzero(1, result.is_autocommit)
    return "sequence" if isinstance(result, store.Done) else str(result), b""


# -- HTTP ----------------------------------------------------------------------------------------------------------


def encode_answer_protobuf(
    results: Sequence[Result | str], *, baton: str | None, base_url: str | None = None, txid: int | None = None
) -> bytes:
    """Write the answer of a pipeline, as `pando.sql.answers.encode_answer` does in JSON."""
    parts = [_optional_text(1, baton), _optional_text(2, base_url)]
    for result in results:
        if isinstance(result, Failure):
            parts.append(joined_field(3, (bytes_field(2, encode_error(result)),)))
            continue
        kind, held = _response(result, txid)
        field = _WORDS.get(kind, _GET_AUTOCOMMIT)
        parts.append(joined_field(3, (bytes_field(1, bytes_field(field, held)),)))
    return b"".join(parts)


def encode_cursor_head_protobuf(baton: str | None, base_url: str | None) -> bytes:
    """Write what comes before the entries of a cursor."""
    return _optional_text(1, baton) + _optional_text(2, base_url)


# -- cursors -------------------------------------------------------------------------------------------------------


def protobuf_entries(result: store.BatchResult) -> Iterator[bytes]:
    """Write the entries of the steps that ran, one by one; rows that were written are let go."""
    for step, (rows, failure) in enumerate(zip(result.results, result.errors, strict=True)):
        if failure is not None:
            yield joined_field(3, (_nonzero(1, step), bytes_field(2, encode_error(failure))))
        elif rows is not None:
            yield joined_field(1, (_nonzero(1, step), _columns(2, rows.columns)))
            for row in rows.rows:
                yield bytes_field(4, encode_row(row))
            rowid = b"" if rows.last_insert_rowid is None else sint64_field(2, rows.last_insert_rowid)
            yield joined_field(2, (_nonzero(1, rows.affected_row_count), rowid))
            result.results[step] = None


def error_entry_protobuf(failure: Failure) -> bytes:
    """Write why there are no further entries."""
    return bytes_field(5, encode_error(failure))


def index_entry_protobuf(txid: int | None) -> bytes:
    """Write the `replication_index` that ends a cursor for those who know it; nothing is an entry too."""
    return _optional_number(6, txid)


# -- WebSocket -----------------------------------------------------------------------------------------------------

HELLO_OK_PROTOBUF = bytes_field(1, b"")


def encode_hello_error_protobuf(failure: Failure) -> bytes:
    """Write why the client is not welcome."""
    return bytes_field(2, bytes_field(1, encode_error(failure)))


def encode_response_protobuf(request_id: int, result: Result | str, txid: int | None = None) -> bytes:
    """Write the answer of a request, as `pando.sql.ws_messages.encode_response` does in JSON."""
    if isinstance(result, Failure):
        return joined_field(4, (_nonzero(1, request_id), bytes_field(2, encode_error(result))))
    kind, held = _response(result, txid)
    invariant(kind in _WS_WORDS, "every kind of response has a number", kind=kind)
    return joined_field(3, (_nonzero(1, request_id), bytes_field(_WS_WORDS[kind], held)))


def encode_fetched_protobuf(request_id: int, entries: Sequence[bytes], *, is_done: bool) -> bytes:
    """Write entries of a cursor."""
    held = b"".join([bytes_field(1, entry) for entry in entries]) + _nonzero(2, is_done)
    return joined_field(3, (_nonzero(1, request_id), bytes_field(8, held)))
