import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.records.files.sizes import SIDE_MAX, Crop, Plan, ThumbSize, asked_size, parse_size, plan


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("100x50", ThumbSize(100, 50)),
        ("100x50t", ThumbSize(100, 50, Crop.TOP)),
        ("100x50b", ThumbSize(100, 50, Crop.BOTTOM)),
        ("100x50f", ThumbSize(100, 50, Crop.FIT)),
        ("0x50", ThumbSize(0, 50)),
        ("100x0", ThumbSize(100, 0)),
        (f"{SIDE_MAX}x1", ThumbSize(SIDE_MAX, 1)),
        (f"{SIDE_MAX + 1}x1", None),
        ("0x0", None),
        ("", None),
        ("x", None),
        ("100", None),
        ("100x", None),
        ("100X50", None),
        ("100x50c", None),
        ("-1x50", None),
        ("٣x٣", None),
        ("100x50\n", None),
        ("999999999999x1", None),
    ],
)
def test_sizes(text, expected):
    found = parse_size(text)
    assert found == expected
    assert found is None or str(found) == text


@pytest.mark.parametrize(
    ("text", "listed", "content_type", "expected"),
    [
        ("100x100", None, "image/png", ThumbSize(100, 100)),
        ("100x100", ("50x50",), "image/jpeg", ThumbSize(100, 100)),
        ("50x50", ("50x50",), "image/gif", ThumbSize(50, 50)),
        ("50x50", ("50x50",), "image/webp; x=y", ThumbSize(50, 50)),
        ("50x50", (), "image/png", None),
        ("50x50f", ("50x50",), "image/png", None),
        ("", ("50x50",), "image/png", None),
        ("big", ("big",), "image/png", None),
        ("100x100", None, "image/svg+xml", None),
        ("100x100", None, "application/pdf", None),
    ],
)
def test_only_listed_sizes_of_images_are_thumbs(text, listed, content_type, expected):
    assert asked_size(text, listed, content_type) == expected


@pytest.mark.parametrize(
    ("text", "width", "height", "expected"),
    [
        ("100x100", 200, 400, Plan((100, 200), (0, 50, 100, 150))),
        ("100x100t", 200, 400, Plan((100, 200), (0, 0, 100, 100))),
        ("100x100b", 200, 400, Plan((100, 200), (0, 100, 100, 200))),
        ("100x100", 400, 200, Plan((200, 100), (50, 0, 150, 100))),
        ("100x100t", 400, 200, Plan((200, 100), (50, 0, 150, 100))),
        ("100x100", 10, 20, Plan((100, 200), (0, 50, 100, 150))),
        ("100x100f", 200, 400, Plan((50, 100))),
        ("100x100f", 400, 200, Plan((100, 50))),
        ("100x100f", 10, 20, Plan((10, 20))),
        ("100x100f", 1000, 1, Plan((100, 1))),
        ("100x0", 200, 400, Plan((100, 200))),
        ("0x100", 200, 400, Plan((50, 100))),
        ("0x100", 10, 20, Plan((50, 100))),
        ("0x50t", 200, 400, Plan((25, 50))),
        ("50x50", 50, 50, Plan((50, 50), (0, 0, 50, 50))),
    ],
)
def test_plans(text, width, height, expected):
    assert plan(parse_size(text), width, height) == expected


SIDES = st.integers(1, 9000)


@given(st.builds(ThumbSize, SIDES, SIDES, st.sampled_from([Crop.CENTRE, Crop.TOP, Crop.BOTTOM])), SIDES, SIDES)
def test_a_crop_has_the_size_that_was_asked_for_and_lies_inside(size, width, height):
    found = plan(size, width, height)
    left, top, right, bottom = found.box
    assert (right - left, bottom - top) == (size.width, size.height)
    assert 0 <= left < right <= found.scaled[0] and 0 <= top < bottom <= found.scaled[1]


@given(SIDES, SIDES, SIDES, SIDES)
def test_a_fit_is_never_larger_than_asked_or_than_the_image(across, down, width, height):
    scaled = plan(ThumbSize(across, down, Crop.FIT), width, height).scaled
    assert scaled[0] <= min(across, width) and scaled[1] <= min(down, height) and min(scaled) >= 1
