"""SQLite's write-ahead log file: format, running checksum, and an incremental reader. Pure: no I/O."""

from pando.wal.format import WalHeader, decode_header
from pando.wal.reader import ReadEnd, WalCommit, WalRead, WalReader

__all__ = ["ReadEnd", "WalCommit", "WalHeader", "WalRead", "WalReader", "decode_header"]
