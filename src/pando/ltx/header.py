"""The fixed parts of an LTX file: the 100-byte header and the 16-byte trailer, and the rules between their fields.

Byte tables are in docs/formats-ltx.md. Not here: pages (`encoder`, `decoder`) and rules about their order (`sequence`).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from enum import Enum, IntFlag
from typing import Final

from pando.ltx.checksum import CHECKSUM_FLAG
from pando.ltx.failures import broken, empty, hex64, truncated
from pando.types import EMPTY_CHECKSUM, TXID, Checksum, is_page_size

MAGIC: Final = b"LTX1"
HEADER_SIZE: Final = 100
TRAILER_SIZE: Final = 16

_HEADER = struct.Struct(">4sIIIQQqQqqIIQ20s")
_TRAILER = struct.Struct(">QQ")
_RESERVED = bytes(20)
_U32_MAX = (1 << 32) - 1
_U64_MAX = (1 << 64) - 1
_I64_MAX = (1 << 63) - 1


class HeaderFlags(IntFlag):
    """Bits of the header's flags field; all others must be zero."""

    NONE = 0
    NO_CHECKSUM = 2


NO_CHECKSUM: Final = Checksum(0)
"""Stands where a checksum would, in snapshots (pre-apply) and in files without checksums."""

_FLAG_NO_CHECKSUM: Final = int(HeaderFlags.NO_CHECKSUM)


class Encoding(Enum):
    """How a file is written. Both hold the same transaction and both are always read.

    STREAM: rolling checksums, each page an LZ4 block. BACKUP: no rolling checksums, each page an LZ4 frame, which is
    what every litestream v0.5 restores (it refuses files with rolling checksums, and before v0.5.16 blocks).
    """

    STREAM = "stream"
    BACKUP = "backup"


