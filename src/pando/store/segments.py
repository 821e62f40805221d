"""The bytes of a log segment: a header, then entries. Pure: callers give bytes or a way to read them.

Segment header, 64 bytes, big-endian like everything here:

    0  8  magic "PANDOLOG"          24  8  base TXID       the position before the first entry
    8  4  format version, 1         32  8  base checksum
   12  4  zero                      40 16  zero
   16  8  base epoch                56  8  CRC of bytes 0..55

Entry: fixed part, table names, envelope CRC, payload, trailer:

    0  4  magic "PLE1"              40  8  min TXID
    4  4  size of the table names   48  8  max TXID
    8  4  size of the payload       56  8  pre-apply checksum
   12  4  zero                      64  8  post-apply checksum
   16  8  offset of this entry      72  8  timestamp, ms since the Unix epoch, signed
   24  8  synced size               80  8  CRC of the payload
   32  8  epoch                     88  -  table names, UTF-8, NUL between; none: not known, so all
                                     -  8  CRC of fixed part and names
                                     -  -  payload: one LTX file
                                     -  8  size of the whole entry, 4 bytes; "1ELP"

CRC is CRC-64/XZ. The offset is stored so that bytes of an entry that turn up elsewhere (a payload may hold a copy of a
log) are not taken for one. "Synced size" is how much of the file was known to be durable when the entry was written:
with it, a bad entry with a good one behind is told apart: damage if the bad one had been synced by then, else a tear
that the good one does not survive either. The trailer lets the last entry be found from the end of the file.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from enum import StrEnum

import msgspec
from fastcrc import crc64

from pando.errors import InvariantError, LogCorruption
from pando.limits import ENTRY_SIZE_BYTES_MAX, ENTRY_TABLES_BYTES_MAX
from pando.types import TXID, Checksum, Epoch, Position

Pread = Callable[[int, int], bytes]
"""Reads (offset, size); fewer bytes only at the end of the file."""

_crc = crc64.xz
_HEADER = struct.Struct(">8sI4xQQQ16x")
_CRC = struct.Struct(">Q")
_FIXED = struct.Struct(">4sII4xQQQQQQQqQ")
_TRAILER = struct.Struct(">I4s")
_HEADER_MAGIC = b"PANDOLOG"
_VERSION = 1
_MAGIC = b"PLE1"
_TRAILER_MAGIC = b"1ELP"

HEADER_SIZE = _HEADER.size + _CRC.size
FIXED_SIZE = _FIXED.size
TRAILER_SIZE = _TRAILER.size
ENVELOPE_SIZE_MAX = FIXED_SIZE + ENTRY_TABLES_BYTES_MAX + _CRC.size
_OVERHEAD = FIXED_SIZE + _CRC.size + TRAILER_SIZE
_CHUNK = 256 * 1024


class LogEntry(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One row of the log: which commits, from which state to which, and the LTX file that does it.

    `tables` names what the commits changed; empty means that it is not known, so any table.
    """

    epoch: Epoch
    min_txid: TXID
    max_txid: TXID
    pre_checksum: Checksum
    post_checksum: Checksum
    timestamp_ms: int
    tables: tuple[str, ...] = ()
    payload: bytes

    @property
    def position(self) -> Position:
        """Where the database is after this entry."""
        return Position(epoch=self.epoch, txid=self.max_txid, checksum=self.post_checksum)


class EntryInfo(msgspec.Struct, frozen=True, gc=False):
    """The envelope of an entry: everything but its payload, and where in the file it is."""

    epoch: Epoch
    min_txid: TXID
    max_txid: TXID
    pre_checksum: Checksum
    post_checksum: Checksum
    timestamp_ms: int
    tables: tuple[str, ...]
    offset: int
    synced_size: int
    payload_offset: int
    payload_size: int
    payload_crc: int

    @property
    def end(self) -> int:
        """Offset of the first byte behind the entry."""
        return self.payload_offset + self.payload_size + TRAILER_SIZE

    @property
    def position(self) -> Position:
        """Where the database is after this entry."""
        return Position(epoch=self.epoch, txid=self.max_txid, checksum=self.post_checksum)

    def follows(self, position: Position) -> bool:
        """Tell whether the entry begins exactly where `position` ends."""
        return (
            self.min_txid == position.txid + 1
            and self.pre_checksum == position.checksum
            and self.epoch >= position.epoch
        )


def encode_header(base: Position) -> bytes:
    """Make the header of a segment whose first entry follows `base`."""
    body = _HEADER.pack(_HEADER_MAGIC, _VERSION, base.epoch, base.txid, base.checksum)
    return body + _CRC.pack(_crc(body))


