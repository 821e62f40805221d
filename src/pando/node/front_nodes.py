"""Which node gets the next request: round robin over those that are well, and what makes a node well or not.

A plain machine: it is told what checks and requests found, and says who is next. Not here: asking the nodes
(`pando.node.front`), sending requests (`pando.node.front_proxy`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pando.errors import InvalidSetting

MISSES_MAX = 2
"""A node that did not answer this many checks in time is left out; one late answer may be a pause of the machine."""


@dataclass(slots=True)
class FrontNode:
    """What is known of one node."""

    url: str
    is_up: bool = False
    reason: str = "it was not asked yet"
    misses: int = 0


class Rotation:
    """The nodes in turn. `on_change` is called with a node that came or went."""

    def __init__(self, urls: Iterable[str], on_change: Callable[[FrontNode], None]) -> None:
        """Raises InvalidSetting without nodes."""
        self.nodes = [FrontNode(url) for url in urls]
        self._on_change = on_change
        self._next = 0
        if not self.nodes:
            raise InvalidSetting("a front needs at least one node: give --node URL")

    def order(self) -> list[FrontNode]:
        """Give the nodes that are well, the one whose turn it is first; the others are for a second try."""
        up = [node for node in self.nodes if node.is_up]
        if not up:
            return up
        first = self._next % len(up)
        self._next = (self._next + 1) % (1 << 30)
        return up[first:] + up[:first]

    def is_well(self, node: FrontNode) -> None:
        """A check got the answer "ready"."""
        node.misses = 0
        if not node.is_up:
            node.is_up, node.reason = True, ""
            self._on_change(node)

    def is_away(self, node: FrontNode, reason: str) -> None:
        """Nobody listens there, or it said that it is not ready: nothing more is sent to it until a check succeeds."""
        was_up, node.is_up, node.reason = node.is_up, False, reason
        if was_up:
            self._on_change(node)

    def is_late(self, node: FrontNode, reason: str) -> None:
        """A check had no answer in time; the second in a row counts as away."""
        node.misses += 1
        if node.misses >= MISSES_MAX or not node.is_up:
            self.is_away(node, reason)

    def why_none(self) -> str:
        """Say for each node why it gets no requests."""
        return "; ".join(f"{node.url}: {node.reason or 'it is well'}" for node in self.nodes)
