import random
from pathlib import Path

import pytest

from pando.errors import CorruptionError, InvariantError, StorageError
from pando.store.node_state import KnownReplica, NodeState
from pando.testing.faults import Fault, FaultyFileSystem, for_each_fault, for_each_power_loss
from pando.types import Epoch

PATH = Path("/node.json")


def load(fs, **fields):
    return NodeState.load(fs, PATH, chance=random.Random(1), **fields)


def test_a_new_node_gets_a_name_and_keeps_it():
    fs = FaultyFileSystem()
    first = load(fs)
    assert first.node.startswith("node-")
    assert load(fs).node == first.node
    assert load(fs, node="given").node == "given"


def test_what_it_learns_is_there_again():
    fs = FaultyFileSystem()
    state = load(fs, node="n")
    state.raise_epoch(Epoch(4))
    state.meet_replica(KnownReplica("a", "http://a"))
    state.meet_replica(KnownReplica("b"))
    state.meet_replica(KnownReplica("a", "http://other"))
    again = load(fs.after_power_loss(), node="n")
    assert again.epoch == 4
    assert again.replicas == [KnownReplica("b"), KnownReplica("a", "http://other")]
    with pytest.raises(InvariantError):
        again.raise_epoch(Epoch(3))


def test_nothing_is_believed_that_could_not_be_written():
    fs = FaultyFileSystem()
    state = load(fs, node="n")
    fs.fail_next(Fault.IO_ERROR, lasting=True)
    with pytest.raises(StorageError):
        state.raise_epoch(Epoch(9))
    with pytest.raises(StorageError):
        state.meet_replica(KnownReplica("a"))
    assert state.epoch == 1
    assert state.replicas == []
    fs.heal()
    state.raise_epoch(Epoch(9))
    assert load(fs.after_power_loss()).epoch == 9


def test_each_fault_leaves_the_old_state_or_the_new():
    def scenario(fs):
        state = load(fs, node="n")
        state.raise_epoch(Epoch(2))
        state.raise_epoch(Epoch(3))

    def check(fs):
        assert load(fs, node="n").epoch in {1, 2, 3}

    assert for_each_fault(scenario, check)
    assert for_each_power_loss(scenario, check)


def test_a_broken_file_is_told():
    fs = FaultyFileSystem()
    fs.set_content(PATH, b"{broken")
    with pytest.raises(CorruptionError):
        load(fs)
