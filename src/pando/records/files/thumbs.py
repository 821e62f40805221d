"""Smaller versions of images, made when they are first asked for and kept beside the original.

Several requests for one thumb share the work. Images are made in a few threads, since they need memory: a bound on what
is read, on pixels before and after, and on how long a request waits for a thread. Where no thumb can be made, for
whatever reason, the original is what there is to send; an image that was refused is not tried again soon.
Not here: which thumb is meant (`pando.records.files.sizes`).
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, replace
from io import BytesIO
from typing import Final

from PIL import Image, ImageOps

from pando.errors import Overloaded, StorageError, invariant
from pando.records.files.sizes import Plan, ThumbSize, plan
from pando.records.files.storage import FileMissing, Storage, Stored
from pando.records.workers import Workers

SOURCE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Largest image that is made smaller."""
PIXELS_MAX: Final = 25_000_000
"""Most pixels in memory of one image, before or after: 100 MB. JPEGs are read at a fraction of their size."""
WAIT_S: Final = 60.0
"""How long a request waits for a thread before it is sent the original."""
MAKING_MAX: Final = 256
"""Thumbs that are being made or wait for it; past it the original is sent."""
REFUSED_KEPT_MAX: Final = 1000
"""Refused images that are remembered."""

_QUALITY: Final = 90
_FORMATS: Final = ("PNG", "JPEG", "GIF", "WEBP")
_OUTPUT: Final = {
    "PNG": ("PNG", "image/png"),
    "JPEG": ("JPEG", "image/jpeg"),
    "GIF": ("GIF", "image/gif"),
    "WEBP": ("PNG", "image/png"),
}
_UNREADABLE: Final = (
    *(OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, EOFError, OverflowError),
    *(struct.error, Image.DecompressionBombError, Image.DecompressionBombWarning),
)
"""What pillow's readers raise for broken images; which of these differs from format to format."""


@dataclass(frozen=True, slots=True)
class Thumb:
    """An encoded image."""

    data: bytes
    content_type: str


def make_thumb(data: bytes, size: ThumbSize) -> Thumb | None:
    """Make a thumb; None if this is no image, a broken one, or one with too many pixels. Blocks."""
    try:
        with Image.open(BytesIO(data), formats=_FORMATS) as opened:
            form = opened.format or ""
            image = _read(opened, size)
            return None if image is None else _encoded(image, size, form)
    except _UNREADABLE:
        return None


def _read(opened: Image.Image, size: ThumbSize) -> Image.Image | None:
    """Read the pixels (the first picture of an animation), turned as the camera says; None if they are too many."""
    width, height = opened.size
    if opened.format == "JPEG":
        wanted = max(*plan(size, width, height).scaled, *plan(size, height, width).scaled)
        opened.draft(None, (wanted, wanted))  # the image may yet be turned, so both sides need the longer one
    if opened.size[0] * opened.size[1] > PIXELS_MAX:
        return None
    opened.load()
    return ImageOps.exif_transpose(opened)


def _encoded(image: Image.Image, size: ThumbSize, form: str) -> Thumb | None:
    planned = plan(size, *image.size)
    left, top, right, bottom = planned.box or (0, 0, *planned.scaled)
    if (right - left) * (bottom - top) > PIXELS_MAX:
        return None
    output, content_type = _OUTPUT[form]
    made = _resized(_plain_mode(image, has_alpha=output != "JPEG"), planned)
    body = BytesIO()
    made.save(body, output, **({"quality": _QUALITY} if output == "JPEG" else {}))
    return Thumb(body.getvalue(), content_type)


