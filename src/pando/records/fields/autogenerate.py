"""Values that are made up: ids, texts by a pattern, moments of creation and change.

Chance and time come in as arguments. Pure. Not here: when the writer asks for them (`pando.records.writing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from pando.clock import Random
from pando.records.fields import patterns
from pando.records.fields.patterns import Anchor, Chars, Choice, Node, PatternError, Repeat, Sequence
from pando.records.fields.values import FieldValue
from pando.records.model import AutodateField, Collection, TextField
from pando.records.problems import bad_request

ID_CHARS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
ID_LENGTH: Final = 15
OPEN_COUNT_EXTRA: Final = 8
"""What `*` and `+` add at most to what must be there."""
GENERATED_CHARS_MAX: Final = 5000
"""Longest text that is made."""
STEPS_MAX: Final = 4 * GENERATED_CHARS_MAX
"""Parts of the pattern that are gone through for one text: empty ones cost time too."""
CLASSES_CACHED_MAX: Final = 512
"""Classes of characters whose members are kept."""

_LETTERS_AND_DIGITS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ" + ID_CHARS
_PRINTABLE: Final = "".join(chr(code) for code in range(32, 127))


def record_id(random: Random) -> str:
    """Make an id of 15 letters and digits."""
    return random_text(random, ID_LENGTH, ID_CHARS)


def random_text(random: Random, length: int, alphabet: str = _LETTERS_AND_DIGITS) -> str:
    """Make a text of so many characters of an alphabet."""
    return "".join(random.choices(alphabet, k=length))


def from_pattern(pattern: str, random: Random) -> str:
    """Make a text that matches a pattern. Raises PatternError for anchors, and for what gets too long."""
    maker = _Maker(random)
    maker.add(patterns.parse(pattern))
    return "".join(maker.made)


def from_field(field: TextField, random: Random) -> str:
    """Make a text for a field by its pattern. Raises ApiError 400 if that cannot be, which only SQL can bring about."""
    try:
        return from_pattern(field.autogenerate_pattern, random)
    except PatternError as error:
        raise bad_request(f"The field {field.name} cannot make values: {error}.") from error


def made_up_on_create(
    collection: Collection, values: Mapping[str, FieldValue], now: str, random: Random
) -> dict[str, FieldValue]:
    """Give the values that a new record gets by itself: texts that are empty and have a pattern, and moments."""
    found: dict[str, FieldValue] = {}
    for field in collection.fields:
        if isinstance(field, TextField) and field.autogenerate_pattern and not values.get(field.name):
            found[field.name] = from_field(field, random)
        elif isinstance(field, TextField) and field.primary_key and not values.get(field.name):
            found[field.name] = record_id(random)
        elif isinstance(field, AutodateField) and field.on_create:
            found[field.name] = now
    return found


def made_up_on_update(collection: Collection, now: str) -> dict[str, FieldValue]:
    """Give the moments that a changed record gets by itself."""
    return {each.name: now for each in collection.fields if isinstance(each, AutodateField) and each.on_update}


class _Maker:
    """Makes a text by going through a pattern once."""

    def __init__(self, random: Random) -> None:
        self.made: list[str] = []
        self._random = random
        self._steps = 0

    def add(self, node: Node) -> None:
        self._steps += 1
        if self._steps > STEPS_MAX or len(self.made) > GENERATED_CHARS_MAX:
            raise PatternError(f"the pattern makes texts of more than {GENERATED_CHARS_MAX} characters")
        match node:
            case Chars():
                self.made.append(self._random.choice(_members(node)))
            case Sequence():
                for item in node.items:
                    self.add(item)
            case Choice():
                self.add(self._random.choice(node.options))
            case Repeat():
                high = node.low + OPEN_COUNT_EXTRA if node.high is None else node.high
                count = self._random.randint(node.low, high)
                if isinstance(node.item, Chars) and len(self.made) + count <= GENERATED_CHARS_MAX:
                    self.made += self._random.choices(_members(node.item), k=count)
                    return
                for _ in range(count):
                    self.add(node.item)
            case Anchor():
                raise PatternError("a pattern that makes texts has no anchors")


@lru_cache(maxsize=CLASSES_CACHED_MAX)
def _members(chars: Chars) -> str:
    """Give the characters to choose from: of a dot letters and digits, of a class those that can be printed."""
    if all(chars.has(char) for char in _PRINTABLE):
        return _LETTERS_AND_DIGITS
    found = "".join(char for char in _PRINTABLE if chars.has(char))
    if not found and not chars.is_negated:
        codes = (code for low, high in chars.ranges for code in range(low, min(high, low + 255) + 1))
        found = "".join(chr(code) for code in codes if not 0xD800 <= code <= 0xDFFF)
    if not found:
        raise PatternError("a class of the pattern has no character that can be made")
    return found
