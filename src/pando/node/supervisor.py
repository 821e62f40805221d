"""The supervisor of a node: forks store, applier and web processes, restarts a dead one, ends all together.

A plain synchronous process without threads or event loop, so that it may fork at any time. Children share what it has
imported. Each child holds the read end of a pipe of which only the supervisor has the write end: its end of file means
that the supervisor is gone. The other way round, `PANDO_ALIVE_FD` names such a pipe of whoever started the supervisor. Not here: what the children do.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from pando.clock import Clock, SystemClock, sleep_blocking
from pando.errors import InvalidSetting, NotReady, PandoError
from pando.log import EventLog
from pando.node.runtime import Runtime, sockets_directory
from pando.node.secret import read_or_create_secret
from pando.settings import Settings
from pando.store.files import FileLock, RealFileSystem
from pando.store.layout import Layout

ALIVE_VARIABLE = "PANDO_ALIVE_FD"
_PORT_WAIT_S = 4.0
_LOCK_WAIT_S = 5.0
_POLL_S = 0.05
_STOP_WEB_S = 5.0
_STOP_STORE_S = 20.0
_RESTART_S_MIN = 0.1
_RESTART_S_MAX = 2.0
_STABLE_S = 5.0

Child = Callable[[Runtime], None]


@dataclass(slots=True)
class Slot:
    """One child process that should run: its present process id (0: none), and when it may be started again."""

    name: str
    main: Child
    pid: int = 0
    started_at: float = 0.0
    start_at: float = 0.0
    pause_s: float = 0.0


@dataclass(slots=True)
class Supervisor:
    """Keeps the children of one node running until it is told to stop."""

    runtime: Runtime
    slots: list[Slot]
    clock: Clock
    log: EventLog
    parent_fd: int = -1
    is_stopping: bool = False
    _wake: tuple[int, int] = field(default_factory=os.pipe)

    def run(self) -> None:
        """Start all children and watch them; returns when all have ended."""
        read_end, write_end = self._wake
        os.set_blocking(write_end, False)
        signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGCHLD, _on_child)
        watched = [read_end] + ([self.parent_fd] if self.parent_fd >= 0 else [])
        while not self.is_stopping:
            self._start_due()
            readable, _, _ = select.select(watched, [], [], self._pause())
            if read_end in readable:
                os.read(read_end, 4096)
            if self.parent_fd in readable:
                self.kill_all()
                return
            self._reap()
        self.stop()

    def _on_stop(self, _number: int, _frame: object) -> None:
        self.is_stopping = True

    def _pause(self) -> float:
        now = self.clock.monotonic()
        return min([1.0, *(max(0.0, slot.start_at - now) for slot in self.slots if not slot.pid)])

    def _start_due(self) -> None:
        now = self.clock.monotonic()
        started = False
        for slot in self.slots:
            if not slot.pid and slot.start_at <= now:
                slot.pid = self._fork(slot)
                slot.started_at = now
                started = True
        if started:
            self._write_processes()

    def _fork(self, slot: Slot) -> int:
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid:
            return pid
        status = 1
        try:
            self._become_child()
            slot.main(self.runtime)
            status = 0
        except KeyboardInterrupt:
            status = 0
        except PandoError as error:
            self.log.emit("process.failed", error=f"{slot.name}: {error.code}: {error.message}")
        except BaseException as error:  # noqa: BLE001 - the last frame of a process: say why it ends
            import traceback

            traceback.print_exc()
            self.log.emit("process.failed", error=f"{slot.name}: {error!r}")
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

    def _become_child(self) -> None:
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
            signal.signal(number, signal.SIG_DFL)
        # A terminal's Ctrl-C reaches every process of the group; the supervisor decides the order of the end.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        os.close(_ALIVE_WRITE_ENDS.pop())
        for end in self._wake:
            os.close(end)

    def _reap(self) -> None:
        now = self.clock.monotonic()
        changed = False
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not pid:
                break
            for slot in self.slots:
                if slot.pid == pid:
                    self._note_death(slot, status, now)
                    changed = True
        if changed:
            self._start_due()
            self._write_processes()

    def _note_death(self, slot: Slot, status: int, now: float) -> None:
        """A child that lived a while starts again at once; one that dies again and again waits longer each time."""
        if now - slot.started_at >= _STABLE_S:
            slot.pause_s = 0.0
        if not self.is_stopping:
            code = os.waitstatus_to_exitcode(status)
            lived_s = round(now - slot.started_at, 3)
            self.log.emit(
                "process.died", child=slot.name, pid=slot.pid, status=code, lived_s=lived_s, pause_s=slot.pause_s
            )
        slot.pid = 0
        slot.start_at = now + slot.pause_s
        slot.pause_s = min(_RESTART_S_MAX, max(_RESTART_S_MIN, slot.pause_s * 2))

    def _write_processes(self) -> None:
        found: dict[str, object] = {"supervisor": os.getpid(), "web": []}
        for slot in self.slots:
            if slot.name.startswith("web"):
                webs = found["web"]
                assert isinstance(webs, list)
                webs.append(slot.pid)
            else:
                found[slot.name] = slot.pid
        path = self.runtime.layout.own / "processes.json"
        temporary = path.with_suffix(".new")
        temporary.write_bytes(msgspec.json.encode(found))
        RealFileSystem().replace(temporary, path)

    # -- the end --

    def stop(self) -> None:
        """End the web processes first, then the applier's and the store's; kill what does not end in time."""
        webs = [slot for slot in self.slots if slot.name.startswith("web")]
        others = [slot for slot in self.slots if not slot.name.startswith("web")]
        self._end(webs, _STOP_WEB_S)
        self._end([slot for slot in others if slot.name == "store"], _STOP_STORE_S)
        self._end([slot for slot in others if slot.name != "store"], _STOP_WEB_S)

    def _end(self, slots: list[Slot], limit_s: float) -> None:
        for slot in slots:
            _kill(slot.pid, signal.SIGTERM)
        deadline = self.clock.monotonic() + limit_s
        while any(slot.pid for slot in slots) and self.clock.monotonic() < deadline:
            self._reap_only()
            sleep_blocking(0.01)
        for slot in slots:
            _kill(slot.pid, signal.SIGKILL)
        self._reap_only()

    def _reap_only(self) -> None:
        for slot in self.slots:
            if slot.pid:
                with suppress(ChildProcessError):
                    pid, _ = os.waitpid(slot.pid, os.WNOHANG)
                    if pid:
                        slot.pid = 0

    def kill_all(self) -> None:
        """End everything at once: whoever started this node is gone. The next start recovers."""
        for slot in self.slots:
            _kill(slot.pid, signal.SIGKILL)


_ALIVE_WRITE_ENDS: list[int] = []
"""The write end of the liveness pipe: open in the supervisor as long as it lives, closed in each child."""


def _on_child(_number: int, _frame: object) -> None:
    """Only wakes the select through the wakeup descriptor."""


def _kill(pid: int, number: int) -> None:
    if pid:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def run(settings: Settings) -> int:
    """Be the supervisor of a node; gives 0 after an orderly stop. Raises PandoError when the node cannot start."""
    clock = SystemClock()
    layout = Layout(settings.dir)
    layout.make_folders()
    lock = FileLock(layout.own / "lock")
    _wait_for(lambda: lock.try_acquire(), _LOCK_WAIT_S, clock, lambda: _locked(settings.dir, lock))
    try:
        _require_port(settings, clock)
        secret = read_or_create_secret(settings.dir, settings.secret)
        alive_read, alive_write = os.pipe()
        _ALIVE_WRITE_ENDS.append(alive_write)
        runtime = Runtime(
            settings=settings, secret=secret, sockets=sockets_directory(settings.dir), alive_fd=alive_read
        )
        log = EventLog("supervisor", level=settings.log_level, form=settings.log_format)
        parent_fd = int(os.environ.get(ALIVE_VARIABLE, "-1"))
        Supervisor(runtime, make_slots(settings), clock, log, parent_fd).run()
        return 0
    finally:
        lock.release()


def make_slots(settings: Settings) -> list[Slot]:
    """Name the children of a node. Their modules are imported before forking, so that children share the memory."""
    from pando.node import web
    from pando.node.processes import applier_main, store_main

    count = settings.web or os.cpu_count() or 1
    webs = [Slot(f"web{index}", web.entry(index, count)) for index in range(count)]
    return [Slot("store", store_main), Slot("applier", applier_main), *webs]


def _locked(directory: Path, lock: FileLock) -> PandoError:
    return NotReady(f"process {lock.holder()} runs on {directory.resolve()} already; stop it, or choose another --dir")


def _require_port(settings: Settings, clock: Clock) -> None:
    """The port must be free: children share it among themselves (SO_REUSEPORT), which would hide a stranger."""
    host, port = settings.http

    def is_free() -> bool:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
                probe.listen(1)
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise InvalidSetting(f"cannot listen at {host}:{port}: {error.strerror}") from error
                return False
            return True

    _wait_for(
        is_free,
        _PORT_WAIT_S,
        clock,
        lambda: InvalidSetting(f"the port {port} of {host} is in use by another program; choose another with --http"),
    )


def _wait_for(done: Callable[[], bool], limit_s: float, clock: Clock, error: Callable[[], PandoError]) -> None:
    deadline = clock.monotonic() + limit_s
    while not done():
        if clock.monotonic() >= deadline:
            raise error()
        sleep_blocking(_POLL_S)
