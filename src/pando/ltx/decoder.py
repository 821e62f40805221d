"""Reading LTX files: `decode_ltx` for a file in memory, `LtxDecoder` for a stream that is never held whole.

Both encodings are read, and any mix of them. Everything is verified: every rule of the format, the page index, the file
checksum, and the post-apply checksum of a snapshot. Lengths are checked before anything is allocated for them.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from pando.errors import InvariantError, invariant
from pando.ltx.checksum import CHECKSUM_FLAG, combine_checksums, crc64, page_checksum
from pando.ltx.encoder import END_OF_PAGES, PAGE_HAS_SIZE
from pando.ltx.failures import broken, empty, hex64, truncated
from pando.ltx.header import HEADER_SIZE, TRAILER_SIZE, LtxHeader, Trailer
from pando.ltx.lz4codec import block_size_max, decompress_block, decompress_frame
from pando.ltx.lz4frame import read_frame
from pando.ltx.sequence import PageIndex, PageSequence, index_tail, uvarint
from pando.types import EMPTY_CHECKSUM, Checksum, Pgno

_unpack_page_head = struct.Struct(">IH").unpack_from
_unpack_block_head = struct.Struct(">IHI").unpack_from
_HASH_PARTS_MAX: Final = 512
_INDEX_READ_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class LtxFile:
    """A decoded and verified file; pages ascend by number."""

    header: LtxHeader
    pages: list[tuple[Pgno, bytes]]
    trailer: Trailer

    def check_growth(self, previous_commit: int) -> None:
        """Check that every page by which the database grew from `previous_commit` pages is here; raises LtxError."""
        sequence = PageSequence(self.header, previous_commit)
        for pgno, _ in self.pages:
            sequence.accept(pgno)
        sequence.finish()


def check_trailer(header: LtxHeader, trailer: Trailer, crc: int, rolling: Checksum | None) -> None:
    """Check a trailer against all that went before it; `rolling` is that of a snapshot's pages. Raises LtxError."""
    file_checksum = crc | CHECKSUM_FLAG
    if trailer.file_checksum != file_checksum:
        raise broken("file_checksum", hex64(trailer.file_checksum), f"the file's bytes give {hex64(file_checksum)}")
    header.check_post_apply(trailer.post_apply_checksum)
    if rolling is not None and trailer.post_apply_checksum != rolling:
        raise broken(
            "post_apply_checksum", hex64(trailer.post_apply_checksum), f"the snapshot's pages give {hex64(rolling)}"
        )


def _check_block_size(size: int, page_size: int) -> None:
    size_max = block_size_max(page_size)
    if not 0 < size <= size_max:
        raise broken("page data size", size, f"must be from 1 to {size_max} for pages of {page_size}")


def _check_page_flags(pgno: int, flags: int) -> None:
    if pgno == 0:
        raise broken("page flags", flags, "must be 0 where the pages end")
    raise broken("page flags", flags, f"page {pgno}: only bit 0 (size follows) may be set")


def decode_ltx(data: bytes | bytearray | memoryview) -> LtxFile:
    """Decode and verify a whole file that is in memory (some 15 us for three pages of 4 KiB); raises LtxError.

    What the bytes lack at the end is told by the code `LTX_TRUNCATED`; bytes after the file are an error.
    """
    data = bytes(data)
    header = LtxHeader.decode(data)
    page_size = header.page_size
    snapshot = header.is_snapshot and header.has_checksums
    sequence = PageSequence(header)
    size_max = block_size_max(page_size)
    end = len(data)
    pages: list[tuple[Pgno, bytes]] = []
    hashed = [data[:HEADER_SIZE]]
    index = bytearray()
    at = HEADER_SIZE
    crc = 0
    while True:
        if at + 6 > end:
            raise truncated("a page header", 6, end - at)
        pgno, flags = _unpack_page_head(data, at)
        if flags == PAGE_HAS_SIZE and pgno and at + 10 <= end:
            size = _unpack_block_head(data, at)[2] + 10
            if not 10 < size <= size_max + 10:
                _check_block_size(size - 10, page_size)
            sequence.accept(pgno)
            if at + size > end:
                raise truncated(f"page {pgno}", size, end - at)
            page = decompress_block(data[at + 10 : at + size], page_size)
            hashed += (data[at : at + 10], page)
        elif pgno and not flags:
            sequence.accept(pgno)
            frame = read_frame(_taker(data, at + 6, pgno), page_size)
            page = decompress_frame(frame, page_size)
            size = len(frame.raw) + 6
            hashed += (data[at : at + 6], page)
        elif pgno or flags:
            if flags == PAGE_HAS_SIZE and pgno:
                raise truncated(f"page {pgno}", 10, end - at)
            _check_page_flags(pgno, flags)
        else:
            break
        pages.append((pgno, page))
        index += uvarint(pgno) + uvarint(at) + uvarint(size)
        at += size
        if len(hashed) > _HASH_PARTS_MAX:
            crc = crc64(b"".join(hashed), crc)
            hashed.clear()
    sequence.finish()
    tail = END_OF_PAGES + index_tail(index)
    trailer_at = at + len(tail)
    if end != trailer_at + TRAILER_SIZE or data[at:trailer_at] != tail:
        _explain_tail(data[at:], tail)
    hashed.append(data[at : trailer_at + 8])
    rolling = combine_checksums(page_checksum(pgno, page) for pgno, page in pages) if snapshot else None
    trailer = Trailer.decode(data[trailer_at:])
    check_trailer(header, trailer, crc64(b"".join(hashed), crc), rolling)
    return LtxFile(header, pages, trailer)


