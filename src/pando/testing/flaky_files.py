"""The real file system with failures, pauses and a memory of what was synced: for tests on real SQLite files.

`pando.testing.faults` has a whole file system in memory, which SQLite cannot use. Not here: what SQLite does on the
disk.
"""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path

from pando.store.files import Buffer, FileStat, RealFile, RealFileSystem, translate

Hook = Callable[[str, Path], None]
PAUSE_S_MAX = 30.0


class FlakyFile:
    """A real file whose calls go through the file system's hook first."""

    def __init__(self, fs: FlakyFileSystem, file: RealFile, path: Path) -> None:
        self._fs = fs
        self._file = file
        self._path = path

    def pread(self, offset: int, size: int) -> bytes:
        """Read."""
        return self._file.pread(offset, size)

    def write(self, data: Buffer) -> None:
        """Write at the end; a failure leaves half of it there."""
        try:
            self._fs.step("write", self._path)
        except Exception:
            self._write_part(data)
            raise
        self._fs.changed("write", self._path, self._file.stat().size, bytes(data))
        self._file.write(data)

    def _write_part(self, data: Buffer) -> None:
        part = bytes(data)[: len(data) // 2]
        self._fs.changed("write", self._path, self._file.stat().size, part)
        self._file.write(part)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write at an offset."""
        self._fs.step("write", self._path)
        self._fs.changed("write", self._path, offset, bytes(data))
        self._file.write_at(offset, data)

    def truncate(self, size: int) -> None:
        """Cut."""
        self._fs.step("truncate", self._path)
        self._fs.changed("cut", self._path, size)
        self._file.truncate(size)
        self._fs.synced[self._path] = min(size, self._fs.synced.get(self._path, 0))

    def fdatasync(self) -> None:
        """Sync, and remember up to where."""
        size = self._file.stat().size
        self._fs.step("fdatasync", self._path)
        self._fs.changed("sync", self._path)
        self._file.fdatasync()
        self._fs.synced[self._path] = size

    def stat(self) -> FileStat:
        """Size and identity."""
        return self._file.stat()

    def close(self) -> None:
        """Close."""
        self._file.close()


class FlakyFileSystem(RealFileSystem):
    """Calls `hook(operation, path)` before it does something; what that raises is the failure.

    `synced` tells how much of each file that was synced through it would survive a loss of power.
    """

    def __init__(self) -> None:
        self.hook: Hook | None = None
        self.synced: dict[Path, int] = {}
        self.trace: list[str] = []

    def step(self, operation: str, path: Path) -> None:
        """Note a call, and fail if the hook says so."""
        self.trace.append(operation)
        if self.hook is not None:
            self.hook(operation, path)

    def changed(self, operation: str, path: Path, offset: int = 0, data: bytes | None = None) -> None:
        """Called before a file is changed or synced: write, cut, sync."""

    def open_append(self, path: Path, *, create: bool = True, mode: int = 0o600) -> FlakyFile:  # type: ignore[override]
        """Open for reading and appending."""
        self.step("open", path)
        return FlakyFile(self, super().open_append(path, create=create, mode=mode), path)

    def replace(self, source: Path, target: Path) -> None:
        """Rename."""
        self.step("replace", target)
        super().replace(source, target)
        if source in self.synced:
            self.synced[target] = self.synced.pop(source)

    def unlink(self, path: Path) -> None:
        """Remove."""
        self.step("unlink", path)
        super().unlink(path)
        self.synced.pop(path, None)


def fail(*operations: str, number: int = errno.EIO, times: int | None = None) -> Hook:
    """Give a hook that lets these operations fail, always or the first `times` times."""
    left = [times]

    def hook(operation: str, path: Path) -> None:
        if operation in operations and left[0] != 0:
            if left[0] is not None:
                left[0] -= 1
            raise translate(OSError(number, "injected fault"), operation, path)

    return hook


class Pause:
    """A hook that stops one operation until `go`; `reached` is set when it waits there."""

    def __init__(self, operation: str, *, then: Hook | None = None) -> None:
        self._operation = operation
        self._then = then
        self._go = threading.Event()
        self.reached = threading.Event()

    def __call__(self, operation: str, path: Path) -> None:
        """Wait if it is the operation."""
        if operation == self._operation:
            self.reached.set()
            if not self._go.wait(PAUSE_S_MAX):
                raise AssertionError(f"nobody let {operation} go on")
            if self._then is not None:
                self._then(operation, path)

    def go(self) -> None:
        """Let it go on, now and from here on."""
        self._go.set()
