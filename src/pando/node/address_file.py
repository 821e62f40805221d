"""Where a node, or the front of `pando up`, answers: noted in its directory for commands that are told only that.

Not here: which address a command takes in the end (see `pando.cli.access`).
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import Final

from pando.errors import StorageError
from pando.setting_kinds import show_address
from pando.store.files import FileMissing, RealFileSystem, write_durably

ADDRESS_FILE: Final = Path(".pando", "address")
EVERYWHERE: Final = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses to listen at that nobody can connect to on every system, and what to connect to instead."""
_URL: Final = re.compile(r"http://[\w.:\[\]-]{1,300}", re.ASCII)


def local_url(address: tuple[str, int]) -> str:
    """Give the URL at which a program of this machine reaches what listens at an address."""
    host, port = address
    return f"http://{show_address((EVERYWHERE.get(host, host), port))}"


def note_address(directory: Path, address: tuple[str, int]) -> None:
    """Note where it answers. A full disk does not keep a node from starting."""
    with contextlib.suppress(StorageError):
        write_durably(RealFileSystem(), directory / ADDRESS_FILE, f"{local_url(address)}\n".encode())


def forget_address(directory: Path) -> None:
    """Take the note away: nothing answers there any more."""
    with contextlib.suppress(FileMissing, StorageError):
        RealFileSystem().unlink(directory / ADDRESS_FILE)


def noted_address(directory: Path) -> str | None:
    """Give the URL of what runs on a directory; None when nothing does. It is stale after a `kill -9`."""
    try:
        text = (directory / ADDRESS_FILE).read_text().strip()
    except (OSError, UnicodeDecodeError):  # not there, or not ours to read
        return None
    return text if _URL.fullmatch(text) else None
