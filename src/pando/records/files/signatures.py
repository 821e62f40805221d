"""The kinds of files, told by their first bytes. Pure.

Sources: the WHATWG MIME sniffing standard for what browsers show, the formats' own documents for the rest. Names of
types are those that PocketBase's `mimeTypes` lists use. A kind that is not in the tables is text if it has no control
characters, else application/octet-stream.
Not here: what may be uploaded or shown (`pando.records.files.content`).
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

HEAD_BYTES: Final = 4096
"""How much of a file is looked at."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A type, and the extension that files of it usually have."""

    mime: str
    extension: str


UNKNOWN: Final = Kind("application/octet-stream", "")
TEXT: Final = Kind("text/plain; charset=utf-8", ".txt")

ALIASES: Final[dict[str, tuple[str, ...]]] = {
    "image/jpeg": ("image/jpg", "image/pjpeg"),
    "image/png": ("image/x-png",),
    "image/bmp": ("image/x-bmp", "image/x-ms-bmp"),
    "image/x-icon": ("image/vnd.microsoft.icon",),
    "image/vnd.adobe.photoshop": ("image/x-psd", "application/photoshop"),
    "audio/mpeg": ("audio/mp3", "audio/x-mpeg"),
    "audio/wav": ("audio/x-wav", "audio/wave", "audio/vnd.wave"),
    "audio/midi": ("audio/mid", "audio/sp-midi", "audio/x-mid", "audio/x-midi"),
    "audio/aiff": ("audio/x-aiff",),
    "audio/x-m4a": ("audio/m4a", "audio/mp4"),
    "audio/ogg": ("application/ogg",),
    "video/ogg": ("application/ogg",),
    "video/x-msvideo": ("video/avi", "video/msvideo"),
    "video/x-ms-asf": ("video/asf", "video/x-ms-wmv"),
    "video/3gpp": ("video/3gp", "audio/3gpp"),
    "video/mpeg": ("video/mpg",),
    "application/pdf": ("application/x-pdf",),
    "application/zip": ("application/x-zip", "application/x-zip-compressed"),
    "application/gzip": ("application/x-gzip", "application/x-gunzip", "application/gzipped"),
    "application/x-rar-compressed": ("application/x-rar", "application/vnd.rar"),
    "application/vnd.sqlite3": ("application/x-sqlite3",),
    "text/xml": ("application/xml",),
    "text/rtf": ("application/rtf",),
    "font/ttf": ("font/sfnt", "application/x-font-ttf", "application/font-sfnt"),
    "application/vnd.microsoft.portable-executable": ("application/x-msdownload",),
}
"""Other names that the same type goes by."""

