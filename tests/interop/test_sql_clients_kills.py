"""Programs with the SQL clients of other parties go on while processes die: each writes with a loop that tries again
and reads back, at the primary's address and at a replica's, and is never started anew.
"""

import contextlib
import json
import os
import random
import signal
import sys
import urllib.error
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from kill_programs import KINDS, check_reads, check_rows, check_times, clock, running
from served_nodes import served_nodes

sys.path.append(str(Path(__file__).parents[1] / "integration"))
from cluster_kit import free_base_port, wait_until

pytestmark = [pytest.mark.interop, pytest.mark.slow, pytest.mark.timeout(400)]

ROLES = ("primary", "replica")
GOES_ON_S = 30.0
"""How long a program may take until it has done everything again; most of it is for a busy machine."""
_tables = count(1)


@pytest.fixture(scope="module")
def nodes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kills")
    with served_nodes(folder, ROLES, first_port=free_base_port(len(ROLES))) as started:
        yield started


def pids(nodes, role):
    """The process ids of a node, by what they are."""
    return json.loads((nodes.folder / role / ".pando" / "processes.json").read_bytes())


def kill(nodes, role, what):
    """Kill all web processes, another process, or the whole node; the supervisor starts again what it has lost."""
    for name, pid in pids(nodes, role).items():
        if what == "node" or name.startswith(what):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    if what == "node":
        nodes.processes[role].wait(10)


def wait_for(programs, condition, what):
    def shows():
        return f"{what}: {[program.shows() for program in programs if not condition(program)]}"

    wait_until(lambda: all(condition(program) for program in programs), GOES_ON_S, shows)


def wait_until_whole(nodes, programs):
    """Until the replica has what the primary has: what only a node that is away has, nobody can be shown."""
    for program in programs:
        has = int(count_at_primary(nodes, program)[0][0])
        wait_until(lambda: count_as_it_is(nodes, program) >= has, GOES_ON_S, "the replica does not catch up")  # noqa: B023


def count_as_it_is(nodes, program):
    """What the replica shows without asking anybody: for a moment after a start it may not even have the table."""
    freshness = {"Pando-Freshness": "eventual"}
    table = f"SELECT 1 FROM sqlite_schema WHERE name = '{program.table}'"
    try:
        if not nodes.rows("replica", table, **freshness):
            return -1
        return int(nodes.rows("replica", f"SELECT count(*) FROM {program.table}", **freshness)[0][0])
    except urllib.error.HTTPError as error:
        assert json.load(error)["code"] == "NOT_READY"
        return -1


def wait_until_all_go_on(programs):
    now = clock.monotonic()
    wait_for(programs, lambda program: program.has_kept(now), "it does not go on")


def check_absence(nodes, programs, absent):
    """While a whole node is away, who asks it fails and tries again, and who asks the other one is answered."""
    now = clock.monotonic()
    others = [program for program in programs if program.role != absent]
    if absent == "replica":
        wait_for(others, lambda program: program.has_kept(now), "the replica's death disturbs it")
    else:
        wait_for(others, lambda program: reads_and_is_refused(program.since(now)), "no clear error, or no reads")
        for program in others:
            assert count_as_it_is(nodes, program) > 0
    wait_for(
        [program for program in programs if program.role == absent],
        lambda program: sum(not one.ok for one in program.since(now)) >= 3,
        "it does not try",
    )


def reads_and_is_refused(said):
    """Whether writes are refused with words that say that nothing was done, and reads go on.

    Reads are refused, too, if the primary died before it gave the replica what this token wrote last.
    """
    refused = sum(one.is_write and one.is_refusal for one in said)
    reads = [one for one in said if one.way == "read"]
    return refused >= 3 and sum(one.ok or one.is_refusal for one in reads) >= 3


def run_programs(nodes, asked, kills):
    """Let programs run, kill one thing after the other, and look at what is left."""
    for role in ROLES:
        if nodes.processes[role].poll() is not None:  # what failed before has left it so
            nodes.start(role)
    with ExitStack() as stack:
        programs = [stack.enter_context(running(kind, nodes, role, f"kept_{next(_tables)}")) for kind, role in asked]
        wait_until_all_go_on(programs)
        for role, what in kills:
            wait_until_whole(nodes, programs)
            kill(nodes, role, what)
            if what == "node":
                check_absence(nodes, programs, role)
                nodes.start(role)
            wait_until_all_go_on(programs)
        for program in programs:
            assert program.end() == 0, program.shows()
            assert program.said[-1].way == "end", program.shows()
    for program in programs:
        print(program.errors_met())
        check_times(program)
        check_reads(program)
        for role in ROLES:
            nodes.wait_for_rows(role, f"SELECT count(*) FROM {program.table}", count_at_primary(nodes, program))
        check_rows(program, nodes.rows("primary", f"SELECT key, attempt, part FROM {program.table}"))


def count_at_primary(nodes, program):
    return nodes.rows("primary", f"SELECT count(*) FROM {program.table}")


def test_programs_outlive_the_primary(nodes):
    """The short version: one client over each transport, and the worst kill."""
    http, socket = KINDS[:2]
    run_programs(nodes, [(http, "primary"), (http, "replica"), (socket, "replica")], [("primary", "node")])


@pytest.mark.full
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_programs_outlive_whatever_dies(nodes, kind):
    kills = [(role, what) for what in ("web", "store", "node") for role in ROLES]
    run_programs(nodes, [(kind, role) for role in ROLES], kills)


@pytest.mark.full
@pytest.mark.parametrize("seed", [11])
def test_programs_of_all_clients_outlive_kills_at_random(nodes, seed):
    rng = random.Random(seed)
    kills = []
    for _ in range(16):
        what = rng.choice(["store", "store", "web", "applier", "node"])
        kills.append(("replica" if what == "applier" else rng.choice(ROLES), what))
    run_programs(nodes, [(kind, "replica") for kind in KINDS] + [(KINDS[1], "primary")], kills)