def decode_header(data: bytes) -> Position:
    """Give the base position of a segment; raises LogCorruption. A segment gets its name with its header complete."""
    if len(data) < HEADER_SIZE:
        raise LogCorruption(f"a log segment begins with {HEADER_SIZE} bytes of header, here are {len(data)}")
    if _CRC.unpack_from(data, _HEADER.size)[0] != _crc(data[: _HEADER.size]):
        raise LogCorruption("the checksum of a log segment's header is wrong")
    magic, version, epoch, txid, checksum = _HEADER.unpack_from(data)
    if magic != _HEADER_MAGIC or version != _VERSION:
        raise LogCorruption(f"a log segment has magic {magic!r} and version {version}; known is {_VERSION}")
    return Position(epoch=Epoch(epoch), txid=TXID(txid), checksum=Checksum(checksum))


def encode_tables(tables: tuple[str, ...]) -> bytes:
    """Give the bytes of table names. More than fits is as good as "any table"."""
    data = "\0".join(tables).encode("utf-8", "surrogatepass")
    return data if len(data) <= ENTRY_TABLES_BYTES_MAX else b""


def decode_tables(data: bytes) -> tuple[str, ...]:
    """Undo `encode_tables`."""
    return tuple(data.decode("utf-8", "surrogatepass").split("\0")) if data else ()


def encode_entry(entry: LogEntry, offset: int, synced_size: int) -> bytes:
    """Give the bytes of an entry that will lie at `offset`. Hot path: about 2 us and a copy of the payload."""
    payload = entry.payload
    size = len(payload)
    if size > ENTRY_SIZE_BYTES_MAX:
        raise InvariantError("a log entry is too long", size=size, limit=ENTRY_SIZE_BYTES_MAX)
    tables = encode_tables(entry.tables) if entry.tables else b""
    try:
        body = _FIXED.pack(
            _MAGIC,
            len(tables),
            size,
            offset,
            synced_size,
            entry.epoch,
            entry.min_txid,
            entry.max_txid,
            entry.pre_checksum,
            entry.post_checksum,
            entry.timestamp_ms,
            _crc(payload),
        )
    except struct.error as error:
        raise InvariantError(f"a number of a log entry does not fit: {error}") from error
    body += tables
    total = len(body) + size + 16
    return b"".join((body, _CRC.pack(_crc(body)), payload, _TRAILER.pack(total, _TRAILER_MAGIC)))


def decode_envelope(buffer: bytes, at: int, offset: int) -> EntryInfo | None:
    """Read the envelope at `buffer[at:]`, which lies at `offset` of its file. None: incomplete, or no envelope."""
    if len(buffer) - at < FIXED_SIZE:
        return None
    (magic, tables_size, size, own, synced, epoch, low, high, pre, post, time_ms, crc) = _FIXED.unpack_from(buffer, at)
    if magic != _MAGIC or own != offset or size > ENTRY_SIZE_BYTES_MAX or tables_size > ENTRY_TABLES_BYTES_MAX:
        return None
    body_end = at + FIXED_SIZE + tables_size
    if len(buffer) < body_end + 8 or _CRC.unpack_from(buffer, body_end)[0] != _crc(buffer[at:body_end]):
        return None
    tables = decode_tables(buffer[at + FIXED_SIZE : body_end]) if tables_size else ()
    payload_offset = offset + FIXED_SIZE + tables_size + 8
    return EntryInfo(epoch, low, high, pre, post, time_ms, tables, own, synced, payload_offset, size, crc)


def decode_payload(buffer: bytes, at: int, info: EntryInfo) -> bytes | None:
    """Give the payload of the entry at `buffer[at:]` whose envelope is `info`. None: incomplete, or damaged."""
    start = at + info.payload_offset - info.offset
    end = start + info.payload_size
    if len(buffer) < end + TRAILER_SIZE:
        return None
    payload = buffer[start:end]
    total, magic = _TRAILER.unpack_from(buffer, end)
    if magic != _TRAILER_MAGIC or total != info.end - info.offset or _crc(payload) != info.payload_crc:
        return None
    return payload


def join(info: EntryInfo, payload: bytes) -> LogEntry:
    """Make an entry of its two parts."""
    return LogEntry(
        epoch=info.epoch,
        min_txid=info.min_txid,
        max_txid=info.max_txid,
        pre_checksum=info.pre_checksum,
        post_checksum=info.post_checksum,
        timestamp_ms=info.timestamp_ms,
        tables=info.tables,
        payload=payload,
    )


def decode_entry(buffer: bytes, at: int, offset: int) -> LogEntry | None:
    """Read the entry at `buffer[at:]`, which lies at `offset` of its file. None: incomplete, or damaged."""
    info = decode_envelope(buffer, at, offset)
    if info is None:
        return None
    payload = decode_payload(buffer, at, info)
    return None if payload is None else join(info, payload)


