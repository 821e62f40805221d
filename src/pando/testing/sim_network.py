"""Simulated time and links for the simulator: a queue of events, and connections that delay, cut, drop and reorder.

`LinkFaults.ordered` is TCP: what arrives arrives in order, until the connection is cut; a cut may be noticed at one end
only, then the other finds out by silence. Not ordered is nastier than any transport that is used: single messages are
lost, doubled and overtaken; the machines need not get anywhere then, but must stay right. Messages are encoded and
decoded on the way. Not here: what the messages mean.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from pando.clock import Random
from pando.replication.messages import ReplicaMessage, UpstreamMessage
from pando.testing.virtual_clock import VirtualClock

_encode = msgspec.msgpack.Encoder().encode
_TO_REPLICA: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(list[UpstreamMessage])
_TO_UPSTREAM: msgspec.msgpack.Decoder[list[Any]] = msgspec.msgpack.Decoder(list[ReplicaMessage])


class Timeline:
    """Virtual time: events run one after the other, in the order of their times."""

    def __init__(self) -> None:
        self.clock = VirtualClock(monotonic=0.0)
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._number = 0

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return self.clock.monotonic()

    def after(self, delay: float, event: Callable[[], None]) -> None:
        """Let something happen later."""
        self._number += 1
        heapq.heappush(self._queue, (self.now + delay, self._number, event))

    def step(self, until: float) -> bool:
        """Run the next event, if there is one before `until`; else move the time there."""
        if not self._queue or self._queue[0][0] > until:
            self.clock.advance(max(0.0, until - self.now))
            return False
        at, _, event = heapq.heappop(self._queue)
        self.clock.advance(max(0.0, at - self.now))
        event()
        return True


@dataclass(slots=True, kw_only=True)
class LinkFaults:
    """How bad connections are; probabilities are per message. May change while links are open."""

    ordered: bool = True
    delay_s: float = 0.002
    slow: float = 0.0
    lost: float = 0.0
    doubled: float = 0.0


class SimLink:
    """A connection between a replica and its upstream, and what is on its way."""

    def __init__(self, number: int, timeline: Timeline, random: Random, faults: LinkFaults) -> None:
        self.number = number
        self.is_open = True
        self.in_flight_bytes = 0
        self.on_message: dict[str, Callable[[Any], None]] = {}
        """By direction, `replica` or `upstream`: who takes the messages."""
        self.on_closed: dict[str, Callable[[str], None]] = {}
        self._timeline = timeline
        self._random = random
        self._faults = faults
        self._last_at = {"replica": 0.0, "upstream": 0.0}

    def send(self, to: str, message: Any) -> None:  # noqa: ANN401 - either union
        """Put a message on its way."""
        if not self.is_open:
            return
        faults, random = self._faults, self._random
        if not faults.ordered and random.random() < faults.lost:
            return
        times = 2 if not faults.ordered and random.random() < faults.doubled else 1
        data = _encode([message])
        for _ in range(times):
            self.in_flight_bytes += len(data)
            self._timeline.after(self._delay(to), lambda: self._deliver(to, data))

    def _delay(self, to: str) -> float:
        delay = self._random.uniform(0.0, self._faults.delay_s)
        if self._random.random() < self._faults.slow:
            delay += self._random.uniform(0.0, 50 * self._faults.delay_s)
        if not self._faults.ordered:
            return delay
        at = max(self._last_at[to], self._timeline.now + delay)
        self._last_at[to] = at
        return at - self._timeline.now

    def _deliver(self, to: str, data: bytes) -> None:
        self.in_flight_bytes -= len(data)
        taker = self.on_message.get(to)
        if self.is_open and taker is not None:
            for message in (_TO_REPLICA if to == "replica" else _TO_UPSTREAM).decode(data):
                taker(message)

    def close_from(self, side: str, reason: str) -> None:
        """One side closes: it hears no more, the other is told after what was sent before."""
        self.on_message.pop(side, None)
        self.on_closed.pop(side, None)
        other = "upstream" if side == "replica" else "replica"
        at = max(self._last_at[other], self._timeline.now)
        self._timeline.after(at - self._timeline.now, lambda: self._told(other, reason))

    def cut(self, *, told: tuple[str, ...]) -> None:
        """The network breaks the connection; only some ends are told."""
        self.is_open = False
        for side in told:
            self._told(side, "cut")

    def _told(self, side: str, reason: str) -> None:
        self.on_message.pop(side, None)
        taker = self.on_closed.pop(side, None)
        if taker is not None:
            taker(reason)
