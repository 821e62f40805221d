"""Keeps a node running for as long as this process uses it.

The first process that uses a directory starts the node's supervisor, those after it find it. Each holds a connection to
it; when the last one ends, by whatever means, so does the node. When the supervisor itself goes, every process sees the
end of its connection, and whoever is first starts another one. A node that `pando serve` runs is used too, but never
started again from here: who runs it does that. One thread watches the connection, without an event loop. Not here: the
supervisor's side (`pando.node.owners`), what is done with the node (`pando.embedded.sites`).
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import sysconfig
import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec

import pando
from pando.clock import Clock, SystemClock, sleep_blocking
from pando.errors import InvalidSetting, NotReady, PandoError, StorageError
from pando.log import EventLog
from pando.node.owners import NodeFacts
from pando.node.runtime import sockets_directory
from pando.node.supervisor import ALIVE_VARIABLE
from pando.store.files import FileLock
from pando.store.layout import Layout

START_S: Final = 60.0
"""How long the supervisor may take to begin, the end of an earlier one included."""
HELLO_S: Final = 10.0
"""How long a supervisor that runs may take to say who it is: no longer than it may be stopping."""
STOP_S: Final = 40.0
"""How long a node may take to stop: each group of its processes has 10 seconds."""
AGAIN_S: Final = 0.5
"""Between two tries to find or start a node that went away."""
_POLL_S: Final = 0.02
_HELLO_BYTES_MAX: Final = 64 * 1024
_KINDS: Final = {kind.code: kind for kind in (InvalidSetting, NotReady, StorageError)}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeOptions:
    """The node that is wanted. `flags` are settings by name; `secret` goes by the environment, where nobody sees it."""

    directory: Path
    flags: Mapping[str, str]
    secret: str
    has_port: bool


@dataclass(slots=True)
class _Keeping:
    """One time of being attached: the thread that watches, and what it watches now."""

    connection: socket.socket | None = None
    thread: threading.Thread | None = None
    is_ending: bool = False


class Attachment:
    """The connection of this process to the node of a directory."""

    def __init__(self, options: NodeOptions, log: EventLog, clock: Clock | None = None) -> None:
        self._options = options
        self._log = log
        self._clock = clock or SystemClock()
        self._lock = threading.Lock()
        self._keeping: _Keeping | None = None
        self._may_start = True
        self.facts = NodeFacts()
        """Who the node is, as far as known."""
        _all.add(self)

    def attach(self) -> NodeFacts:
        """Find the node or start it, once; returns when its supervisor runs. Raises PandoError."""
        with self._lock:
            if self._keeping is None:
                keeping = _Keeping()
                keeping.connection = self._find(keeping)
                keeping.thread = threading.Thread(target=self._keep, args=(keeping,), name="pando node", daemon=True)
                self._keeping = keeping
                keeping.thread.start()
            return self.facts

    def detach(self) -> None:
        """Let the node go; if nobody else uses it, return when it has stopped."""
        with self._lock:
            keeping, self._keeping = self._keeping, None
        if keeping is None or keeping.thread is None:
            return
        keeping.is_ending = True
        if (connection := keeping.connection) is not None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_WR)
        keeping.thread.join(STOP_S)

    def forget(self) -> None:
        """In a child after a fork: the connection is the parent's; this process has none yet."""
        keeping, self._keeping = self._keeping, None
        if keeping is not None and keeping.connection is not None:
            keeping.connection.close()
        self._lock = threading.Lock()

    # -- watching --

    def _keep(self, keeping: _Keeping) -> None:
        """Wait for the connection's end; unless it was ours to end it, find or start the node again."""
        while (connection := keeping.connection) is not None:
            with contextlib.suppress(OSError):
                while connection.recv(4096):
                    continue
            keeping.connection = None
            connection.close()
            if not keeping.is_ending:
                self._log.emit("process.died", child="node", pid=self.facts.pid, status="unknown")
                keeping.connection = self._find_again(keeping)
                if keeping.is_ending and keeping.connection is not None:  # told so meanwhile
                    with contextlib.suppress(OSError):
                        keeping.connection.shutdown(socket.SHUT_WR)

    def _find_again(self, keeping: _Keeping) -> socket.socket | None:
        while not keeping.is_ending:
            try:
                return self._find(keeping)
            except PandoError as error:
                self._log.emit("process.failed", error=f"{error.code}: {error.message}")
                sleep_blocking(AGAIN_S)
        return None

    # -- finding --

    def _find(self, keeping: _Keeping) -> socket.socket:
        deadline = self._clock.monotonic() + START_S
        directory = self._options.directory
        layout = Layout(directory)
        try:
            layout.make_folders()
        except OSError as error:
            raise StorageError(f"{directory} cannot be used: {error}") from error
        starting = own_lock(layout.own / "embedded.lock")
        while True:
            connection = self._connect()
            if connection is not None:
                return connection
            if self._may_start and starting.try_acquire():
                try:
                    return self._connect() or self._start()
                finally:
                    starting.release()
            if keeping.is_ending or self._clock.monotonic() > deadline:
                raise NotReady(f"the node of {directory} cannot be reached: who started it does not answer")
            sleep_blocking(_POLL_S)

    def _connect(self) -> socket.socket | None:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connection.settimeout(HELLO_S)
            connection.connect(str(sockets_directory(self._options.directory) / "owners.sock"))
            facts = _hello(connection)
        except OSError:
            facts = None
        if facts is None:  # nobody there, or it is about to go
            connection.close()
            return None
        self._take(connection, facts)
        return connection

    def _take(self, connection: socket.socket, facts: NodeFacts) -> None:
        connection.settimeout(None)
        self.facts = facts
        self._may_start = facts.is_owned

    def _start(self) -> socket.socket:
        """Start a supervisor, and wait until it has the directory. Raises PandoError."""
        options = self._options
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                has_port = "1" if options.has_port else "0"
                flags = json.dumps({**options.flags, "dir": str(options.directory)})
                process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "pando.node.embedded", str(theirs.fileno()), has_port, flags],
                    env=_environment(options.secret),
                    pass_fds=(theirs.fileno(),),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                )
            process.wait(START_S)  # it leaves a process behind that is nobody's child
            ours.settimeout(START_S)
            facts = _hello(ours)
        except (OSError, subprocess.TimeoutExpired) as error:
            ours.close()
            raise NotReady(f"the node of {options.directory} did not start: {error}") from error
        if facts is None or facts.error:
            ours.close()
            raise _failure(facts)
        self._take(ours, facts)
        return ours


