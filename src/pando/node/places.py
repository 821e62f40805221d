"""Where a node keeps what is not data: its sockets, its locks, the list of its processes.

Sockets live in a directory of mode 0700 under the system's temporary directory, named by a hash of DIR, since the path
of a unix socket has at most 107 bytes. Not here: the files of databases (`pando.store.layout`).
"""

from __future__ import annotations

import hashlib
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pando.errors import StorageError


@dataclass(frozen=True, slots=True)
class Places:
    """The places of the node in `directory`."""

    directory: Path
    sockets: Path

    @property
    def own(self) -> Path:
        """Everything of ours in DIR besides databases."""
        return self.directory / ".pando"

    @property
    def lock(self) -> Path:
        """Held by the supervisor."""
        return self.own / "lock"

    @property
    def processes(self) -> Path:
        """Process ids by role."""
        return self.own / "processes.json"

    @property
    def store_socket(self) -> Path:
        """Where the store takes links of the node's processes."""
        return self.sockets / "store.sock"

    @property
    def adopt_socket(self) -> Path:
        """Where the store takes connections that web processes hand over."""
        return self.sockets / "adopt.sock"

    def web_socket(self, index: int) -> Path:
        """Where one web process takes requests from its siblings."""
        return self.sockets / f"web-{index}.sock"


def find_places(directory: Path) -> Places:
    """Give the places of a node, and make the directory of its sockets. Raises StorageError."""
    whole = directory.resolve()
    name = f"pando-{os.getuid()}-{hashlib.sha256(os.fsencode(whole)).hexdigest()[:20]}"
    sockets = Path(tempfile.gettempdir()) / name
    try:
        sockets.mkdir(mode=0o700, exist_ok=True)
        found = sockets.lstat()
    except OSError as error:
        raise StorageError(f"the directory for sockets cannot be made: {error}") from error
    is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not stat.S_IMODE(found.st_mode) & 0o077
    if not is_ours:
        raise StorageError(f"{sockets} belongs to somebody else or is open to others; remove it")
    return Places(whole, sockets)
