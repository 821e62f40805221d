"""Draws the pictures of sample cities: a skyline at some time of day, always the same for the same city.

Not here: which cities have one (`sample`).
"""

from __future__ import annotations

import io

from PIL import Image, ImageDraw

from pando.clock import Random

SIZE = (480, 320)
_HORIZON = 250
_QUALITY = 80
_SKIES = (
    ((250, 180, 120), (90, 110, 190)),
    ((200, 225, 250), (70, 130, 210)),
    ((255, 140, 130), (110, 60, 130)),
    ((60, 70, 120), (10, 15, 45)),
)
"""Colours above the roofs and at the top."""
_WALL = (38, 42, 58)
_WINDOW = (250, 220, 140)
_GROUND = (60, 72, 70)


def draw_city(name: str, number: int) -> bytes:
    """Give a JPEG of a city."""
    random = Random(number)
    picture = Image.new("RGB", SIZE, _GROUND)
    draw = ImageDraw.Draw(picture)
    low, high = random.choice(_SKIES)
    for y in range(_HORIZON):
        draw.line([(0, y), (SIZE[0], y)], fill=_between(high, low, y / _HORIZON))
    _draw_sun(draw, random)
    _draw_houses(draw, random)
    draw.text((12, SIZE[1] - 40), name, fill=(255, 255, 255), font_size=22)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_QUALITY)
    return out.getvalue()


def _between(one: tuple[int, int, int], other: tuple[int, int, int], part: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * part) for a, b in zip(one, other, strict=True))
    return red, green, blue


def _draw_sun(draw: ImageDraw.ImageDraw, random: Random) -> None:
    x, y, radius = random.randrange(60, SIZE[0] - 60), random.randrange(40, 140), random.randrange(14, 30)
    draw.ellipse([x - radius, y - radius, x + radius, y + radius], fill=(255, 240, 200))


def _draw_houses(draw: ImageDraw.ImageDraw, random: Random) -> None:
    x = 0
    while x < SIZE[0]:
        width, height = random.randrange(22, 58), random.randrange(30, 180)
        top = _HORIZON - height
        shade = random.randrange(0, 30)
        draw.rectangle([x, top, x + width, _HORIZON], fill=(_WALL[0] + shade, _WALL[1] + shade, _WALL[2] + shade))
        for left in range(x + 5, x + width - 6, 9):
            for upper in range(top + 6, _HORIZON - 8, 12):
                if random.random() < 0.4:
                    draw.rectangle([left, upper, left + 3, upper + 5], fill=_WINDOW)
        x += width + random.randrange(0, 6)