@dataclass(frozen=True, slots=True, kw_only=True)
class LtxHeader:
    """What a file says of itself. `commit` is the size of the database in pages after `max_txid`; 0: it was deleted."""

    page_size: int
    commit: int
    min_txid: TXID
    max_txid: TXID
    timestamp_ms: int = 0
    pre_apply_checksum: Checksum = NO_CHECKSUM
    flags: int = 0
    wal_offset: int = 0
    wal_size: int = 0
    wal_salt1: int = 0
    wal_salt2: int = 0
    node_id: int = 0

    @property
    def is_snapshot(self) -> bool:
        """Tell whether the file holds the whole database: exactly when it starts at the first transaction."""
        return self.min_txid == 1

    @property
    def has_checksums(self) -> bool:
        """Tell whether the file carries rolling checksums."""
        return not self.flags & _FLAG_NO_CHECKSUM

    def validate(self) -> None:
        """Check every rule that the header alone can break; raises LtxError naming the field and its value."""
        if self.flags & ~_FLAG_NO_CHECKSUM:
            raise broken("flags", self.flags, "only bit 1 (no checksum) may be set")
        if not is_page_size(self.page_size):
            raise broken("page_size", self.page_size, "must be a power of two from 512 to 65536")
        if not 0 <= self.commit <= _U32_MAX:
            raise broken("commit", self.commit, "must fit 32 bits")
        if not 1 <= self.min_txid <= _U64_MAX:
            raise broken("min_txid", self.min_txid, "must be at least 1 and fit 64 bits")
        if not self.min_txid <= self.max_txid <= _U64_MAX:
            raise broken("max_txid", self.max_txid, f"must be at least min_txid {self.min_txid} and fit 64 bits")
        if not -_I64_MAX - 1 <= self.timestamp_ms <= _I64_MAX:
            raise broken("timestamp_ms", self.timestamp_ms, "must fit 64 bits, signed")
        if not 0 <= self.node_id <= _U64_MAX:
            raise broken("node_id", self.node_id, "must fit 64 bits")
        self._validate_checksum()
        if self.wal_offset or self.wal_size or self.wal_salt1 or self.wal_salt2:
            self._validate_wal()

    def _validate_checksum(self) -> None:
        checksum = self.pre_apply_checksum
        if self.flags & _FLAG_NO_CHECKSUM:
            if self.commit == 0:
                raise broken("commit", 0, "a deletion needs its post-apply checksum, so it cannot be without checksums")
            if checksum:
                raise broken("pre_apply_checksum", hex64(checksum), "must be 0 in a file without checksums")
        elif self.min_txid == 1:
            if checksum:
                raise broken("pre_apply_checksum", hex64(checksum), "must be 0 in a snapshot (min_txid 1)")
        elif not CHECKSUM_FLAG <= checksum <= _U64_MAX:
            raise broken("pre_apply_checksum", hex64(checksum), "must be 64 bits with bit 63 set")

    def _validate_wal(self) -> None:
        if not 0 <= self.wal_offset <= _I64_MAX:
            raise broken("wal_offset", self.wal_offset, "must not be negative")
        if not 0 <= self.wal_size <= _I64_MAX:
            raise broken("wal_size", self.wal_size, "must not be negative")
        if not 0 <= self.wal_salt1 <= _U32_MAX:
            raise broken("wal_salt1", self.wal_salt1, "must fit 32 bits")
        if not 0 <= self.wal_salt2 <= _U32_MAX:
            raise broken("wal_salt2", self.wal_salt2, "must fit 32 bits")
        if self.wal_offset == 0:
            raise broken("wal_offset", 0, "must be set when WAL salts or WAL size are")

    def check_post_apply(self, checksum: int) -> None:
        """Check the trailer's post-apply checksum against the header; raises LtxError."""
        if self.flags & _FLAG_NO_CHECKSUM:
            if checksum:
                raise broken("post_apply_checksum", hex64(checksum), "must be 0 in a file without checksums")
        elif not CHECKSUM_FLAG <= checksum <= _U64_MAX:
            raise broken("post_apply_checksum", hex64(checksum), "must be 64 bits with bit 63 set")
        elif self.commit == 0 and checksum != EMPTY_CHECKSUM:
            raise broken("post_apply_checksum", hex64(checksum), f"must be {hex64(EMPTY_CHECKSUM)} when commit is 0")

    def in_encoding(self, encoding: Encoding) -> LtxHeader:
        """Give the header as the encoding has it: a backup drops the checksums, a stream file must have them."""
        if encoding is Encoding.STREAM:
            if self.flags & _FLAG_NO_CHECKSUM:
                raise broken("flags", self.flags, "the stream encoding needs checksums, which this header disclaims")
            return self
        return replace(self, flags=self.flags | _FLAG_NO_CHECKSUM, pre_apply_checksum=Checksum(0))

    def encode(self) -> bytes:
        """Give the 100 bytes; raises LtxError when a rule is broken."""
        self.validate()
        return _HEADER.pack(
            MAGIC,
            self.flags,
            self.page_size,
            self.commit,
            self.min_txid,
            self.max_txid,
            self.timestamp_ms,
            self.pre_apply_checksum,
            self.wal_offset,
            self.wal_size,
            self.wal_salt1,
            self.wal_salt2,
            self.node_id,
            _RESERVED,
        )

    @classmethod
    def decode(cls, data: bytes) -> LtxHeader:
        """Read and validate the first 100 bytes of `data`; raises LtxError."""
        if len(data) < HEADER_SIZE:
            raise truncated("the header", HEADER_SIZE, len(data)) if data else empty()
        magic, flags, page_size, commit, low, high, time, pre, offset, size, salt1, salt2, node, reserved = (
            _HEADER.unpack_from(data)
        )
        if magic != MAGIC:
            raise broken("magic", magic, f"must be {MAGIC!r}")
        if reserved != _RESERVED:
            raise broken("reserved", reserved.hex(), "bytes 80-99 must be zero")
        header = cls(
            page_size=page_size,
            commit=commit,
            min_txid=low,
            max_txid=high,
            timestamp_ms=time,
            pre_apply_checksum=pre,
            flags=flags,
            wal_offset=offset,
            wal_size=size,
            wal_salt1=salt1,
            wal_salt2=salt2,
            node_id=node,
        )
        header.validate()
        return header


@dataclass(frozen=True, slots=True)
class Trailer:
    """The end of a file: the database's checksum after it was applied (0: none), and the checksum of the file
    itself.
    """

    post_apply_checksum: Checksum
    file_checksum: Checksum

    def encode(self) -> bytes:
        """Give the 16 bytes."""
        return _TRAILER.pack(self.post_apply_checksum, self.file_checksum)

    @classmethod
    def decode(cls, data: bytes) -> Trailer:
        """Read 16 bytes; rules that need the header are checked by `LtxHeader.check_post_apply`."""
        if len(data) != TRAILER_SIZE:
            raise truncated("the trailer", TRAILER_SIZE, len(data))
        post_apply_checksum, file_checksum = _TRAILER.unpack(data)
        return cls(post_apply_checksum, file_checksum)
