"""Roaring bitmaps, in which clients of `/pull-updates` name the pages they want: reading the portable form, pure.

Bytes from outside are checked before use: sizes, order, counts. What is kept is at most as large as what was sent,
however many pages it names. (Libraries for this trust what they read.) Not here: writing bitmaps.
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Iterator
from typing import Final

from pando.errors import InvalidRequest

_NO_RUNS: Final = 12346
_RUNS: Final = 12347
_OFFSETS_FROM: Final = 4
"""With runs, the list of offsets is there from so many containers on."""
_ARRAY_MAX: Final = 4096
"""Containers with more values are bitmaps of 8 KiB."""
_BITS_BYTES: Final = 8192
_CONTAINERS_MAX: Final = 1 << 16


class PageSet:
    """Page numbers from 0. One container for each 65,536 of them, in the form in which it came."""

    def __init__(self, containers: list[tuple[int, array[int] | bytes, bool]]) -> None:
        self._containers = containers

    def below(self, limit: int) -> Iterator[int]:
        """Give the numbers under `limit`, ascending."""
        for high, values, is_runs in self._containers:
            low = high << 16
            if low >= limit:
                return
            for start, end in _spans(values, is_runs):
                yield from range(low + start, min(low + end, limit))


def _spans(values: array[int] | bytes, is_runs: bool) -> Iterator[tuple[int, int]]:
    """Give the values of a container as (first, behind the last)."""
    if isinstance(values, bytes):
        for at, byte in enumerate(values):
            if byte:
                yield from ((at * 8 + bit, at * 8 + bit + 1) for bit in range(8) if byte >> bit & 1)
    elif is_runs:
        yield from ((values[at], values[at] + values[at + 1] + 1) for at in range(0, len(values), 2))
    else:
        yield from ((value, value + 1) for value in values)


def decode_bitmap(data: bytes) -> PageSet:
    """Read a bitmap; raises InvalidRequest."""
    try:
        return PageSet(_containers(data))
    except (struct.error, IndexError) as error:
        raise _refusal("it ends too early") from error


def _refusal(reason: str) -> InvalidRequest:
    return InvalidRequest(f"the selection of pages is no Roaring bitmap: {reason}")


def _containers(data: bytes) -> list[tuple[int, array[int] | bytes, bool]]:
    cookie = struct.unpack_from("<I", data)[0]
    at = 4
    runs = b""
    if cookie & 0xFFFF == _RUNS:
        count = (cookie >> 16) + 1
        runs = data[at : at + (count + 7) // 8]
        at += (count + 7) // 8
    elif cookie == _NO_RUNS:
        count = struct.unpack_from("<I", data, at)[0]
        at += 4
    else:
        raise _refusal(f"it begins with {cookie}")
    if count > _CONTAINERS_MAX:
        raise _refusal(f"it has {count} containers")
    keys = _shorts(data, at, 2 * count)
    at += 4 * count
    if not runs or count >= _OFFSETS_FROM:
        at += 4 * count  # where each container begins: they follow each other, so nobody needs it
    found: list[tuple[int, array[int] | bytes, bool]] = []
    before = -1
    for index in range(count):
        high, size = keys[2 * index], keys[2 * index + 1] + 1
        if high <= before:
            raise _refusal("its containers are not in order")
        before = high
        is_runs = bool(runs) and bool(runs[index // 8] >> (index % 8) & 1)
        values, at = _container(data, at, size, is_runs)
        found.append((high, values, is_runs))
    if at != len(data):
        raise _refusal(f"{len(data) - at} bytes follow it")
    return found


def _container(data: bytes, at: int, size: int, is_runs: bool) -> tuple[array[int] | bytes, int]:
    """Give the values of one container, and where the next one begins."""
    if is_runs:
        count = struct.unpack_from("<H", data, at)[0]
        values = _shorts(data, at + 2, 2 * count)
        _check_runs(values)
        return values, at + 2 + 4 * count
    if size > _ARRAY_MAX:
        bits = data[at : at + _BITS_BYTES]
        if len(bits) < _BITS_BYTES:
            raise _refusal("it ends too early")
        return bits, at + _BITS_BYTES
    values = _shorts(data, at, size)
    if any(values[index] <= values[index - 1] for index in range(1, size)):
        raise _refusal("its values are not in order")
    return values, at + 2 * size


def _check_runs(values: array[int]) -> None:
    end = -1
    for at in range(0, len(values), 2):
        if values[at] <= end or values[at] + values[at + 1] > 0xFFFF:
            raise _refusal("its runs are not in order")
        end = values[at] + values[at + 1]


def _shorts(data: bytes, at: int, count: int) -> array[int]:
    part = data[at : at + 2 * count]
    if len(part) < 2 * count:
        raise _refusal("it ends too early")
    values = array("H", part)
    if sys.byteorder == "big":
        values.byteswap()
    return values
