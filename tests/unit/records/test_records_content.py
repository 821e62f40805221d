import gzip
import io
import json
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pando.records.files.content import content_type_of, file_headers, is_inline, sniff
from pando.records.files.signatures import ALIASES, HEAD_BYTES, Kind
from pando.records.files.storage import Stored

OFFICE = "application/vnd.openxmlformats-officedocument"


def image(form, **more):
    body = io.BytesIO()
    Image.new("RGB", (9, 7), "red").save(body, form, **more)
    return body.getvalue()


def zipped(*names, first=None):
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        if first:
            archive.writestr(zipfile.ZipInfo("mimetype"), first)
        for name in names:
            archive.writestr(name, "x" * 50)
    return body.getvalue()


def tarred():
    body = io.BytesIO()
    with tarfile.open(fileobj=body, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("a"))
    return body.getvalue()


def ftyp(brand):
    return b"\0\0\0\x18ftyp" + brand + b"\0\0\0\0mp42isom" + bytes(100)


REAL = [
    (image("PNG"), "image/png", ".png"),
    (image("JPEG"), "image/jpeg", ".jpg"),
    (image("GIF"), "image/gif", ".gif"),
    (image("WEBP"), "image/webp", ".webp"),
    (image("BMP"), "image/bmp", ".bmp"),
    (image("TIFF"), "image/tiff", ".tiff"),
    (image("ICO", sizes=[(9, 7)]), "image/x-icon", ".ico"),
    (image("PDF"), "application/pdf", ".pdf"),
    (gzip.compress(b"x"), "application/gzip", ".gz"),
    (tarred(), "application/x-tar", ".tar"),
    (zipped("a.txt"), "application/zip", ".zip"),
    (zipped("[Content_Types].xml", "_rels/.rels", "word/document.xml"), f"{OFFICE}.wordprocessingml.document", ".docx"),
    (zipped("[Content_Types].xml", "xl/workbook.xml"), f"{OFFICE}.spreadsheetml.sheet", ".xlsx"),
    (zipped("[Content_Types].xml", "ppt/slides/1.xml"), f"{OFFICE}.presentationml.presentation", ".pptx"),
    (zipped("META-INF/MANIFEST.MF"), "application/java-archive", ".jar"),
    (zipped("a", first="application/epub+zip"), "application/epub+zip", ".epub"),
    (
        zipped("a", first="application/vnd.oasis.opendocument.text"),
        "application/vnd.oasis.opendocument.text",
        ".odt",
    ),
    (zipped("a", first="application/unheard-of"), "application/zip", ".zip"),
]

MADE = [
    (ftyp(b"isom"), "video/mp4"),
    (ftyp(b"mp42"), "video/mp4"),
    (ftyp(b"qt  "), "video/quicktime"),
    (ftyp(b"M4A "), "audio/x-m4a"),
    (ftyp(b"3gp5"), "video/3gpp"),
    (ftyp(b"avif"), "image/avif"),
    (ftyp(b"heic"), "image/heic"),
    (b"\x1a\x45\xdf\xa3\x93\x42\x82\x84webm" + bytes(40), "video/webm"),
    (b"\x1a\x45\xdf\xa3\x93\x42\x82\x88matroska" + bytes(40), "video/x-matroska"),
    (b"RIFF\0\0\0\0WAVEfmt ", "audio/wav"),
    (b"RIFF\0\0\0\0AVI LIST", "video/x-msvideo"),
    (b"FORM\0\0\0\0AIFFCOMM", "audio/aiff"),
    (b"OggS\0\2" + bytes(22) + b"\x01vorbis", "audio/ogg"),
    (b"OggS\0\2" + bytes(22) + b"\x80theora", "video/ogg"),
    (b"ID3\x03\0\0\0\0\0\0", "audio/mpeg"),
    (b"\xff\xfb\x90\x64" + bytes(40), "audio/mpeg"),
    (b"\xff\xf1\x50\x80" + bytes(40), "audio/aac"),
    (b"fLaC\0\0\0\x22", "audio/flac"),
    (b"MThd\0\0\0\x06", "audio/midi"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500) + "WordDocument".encode("utf-16-le"), "application/msword"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(500), "application/x-ole-storage"),
    (b"SQLite format 3\0", "application/vnd.sqlite3"),
    (b"wOF2\0\1\0\0", "font/woff2"),
    (b"\0\1\0\0\0\x0a", "font/ttf"),
    (b"{\\rtf1\\ansi", "text/rtf"),
    (b"MZ\x90\0\3\0", "application/vnd.microsoft.portable-executable"),
    (b"BZh91AY&SY\0\0", "application/x-bzip2"),
    (bytes(100), "application/octet-stream"),
    (b"\1\2\3", "application/octet-stream"),
]

