"""Merging adjacent LTX files into one: by page number, the newest version of each page, in constant memory.

Inputs come oldest first and are read once, side by side. Not here: which files to merge (the backup's retention), file
names, upload.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from pando.errors import LtxError
from pando.ltx.decoder import LtxDecoder
from pando.ltx.encoder import LtxEncoder
from pando.ltx.failures import broken, hex64
from pando.ltx.header import NO_CHECKSUM, Encoding, LtxHeader, Trailer
from pando.ltx.sequence import PageSequence
from pando.types import Pgno


@dataclass(frozen=True, slots=True)
class Compacted:
    """What a compaction wrote."""

    header: LtxHeader
    trailer: Trailer
    page_count: int


def compacted_header(headers: Sequence[LtxHeader]) -> LtxHeader:
    """Give the header of the merged file: first's start and pre-apply checksum, last's end, size and time.

    WAL fields and node id are cleared. Raises LtxError unless the files have one page size and follow each other (they
    may overlap, each reaching further than the one before).
    """
    if not headers:
        raise LtxError("nothing to compact: no LTX file was given")
    for before, after in pairwise(headers):
        check_adjacent(before, after)
    first, last = headers[0], headers[-1]
    return LtxHeader(
        page_size=first.page_size,
        commit=last.commit,
        min_txid=first.min_txid,
        max_txid=last.max_txid,
        timestamp_ms=last.timestamp_ms,
        pre_apply_checksum=first.pre_apply_checksum,
        flags=0 if first.has_checksums and last.has_checksums else last.flags | first.flags,
    )


def check_adjacent(before: LtxHeader, after: LtxHeader) -> None:
    """Check that a file follows another: same page size, no gap, reaching further; raises LtxError."""
    if after.page_size != before.page_size:
        raise broken("page_size", after.page_size, f"the file before has {before.page_size}")
    if not before.min_txid <= after.min_txid <= before.max_txid + 1:
        raise broken(
            "min_txid",
            after.min_txid,
            f"must follow the file before, {before.min_txid} to {before.max_txid}, without gap",
        )
    if after.max_txid <= before.max_txid:
        raise broken("max_txid", after.max_txid, f"must be beyond the file before, which ends with {before.max_txid}")


def compact_ltx(
    inputs: Sequence[LtxDecoder],
    write: Callable[[bytes], object],
    *,
    encoding: Encoding = Encoding.STREAM,
) -> Compacted:
    """Merge files, oldest first, and write the result; raises LtxError for any input that is broken or does not fit.

    Where two neighbours carry rolling checksums these must meet; a page that the database grew by must be in the file
    that grew it. A stream file can be made of inputs without checksums only when the result is a snapshot: its checksum
    is then computed. Holds one page of each input.
    """
    header = compacted_header([decoder.header for decoder in inputs])
    if encoding is Encoding.STREAM:
        header = _stream_header(header)
    encoder = LtxEncoder(write, header, encoding)
    page_count = 0
    for pgno, page in merge_pages(inputs):
        if pgno > header.commit:
            continue
        encoder.write_page(pgno, page)
        page_count += 1
    _check_chain(inputs)
    post_apply_checksum = inputs[-1].verified_trailer.post_apply_checksum
    trailer = encoder.close(post_apply_checksum or encoder.rolling or NO_CHECKSUM)
    return Compacted(encoder.header, trailer, page_count)


def _stream_header(header: LtxHeader) -> LtxHeader:
    if header.has_checksums:
        return header
    if not header.is_snapshot:
        raise broken("flags", header.flags, "files without checksums make a stream file only from transaction 1 on")
    return replace(header, flags=0)


def _check_chain(inputs: Sequence[LtxDecoder]) -> None:
    """Check that each file begins where the one before ended, as far as both say it."""
    for before, after in pairwise(inputs):
        found, wanted = after.header.pre_apply_checksum, before.verified_trailer.post_apply_checksum
        if after.header.min_txid == before.header.max_txid + 1 and found and wanted and found != wanted:
            raise broken("pre_apply_checksum", hex64(found), f"the file before ends with {hex64(wanted)}")


def _checked_pages(decoder: LtxDecoder, previous_commit: int | None) -> Iterator[tuple[Pgno, bytes]]:
    """Give a file's pages and check at their end that those are there by which the database grew."""
    sequence = PageSequence(decoder.header, previous_commit)
    for pgno, page in decoder:
        sequence.accept(pgno)
        yield pgno, page
    sequence.finish()


def merge_pages(inputs: Sequence[LtxDecoder]) -> Iterator[tuple[Pgno, bytes]]:
    """Give for each page number that occurs its newest version, ascending; reads and verifies all inputs to their
    ends.
    """
    sources: list[Iterator[tuple[Pgno, bytes]]] = []
    for number, decoder in enumerate(inputs):
        sources.append(_checked_pages(decoder, inputs[number - 1].header.commit if number else None))
    heap: list[tuple[Pgno, int, bytes]] = []

    def advance(number: int) -> None:
        found = next(sources[number], None)
        if found is not None:
            # Newer files sort first within a page number.
            heapq.heappush(heap, (found[0], -number, found[1]))

    for number in range(len(sources)):
        advance(number)
    last = 0
    while heap:
        pgno, rank, page = heapq.heappop(heap)
        if pgno != last:
            last = pgno
            yield pgno, page
        advance(-rank)
