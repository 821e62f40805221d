"""Looks behind damage in a write-ahead log for proof that something was committed there. Pure; slow paths only.

Proof is a frame with a commit mark whose checksum continues that of the frame before it, as that frame states it: what
a savepoint rolled back, or what is left of an older generation, cannot have both the present salts and a commit mark.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from pando.types import is_page_size
from pando.wal.checksum import extend_checksum
from pando.wal.format import FRAME, FRAME_HEADER_SIZE, HEADER_SIZE, WalHeader, frame_checksum

_Pread = Callable[[int, int], bytes]
_Sum = tuple[int, int]


class _Before(NamedTuple):
    """What is known of the frame before: its salts, and the sums from which the chain may go on."""

    salts: tuple[int, int]
    sums: tuple[_Sum, ...]


def has_commit_behind(pread: _Pread, header: WalHeader, damaged: int, computed: _Sum) -> bool:
    """Tell whether a commit of the header's generation lies behind the damaged frame (number from 0).

    `computed`: the chain after the damaged frame as its bytes give it, in case only its stated checksum is damaged.
    """
    stride = FRAME_HEADER_SIZE + header.page_size
    head = pread(HEADER_SIZE + damaged * stride, FRAME_HEADER_SIZE)
    if len(head) < FRAME_HEADER_SIZE:
        return False
    first = _Before(header.salts, (_stated(head), computed))
    return _search(pread, header.page_size, header.big_endian, damaged + 1, first, header.salts)


def has_commit_behind_header(pread: _Pread, raw: bytes, page_size: int | None) -> bool:
    """Tell whether a commit lies behind a file header that is damaged, whatever it may have said."""
    stated = int.from_bytes(raw[8:12], "big")
    known = stated if is_page_size(stated) else page_size
    sizes = {known, page_size} - {None} if known else {512 << shift for shift in range(8)}
    for big_endian in (False, True):
        sums = [extend_checksum((0, 0), raw[:24].ljust(24, b"\0"), big_endian=big_endian)]
        if len(raw) == HEADER_SIZE:
            sums.append((int.from_bytes(raw[24:28], "big"), int.from_bytes(raw[28:32], "big")))
        for size in sizes:
            if size and _search(pread, size, big_endian, 0, _Before((0, 0), tuple(sums)), None):
                return True
    return False


def _stated(head: bytes) -> _Sum:
    _, _, _, _, sum1, sum2 = FRAME.unpack(head)
    return sum1, sum2


def _search(
    pread: _Pread, page_size: int, big_endian: bool, number: int, before: _Before, salts: tuple[int, int] | None
) -> bool:
    """Go through frames from `number` on; without `salts`, each but the first must have those of the one before."""
    stride = FRAME_HEADER_SIZE + page_size
    is_first = True
    while True:
        offset = HEADER_SIZE + number * stride
        head = pread(offset, FRAME_HEADER_SIZE)
        if len(head) < FRAME_HEADER_SIZE:
            return False
        pgno, commit, salt1, salt2, sum1, sum2 = FRAME.unpack(head)
        own = (salt1, salt2)
        is_kin = own == (before.salts if salts is None else salts) or (salts is None and is_first)
        if is_kin and pgno and commit:
            page = pread(offset + FRAME_HEADER_SIZE, page_size)
            if len(page) == page_size and any(
                frame_checksum(sums, head, page, big_endian=big_endian) == (sum1, sum2) for sums in before.sums
            ):
                return True
        before = _Before(own, ((sum1, sum2),))
        number, is_first = number + 1, False
