import asyncio
import io
from dataclasses import replace

import pytest
from obstore.store import MemoryStore
from PIL import Image

from pando.errors import StorageError
from pando.records.files import thumbs
from pando.records.files.s3_storage import ObjectStorage
from pando.records.files.sizes import parse_size
from pando.records.files.storage import FileMissing
from pando.records.files.thumbs import ThumbMaker, ThumbStatistics, make_thumb

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def striped(width=60, height=120):
    """Red above, green in the middle, blue below."""
    image = Image.new("RGB", (width, height), GREEN)
    image.paste(RED, (0, 0, width, height // 3))
    image.paste(BLUE, (0, height - height // 3, width, height))
    return image


def encoded(image, form="PNG", **more):
    body = io.BytesIO()
    image.save(body, form, **more)
    return body.getvalue()


def opened(thumb):
    return Image.open(io.BytesIO(thumb.data))


def is_like(found, expected):
    return all(abs(one - other) < 40 for one, other in zip(found, expected, strict=False))


@pytest.mark.parametrize(
    ("size", "expected", "colours"),
    [
        ("20x20", (20, 20), (RED, GREEN, BLUE)),
        ("20x20t", (20, 20), (RED, RED, GREEN)),
        ("20x20b", (20, 20), (GREEN, BLUE, BLUE)),
        ("20x20f", (10, 20), (RED, GREEN, BLUE)),
        ("0x30", (15, 30), (RED, GREEN, BLUE)),
        ("30x0", (30, 60), (RED, GREEN, BLUE)),
        ("200x200f", (60, 120), (RED, GREEN, BLUE)),
        ("120x0", (120, 240), (RED, GREEN, BLUE)),
        ("60x120", (60, 120), (RED, GREEN, BLUE)),
        ("100x10", (100, 10), (GREEN, GREEN, GREEN)),
        ("100x10t", (100, 10), (RED, RED, RED)),
        ("100x10b", (100, 10), (BLUE, BLUE, BLUE)),
    ],
)
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_sizes_and_what_is_kept(size, expected, colours, form):
    more = {"quality": 95} if form == "JPEG" else {}
    found = opened(make_thumb(encoded(striped(), form, **more), parse_size(size))).convert("RGB")
    width, height = found.size
    assert found.size == expected
    seen = [found.getpixel((width // 2, row)) for row in (1, height // 2, height - 2)]
    assert all(map(is_like, seen, colours)), seen


@pytest.mark.parametrize(
    ("form", "expected", "content_type"),
    [
        ("PNG", "PNG", "image/png"),
        ("JPEG", "JPEG", "image/jpeg"),
        ("GIF", "GIF", "image/gif"),
        ("WEBP", "PNG", "image/png"),
    ],
)
def test_formats(form, expected, content_type):
    made = make_thumb(encoded(striped(), form), parse_size("10x10"))
    assert (opened(made).format, made.content_type) == (expected, content_type)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_every_kind_of_png(mode):
    made = make_thumb(encoded(striped().convert("L" if mode == "I;16" else "RGB").convert(mode)), parse_size("10x20"))
    assert opened(made).size == (10, 20)


def test_colours_of_print_become_those_of_screens():
    made = make_thumb(encoded(striped().convert("CMYK"), "JPEG"), parse_size("10x20"))
    assert opened(made).mode == "RGB"


@pytest.mark.parametrize("form", ["PNG", "WEBP", "GIF"])
def test_what_can_be_seen_through_stays_so(form):
    image = Image.new("RGBA", (40, 40), (255, 0, 0, 0))
    image.paste((0, 0, 255, 255), (0, 0, 20, 40))
    found = opened(make_thumb(encoded(image, form), parse_size("20x20"))).convert("RGBA")
    assert found.getpixel((15, 10))[3] == 0 and found.getpixel((4, 10))[3] == 255


def test_a_picture_is_turned_as_the_camera_says():
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    body = encoded(striped(60, 120), "JPEG", exif=exif, quality=95)
    found = opened(make_thumb(body, parse_size("40x20"))).convert("RGB")
    assert found.size == (40, 20)
    assert is_like(found.getpixel((2, 10)), BLUE) and is_like(found.getpixel((37, 10)), RED)


def test_the_first_picture_of_an_animation_is_taken():
    first, second = Image.new("RGB", (20, 20), RED), Image.new("RGB", (20, 20), BLUE)
    body = encoded(first, "GIF", save_all=True, append_images=[second])
    found = opened(make_thumb(body, parse_size("10x10")))
    assert getattr(found, "n_frames", 1) == 1 and is_like(found.convert("RGB").getpixel((5, 5)), RED)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"\x89PNG\r\n\x1a\n",
        b"GIF89a" + bytes(20),
        b"RIFF\x10\0\0\0WEBPVP8 " + bytes(8),
        encoded(striped(), "BMP"),
        encoded(striped(), "TIFF"),
        b'<svg xmlns="http://www.w3.org/2000/svg"/>',
    ],
)
def test_what_is_no_image_of_the_web_gives_none(data):
    assert make_thumb(data, parse_size("10x10")) is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "GIF", "WEBP"])
def test_broken_images_give_none_or_a_thumb_and_raise_nothing(form):
    data = encoded(striped(), form)
    for cut in range(0, len(data), max(len(data) // 40, 1)):
        made = make_thumb(data[:cut], parse_size("10x10"))
        assert made is None or opened(made).size == (10, 10)
    for place in range(0, len(data), max(len(data) // 60, 1)):
        flipped = data[:place] + bytes([data[place] ^ 0xFF]) + data[place + 1 :]
        made = make_thumb(flipped, parse_size("10x10"))
        assert made is None or opened(made).size == (10, 10)


def test_pixels_are_bounded_before_and_after(monkeypatch):
    monkeypatch.setattr(thumbs, "PIXELS_MAX", 10_000)
    assert make_thumb(encoded(Image.new("L", (101, 100))), parse_size("10x10")) is None
    assert make_thumb(encoded(Image.new("L", (100, 100))), parse_size("10x10")) is not None
    assert make_thumb(encoded(Image.new("L", (100, 100))), parse_size("101x100")) is None
    assert make_thumb(encoded(Image.new("L", (2, 1000))), parse_size("50x0")) is None
    # a JPEG is read at the fraction that is needed, and a crop of an extreme ratio takes what is kept of it
    assert make_thumb(encoded(Image.new("L", (800, 800)), "JPEG"), parse_size("50x50")) is not None
    assert opened(make_thumb(encoded(Image.new("L", (1000, 2))), parse_size("100x100"))).size == (100, 100)


def test_a_header_that_claims_a_huge_image_gives_none():
    data = bytearray(encoded(Image.new("L", (1, 1))))
    data[16:24] = (60_000).to_bytes(4, "big") * 2
    assert make_thumb(bytes(data), parse_size("10x10")) is None


# -- kept beside the original -----------------------------------------------------------------------------------------

KEY, THUMB = "c1/r1/a.png", "c1/r1/thumbs_a.png/10x10_a.png"
SIZE = parse_size("10x10")


class Watched(ObjectStorage):
    """A storage that counts reads, can hold them up, and can refuse."""

    def __init__(self):
        super().__init__(MemoryStore())
        self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.is_full = False

    async def read(self, key, start=0, end=None):
        self.reads += 1
        await self.gate.wait()
        async for piece in super().read(key, start, end):
            yield piece

    async def put(self, key, body, **more):
        if self.is_full:
            raise StorageError("full")
        return await super().put(key, body, **more)


async def prepared(data, **more):
    kept = Watched()
    await kept.put(KEY, data, content_type="image/png", size_max=1 << 30)
    return kept, ThumbMaker(kept, threads=2, **more), await kept.head(KEY)


def run(scenario):
    asyncio.run(scenario())


def test_a_thumb_is_made_once_and_kept():
    async def scenario():
        kept, maker, original = await prepared(encoded(striped()))
        first = await maker.find_or_make(original, THUMB, SIZE)
        assert (first.key, first.content_type) == (THUMB, "image/png")
        assert b"".join([piece async for piece in kept.read(THUMB)]) == make_thumb(encoded(striped()), SIZE).data
        reads = kept.reads
        assert await maker.find_or_make(original, THUMB, SIZE) == first
        assert kept.reads == reads and maker.statistics == ThumbStatistics(made=1)
        await maker.close()

    run(scenario)


def test_requests_for_one_thumb_share_the_work():
    async def scenario():
        kept, maker, original = await prepared(encoded(striped()))
        kept.gate.clear()
        asked = [asyncio.create_task(maker.find_or_make(original, THUMB, SIZE)) for _ in range(20)]
        while not kept.reads:
            await asyncio.sleep(0)
        asked[0].cancel()
        kept.gate.set()
        found = await asyncio.gather(*asked, return_exceptions=True)
        assert isinstance(found[0], asyncio.CancelledError)
        assert {each.key for each in found[1:]} == {THUMB}
        assert kept.reads == 1 and maker.statistics.made == 1

    run(scenario)


def test_an_image_that_was_refused_is_not_read_again():
    async def scenario():
        kept, maker, original = await prepared(b"no image")
        assert [await maker.find_or_make(original, THUMB, SIZE) for _ in range(3)] == [None] * 3
        assert kept.reads == 1 and maker.statistics == ThumbStatistics(refused=1)

    run(scenario)


def test_refusals_that_are_remembered_are_bounded(monkeypatch):
    monkeypatch.setattr(thumbs, "REFUSED_KEPT_MAX", 2)

    async def scenario():
        kept, maker, original = await prepared(b"no image")
        for number in (1, 2, 3, 3, 2, 1):
            await maker.find_or_make(original, f"{THUMB}{number}", SIZE)
        assert kept.reads == 4  # the first had been forgotten

    run(scenario)


def test_too_large_an_original_is_not_read():
    async def scenario():
        kept, maker, original = await prepared(encoded(striped()))
        huge = replace(original, size=thumbs.SOURCE_BYTES_MAX + 1)
        assert await maker.find_or_make(huge, THUMB, SIZE) is None and kept.reads == 0

    run(scenario)


def test_an_original_that_went_gives_none():
    async def scenario():
        kept, maker, original = await prepared(encoded(striped()))
        await kept.delete(KEY)
        assert await maker.find_or_make(original, THUMB, SIZE) is None
        with pytest.raises(FileMissing):
            await kept.head(THUMB)

    run(scenario)


def test_one_who_waits_too_long_for_a_place_gets_none():
    async def scenario():
        kept, maker, original = await prepared(encoded(striped()), wait_s=0.001)
        kept.gate.clear()
        busy = [asyncio.create_task(maker.find_or_make(original, f"{THUMB}{number}", SIZE)) for number in range(2)]
        while kept.reads < 2:
            await asyncio.sleep(0)
        assert await maker.find_or_make(original, THUMB, SIZE) is None
        assert maker.statistics.failed == 1
        kept.gate.set()
        assert all(await asyncio.gather(*busy))
        assert await maker.find_or_make(original, THUMB, SIZE) is not None

    run(scenario)


def test_what_is_being_made_is_bounded(monkeypatch):
    monkeypatch.setattr(thumbs, "MAKING_MAX", 2)

    async def scenario():
        kept, maker, original = await prepared(encoded(striped()))
        kept.gate.clear()
        asked = [asyncio.create_task(maker.find_or_make(original, f"{THUMB}{number}", SIZE)) for number in range(2)]
        while kept.reads < 2:
            await asyncio.sleep(0)
        assert await maker.find_or_make(original, THUMB, SIZE) is None
        kept.gate.set()
        assert all(await asyncio.gather(*asked))

    run(scenario)


def test_a_storage_that_takes_nothing_costs_the_thumb_alone():
    async def scenario():
        kept, maker, original = await prepared(encoded(striped()))
        kept.is_full = True
        assert await maker.find_or_make(original, THUMB, SIZE) is None
        assert maker.statistics.failed == 1
        kept.is_full = False
        assert await maker.find_or_make(original, THUMB, SIZE) is not None

    run(scenario)


def test_closing_gives_up_what_is_being_made():
    async def scenario():
        kept, maker, original = await prepared(encoded(striped()))
        kept.gate.clear()
        asked = asyncio.create_task(maker.find_or_make(original, THUMB, SIZE))
        while not kept.reads:
            await asyncio.sleep(0)
        await maker.close()
        with pytest.raises(asyncio.CancelledError):
            await asked

    run(scenario)
