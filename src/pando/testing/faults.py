"""A file system in memory that fails on demand and knows what would survive a loss of power.

`for_each_fault` runs a scenario again and again, failing its first, second, third ... call until nothing fails any
more; `for_each_power_loss` cuts the power there instead. The model is harsher than most disks: a file's content is kept
up to its last sync, a name only if its directory was synced, and what a failed sync covered is never written by a later
one.
Not here: faults of the network and of processes.
"""

from __future__ import annotations

import copy
import errno
import random  # noqa: TID251 - seeded generators are this module's trade
from collections.abc import Callable, Iterator
from enum import StrEnum
from itertools import count
from pathlib import Path

from pando.errors import StorageError
from pando.store.files import Buffer, FileStat, translate

SECTOR = 512
"""What a disk writes whole or not at all."""


class Fault(StrEnum):
    """What happens on the chosen call."""

    IO_ERROR = "io-error"
    DISK_FULL = "disk-full"
    TORN_WRITE = "torn-write"
    """Part of a write takes place, then it fails with an I/O error."""
    TORN_FULL = "torn-full"
    """Part of a write takes place, then the disk is full."""


_FULL_FAULTS = frozenset({Fault.DISK_FULL, Fault.TORN_FULL})
_TORN_FAULTS = frozenset({Fault.TORN_WRITE, Fault.TORN_FULL})
_NEEDS_SPACE = frozenset({"write", "fdatasync", "open_append", "mkdir", "replace", "fsync_dir"})


_IDENTITIES = count(1)


class PowerLost(Exception):
    """The machine is off: every call since `lose_power_on_call` ends like this. On purpose no error of ours."""


class _File:
    """Content as programs see it, content on the disk, and what was done since the two were equal."""

    def __init__(self, content: Buffer = b"") -> None:
        self.content = bytearray(content)
        self.synced = bytearray(content)
        self.unsynced: list[tuple[int, bytes | None]] = []
        self.identity = (0, next(_IDENTITIES))

    def write(self, offset: int, data: Buffer) -> None:
        self.unsynced.append((offset, bytes(data)))
        _apply(self.content, offset, bytes(data))

    def truncate(self, size: int) -> None:
        self.unsynced.append((size, None))
        _apply(self.content, size, None)

    def sync(self) -> None:
        for offset, data in self.unsynced:
            _apply(self.synced, offset, data)
        self.unsynced.clear()

    def after_power_loss(self, rng: random.Random | None) -> _File:
        disk = bytearray(self.synced)
        for offset, data in _survivors(self.unsynced, rng):
            _apply(disk, offset, data)
        return _File(disk)


class _Directory:
    """Names as programs see them, names on the disk, and the changes between, each atomic."""

    def __init__(self) -> None:
        self.entries: dict[str, _File | _Directory] = {}
        self.synced: dict[str, _File | _Directory] = {}
        self.unsynced: list[dict[str, _File | _Directory | None]] = []

    def change(self, changes: dict[str, _File | _Directory | None]) -> None:
        self.unsynced.append(changes)
        _apply_names(self.entries, changes)

    def sync(self) -> None:
        self.synced = dict(self.entries)
        self.unsynced.clear()

    def after_power_loss(self, rng: random.Random | None) -> _Directory:
        names = dict(self.synced)
        for changes in _surviving_names(self.unsynced, rng):
            _apply_names(names, changes)
        left = _Directory()
        left.entries = {name: node.after_power_loss(rng) for name, node in names.items()}
        left.synced = dict(left.entries)
        return left


def _apply(content: bytearray, offset: int, data: bytes | None) -> None:
    """Write `data` at `offset`, or with None cut (or extend by zeros) to `offset`."""
    if len(content) < offset:
        content.extend(bytes(offset - len(content)))
    if data is None:
        del content[offset:]
    else:
        content[offset : offset + len(data)] = data


def _apply_names(names: dict[str, _File | _Directory], changes: dict[str, _File | _Directory | None]) -> None:
    for name, node in changes.items():
        if node is None:
            names.pop(name, None)
        else:
            names[name] = node


