"""Ids of event streams: 40 characters that say on which node and in which web process a stream lives.

    30 bytes in base64url: 16 random, 2 index of the process, 9 hash of the node's name, 3 check

So any node can route a subscription request without asking. The random part keeps others from guessing the id, which
is all that is needed to change a stream's subscriptions; the check only tells ids of ours from other texts. Events of
streams that tell their place have the id `<client id>.<cursor>`, which is taken for the client's id everywhere. Pure.
Not here: which node a hash belongs to (the caller compares the names that it knows), and the way there.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from typing import Final

from pando.errors import invariant

CLIENT_ID_CHARS: Final = 40
RANDOM_BYTES: Final = 16
INDEX_MAX: Final = 0xFFFF
_INDEX_BYTES: Final = 2
_NODE_BYTES: Final = 9
_CHECK_BYTES: Final = 3
_PLACE: Final = re.compile("[0-9]{1,16}", re.ASCII)


@dataclass(frozen=True, slots=True)
class StreamHome:
    """Where a stream lives: the hash of the node's name, and the index of the web process."""

    node_hash: bytes
    index: int

    def is_on(self, node: str) -> bool:
        """Tell whether the stream lives on the node of this name."""
        return self.node_hash == hash_node(node)


def hash_node(node: str) -> bytes:
    """Give what ids carry of a node's name."""
    return hashlib.blake2b(node.encode(), digest_size=_NODE_BYTES, person=b"pando node").digest()


def make_client_id(node: str, index: int, random: bytes) -> str:
    """Make the id of a new stream from 16 unpredictable bytes."""
    invariant(len(random) == RANDOM_BYTES, "an id has 128 random bits", size=len(random))
    invariant(0 <= index <= INDEX_MAX, "the index of a web process is small", index=index)
    body = random + index.to_bytes(_INDEX_BYTES, "big") + hash_node(node)
    return base64.urlsafe_b64encode(body + _check(body)).decode()


def parse_client_id(text: str) -> StreamHome | None:
    """Tell where a stream lives; None if the id is not one of ours."""
    text = split_event_id(text)[0]
    if len(text) != CLIENT_ID_CHARS or not text.isascii():
        return None
    try:
        data = base64.b64decode(text, altchars=b"-_", validate=True)
    except binascii.Error:
        return None
    body, check = data[:-_CHECK_BYTES], data[-_CHECK_BYTES:]
    if check != _check(body):
        return None
    index = int.from_bytes(body[RANDOM_BYTES : RANDOM_BYTES + _INDEX_BYTES], "big")
    return StreamHome(body[RANDOM_BYTES + _INDEX_BYTES :], index)


def event_id(client_id: str, place: int) -> str:
    """Make the id of an event that tells the place in the feed to go on from."""
    return f"{client_id}.{place}"


def split_event_id(text: str) -> tuple[str, int | None]:
    """Take an event's id (`Last-Event-ID`) apart: the client's id, and the place, None if it tells none."""
    client_id, dot, place = text.partition(".")
    if dot and _PLACE.fullmatch(place):
        return client_id, int(place)
    return text, None


def _check(body: bytes) -> bytes:
    return hashlib.blake2b(body, digest_size=_CHECK_BYTES, person=b"pando stream").digest()
