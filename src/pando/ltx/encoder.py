"""Writing LTX files: `encode_ltx` for the few pages of a commit, `LtxEncoder` for files that do not fit memory.

Pure: bytes go to a callable. The encoder refuses what a reader would refuse, before it writes it. Not here: normalising
page 1, names of files, durability.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from typing import Final

from pando.errors import LtxError, invariant
from pando.ltx.checksum import CHECKSUM_FLAG, combine_checksums, crc64, page_checksum
from pando.ltx.failures import broken, hex64
from pando.ltx.header import NO_CHECKSUM, Encoding, LtxHeader, Trailer
from pando.ltx.lz4codec import compress_block, compress_frame
from pando.ltx.sequence import PageIndex, PageSequence, index_tail, uvarint
from pando.types import EMPTY_CHECKSUM, Checksum, Pgno

PAGE_HAS_SIZE: Final = 1
"""Page flag: the compressed size follows and the page is an LZ4 block; without it the page is an LZ4 frame."""

END_OF_PAGES: Final = bytes(6)

_pack_block_head = struct.Struct(">IHI").pack
_pack_frame_head = struct.Struct(">IH").pack
_HASH_PARTS_MAX: Final = 512


def wrong_page_size(pgno: int, size: int, page_size: int) -> LtxError:
    """Make the error for a page whose size is not the header's."""
    return broken("page size", size, f"page {pgno} must have {page_size} bytes")


def encode_ltx(
    header: LtxHeader,
    pages: Iterable[tuple[Pgno, bytes]],
    post_apply_checksum: Checksum,
    *,
    encoding: Encoding = Encoding.STREAM,
    previous_commit: int | None = None,
) -> bytes:
    """Give a whole LTX file; for a 3-page commit this takes some 18 us, and memory is a few times the file.

    In the backup encoding the checksums of `header` and `post_apply_checksum` are left out. `previous_commit`, the
    database's size before, adds the check that all pages by which it grew are there. In a stream snapshot the
    post-apply checksum is compared with the pages. Raises LtxError.
    """
    header, post_apply_checksum = _prepare(header, post_apply_checksum, encoding)
    page_size = header.page_size
    blocks = encoding is Encoding.STREAM
    rolling = EMPTY_CHECKSUM if blocks and header.is_snapshot else None
    sequence = PageSequence(header, previous_commit)
    accept = sequence.accept
    head = header.encode()
    output = [head]
    hashed = [head]
    index = bytearray()
    offset = len(head)
    crc = 0
    for pgno, page in pages:
        accept(pgno)
        if len(page) != page_size:
            raise wrong_page_size(pgno, len(page), page_size)
        if blocks:
            packed = compress_block(page)
            page_head = _pack_block_head(pgno, PAGE_HAS_SIZE, len(packed))
        else:
            packed = compress_frame(page)
            page_head = _pack_frame_head(pgno, 0)
        output += (page_head, packed)
        hashed += (page_head, page)
        size = len(page_head) + len(packed)
        index += uvarint(pgno) + uvarint(offset) + uvarint(size)
        offset += size
        if rolling is not None:
            rolling = combine_checksums((page_checksum(pgno, page),), rolling)
        if len(hashed) > _HASH_PARTS_MAX:
            crc = crc64(b"".join(hashed), crc)
            hashed.clear()
    sequence.finish()
    _check_rolling(rolling, post_apply_checksum)
    tail = END_OF_PAGES + index_tail(index) + post_apply_checksum.to_bytes(8, "big")
    hashed.append(tail)
    file_checksum = crc64(b"".join(hashed), crc) | CHECKSUM_FLAG
    output += (tail, file_checksum.to_bytes(8, "big"))
    return b"".join(output)


def _prepare(header: LtxHeader, post_apply_checksum: Checksum, encoding: Encoding) -> tuple[LtxHeader, Checksum]:
    header = header.in_encoding(encoding)
    if encoding is Encoding.BACKUP:
        post_apply_checksum = NO_CHECKSUM
    header.check_post_apply(post_apply_checksum)
    return header, post_apply_checksum


def _check_rolling(rolling: Checksum | None, post_apply_checksum: Checksum) -> None:
    if rolling is not None and rolling != post_apply_checksum:
        raise broken("post_apply_checksum", hex64(post_apply_checksum), f"the snapshot's pages give {hex64(rolling)}")


class LtxEncoder:
    """Writes one file page by page to `write`; holds nothing but the page index.

    An encoder that raised is of no more use, and what it wrote is not a file.
    """

    def __init__(
        self,
        write: Callable[[bytes], object],
        header: LtxHeader,
        encoding: Encoding = Encoding.STREAM,
        *,
        previous_commit: int | None = None,
    ) -> None:
        self.header = header.in_encoding(encoding)
        self.encoding = encoding
        self._write = write
        self._sequence = PageSequence(self.header, previous_commit)
        self._index = PageIndex()
        self.rolling: Checksum | None = EMPTY_CHECKSUM if encoding is Encoding.STREAM and header.is_snapshot else None
        """Of a stream snapshot: the rolling checksum of the pages written so far."""
        self._closed = False
        head = self.header.encode()
        self._crc = crc64(head, 0)
        write(head)

    def write_page(self, pgno: Pgno, page: bytes) -> None:
        """Write the next page; raises LtxError when it may not follow what was written."""
        invariant(not self._closed, "a page is written before the file is closed", pgno=pgno)
        self._sequence.accept(pgno)
        if len(page) != self.header.page_size:
            raise wrong_page_size(pgno, len(page), self.header.page_size)
        if self.encoding is Encoding.STREAM:
            packed = compress_block(page)
            head = _pack_block_head(pgno, PAGE_HAS_SIZE, len(packed))
        else:
            packed = compress_frame(page)
            head = _pack_frame_head(pgno, 0)
        self._crc = crc64(page, crc64(head, self._crc))
        if self.rolling is not None:
            self.rolling = combine_checksums((page_checksum(pgno, page),), self.rolling)
        self._index.add(pgno, len(head) + len(packed))
        self._write(head + packed)

    def close(self, post_apply_checksum: Checksum) -> Trailer:
        """Write index and trailer; the checksum is left out of a backup. Raises LtxError. Does not close the target."""
        invariant(not self._closed, "a file is closed once")
        if self.encoding is Encoding.BACKUP:
            post_apply_checksum = NO_CHECKSUM
        self.header.check_post_apply(post_apply_checksum)
        self._sequence.finish()
        _check_rolling(self.rolling, post_apply_checksum)
        self._closed = True
        tail = END_OF_PAGES + self._index.encode()
        crc = crc64(tail + post_apply_checksum.to_bytes(8, "big"), self._crc)
        trailer = Trailer(post_apply_checksum, Checksum(crc | CHECKSUM_FLAG))
        self._write(tail + trailer.encode())
        return trailer
