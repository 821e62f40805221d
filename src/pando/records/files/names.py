"""Names of stored files, of their thumbs, and the keys under which a storage keeps both. Pure.

    file    {collectionId}/{recordId}/{name}          name = snake_cased_base _ 10 random characters . extension
    thumb   {collectionId}/{recordId}/thumbs_{name}/{size}_{name}

A key is made of parts that were checked, so that no name leads out of its record's directory.
Not here: what is under a key (`pando.records.files.storage`), what a thumb's size means (`pando.records.files.thumbs`).
"""

from __future__ import annotations

import re
from typing import Final

from pando.clock import Random
from pando.records.problems import not_found

BASE_CHARS_MAX: Final = 100
"""Longest part of a stored name that comes from the uploaded one."""
EXTENSION_CHARS_MAX: Final = 20
"""Longest extension, its dot included."""
PART_BYTES_MAX: Final = 255
"""Longest part of a key: what file systems take."""
ATTRIBUTES_SUFFIX: Final = ".attrs"
"""End of the local storage's files that describe others; no stored file has it."""
UPLOADED_CHARS_MAX: Final = 4096
"""Of a longer uploaded name only this much of its end is looked at."""

_RANDOM_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_RANDOM_LENGTH: Final = 10
_BASE_CHARS_MIN: Final = 3
_PACKED: Final = re.compile(r"\.[A-Za-z][A-Za-z0-9]{0,9}(?=\.(?:gz|bz2|xz|zst|z|lz|lz4|br)$)", re.IGNORECASE)
_NOT_EXTENSION: Final = re.compile(r"[^\w.*+=#-]+", re.ASCII)
_WORD_STARTS: Final = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NOT_WORD: Final = re.compile(r"[\W_]+", re.ASCII)
_UNSAFE: Final = re.compile(r"[/\\\x00-\x1f\x7f]")


# -- stored names -----------------------------------------------------------------------------------------------------


def snake_case(text: str) -> str:
    """Give the words of a text in lower case with `_` between; ASCII only, and a change of case begins a word."""
    return _NOT_WORD.sub("_", _WORD_STARTS.sub("_", text)).strip("_").lower()


def extension_of(name: str) -> str:
    """Give the extension with its dot, two where the second says how the first is packed (`.tar.gz`); "" for none."""
    dot = name.rfind(".")
    if dot < 0:
        return ""
    packed = _PACKED.search(name)
    return name[packed.start() :] if packed else name[dot:]


def stored_name(uploaded: str, random: Random, *, sniffed_extension: str = "") -> str:
    """Make the name under which an upload is stored; `sniffed_extension` is for uploads whose name has none."""
    last = re.split(r"[/\\]", uploaded[-UPLOADED_CHARS_MAX:])[-1]
    given = extension_of(last)
    base = snake_case(last[: len(last) - len(given)])[:BASE_CHARS_MAX].strip("_")
    if len(base) < _BASE_CHARS_MIN:
        base += _random_text(random)
    return f"{base}_{_random_text(random)}{_clean_extension(given) or _clean_extension(sniffed_extension)}"


def _clean_extension(extension: str) -> str:
    cleaned = _NOT_EXTENSION.sub("", extension).strip(".")[-(EXTENSION_CHARS_MAX - 1) :].strip(".")
    if not cleaned or f".{cleaned}".lower().endswith(ATTRIBUTES_SUFFIX):
        return ""
    return f".{cleaned}"


def _random_text(random: Random) -> str:
    return "".join(random.choices(_RANDOM_CHARACTERS, k=_RANDOM_LENGTH))


# -- keys -------------------------------------------------------------------------------------------------------------


def is_safe_part(part: str) -> bool:
    """Tell whether a text can be a part of a key: no separators, no control characters, nothing that means a place."""
    if not part or part.startswith("..") or part == "." or _UNSAFE.search(part):
        return False
    try:
        return len(part.encode()) <= PART_BYTES_MAX
    except UnicodeEncodeError:
        return False


def file_key(collection_id: str, record_id: str, name: str) -> str:
    """Give the key of a file. Raises 404 for what can be no part of a key."""
    if name.endswith(ATTRIBUTES_SUFFIX):
        raise not_found()
    return _joined(collection_id, record_id, name)


def thumbs_prefix(collection_id: str, record_id: str, name: str) -> str:
    """Give what the keys of a file's thumbs begin with. Raises 404 for what can be no part of a key."""
    return _joined(collection_id, record_id, f"thumbs_{name}")


def thumb_key(collection_id: str, record_id: str, name: str, size: str) -> str:
    """Give the key of a thumb. Raises 404 for what can be no part of a key."""
    return f"{thumbs_prefix(collection_id, record_id, name)}/{_joined(f'{size}_{name}')}"


def _joined(*parts: str) -> str:
    if not all(is_safe_part(part) for part in parts):
        raise not_found()
    return "/".join(parts)
