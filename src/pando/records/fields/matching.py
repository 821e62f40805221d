"""Finding a pattern in a text, in time that grows with the text and never explodes.

Patterns come from a collection's options and texts from anybody, so a backtracking engine would let one caller stop
the primary. Here all ways through the pattern are followed at once (a Thompson automaton), and the sets of states that
come up are remembered (a lazy DFA): time is at most states times characters, and a look into a dict per character for
what was seen before.

Pure. Not here: what patterns look like (`patterns`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, TypeAlias

from pando.records.fields.patterns import (
    Anchor,
    Chars,
    Choice,
    Node,
    PatternError,
    Place,
    Repeat,
    Sequence,
    parse,
)

STATES_MAX: Final = 5000
"""States of one pattern; a count copies what it counts."""
STEPS_CACHED_MAX: Final = 1000
"""Steps that one pattern remembers; past it, it starts to remember anew."""
MATCHERS_CACHED_MAX: Final = 256
"""Patterns kept ready."""

States: TypeAlias = frozenset[int]


@lru_cache(maxsize=MATCHERS_CACHED_MAX)
def matcher(pattern: str) -> Matcher:
    """Make a pattern ready. Raises PatternError."""
    return Matcher(parse(pattern))


@dataclass(frozen=True, slots=True)
class _Step:
    """A state: by one of `chars`, or at `place`, or at once it goes on to `nexts`. Without `nexts` it is the end."""

    nexts: tuple[int, ...]
    chars: Chars | None = None
    place: Place | None = None


class Matcher:
    """Looks for one pattern."""

    def __init__(self, node: Node) -> None:
        self._steps: list[_Step] = [_Step(())]
        self._start = frozenset([self._build(node, 0)])
        places = {step.place for step in self._steps}
        self._has_lines = bool(places & {Place.LINE_BEGINS, Place.LINE_ENDS})
        self._has_words = bool(places & {Place.WORD_EDGE, Place.NO_WORD_EDGE})
        self._plain = _plain(node)
        self._closed: dict[tuple[States, int], tuple[States, bool]] = {}
        self._moved: dict[tuple[States, str], States] = {}

    def is_found_in(self, text: str) -> bool:
        """Tell whether the pattern matches anywhere in a text."""
        plain = self._plain
        if plain is not None and text.isascii():
            return plain.low <= len(text) <= plain.high and plain.chars.issuperset(text)
        states = self._start
        before = ""
        for char in text:
            waiting, is_found = self._close(states, self._places(before, char))
            if is_found:
                return True
            states = self._move(waiting, char)
            before = char
        return self._close(states, self._places(before, ""))[1]

    # -- building ---------------------------------------------------------------------------------------------------

    def _add(self, step: _Step) -> int:
        if len(self._steps) >= STATES_MAX:
            raise PatternError("the counts of the pattern make it too large")
        self._steps.append(step)
        return len(self._steps) - 1

    def _build(self, node: Node, then: int) -> int:
        """Add the states of a part, which go on to `then`; give the first."""
        match node:
            case Chars():
                return self._add(_Step((then,), chars=node))
            case Anchor():
                return self._add(_Step((then,), place=node.place))
            case Sequence():
                for item in reversed(node.items):
                    then = self._build(item, then)
                return then
            case Choice():
                return self._add(_Step(tuple(self._build(option, then) for option in node.options)))
            case Repeat():
                return self._build_repeat(node, then)

    def _build_repeat(self, node: Repeat, then: int) -> int:
        end = then
        if node.high is None:
            loop = self._add(_Step((then,)))
            inner = self._build(node.item, loop)
            self._steps[loop] = _Step((inner, then))
            then = loop
        else:
            for _ in range(node.high - node.low):
                then = self._add(_Step((self._build(node.item, then), end)))
        for _ in range(node.low):
            before, then = then, self._build(node.item, then)
            if then == before:
                break  # what needs no state is the same once as a thousand times
        return then

    # -- running ----------------------------------------------------------------------------------------------------

    def _places(self, before: str, after: str) -> int:
        """Say what holds between two characters, "" for none, as bits of Place."""
        found = (0 if before else Place.TEXT_BEGINS.value) | (0 if after else Place.TEXT_ENDS.value)
        if self._has_lines:
            found |= Place.LINE_BEGINS.value if before in ("", "\n") else 0
            found |= Place.LINE_ENDS.value if after in ("", "\n") else 0
        if self._has_words:
            is_edge = _is_word(before) != _is_word(after)
            found |= Place.WORD_EDGE.value if is_edge else Place.NO_WORD_EDGE.value
        return found

    def _close(self, states: States, places: int) -> tuple[States, bool]:
        """Follow what needs no character: give the states that wait for one, and whether the end is reached."""
        key = (states, places)
        found = self._closed.get(key)
        if found is None:
            if len(self._closed) >= STEPS_CACHED_MAX:
                self._closed.clear()
            found = self._closed[key] = self._follow(states, places)
        return found

    def _follow(self, states: States, places: int) -> tuple[States, bool]:
        seen = set(states)
        stack = list(states)
        waiting: set[int] = set()
        while stack:
            step = self._steps[at := stack.pop()]
            if not step.nexts:
                return frozenset(), True
            if step.chars is not None:
                waiting.add(at)
            elif step.place is None or step.place.value & places:
                new = [each for each in step.nexts if each not in seen]
                seen.update(new)
                stack += new
        return frozenset(waiting), False

    def _move(self, waiting: States, char: str) -> States:
        """Take a character; the pattern may begin behind it too."""
        key = (waiting, char)
        found = self._moved.get(key)
        if found is None:
            if len(self._moved) >= STEPS_CACHED_MAX:
                self._moved.clear()
            steps = [self._steps[each] for each in waiting]
            taken = [step.nexts[0] for step in steps if step.chars is not None and step.chars.has(char)]
            found = self._moved[key] = self._start.union(taken)
        return found


@dataclass(frozen=True, slots=True)
class _Plain:
    """What the patterns of ids mostly are: from `low` to `high` of some characters and nothing else, as in ^[a-z]+$."""

    chars: frozenset[str]
    low: int
    high: float


def _plain(node: Node) -> _Plain | None:
    match node:
        case Sequence((Anchor(Place.TEXT_BEGINS), Repeat(Chars() as chars, low, high), Anchor(Place.TEXT_ENDS))):
            found = frozenset(char for char in map(chr, range(128)) if chars.has(char))
            return _Plain(found, low, math.inf if high is None else high)
    return None


def _is_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")
