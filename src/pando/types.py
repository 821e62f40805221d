"""The words of the project as types: transaction ids, page numbers, epochs, checksums, positions, bookmarks.

Text forms have a fixed width so that text order is numeric order. This module does no I/O and imports nothing of
Pando but its errors."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import NewType

from pando.errors import InvalidBookmark, InvalidDatabaseName

TXID = NewType("TXID", int)
"""Number of a commit of one database, from 1, without gaps; 0 means "no commit yet"."""

Pgno = NewType("Pgno", int)
"""SQLite page number, from 1."""

Epoch = NewType("Epoch", int)
"""Grows by one with each new primary or new history; the fencing token on every message and file."""

Checksum = NewType("Checksum", int)
"""64-bit checksum with bit 63 set (LTX: CRC-64/GO-ISO); 0 means "not known"."""

EMPTY_CHECKSUM = Checksum(1 << 63)
"""Rolling checksum of a database without pages."""

DEFAULT_DATABASE = "data"
"""Name of the default database, the file `DIR/data.db`. sqld calls it `default`; both names are accepted."""

SYSTEM_DATABASE = "_pando"
"""Name of the database of configurations and tokens. Clients can neither make nor write it."""


def format_txid(txid: TXID) -> str:
    """Give the TXID as 16 lower-case hex digits."""
    return f"{txid:016x}"


def format_checksum(checksum: Checksum) -> str:
    """Give the checksum as 16 lower-case hex digits."""
    return f"{checksum:016x}"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Position:
    """A place in the history of one database. Equal positions mean equal bytes."""

    epoch: Epoch
    txid: TXID
    checksum: Checksum

    def __str__(self) -> str:
        return f"{self.epoch}/{format_txid(self.txid)}/{format_checksum(self.checksum)}"


NO_POSITION = Position(epoch=Epoch(0), txid=TXID(0), checksum=EMPTY_CHECKSUM)
"""The position of a database that has no history yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bookmark:
    """What a client carries from node to node: "not older than this commit of this database"."""

    database: str
    epoch: Epoch
    txid: TXID

    def __str__(self) -> str:
        return f"{self.database}.{self.epoch:x}.{self.txid:x}"


_BOOKMARK = re.compile(r"([A-Za-z0-9_-]{1,128})\.([0-9a-f]{1,12})\.([0-9a-f]{1,16})")


def parse_bookmark(text: str) -> Bookmark:
    """Read the text form of a bookmark; raises InvalidBookmark."""
    found = _BOOKMARK.fullmatch(text)
    if not found:
        raise InvalidBookmark(f"this is not a Pando bookmark: {text[:80]!r}; send back the header as it came")
    database, epoch, txid = found.groups()
    return Bookmark(database=database, epoch=Epoch(int(epoch, 16)), txid=TXID(int(txid, 16)))


_DATABASE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,127}")


def parse_database_name(text: str) -> str:
    """Check a database name (it becomes a file name); `default` is the default one. Raises InvalidDatabaseName."""
    if text in {"", "default"}:
        return DEFAULT_DATABASE
    if not _DATABASE_NAME.fullmatch(text):
        raise InvalidDatabaseName(
            f"{text[:140]!r} is no database name: use 1 to 128 letters, digits, '_' or '-', not starting with '-'"
        )
    return text


class Role(StrEnum):
    """What a node does in the cluster."""

    PRIMARY = "primary"
    REPLICA = "replica"


class Durability(StrEnum):
    """When a write is answered: fsynced here, in the logs of a majority, or shown by every replica that keeps up."""

    ASYNC = "async"
    QUORUM = "quorum"
    ALL = "all"


LOCK_BYTE = 0x40000000
"""Offset of SQLite's lock byte; the page that holds it is never stored."""


def lock_pgno(page_size: int) -> Pgno:
    """Give the number of the lock page, which no LTX file holds."""
    return Pgno(LOCK_BYTE // page_size + 1)


def is_page_size(value: int) -> bool:
    """Tell whether SQLite allows this page size: a power of two from 512 to 65536."""
    return 512 <= value <= 65536 and value & (value - 1) == 0
