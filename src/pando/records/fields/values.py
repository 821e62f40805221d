"""The Python values that fields hold (DESIGN.md, Contracts): one canonical form per type.

Pure. Not here: how a value is read from a body or a column (`base.FieldOps` and the modules of the types).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import msgspec

Number: TypeAlias = int | float
"""An `int` where the number is whole and below 1e21, so that JSON has no ".0"; never NaN or infinite in JSON."""

JsonValue: TypeAlias = bool | int | float | str | Sequence["JsonValue"] | Mapping[str, "JsonValue"] | None
"""What JSON can say: None, bool, int, float, str, list and dict with `str` keys."""


class GeoPoint(msgspec.Struct, frozen=True):
    """A place: degrees of longitude and latitude. A struct, because JSON has `lon` first and not in sorted order."""

    lon: Number = 0
    lat: Number = 0


@dataclass(frozen=True, slots=True)
class PlainPassword:
    """A password as the caller gave it, until it is hashed. Its text is in no representation."""

    text: str

    def __repr__(self) -> str:
        return "PlainPassword(...)"


@dataclass(frozen=True, slots=True)
class NewFile:
    """A file that came with the request and is not stored yet.

    `name` is the name that it will be stored under, `size` in bytes, `mime_type` what its content says it is;
    `other_types` are names that the same type has elsewhere.
    """

    name: str
    size: int
    mime_type: str
    other_types: tuple[str, ...] = ()


FieldValue: TypeAlias = JsonValue | GeoPoint | PlainPassword | NewFile | Sequence[str | NewFile]
"""Any value of any field."""
