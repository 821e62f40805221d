"""How a node tells another whose request it passes on: the peer of the connection that it took, with an HMAC.

    pando-client: SECONDS.HEX.PEER      HEX = HMAC-SHA256(key, "client " SECONDS " " PEER " " METHOD " " URL)

What clients send under this name is not believed, and goes no further than the node that it came to. Who reads one on
its way between nodes can use it for the same URL for some minutes. Pure. Not here: sending it (`pando.api`).
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final

HEADER: Final = "pando-client"
LIFE_S: Final = 300
"""How far the clocks of two nodes may be apart, the way included."""
PEER_CHARS_MAX: Final = 100


class PeerProofs:
    """Makes and reads the header. `key` is the same on all nodes of a cluster."""

    def __init__(self, key: bytes) -> None:
        self._key = key

    def make(self, peer: str, method: str, url: str, now_s: int) -> str:
        """Give the header's value."""
        return f"{now_s}.{self._mac(peer, method, url, now_s)}.{peer}"

    def read(self, text: str, method: str, url: str, now_s: int) -> str | None:
        """Give the peer; None unless a node of the cluster has written this for this request, not long ago."""
        made, _, rest = text.partition(".")
        mac, _, peer = rest.partition(".")
        if not (made.isascii() and made.isdigit() and len(made) < 16) or abs(now_s - int(made)) > LIFE_S:
            return None
        if len(peer) > PEER_CHARS_MAX:
            return None
        wanted = self._mac(peer, method, url, int(made))
        return peer if hmac.compare_digest(mac.encode("utf-8", "replace"), wanted.encode()) else None

    def _mac(self, peer: str, method: str, url: str, made_s: int) -> str:
        told = f"client {made_s} {peer} {method} {url}".encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, told, hashlib.sha256).hex()
