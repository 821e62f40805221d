"""The supervisor of a node (`pando serve`): starts the processes, starts them again when they die, ends them in order.

A plain process without threads or event loop, since it forks. Every child holds the read end of a pipe; its end of file
means that the supervisor is gone. The lock of the directory is inherited by the children, so a supervisor that comes
after one that was killed waits until all of its children are gone. Not here: what the processes do.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import os
import resource
import select
import signal
import socket
import sys
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Final

import msgspec

from pando.clock import Clock, SystemClock, sleep_blocking
from pando.errors import InvalidSetting, NotReady, PandoError, StorageError
from pando.log import EventLog
from pando.node.address_file import forget_address, note_address
from pando.node.children import PRELOADED, PRELOADED_BY_STORES, Child, node_children
from pando.node.owners import NodeFacts, Owners
from pando.node.restarts import Restarts
from pando.node.runtime import Runtime, sockets_directory
from pando.node.secret import read_or_create_secret
from pando.setting_kinds import show_address
from pando.settings import Settings
from pando.store.files import FileLock, RealFileSystem, write_durably
from pando.store.layout import Layout

LOCK_WAIT_S: Final = 10.0
"""How long the processes of an earlier supervisor may take to be gone."""
PORT_WAIT_S: Final = 3.0
STOP_S: Final = 15.0
"""How long each group of processes may take to stop before it is killed."""
DESCRIPTORS_WANTED: Final = 65_536
ALIVE_VARIABLE: Final = "PANDO_ALIVE_FD"
"""Environment name of a descriptor whose end of file means: stop, whoever started this node is gone."""
_POLL_S: Final = 0.05
_PROBE_S: Final = 0.2
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
_STOPPING: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP})

MakeChildren = Callable[[Runtime, int], list[Child]]


def run(
    settings: Settings,
    *,
    make_children: MakeChildren = node_children,
    clock: Clock | None = None,
    owner: socket.socket | None = None,
    has_port: bool = True,
) -> int:
    """Run a node until told to stop; gives the exit status. Raises PandoError when it cannot start.

    `owner`: the connection of a process that the node is started for; without owners it then stops. `has_port`: whether
    anybody is to listen at the address.
    """
    used_clock = clock or SystemClock()
    layout = Layout(settings.dir)
    try:
        layout.make_folders()
    except OSError as error:
        raise StorageError(
            f"{settings.dir} cannot be used: {error}; check the permissions, or give another directory with --dir"
        ) from error
    lock = FileLock(layout.own / "lock")
    _acquire(lock, used_clock)
    try:
        secret = read_or_create_secret(settings.dir, settings.secret)
        if has_port:
            require_port(settings.http, used_clock)
        alive_read, alive_write = os.pipe()
        runtime = Runtime(
            settings=settings, secret=secret, sockets=sockets_directory(settings.dir), alive_fd=alive_read
        )
        url = settings.own_url if has_port or settings.public_url else ""
        facts = NodeFacts(pid=os.getpid(), url=url, is_owned=owner is not None)
        owners = Owners(runtime.owners_socket, facts, first=owner)
        try:
            return Supervisor(runtime, alive_write, make_children, used_clock, owners).run()
        finally:
            owners.close()
    finally:
        lock.release()


def _acquire(lock: FileLock, clock: Clock) -> None:
    deadline = clock.monotonic() + LOCK_WAIT_S
    while not lock.try_acquire():
        if clock.monotonic() > deadline:
            raise NotReady(f"process {lock.holder()} runs a node in this directory already; stop it first")
        sleep_blocking(_POLL_S)


def require_port(address: tuple[str, int], clock: Clock) -> None:
    """Raise InvalidSetting unless the port is free: two nodes would share it, each taking some of the requests."""
    deadline = clock.monotonic() + PORT_WAIT_S
    while True:
        try:
            _bind(address)
        except OSError as error:
            if clock.monotonic() > deadline:
                shown = show_address(address)
                raise InvalidSetting(
                    f"the address {shown} cannot be used: {error.strerror}; choose another with --http"
                ) from error
            sleep_blocking(_POLL_S)
        else:
            return


def _bind(address: tuple[str, int]) -> None:
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(address)
        probe.listen(1)


@dataclass(slots=True)
class _Running:
    child: Child
    restarts: Restarts = field(default_factory=Restarts)
    pid: int = 0
    start_at: float = 0.0
    """When it is to be started; counts while `pid` is 0."""


class Supervisor:
    """Keeps the children of one node alive."""

    def __init__(
        self, runtime: Runtime, alive_write: int, make_children: MakeChildren, clock: Clock, owners: Owners
    ) -> None:
        """`alive_write`: write end of the pipe whose read end the children watch."""
        settings = runtime.settings
        self._owners = owners
        self._leaving: list[socket.socket] = []
        self._runtime = runtime
        self._settings = settings
        self._clock = clock
        self._log = EventLog("supervisor", level=settings.log_level, form=settings.log_format)
        self._alive_write = alive_write
        self._children = [_Running(child) for child in make_children(runtime, settings.web or cores())]
        self._stop_reason = ""
        self._began_at = clock.monotonic()
        self._has_web = any(running.child.name.startswith("web") for running in self._children)
        self._is_announced = not self._has_web

    def run(self) -> int:
        """Start everything, watch until told to stop, end everything; gives the exit status."""
        settings = self._settings
        self._log.emit(
            "node.starting",
            dir=str(settings.dir.resolve()),
            http=show_address(settings.http),
            role=settings.role.value,
            primary=settings.primary,
        )
        if self._has_web:
            note_address(settings.dir, settings.http)
        _raise_descriptor_limit()
        gc.disable()  # nothing that an import makes goes away, and looking for it takes a fifth of the start
        for name in PRELOADED if self._has_web else PRELOADED_BY_STORES:
            importlib.import_module(name)
        gc.enable()
        gc.collect()
        gc.freeze()  # objects made so far are never looked at by a child's collector, so their pages stay shared
        with _signals_as_bytes() as wakeup:
            self._watch(wakeup)
            self._end()
        if self._has_web:
            forget_address(settings.dir)
        return 0

    # -- watching --

    def _watch(self, wakeup: socket.socket) -> None:
        parent = _parent_descriptor()
        always: list[int | socket.socket] = [wakeup] if parent is None else [wakeup, parent]
        while not self._stop_reason:
            self._start_due()
            readable, _, _ = select.select([*always, *self._owners.watched], [], [], self._pause_s())
            if parent is not None and parent in readable:
                self._stop_reason = "the process that started this node is gone"
            self._leaving += self._owners.look(readable)  # kept open until this process ends, for who waits for that
            if self._owners.is_abandoned:
                self._stop_reason = "no process uses this node any more"
            if wakeup in readable:
                self._take_signals(wakeup.recv(4096))
            self._reap()
            self._announce()

    def _take_signals(self, numbers: bytes) -> None:
        for number in numbers:
            if number in _STOPPING and not self._stop_reason:
                self._stop_reason = signal.Signals(number).name

    def _pause_s(self) -> float:
        due = [running.start_at for running in self._children if not running.pid]
        if due:
            return max(0.0, min(due) - self._clock.monotonic())
        return 1.0 if self._is_announced else _POLL_S

    def _start_due(self) -> None:
        now = self._clock.monotonic()
        due = [running for running in self._children if not running.pid and running.start_at <= now]
        for running in due:
            running.pid = self._fork(running.child)
            running.restarts.started(now)
            self._log.emit("process.started", child=running.child.name, pid=running.pid, starts=running.restarts.starts)
        if due:
            self._write_processes()

    def _reap(self) -> None:
        now = self._clock.monotonic()
        for running in self._children:
            status = _reap(running.pid)
            if status is None:
                continue
            lived_s = running.restarts.lived_s(now)
            pause_s = running.restarts.died(now)
            if not self._stop_reason:
                self._log.emit(
                    "process.died",
                    child=running.child.name,
                    pid=running.pid,
                    status=describe_status(status),
                    lived_s=lived_s,
                    pause_s=pause_s,
                )
            running.pid = 0
            running.start_at = now + pause_s

    def _write_processes(self) -> None:
        pids = {running.child.name: running.pid for running in self._children if running.pid}
        data = msgspec.json.encode({"supervisor": os.getpid(), **pids})
        with contextlib.suppress(StorageError):  # a full disk must not keep the node from starting its processes
            write_durably(RealFileSystem(), self._runtime.processes_file, data)

    def _announce(self) -> None:
        """Say once that the node serves."""
        if self._is_announced or not _is_healthy(str(self._runtime.web_socket(0))):
            return
        self._is_announced = True
        self._log.emit(
            "node.ready", http=show_address(self._settings.http), seconds=self._clock.monotonic() - self._began_at
        )

    # -- a child --

    def _fork(self, child: Child) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be(child)
        return pid

    def _be(self, child: Child) -> None:
        """Be a child; never returns."""
        status = 1
        try:
            os.close(self._alive_write)
            self._owners.forget()
            os.setpgid(0, 0)  # a terminal's Ctrl-C is for the supervisor, which then stops the others in order
            signal.set_wakeup_fd(-1)
            for number in _SIGNALS:
                signal.signal(number, signal.SIG_DFL)
            child.run(self._runtime)
            status = 0
        except PandoError as error:
            self._child_log(child).emit("process.failed", error=f"{error.code}: {error.message}")
        except BaseException:
            self._child_log(child).emit("process.failed", error=traceback.format_exc())
            raise
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _child_log(self, child: Child) -> EventLog:
        return EventLog(child.name, level=self._settings.log_level, form=self._settings.log_format)

    # -- the end --

    def _end(self) -> None:
        """Stop the web processes, then the store, then the rest."""
        began_at = self._clock.monotonic()
        self._log.emit("node.stopping", reason=self._stop_reason)
        webs = [running for running in self._children if running.child.name.startswith("web")]
        store = [running for running in self._children if running.child.name == "store"]
        rest = [running for running in self._children if running not in webs and running not in store]
        for group in (webs, store, rest):
            self._stop(group)
        os.close(self._alive_write)
        os.close(self._runtime.alive_fd)
        self._log.emit("node.stopped", seconds=self._clock.monotonic() - began_at)

    def _stop(self, group: list[_Running]) -> None:
        for running in group:
            _send(running.pid, signal.SIGTERM)
        deadline = self._clock.monotonic() + STOP_S
        while any(running.pid for running in group):
            self._reap()
            if self._clock.monotonic() > deadline:
                for running in group:
                    if running.pid:
                        self._log.emit(
                            "process.killed", child=running.child.name, pid=running.pid, reason="it did not stop"
                        )
                        _send(running.pid, signal.SIGKILL)
                deadline += STOP_S
            sleep_blocking(0.01)


def _send(pid: int, number: signal.Signals) -> None:
    if pid:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _reap(pid: int) -> int | None:
    """Give the wait status of a child that has ended, None if it lives (or there is none)."""
    if not pid:
        return None
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return 0
    return status if found else None


def describe_status(status: int) -> str:
    """Give a wait status in words."""
    code = os.waitstatus_to_exitcode(status)
    return f"exit {code}" if code >= 0 else signal.Signals(-code).name


def cores() -> int:
    """Give the number of processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _parent_descriptor() -> int | None:
    text = os.environ.get(ALIVE_VARIABLE, "")
    return int(text) if text.isdecimal() else None


def _raise_descriptor_limit() -> None:
    """Allow as many open connections and files as the system lets us."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = DESCRIPTORS_WANTED if hard == resource.RLIM_INFINITY else min(hard, DESCRIPTORS_WANTED)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


@contextlib.contextmanager
def _signals_as_bytes() -> Iterator[socket.socket]:
    """Turn signals into bytes on a socket, which `select` can wait for."""
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    before = {number: signal.signal(number, _ignore) for number in _SIGNALS}
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    try:
        yield reading
    finally:
        signal.set_wakeup_fd(-1)
        for number, handler in before.items():
            signal.signal(number, handler)
        reading.close()
        writing.close()


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """The byte on the wakeup socket is what counts."""


def _is_healthy(path: str) -> bool:
    """Ask a web process whether the node can serve."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(path)
            probe.sendall(b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            return probe.recv(64).startswith(b"HTTP/1.1 200")
        except OSError:
            return False