def read_entry(pread: Pread, offset: int) -> tuple[EntryInfo, bytes] | None:
    """Read one entry of any size from a file. None: incomplete, or damaged."""
    buffer = pread(offset, _CHUNK)
    info = decode_envelope(buffer, 0, offset)
    if info is None:
        return None
    if info.end - offset > len(buffer):
        buffer = pread(offset, info.end - offset)
    payload = decode_payload(buffer, 0, info)
    return None if payload is None else (info, payload)


def read_last_entry(pread: Pread, size: int) -> EntryInfo | None:
    """Find the last entry from the end of a file of `size` bytes. None: the end of the file is not that of an entry."""
    if size < HEADER_SIZE + _OVERHEAD:
        return None
    tail = pread(size - TRAILER_SIZE, TRAILER_SIZE)
    if len(tail) < TRAILER_SIZE:
        return None
    total, magic = _TRAILER.unpack(tail)
    if magic != _TRAILER_MAGIC or not _OVERHEAD <= total <= size - HEADER_SIZE:
        return None
    found = read_entry(pread, size - total)
    return found[0] if found is not None and found[0].end == size else None


class Verdict(StrEnum):
    """How a scan ended."""

    CLEAN = "clean"
    """The file ends with a whole entry."""
    TORN = "torn"
    """Behind the last whole entry lies something that was never synced, or is being written."""
    CORRUPT = "corrupt"
    """A damaged entry has one behind it that was written after it had been synced, or an entry does not follow."""


class SegmentScan:
    """Walks the entries of a segment from `offset`, verifying each; after the last, `verdict` says what is there.

    `position` is where the database is at `offset`; both move on with each entry. None: it is not known, so that the
    first entry may be any. Without `payloads` only envelopes are verified and payloads are skipped.
    """

    def __init__(
        self, pread: Pread, size: int, *, offset: int, position: Position | None, payloads: bool = True
    ) -> None:
        self._pread = pread
        self._size = size
        self._payloads = payloads
        self._buffer = b""
        self._buffer_offset = offset
        self.offset = offset
        self.position = position
        self.verdict: Verdict | None = None
        self.reason = ""

    def __iter__(self) -> Iterator[EntryInfo]:
        while self.offset < self._size:
            info = self._next()
            if info is None:
                self._judge()
                return
            if self.position is not None and not info.follows(self.position):
                self.verdict = Verdict.CORRUPT
                self.reason = f"the entry at {self.offset} (TXID {info.min_txid}) does not follow {self.position}"
                return
            self.offset = info.end
            self.position = info.position
            yield info
        self.verdict = Verdict.CLEAN

    def _next(self) -> EntryInfo | None:
        at = self._at(FIXED_SIZE)
        info = decode_envelope(self._buffer, at, self.offset)
        if info is None:  # perhaps only because the chunk ends in the middle of it
            at = self._at(ENVELOPE_SIZE_MAX)
            info = decode_envelope(self._buffer, at, self.offset)
        if info is None or info.end > self._size:
            return None
        if self._payloads:
            at = self._at(info.end - self.offset)
            if decode_payload(self._buffer, at, info) is None:
                return None
        return info

    def _at(self, wanted: int) -> int:
        """Give the index of `offset` in the buffer, with `wanted` bytes behind it where the file has them."""
        at = self.offset - self._buffer_offset
        missing = at + wanted > len(self._buffer)
        if missing and self._buffer_offset + len(self._buffer) < self._size:
            self._buffer = self._pread(self.offset, min(max(wanted, _CHUNK), self._size - self.offset))
            self._buffer_offset = self.offset
            at = 0
        return at

    def _judge(self) -> None:
        witness = find_witness(self._pread, self._size, self.offset)
        if witness is None:
            self.verdict = Verdict.TORN
            self.reason = f"{self._size - self.offset} bytes behind the last whole entry"
        else:
            self.verdict = Verdict.CORRUPT
            self.reason = f"the entry at {self.offset} is damaged; it was synced before TXID {witness.min_txid} came"


def find_witness(pread: Pread, size: int, damaged: int) -> EntryInfo | None:
    """Look behind a damaged entry for a whole one that says that the damaged one had been synced."""
    chunk_offset = damaged + 1
    while chunk_offset < size:
        chunk = pread(chunk_offset, min(_CHUNK, size - chunk_offset))
        at = chunk.find(_MAGIC)
        while at >= 0:
            found = read_entry(pread, chunk_offset + at)
            if found is not None and found[0].synced_size > damaged:
                return found[0]
            at = chunk.find(_MAGIC, at + 1)
        chunk_offset += max(1, len(chunk) - len(_MAGIC) + 1)
    return None
