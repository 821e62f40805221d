"""A seeded simulation of replication: many nodes run the real machines on simulated time, network and disk.

    python -m pando.testing.simulator --seed 7            one run; says what went wrong, and how to see it again
    python -m pando.testing.simulator --seed 0 --runs 500

A seed chooses the cluster (star or chain, options, sizes of windows), the load and the faults: cut, half-open, slow and
(on some seeds) unordered connections, crashes that lose what was not fsynced, lost directories, foreign writes,
retention, new histories, databases made and dropped, replicas promoted while the old primary goes on. After the faults
the network is healed and everything has to become equal. The same seed gives the same trace. Not here: the checks' own
state (`sim_history`), nodes (`sim_node`, `sim_sending`), time and links (`sim_network`).
"""

from __future__ import annotations

import argparse
import hashlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from pando.clock import Random
from pando.errors import InvariantError, invariant
from pando.replication.windows import Windows
from pando.testing.sim_history import Truth
from pando.testing.sim_log import ToyLog
from pando.testing.sim_network import LinkFaults, SimLink, Timeline
from pando.testing.sim_node import SimNode
from pando.testing.sim_sending import SimSending
from pando.types import NO_POSITION, TXID, Epoch, Position

FAULTS_S = 10.0
HEAL_S = 90.0
TRACE_LINES = 400


@dataclass(slots=True, kw_only=True)
class Rates:
    """How often things happen: per second, or (`io_error`, `slow_io`) per operation of the disk."""

    commit: float
    fault: float
    io_error: float
    slow_io: float