def _plain_mode(image: Image.Image, *, has_alpha: bool) -> Image.Image:
    """Give an image with colours that can be mixed: palettes and the like cannot."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        return image
    return image.convert("RGBA" if has_alpha else "RGB")


def _resized(image: Image.Image, planned: Plan) -> Image.Image:
    if planned.scaled == image.size:
        return image.crop(planned.box) if planned.box else image
    return _part(image, planned)


def _part(image: Image.Image, planned: Plan) -> Image.Image:
    """Scale only the part that is kept: an extreme ratio would need much memory else."""
    width, height = planned.scaled
    left, top, right, bottom = planned.box or (0, 0, width, height)
    across, down = image.width / width, image.height / height
    source = (left * across, top * down, right * across, bottom * down)
    return image.resize((right - left, bottom - top), Image.Resampling.LANCZOS, box=source, reducing_gap=3.0)


# -- kept beside the original -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbStatistics:
    """What became of requests for thumbs that were not there yet."""

    made: int = 0
    refused: int = 0
    failed: int = 0
    """Too many waited, or the storage did not take it."""


class ThumbMaker:
    """Gives thumbs of stored images, and makes those that are not there yet."""

    def __init__(self, storage: Storage, *, threads: int, wait_s: float = WAIT_S) -> None:
        self._storage = storage
        self._workers = Workers("thumbs", threads=threads, waiting_max=threads)
        self._slots = asyncio.Semaphore(threads)
        self._wait_s = wait_s
        self._making: dict[str, asyncio.Task[Stored | None]] = {}
        self._refused: dict[str, None] = {}
        self._statistics = ThumbStatistics()

    @property
    def statistics(self) -> ThumbStatistics:
        """What happened so far."""
        return self._statistics

    async def find_or_make(self, original: Stored, key: str, size: ThumbSize) -> Stored | None:
        """Give the thumb under `key`; None if the original is to be sent. Raises StorageError if reading fails."""
        try:
            return await self._storage.head(key)
        except FileMissing:
            pass
        if original.size > SOURCE_BYTES_MAX or key in self._refused:
            return None
        making = self._making.get(key)
        if making is None:
            if len(self._making) >= MAKING_MAX:
                self._count(failed=1)
                return None
            making = asyncio.create_task(self._make(original, key, size))
            self._making[key] = making
            making.add_done_callback(lambda _: self._making.pop(key, None))
        return await asyncio.shield(making)

    async def _make(self, original: Stored, key: str, size: ThumbSize) -> Stored | None:
        """Make and keep a thumb. What fails here is counted; the request is well answered with the original."""
        try:
            async with asyncio.timeout(self._wait_s):
                await self._slots.acquire()
        except TimeoutError:
            self._count(failed=1)
            return None
        try:
            return await self._make_now(original, key, size)
        except FileMissing:
            return None  # the original is gone: its own answer says so
        except (StorageError, Overloaded):
            self._count(failed=1)
            return None
        finally:
            self._slots.release()

    async def _make_now(self, original: Stored, key: str, size: ThumbSize) -> Stored | None:
        data = b"".join([piece async for piece in self._storage.read(original.key, 0, SOURCE_BYTES_MAX)])
        invariant(len(data) <= SOURCE_BYTES_MAX, "a read ends where it was told to", size=len(data))
        made = await self._workers.run(make_thumb, data, size)
        if made is None:
            self._refuse(key)
            self._count(refused=1)
            return None
        await self._storage.put(
            key, made.data, content_type=made.content_type, size_max=max(len(made.data), SOURCE_BYTES_MAX)
        )
        self._count(made=1)
        return await self._storage.head(key)

    def _refuse(self, key: str) -> None:
        if len(self._refused) >= REFUSED_KEPT_MAX:
            del self._refused[next(iter(self._refused))]
        self._refused[key] = None

    def _count(self, *, made: int = 0, refused: int = 0, failed: int = 0) -> None:
        now = self._statistics
        self._statistics = replace(now, made=now.made + made, refused=now.refused + refused, failed=now.failed + failed)

    async def close(self) -> None:
        """Give up what is being made."""
        making = list(self._making.values())
        for task in making:
            task.cancel()
        await asyncio.gather(*making, return_exceptions=True)
        self._workers.close()
