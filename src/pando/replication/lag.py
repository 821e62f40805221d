"""How far one thing is behind another: in commits, in log bytes and in seconds, measured with one clock.

A `LagMeter` belongs to a database. It is told when the head moves, and asked about a position behind it: at an upstream
about what a replica has applied, at a replica about what its own readers see. Seconds are the age of the oldest commit
that is missing, from when this node knew of it; no clocks of two machines are compared. Not here: who asks.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from pando.errors import invariant
from pando.types import TXID

SAMPLES_MAX: Final = 512
"""Points kept per database; beyond, every second of the older half is merged: old answers get coarser (too large)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lag:
    """How far behind."""

    lag_txids: int
    lag_bytes: int
    lag_s: float


NO_LAG: Final = Lag(lag_txids=0, lag_bytes=0, lag_s=0.0)


class LagMeter:
    """Remembers when the head passed which commit, and how many log bytes that was."""

    __slots__ = ("_bytes", "_times", "_total", "_txids")

    def __init__(self, head: TXID, now: float) -> None:
        self._txids: list[int] = [head]
        self._times: list[float] = [now]
        self._bytes: list[int] = [0]
        self._total = 0

    @property
    def head(self) -> TXID:
        """The newest commit."""
        return TXID(self._txids[-1])

    def advanced(self, head: TXID, size_bytes: int, now: float) -> None:
        """The head moved by so many log bytes; a head that does not move is no news."""
        if head <= self._txids[-1]:
            return
        self._total += size_bytes
        self._txids.append(head)
        self._times.append(now)
        self._bytes.append(self._total)
        if len(self._txids) > SAMPLES_MAX:
            self._thin()

    def reset(self, head: TXID, now: float) -> None:
        """The history is another one (a snapshot was installed)."""
        self._txids, self._times, self._bytes, self._total = [head], [now], [0], 0

    def lag(self, position: TXID, now: float) -> Lag:
        """Tell how far a commit is behind the head."""
        head = self._txids[-1]
        if position >= head:
            return NO_LAG
        missing = bisect_right(self._txids, position)
        known = self._bytes[missing - 1] if missing else 0
        return Lag(
            lag_txids=head - position,
            lag_bytes=self._total - known,
            lag_s=max(0.0, now - self._times[missing]),
        )

    def _thin(self) -> None:
        """Merge pairs of points in the older half: the later commit, known since the earlier time."""
        half = SAMPLES_MAX // 2
        txids, times, sizes = self._txids, self._times, self._bytes
        self._txids = txids[1:half:2] + txids[half:]
        self._times = times[0:half:2] + times[half:]
        self._bytes = sizes[1:half:2] + sizes[half:]

    def check_invariants(self) -> None:
        """Check the order of the points."""
        for points in (self._txids, self._times, self._bytes):
            invariant(points == sorted(points) and len(points) <= SAMPLES_MAX, "points out of order")