def _surviving_names(
    unsynced: list[dict[str, _File | _Directory | None]], rng: random.Random | None
) -> list[dict[str, _File | _Directory | None]]:
    """Choose which changes of names reached the disk: journals keep them in order, nothing else promises that."""
    if rng is None:
        return []
    if rng.random() < 0.5:
        return unsynced[: rng.randint(0, len(unsynced))]
    return [changes for changes in unsynced if rng.random() < 0.5]


def _survivors(unsynced: list[tuple[int, bytes | None]], rng: random.Random | None) -> list[tuple[int, bytes | None]]:
    """Choose what of the unsynced writes reached the disk: nothing, all, a torn prefix, or any of their sectors."""
    if rng is None or not unsynced:
        return []
    how = rng.choice(["none", "all", "prefix", "sectors"])
    if how == "none":
        return []
    if how == "all":
        return unsynced
    if how == "sectors":
        return [piece for write in unsynced for piece in _sectors(*write) if rng.random() < 0.5]
    kept = unsynced[: rng.randint(1, len(unsynced))]
    offset, data = kept[-1]
    return kept if data is None else [*kept[:-1], (offset, data[: rng.randint(0, len(data))])]


def _sectors(offset: int, data: bytes | None) -> Iterator[tuple[int, bytes | None]]:
    if data is None:
        yield offset, None
        return
    start = 0
    while start < len(data):
        end = min(len(data), start + SECTOR - (offset + start) % SECTOR)
        yield offset + start, data[start:end]
        start = end


class FaultyFile:
    """An open file of a FaultyFileSystem."""

    def __init__(self, fs: FaultyFileSystem, file: _File, path: Path, writable: bool) -> None:
        self._fs = fs
        self._file: _File | None = file
        self._path = path
        self._writable = writable

    def _open_file(self, for_writing: bool = False) -> _File:
        if self._file is None or (for_writing and not self._writable):
            raise translate(OSError(errno.EBADF, "bad file descriptor"), "using", self._path)
        return self._file

    def pread(self, offset: int, size: int) -> bytes:
        """Read up to `size` bytes."""
        self._fs.step("pread", self._path)
        return bytes(self._open_file().content[offset : offset + size])

    def write(self, data: Buffer) -> None:
        """Write at the end; a torn write leaves a part."""
        self.write_at(len(self._open_file().content), data)

    def write_at(self, offset: int, data: Buffer) -> None:
        """Write at an offset; a torn write leaves a part."""
        file = self._open_file(for_writing=True)
        try:
            self._fs.step("write", self._path)
        except (StorageError, PowerLost):
            if self._fs.tears_writes and len(data) > 1:
                file.write(offset, data[: self._fs.rng.randint(1, len(data) - 1)])
            raise
        file.write(offset, data)

    def truncate(self, size: int) -> None:
        """Cut the file."""
        file = self._open_file(for_writing=True)
        self._fs.step("truncate", self._path)
        file.truncate(size)

    def fdatasync(self) -> None:
        """Make content durable; when it fails, what it covered is lost for good though reads still show it."""
        file = self._open_file()
        try:
            self._fs.step("fdatasync", self._path)
        except StorageError:
            for offset, data in _survivors(file.unsynced, self._fs.rng):
                _apply(file.synced, offset, data)
            file.unsynced.clear()
            raise
        file.sync()

    def stat(self) -> FileStat:
        """Give size and identity."""
        file = self._open_file()
        return FileStat(len(file.content), file.identity)

    def close(self) -> None:
        """Forget the file."""
        self._file = None