_AT_START: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"\x89PNG\r\n\x1a\n", Kind("image/png", ".png")),
    (b"\xff\xd8\xff", Kind("image/jpeg", ".jpg")),
    (b"GIF87a", Kind("image/gif", ".gif")),
    (b"GIF89a", Kind("image/gif", ".gif")),
    (b"BM", Kind("image/bmp", ".bmp")),
    (b"II*\0", Kind("image/tiff", ".tiff")),
    (b"MM\0*", Kind("image/tiff", ".tiff")),
    (b"\0\0\1\0", Kind("image/x-icon", ".ico")),
    (b"8BPS", Kind("image/vnd.adobe.photoshop", ".psd")),
    (b"\xff\x0a", Kind("image/jxl", ".jxl")),
    (b"\0\0\0\x0cJXL \r\n\x87\n", Kind("image/jxl", ".jxl")),
    (b"\0\0\0\x0cjP  \r\n\x87\n", Kind("image/jp2", ".jp2")),
    (b"%PDF-", Kind("application/pdf", ".pdf")),
    (b"%!PS-Adobe-", Kind("application/postscript", ".ps")),
    (b"{\\rtf", Kind("text/rtf", ".rtf")),
    (b"ID3", Kind("audio/mpeg", ".mp3")),
    (b"fLaC", Kind("audio/flac", ".flac")),
    (b"MThd", Kind("audio/midi", ".midi")),
    (b".snd", Kind("audio/basic", ".au")),
    (b"#!AMR", Kind("audio/amr", ".amr")),
    (b"\x30\x26\xb2\x75\x8e\x66\xcf\x11\xa6\xd9\x00\xaa\x00\x62\xce\x6c", Kind("video/x-ms-asf", ".asf")),
    (b"FLV\x01", Kind("video/x-flv", ".flv")),
    (b"\0\0\1\xba", Kind("video/mpeg", ".mpeg")),
    (b"\0\0\1\xb3", Kind("video/mpeg", ".mpeg")),
    (b"\x1f\x8b", Kind("application/gzip", ".gz")),
    (b"BZh", Kind("application/x-bzip2", ".bz2")),
    (b"\xfd7zXZ\0", Kind("application/x-xz", ".xz")),
    (b"\x28\xb5\x2f\xfd", Kind("application/zstd", ".zst")),
    (b"7z\xbc\xaf\x27\x1c", Kind("application/x-7z-compressed", ".7z")),
    (b"Rar!\x1a\x07", Kind("application/x-rar-compressed", ".rar")),
    (b"SQLite format 3\0", Kind("application/vnd.sqlite3", ".sqlite")),
    (b"\0asm", Kind("application/wasm", ".wasm")),
    (b"\x7fELF", Kind("application/x-elf", "")),
    (b"MZ", Kind("application/vnd.microsoft.portable-executable", ".exe")),
    (b"wOFF", Kind("font/woff", ".woff")),
    (b"wOF2", Kind("font/woff2", ".woff2")),
    (b"OTTO", Kind("font/otf", ".otf")),
    (b"\0\1\0\0\0", Kind("font/ttf", ".ttf")),
    (b"ttcf", Kind("font/collection", ".ttc")),
    (b"glTF", Kind("model/gltf-binary", ".glb")),
    (b"PAR1", Kind("application/vnd.apache.parquet", ".parquet")),
)
"""In this order: the first that fits."""

_WORDS: Final = frozenset(
    {
        *(".bmp", ".exe", ".psd", ".mp3", ".midi", ".au", ".flv", ".woff", ".woff2", ".otf", ".ttc", ".glb"),
        ".parquet",
    }
)
"""Kinds that begin with letters; a zero byte follows soon."""

_BRANDS: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"avif", Kind("image/avif", ".avif")),
    (b"avis", Kind("image/avif", ".avif")),
    (b"heic", Kind("image/heic", ".heic")),
    (b"heix", Kind("image/heic", ".heic")),
    (b"hevc", Kind("image/heic-sequence", ".heic")),
    (b"mif1", Kind("image/heif", ".heif")),
    (b"msf1", Kind("image/heif-sequence", ".heif")),
    (b"M4A ", Kind("audio/x-m4a", ".m4a")),
    (b"M4B ", Kind("audio/mp4", ".m4b")),
    (b"M4V", Kind("video/x-m4v", ".m4v")),
    (b"qt", Kind("video/quicktime", ".mov")),
    (b"3g2", Kind("video/3gpp2", ".3g2")),
    (b"3gp", Kind("video/3gpp", ".3gp")),
)
"""Major brands of ISO media files; all others are MP4."""

_OFFICE: Final[tuple[tuple[bytes, Kind], ...]] = (
    (b"word/", Kind("application/vnd.openxmlformats-officedocument.wordprocessingml.document", ".docx")),
    (b"xl/", Kind("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", ".xlsx")),
    (b"ppt/", Kind("application/vnd.openxmlformats-officedocument.presentationml.presentation", ".pptx")),
    (b"META-INF/MANIFEST.MF", Kind("application/java-archive", ".jar")),
    (b"AndroidManifest.xml", Kind("application/vnd.android.package-archive", ".apk")),
)
"""Zip files that are something else, by the beginning of a member's name."""

