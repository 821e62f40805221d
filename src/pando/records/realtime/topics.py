"""What a client subscribes to: subscription texts, their options, and which topics a changed record belongs to.

    <collection>/*   <collection>/<record id>   <collection>   anything else
    ...?options=<URL-encoded JSON {"query":{...},"headers":{...}}>

The collection is named by name or id; `<collection>` alone is the old form of `<collection>/*`. Events carry the text
as the client sent it. Options that cannot be read count as none (as in PocketBase). Pure. Not here: who has subscribed
(`clients`), rules (`matching`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from urllib.parse import parse_qsl

import msgspec

from pando import limits
from pando.records.problems import REQUIRED, Problem, Problems, ValidationFailed

CONNECTED: Final = "PB_CONNECT"
"""Name of the first event of a stream."""
_LINE_ENDS: Final = ("\n", "\r", "\0")
_SURROGATES: Final = re.compile("[\ud800-\udfff]")
"""Halves of characters, which some readers of JSON let through, and which cannot be written."""


class RuleKind(StrEnum):
    """Which rule of the collection decides over an event."""

    LIST = "list"
    VIEW = "view"


@dataclass(frozen=True, slots=True)
class Options:
    """What a subscription asks for besides its topic: pairs sorted by name, as `@request.query` and `headers`."""

    query: tuple[tuple[str, str], ...] = ()
    headers: tuple[tuple[str, str], ...] = ()

    def get(self, name: str) -> str:
        """Give a query parameter (`filter`, `expand`, `fields` or any other), "" if it is not there."""
        return dict(self.query).get(name, "")


NO_OPTIONS: Final = Options()


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription: `text` as sent, which names its events, and the topic and options in it."""

    text: str
    topic: str
    options: Options = NO_OPTIONS


class _RawOptions(msgspec.Struct):
    query: dict[str, Any] | None = None
    headers: dict[str, Any] | None = None


_decode_options = msgspec.json.Decoder(_RawOptions).decode


def parse_subscription(text: str) -> Subscription:
    """Take a subscription apart; never fails."""
    topic, mark, query = text.partition("?")
    return Subscription(text, topic, _options_of(query) if mark else NO_OPTIONS)


def _options_of(query: str) -> Options:
    try:
        raw = next((value for name, value in parse_qsl(query) if name == "options"), "")
        found = _decode_options(raw)
    except (ValueError, RecursionError):  # msgspec's errors are ValueErrors
        return NO_OPTIONS
    headers = {name.lower().replace("-", "_"): value for name, value in (found.headers or {}).items()}
    return Options(_pairs(found.query or {}), _pairs(headers))


def _pairs(values: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted((name, _text_of(value)) for name, value in values.items()))


def _text_of(value: object) -> str:
    """Give a JSON value as a query parameter has it; lists and objects are no text."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return str(value) if isinstance(value, int | float) else ""


def topics_of(names: Iterable[str], record_id: str) -> dict[str, RuleKind]:
    """Name the topics that a change of a record belongs to, and the rule that each is under.

    `names`: what its collection is called: name and id.
    """
    found: dict[str, RuleKind] = {}
    for name in names:
        found[f"{name}/{record_id}"] = RuleKind.VIEW
        found[f"{name}/*"] = RuleKind.LIST
        found[name] = RuleKind.LIST
    return found


def check_request(client_id: str, subscriptions: Sequence[str]) -> tuple[Subscription, ...]:
    """Check the body of a subscription request and take it apart, without repetitions. Raises ValidationFailed."""
    problems: dict[str, Problem | Problems] = {}
    if not client_id:
        problems["clientId"] = REQUIRED
    elif len(client_id) > limits.REALTIME_CLIENT_ID_CHARS_MAX:
        problems["clientId"] = _between(1, limits.REALTIME_CLIENT_ID_CHARS_MAX)
    if len(subscriptions) > limits.REALTIME_TOPICS_MAX:
        problems["subscriptions"] = _too_long(limits.REALTIME_TOPICS_MAX)
    elif wrong := {str(at): problem for at, text in enumerate(subscriptions) if (problem := _check_text(text))}:
        problems["subscriptions"] = wrong
    if problems:
        raise ValidationFailed(problems)
    return tuple(parse_subscription(text) for text in dict.fromkeys(subscriptions) if text)


def _check_text(text: str) -> Problem | None:
    if len(text) > limits.REALTIME_TOPIC_CHARS_MAX:
        return _too_long(limits.REALTIME_TOPIC_CHARS_MAX)
    if any(end in text for end in _LINE_ENDS) or _SURROGATES.search(text):  # it becomes a line of the stream
        return Problem("validation_invalid_value", "A subscription is one line of text.")
    return None


def _too_long(most: int) -> Problem:
    return Problem("validation_length_too_long", f"The length must be at most {most}.", {"max": most, "min": 0})


def _between(least: int, most: int) -> Problem:
    text = f"The length must be between {least} and {most}."
    return Problem("validation_length_out_of_range", text, {"max": most, "min": least})
