"""Messages of libSQL's first protocol for local files (`wal_log`, `proxy`), as protocol buffers. Pure.

Programs become batches of ours, and results of batches theirs. Values are in bincode: a tag of 32 bits, then what it
names, all in little-endian. Not here: framing (`pando.sql.grpc_web`), who runs them (`pando.api.embedded_v1`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import apsw

from pando.errors import InvalidRequest
from pando.sql.protobuf_wire import Message, bytes_field, joined_field, number_field, text_field
from pando.store.requests import (
    And,
    Batch,
    BatchResult,
    Condition,
    Described,
    Failure,
    IsAutocommit,
    Not,
    Or,
    Statement,
    StatementResult,
    Step,
    StepError,
    StepOk,
    Value,
)

STEPS_MAX: Final = 10_000
CONDITION_DEPTH_MAX: Final = 50
CLIENT_ID_CHARS_MAX: Final = 64
_TAG: Final = struct.Struct("<I")
_INTEGER: Final = struct.Struct("<Iq")
_REAL: Final = struct.Struct("<Id")
_SIZED: Final = struct.Struct("<IQ")
_NULL, _INT, _FLOAT, _TEXT, _BLOB = range(5)
_ERROR_CODES: Final = {"TRANSACTION_BUSY": 1, "TRANSACTION_TIMEOUT": 2}


@dataclass(frozen=True, slots=True)
class Program:
    """What a client asks to run, and on which of its connections."""

    client: str
    batch: Batch


# -- wal_log ----------------------------------------------------------------------------------------------------------


def decode_offset(message: bytes) -> int:
    """Give the first frame wanted; raises InvalidRequest, HranaProtocolError."""
    wanted, flavour = 0, 0
    fields = Message(message)
    while number := fields.next():
        if number == 1:
            wanted = fields.uint64()
        elif number == 2:
            flavour = fields.uint64()
    if flavour:
        raise InvalidRequest("frames of libSQL's own WAL are not served, only SQLite's (wal_flavor 0)")
    return wanted


def check_hello(message: bytes) -> None:
    """Read a HelloRequest; raises HranaProtocolError."""
    fields = Message(message)
    while fields.next():
        continue


def encode_hello(log_id: str, session: str, index: int | None) -> bytes:
    """Write a HelloResponse. The configuration is not for clients."""
    message = text_field(1, log_id) + text_field(3, log_id) + text_field(4, session)
    return message if index is None else message + number_field(5, index)


def encode_frame(data: bytes, timestamp_ms: int = 0) -> bytes:
    """Write a Frame."""
    message = bytes_field(1, data)
    return message + number_field(2, timestamp_ms) if timestamp_ms > 0 else message


def encode_frames(frames: Iterable[bytes]) -> bytes:
    """Write Frames; each is written already."""
    return b"".join(bytes_field(1, frame) for frame in frames)


# -- proxy: in --------------------------------------------------------------------------------------------------------


def decode_program(message: bytes) -> Program:
    """Read a ProgramReq; raises InvalidRequest, HranaProtocolError."""
    client = ""
    steps: tuple[Step, ...] = ()
    fields = Message(message)
    while number := fields.next():
        if number == 1:
            client = fields.text()
        elif number == 2:
            steps = _steps(fields.message())
    return Program(_client(client), Batch(steps))


def decode_describe(message: bytes) -> tuple[str, str]:
    """Read a DescribeRequest: client and SQL. Raises InvalidRequest, HranaProtocolError."""
    client = sql = ""
    fields = Message(message)
    while number := fields.next():
        if number == 1:
            client = fields.text()
        elif number == 2:
            sql = fields.text()
    return _client(client), sql


def decode_disconnect(message: bytes) -> str:
    """Read a DisconnectMessage: the client. Raises InvalidRequest, HranaProtocolError."""
    return decode_describe(message)[0]


def _client(text: str) -> str:
    if not text or len(text) > CLIENT_ID_CHARS_MAX or not text.replace("-", "").isalnum() or not text.isascii():
        raise InvalidRequest(f"client_id is {text[:80]!r}; it must be a UUID")
    return text


def _steps(fields: Message) -> tuple[Step, ...]:
    steps: list[Step] = []
    while number := fields.next():
        if number == 1:
            if len(steps) >= STEPS_MAX:
                raise InvalidRequest(f"the program has more than {STEPS_MAX} steps")
            steps.append(_step(fields.message(), len(steps)))
    return tuple(steps)


def _step(fields: Message, index: int) -> Step:
    condition: Condition | None = None
    statement = Statement("")
    while number := fields.next():
        if number == 1:
            condition = _condition(fields.message(), index, CONDITION_DEPTH_MAX)
        elif number == 2:
            statement = _query(fields.message())
    return Step(statement, condition)


def _condition(fields: Message, index: int, depth: int) -> Condition:
    if not depth:
        raise InvalidRequest(f"a condition is nested deeper than {CONDITION_DEPTH_MAX}")
    found: Condition | None = None
    while number := fields.next():
        if number in (1, 2):
            step = _step_number(fields.message(), index)
            found = StepOk(step) if number == 1 else StepError(step)
        elif number == 3:
            inner = _conditions(fields.message(), index, depth)
            if len(inner) != 1:
                raise InvalidRequest("a `not` has exactly one condition")
            found = Not(inner[0])
        elif number in (4, 5):
            inner = _conditions(fields.message(), index, depth)
            found = And(inner) if number == 4 else Or(inner)
        elif number == 6:
            fields.message()
            found = IsAutocommit()
    if found is None:
        raise InvalidRequest("a condition is empty, or of a kind that is not known")
    return found


def _conditions(fields: Message, index: int, depth: int) -> tuple[Condition, ...]:
    found: list[Condition] = []
    while number := fields.next():
        if number == 1:
            found.append(_condition(fields.message(), index, depth - 1))
    return tuple(found)


def _step_number(fields: Message, index: int) -> int:
    step = 0
    while number := fields.next():
        if number == 1:
            step = fields.uint64()
    if step >= index:
        raise InvalidRequest(f"a condition of step {index} looks at step {step}, which does not come before it")
    return step


def _query(fields: Message) -> Statement:
    sql, want_rows = "", True
    args: tuple[Value, ...] = ()
    named: tuple[tuple[str, Value], ...] = ()
    while number := fields.next():
        if number == 1:
            sql = fields.text()
        elif number == 2:
            args = _named(fields.message(), 0, 1)[1]
        elif number == 3:
            names, values = _named(fields.message(), 1, 2)
            if len(names) != len(values):
                raise InvalidRequest(f"{len(names)} names came with {len(values)} values")
            named = tuple(zip(names, values, strict=True))
        elif number == 4:
            want_rows = not fields.boolean()
    return Statement(sql, args, named, want_rows)


def _named(fields: Message, name_field: int, value_field: int) -> tuple[list[str], tuple[Value, ...]]:
    names: list[str] = []
    values: list[Value] = []
    while number := fields.next():
        if number == name_field:
            names.append(fields.text())
        elif number == value_field:
            values.append(_value(fields.message()))
    return names, tuple(values)


def _value(fields: Message) -> Value:
    data = _TAG.pack(_NULL)
    while number := fields.next():
        if number == 1:
            data = fields.blob()
    return decode_value(data)


def decode_value(data: bytes) -> Value:
    """Read a value in bincode; raises InvalidRequest."""
    try:
        (tag,) = _TAG.unpack_from(data)
        if tag == _NULL:
            return None
        if tag == _INT:
            return int(_INTEGER.unpack(data)[1])
        if tag == _FLOAT:
            return float(_REAL.unpack(data)[1])
        size = _SIZED.unpack_from(data)[1]
        content = data[_SIZED.size :]
        if tag in (_TEXT, _BLOB) and size == len(content):
            return content.decode() if tag == _TEXT else content
    except (struct.error, UnicodeDecodeError) as error:
        raise InvalidRequest(f"a value of {len(data)} bytes cannot be read: {error}") from error
    raise InvalidRequest(f"a value of {len(data)} bytes with the tag {tag} cannot be read")


# -- proxy: out -------------------------------------------------------------------------------------------------------


def encode_value(value: Value) -> bytes:
    """Write a value in bincode."""
    if value is None:
        return _TAG.pack(_NULL)
    if isinstance(value, int):
        return _INTEGER.pack(_INT, value)
    if isinstance(value, float):
        return _REAL.pack(_FLOAT, value)
    if isinstance(value, str):
        content = value.encode("utf-8", "replace")
        return _SIZED.pack(_TEXT, len(content)) + content
    return _SIZED.pack(_BLOB, len(value)) + value


def encode_results(result: BatchResult | Failure, steps: int, *, is_autocommit: bool, frame: int | None) -> bytes:
    """Write ExecuteResults: one entry for each step, an empty one for what was skipped, as clients expect."""
    if isinstance(result, Failure):
        entries = [joined_field(1, [_error(1, result)])] * max(1, min(steps, 1))
    else:
        entries = [
            joined_field(1, [_error(1, error) if error is not None else joined_field(2, _rows(rows))])
            for rows, error in zip(result.results, result.errors, strict=True)
        ]
    message = b"".join(entries) + number_field(2, 0 if is_autocommit else 2)
    return message if frame is None else message + number_field(3, frame)


def encode_described(result: Described | Failure) -> bytes:
    """Write a DescribeResult."""
    if isinstance(result, Failure):
        return _error(1, result)
    names = [text_field(2, name) for name in result.parameters if name is not None]
    return joined_field(2, [*_columns(result.columns), *names, number_field(3, len(result.parameters))])


def _error(field: int, failure: Failure) -> bytes:
    code = _ERROR_CODES.get(failure.code, 0)
    return joined_field(
        field,
        [number_field(1, code), text_field(2, failure.message), number_field(3, sqlite_code(failure))],
    )


def sqlite_code(failure: Failure) -> int:
    """Give SQLite's number for a failure; that of a plain error for what is not SQLite's."""
    for name, numbers in (
        (failure.extended_code, apsw.mapping_extended_result_codes),
        (failure.code, apsw.mapping_result_codes),
    ):
        if name is not None and (found := numbers.get(name)) is not None:
            return int(found)
    return int(apsw.SQLITE_ERROR)


def _columns(columns: Sequence[tuple[str | None, str | None]]) -> list[bytes]:
    return [
        joined_field(1, [text_field(1, name or ""), *([] if kind is None else [text_field(3, kind)])])
        for name, kind in columns
    ]


def _rows(result: StatementResult | None) -> list[bytes]:
    if result is None:
        return []
    rows = [
        joined_field(2, [joined_field(1, [bytes_field(1, encode_value(value))]) for value in row])
        for row in result.rows
    ]
    parts = [*_columns(result.columns), *rows, number_field(3, result.affected_row_count)]
    if result.last_insert_rowid is not None:
        parts.append(number_field(4, result.last_insert_rowid))
    return parts