_DECLARED: Final[dict[bytes, Kind]] = {
    b"application/epub+zip": Kind("application/epub+zip", ".epub"),
    b"application/vnd.oasis.opendocument.text": Kind("application/vnd.oasis.opendocument.text", ".odt"),
    b"application/vnd.oasis.opendocument.spreadsheet": Kind("application/vnd.oasis.opendocument.spreadsheet", ".ods"),
    b"application/vnd.oasis.opendocument.presentation": Kind("application/vnd.oasis.opendocument.presentation", ".odp"),
    b"application/vnd.oasis.opendocument.graphics": Kind("application/vnd.oasis.opendocument.graphics", ".odg"),
}
"""Zip files that say what they are in a first member `mimetype`."""

_HTML: Final = re.compile(
    rb"<(?:!DOCTYPE HTML|HTML|HEAD|SCRIPT|IFRAME|H1|DIV|FONT|TABLE|A|STYLE|TITLE|B|BODY|BR|P)[\s>]|<!--", re.IGNORECASE
)
_SVG: Final = re.compile(rb"<svg[\s>/]")
_MARK: Final = b"\xef\xbb\xbf"
_BINARY: Final = re.compile(rb"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")
_JSON_PIECES: Final = re.compile(
    r'\s*[{\[](?:[\s{}\[\],:]+|"(?:[^"\\\x00-\x1f]|\\["\\/bfnrtu])*+"|-?\d[\d.eE+-]*+|true|false|null)*+(?P<rest>.*)',
    re.DOTALL,
)
_JSON_CUT: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*+\\?|-|t(?:ru?)?|f(?:a(?:ls?)?)?|n(?:ul?)?', re.DOTALL)


def sniff(head: bytes) -> Kind:
    """Tell the kind of a file from its first HEAD_BYTES (or all of it, if it is shorter)."""
    data = head[:HEAD_BYTES]
    for look in _LOOKS:
        found = look(data)
        if found is not None:
            return found
    return UNKNOWN


def _signature(data: bytes) -> Kind | None:
    return next((kind for start, kind in _AT_START if data.startswith(start) and _is_plausible(data, kind)), None)


