"""The cluster's secret, and the keys that are derived from it.

All nodes of a cluster share one secret; a node that is given none makes its own in DIR/.pando/secret. Each use has a
key of its own (HKDF-Expand with one block: HMAC-SHA256 of a label), so that a token key tells nothing about the link
key. Not here: what the keys sign.
"""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final

from pando.clock import random_bytes
from pando.errors import InvalidSetting, StorageError
from pando.store.files import FileMissing, FileSystem, RealFileSystem, make_directories, read_bounded, write_durably

SECRET_FILE: Final = Path(".pando", "secret")
SECRET_SIZE_MIN: Final = 8
"""Shorter secrets are refused: they are guessed."""
_SECRET_SIZE_MAX: Final = 4096

LINK_LABEL: Final = "link"
SQL_TOKEN_LABEL: Final = "sql token"
BATON_LABEL: Final = "baton"
STREAM_LABEL: Final = "event stream"
FILE_LABEL: Final = "file of a record"
CLIENT_LABEL: Final = "client of another node"


def read_or_create_secret(directory: Path, given: str = "", *, fs: FileSystem | None = None) -> str:
    """Give the secret: what the settings say, else the file's, else a new one (the file gets mode 0600).

    Raises InvalidSetting for one that is too short, StorageError.
    """
    if given:
        return _checked(given, "the secret in the settings")
    files = fs or RealFileSystem()
    path = directory / SECRET_FILE
    try:
        text = read_bounded(files, path, _SECRET_SIZE_MAX).decode()
    except FileMissing:
        secret = random_bytes(32).hex()
        make_directories(files, path.parent)
        write_durably(files, path, secret.encode() + b"\n", mode=0o600)
        return secret
    except UnicodeDecodeError as error:
        raise StorageError(f"{path} is no text; restore it, or set PANDO_SECRET") from error
    return _checked(text.strip(), str(path))


def _checked(secret: str, source: str) -> str:
    if len(secret) < SECRET_SIZE_MIN:
        raise InvalidSetting(f"{source} has {len(secret)} characters; at least {SECRET_SIZE_MIN} are needed")
    return secret


def derive_key(secret: str, label: str) -> bytes:
    """Give the 32-byte key of one use."""
    return hmac.digest(secret.encode(), b"pando key 1 " + label.encode() + b"\x01", hashlib.sha256)
