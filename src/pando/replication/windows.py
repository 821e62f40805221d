"""Sizes that bound what is in flight on a link. The defaults are `pando.limits`; the simulator uses small ones."""

from __future__ import annotations

from dataclasses import dataclass

from pando import limits
from pando.errors import invariant


@dataclass(frozen=True, slots=True, kw_only=True)
class Windows:
    """Bytes, and counts, per link or per database; see `pando.limits` for the reasons."""

    batch_bytes: int = limits.SEND_BATCH_BYTES
    chunk_bytes: int = limits.SNAPSHOT_CHUNK_BYTES
    database_bytes: int = limits.SEND_WINDOW_BYTES
    link_bytes: int = limits.LINK_WINDOW_BYTES
    in_flight_bytes: int = limits.LINK_IN_FLIGHT_BYTES_MAX
    entry_bytes: int = limits.WIRE_ENTRY_BYTES_MAX
    log_reads: int = limits.LOG_READS_PER_LINK_MAX
    snapshots: int = limits.SNAPSHOTS_PER_LINK_MAX

    def __post_init__(self) -> None:
        sizes = (self.batch_bytes, self.database_bytes, self.link_bytes, self.in_flight_bytes)
        invariant(list(sizes) == sorted(sizes) and self.chunk_bytes <= self.database_bytes, "windows do not nest")

    @property
    def pending_bytes(self) -> int:
        """The most that an upstream that heeds the windows can have on its way for one database."""
        return self.database_bytes + self.entry_bytes


DEFAULT_WINDOWS = Windows()
