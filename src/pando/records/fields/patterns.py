r"""Regular expressions of field options, read into a tree.

Understood is RE2's syntax, as Go has it: literals, `.`, classes with ranges, `\d \s \w` and `[:alpha:]`, `\p{L}`,
groups with or without a name, alternation, counts with a limit of 1000, flags `i m s U`, anchors and `\b`. There are
no back references and no looking around, and `$` is the end of the text unless `m` is set. Whether a count is lazy
makes no difference here and is dropped.

Pure. Not here: finding a pattern in a text (`matching`), making texts of one (`autogenerate`).
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache
from typing import Final, TypeAlias

PATTERN_CHARS_MAX: Final = 5000
"""Longest pattern."""
PATTERN_DEPTH_MAX: Final = 100
"""Groups inside each other."""
COUNT_MAX: Final = 1000
"""Largest count, as in RE2."""
PATTERNS_CACHED_MAX: Final = 512
"""Patterns kept as trees."""
CODE_POINT_MAX: Final = 0x10FFFF

Ranges: TypeAlias = tuple[tuple[int, int], ...]


class PatternError(ValueError):
    """The text is no regular expression, or one that is not understood."""


class Place(Enum):
    """What holds between two characters."""

    TEXT_BEGINS = 1
    TEXT_ENDS = 2
    LINE_BEGINS = 4
    LINE_ENDS = 8
    WORD_EDGE = 16
    NO_WORD_EDGE = 32


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of some: in `ranges`, or of a Unicode category (how its name begins; true: all but these)."""

    ranges: Ranges = ()
    categories: tuple[tuple[str, bool], ...] = ()
    is_negated: bool = False
    ignores_case: bool = False

    def has(self, char: str) -> bool:
        """Tell whether a character is one of these."""
        found = self._lists(char)
        if not found and self.ignores_case:
            found = any(self._lists(other) for other in {char.lower(), char.upper()} if len(other) == 1)
        return found != self.is_negated

    def _lists(self, char: str) -> bool:
        code = ord(char)
        if any(low <= code <= high for low, high in self.ranges):
            return True
        return any(unicodedata.category(char).startswith(name) != negated for name, negated in self.categories)


