"""A cluster on one machine: N nodes and a front as real processes, watched and started again when they die.

Used by `pando up` and by tests. The nodes live in DIR/node1, DIR/node2, ..., the first being the primary; their secret
is DIR/.pando/secret, what they write to standard error DIR/logs. All end when this process does: each holds a pipe to
it. Synchronous: whoever uses it calls `poll` or `wait`. Not here: what is shown to the user (`pando.cli.up`).
"""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import msgspec

from pando.clock import Clock, SystemClock, sleep_blocking
from pando.errors import InvalidSetting, NotReady, StorageError
from pando.node.address_file import forget_address, local_url, note_address
from pando.node.restarts import Restarts
from pando.node.secret import read_or_create_secret
from pando.node.supervisor import ALIVE_VARIABLE, cores, require_port
from pando.node.tokens import make_token
from pando.setting_kinds import BadValue, parse_address, show_address
from pando.settings import environment_names, rows
from pando.store.files import FileLock, RealFileSystem, make_directories

READY_S: Final = 60.0
"""How long a cluster may take until all nodes serve; recovery of large databases may need more."""
STOP_S: Final = 30.0
"""How long the nodes may take to stop before they are killed."""
HEALTH_S: Final = 1.0
DEATHS_MAX: Final = 5
"""Deaths of one process before it ever served, after which the start is given up."""
LOG_SIZE_MAX: Final = 16 << 20
"""A log file that is larger is put aside at the next start."""
_POLL_S: Final = 0.05
_TAIL_BYTES: Final = 2000
_HEALTHY: Final = 200
SERVE_COMMAND: Final = (sys.executable, "-m", "pando", "serve")
_KEPT_VARIABLES: Final = frozenset({"PANDO_LOG_LEVEL", "PANDO_LOG_FORMAT"})


@dataclass(slots=True)
class LocalProcess:
    """One process of the cluster: how it is started, and the present one."""

    name: str
    url: str
    command: list[str]
    environment: dict[str, str]
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: Restarts = field(default_factory=Restarts)
    start_at: float = 0.0
    has_served: bool = False
    last_status: int | None = None

    @property
    def pid(self) -> int:
        """Its process id, 0 while there is none."""
        return self.process.pid if self.process is not None else 0


