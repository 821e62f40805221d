"""Batons: what a client sends back so that its next request continues the same stream.

A baton names the node and web process that hold the stream, so that any process can send the request there, and is
signed with a key of the cluster (HMAC-SHA256, 16 bytes kept). Each is good for one request. Pure. Not here: streams.
"""

from __future__ import annotations

import binascii
import hmac
import struct
from dataclasses import dataclass
from typing import Final

from pando.errors import invariant
from pando.sql.messages import HranaProtocolError

INVALID: Final = "Received an invalid baton"
USED: Final = "Received a baton that has already been used"
CLOSED: Final = "Stream for this baton was closed"

_FORMAT = struct.Struct(">BHQQB")
_VERSION = 1
_MAC_SIZE = 16
_TEXT_MAX = 400
_NODE_BYTES_MAX = 128


class BatonError(HranaProtocolError):
    """The baton cannot be used; the text is sqld's, some clients look at it."""


@dataclass(frozen=True, slots=True)
class Baton:
    """Who holds a stream, which one, and how often it was used."""

    node: str
    web: int
    stream: int
    sequence: int


class BatonCodec:
    """Writes and reads batons under one key (32 bytes, the same on every node of a cluster)."""

    def __init__(self, key: bytes) -> None:
        invariant(len(key) >= 16, "a baton key has at least 16 bytes", size=len(key))
        self._key = key

    def encode(self, baton: Baton) -> str:
        """Give the text of a baton."""
        node = baton.node.encode()
        invariant(len(node) <= _NODE_BYTES_MAX, "a node id is short", node=baton.node)
        data = _FORMAT.pack(_VERSION, baton.web, baton.stream, baton.sequence, len(node)) + node
        return binascii.b2a_base64(data + self._mac(data), newline=False).decode("ascii").rstrip("=")

    def decode(self, text: str) -> Baton:
        """Read a baton; raises BatonError unless it was made with this key."""
        if len(text) > _TEXT_MAX:
            raise BatonError(INVALID)
        try:
            raw = binascii.a2b_base64(text + "=" * (-len(text) % 4), strict_mode=True)
        except (binascii.Error, ValueError) as error:
            raise BatonError(INVALID) from error
        data, mac = raw[:-_MAC_SIZE], raw[-_MAC_SIZE:]
        if len(data) < _FORMAT.size or not hmac.compare_digest(mac, self._mac(data)):
            raise BatonError(INVALID)
        version, web, stream, sequence, size = _FORMAT.unpack_from(data)
        if version != _VERSION or len(data) != _FORMAT.size + size:
            raise BatonError(INVALID)
        return Baton(data[_FORMAT.size :].decode(), web, stream, sequence)

    def _mac(self, data: bytes) -> bytes:
        return hmac.digest(self._key, data, "sha256")[:_MAC_SIZE]
