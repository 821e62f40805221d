"""Kinds of values that a setting may have: how each is read from text, and what to say when it cannot be.

Pure. Not here: which settings there are (`pando.settings`).
"""

from __future__ import annotations

import math
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pando.errors import InvalidDatabaseName, InvalidRequest
from pando.public_keys import parse_public_keys
from pando.types import parse_database_name

_BYTE_UNITS = {"": 1, "b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_TRUE = frozenset({"1", "true", "yes", "on"})
_FALSE = frozenset({"0", "false", "no", "off"})
_SCHEMES = {"http": "http", "ws": "http", "libsql": "http", "https": "https", "wss": "https"}
"""Schemes that other systems write for the same thing; sqld's `libsql://host:port` in compose files is plain HTTP."""
PUSH = -1.0
"""Sync interval that means "at once, pushed by the primary"."""


class BadValue(ValueError):
    """The text is no value of this kind; says nothing but that, the setting's `allowed` says the rest."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of value: its name in the documentation, what is allowed, and how to read it from text."""

    name: str
    allowed: str
    parse: Callable[[str], Any]
    show: Callable[[Any], str] = str


def _text(text: str) -> str:
    return text


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", text):
        raise BadValue
    return text


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise BadValue
    try:
        return Path(text).expanduser()
    except RuntimeError as error:  # `~name` of somebody who is not known here
        raise BadValue from error


def parse_address(text: str) -> tuple[str, int]:
    """Read HOST:PORT, [V6]:PORT or :PORT; raises BadValue."""
    host, separator, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") or "0.0.0.0"
    if not separator or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536 or re.search(r"[\s/]", host):
        raise BadValue
    return host, int(port)


def show_address(address: tuple[str, int]) -> str:
    """Give the text form of an address."""
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _url(text: str) -> str:
    if not text:
        return ""
    try:
        parts = urlsplit(text.strip())
        port = parts.port
    except ValueError:
        raise BadValue from None
    scheme = _SCHEMES.get(parts.scheme)
    if scheme is None or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.username:
        raise BadValue
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{scheme}://{host}" + (f":{port}" if port else "")


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([0-9]{1,15})\s*([A-Za-z]*)", text.strip())
    unit = _BYTE_UNITS.get(found.group(2).lower()) if found else None
    if not found or unit is None:
        raise BadValue
    return int(found.group(1)) * unit


def show_bytes(size: int) -> str:
    """Give a size in the largest unit that divides it."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)


def _bool(text: str) -> bool:
    lowered = text.strip().lower()
    if lowered in _TRUE:
        return True
    if lowered in _FALSE:
        return False
    raise BadValue


def _sync(text: str) -> float:
    return PUSH if text.strip().lower() == "push" else _seconds(text, 0.0, 86400.0)


def _seconds(text: str, low: float, high: float) -> float:
    digits = text.strip().removesuffix("s")
    try:
        value = float(digits)
    except ValueError:
        raise BadValue from None
    if not math.isfinite(value) or not low <= value <= high:
        raise BadValue
    return value


def _names(text: str) -> tuple[str, ...]:
    try:
        return tuple(dict.fromkeys(parse_database_name(part.strip()) for part in text.split(",") if part.strip()))
    except InvalidDatabaseName:
        raise BadValue from None


def _public_keys(text: str) -> tuple[bytes, ...]:
    try:
        return parse_public_keys(text)
    except InvalidRequest:
        raise BadValue from None


def _basic(text: str) -> str:
    """Read `basic:` and base64, as sqld takes it; gives name and password with a colon between."""
    scheme, _, encoded = text.strip().partition(":")
    encoded = encoded.rstrip("=")
    try:
        credentials = b64decode(encoded + "=" * (-len(encoded) % 4), validate=True).decode()
    except (Base64Error, ValueError):
        raise BadValue from None
    if scheme.lower() != "basic" or ":" not in credentials:
        raise BadValue
    return credentials


def _freshness(text: str) -> str:
    lowered = text.strip().lower()
    if not re.fullmatch(r"eventual|session|strong|bounded=[0-9]{1,9}", lowered):
        raise BadValue
    return lowered


def _joined(values: tuple[str, ...]) -> str:
    return ",".join(values)


TEXT = Kind("text", "any text", _text)
NODE_NAME = Kind("name", "1 to 64 letters, digits, '_', '.' or '-'", _name)
PATH = Kind("path", "a path", _path)
ADDRESS = Kind("address", "HOST:PORT, [V6]:PORT or :PORT", parse_address, show_address)
URL = Kind("URL", "http://HOST[:PORT] or https://HOST[:PORT] without a path (libsql:// means http://)", _url)
NAMES = Kind("names", "database names with commas between them", _names, _joined)
BOOL = Kind("switch", "true or false (also 1/0, yes/no, on/off)", _bool, lambda value: str(value).lower())
PUBLIC_KEYS = Kind(
    "keys", "Ed25519 public keys: PEM, or their 32 bytes in URL-safe base64; several one after the other", _public_keys
)
BASIC = Kind("credentials", "`basic:` and the base64 of NAME:PASSWORD", _basic)
FRESHNESS = Kind("freshness", "eventual, session, bounded=MILLISECONDS or strong", _freshness)
SYNC = Kind(
    "interval",
    "`push` (at once), 0 (only when told to by `pando sync`), or seconds up to 86400",
    _sync,
    lambda value: "push" if value < 0 else f"{value:g}",
)


def integer(low: int, high: int) -> Kind:
    """A whole number within bounds."""

    def parse(text: str) -> int:
        digits = text.strip()
        if not re.fullmatch(r"[0-9]{1,12}", digits) or not low <= int(digits) <= high:
            raise BadValue
        return int(digits)

    return Kind("number", f"{low} to {high}", parse)


def seconds(low: float, high: float) -> Kind:
    """A time in seconds within bounds."""
    return Kind("seconds", f"{low:g} to {high:g} seconds", lambda text: _seconds(text, low, high), lambda v: f"{v:g}")


def size(low: int, high: int) -> Kind:
    """A size in bytes within bounds, with or without a unit."""

    def parse(text: str) -> int:
        value = _bytes(text)
        if not low <= value <= high:
            raise BadValue
        return value

    allowed = f"{show_bytes(low)} to {show_bytes(high)} (bytes, or with KiB, MiB, GiB, kB, MB, GB)"
    return Kind("size", allowed, parse, show_bytes)


def choice(values: dict[str, Any]) -> Kind:
    """One of some words; several words may mean the same value."""

    def parse(text: str) -> Any:  # noqa: ANN401 - values of any one type
        lowered = text.strip().lower()
        if lowered not in values:
            raise BadValue
        return values[lowered]

    return Kind("choice", ", ".join(values), parse)
