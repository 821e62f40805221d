"""Values of Python as values of SQLite on the wire, and back; the type objects and constructors of PEP 249. Pure.

`None`, `int`, `float`, `str` and bytes travel as they are, `bool` as 0 or 1, dates and times as ISO text, as the
standard library's `sqlite3` has it. Not here: rows and descriptions (`pando.client.results`).
"""

from __future__ import annotations

import binascii
import datetime
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from pando.client.exceptions import DataError, ProgrammingError
from pando.client.wire import NamedArgument, Statement, Value
from pando.store.tokens import tokens

SqlValue = None | int | float | str | bytes
"""What comes back."""
Parameters = Sequence[Any] | Mapping[str, Any]
"""What goes out: in order, or by name."""

_NULL: Final = Value("null")


def encode_value(value: object) -> Value:
    """Give a value as it travels; raises DataError, ProgrammingError."""
    if value is None:
        return _NULL
    if isinstance(value, str):
        return Value("text", str(value))
    if isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 63:
            raise DataError(f"the integer {_short(value)} does not fit into 64 bits; send it as text")
        return Value("integer", str(int(value)))
    if isinstance(value, float):
        return _float(value)
    if isinstance(value, bytes | bytearray | memoryview):
        return Value("blob", base64=binascii.b2a_base64(value, newline=False).decode("ascii").rstrip("="))
    if isinstance(value, datetime.datetime):
        return Value("text", value.isoformat(" "))
    if isinstance(value, datetime.date | datetime.time):
        return Value("text", value.isoformat())
    raise ProgrammingError(f"a {type(value).__name__} cannot be a parameter; convert it to a number, text or bytes")


def _short(value: int) -> str:
    return hex(value) if value.bit_length() <= 256 else f"of {value.bit_length()} bits"


def _float(value: float) -> Value:
    if math.isnan(value):
        return _NULL  # SQLite keeps NaN as NULL
    if math.isinf(value):
        raise DataError(f"{value} cannot be sent as a parameter; write 9e999 or -9e999 in the statement")
    return Value("float", float(value))


def decode_value(value: Value) -> SqlValue:
    """Give a received value. An infinite float travels without its sign, and comes as NaN."""
    kind = value.type
    if kind == "text":
        return value.value
    if kind == "integer":
        return int(value.value or 0)
    if kind == "null":
        return None
    if kind == "float":
        return math.nan if value.value is None else float(value.value)
    text = value.base64 or ""
    return binascii.a2b_base64(text + "=" * (-len(text) % 4))


def make_statement(sql: str, parameters: Parameters, *, want_rows: bool = True) -> Statement:
    """Put a statement together. By name, only what the statement names is sent; raises ProgrammingError, DataError."""
    if not isinstance(sql, str):
        raise ProgrammingError(f"a statement is text, not {type(sql).__name__}")
    if isinstance(parameters, Mapping):
        return Statement(sql, named_args=_named(sql, parameters), want_rows=want_rows)
    if isinstance(parameters, str | bytes) or not isinstance(parameters, Sequence):
        raise ProgrammingError(f"parameters are a sequence or a mapping, not {type(parameters).__name__}")
    return Statement(sql, args=[encode_value(value) for value in parameters], want_rows=want_rows)


def _named(sql: str, parameters: Mapping[str, Any]) -> list[NamedArgument]:
    names = dict.fromkeys(text for kind, text in tokens(sql) if kind == "param" and text[0] != "?")
    found = []
    for name in names:
        if name[1:] not in parameters and name not in parameters:
            raise ProgrammingError(f"the statement has the parameter {name}, and no value is given for it")
        value = parameters[name[1:]] if name[1:] in parameters else parameters[name]
        found.append(NamedArgument(name, encode_value(value)))
    return found


# -- PEP 249 ----------------------------------------------------------------------------------------------------------

Binary = bytes
Date = datetime.date
Time = datetime.time
Timestamp = datetime.datetime


def DateFromTicks(ticks: float) -> datetime.date:  # noqa: N802 - the name is PEP 249's
    """Give the local date of a time in seconds since 1970."""
    return datetime.datetime.fromtimestamp(ticks).date()


def TimeFromTicks(ticks: float) -> datetime.time:  # noqa: N802
    """Give the local time of day of a time in seconds since 1970."""
    return datetime.datetime.fromtimestamp(ticks).time()


def TimestampFromTicks(ticks: float) -> datetime.datetime:  # noqa: N802
    """Give the local date and time of a time in seconds since 1970."""
    return datetime.datetime.fromtimestamp(ticks)


class TypeObject:
    """Equal to every declared type (of `description`) that has one of its words, by SQLite's rules of affinity."""

    def __init__(self, name: str, *words: str) -> None:
        self.name = name
        self._words = words

    def __eq__(self, other: object) -> bool:
        if isinstance(other, TypeObject):
            return self is other
        return isinstance(other, str) and any(word in other.upper() for word in self._words)

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return self.name


STRING = TypeObject("STRING", "CHAR", "CLOB", "TEXT")
BINARY = TypeObject("BINARY", "BLOB")
NUMBER = TypeObject("NUMBER", "INT", "REAL", "FLOA", "DOUB", "NUM", "DEC", "BOOL")
DATETIME = TypeObject("DATETIME", "DATE", "TIME")
ROWID = TypeObject("ROWID", "INTEGER PRIMARY KEY")