class World:
    """The cluster, its network, and what the checks know."""

    def __init__(self, seed: int, *, faults_s: float = FAULTS_S) -> None:
        self.seed = seed
        self._faults_s = faults_s
        self.random = Random(seed)
        self.time = Timeline()
        self.truth = Truth()
        self.nodes: dict[str, SimNode] = {}
        self.primary = "p"
        self.events = 0
        self.recreated: set[str] = set()
        """Names that more than one database had."""
        self.had_promotion = False
        self.had_wipe = False
        self.confirmations = 0
        self.trace: deque[str] = deque(maxlen=TRACE_LINES)
        self._digest = hashlib.sha256()
        self._links = 0
        random = self.random
        self.faults = LinkFaults(
            ordered=random.random() < 0.7,
            delay_s=random.choice((0.0005, 0.003, 0.03)),
            slow=random.choice((0.0, 0.02, 0.2)),
            lost=random.choice((0.0, 0.01, 0.1)),
            doubled=random.choice((0.0, 0.05)),
        )
        self.rates = Rates(
            commit=random.choice((10, 60)),
            fault=random.choice((0.5, 2.0, 6.0)),
            io_error=random.choice((0.0, 0.01)),
            slow_io=random.choice((0.02, 0.3)),
        )
        self.windows = random.choice((Windows(), _small_windows(1), _small_windows(3)))
        longest = self.windows.entry_bytes if self.windows.entry_bytes < 10_000 else 900
        self._payloads = [20, 120, 400] * 8 + [longest + 200]
        self._names = ["data", "one", "two"][: random.randint(1, 3)]
        self._build()

    def _build(self) -> None:
        random = self.random
        count = random.randint(1, 3)
        names = ["p", *(f"r{i}" for i in range(1, count + 1))]
        for name in names:
            self.nodes[name] = SimNode(self, name, Random(random.getrandbits(64)))
        is_chain = random.random() < 0.4
        for i, name in enumerate(names[1:]):
            node = self.nodes[name]
            node.upstream = names[i] if is_chain else "p"
            if random.random() < 0.15:
                node.omit = frozenset([random.choice(["one", "two"])])
            if random.random() < 0.2:
                node.sync_interval_s = random.choice((0.0, 0.5))
        primary = self.nodes["p"]
        primary.is_primary = True
        for name in self._names:
            primary.logs[name] = ToyLog()
            primary.shown[name] = NO_POSITION
        for node in self.nodes.values():
            node.start()

    # -- trace -------------------------------------------------------------------------------------------------------

    def note(self, who: str, what: object) -> None:
        """Add a line to the trace."""
        line = f"{self.time.now:9.4f} {who:8} {_summary(what)}"
        self._digest.update(line.encode())
        self.trace.append(line)

    @property
    def digest(self) -> str:
        """A fingerprint of the whole trace."""
        return self._digest.hexdigest()

    # -- what nodes ask of the world ---------------------------------------------------------------------------------

    def connect(self, node: SimNode) -> SimLink | None:
        """Connect a replica to its upstream, if that can be reached."""
        upstream = self.nodes.get(node.upstream)
        if upstream is None or not upstream.is_alive or self.random.random() < 0.05:
            return None
        self._links += 1
        link = SimLink(self._links, self.time, self.random, self.faults)
        for other in [s for s in upstream.sendings.values() if s.replica == node.name]:
            other.hang_up("the replica has connected again")
        upstream.sendings[link.number] = SimSending(upstream, node.name, link)
        return link

    def learn(self, database: str, log: ToyLog) -> None:
        """A primary made entries durable."""
        at = log.base
        for entry in log.entries[: log.synced]:
            if not self.truth.knows(database, entry.position):
                self.truth.commits(database, at, entry)
            at = entry.position

    def check_acknowledged(self, upstream: SimNode, replica: str, database: str, txid: TXID) -> None:
        """What a replica says that it has is in its durable log."""
        node = self.nodes[replica]
        if not upstream.is_primary or node.upstream != upstream.name or self.had_promotion or self.had_wipe:
            return
        log = node.logs.get(database)
        has_it = txid == 0 or (log is not None and log.durable.txid >= txid)
        invariant(has_it or database not in upstream.logs, "acknowledged what is not durable", node=replica, txid=txid)

    def confirmed(self, primary: SimNode, commits: list[tuple[str, Position]]) -> None:
        """A majority is said to hold these commits: look into the logs."""
        for database, position in commits:
            self.confirmations += 1
            if self.had_promotion or self.had_wipe:
                continue  # a voter that lost its disk, or two primaries: not what counting can guard against
            holders = [name for name in primary.acks.voters if self._has(self.nodes[name], database, position)]
            is_majority = len(holders) > len(primary.acks.voters) // 2
            invariant(is_majority, "confirmed without a majority", database=database, at=position, holders=holders)

    @staticmethod
    def _has(node: SimNode, database: str, position: Position) -> bool:
        log = node.logs.get(database)
        if log is None or log.durable.txid < position.txid:
            return False
        return log.holds(position) or log.base.txid >= position.txid

    def check_fenced(self, node: SimNode) -> None:
        """A replica takes data: not from a node of an older epoch than it knows."""
        upstream = self.nodes[node.upstream]
        invariant(upstream.epoch >= node.epoch, "took data of an older epoch", node=node.name, upstream=upstream.name)

    def check_replaced(self, node: SimNode, database: str, log: ToyLog | None, position: Position) -> None:
        """A snapshot replaces a log: what no primary led on from must be among the evidence."""
        if log is None or database in self.recreated or self.truth.led_to(database, log.durable, position):
            return
        kept = [positions for name, positions in node.evidence if name == database and log.durable in positions]
        invariant(bool(kept), "thrown away without evidence", node=node.name, lost=log.durable, taken=position)

    def check_dropped(self, node: SimNode, database: str) -> None:
        """A replica drops a database: then the primary does not have it."""
        if self.had_promotion or database in self.recreated or database in self._omitted(node):
            return
        primary = self.nodes[self.primary]
        invariant(database not in primary.logs, "dropped what the primary has", node=node.name, database=database)

    # -- running -----------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Faults, then healing, then everything equal. Raises InvariantError."""
        self._run_until(self._faults_s, self._disturb)
        self._heal()
        end = self.time.now + HEAL_S
        while not self._is_converged():
            invariant(self.time.now < end, "not equal long after the faults ended", state=self._describe())
            self._run_until(self.time.now + 0.5, None)
            self._nudge()
        for node in self.nodes.values():
            node.check_all()

    def _run_until(self, end: float, disturb: Callable[[], None] | None) -> None:
        next_at = self.time.now
        while self.time.now < end:
            if disturb is not None and self.time.now >= next_at:
                disturb()
                next_at = self.time.now + self.random.expovariate(self.rates.commit + self.rates.fault)
            if not self.time.step(min(end, next_at) if disturb is not None else end):
                continue
            self.events += 1
            if self.events % 200 == 0:
                for node in self.nodes.values():
                    node.check_all()

    def _disturb(self) -> None:
        if self.random.random() < self.rates.commit / (self.rates.commit + self.rates.fault):
            self._commit()
            return
        faults = (
            *(self._cut,) * 5,
            *(self._crash,) * 5,
            *(self._retain,) * 3,
            self._wipe,
            self._corrupt,
            self._corrupt,
            self._new_history,
            self._create_or_drop,
            self._promote,
            self._stray,
            self._stray,
            self._change_network,
        )
        fault = self.random.choice(faults)
        self.note("world", fault.__name__)
        fault()

    def _commit(self) -> None:
        writers = [node for node in self.nodes.values() if node.is_primary and node.is_alive and not node.is_fenced]
        for node in writers:
            if node.logs:
                name = self.random.choice(sorted(node.logs))
                size = self.random.choice(self._payloads)
                node.commit(name, self.random.randbytes(size), self.random.choice((1, 1, 1, 4)))

    # -- faults ------------------------------------------------------------------------------------------------------

    def _pick(self, *, replica: bool = False) -> SimNode | None:
        found = [n for n in self.nodes.values() if n.is_alive and not (replica and n.is_primary)]
        return self.random.choice(found) if found else None

    def _cut(self) -> None:
        node = self._pick(replica=True)
        if node is not None and node.link is not None:
            told = self.random.choice((("replica", "upstream"), ("replica",), ("upstream",), ()))
            node.link.cut(told=told)

    def _crash(self) -> None:
        node = self._pick()
        if node is not None:
            node.crash()
            self.time.after(self.random.choice((0.1, 0.5, 3.0)), lambda: self._restart(node))

    def _restart(self, node: SimNode) -> None:
        if not node.is_alive:
            node.start()

    def _retain(self) -> None:
        node = self._pick()
        if node is None or not node.logs:
            return
        name = self.random.choice(sorted(node.logs))
        limit = min(node.logs[name].durable.txid, node.shown[name].txid)
        node.logs[name].drop_before(TXID(self.random.randint(0, limit)))

    def _wipe(self) -> None:
        node = self._pick(replica=True)
        if node is not None:
            self.had_wipe = True
            node.crash()
            for name in list(node.logs):
                node.drop(name)
            self.time.after(0.3, lambda: self._restart(node))

    def _corrupt(self) -> None:
        node = self._pick(replica=True)
        if node is not None and node.logs:
            node.corrupt.add(self.random.choice(sorted(node.logs)))

    def _new_history(self) -> None:
        node = self.nodes[self.primary]
        if node.is_alive and node.logs and not node.is_fenced:
            node.new_history(self.random.choice(sorted(node.logs)))

    def _create_or_drop(self) -> None:
        node = self.nodes[self.primary]
        if not node.is_alive or node.is_fenced:
            return
        name = self.random.choice(["one", "two"])
        if name in node.logs:
            node.drop(name)
        else:
            self.recreated.add(name)
            node.create(name)

    def _promote(self) -> None:
        """A replica becomes primary; the old one does not know, until it is told."""
        old = self.nodes[self.primary]
        able = [n for n in self.nodes.values() if not n.is_primary and n.is_alive and not n.omit]
        able = [n for n in able if n.sync_interval_s is None]
        if not able:
            return
        self.had_promotion = True
        node = self.random.choice(able)
        node.crash()
        node.epoch = Epoch(max(n.epoch for n in self.nodes.values()) + 1)
        node.is_primary, node.upstream = True, ""
        node.corrupt.clear()
        node.unknown.clear()
        node.start()
        self.primary = node.name
        for other in self.nodes.values():
            if other is not node and other.upstream == old.name:
                self.time.after(self.random.uniform(0.0, 3.0), partial(self._follow_primary, other))
        self.time.after(self.random.uniform(0.0, 3.0), lambda: self._follow_primary(old))

    def _follow_primary(self, node: SimNode) -> None:
        if node.name == self.primary:
            return
        if node.is_alive:
            node.crash()
        node.is_primary, node.upstream = False, self.primary
        self.time.after(0.1, lambda: self._restart(node))

    def _stray(self) -> None:
        """A replica that knows the newest epoch connects to an old primary."""
        old = [n for n in self.nodes.values() if n.is_primary and n.name != self.primary]
        node = self._pick(replica=True)
        if old and node is not None and node.epoch == self.nodes[self.primary].epoch:
            node.crash()
            node.upstream = old[0].name
            self.time.after(0.05, partial(self._restart, node))
            self.time.after(1.5, partial(self._follow_primary, node))

    def _change_network(self) -> None:
        self.faults.delay_s = self.random.choice((0.0005, 0.003, 0.03))
        self.faults.lost = self.random.choice((0.0, 0.01, 0.1))

    # -- healing -----------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.note("world", "heal")
        self.rates.io_error = self.rates.slow_io = 0.0
        was_ordered = self.faults.ordered  # then nothing may need a new connection to get on
        self.faults.ordered, self.faults.delay_s, self.faults.slow = True, 0.001, 0.0
        self._run_until(self.time.now + 4.0, None)  # what was planned has happened
        for node in self.nodes.values():
            is_stale = node.is_primary and node.name != self.primary
            lost = self.nodes.get(node.upstream)
            if is_stale or (not node.is_primary and (lost is None or lost is node)):
                self._follow_primary(node)
            elif not node.is_alive or (node.is_fenced and node.is_primary):
                self._renew(node)
            elif node.link is not None and not was_ordered:
                node.link.cut(told=("replica", "upstream"))
        self._break_cycles()
        self._run_until(self.time.now + 1.0, None)
        primary = self.nodes[self.primary]
        for name in sorted(primary.logs):
            primary.commit(name, b"last", 1)

    def _renew(self, node: SimNode) -> None:
        """A node that is down, or a primary that was fenced: it starts again, as primary with the newest epoch."""
        if node.is_alive:
            node.crash()
        if node.is_primary:
            node.epoch = Epoch(max(n.epoch for n in self.nodes.values()) + 1)
        node.start()

    def _break_cycles(self) -> None:
        for node in self.nodes.values():
            at, steps = node, 0
            while at.upstream and steps <= len(self.nodes):
                at, steps = self.nodes[at.upstream], steps + 1
            if at.name != self.primary:
                self._follow_primary(node)

    def _nudge(self) -> None:
        for node in self.nodes.values():
            if node.receiver is not None and node.is_alive and node.sync_interval_s == 0:
                node.do(node.receiver.sync_now(self.time.now))

    def _is_converged(self) -> bool:
        return not self._differences()

    def _differences(self) -> list[str]:
        primary = self.nodes[self.primary]
        found = []
        for node in self.nodes.values():
            expected = set(primary.logs) - self._omitted(node)
            if {name for name, log in node.logs.items() if log.last != NO_POSITION} - node.omit != expected:
                found.append(f"{node.name} has {sorted(node.logs)}, expected {sorted(expected)}")
            for name in sorted(expected & set(node.logs)):
                want, log = primary.logs[name].last, node.logs[name]
                if not log.durable == want == node.shown[name]:
                    found.append(f"{node.name}/{name} at {log.durable}, shows {node.shown[name]}, primary {want}")
        return found

    def _omitted(self, node: SimNode) -> set[str]:
        omitted: set[str] = set()
        at, steps = node, 0
        while at.upstream and steps <= len(self.nodes):
            omitted |= at.omit
            at, steps = self.nodes[at.upstream], steps + 1
        return omitted

    def _describe(self) -> str:
        return "; ".join(self._differences())