@dataclass(frozen=True, slots=True)
class Anchor:
    """A place in the text."""

    place: Place


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    options: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same from `low` to `high` times, without limit if that is None."""

    item: Node
    low: int
    high: int | None


Node: TypeAlias = Chars | Anchor | Sequence | Choice | Repeat


@lru_cache(maxsize=PATTERNS_CACHED_MAX)
def parse(pattern: str) -> Node:
    """Read a pattern. Raises PatternError."""
    if len(pattern) > PATTERN_CHARS_MAX:
        raise PatternError(f"a pattern has {PATTERN_CHARS_MAX} characters at most")
    parser = _Parser(pattern)
    node = parser.alternatives(_Flags(), 0)
    if parser.rest():
        raise PatternError("unexpected )")
    return node


# -- the parser -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Flags:
    ignores_case: bool = False
    many_lines: bool = False
    dot_is_all: bool = False


_DIGITS: Final[Ranges] = ((48, 57),)
_SPACES: Final[Ranges] = ((9, 10), (12, 13), (32, 32))
_WORDS: Final[Ranges] = ((48, 57), (65, 90), (95, 95), (97, 122))
_CLASSES: Final = {"d": _DIGITS, "s": _SPACES, "w": _WORDS}
_NAMED: Final[dict[str, Ranges]] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": _DIGITS,
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": _WORDS,
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_CONTROLS: Final = {"a": 7, "f": 12, "t": 9, "n": 10, "r": 13, "v": 11}
_PLACES: Final = {
    "A": Place.TEXT_BEGINS,
    "z": Place.TEXT_ENDS,
    "b": Place.WORD_EDGE,
    "B": Place.NO_WORD_EDGE,
}
_CATEGORIES: Final = frozenset(
    major + minor
    for major, minors in {
        "C": "cfnos",
        "L": "lmotu",
        "M": "cen",
        "N": "dlo",
        "P": "cdefios",
        "S": "ckmo",
        "Z": "lps",
    }.items()
    for minor in ("", *minors)
)


def invert(ranges: Ranges) -> Ranges:
    """Give all other code points."""
    found: list[tuple[int, int]] = []
    begin = 0
    for low, high in sorted(ranges):
        if low > begin:
            found.append((begin, low - 1))
        begin = max(begin, high + 1)
    if begin <= CODE_POINT_MAX:
        found.append((begin, CODE_POINT_MAX))
    return tuple(found)


class _Parser:
    """A pattern and a place in it. Each method reads one construct, and leaves the place behind it."""

    def __init__(self, pattern: str) -> None:
        self._pattern = pattern
        self._at = 0

    def rest(self) -> str:
        return self._pattern[self._at :]

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _take(self, text: str) -> bool:
        found = self._pattern.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _next(self) -> str:
        if not (char := self._peek()):
            raise PatternError("the pattern ends too early")
        self._at += 1
        return char

    def alternatives(self, flags: _Flags, depth: int) -> Node:
        if depth > PATTERN_DEPTH_MAX:
            raise PatternError(f"groups nest deeper than {PATTERN_DEPTH_MAX}")
        options: list[Node] = []
        items: list[Node] = []
        while (char := self._peek()) and char != ")":
            if self._take("|"):
                options.append(_sequence(items))
                items = []
            elif found := self._flags_alone(flags):
                flags = found
            else:
                items += self._repeated(self._atom(flags, depth))
        options.append(_sequence(items))
        return options[0] if len(options) == 1 else Choice(tuple(options))

    def _atom(self, flags: _Flags, depth: int) -> list[Node]:
        """Read one item, or the several of a quoted text; counts belong to the last."""
        if self._take("\\Q"):
            quoted, _, _ = self.rest().partition("\\E")
            self._at = min(len(self._pattern), self._at + len(quoted) + 2)
            return [_char(ord(char), flags) for char in quoted]
        char = self._next()
        match char:
            case "(":
                return [self._group(flags, depth)]
            case "[":
                return [self._class(flags)]
            case ".":
                return [Chars(((0, CODE_POINT_MAX),) if flags.dot_is_all else invert(((10, 10),)))]
            case "^":
                return [Anchor(Place.LINE_BEGINS if flags.many_lines else Place.TEXT_BEGINS)]
            case "$":
                return [Anchor(Place.LINE_ENDS if flags.many_lines else Place.TEXT_ENDS)]
            case "*" | "+" | "?":
                raise PatternError(f"nothing to repeat before {char}")
            case "\\":
                return [self._escape(flags)]
        return [_char(ord(char), flags)]

    def _flags_alone(self, flags: _Flags) -> _Flags | None:
        """Read `(?i)` and the like, which hold until the group ends."""
        start = self._at
        if self._take("(?") and (found := self._flag_letters(flags)) and self._take(")"):
            return found
        self._at = start
        return None

    def _flag_letters(self, flags: _Flags) -> _Flags | None:
        value = True
        start = self._at
        while (char := self._peek()) and char in "imsU-":
            self._at += 1
            match char:
                case "-":
                    value = False
                case "i":
                    flags = replace(flags, ignores_case=value)
                case "m":
                    flags = replace(flags, many_lines=value)
                case "s":
                    flags = replace(flags, dot_is_all=value)
        return flags if self._at > start else None

    def _group(self, flags: _Flags, depth: int) -> Node:
        if self._take("?"):
            if self._take("P<") or self._take("<"):
                name, closed, _ = self.rest().partition(">")
                if not closed or not (name.isascii() and name.isidentifier()):
                    raise PatternError("a group's name is missing or not a word")
                self._at += len(name) + 1
            elif not self._take(":"):
                found = self._flag_letters(flags)
                if found is None or not self._take(":"):
                    raise PatternError("a group begins with what is not understood")
                flags = found
        node = self.alternatives(flags, depth + 1)
        if not self._take(")"):
            raise PatternError("a group is not closed")
        return node

    def _repeated(self, items: list[Node]) -> list[Node]:
        """Read the count behind an item."""
        found = self._count()
        if found is None or not items:
            return items
        self._take("?")
        if self._count() is not None:
            raise PatternError("a count behind a count")
        low, high = found
        return [*items[:-1], Repeat(items[-1], low, high)]

    def _count(self) -> tuple[int, int | None] | None:
        for sign, low, high in (("*", 0, None), ("+", 1, None), ("?", 0, 1)):
            if self._take(sign):
                return low, high
        if self._peek() != "{":
            return None
        inside, closed, _ = self.rest()[1:].partition("}")
        first, comma, second = inside.partition(",")
        if not closed or not _is_count(first) or (second and not _is_count(second)):
            return None  # a brace that is no count is a brace
        self._at += len(inside) + 2
        low = int(first)
        last = (int(second) if second else None) if comma else low
        if low > COUNT_MAX or (last is not None and not low <= last <= COUNT_MAX):
            raise PatternError(f"a count is over {COUNT_MAX} or runs backwards")
        return low, last

    def _escape(self, flags: _Flags) -> Node:
        if self._peek() and self._peek() in _PLACES:
            return Anchor(_PLACES[self._next()])
        return self._class_escape(flags) or _char(self._escaped_char(), flags)

    def _class_escape(self, flags: _Flags) -> Chars | None:
        r"""Read `\d`, `\pL` and the like, behind the backslash; None if it is something else."""
        char = self._peek()
        if char and char in "dswDSW":
            self._at += 1
            ranges = _CLASSES[char.lower()]
            return Chars(invert(ranges) if char.isupper() else ranges)
        if not char or char not in "pP":
            return None
        self._at += 1
        name = self._next()
        if name == "{":
            name, closed, _ = self.rest().partition("}")
            self._at += len(name) + len(closed)
        negated = (char == "P") != name.startswith("^")
        name = name.removeprefix("^")
        if name == "Any":
            return Chars(() if negated else ((0, CODE_POINT_MAX),))
        if name not in _CATEGORIES:
            raise PatternError(f"{name[:20]} is no Unicode category that is understood")
        return Chars(categories=((name, negated),), ignores_case=flags.ignores_case)

    def _escaped_char(self) -> int:
        char = self._next()
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "x":
            return self._hexadecimal()
        if char in "01234567" and (char == "0" or self._peek() in tuple("01234567")):
            digits = char
            while len(digits) < 3 and self._peek() and self._peek() in "01234567":
                digits += self._next()
            return int(digits, 8)
        if char.isascii() and char.isalnum():
            raise PatternError(f"\\{char} is not understood")
        return ord(char)

    def _hexadecimal(self) -> int:
        if self._take("{"):
            digits, closed, _ = self.rest().partition("}")
            self._at += len(digits) + len(closed)
        else:
            digits = self._next() + self._next()
        if not digits or len(digits) > 8 or any(char not in "0123456789abcdefABCDEF" for char in digits):
            raise PatternError("\\x is followed by hexadecimal digits")
        if (code := int(digits, 16)) > CODE_POINT_MAX:
            raise PatternError("\\x is followed by a code point")
        return code

    def _class(self, flags: _Flags) -> Chars:
        """Read a class behind its opening bracket."""
        is_negated = self._take("^")
        ranges: list[tuple[int, int]] = []
        categories: list[tuple[str, bool]] = []
        is_first = True
        while is_first or self._peek() != "]":
            is_first = False
            if found := self._set(flags):
                ranges += found.ranges
                categories += found.categories
            else:
                ranges.append(self._range())
        self._at += 1
        return Chars(tuple(ranges), tuple(categories), is_negated, flags.ignores_case)

    def _set(self, flags: _Flags) -> Chars | None:
        r"""Read `[:alpha:]` or `\d` inside a class; None if a character follows."""
        if self._take("[:"):
            name, closed, _ = self.rest().partition(":]")
            ranges = _NAMED.get(name.removeprefix("^"))
            if not closed or ranges is None:
                raise PatternError(f"[:{name[:20]}:] is not understood")
            self._at += len(name) + 2
            return Chars(invert(ranges) if name.startswith("^") else ranges)
        start = self._at
        if self._take("\\") and (found := self._class_escape(flags)):
            return found
        self._at = start
        return None

    def _range(self) -> tuple[int, int]:
        low = high = self._class_char()
        if self._peek() == "-" and self._pattern[self._at + 1 : self._at + 2] not in ("]", ""):
            self._at += 1
            high = self._class_char()
        if low > high:
            raise PatternError("a range runs backwards")
        return low, high

    def _class_char(self) -> int:
        return self._escaped_char() if self._take("\\") else ord(self._next())


def _is_count(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 6


def _char(code: int, flags: _Flags) -> Chars:
    return Chars(((code, code),), ignores_case=flags.ignores_case)


def _sequence(items: list[Node]) -> Node:
    return items[0] if len(items) == 1 else Sequence(tuple(items))
