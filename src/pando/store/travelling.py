"""What goes from node to node: entries of the log, as a log would hold them at its very start, and whole files.

Not here: when they go (`pando.replication`), the links (`pando.store.sending`, `pando.store.receiving`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pando import limits
from pando.errors import CorruptionError
from pando.ltx import crc64
from pando.replication.entry import Entry
from pando.store.segments import LogEntry, decode_entry

_READ_BYTES: Final = 1 * limits.MIB


def decode_travelling(data: bytes) -> LogEntry:
    """Read an entry that came from another node; raises CorruptionError."""
    entry = decode_entry(data, 0, 0)
    if entry is None:
        raise CorruptionError(f"{len(data)} bytes from the upstream are no whole log entry")
    return entry


def travelling(entry: LogEntry, data: bytes) -> Entry:
    """Give an entry and its bytes as the decisions of replication see it."""
    return Entry(
        epoch=entry.epoch,
        min_txid=entry.min_txid,
        max_txid=entry.max_txid,
        pre_checksum=entry.pre_checksum,
        post_checksum=entry.post_checksum,
        timestamp_ms=entry.timestamp_ms,
        data=data,
    )


def describe(data: bytes) -> Entry:
    """Read the envelope of an entry that came from another node; raises CorruptionError."""
    return travelling(decode_travelling(data), data)


def crc_of_file(path: Path) -> int:
    """Give the checksum by which a file is compared with the one that was sent."""
    crc = 0
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            crc = crc64(data, crc)
    return crc
