"""Protocol buffers as bytes: fields in and out, knowing nothing of Hrana. Pure.

Reading takes one field after the other out of a message; what is not asked for is skipped. Every length is compared
with what is there before anything is made of it, and a whole message may have `FIELDS_MAX` fields, since a few bytes
of a field cost far more time and memory here than on the wire. Not here: which field means what
(`pando.sql.protobuf_messages`, `pando.sql.protobuf_answers`).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from pando.sql.messages import HranaProtocolError

FIELDS_MAX: Final = 1_000_000
"""Fields of a message and all messages within it: about a second of work."""

VARINT: Final = 0
FIXED64: Final = 1
BYTES: Final = 2
FIXED32: Final = 5
"""Wire types; 3 and 4 (groups) no client of Hrana knows."""

_DOUBLE = struct.Struct("<d")
_VARINT_BYTES_MAX: Final = 10
_WORD: Final = (1 << 64) - 1


class ProtobufError(HranaProtocolError):
    """The bytes are no message of the protocol."""


class Message:
    """A message that is being read: `next`, then one of the methods that take the field's value, and so on."""

    __slots__ = ("_at", "_budget", "_data", "_end", "_kind", "_number")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._end = len(data)
        self._number = 0
        self._kind = -1
        self._budget = [FIELDS_MAX]

    def next(self) -> int:
        """Go to the next field, past the last one if it was not taken; gives its number, 0 at the end."""
        if self._kind >= 0:
            self._skip()
        if self._at >= self._end:
            return 0
        budget = self._budget
        budget[0] -= 1
        if budget[0] < 0:
            raise ProtobufError(f"the message has more than {FIELDS_MAX} fields; send less in one request")
        key = self._varint()
        self._number, self._kind = key >> 3, key & 7
        if not 0 < self._number < 1 << 29:
            raise ProtobufError(f"a field has the number {self._number}, which no field can have")
        return self._number

    # -- values of the present field --

    def uint64(self) -> int:
        """Take an unsigned integer."""
        self._expect(VARINT)
        return self._varint()

    def uint32(self) -> int:
        """Take an unsigned integer; as everywhere, what is longer is cut."""
        return self.uint64() & 0xFFFF_FFFF

    def int32(self) -> int:
        """Take a signed integer in two's complement."""
        low = self.uint64() & 0xFFFF_FFFF
        return low - (1 << 32) if low >= 1 << 31 else low

    def sint64(self) -> int:
        """Take a signed integer in zigzag encoding."""
        number = self.uint64()
        return (number >> 1) ^ -(number & 1)

    def boolean(self) -> bool:
        """Take a boolean."""
        return self.uint64() != 0

    def double(self) -> float:
        """Take a floating point number."""
        self._expect(FIXED64)
        start = self._at
        self._forward(8)
        number: float = _DOUBLE.unpack_from(self._data, start)[0]
        return number

    def blob(self) -> bytes:
        """Take bytes."""
        start = self._open()
        return self._data[start : self._at]

    def text(self) -> str:
        """Take a text; raises ProtobufError unless it is UTF-8."""
        start = self._open()
        try:
            return self._data[start : self._at].decode()
        except UnicodeDecodeError as error:
            raise ProtobufError(f"field {self._number} is not UTF-8") from error

    def message(self) -> Message:
        """Take a message; it reads from the same bytes."""
        inner = Message.__new__(Message)
        inner._at = self._open()
        inner._data, inner._end, inner._budget = self._data, self._at, self._budget
        inner._number, inner._kind = 0, -1
        return inner

    # -- bytes --

    def _expect(self, kind: int) -> None:
        if self._kind != kind:
            raise ProtobufError(f"field {self._number} has wire type {self._kind}, not {kind}")
        self._kind = -1

    def _open(self) -> int:
        """Go past a field of bytes; gives where it starts."""
        self._expect(BYTES)
        size = self._varint()
        start = self._at
        self._forward(size)
        return start

    def _forward(self, size: int) -> None:
        if size > self._end - self._at:
            raise ProtobufError(f"field {self._number} ends after {self._end - self._at} of {size} bytes")
        self._at += size

    def _varint(self) -> int:
        data, at, end = self._data, self._at, self._end
        if at < end and (byte := data[at]) < 0x80:  # nearly always
            self._at = at + 1
            return byte
        number = shift = 0
        for index in range(at, min(end, at + _VARINT_BYTES_MAX)):
            byte = data[index]
            number |= (byte & 0x7F) << shift
            if byte < 0x80:
                self._at = index + 1
                return number & _WORD
            shift += 7
        raise ProtobufError("a number in the message has no end")

    def _skip(self) -> None:
        kind = self._kind
        if kind == VARINT:
            self.uint64()
        elif kind == BYTES:
            self._open()
        elif kind in (FIXED64, FIXED32):
            self._kind = -1
            self._forward(8 if kind == FIXED64 else 4)
        else:
            raise ProtobufError(f"field {self._number} has wire type {kind}, which is not known here")


# -- writing ------------------------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    """Write an unsigned integer of 64 bits; a negative one in two's complement."""
    if 0 <= number < 0x80:
        return _SMALL[number]
    number &= _WORD
    written = bytearray()
    while number >= 0x80:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    written.append(number)
    return bytes(written)


_SMALL: Final = tuple(bytes((number,)) for number in range(0x80))


def number_field(field: int, number: int) -> bytes:
    """Write a field of an integer (uint64, int32, bool)."""
    return varint(field << 3) + varint(number)


def sint64_field(field: int, number: int) -> bytes:
    """Write a field of a signed integer in zigzag encoding."""
    return varint(field << 3) + varint((number << 1) ^ (number >> 63))


def double_field(field: int, number: float) -> bytes:
    """Write a field of a floating point number."""
    return varint(field << 3 | FIXED64) + _DOUBLE.pack(number)


def bytes_field(field: int, data: bytes) -> bytes:
    """Write a field of bytes, or of a message that is written already."""
    return b"%b%b%b" % (varint(field << 3 | BYTES), varint(len(data)), data)


def text_field(field: int, text: str) -> bytes:
    """Write a field of a text."""
    return bytes_field(field, text.encode("utf-8", "replace"))


def joined_field(field: int, parts: Iterable[bytes]) -> bytes:
    """Write a field of a message that is made of these parts."""
    return bytes_field(field, b"".join(parts))


def prefixed(message: bytes) -> bytes:
    """Write a message with its length in front, as one of several in a stream."""
    return varint(len(message)) + message