PLAIN, HTML = "text/plain; charset=utf-8", "text/html; charset=utf-8"
TEXTS = [
    ("", "text/plain"),
    ("hello\n", PLAIN),
    ("grüße\n", PLAIN),
    ("BM is a car? MZ too.", PLAIN),
    ("BZh is no archive", PLAIN),
    ("ID3 tags explained", PLAIN),
    ("\ufeffmarked", PLAIN),
    ("<!DOCTYPE html><html></html>", HTML),
    ("  \n<html >", HTML),
    ("<script>alert(1)</script>", HTML),
    ("<p>one</p>", HTML),
    ("<!-- note --><html>", HTML),
    ("<b>", HTML),
    ("<bx>", PLAIN),
    ('<?xml version="1.0"?><note/>', "text/xml; charset=utf-8"),
    ('<svg xmlns="http://www.w3.org/2000/svg"/>', "image/svg+xml"),
    ('<?xml version="1.0"?>\n<!-- x -->\n<svg width="1"></svg>', "image/svg+xml"),
    ("<!-- made by hand --><svg >", "image/svg+xml"),
    ("<html><svg ></svg></html>", HTML),
    ('{"a": [1, 2.5e3, true, null, "x\\n"]}', "application/json"),
    (" [1]\n", "application/json"),
    ("{}", "application/json"),
    ('{"a": 1', PLAIN),
    ("[one]", PLAIN),
    ("{{ template }}", PLAIN),
    ('"text"', PLAIN),
    ("12", PLAIN),
    ("a,b\n1,2\n", "text/csv; charset=utf-8"),
    ('a,"b,c"\n1,2\n', "text/csv; charset=utf-8"),
    ("a\tb\n1\t2\n", "text/tab-separated-values; charset=utf-8"),
    ("a,b\n", PLAIN),
    ("a,b\n1\n", PLAIN),
    ('a,"b\n1,2\n', PLAIN),
]


@pytest.mark.parametrize(("data", "mime", "extension"), REAL, ids=[each[2] for each in REAL])
def test_files_that_programs_made(data, mime, extension):
    assert sniff(data) == sniff(data[:HEAD_BYTES]) == Kind(mime, extension)


@pytest.mark.parametrize(("data", "mime"), MADE, ids=[each[1] for each in MADE])
def test_first_bytes(data, mime):
    assert sniff(data).mime == mime


@pytest.mark.parametrize(("text", "mime"), TEXTS)
def test_texts(text, mime):
    assert sniff(text.encode()).mime == mime


def test_other_encodings():
    assert sniff("hi".encode("utf-16")).mime.startswith("text/plain; charset=utf-16")
    assert sniff("gr\xfc\xdfe".encode("latin-1")).mime == "text/plain"


def test_a_text_that_goes_on_is_judged_by_its_beginning():
    assert sniff(json.dumps(["grüße", {"key": "value"}] * 500, ensure_ascii=False).encode()).mime == "application/json"
    assert sniff(("é" * HEAD_BYTES).encode()).mime == PLAIN
    assert sniff(("x" + "é" * HEAD_BYTES).encode()).mime == PLAIN
    assert sniff(b"\xfc\xdf" * HEAD_BYTES).mime == "text/plain"
    assert sniff(b"a,b,c\n" * HEAD_BYTES).mime == "text/csv; charset=utf-8"
    assert sniff(b"[" + b"no json " * HEAD_BYTES).mime == PLAIN
    assert sniff(b"[" + b"not " * HEAD_BYTES).mime == PLAIN


