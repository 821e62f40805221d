"""Page 1 without what SQLite changes on its own: the rule by which equal positions mean equal bytes.

SQLite writes its change counter (bytes 24-27), version-valid-for number and library version (bytes 92-99) whenever it
writes page 1, so these 12 bytes differ between a writer and an applier. In LTX files and checksums of ours they are
zero.
"""

from __future__ import annotations

_ZERO_4 = bytes(4)
_ZERO_8 = bytes(8)


def normalise_page_one(data: bytes) -> bytes:
    """Give page 1 with bytes 24-27 and 92-99 zero; a page that has them zero already is given back as it is."""
    if data[24:28] == _ZERO_4 and data[92:100] == _ZERO_8:
        return data
    return b"".join((data[:24], _ZERO_4, data[28:92], _ZERO_8, data[100:]))