def _taker(data: bytes, at: int, pgno: int) -> Callable[[int], bytes]:
    """Give a reader of exact sizes from `at` on."""
    source = io.BytesIO(data)
    source.seek(at)

    def take(size: int) -> bytes:
        part = source.read(size)
        if len(part) != size:
            raise truncated(f"page {pgno}", size, len(part))
        return part

    return take


def _explain_tail(found: bytes, tail: bytes) -> None:
    """Say what is wrong with what follows the last page: it was cut, differs, or goes on too long."""
    wanted = len(tail) + TRAILER_SIZE
    if not found.startswith(tail[: len(found)]):
        raise broken("page index", found[: len(tail)][:32].hex(), "does not list the file's pages")
    if len(found) < wanted:
        raise truncated("page index and trailer", wanted, len(found))
    raise broken("file size", f"{len(found) - wanted} bytes more", "nothing may follow the trailer")


class LtxDecoder:
    """Reads one file from `read` (which may give fewer bytes than asked, and none only at the end) page by page.

    The header is read at once. Iterating gives `(page number, bytes)`; when the iteration has ended, and only then, all
    is verified and `trailer` is there. Reads not one byte past the trailer; `expect_end` checks that none is left.
    """

    def __init__(self, read: Callable[[int], bytes]) -> None:
        self._read = read
        head = self._read_rest(read(HEADER_SIZE), HEADER_SIZE)
        if not head:
            raise empty()
        self.header = LtxHeader.decode(head)
        self.trailer: Trailer | None = None
        self._crc = crc64(head, 0)
        self._index = PageIndex()
        self._sequence = PageSequence(self.header)
        self._rolling = EMPTY_CHECKSUM if self.header.is_snapshot and self.header.has_checksums else None
        self._started = False

    def __iter__(self) -> Iterator[tuple[Pgno, bytes]]:
        """Give the pages, once; raises LtxError at the first thing that is wrong."""
        invariant(not self._started, "a decoder is read once")
        self._started = True
        while True:
            head = self._take(6, "a page header")
            pgno, flags = _unpack_page_head(head)
            if pgno == 0 and flags == 0:
                break
            if pgno == 0 or flags & ~PAGE_HAS_SIZE:
                _check_page_flags(pgno, flags)
            self._sequence.accept(pgno)
            yield pgno, self._block(pgno, head) if flags else self._frame(pgno, head)
        self._finish()

    def finish(self) -> Trailer:
        """Read and verify what is left without keeping it, and give the trailer; raises LtxError."""
        if not self._started:
            for _ in self:
                pass
        return self.verified_trailer

    @property
    def verified_trailer(self) -> Trailer:
        """The trailer, once the iteration has ended."""
        if self.trailer is None:
            raise InvariantError("the trailer is known when all pages were read")
        return self.trailer

    def expect_end(self) -> None:
        """Check that nothing follows the file; raises LtxError."""
        if self._read(1):
            raise broken("file size", "more bytes", "nothing may follow the trailer")

    def _block(self, pgno: Pgno, head: bytes) -> bytes:
        size_field = self._take(4, f"page {pgno}")
        size = int.from_bytes(size_field, "big")
        _check_block_size(size, self.header.page_size)
        page = decompress_block(self._take(size, f"page {pgno}"), self.header.page_size)
        self._note(pgno, page, head + size_field, size + 10)
        return page

    def _frame(self, pgno: Pgno, head: bytes) -> bytes:
        frame = read_frame(lambda size: self._take(size, f"page {pgno}"), self.header.page_size)
        page = decompress_frame(frame, self.header.page_size)
        self._note(pgno, page, head, len(frame.raw) + 6)
        return page

    def _note(self, pgno: Pgno, page: bytes, head: bytes, size: int) -> None:
        self._crc = crc64(page, crc64(head, self._crc))
        self._index.add(pgno, size)
        if self._rolling is not None:
            self._rolling = combine_checksums((page_checksum(pgno, page),), self._rolling)

    def _finish(self) -> None:
        self._sequence.finish()
        index = self._index.encode()
        for start in range(0, len(index), _INDEX_READ_BYTES):
            wanted = index[start : start + _INDEX_READ_BYTES]
            if self._take(len(wanted), "page index and trailer") != wanted:
                raise broken("page index", f"at byte {start}", "does not list the file's pages")
        data = self._take(TRAILER_SIZE, "the trailer")
        crc = crc64(data[:8], crc64(index, crc64(END_OF_PAGES, self._crc)))
        trailer = Trailer.decode(data)
        check_trailer(self.header, trailer, crc, self._rolling)
        self.trailer = trailer

    def _take(self, size: int, what: str) -> bytes:
        data = self._read(size)
        if len(data) != size:
            data = self._read_rest(data, size)
            if len(data) != size:
                raise truncated(what, size, len(data))
        return data

    def _read_rest(self, data: bytes, size: int) -> bytes:
        """Go on reading until the size is reached or the source has ended."""
        while data and len(data) < size:
            more = self._read(size - len(data))
            if not more:
                break
            data += more
        return data
