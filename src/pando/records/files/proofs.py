"""How a node proves to another that it may have a file: an HMAC over path and time, keyed by the cluster's secret.

    pando-node-file: SECONDS.HEX        HEX = HMAC-SHA256(key, "file " SECONDS " " path)

Whoever reads one on its way can ask for the same file again for a few minutes, which that reader has seen anyway.
Pure. Not here: asking (`pando.api.records_fetch`).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

HEADER: Final = "pando-node-file"
LIFE_S: Final = 300
"""How far the clocks of two nodes may be apart, the way included."""


class FileProofs:
    """Makes and checks proofs."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, path: str, now_s: int) -> str:
        """Give the header's value for a path."""
        return f"{now_s}.{self._mac(path, now_s)}"

    def holds(self, text: str, path: str, now_s: int) -> bool:
        """Tell whether a header was made by a node of the cluster, for this path and not long ago."""
        made, _, mac = text.partition(".")
        if not (made.isascii() and made.isdigit() and len(made) < 16) or abs(now_s - int(made)) > LIFE_S:
            return False
        return hmac.compare_digest(mac.encode("utf-8", "replace"), self._mac(path, int(made)).encode())

    def _mac(self, path: str, made_s: int) -> str:
        told = f"file {made_s} {path}".encode("utf-8", "surrogatepass")
        return hmac.new(self._key, told, hashlib.sha256).hexdigest()
