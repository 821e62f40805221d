"""The revision by which `/pull-updates` names a state of a database: a position as text, pure.

A position names its bytes on every node, so a revision does too: another history has another checksum. Not here:
whether a node still has it (`pull_reading`).
"""

from __future__ import annotations

import re

from pando.errors import InvalidRequest
from pando.types import TXID, Checksum, Epoch, Position

_FORM = re.compile(r"pando-([0-9a-f]{1,16})-([0-9a-f]{1,16})-([0-9a-f]{16})")


def format_revision(position: Position) -> str:
    """Give the text of a position."""
    return f"pando-{position.epoch:x}-{position.txid:x}-{position.checksum:016x}"


def parse_revision(text: str) -> Position:
    """Read a revision that a client gives back; raises InvalidRequest."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            f"{text[:80]!r} is no revision of Pando: the local file was synced with another server; "
            "begin with a new file"
        )
    epoch, txid, checksum = (int(part, 16) for part in found.groups())
    return Position(epoch=Epoch(epoch), txid=TXID(txid), checksum=Checksum(checksum))
