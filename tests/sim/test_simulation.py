"""Replication, simulated: see `pando.testing.simulator`. A failure prints the command that shows the seed again."""

import os
from collections import Counter

import pytest

from pando.testing.simulator import World, simulate

QUICK_SECONDS = 3.0
SLOW_SECONDS = 8.0


@pytest.mark.parametrize("seed", range(6))
def test_short_simulation_ends_with_equal_nodes(seed):
    simulate(seed, faults_s=QUICK_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 126))
def test_simulation_ends_with_equal_nodes(seed):
    simulate(seed, faults_s=SLOW_SECONDS)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 11])
def test_same_seed_gives_the_same_trace(seed):
    first, second = simulate(seed, faults_s=QUICK_SECONDS), simulate(seed, faults_s=QUICK_SECONDS)
    assert first.events > 50
    assert first.digest == second.digest
    assert list(first.trace) == list(second.trace)
    assert simulate(seed + 1, faults_s=QUICK_SECONDS).digest != first.digest


EXPECTED = [
    name
    for line in (
        "ReadLog StartSnapshot ReadSnapshot EndSnapshot Acknowledged Disowned ReplicaApplied Stale Close Send",
        "AppendEntries ApplyTo BeginSnapshot WriteSnapshot InstallSnapshot DropSnapshot Freeze DropDatabase",
        "AdoptEpoch Reconnect Subscribe Follow Have Applied SnapshotHave Refuse Heartbeat DatabaseList",
        "DatabaseDropped Entries SnapshotBegin SnapshotChunk SnapshotEnd CaughtUp",
        "_cut _crash _retain _wipe _corrupt _new_history _create_or_drop _promote _stray _change_network",
    )
    for name in line.split()
]


class _Counting(World):
    def __init__(self, seed, **options):
        self.seen = Counter()
        super().__init__(seed, **options)

    def note(self, who, what):
        name = what if isinstance(what, str) else type(what).__name__
        self.seen[name] += 1
        super().note(who, what)


@pytest.mark.slow
def test_the_simulation_reaches_every_action_and_fault():
    seen = Counter()
    confirmations = 0
    for seed in range(500, 800):
        world = _Counting(seed, faults_s=4.0)
        world.run()
        seen += world.seen
        confirmations += world.confirmations
        if confirmations > 100 and all(seen[name] for name in EXPECTED):
            break
    assert [name for name in EXPECTED if not seen[name]] == []
    assert confirmations > 100


@pytest.mark.full
@pytest.mark.parametrize("block", range(20))
def test_many_seeds(block):
    """PANDO_SIM_SEED moves the range, so that each night can look elsewhere."""
    start = int(os.environ.get("PANDO_SIM_SEED", "10000")) + 100 * block
    for seed in range(start, start + 100):
        simulate(seed)
