import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.records.files.names import (
    extension_of,
    file_key,
    is_safe_part,
    snake_case,
    stored_name,
    thumb_key,
    thumbs_prefix,
)
from pando.records.problems import ApiError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("photo", "photo"),
        ("My Photo", "my_photo"),
        ("myPhotoOfHome", "my_photo_of_home"),
        ("HTMLFile", "html_file"),
        ("  a -- b!! ", "a_b"),
        ("__a__b__", "a_b"),
        ("été 2026", "t_2026"),
        ("photo2Large", "photo2_large"),
    ],
)
def test_snake_case(text, expected):
    assert snake_case(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.png", ".png"),
        ("a.tar.gz", ".tar.gz"),
        ("a.b.png", ".png"),
        ("a", ""),
        ("a.", "."),
        (".profile", ".profile"),
        ("v1.2.gz", ".gz"),
        ("backup.TAR.GZ", ".TAR.GZ"),
    ],
)
def test_extensions(name, expected):
    assert extension_of(name) == expected


@pytest.mark.parametrize(
    ("uploaded", "pattern"),
    [
        ("My Photo.png", r"my_photo_[a-z0-9]{10}\.png"),
        ("logs.tar.gz", r"logs_[a-z0-9]{10}\.tar\.gz"),
        ("../../etc/passwd", r"passwd_[a-z0-9]{10}"),
        ("C:\\temp\\shot.PNG", r"shot_[a-z0-9]{10}\.PNG"),
        ("x" * 300 + ".txt", r"x{100}_[a-z0-9]{10}\.txt"),
        ("a.txt", r"a[a-z0-9]{10}_[a-z0-9]{10}\.txt"),
        ("", r"[a-z0-9]{10}_[a-z0-9]{10}"),
        ("..", r"[a-z0-9]{10}_[a-z0-9]{10}"),
        ("文件.pdf", r"[a-z0-9]{10}_[a-z0-9]{10}\.pdf"),
        ("name.p/n g", r"[a-z0-9_]+_[a-z0-9]{10}"),
        ("name.p n!g", r"name_[a-z0-9]{10}\.png"),
        ("name." + "e" * 40, r"name_[a-z0-9]{10}\.e{19}"),
        ("sidecar.attrs", r"sidecar_[a-z0-9]{10}"),
        ("sidecar.ATTRS", r"sidecar_[a-z0-9]{10}"),
    ],
)
def test_stored_names(uploaded, pattern):
    found = stored_name(uploaded, random.Random(1))
    assert re.fullmatch(pattern, found), found


def test_an_upload_without_extension_takes_the_one_of_its_content():
    assert stored_name("photo", random.Random(1), sniffed_extension=".png").endswith(".png")
    assert stored_name("photo.gif", random.Random(1), sniffed_extension=".png").endswith(".gif")


@given(st.text(max_size=300), st.integers())
def test_every_stored_name_is_safe_and_short(uploaded, seed):
    found = stored_name(uploaded, random.Random(seed))
    assert re.fullmatch(r"[a-z0-9_]+_[a-z0-9]{10}(\.[\w.*+=#-]+)?", found, re.ASCII)
    assert len(found) <= 100 + 10 + 11 + 20
    assert file_key("c", "r", found) == f"c/r/{found}"


@pytest.mark.parametrize(
    "part", ["", ".", "..", "../x", "..\\x", "a/b", "a\\b", "a\0b", "a\nb", "\x7f", "x" * 256, "é" * 128, "\ud800"]
)
def test_parts_that_lead_elsewhere_are_not_found(part):
    assert not is_safe_part(part)
    for made in (
        lambda: file_key("c", "r", part),
        lambda: file_key("c", part, "n"),
        lambda: file_key(part, "r", "n"),
        lambda: thumb_key(part, "r", "n", "1x1"),
        lambda: thumb_key("c", "r", "n", f"../{part}"),
    ):
        with pytest.raises(ApiError) as caught:
            made()
        assert caught.value.status == 404


def test_keys():
    assert file_key("c1", "r1", "a_1.png") == "c1/r1/a_1.png"
    assert thumbs_prefix("c1", "r1", "a_1.png") == "c1/r1/thumbs_a_1.png"
    assert thumb_key("c1", "r1", "a_1.png", "100x100") == "c1/r1/thumbs_a_1.png/100x100_a_1.png"


def test_what_describes_a_file_is_no_file():
    with pytest.raises(ApiError):
        file_key("c", "r", "a_1.png.attrs")


@given(st.text(max_size=40), st.text(max_size=40))
def test_keys_raise_nothing_but_not_found(first, second):
    try:
        key = thumb_key("c", first, second, "10x10")
    except ApiError as error:
        assert error.status == 404
    else:
        assert key.count("/") == 3 and ".." not in key.split("/")
