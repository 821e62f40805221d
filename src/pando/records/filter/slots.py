"""What stands for a bound value in compiled SQL, and how it is found when a question is asked.

A slot says where a value comes from: the filter's text, the request, the clock, the question. `Shapes` tells the
compiler the little it may know of a request's values (is one there, is it empty); what it was told belongs to the key
under which compiled SQL is kept. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Protocol

import msgspec

from pando.records.engine import Value
from pando.records.filter.macros import macro_value, moment_text
from pando.records.filter.request import MISSING, RequestInfo, RequestPath
from pando.records.filter.syntax import FilterError, Literal

_PATTERN_BYTES_MAX = 50_000
"""SQLite's limit on the right side of LIKE."""
_INTEGER_MAX = 2**63


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """Where the values of one question come from."""

    request: RequestInfo
    now: datetime
    literals: tuple[tuple[Literal, ...], ...] = ()
    overlay: Mapping[str, Value] = field(default_factory=dict)
    ids: tuple[str, ...] = ()
    referred: tuple[str, ...] = ()
    limit: int = -1
    offset: int = 0


class Slot(Protocol):
    """A place for one bound value."""

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        ...


# -- where values come from -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Constant:
    """The same value for all questions."""

    constant: Value

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        return self.constant


@dataclass(frozen=True, slots=True)
class LiteralSlot:
    """A text or number of the question's `filter`-th filter."""

    filter: int
    position: int

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        return binding.literals[self.filter][self.position]


@dataclass(frozen=True, slots=True)
class MacroSlot:
    """A macro."""

    name: str

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        return macro_value(self.name, binding.now)


@dataclass(frozen=True, slots=True)
class RequestSlot:
    """A value of the request; lists and objects as JSON text, what is missing as NULL."""

    path: RequestPath

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        return scalar(self.path.find(binding.request))


@dataclass(frozen=True, slots=True)
class TextSlot:
    """A value of the request as a text; what is no text, number or truth value is ""."""

    path: RequestPath

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        value = self.path.find(binding.request)
        if isinstance(value, bool):
            return "true" if value else "false"
        return _text(value) if isinstance(value, str | int | float) else ""


@dataclass(frozen=True, slots=True)
class ListSlot:
    """A value of the request as a JSON list: one value is a list of one, nothing an empty list."""

    path: RequestPath

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        return _json(as_list(self.path.find(binding.request)))


@dataclass(frozen=True, slots=True)
class LastSlot:
    """The last of a request's list, or its one value."""

    path: RequestPath

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        items = as_list(self.path.find(binding.request))
        return scalar(items[-1]) if items else None


@dataclass(frozen=True, slots=True)
class LengthSlot:
    """How many values the request has at a place; "" is none, unless it `counts_empty`."""

    path: RequestPath
    counts_empty: bool = False

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        items = as_list(self.path.find(binding.request))
        return len(items) if self.counts_empty or items != [""] else 0


@dataclass(frozen=True, slots=True)
class PatternSlot:
    """Another slot's value as the right side of LIKE."""

    inner: Slot

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        value = self.inner.value(binding)
        if value is None:
            return None
        pattern = like_pattern(_text(value))
        if len(pattern.encode()) > _PATTERN_BYTES_MAX:
            raise FilterError("a text to look for is too long")
        return pattern


@dataclass(frozen=True, slots=True)
class TimeSlot:
    """Another slot's value as a moment for SQLite: `now` is the question's moment, not the machine's."""

    inner: Slot | None = None

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        value = "now" if self.inner is None else self.inner.value(binding)
        is_now = isinstance(value, str) and value.strip().lower() == "now"
        return moment_text(binding.now) if is_now else value


class Given(StrEnum):
    """Values that the question itself carries."""

    IDS = "ids"
    REFERRED = "referred"
    LIMIT = "limit"
    OFFSET = "offset"


@dataclass(frozen=True, slots=True)
class GivenSlot:
    """A value of the question: a number, or a list as JSON text."""

    given: Given

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        value: tuple[str, ...] | int = getattr(binding, self.given)
        return value if isinstance(value, int) else _json(list(value))


@dataclass(frozen=True, slots=True)
class GivenFirstSlot:
    """The first of a list of the question."""

    given: Given

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        value: str = getattr(binding, self.given)[0]
        return value