@pytest.mark.parametrize("end", ['"cut', '"cut\\', '"\\u12', "tr", "fals", "nul", "-", "12.", "{", "", ","])
def test_json_may_be_cut_off_anywhere(end):
    text = '{"a":[' + " " * (HEAD_BYTES - 6 - len(end)) + end
    assert len(text) == HEAD_BYTES and sniff(text.encode()).mime == "application/json"


@given(st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_sniffing_never_raises(data):
    assert sniff(data).mime


SCALARS = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text() | st.integers()


@given(st.lists(SCALARS | st.lists(SCALARS) | st.dictionaries(st.text(), SCALARS), max_size=5))
def test_json_of_any_kind_is_known(value):
    assert sniff(json.dumps(value).encode()).mime == "application/json"


def test_aliases_are_other_names():
    assert all(name not in others and others for name, others in ALIASES.items())


def stored(content_type="image/png", **more):
    return Stored(key="c/r/n", size=5, modified_ms=1_772_600_767_999, etag='"e"', content_type=content_type, **more)


def test_headers_of_an_image():
    assert file_headers(stored(), "photo_1.png") == {
        "Accept-Ranges": "bytes",
        "Cache-Control": "max-age=2592000, stale-while-revalidate=86400",
        "Content-Disposition": 'inline; filename="photo_1.png"',
        "Content-Security-Policy": "default-src 'none'; media-src 'self'; style-src 'unsafe-inline'; sandbox",
        "Content-Type": "image/png",
        "ETag": '"e"',
        "Last-Modified": "Wed, 04 Mar 2026 05:06:07 GMT",
    }


@pytest.mark.parametrize(
    ("content_type", "name", "sent", "disposition"),
    [
        ("image/png", "a.png", "image/png", "inline"),
        ("video/mp4", "a.mp4", "video/mp4", "inline"),
        ("application/pdf", "a.pdf", "application/pdf", "inline"),
        ("text/html; charset=utf-8", "a.html", "text/html; charset=utf-8", "attachment"),
        ("text/plain; charset=utf-8", "a.css", "text/css", "attachment"),
        ("text/plain; charset=utf-8", "a.js", "text/javascript", "attachment"),
        ("text/plain; charset=utf-8", "a.MJS", "text/javascript", "attachment"),
        ("text/xml; charset=utf-8", "a.svg", "image/svg+xml", "attachment"),
        ("application/zip", "a.docx", f"{OFFICE}.wordprocessingml.document", "attachment"),
        ("application/octet-stream", "a", "application/octet-stream", "attachment"),
        ("image/png", "a.svg", "image/svg+xml", "attachment"),
        ("text/html\r\nX-Evil: 1", "a.html", "application/octet-stream", "attachment"),
    ],
)
def test_what_is_shown_and_what_is_saved(content_type, name, sent, disposition):
    headers = file_headers(stored(content_type), name)
    assert headers["Content-Type"] == sent
    assert headers["Content-Disposition"].startswith(f"{disposition}; ")
    assert file_headers(stored(content_type), name, is_download=True)["Content-Disposition"].startswith("attachment; ")


def test_parameters_of_a_type_do_not_decide():
    assert is_inline("IMAGE/PNG; x=y") and not is_inline("image/svg+xml")
    assert content_type_of(stored("a/b"), "no_extension") == "a/b"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a b.png", 'inline; filename="a b.png"'),
        ('a"b\\.png', "inline; filename=\"a_b_.png\"; filename*=UTF-8''a%22b%5C.png"),
        ("é.png", "inline; filename=\"_.png\"; filename*=UTF-8''%C3%A9.png"),
        ("a\r\nb.png", "inline; filename=\"a__b.png\"; filename*=UTF-8''a%0D%0Ab.png"),
    ],
)
def test_names_in_headers(name, expected):
    assert file_headers(stored(), name)["Content-Disposition"] == expected
