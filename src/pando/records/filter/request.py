"""Who asks and with what: the request as rules see it, and paths into it.

Values of bodies and of auth records are JSON values or what JSON can be made of; `RequestPath.find` gives them as JSON
values. Pure. Not here: reading requests.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, Protocol

import msgspec

from pando.records.model import Collection


class AuthRecord(Protocol):
    """The record that has signed in."""

    @property
    def collection(self) -> Collection:
        """Where it is kept."""
        ...

    @property
    def values(self) -> Mapping[str, object]:
        """Its values by field name."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestInfo:
    """One request. Header names in lower case with `_`; `body` is normalised, its keys without modifiers."""

    context: str = "default"
    method: str = "GET"
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Mapping[str, object] = field(default_factory=dict)
    auth: AuthRecord | None = None
    is_superuser: bool = False


class Missing:
    """Nothing is there (`None` is a value)."""


MISSING: Final = Missing()


class Area(StrEnum):
    """A part of the request."""

    CONTEXT = "context"
    METHOD = "method"
    QUERY = "query"
    HEADERS = "headers"
    BODY = "body"
    AUTH = "auth"


@dataclass(frozen=True, slots=True)
class RequestPath:
    """A place in a request, without keys for context and method."""

    area: Area
    keys: tuple[str, ...] = ()

    def find(self, request: RequestInfo) -> object:
        """Give the JSON value at this place, or MISSING."""
        if self.area is Area.CONTEXT:
            return request.context
        if self.area is Area.METHOD:
            return request.method
        if self.area is Area.QUERY:
            return request.query.get(".".join(self.keys), MISSING)
        if self.area is Area.HEADERS:
            return request.headers.get(".".join(self.keys), MISSING)
        if self.area is Area.BODY:
            return descend(request.body, self.keys)
        return MISSING if request.auth is None else descend(request.auth.values, self.keys)


def descend(value: object, keys: Sequence[str]) -> object:
    """Follow keys and list positions; MISSING where they lead nowhere."""
    for key in keys:
        value = _plain(value)
        if isinstance(value, Mapping):
            value = value.get(key, MISSING)
        elif isinstance(value, list) and key.isdecimal() and len(key) < 10 and int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return _plain(value)


def _plain(value: object) -> object:
    """Make a JSON value of a record's or body's value."""
    if value is None or value is MISSING or isinstance(value, str | bool | int | float | list | dict):
        return value
    try:
        found: object = msgspec.to_builtins(value, str_keys=True)
    except (TypeError, ValueError):
        return str(value)
    return list(found) if isinstance(found, tuple) else found
