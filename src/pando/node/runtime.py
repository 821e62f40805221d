"""What the processes of one node are started with: made by the supervisor, inherited by its children over fork."""

from __future__ import annotations

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pando.errors import StorageError
from pando.node.secret import LINK_LABEL, derive_key
from pando.settings import Settings
from pando.store.layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """Settings, secret, where sockets are, and the pipe that tells a child that its supervisor is gone."""

    settings: Settings
    secret: str
    sockets: Path
    alive_fd: int

    @property
    def layout(self) -> Layout:
        """The node's files."""
        return Layout(self.settings.dir)

    @property
    def link_key(self) -> bytes:
        """The key that nodes prove to each other."""
        return derive_key(self.secret, LINK_LABEL)

    @property
    def store_socket(self) -> Path:
        """Where the store listens for processes of the node."""
        return self.sockets / "store.sock"

    def web_socket(self, index: int) -> Path:
        """Where one web process takes requests from its siblings."""
        return self.sockets / f"web-{index}.sock"

    @property
    def owners_socket(self) -> Path:
        """Where the supervisor takes connections of processes that want the node to run."""
        return self.sockets / "owners.sock"

    @property
    def processes_file(self) -> Path:
        """Process ids by role, written by the supervisor."""
        return self.layout.own / "processes.json"

    @property
    def adopt_socket(self) -> Path:
        """Where the store takes connections that web processes hand over."""
        return self.sockets / "adopt.sock"


def sockets_directory(directory: Path) -> Path:
    """Make the directory for a node's sockets, mode 0700; its path is short, a unix socket's has at most 107 bytes."""
    digest = hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]
    path = Path(tempfile.gettempdir()) / f"pando-{os.getuid()}-{digest}"
    path.mkdir(mode=0o700, exist_ok=True)
    status = path.lstat()
    if status.st_uid != os.getuid() or path.is_symlink():
        raise StorageError(f"{path} belongs to somebody else; remove it or set TMPDIR to a directory of your own")
    path.chmod(0o700)
    return path
