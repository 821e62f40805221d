"""Decides how much of a database's log is kept: pure, one function.

The log is needed by recovery (everything after the last finished checkpoint), by replicas that are connected and behind
(so that they need no snapshot), and, as far as the size limit goes, by replicas that come back. Not here: dropping.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pando import limits
from pando.types import TXID


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentInfo:
    """One log segment: its last commit, and its size on disk."""

    max_txid: TXID
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Segments that hold nothing after `drop_before` may go (0: none); `kept_bytes` stay."""

    drop_before: TXID
    kept_bytes: int
    reason: str


def plan_retention(
    segments: Sequence[SegmentInfo],
    *,
    checkpointed: TXID,
    held: Iterable[TXID | None] = (),
    size_bytes_max: int = limits.LOG_SIZE_BYTES_MAX,
    held_bytes_max: int | None = None,
) -> Retention:
    """Decide what may go. Segments in order; the last one, which is being written, always stays.

    `checkpointed`: commits up to here are in the database file, durably. `held`: per connected replica the commit after
    which it needs the log (`Sender.hold`). Their need keeps up to `held_bytes_max` (default: twice the limit), no more.
    """
    kept = sum(segment.size_bytes for segment in segments)
    least_held = min((txid for txid in held if txid is not None), default=None)
    held_max = 2 * size_bytes_max if held_bytes_max is None else held_bytes_max
    drop_before, reason = TXID(0), "within the size limit"
    for segment in segments[:-1]:
        if kept <= size_bytes_max:
            break
        if segment.max_txid > checkpointed:
            reason = f"commits after {checkpointed} are not checkpointed yet"
            break
        if least_held is not None and segment.max_txid > least_held and kept <= held_max:
            reason = f"a connected replica needs commits after {least_held}"
            break
        drop_before = segment.max_txid
        kept -= segment.size_bytes
        reason = f"over {size_bytes_max} bytes"
    return Retention(drop_before=drop_before, kept_bytes=kept, reason=reason)
