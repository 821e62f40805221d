"""LTX: the file format of changed pages, shared with LiteFS and Litestream (docs/formats-ltx.md).

Pure: bytes in, bytes out, no files, no clock. Needs the standard library only; `lz4` and `fastcrc` make it fast. Not
here: where the pages come from (`pando.wal`), where files go (`pando.store`).
"""

from pando.ltx.checksum import (
    CHECKSUM_FLAG,
    combine_checksums,
    crc64,
    page_checksum,
    rolling_checksum,
)
from pando.ltx.compactor import Compacted, check_adjacent, compact_ltx, compacted_header
from pando.ltx.decoder import LtxDecoder, LtxFile, decode_ltx
from pando.ltx.encoder import LtxEncoder, encode_ltx
from pando.ltx.failures import LTX_EMPTY, LTX_TRUNCATED
from pando.ltx.header import HEADER_SIZE, TRAILER_SIZE, Encoding, HeaderFlags, LtxHeader, Trailer
from pando.ltx.normalise import normalise_page_one
from pando.ltx.sequence import PageSequence

__all__ = [
    "CHECKSUM_FLAG",
    "HEADER_SIZE",
    "LTX_EMPTY",
    "LTX_TRUNCATED",
    "TRAILER_SIZE",
    "Compacted",
    "Encoding",
    "HeaderFlags",
    "LtxDecoder",
    "LtxEncoder",
    "LtxFile",
    "LtxHeader",
    "PageSequence",
    "Trailer",
    "check_adjacent",
    "combine_checksums",
    "compact_ltx",
    "compacted_header",
    "crc64",
    "decode_ltx",
    "encode_ltx",
    "normalise_page_one",
    "page_checksum",
    "rolling_checksum",
]
