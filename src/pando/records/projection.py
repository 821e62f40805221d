"""The query parameter `fields`: which keys of a JSON answer are shown.

`a,b.c,expand.*.name,text:excerpt(200,true)`: dots lead into objects, and through lists into each of their objects; `*`
is every key of one level that is not named itself. The modifier `:excerpt(max,withEllipsis?)` takes the tags out of a
text and cuts it. Of a list of records only `items` is projected. Errors are never projected (their maker sees to it).

Pure. Not here: what the answer is made of (`record`, `pando.records.listing`).
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, cast

import msgspec

from pando.records.fields import JsonValue, jsontext
from pando.records.problems import bad_request

FIELDS_CHARS_MAX: Final = 16 * 1024
"""Longest parameter; an address may have about as much."""
FIELDS_CACHED_MAX: Final = 256
"""Parameters kept ready; clients send few different ones."""
FIELDS_CACHED_CHARS_MAX: Final = 512
"""Longest parameter that is kept."""
DEPTH_MAX: Final = 100
"""Dots in one path."""

_LIST_KEYS: Final = frozenset(["items", "page", "perPage", "totalItems", "totalPages"])
_TERM: Final = re.compile(r"\s*(?P<path>[^,:()\s]+)\s*(?::\s*(?P<modifier>\w+)\s*(?:\((?P<args>[^()]*)\))?)?\s*")
_TRUE: Final = frozenset(["1", "t", "T", "true", "True", "TRUE"])


@dataclass(frozen=True, slots=True)
class Excerpt:
    """Cut a text to `length` characters; `has_ellipsis` puts "..." behind one that was longer."""

    length: int
    has_ellipsis: bool = False

    def apply(self, value: object) -> object:
        """Cut a text; what is no text stays as it is."""
        if not isinstance(value, str):
            return value
        text = plain_text(value)
        if len(text) <= self.length:
            return text
        return text[: self.length].rstrip() + ("..." if self.has_ellipsis else "")


@dataclass(slots=True)
class Projection:
    """What is shown of one level: all of it where `is_whole`, else the keys in `below` (`*` for the others)."""

    is_whole: bool = False
    excerpt: Excerpt | None = None
    below: dict[str, Projection] = field(default_factory=dict)

    def apply(self, value: object) -> object:
        """Give what is shown of a JSON value."""
        if self.is_whole:
            return self.excerpt.apply(value) if self.excerpt else value
        if isinstance(value, msgspec.Raw):
            value = msgspec.json.decode(value)
        elif isinstance(value, msgspec.Struct):
            value = msgspec.structs.asdict(value)
        if isinstance(value, list | tuple):
            return [self.apply(each) for each in value]
        return self._pick(value) if isinstance(value, Mapping) else value

    def apply_to_body(self, body: object) -> object:
        """Give what is shown of an answer: of a list of records, its items are projected."""
        if isinstance(body, Mapping) and body.keys() >= _LIST_KEYS:
            return {**body, "items": self.apply(body["items"])}
        return self.apply(body)

    def apply_to_text(self, body: bytes) -> bytes:
        """Give what is shown of an answer's JSON text; keys are sorted."""
        shown = self.apply_to_body(jsontext.decode(body))
        return jsontext.encode(jsontext.to_wire(cast(JsonValue, shown)))

    def _pick(self, value: Mapping[str, object]) -> dict[str, object]:
        rest = self.below.get("*")
        picked = ((key, each, self.below.get(key, rest)) for key, each in value.items())
        return {key: its.apply(each) for key, each, its in picked if its is not None}


def parse_fields(text: str) -> Projection | None:
    """Read the parameter; None if it asks for nothing. Raises ApiError 400."""
    if not text.strip():
        return None
    if len(text) > FIELDS_CHARS_MAX:
        raise bad_request(f"The parameter fields has {FIELDS_CHARS_MAX} characters at most.")
    return _cached(text) if len(text) <= FIELDS_CACHED_CHARS_MAX else _parse(text)


@lru_cache(maxsize=FIELDS_CACHED_MAX)
def _cached(text: str) -> Projection:
    return _parse(text)


def _parse(text: str) -> Projection:
    root = Projection()
    for path, excerpt in _terms(text):
        keys = path.split(".")
        if len(keys) > DEPTH_MAX:
            raise bad_request(f"A path of the parameter fields has {DEPTH_MAX} parts at most.")
        node = root
        for key in keys:
            node = node.below.setdefault(key, Projection())
        node.is_whole = True
        node.excerpt = excerpt or node.excerpt
    return root


def _terms(text: str) -> Iterator[tuple[str, Excerpt | None]]:
    """Read the terms between commas; empty ones say nothing."""
    at = 0
    while at < len(text):
        if text[at] in ", \t\r\n":
            at += 1
            continue
        found = _TERM.match(text, at)
        if not found or (found.end() < len(text) and text[found.end()] != ","):
            raise bad_request(f"The parameter fields cannot be read from {text[at : at + 50]!r} on.")
        at = found.end() + 1
        yield found["path"], _excerpt(found["modifier"], found["args"]) if found["modifier"] else None


def _excerpt(name: str, args: str | None) -> Excerpt:
    first, _, second = (args or "").partition(",")
    length = first.strip()
    if name != "excerpt" or not (length.isascii() and length.isdigit() and len(length) < 10 and int(length) > 0):
        raise bad_request("The parameter fields knows the modifier :excerpt(max, withEllipsis?) only.")
    return Excerpt(int(length), second.strip() in _TRUE)


# -- text of HTML -----------------------------------------------------------------------------------------------------

_TAG: Final = re.compile(
    r"<(?:!--.*?(?:-->|\Z)|(?P<close>/?)(?P<name>[A-Za-z][A-Za-z0-9-]*)[^<>]*>?|[!?/][^<>]*>?)", re.DOTALL
)
_INLINE: Final = frozenset(
    [
        *("a", "abbr", "acronym", "b", "bdo", "big", "cite", "code", "em", "font", "i", "ins", "kbd", "label"),
        *("mark", "q", "s", "samp", "small", "span", "strong", "strike", "sub", "sup", "time", "u", "var"),
    ]
)
_SILENT: Final = frozenset(["script", "style", "iframe", "embed", "object", "svg", "template", "noscript", "head"])
_SPACE: Final = re.compile(r"\s+")


def plain_text(source: str) -> str:
    """Give the text of HTML: without tags, comments and scripts, with single spaces; blocks are set apart by one."""
    if "<" not in source and "&" not in source:
        return _SPACE.sub(" ", source).strip()
    parts: list[str] = []
    silent = ""
    at = 0
    for found in _TAG.finditer(source):
        if not silent:
            parts.append(source[at : found.start()])
        at = found.end()
        name = (found["name"] or "").lower()
        if silent:
            silent = "" if name == silent and found["close"] else silent
        elif name in _SILENT and not found["close"]:
            silent = name
        elif name and name not in _INLINE:
            parts.append(" ")
    if not silent:
        parts.append(source[at:])
    return _SPACE.sub(" ", html.unescape("".join(parts))).strip()
