"""The crash harness: a primary and two replicas as real processes, clients that write and read, and kill -9 in a loop.

After each kill everything must be back within seconds, nothing acknowledged may be missing, transactions are whole or
absent, all nodes hold the same bytes. What is killed and when follows from a seed; how processes interleave does not.
`python -m pando.testing.crash --seed 7 --cycles 50` runs it. Not here: faults of the disk and of power (`faults`).
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Any, Final

from pando.clock import Random, SystemClock, sleep_blocking, system_random
from pando.errors import PandoError
from pando.node.local_cluster import LocalCluster, LocalNode, is_healthy, tail
from pando.node.supervisor import cores
from pando.node.tokens import make_token
from pando.testing.crash_checks import Checks, NodeView
from pando.testing.crash_ledger import Fate, Ledger
from pando.testing.crash_load import SCHEMA, Disturbance, Load, World, Writer, make_readers
from pando.testing.sql_client import CLOSE, NoAnswer, NotSent, SqlClient, execute

NODES: Final = 3
WRITERS: Final = 4
HEAL_S: Final = 5.0
"""How soon after a kill every process must be back and every node serve, on a machine that has time for us."""
HEAL_WHOLE_S: Final = 10.0
"""The same after the death of whole nodes, or of two things one after the other."""
NEVER_S: Final = 40.0
"""What is not healed by then never will be."""
START_S: Final = 4.0
"""How long such a machine takes to start the cluster; a slower start makes the goal as much longer."""
LOAD_PER_CORE: Final = 3.0
"""Processes that want to run, for each core, while the harness alone uses a machine; more make the goal longer."""
CAUGHT_UP_S: Final = 10.0
WARM_UP_S: Final = 20.0
CYCLES_KEPT: Final = 15
ROWS_BEFORE_KILL: Final = 25
"""Acknowledged groups of a cycle before anything is killed."""
_PAUSE_S: Final = 0.02


class Role(StrEnum):
    """What is killed."""

    STORE = "store"
    APPLIER = "applier"
    WEB = "web"
    SUPERVISOR = "supervisor"
    NODE = "node"
    ALL = "all"
    WIPE = "wipe"
    """A whole replica, whose directory is then deleted."""


_ONE_PROCESS: Final = frozenset({Role.STORE, Role.APPLIER, Role.WEB, Role.SUPERVISOR})
_WEIGHTS: Final[Mapping[Role, int]] = {
    Role.STORE: 5,
    Role.APPLIER: 4,
    Role.WEB: 3,
    Role.SUPERVISOR: 2,
    Role.NODE: 4,
    Role.ALL: 2,
    Role.WIPE: 1,
}
SECOND_KILL_SHARE: Final = 0.3
"""Cycles that kill again while the first wound heals."""
DELAY_S_MAX: Final = 0.4


@dataclass(frozen=True, slots=True)
class Kill:
    """One kill -9: after a delay, of one role of one node (of all nodes for ALL). `web` chooses among web processes."""

    delay_s: float
    role: Role
    node: int
    web: int

    def __str__(self) -> str:
        where = "" if self.role is Role.ALL else f" of node {self.node + 1}"
        number = f" {self.web}" if self.role is Role.WEB else ""
        return f"{self.role}{number}{where} after {self.delay_s:.3f} s"


def plan_cycles(rng: Random, *, webs: int) -> Iterator[tuple[Kill, ...]]:
    """Choose what each cycle kills: every role once to begin with, then as it comes. Pure."""

    def kill(role: Role) -> Kill:
        node = rng.randrange(1 if role is Role.WIPE else 0, NODES)
        return Kill(rng.uniform(0.0, DELAY_S_MAX), role, node, rng.randrange(webs))

    def any_role() -> Role:
        return rng.choices(tuple(_WEIGHTS), tuple(_WEIGHTS.values()))[0]

    tour = rng.sample(tuple(Role), len(Role))
    while True:
        first = tour.pop() if tour else any_role()
        second = (kill(any_role()),) if rng.random() < SECOND_KILL_SHARE else ()
        yield (kill(first), *second)


class CrashFailure(Exception):
    """Something that must hold after a crash did not; says how to run the same again."""


class CrashHarness:
    """One cluster, its clients and its checks. The methods are called from one thread."""

    def __init__(
        self,
        directory: Path,
        *,
        http: str,
        seed: int,
        web: int = 2,
        report: Callable[[str], None] = lambda _line: None,
    ) -> None:
        """`http`: address of the front, the nodes take the ports after it; `web`: web processes of each node."""
        self.seed = seed
        self.cluster = LocalCluster(directory, nodes=NODES, http=http, web=web)
        self.ledger = Ledger()
        self.disturbance = Disturbance()
        self._clock = SystemClock()
        self._web = web
        self._slowness = 1.0
        self.slow: list[str] = []
        """Cycles that healed later than they should."""
        self._report = report
        self._directory = directory
        self._world = World(
            urls=self.cluster.node_urls,
            token=self.cluster.token(),
            reader_token=make_token(self.cluster.secret, read_only=True),
            ledger=self.ledger,
            disturbance=self.disturbance,
            stopping=threading.Event(),
        )
        self._load = Load(
            self._world,
            [Writer(self._world, self._random(f"writer {number}")) for number in range(WRITERS)],
            make_readers(self._world, self._random),
        )
        self._views: list[NodeView] = []
        self._doing = "start"
        self._goal_s = HEAL_S
        self.checks = Checks((), "", self.ledger, self._clock)

    def _random(self, name: str) -> Random:
        return Random(f"{self.seed} {name}")

    # -- life --

    def start(self) -> None:
        """Start the cluster and make the tables. Raises PandoError, CrashFailure."""
        began_at = self._clock.monotonic()
        self.cluster.start()
        self._slowness = max(1.0, (self._clock.monotonic() - began_at) / START_S)
        self._views = [
            NodeView(node.name, node.url, node.directory, self._directory / "logs" / f"{node.name}.log")
            for node in self.cluster.nodes
        ]
        self.checks = Checks(self._views, self._world.token, self.ledger, self._clock)
        with SqlClient(self._world.token) as client:
            answer = client.pipeline(self._world.urls[0], [*map(execute, SCHEMA), CLOSE])
        self._require([str(answer.error)] if answer.error else [])
        self._require(self.checks.wait_caught_up(CAUGHT_UP_S))

    def stop(self) -> None:
        """Stop clients and cluster."""
        self._load.stop()
        self.checks.close()
        self.cluster.stop()

    def __enter__(self) -> CrashHarness:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # -- cycles --

    def run(self, cycles: int) -> None:
        """Run cycles; raises CrashFailure at the first that finds something wrong."""
        for kills in islice(plan_cycles(self._random("plan"), webs=self._web), cycles):
            self.cycle(kills)

    def cycle(self, kills: Sequence[Kill]) -> None:
        """Write, kill, heal, compare. Raises CrashFailure."""
        self.begin(", then ".join(map(str, kills)))
        self._goal_s = HEAL_S if len(kills) == 1 and kills[0].role in _ONE_PROCESS else HEAL_WHOLE_S
        gone: set[int] = set()
        for kill in kills:
            self._idle(kill.delay_s)
            gone |= self.kill(kill)
        took = self.wait_healed(gone)
        self.finish()
        known = {fate: self.ledger.count(fate) for fate in Fate}
        shown = ", ".join(f"{count} {fate}" for fate, count in known.items())
        self._report(f"cycle {self.ledger.cycle}: {self._doing}: healed in {took:.2f} s; groups: {shown}")

    def begin(self, doing: str) -> None:
        """Start the clients and wait until they get on. `doing` names the cycle in reports and failures."""
        self.ledger.cycle += 1
        self._doing = doing
        self._load.start()
        self.wait_written(ROWS_BEFORE_KILL)

    def wait_written(self, groups: int) -> None:
        """Return once so many more groups were acknowledged. Raises CrashFailure."""
        wanted = self.ledger.count() + groups
        self._wait(lambda: self.ledger.count() >= wanted, WARM_UP_S, "the clients do not get on")

    def finish(self) -> None:
        """Stop the clients, then compare the nodes with what the clients know and with each other."""
        self.wait_written(1)
        self._require([] if self._load.stop() else ["a client hangs"])
        self._require(self.checks.check_primary() + self.ledger.take_complaints())
        self._require(self.checks.wait_caught_up(CAUGHT_UP_S))
        self._require(self.checks.check_all())
        self.checks.drop_old_cycles(CYCLES_KEPT)

    # -- killing --

    def kill(self, kill: Kill) -> set[int]:
        """Kill what it says now; gives the process ids."""
        nodes = self.cluster.nodes if kill.role is Role.ALL else [self.cluster.nodes[kill.node]]
        if kill.role is not Role.APPLIER:  # reads of a node go on without its applier
            self.disturbance.begin([node.url for node in nodes])
        pids = {pid for node in nodes for pid in _victims(node, kill)}
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if kill.role is Role.WIPE:
            self.wait_gone(pids)
            shutil.rmtree(nodes[0].directory)
        return pids

    def stop_node(self, number: int) -> set[int]:
        """Stop a node in order and wait for its end; gives its process ids. `wait_healed` starts it again."""
        node = self.cluster.nodes[number]
        self.disturbance.begin([node.url])
        pids = set(processes_of(node).values())
        if node.supervisor.process is not None:
            node.supervisor.process.terminate()
        return self.wait_gone(pids)

    def wait_gone(self, pids: set[int]) -> set[int]:
        """Wait until these processes are no more, starting nothing; gives them back."""
        deadline = self._clock.monotonic() + NEVER_S
        while any(map(_lives, pids)):
            for node in self.cluster.nodes:
                if node.supervisor.process is not None:
                    node.supervisor.process.poll()
            if self._clock.monotonic() > deadline:
                self._require([f"processes {sorted(pids)} do not end"])
            sleep_blocking(_PAUSE_S)
        return pids

    def wait_healed(self, gone: set[int]) -> float:
        """Wait until every process lives, none being of the `gone`, and every node serves; gives the seconds."""
        began_at = self._clock.monotonic()
        with SqlClient(self._world.token) as client:
            self._wait(lambda: self._is_whole(client, gone), NEVER_S, "not healed")
        self.disturbance.end()
        took, goal = self._clock.monotonic() - began_at, self._heal_goal_s()
        if took > goal:
            self.slow.append(f"cycle {self.ledger.cycle} ({self._doing}) healed in {took:.1f} s, not {goal:.1f} s")
        return took

    def _heal_goal_s(self) -> float:
        """Give how soon the cluster should have healed, on this machine, with what else it is doing."""
        crowd = os.getloadavg()[0] / (cores() * LOAD_PER_CORE)
        return self._goal_s * max(1.0, self._slowness, crowd)

    def _is_whole(self, client: SqlClient, gone: set[int]) -> bool:
        for node in self.cluster.nodes:
            pids = processes_of(node)
            if len(pids) != 3 + self._web or gone & set(pids.values()) or not is_healthy(node.url):
                return False
        return all(self._writes(client, url) for url in self._world.urls)

    def _writes(self, client: SqlClient, url: str) -> bool:
        try:
            return client.run(url, "UPDATE total SET id = id").error is None
        except (NotSent, NoAnswer):
            return False

    # -- asking --

    def ask_locally(self, number: int, sql: str) -> list[list[Any]]:
        """Give the rows that a node reads in its own file. Raises ValueError, NotSent, NoAnswer."""
        with SqlClient(self._world.token) as client:
            return client.run(self._world.urls[number], sql, pando_freshness="eventual").rows

    def epoch(self) -> int:
        """Give the epoch of the primary."""
        return int(self.checks.status(self._views[0])["epoch"])

    def write(self, url: str, sql: str, arg: str, durability: str) -> bool:
        """Run one statement with one argument; False when it is not known to have taken effect."""
        with SqlClient(self._world.token) as client:
            try:
                return client.run(url, sql, arg, pando_durability=durability).error is None
            except (NotSent, NoAnswer):
                return False

    # -- waiting --

    def _idle(self, seconds: float) -> None:
        deadline = self._clock.monotonic() + seconds
        while (left := deadline - self._clock.monotonic()) > 0:
            sleep_blocking(min(left, _PAUSE_S))
            self.cluster.poll()

    def _wait(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = self._clock.monotonic() + seconds
        while not condition():
            self.cluster.poll()
            if self._clock.monotonic() > deadline:
                self._require([f"{what} after {seconds:g} s", *self.ledger.take_complaints(), *self._states()])
            sleep_blocking(_PAUSE_S)

    def _states(self) -> list[str]:
        return [
            f"{view.name}: {processes_of(node)} {self.checks.status(view)}"
            for view, node in zip(self._views, self.cluster.nodes, strict=True)
        ]

    def _require(self, wrong: Sequence[str]) -> None:
        """Raise CrashFailure when there are violations."""
        if not wrong:
            return
        again = f"python -m pando.testing.crash --seed {self.seed} --cycles {max(1, self.ledger.cycle)}"
        logs = [f"-- {view.log}\n{tail(view.log)}" for view in self._views]
        head = f"cycle {self.ledger.cycle} ({self._doing}); again: {again}"
        raise CrashFailure("\n".join([head, *wrong, *logs]))


def _victims(node: LocalNode, kill: Kill) -> list[int]:
    pids = processes_of(node)
    if kill.role in (Role.NODE, Role.ALL, Role.WIPE):
        return list(pids.values())
    name = f"web-{kill.web}" if kill.role is Role.WEB else kill.role.value
    return [pids[name]] if name in pids else []


def processes_of(node: LocalNode) -> dict[str, int]:
    """Give the living processes of a node by role; what its file names but is dead, or not ours, is left out."""
    return {role: pid for role, pid in node.processes().items() if _is_of(pid, node)}


def _is_of(pid: int, node: LocalNode) -> bool:
    """A process id may be somebody else's by now: children share the command line of their supervisor."""
    command = _command(pid)
    return _lives(pid) if command is None else os.fsencode(node.directory) in command.split(b"\0")


def _command(pid: int) -> bytes | None:
    """Give the command line of a process, empty for one that ended; None where the system does not tell."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b"" if Path("/proc/self").exists() else None


def _lives(pid: int) -> bool:
    command = _command(pid)
    if command is not None:
        return bool(command)
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the loop from the command line; gives the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pando.testing.crash", description="kill -9 in a loop, under load")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--cycles", type=int, default=50)
    parser.add_argument("--web", type=int, default=2)
    parser.add_argument("--http", default="127.0.0.1:18090")
    parser.add_argument("--dir", type=Path, default=None, help="kept afterwards; a temporary one when not given")
    given = parser.parse_args(arguments)
    seed = system_random().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}", flush=True)
    with contextlib.ExitStack() as stack:
        directory = given.dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pando-crash-")))
        harness = CrashHarness(directory, http=given.http, seed=seed, web=given.web, report=_print_line)
        try:
            with harness:
                harness.run(given.cycles)
                print(f"slow: {harness.slow}")
        except (CrashFailure, PandoError) as error:
            print(error, file=sys.stderr)
            return 1
    return 0


def _print_line(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
