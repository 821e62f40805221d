"""What a disk holds if the process is killed, or the power goes, between any two steps of the store and of SQLite.

A VFS under SQLite and a file system under the log report every write, cut and sync of files below one directory. From
that `Disk` knows each file as programs see it, as of its last sync, and the writes between. Images are taken before a
step is done. Names are taken to be durable at once (the log's own model, `pando.testing.faults`, is harsher there).
Not here: deciding when to take an image, recovering from it.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw

from pando.testing.flaky_files import FlakyFileSystem

if TYPE_CHECKING:
    from pando.clock import Random

SECTOR = 512
Image = dict[Path, bytes]
"""Files by their path below the directory."""


@dataclass(slots=True)
class _File:
    synced: bytes = b""
    unsynced: list[tuple[int, bytes | None]] = field(default_factory=list)
    """(offset, data) of writes; (size, None) of cuts."""

    def now(self) -> bytes:
        return _with(self.synced, self.unsynced)


def _with(content: bytes, changes: list[tuple[int, bytes | None]]) -> bytes:
    result = bytearray(content)
    for offset, data in changes:
        if data is None:
            del result[offset:]
            result.extend(bytes(max(0, offset - len(result))))
        else:
            result.extend(bytes(max(0, offset - len(result))))
            result[offset : offset + len(data)] = data
    return bytes(result)


class Disk:
    """Files below a directory. `on_step` is called before each step that changes or syncs one."""

    def __init__(self, directory: Path, on_step: Callable[[str, Path], None]) -> None:
        self.directory = directory
        self.steps = 0
        self._on_step = on_step
        self._files: dict[Path, _File] = {}

    def concerns(self, path: Path) -> bool:
        """Tell whether a file is one of those watched; the WAL index is rebuilt after a crash, so it is not."""
        return path.is_relative_to(self.directory) and not path.name.endswith("-shm")

    def step(self, operation: str, path: Path, offset: int = 0, data: bytes | None = None) -> None:
        """Note a step: write, cut, sync, remove, move (`data` is the old name)."""
        if not self.concerns(path):
            return
        self.steps += 1
        self._on_step(operation, path)
        if operation == "remove":
            self._files.pop(path, None)
        elif operation == "move":
            moved = self._files.pop(Path((data or b"").decode()), None)
            if moved is not None:
                self._files[path] = moved
        else:
            file = self._files.setdefault(path, _File())
            if operation == "sync":
                file.synced, file.unsynced = file.now(), []
            elif operation != "open":
                file.unsynced.append((offset, data))

    def after_kill(self) -> Image:
        """Give what the next process finds: everything that was written."""
        return {path.relative_to(self.directory): file.now() for path, file in self._files.items()}

    def after_power_loss(self, rng: Random) -> Image:
        """Give what may be found after a loss of power: what was synced, and of the rest nothing, all, or some."""
        how = rng.choice(["none", "all", "prefix", "mixed"])
        return {
            path.relative_to(self.directory): _with(file.synced, _survivors(file.unsynced, rng, how))
            for path, file in self._files.items()
        }


def _survivors(unsynced: list[tuple[int, bytes | None]], rng: Random, how: str) -> list[tuple[int, bytes | None]]:
    if how == "mixed":
        how = rng.choice(["none", "all", "prefix", "some"])
    if how == "none":
        return []
    if how == "all" or not unsynced:
        return unsynced
    if how == "prefix":
        kept = unsynced[: rng.randint(0, len(unsynced))]
        offset, data = kept[-1] if kept else (0, None)
        if data is not None:
            kept = [*kept[:-1], (offset, data[: rng.randrange(0, len(data) + 1, SECTOR)])]
        return kept
    return [change for change in unsynced if change[1] is None or rng.random() < 0.7]


def restore(image: Image, directory: Path) -> None:
    """Write an image to an empty directory."""
    shutil.rmtree(directory, ignore_errors=True)
    for path, content in image.items():
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


class SeamFile(apsw.VFSFile):
    """A file of SQLite that reports."""

    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:  # noqa: ANN401 - str or apsw.URIFilename
        self._disk = disk
        self._name = Path(name if isinstance(name, str) else name.filename()) if name is not None else Path()
        disk.step("open", self._name)
        super().__init__("unix", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        """Write."""
        self._disk.step("write", self._name, offset, bytes(data))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:  # noqa: N802 - SQLite's name
        """Cut."""
        self._disk.step("cut", self._name, newsize)
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        """Sync."""
        self._disk.step("sync", self._name)
        super().xSync(flags)


class SeamVfs(apsw.VFS):
    """SQLite's way to files while it is open, for every new connection of this process."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__("pando-seams", "unix", makedefault=True)

    def xOpen(self, name: Any, flags: list[int]) -> SeamFile:  # noqa: N802, ANN401 - SQLite's name
        """Open."""
        return SeamFile(self._disk, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:  # noqa: N802 - SQLite's name
        """Remove."""
        self._disk.step("remove", Path(filename))
        super().xDelete(filename, syncdir)


class SeamFileSystem(FlakyFileSystem):
    """The log's way to files, with failures on demand too."""

    def __init__(self, disk: Disk) -> None:
        super().__init__()
        self._disk = disk

    def changed(self, operation: str, path: Path, offset: int = 0, data: bytes | None = None) -> None:
        """Report."""
        self._disk.step(operation, path, offset, data)

    def replace(self, source: Path, target: Path) -> None:
        """Rename."""
        self._disk.step("move", target, 0, str(source).encode())
        super().replace(source, target)

    def unlink(self, path: Path) -> None:
        """Remove."""
        self._disk.step("remove", path)
        super().unlink(path)
