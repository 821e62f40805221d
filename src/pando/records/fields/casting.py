"""Lenient casts of what a caller sent: to text, number, bool, list of texts. They never fail.

Pure. Not here: dates (`dates`), text parts of forms (`forms`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from decimal import Decimal
from math import isfinite
from typing import Final

from pando.records.fields import jsontext
from pando.records.fields.values import Number

_DIGITS: Final = "[0-9]+(?:_[0-9]+)*"
_DECIMAL: Final = re.compile(rf"[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?:[eE][+-]?{_DIGITS})?", re.ASCII)
_NOT_FINITE: Final = re.compile(r"[+-]?(?:inf|infinity)|nan", re.ASCII | re.IGNORECASE)
_TRUE: Final = frozenset(["1", "t", "T", "true", "True", "TRUE"])
_NUMBER_CHARS_MAX: Final = 400
"""Longest text that is read as a number: the longest double written without exponent has 309 digits and a sign."""


def to_text(raw: object) -> str:
    """Print texts, numbers and bools; everything else is ""."""
    if isinstance(raw, str):
        return jsontext.mend(raw)
    if isinstance(raw, bool):
        return "true" if raw else "false"
    if isinstance(raw, int | float):
        return plain_number(raw)
    return ""


def plain_number(value: Number) -> str:
    """Write a number without exponent, and without ".0"."""
    if isinstance(value, int):
        return str(value) if abs(value) <= jsontext.EXACT_MAX else plain_number(_to_float(value))
    if not isfinite(value):
        return "NaN" if value != value else ("+Inf" if value > 0 else "-Inf")
    text = format(Decimal(repr(value)), "f")
    return text.removesuffix(".0")


def to_number(raw: object) -> Number:
    """Read a number; what is none is 0. Texts may say infinity or NaN, which the check of the field refuses."""
    if isinstance(raw, str):
        raw = _parse_number(raw)
    if isinstance(raw, bool):
        return int(raw)
    if isinstance(raw, int | float):
        value = _to_float(raw)
        return jsontext.number(value) if isfinite(value) else value
    return 0


def to_bool(raw: object) -> bool:
    """Read a bool: true, 1, t, T, TRUE, True and numbers other than 0 hold, everything else does not."""
    if isinstance(raw, str):
        return raw in _TRUE
    return bool(raw) if isinstance(raw, int | float) else False


def to_texts(raw: object) -> list[str]:
    """Read a list of different texts that are not empty: a list, one value, or text that holds a JSON list.

    Lists that hold anything but texts, numbers and bools are empty.
    """
    items = [*items_of(raw)]
    if any(isinstance(each, list | tuple | dict) for each in items):
        return []
    return unique(to_text(each) for each in items)


def items_of(raw: object) -> Iterable[object]:
    """Take a value apart: lists as they are, text that holds a JSON list of texts, else the value alone."""
    if isinstance(raw, str):
        return _listed(raw)
    if raw is None:
        return ()
    return raw if isinstance(raw, list | tuple) else (raw,)


def unique(texts: Iterable[str]) -> list[str]:
    """Drop empty texts and all but the first of equal ones."""
    return [text for text in dict.fromkeys(texts) if text]


def _listed(text: str) -> Iterable[object]:
    if not text.lstrip().startswith("["):
        return (text,)
    try:
        found = jsontext.decode(text)
    except jsontext.InvalidJson:
        return (text,)
    return found if isinstance(found, list) and all(isinstance(each, str) for each in found) else (text,)


def _parse_number(text: str) -> Number:
    if len(text) <= _NUMBER_CHARS_MAX and (_DECIMAL.fullmatch(text) or _NOT_FINITE.fullmatch(text)):
        value = float(text)
        # A decimal that no double can hold is no number; only the words themselves are infinite.
        return value if isfinite(value) or _NOT_FINITE.fullmatch(text) else 0
    return 0


def _to_float(value: Number) -> float:
    try:
        return float(value)
    except OverflowError:
        return 0.0