class FaultyFileSystem:
    """Files in memory. Without arguments nothing fails.

    fail_on_call: number of the call, from 1, that fails; which calls count depends on the fault: a full disk is read.
    lasting: the calls after it fail too, until `heal`.
    lose_power_on_call: this call and all later ones raise PowerLost.
    """

    def __init__(
        self,
        *,
        fail_on_call: int | None = None,
        fault: Fault = Fault.IO_ERROR,
        lasting: bool = False,
        lose_power_on_call: int | None = None,
        rng: random.Random | None = None,
    ) -> None:
        self.fault = fault
        self.rng = rng if rng is not None else random.Random(0)
        self.calls = 0
        self.fault_fired = False
        self.trace: list[str] = []
        self._fail_on_call = fail_on_call
        self._lasting = lasting
        self._lose_power_on_call = lose_power_on_call
        self._root = _Directory()

    @property
    def tears_writes(self) -> bool:
        """Tell whether a failing write leaves a part behind."""
        return self.fault in _TORN_FAULTS or self._lose_power_on_call is not None

    def fail_next(self, fault: Fault, *, after_calls: int = 0, lasting: bool = False) -> None:
        """Let a later call fail: the next one that counts, or the one after `after_calls` more."""
        self.fault, self._lasting, self.fault_fired = fault, lasting, False
        self.calls = 0
        self._fail_on_call = after_calls + 1

    def lose_power(self, *, after_calls: int = 0) -> None:
        """Let the power fail on the next call, or on the one after `after_calls` more."""
        self.calls, self.fault_fired = 0, False
        self._lose_power_on_call = after_calls + 1

    def heal(self) -> None:
        """Let nothing fail from here on."""
        self._fail_on_call = None

    def step(self, operation: str, path: Path) -> None:
        """Count a call and fail if it is its turn."""
        if self._lose_power_on_call is not None:
            self.calls += 1
            if self.calls >= self._lose_power_on_call:
                self.fault_fired = True
                raise PowerLost(f"{operation} {path}")
        if self._fail_on_call is None or (self.fault in _FULL_FAULTS and operation not in _NEEDS_SPACE):
            return
        self.calls += 1
        if self.calls == self._fail_on_call or (self._lasting and self.calls > self._fail_on_call):
            self.fault_fired = True
            self.trace.append(f"{operation} {path}")
            number = errno.ENOSPC if self.fault in _FULL_FAULTS else errno.EIO
            raise translate(OSError(number, "injected fault"), operation, path)

    def after_crash(self) -> FaultyFileSystem:
        """Give what the next process finds when this one was killed: everything written, synced or not."""
        left = FaultyFileSystem()
        left._root = copy.deepcopy(self._root)
        return left

    def after_power_loss(self, rng: random.Random | None = None) -> FaultyFileSystem:
        """Give what the disk holds: only what was synced, or with `rng` also a chance part of the rest."""
        left = FaultyFileSystem()
        left._root = self._root.after_power_loss(rng)
        return left

    # -- FileSystem ----------

    def open_append(self, path: Path, *, create: bool = True, mode: int = 0o600) -> FaultyFile:
        """Open for reading and for writing at the end."""
        self.step("open_append", path)
        directory = self._directory(path.parent)
        if path.name not in directory.entries and create:
            directory.change({path.name: _File()})
        return FaultyFile(self, self._file(path), path, writable=True)

    def open_read(self, path: Path) -> FaultyFile:
        """Open for reading only."""
        self.step("open_read", path)
        return FaultyFile(self, self._file(path), path, writable=False)

    def replace(self, source: Path, target: Path) -> None:
        """Rename within a directory in one atomic change, or between two."""
        self.step("replace", source)
        origin, goal, node = self._directory(source.parent), self._directory(target.parent), self._node(source)
        if origin is goal:
            origin.change({source.name: None, target.name: node})
        else:
            goal.change({target.name: node})
            origin.change({source.name: None})

    def unlink(self, path: Path) -> None:
        """Remove a file."""
        self.step("unlink", path)
        self._file(path)
        self._directory(path.parent).change({path.name: None})

    def mkdir(self, path: Path, *, mode: int = 0o700) -> None:
        """Make one directory."""
        self.step("mkdir", path)
        parent = self._directory(path.parent)
        if path.name not in parent.entries:
            parent.change({path.name: _Directory()})
        self._directory(path)

    def rmdir(self, path: Path) -> None:
        """Remove an empty directory."""
        self.step("rmdir", path)
        if self._directory(path).entries:
            raise translate(OSError(errno.ENOTEMPTY, "directory not empty"), "removing directory", path)
        self._directory(path.parent).change({path.name: None})

    def fsync_dir(self, path: Path) -> None:
        """Make the names in a directory durable."""
        directory = self._directory(path)
        self.step("fsync_dir", path)
        directory.sync()

    def listdir(self, path: Path) -> list[str]:
        """Give the names in a directory."""
        self.step("listdir", path)
        return sorted(self._directory(path).entries)

    def stat(self, path: Path) -> FileStat:
        """Give size and identity."""
        self.step("stat", path)
        file = self._file(path)
        return FileStat(len(file.content), file.identity)

    def exists(self, path: Path) -> bool:
        """Tell whether the name stands for something."""
        return self._find(path) is not None

    # -- for tests ----------

    def content(self, path: Path) -> bytes:
        """Give a file's bytes as programs see them."""
        return bytes(self._file(path).content)

    def set_content(self, path: Path, data: bytes) -> None:
        """Put bytes there, durably, as if the disk had changed them."""
        file = _File(data)
        directory = self._directory(path.parent)
        directory.entries[path.name] = file
        directory.synced[path.name] = file

    def _find(self, path: Path) -> _File | _Directory | None:
        node: _File | _Directory | None = self._root
        for part in path.parts:
            if part in {"/", "."}:
                continue
            node = node.entries.get(part) if isinstance(node, _Directory) else None
        return node

    def _node(self, path: Path) -> _File | _Directory:
        node = self._find(path)
        if node is None:
            raise translate(OSError(errno.ENOENT, "no such file or directory"), "finding", path)
        return node

    def _file(self, path: Path) -> _File:
        node = self._node(path)
        if isinstance(node, _Directory):
            raise translate(OSError(errno.EISDIR, "is a directory"), "using", path)
        return node

    def _directory(self, path: Path) -> _Directory:
        node = self._node(path)
        if isinstance(node, _File):
            raise translate(OSError(errno.ENOTDIR, "not a directory"), "using", path)
        return node