@dataclass(frozen=True, slots=True)
class LocalNode:
    """A node as tests see it."""

    name: str
    url: str
    directory: Path
    supervisor: LocalProcess

    def processes(self) -> dict[str, int]:
        """Give the process ids by role (supervisor, store, applier, web-0, ...); empty before the first start."""
        try:
            return msgspec.json.decode((self.directory / ".pando" / "processes.json").read_bytes(), type=dict[str, int])
        except (OSError, msgspec.MsgspecError):
            return {}

    def kill(self, role: str = "supervisor", number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to one process of the node."""
        os.kill(self.processes()[role], number)

    def kill_all(self) -> None:
        """Kill every process of the node at once."""
        for pid in self.processes().values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


class LocalCluster:
    """Nodes and front of one directory. `http` is the front's address, the nodes take the ports after it."""

    def __init__(
        self,
        directory: Path,
        *,
        nodes: int = 3,
        http: str = "127.0.0.1:8090",
        web: int = 0,
        flags: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        serve: Sequence[str] = SERVE_COMMAND,
        clock: Clock | None = None,
    ) -> None:
        """`web`: web processes of each node, 0 shares the cores among the nodes; `flags`: more flags for every node.

        `environ`: what the processes inherit, this process's environment when left out; `serve`: what runs a node.

        Raises InvalidSetting for an address that cannot be.
        """
        self._directory = directory.resolve()
        self._clock = clock or SystemClock()
        self._host, self._port = _parse(http, nodes)
        self._web = web or max(1, cores() // nodes)
        self._flags = list(flags)
        self._environ = os.environ if environ is None else environ
        self._serve = list(serve)
        self._lock = FileLock(self._directory / ".pando" / "up.lock")
        self._alive: tuple[int, int] | None = None
        self._front: LocalProcess | None = None
        self._count = nodes
        self.nodes: list[LocalNode] = []

    @property
    def front_url(self) -> str:
        """Address of the front."""
        return self._url(0)

    @property
    def node_urls(self) -> list[str]:
        """Addresses of the nodes, the primary's first."""
        return [self._url(number) for number in range(1, self._count + 1)]

    @property
    def front_pid(self) -> int:
        """Process id of the front."""
        return self._front.pid if self._front is not None else 0

    def restarts(self) -> Mapping[str, int]:
        """Give how often each node, and the front, was started again, by address."""
        return {one.url: max(0, one.restarts.starts - 1) for one in self._processes()}

    @property
    def secret(self) -> str:
        """The cluster's secret: what the environment says (as commands that ask the cluster do), else DIR's."""
        _, row = rows()["secret"]
        given = next((found for name in environment_names("secret", row) if (found := self._environ.get(name))), "")
        return read_or_create_secret(self._directory, given)

    def token(self) -> str:
        """Make an administrator's token, good on every node."""
        return make_token(self.secret, clock=self._clock)

    # -- life --

    def start(self, timeout_s: float = READY_S) -> None:
        """Start everything, and return once all of it serves. Raises PandoError; then nothing is left running."""
        try:
            self.launch()
            self.wait_ready(timeout_s)
            note_address(self._directory, (self._host, self._port))
        except BaseException:
            self.stop()
            raise

    def launch(self) -> None:
        """Start everything, and return at once. Raises InvalidSetting (a port is taken), NotReady, StorageError."""
        make_directories(RealFileSystem(), self._directory / ".pando")
        if not self._lock.try_acquire():
            raise NotReady(f"process {self._lock.holder()} runs a cluster in {self._directory} already; stop it first")
        secret = self.secret
        for number in range(self._count + 1):
            self._require_port(number)
        self._alive = os.pipe()
        self.nodes = [self._make_node(number, secret) for number in range(1, self._count + 1)]
        self._front = self._make_front()
        self.poll()

    def wait_ready(self, timeout_s: float = READY_S) -> None:
        """Return once every node and the front answer /health with 200. Raises NotReady with the reason."""
        deadline = self._clock.monotonic() + timeout_s
        while waited := [one for one in self._processes() if not is_healthy(one.url)]:
            self.poll()
            self._give_up_on_the_hopeless()
            if self._clock.monotonic() > deadline:
                names = ", ".join(f"{one.name} ({one.url})" for one in waited)
                raise NotReady(f"not ready after {timeout_s:g} s: {names}; see {self._directory / 'logs'}")
            sleep_blocking(_POLL_S)
        for one in self._processes():
            one.has_served = True

    def poll(self) -> list[str]:
        """Start again what has died; gives the names of what was started."""
        now = self._clock.monotonic()
        started = []
        for one in self._processes():
            if one.process is not None and one.process.poll() is not None:
                one.last_status = one.process.returncode
                one.process = None
                one.start_at = now + one.restarts.died(now)
            if one.process is None and one.start_at <= now and self._alive is not None:
                self._spawn(one)
                one.restarts.started(now)
                started.append(one.name)
        return started

    def wait(self, seconds: float) -> None:
        """Watch for a while, starting again what dies."""
        deadline = self._clock.monotonic() + seconds
        while (left := deadline - self._clock.monotonic()) > 0:
            self.poll()
            sleep_blocking(min(_POLL_S, left))

    def stop(self) -> None:
        """End all processes: the front first, then the nodes, replicas before the primary."""
        alive, self._alive = self._alive, None
        front = [self._front] if self._front is not None else []
        replicas = [node.supervisor for node in self.nodes[1:]]
        primary = [node.supervisor for node in self.nodes[:1]]
        for group in (front, replicas, primary):
            self._stop_group(group)
        for end in alive or ():
            os.close(end)
        if self._lock.is_held:
            forget_address(self._directory)
        self._lock.release()

    def kill_everything(self) -> None:
        """Kill every process of every node, and the front, at once: as a loss of power would, for tests."""
        pids = [pid for node in self.nodes for pid in node.processes().values()]
        pids += [one.pid for one in self._processes() if one.pid]
        for pid in dict.fromkeys(pids):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    # -- inside --

    def _url(self, number: int) -> str:
        return local_url((self._host, self._port + number))

    def _require_port(self, number: int) -> None:
        try:
            require_port((self._host, self._port + number), self._clock)
        except InvalidSetting as error:
            front = show_address((self._host, self._port))
            raise InvalidSetting(f"{error.message}: the front takes {front}, the nodes the ports after it") from error

    def _processes(self) -> Iterator[LocalProcess]:
        yield from (node.supervisor for node in self.nodes)
        if self._front is not None:
            yield self._front

    def _make_node(self, number: int, secret: str) -> LocalNode:
        name = f"node{number}"
        directory = self._directory / name
        address = show_address((self._host, self._port + number))
        command = [*self._serve, "--dir", str(directory), "--http", address, "--node", name]
        command += ["--web", str(self._web), "--voters", str(self._count), *self._flags]
        if number > 1:
            command += ["--primary", self._url(1)]
        environment = {
            **_clean_environment(self._environ),
            "PANDO_SECRET": secret,
            ALIVE_VARIABLE: str(self._alive_end()),
        }
        process = LocalProcess(name, self._url(number), command, environment, self._log_path(name))
        return LocalNode(name, self._url(number), directory, process)

    def _make_front(self) -> LocalProcess:
        command = [sys.executable, "-m", "pando.node.front", "--listen", show_address((self._host, self._port))]
        for node in self.nodes:
            command += ["--node", node.url]
        command += ["--alive-fd", str(self._alive_end())]
        return LocalProcess(
            "front", self.front_url, command, _clean_environment(self._environ), self._log_path("front")
        )

    def _alive_end(self) -> int:
        assert self._alive is not None
        return self._alive[0]

    def _log_path(self, name: str) -> Path:
        return self._directory / "logs" / f"{name}.log"

    def _spawn(self, one: LocalProcess) -> None:
        with _open_log(one.log_path) as log:
            one.process = subprocess.Popen(
                one.command,
                env=one.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._alive_end(),),
                start_new_session=True,  # Ctrl-C is for us; we end the nodes in order
            )

    def _stop_group(self, group: list[LocalProcess]) -> None:
        for one in group:
            if one.process is not None and one.process.poll() is None:
                one.process.terminate()
        deadline = self._clock.monotonic() + STOP_S
        for one in group:
            if one.process is None:
                continue
            try:
                one.process.wait(max(0.1, deadline - self._clock.monotonic()))
            except subprocess.TimeoutExpired:
                one.process.kill()
                one.process.wait()
            one.process = None

    def _give_up_on_the_hopeless(self) -> None:
        for one in self._processes():
            if one.last_status and not one.has_served and one.restarts.starts > DEATHS_MAX:
                raise NotReady(f"{one.name} does not start (exit status {one.last_status}): {tail(one.log_path)}")


def _parse(http: str, nodes: int) -> tuple[str, int]:
    try:
        host, port = parse_address(http)
    except BadValue:
        raise InvalidSetting(f"{http!r} is no address; write HOST:PORT") from None
    if not 1 <= nodes <= 99 or port + nodes > 65535:
        raise InvalidSetting(f"{nodes} nodes after port {port} cannot be: 1 to 99 nodes, and ports up to 65535")
    return host, port


def _clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Give the environment without settings: those of this machine's other nodes are not for ours."""
    names = {env for name, (_, row) in rows().items() for env in environment_names(name, row)} - _KEPT_VARIABLES
    return {key: value for key, value in environ.items() if key not in names and key != "PANDO_CONFIG"}


def _open_log(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(exist_ok=True)
        is_large = path.exists() and path.stat().st_size > LOG_SIZE_MAX
        if is_large:
            RealFileSystem().replace(path, path.with_suffix(".old.log"))
        return path.open("ab")
    except OSError as error:
        raise StorageError(f"the log {path} cannot be written: {error.strerror}") from error


def tail(path: Path) -> str:
    """Give the end of a log, for an error."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _TAIL_BYTES))
            return file.read().decode(errors="replace").strip()
    except OSError:
        return "its log cannot be read"


def is_healthy(url: str) -> bool:
    """Ask whether the node at this address serves."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=HEALTH_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == _HEALTHY
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
