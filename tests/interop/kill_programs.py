"""Programs that write and read without end, each with another client: started, listened to, judged.

What they print is in `clients/keep_writing.mjs`. Each attempt to write has a key and a number of its own, in every row,
so what happened to it can be read from the table.
"""

import contextlib
import json
import subprocess
import threading
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from client_packages import need_go_program, need_npm_package, need_pypi_package

from pando.clock import SystemClock

CLIENTS = Path(__file__).parent / "clients"
OPERATION_S_MAX = 10.0
"""Longer than this nothing may take, whatever dies: the client counts as hanging."""
NOTHING_WRITTEN_CODES = {"PRIMARY_UNAVAILABLE", "NOT_READY", "OVERLOADED", "TRANSACTION_BUSY", "TRANSACTION_TIMEOUT"}
"""Errors of the server after which an attempt has left nothing behind."""
clock = SystemClock()


@dataclass(frozen=True)
class Kind:
    """A client: what starts its program (before URL, token and table), and what it can do."""

    name: str
    scheme: str
    command: object
    ways: tuple[str, ...] = ("single", "batch", "transaction")
    repeats: bool = False
    """It sends again by itself what it has had no answer to, so that one attempt may have written more than once."""

    def __str__(self):
        return f"{self.name} {self.scheme}"


def npm(kind, name, version, *path):
    return lambda: ["node", CLIENTS / "keep_writing.mjs", kind, need_npm_package(name, version).joinpath(*path)]


def pypi(kind, name, version):
    return lambda: [need_pypi_package(name, version), CLIENTS / "keep_writing.py", kind]


def go():
    return [need_go_program(CLIENTS / "gokeep")]


NPM_LIBSQL = npm("libsql", "@libsql/client", "0.18.0", "lib-esm", "node.js")
NPM_SERVERLESS = npm("serverless", "@tursodatabase/serverless", "1.4.0", "dist", "index.js")
PYPI_LIBSQL_CLIENT = pypi("libsql_client", "libsql-client", "0.3.1")
KINDS = (
    Kind("@libsql/client", "http", NPM_LIBSQL),
    Kind("@libsql/client", "ws", NPM_LIBSQL),
    Kind("@tursodatabase/serverless", "http", NPM_SERVERLESS),
    Kind("libsql-client", "http", PYPI_LIBSQL_CLIENT, ("single", "batch")),
    Kind("libsql-client", "ws", PYPI_LIBSQL_CLIENT),
    Kind("libsql", "http", pypi("libsql", "libsql", "0.1.11")),
    Kind("libsql-client-go", "http", go, ("single", "transaction")),
    Kind("libsql-client-go", "ws", go, ("single", "transaction"), repeats=True),
)


@dataclass
class Said:
    """One line of a program, and when it came."""

    at: float
    way: str
    ok: bool
    ms: float
    key: str = ""
    attempt: int = 0
    code: str = ""
    text: str = ""
    rows: int = 0
    own: int = 0

    @property
    def is_write(self):
        return self.way not in ("read", "schema", "end")

    @property
    def has_written_nothing(self):
        """Whether the server said so, with its code, or in words where a client drops the code."""
        return not self.ok and (self.code in NOTHING_WRITTEN_CODES or "nothing was" in self.text)

    @property
    def is_refusal(self):
        """Whether the node said that it cannot do this without the primary."""
        return self.has_written_nothing or "this node is behind" in self.text


@dataclass
class Program:
    """A running program with one client that asks one node."""

    kind: Kind
    role: str
    table: str
    process: subprocess.Popen
    errors: Path
    said: list[Said] = field(default_factory=list)

    def __str__(self):
        return f"{self.kind} at the {self.role}"

    def listen(self):
        for text in self.process.stdout:
            self.said.append(Said(at=clock.monotonic(), **json.loads(text)))

    def since(self, moment):
        """What it said after a moment, the newest last."""
        return [one for one in list(self.said) if one.at >= moment]

    def shows(self):
        """The end of what it said, for a failure."""
        return f"{self}: {self.said[-6:]} {self.errors.read_text()[-1500:]}"

    def errors_met(self):
        """What went wrong how often, one line each: pytest shows it beside a failure."""
        met = Counter((one.way, one.code, one.text[:200]) for one in self.said if not one.ok)
        longest = max((one.ms for one in self.said), default=0)
        done = sum(one.ok for one in self.said)
        return "\n".join(
            [f"{self}: {done} done, longest {longest:.0f} ms", *(f"  {n} {key}" for key, n in met.items())]
        )

    def has_kept(self, moment, times=2):
        """Whether it has written in every way, and read, since a moment. Fails if it has ended."""
        assert self.process.poll() is None, f"the program has ended: {self.shows()}"
        done = [one.way for one in self.since(moment) if one.ok]
        return all(done.count(way) >= times for way in (*self.kind.ways, "read"))

    def end(self):
        """Let it end by itself; gives its exit status."""
        self.process.stdin.close()
        try:
            return self.process.wait(20)
        finally:
            self.process.kill()


@contextlib.contextmanager
def running(kind, nodes, role, table):
    """A program on a table of its own."""
    url = f"{kind.scheme}://{nodes.addresses[role]}"
    errors = nodes.folder / f"{table}.log"
    arguments = [*map(str, kind.command()), url, nodes.token, table]
    with errors.open("w") as output:
        process = subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=output, text=True, bufsize=1
        )
    program = Program(kind, role, table, process, errors)
    listener = threading.Thread(target=program.listen, daemon=True)
    listener.start()
    try:
        yield program
    finally:
        process.kill()
        process.wait()
        listener.join(10)
        process.stdout.close()
        with contextlib.suppress(OSError):
            process.stdin.close()


# -- what must hold ---------------------------------------------------------------------------------------------------


def check_times(program):
    """Nothing hung: every operation ended in time, and so did what came between them."""
    slow = [one for one in program.said if one.ms > OPERATION_S_MAX * 1000]
    assert not slow, f"{program} waited too long: {slow}"
    gaps = [(after.at - before.at, after) for before, after in pairwise(program.said)]
    longest = max(gaps, key=lambda gap: gap[0])
    assert longest[0] < OPERATION_S_MAX + 1, f"{program} said nothing for {longest}"


def check_reads(program):
    """What it read never went back, and held what it had written."""
    reads = [one for one in program.said if one.way == "read" and one.ok]
    assert reads
    for before, after in pairwise(reads):
        assert after.rows >= before.rows, f"{program} went back from {before} to {after}"
    missing = [one for one in reads if one.key and not one.own]
    assert not missing, f"{program} did not read its own write: {missing}"


def check_rows(program, rows):
    """Each attempt has left all of its rows or none: all if it was acknowledged, none if the server said so."""
    found = defaultdict(list)
    for key, number, part in rows:
        found[key, int(number)].append(int(part))
    writes = [one for one in program.said if one.is_write]
    assert writes
    for one in writes:
        whole = [0] if one.way == "single" else [0, 1]
        parts = sorted(found.pop((one.key, one.attempt), []))
        if program.kind.repeats and parts:
            assert parts == sorted(whole * (len(parts) // len(whole))), f"{program}: {parts} of {one}"
            parts = whole
        allowed = [whole] if one.ok else [[]] if one.has_written_nothing else [whole, []]
        assert parts in allowed, f"{program}: {parts} of {one}"
    assert not found, f"{program}: rows of nobody: {dict(found)}"
