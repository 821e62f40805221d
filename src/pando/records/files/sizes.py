"""Which thumb a request means, and what its size says: geometry alone. Pure.

    WxH   crop the centre      WxHt  crop at the top      WxHb  crop at the bottom
    WxHf  fit inside, nothing cropped, never enlarged     0xH, Wx0  the other side follows

Not here: pixels (`pando.records.files.thumbs`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

SIDE_MAX: Final = 10_000
"""Longest side of a thumb in pixels."""
BUILT_IN: Final = "100x100"
"""The size that every file field has; the dashboard shows it."""

_FORM: Final = re.compile(r"(\d{1,5})x(\d{1,5})([tbf]?)", re.ASCII)
_TYPES: Final = frozenset({"image/png", "image/jpg", "image/jpeg", "image/gif", "image/webp"})


class Crop(StrEnum):
    """What is kept of an image whose sides have another ratio."""

    CENTRE = ""
    TOP = "t"
    BOTTOM = "b"
    FIT = "f"


@dataclass(frozen=True, slots=True)
class ThumbSize:
    """A size as it is named in a field's `thumbs`; a side of 0 follows the other."""

    width: int
    height: int
    crop: Crop = Crop.CENTRE

    def __str__(self) -> str:
        return f"{self.width}x{self.height}{self.crop.value}"


@dataclass(frozen=True, slots=True)
class Plan:
    """Scale the whole image to `scaled`, then cut out `box` (left, top, right, bottom) of that."""

    scaled: tuple[int, int]
    box: tuple[int, int, int, int] | None = None


def parse_size(text: str) -> ThumbSize | None:
    """Read a size; None for what is none."""
    found = _FORM.fullmatch(text)
    if found is None:
        return None
    width, height = int(found[1]), int(found[2])
    is_usable = 0 < max(width, height) <= SIDE_MAX
    return ThumbSize(width, height, Crop(found[3])) if is_usable else None


def asked_size(text: str, listed: Sequence[str] | None, content_type: str) -> ThumbSize | None:
    """Give the size of the thumb that a request means; None if the original is to be sent."""
    is_image = content_type.partition(";")[0].strip().lower() in _TYPES
    return parse_size(text) if is_image and (text == BUILT_IN or text in (listed or ())) else None


def plan(size: ThumbSize, width: int, height: int) -> Plan:
    """Say how an image of these sides (both over 0) becomes a thumb."""
    if size.width == 0 or size.height == 0:
        factor = size.height / height if size.width == 0 else size.width / width
        return Plan((size.width or _scaled(width, factor), size.height or _scaled(height, factor)))
    if size.crop is Crop.FIT:
        factor = min(size.width / width, size.height / height, 1.0)
        return Plan((_scaled(width, factor), _scaled(height, factor)))
    factor = max(size.width / width, size.height / height)
    scaled = max(_scaled(width, factor), size.width), max(_scaled(height, factor), size.height)
    left, over = (scaled[0] - size.width) // 2, scaled[1] - size.height
    top = {Crop.TOP: 0, Crop.BOTTOM: over}.get(size.crop, over // 2)
    return Plan(scaled, (left, top, left + size.width, top + size.height))


def _scaled(side: int, factor: float) -> int:
    return max(round(side * factor), 1)
