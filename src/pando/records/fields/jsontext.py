"""JSON as PocketBase 0.40 reads and writes it: strict, keys sorted, numbers as JavaScript writes them.

Numbers are doubles. A whole number below 1e21 is an `int` with the digits that JavaScript shows (12345678901234567890
is 12345678901234567000), so `msgspec` writes it right; the few others that it writes differently become `msgspec.Raw`
on the way out (`to_wire`). Invalid UTF-8 and lone surrogates become U+FFFD, the last of duplicate keys wins.

Pure. Not here: what json fields take as text (`documents`), bodies of forms (`forms`).
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Decimal
from math import isfinite
from typing import Final, cast

import msgspec

from pando.records.fields.values import JsonValue, Number

DEPTH_MAX: Final = 256
"""Nesting that a document may have: msgspec recurses, so what was decoded must also encode from deeper in the stack."""
EXACT_MAX: Final = 2**53
"""Whole numbers up to here are what they are as doubles."""
PLAIN_MAX: Final = 1e21
"""From here on JavaScript writes an exponent."""

# Numbers that are not yet as JavaScript has them: whole with a fraction, with an exponent, or of 16 digits and more.
# What stands in a text may match too; that only costs time.
_UNUSUAL: Final = re.compile(rb"\.\d*0(?!\d)|\d[eE]|\d{16}|-0")
_OUT_OF_STEP: Final = re.compile(rb"\d[eE]")
# A text that is not closed is a token too: else each quote inside would be tried as the beginning of one.
_TOKEN: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+["\\]?|[\[{]|[\]}]', re.DOTALL)
_SURROGATES: Final = re.compile("[\ud800-\udfff]")

_encoder = msgspec.json.Encoder(order="deterministic")
_decoder = msgspec.json.Decoder()


class InvalidJson(ValueError):
    """The text is not JSON, or nests too deeply."""


def number(value: Number) -> Number:
    """Give the canonical form of a finite number."""
    if isinstance(value, int) and -EXACT_MAX <= value <= EXACT_MAX:
        return value
    value = float(value)
    if not value.is_integer() or abs(value) >= PLAIN_MAX:
        return value
    return int(value) if abs(value) <= EXACT_MAX else int(Decimal(repr(value)))


def number_text(value: float) -> str:
    """Write a finite number as JavaScript does."""
    size = abs(value)
    if 1e-6 <= size < PLAIN_MAX or not size:
        return format(Decimal(repr(number(value))), "f")
    digits, _, exponent = repr(value).partition("e")
    return f"{digits.removesuffix('.0')}e{int(exponent):+d}" if exponent else digits


def decode(text: str | bytes) -> JsonValue:
    """Read a JSON text. Raises InvalidJson."""
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    _check_depth(raw)
    try:
        return _canonical(_decoder.decode(raw), raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, OverflowError):
        return _canonical(_decode_mended(raw), raw)


def encode(value: object) -> bytes:
    """Write JSON values, GeoPoints and Raws, with sorted keys."""
    return _encoder.encode(value)


def canonical(value: object) -> JsonValue:
    """Give what `decode(encode(value))` would: a fresh JSON value in canonical form. Raises InvalidJson."""
    if value is None or isinstance(value, bool):
        return value
    try:
        raw = _encoder.encode(value)
    except UnicodeEncodeError:
        raw = _encoder.encode(_mapped(value, _mend_leaf))
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidJson(str(error)) from error
    return decode(raw)


def to_wire(value: JsonValue) -> object:
    """Give the same value with Raws for the numbers that msgspec would not write as JavaScript does."""
    if value is None or isinstance(value, str | int):
        return value
    return _mapped(value, _wire_leaf) if _OUT_OF_STEP.search(_encoder.encode(value)) else value


def number_to_wire(value: Number) -> int | float | msgspec.Raw:
    """Do what `to_wire` does for one number."""
    if isinstance(value, int) or 1e-5 <= abs(value) < PLAIN_MAX:
        return value
    return msgspec.Raw(number_text(value).encode())


def mend(text: str) -> str:
    """Put U+FFFD for lone surrogates, which UTF-8 cannot hold."""
    return text if text.isascii() or not _SURROGATES.search(text) else _SURROGATES.sub("\ufffd", text)


def _check_depth(raw: bytes) -> None:
    """Refuse what nests too deeply, seldom by looking at every byte."""
    if raw.count(b"[") + raw.count(b"{") <= DEPTH_MAX:
        return
    depth = 0
    for token in _TOKEN.finditer(raw):
        found = token[0]
        depth += (found in b"[{") - (found in b"]}") if len(found) == 1 else 0
        if depth > DEPTH_MAX:
            raise InvalidJson(f"JSON nests deeper than {DEPTH_MAX} levels")


_ESCAPED_SURROGATE: Final = re.compile(
    rb"(\\\\)|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def _decode_mended(raw: bytes) -> object:
    """Read what is JSON but for its characters."""
    clean = raw.decode("utf-8", "replace").encode()
    clean = _ESCAPED_SURROGATE.sub(lambda found: b"\\ufffd" if found[2] else found[0], clean)
    try:
        return _decoder.decode(clean)
    except (msgspec.MsgspecError, OverflowError, RecursionError) as error:
        raise InvalidJson(str(error)) from error


def _canonical(value: object, raw: bytes) -> JsonValue:
    """Bring the numbers of a decoded document into canonical form, if its text has unusual ones."""
    try:
        return cast(JsonValue, _mapped(value, _number_leaf) if _UNUSUAL.search(raw) else value)
    except OverflowError as error:
        raise InvalidJson("a number is too large") from error


def _mapped(value: object, leaf: Callable[[object], object]) -> object:
    """Rebuild a value with each leaf and key changed; depth is bounded by DEPTH_MAX where it came from."""
    if isinstance(value, dict):
        return {leaf(key): _mapped(each, leaf) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_mapped(each, leaf) for each in value]
    return leaf(value)


def _number_leaf(value: object) -> object:
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _wire_leaf(value: object) -> object:
    return number_to_wire(value) if isinstance(value, float) and isfinite(value) else value


def _mend_leaf(value: object) -> object:
    return mend(value) if isinstance(value, str) else value
