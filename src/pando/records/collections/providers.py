"""OAuth2 providers of an auth collection: their keys in PocketBase's order, secrets kept or left out.

The model keeps each provider as the JSON that it is; here it is read and merged. Pure. Not here: which providers there
are and how one signs in with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pando.records.collections.shapes import BadShape


class Provider(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """One way to sign in through others."""

    pkce: bool | None = None
    name: str = ""
    client_id: str = ""
    client_secret: str = ""
    auth_url: str = msgspec.field(default="", name="authURL")
    token_url: str = msgspec.field(default="", name="tokenURL")
    user_info_url: str = msgspec.field(default="", name="userInfoURL")
    display_name: str = ""
    extra: dict[str, Any] | None = None


_DECODER = msgspec.json.Decoder(Provider)


def read(raw: Iterable[msgspec.Raw]) -> tuple[Provider, ...]:
    """Read stored providers; raise BadShape."""
    return tuple(_provider(bytes(each)) for each in raw)


def write(providers: Iterable[Provider]) -> tuple[msgspec.Raw, ...]:
    """Give providers as the model keeps them."""
    return tuple(msgspec.Raw(msgspec.json.encode(each)) for each in providers)


def merge(values: Sequence[object], existing: Iterable[msgspec.Raw]) -> tuple[msgspec.Raw, ...]:
    """Make the list that a body asks for; an entry that names a provider which is there keeps what it does not say.

    Raise BadShape.
    """
    known = {each.name: each for each in read(existing)}
    return write(_merged(value, known) for value in values)


def shown(provider: Provider) -> dict[str, object]:
    """Give a provider as callers see it: without its secret."""
    value: dict[str, object] = msgspec.to_builtins(provider)
    del value["clientSecret"]
    return value


def _merged(value: object, known: dict[str, Provider]) -> Provider:
    if not isinstance(value, dict):
        raise BadShape("a provider must be an object")
    name = value.get("name")
    base = known.get(name) if isinstance(name, str) else None
    before: dict[str, object] = msgspec.to_builtins(base) if base else {}
    told = {key: each for key, each in value.items() if each is not None or key in ("pkce", "extra")}
    return _provider(_encoded(before | told))


def _encoded(value: dict[str, object]) -> bytes:
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise BadShape("not a JSON value") from error


def _provider(text: bytes) -> Provider:
    try:
        return _DECODER.decode(text)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise BadShape(str(error)) from None
