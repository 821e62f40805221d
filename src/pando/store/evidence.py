"""Keeps what is needed to understand a divergence: the entries in hand, both positions, the pages that differ.

Bounded: at most `EVIDENCE_BYTES_MAX` of entries per case, `CASES_MAX` cases per node, then nothing more is kept until
somebody takes some away. Not here: deciding that something diverged.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import msgspec

from pando import limits
from pando.errors import StorageError
from pando.store.files import FileSystem, make_directories, write_durably
from pando.store.segments import LogEntry
from pando.types import Position, format_txid

CASES_MAX: Final = 32
EVIDENCE_BYTES_MAX: Final = 64 * limits.MIB


def save_evidence(
    fs: FileSystem,
    directory: Path,
    *,
    database: str,
    wall_ms: int,
    reason: str,
    position: Position,
    bad_pages: Sequence[int],
    entries: Sequence[LogEntry],
) -> str:
    """Write a new directory `<database>-<time in ms>` and give its path; "" when it could not be kept.

    That evidence cannot be written must not keep a database from healing.
    """
    case = directory / f"{database}-{wall_ms}"
    try:
        if fs.exists(directory) and len(fs.listdir(directory)) >= CASES_MAX:
            return ""
        make_directories(fs, case)
        report = {
            "database": database,
            "time_ms": wall_ms,
            "reason": reason,
            "position": str(position),
            "differing_pages": list(bad_pages),
            "entries": [_described(entry) for entry in entries],
        }
        write_durably(fs, case / "report.json", msgspec.json.format(msgspec.json.encode(report), indent=2))
        _save_entries(fs, case, entries)
    except StorageError:
        return ""
    return str(case)


def _described(entry: LogEntry) -> dict[str, object]:
    return {
        "epoch": entry.epoch,
        "min_txid": format_txid(entry.min_txid),
        "max_txid": format_txid(entry.max_txid),
        "pre_checksum": f"{entry.pre_checksum:016x}",
        "post_checksum": f"{entry.post_checksum:016x}",
        "timestamp_ms": entry.timestamp_ms,
        "size_bytes": len(entry.payload),
    }


def _save_entries(fs: FileSystem, case: Path, entries: Sequence[LogEntry]) -> None:
    room = EVIDENCE_BYTES_MAX
    for entry in entries:
        room -= len(entry.payload)
        if room < 0:
            return
        name = f"{format_txid(entry.min_txid)}-{format_txid(entry.max_txid)}.ltx"
        write_durably(fs, case / name, entry.payload)