def _is_plausible(data: bytes, kind: Kind) -> bool:
    """Look further where a text may begin with the same letters."""
    if kind.extension == ".bz2":
        return data[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90")
    return kind.extension not in _WORDS or b"\0" in data[:64]


def _riff(data: bytes) -> Kind | None:
    if data[:4] == b"FORM" and data[8:12] in (b"AIFF", b"AIFC"):
        return Kind("audio/aiff", ".aiff")
    if data[:4] != b"RIFF":
        return None
    return {
        b"WEBP": Kind("image/webp", ".webp"),
        b"WAVE": Kind("audio/wav", ".wav"),
        b"AVI ": Kind("video/x-msvideo", ".avi"),
    }.get(data[8:12])


def _iso_media(data: bytes) -> Kind | None:
    if data[4:8] != b"ftyp":
        return Kind("video/quicktime", ".mov") if data[4:8] in (b"moov", b"wide") else None
    brand = data[8:12]
    return next((kind for start, kind in _BRANDS if brand.startswith(start)), Kind("video/mp4", ".mp4"))


def _matroska(data: bytes) -> Kind | None:
    if not data.startswith(b"\x1a\x45\xdf\xa3"):
        return None
    return Kind("video/webm", ".webm") if b"webm" in data[:64] else Kind("video/x-matroska", ".mkv")


def _ogg(data: bytes) -> Kind | None:
    if not data.startswith(b"OggS\0"):
        return None
    return Kind("video/ogg", ".ogv") if b"theora" in data[:64] else Kind("audio/ogg", ".ogg")


def _mpeg_audio(data: bytes) -> Kind | None:
    """Tell MP3 and AAC by the header of their first frame."""
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    if data[1] & 0xF6 == 0xF0:
        return Kind("audio/aac", ".aac")
    is_frame = data[1] & 0x06 == 0x02 and data[2] & 0xF0 not in (0x00, 0xF0) and data[2] & 0x0C != 0x0C
    return Kind("audio/mpeg", ".mp3") if is_frame else None


def _zip(data: bytes) -> Kind | None:
    if not data.startswith((b"PK\x03\x04", b"PK\x05\x06", b"PK\x07\x08")):
        return None
    size = int.from_bytes(data[18:22], "little")
    if data[30:38] == b"mimetype" and data[38 : 38 + size] in _DECLARED:
        return _DECLARED[data[38 : 38 + size]]
    names = [data[at + 30 : at + 60] for at in _all(data, b"PK\x03\x04")]
    found = (kind for start, kind in _OFFICE if any(name.startswith(start) for name in names))
    return next(found, Kind("application/zip", ".zip"))


def _all(data: bytes, text: bytes) -> list[int]:
    return [found.start() for found in re.finditer(re.escape(text), data)]


def _ole(data: bytes) -> Kind | None:
    """Tell Office's files of before 2007 by the streams that are named in the part looked at."""
    if not data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"):
        return None
    for name, kind in (
        ("WordDocument", Kind("application/msword", ".doc")),
        ("Workbook", Kind("application/vnd.ms-excel", ".xls")),
        ("PowerPoint Document", Kind("application/vnd.ms-powerpoint", ".ppt")),
    ):
        if name.encode("utf-16-le") in data:
            return kind
    return Kind("application/x-ole-storage", "")


def _tar(data: bytes) -> Kind | None:
    return Kind("application/x-tar", ".tar") if data[257:262] == b"ustar" else None


def _text(data: bytes) -> Kind | None:
    for mark, encoding in ((b"\xff\xfe", "utf-16le"), (b"\xfe\xff", "utf-16be")):
        if data.startswith(mark):
            return Kind(f"text/plain; charset={encoding}", ".txt")
    if not data:
        return Kind("text/plain", ".txt")
    body = data.removeprefix(_MARK)
    if _BINARY.search(body):
        return None
    return _marked_up(body) or _plain(body, is_whole=len(data) < HEAD_BYTES)


def _marked_up(body: bytes) -> Kind | None:
    start = body.lstrip(b"\t\n\x0c\r ")
    if not start.startswith(b"<"):
        return None
    is_html = _HTML.match(start) is not None and not start.startswith(b"<!--")
    if not is_html and _SVG.search(body):
        return Kind("image/svg+xml", ".svg")
    if start.startswith(b"<?xml"):
        return Kind("text/xml; charset=utf-8", ".xml")
    return Kind("text/html; charset=utf-8", ".html") if _HTML.match(start) else None


def _plain(body: bytes, *, is_whole: bool) -> Kind | None:
    try:
        text = codecs.getincrementaldecoder("utf-8")().decode(body, is_whole)
    except UnicodeDecodeError:
        # What no encoding forbids: text of an unknown 8-bit encoding, since control characters were ruled out.
        return Kind("text/plain", ".txt")
    if _is_json(text, is_whole=is_whole):
        return Kind("application/json", ".json")
    return _table(text, is_whole=is_whole) or TEXT


def _is_json(text: str, *, is_whole: bool) -> bool:
    """Whether a text is made of JSON's words, the last of which may be cut off where the part looked at ends."""
    found = _JSON_PIECES.fullmatch(text)
    if found is None:
        return False
    rest = found["rest"]
    if is_whole:
        return not rest and text.rstrip().endswith(("}", "]"))
    return not rest or _JSON_CUT.fullmatch(rest) is not None


def _table(text: str, *, is_whole: bool) -> Kind | None:
    """Tell CSV and TSV: at least two lines, each with the same number of fields, more than one."""
    lines = text.splitlines() if is_whole else text.splitlines()[:-1]
    for separator, kind in (
        (",", Kind("text/csv; charset=utf-8", ".csv")),
        ("\t", Kind("text/tab-separated-values; charset=utf-8", ".tsv")),
    ):
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=separator, strict=True) if row]
        except csv.Error:
            continue
        if len(widths) > 1 and widths[0] > 1 and len(set(widths)) == 1:
            return kind
    return None


_LOOKS: Final[tuple[Callable[[bytes], Kind | None], ...]] = (
    *(_signature, _riff, _iso_media, _matroska, _ogg, _mpeg_audio, _zip, _ole, _tar),
    _text,
)