def _small_windows(factor: int) -> Windows:
    return Windows(
        batch_bytes=600 * factor,
        chunk_bytes=200 * factor,
        database_bytes=1200 * factor,
        link_bytes=2000 * factor,
        in_flight_bytes=3000 * factor,
        entry_bytes=700 * factor,
        log_reads=2,
        snapshots=1,
    )


_FIELDS = ("database", "stream", "sender_epoch", "epoch", "txid", "after_txid", "offset", "size", "after_s", "reason")


def _summary(what: Any) -> str:  # noqa: ANN401 - anything that can be shown
    if isinstance(what, str):
        return what
    inner = getattr(what, "message", what)
    if not hasattr(inner, "__match_args__"):
        inner = what
    shown = " ".join(f"{name}={getattr(inner, name)}" for name in _FIELDS if hasattr(inner, name))
    return f"{type(inner).__name__} {shown}"


def simulate(seed: int, *, faults_s: float = FAULTS_S) -> World:
    """Run one seed. Raises InvariantError with the command that shows it again."""
    world = World(seed, faults_s=faults_s)
    try:
        world.run()
    except InvariantError as error:
        raise InvariantError(f"{error.message}; to see it: {command(seed, faults_s)}") from error
    return world


def command(seed: int, faults_s: float) -> str:
    """Give the command that runs a seed again."""
    return f"python -m pando.testing.simulator --seed {seed} --seconds {faults_s:g} --trace"


def main() -> int:
    """Run seeds from the command line."""
    parser = argparse.ArgumentParser(description="Simulate replication.")
    parser.add_argument("--seed", type=int, default=0, help="first seed")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds, counting up")
    parser.add_argument("--trace", action="store_true", help="print the last lines of the trace")
    parser.add_argument("--seconds", type=float, default=FAULTS_S, help="how long faults happen, in simulated time")
    options = parser.parse_args()
    for seed in range(options.seed, options.seed + options.runs):
        world = World(seed, faults_s=options.seconds)
        try:
            world.run()
        except InvariantError as error:
            if options.trace:
                print("\n".join(world.trace))
            print(f"seed {seed} at {world.time.now:.3f} s: {error.message}\n{command(seed, options.seconds)}")
            return 1
    print(f"{options.runs} runs from seed {options.seed}: ok")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