_all: weakref.WeakSet[Attachment] = weakref.WeakSet()
_locks: weakref.WeakSet[FileLock] = weakref.WeakSet()


def own_lock(path: Path) -> FileLock:
    """Make a lock that is this process' alone: a child of a fork would hold it, too, and outlive us with it."""
    lock = FileLock(path)
    _locks.add(lock)
    return lock


def _forget_all() -> None:
    for attachment in list(_all):
        attachment.forget()
    for lock in list(_locks):
        lock.release()  # closes the child's descriptor, the parent's keeps the lock


os.register_at_fork(after_in_child=_forget_all)


def _environment(secret: str) -> dict[str, str]:
    """Give the environment of the supervisor: it must find this Pando, whatever made this process find it."""
    home = str(Path(pando.__file__).parents[1])
    environ = dict(os.environ)
    if home not in sysconfig.get_paths().values():  # else it would come before Python's own modules
        environ["PYTHONPATH"] = os.pathsep.join(filter(None, (home, os.environ.get("PYTHONPATH"))))
    environ.pop(ALIVE_VARIABLE, None)
    if secret:
        environ["PANDO_SECRET"] = secret
    return environ


def _hello(connection: socket.socket) -> NodeFacts | None:
    """Read the line that a supervisor sends; None if it ends without one. Raises OSError."""
    line = b""
    while not line.endswith(b"\n"):
        data = connection.recv(4096)
        if not data or len(line) > _HELLO_BYTES_MAX:
            return None
        line += data
    try:
        return msgspec.json.decode(line, type=NodeFacts)
    except msgspec.MsgspecError:
        return None


def _failure(facts: NodeFacts | None) -> PandoError:
    if facts is None:
        return NotReady("the node ended while it was being started; what it said is on standard error")
    return _KINDS.get(facts.code, PandoError)(facts.error)
