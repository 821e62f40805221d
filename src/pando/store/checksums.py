"""One checksum per page, and the rolling checksum of the whole database (XOR of all, lock page excluded).

The table costs 8 bytes a page (2 MiB for a database of 1 GiB). Page images given here are normalised already (see
`pando.ltx.normalise_page_one`). Not here: reading pages.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from pando.errors import invariant
from pando.types import Checksum, Pgno

_FLAG = 1 << 63
_MASK = _FLAG - 1


class PageChecksums:
    """The checksum of every page of one database; index 0 of the table is page 1, 0 stands for "no page" (the lock
    page).
    """

    __slots__ = ("_table", "_xor")

    def __init__(self) -> None:
        self._table = array("Q")
        self._xor = 0

    @property
    def page_count(self) -> int:
        """Size of the database in pages."""
        return len(self._table)

    @property
    def rolling(self) -> Checksum:
        """Rolling checksum of the database."""
        return Checksum(self._xor & _MASK | _FLAG)

    def get(self, pgno: Pgno) -> Checksum:
        """Give the checksum of a page, 0 when there is none."""
        return Checksum(self._table[pgno - 1]) if 0 < pgno <= len(self._table) else Checksum(0)

    def put(self, pgno: Pgno, checksum: Checksum) -> None:
        """Set the checksum of a page, growing the table as needed."""
        table = self._table
        if pgno > len(table):
            table.extend([0] * (pgno - len(table)))
        self._xor ^= table[pgno - 1] ^ checksum
        table[pgno - 1] = checksum

    def resize(self, page_count: int) -> None:
        """Set the size of the database; the checksums of pages past the end go."""
        table = self._table
        if page_count < len(table):
            for checksum in table[page_count:]:
                self._xor ^= checksum
            del table[page_count:]
        elif page_count > len(table):
            table.extend([0] * (page_count - len(table)))

    def update(self, pages: Iterable[tuple[Pgno, Checksum]], page_count: int) -> Checksum:
        """Apply one commit: the new checksums of its pages and the new size. Gives the rolling checksum after it."""
        self.resize(page_count)
        for pgno, checksum in pages:
            invariant(0 < pgno <= page_count, "a commit wrote a page past its end", pgno=pgno, page_count=page_count)
            self.put(pgno, checksum)
        return self.rolling

    def copy(self) -> PageChecksums:
        """Give an independent copy."""
        twin = PageChecksums()
        twin._table = self._table[:]
        twin._xor = self._xor
        return twin

    def assign(self, other: PageChecksums) -> None:
        """Become what another table is; the other one must not be used any more."""
        self._table, self._xor = other._table, other._xor

    def differing(self, other: PageChecksums, *, most: int = 1000) -> list[Pgno]:
        """Name pages (at most `most`) whose checksums differ between two tables."""
        size = max(self.page_count, other.page_count)
        found: list[Pgno] = []
        for number in range(1, size + 1):
            if self.get(Pgno(number)) != other.get(Pgno(number)):
                found.append(Pgno(number))
                if len(found) >= most:
                    break
        return found