def for_each_fault(
    scenario: Callable[[FaultyFileSystem], None],
    check: Callable[[FaultyFileSystem], None],
    *,
    faults: tuple[Fault, ...] = tuple(Fault),
    seed: int = 0,
) -> int:
    """Run `scenario` with its N-th call failing, N = 1, 2, 3 ... until none fails, for each kind of fault.

    The scenario may end with StorageError; whatever it ends with, `check` looks at the file system, healed. Gives the
    number of runs with a fault. Any other error is passed on with a note that names the call.
    """
    runs = 0
    for fault in faults:
        for number in count(1):
            fs = FaultyFileSystem(fail_on_call=number, fault=fault, rng=random.Random(seed + number))
            try:
                _run(scenario, fs)
                fs.heal()
                check(fs)
            except Exception as error:
                error.add_note(f"with {fault} on call {number}: {fs.trace}")
                raise
            if not fs.fault_fired:
                break
            runs += 1
    return runs


def for_each_power_loss(
    scenario: Callable[[FaultyFileSystem], None],
    check: Callable[[FaultyFileSystem], None],
    *,
    seeds: int = 4,
) -> int:
    """Cut the power on the N-th call, N growing until the scenario ends by itself; `check` gets what the disk holds.

    Each point is checked with nothing unsynced kept, and `seeds` times with a chance part of it. Gives the number of
    checks.
    """
    runs = 0
    for number in count(1):
        fs = FaultyFileSystem(lose_power_on_call=number, rng=random.Random(number))
        _run(scenario, fs)
        for rng in [None, *(random.Random(number * 1000 + seed) for seed in range(seeds))]:
            try:
                check(fs.after_power_loss(rng))
            except Exception as error:
                error.add_note(f"power lost on call {number}")
                raise
            runs += 1
        if not fs.fault_fired:
            return runs
    raise AssertionError("unreachable")


def _run(scenario: Callable[[FaultyFileSystem], None], fs: FaultyFileSystem) -> None:
    try:
        scenario(fs)
    except (StorageError, PowerLost):
        return