@dataclass(frozen=True, slots=True)
class OverlaySlot:
    """A column of the record that is asked about before it is stored."""

    column: str

    def value(self, binding: Binding) -> Value:
        """Find the value."""
        return binding.overlay.get(self.column)


# -- values -----------------------------------------------------------------------------------------------------------


def scalar(value: object) -> Value:
    """Make a SQL value of a JSON value."""
    if value is None or value is MISSING:
        return None
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, int):
        return value if -_INTEGER_MAX <= value < _INTEGER_MAX else float(value)
    if isinstance(value, str | float):
        return value
    return _json(value)


def as_list(value: object) -> list[object]:
    """Give the items of a list; one value is a list of one, nothing an empty list."""
    if value is None or value is MISSING:
        return []
    return value if isinstance(value, list) else [value]


def like_pattern(text: str) -> str:
    r"""Wrap a text in `%`, with `%`, `_` and `\` taken literally, unless it has a `%` of its own."""
    wrapped: list[str] = []
    place = 0
    while place < len(text):
        each, after = text[place], text[place + 1 : place + 2]
        if each == "\\" and after and after in "%_\\":
            wrapped.append(each + after)
            place += 1
        elif each == "%":
            return text
        else:
            wrapped.append("\\" + each if each in "_\\" else each)
        place += 1
    return f"%{''.join(wrapped)}%"


def _text(value: Value) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) < _INTEGER_MAX:
        return str(int(value))
    return str(value)


def _json(value: object) -> str:
    return msgspec.json.encode(value, order="deterministic").decode()


# -- what the compiler may know of the request ------------------------------------------------------------------------


class State(StrEnum):
    """What is known of a value when SQL is made."""

    NULL = "null"
    EMPTY = "empty"
    FULL = "full"
    UNKNOWN = "unknown"


class Probe(Protocol):
    """A question about a request whose answer shapes SQL."""

    def answer(self, request: RequestInfo) -> State | bool | str:
        """Ask it."""
        ...


@dataclass(frozen=True, slots=True)
class StateProbe:
    """Whether there is a value, and whether it is the empty text."""

    path: RequestPath

    def answer(self, request: RequestInfo) -> State:
        """Ask it."""
        value = self.path.find(request)
        if value is None or value is MISSING:
            return State.NULL
        return State.EMPTY if value == "" else State.FULL


@dataclass(frozen=True, slots=True)
class PresenceProbe:
    """Whether a key is there, whatever its value."""

    path: RequestPath

    def answer(self, request: RequestInfo) -> bool:
        """Ask it."""
        return self.path.find(request) is not MISSING


@dataclass(frozen=True, slots=True)
class ReferenceProbe:
    """Whether a relation refers to any record."""

    path: RequestPath

    def answer(self, request: RequestInfo) -> bool:
        """Ask it."""
        return any(each != "" for each in as_list(self.path.find(request)))


@dataclass(frozen=True, slots=True)
class CollectionProbe:
    """The id of the collection of who has signed in, or ""."""

    def answer(self, request: RequestInfo) -> str:
        """Ask it."""
        return "" if request.auth is None else request.auth.collection.id


class Shapes:
    """Answers probes for one compilation and remembers what it said."""

    def __init__(self, request: RequestInfo) -> None:
        self._request = request
        self.told: dict[Probe, State | bool | str] = {}

    def state(self, path: RequestPath) -> State:
        """Tell whether there is a value at a place."""
        answer = self._tell(StateProbe(path))
        return answer if isinstance(answer, State) else State.UNKNOWN

    def is_present(self, path: RequestPath) -> bool:
        """Tell whether there is a key."""
        return bool(self._tell(PresenceProbe(path)))

    def refers(self, path: RequestPath) -> bool:
        """Tell whether a relation refers to any record."""
        return bool(self._tell(ReferenceProbe(path)))

    def auth_collection(self) -> str:
        """Tell the id of the collection of who has signed in, or ""."""
        return str(self._tell(CollectionProbe()))

    def _tell(self, probe: Probe) -> State | bool | str:
        if probe not in self.told:
            self.told[probe] = probe.answer(self._request)
        return self.told[probe]


def still_true(told: Mapping[Probe, State | bool | str], request: RequestInfo) -> bool:
    """Whether a request would be answered the same way."""
    return all(probe.answer(request) == answer for probe, answer in told.items())
