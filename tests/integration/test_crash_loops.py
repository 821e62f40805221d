"""kill -9 in a loop, under load: what `pando.testing.crash` does, in two lengths; files that go, and files that others
write to.

A failure says how to run the same again; `PANDO_CRASH_SEED` sets the seed of the long run.
"""

import os
import shutil
import sqlite3

import pytest
from cluster_kit import free_base_port, wait_until

from pando.clock import system_random
from pando.testing.crash import NEVER_S, NODES, CrashHarness, Kill, Role

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

QUICK_CYCLES = 8
FULL_CYCLES = 200
SLOW_SHARE = 0.1
"""Cycles that may heal late: a machine that runs other things now and then gives nobody any time."""
PRIMARY, REPLICA = 0, 2
FOREIGN = "INSERT INTO strange VALUES (?, randomblob(3000))"


def make_harness(directory, seed=1):
    return CrashHarness(directory, http=f"127.0.0.1:{free_base_port(NODES)}", seed=seed, report=print)


@pytest.fixture
def harness(tmp_path):
    with make_harness(tmp_path) as made:
        yield made


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with make_harness(tmp_path_factory.mktemp("shared")) as made:
        yield made


@pytest.mark.full
@pytest.mark.alone
def test_a_few_cycles(tmp_path):
    seed = int(os.environ.get("PANDO_CRASH_SEED", "4"))
    with make_harness(tmp_path, seed) as harness:
        harness.run(QUICK_CYCLES)
        assert len(harness.slow) <= 1, harness.slow


@pytest.mark.full
@pytest.mark.alone
@pytest.mark.timeout(5400)
def test_hundreds_of_cycles(tmp_path):
    seed = int(os.environ.get("PANDO_CRASH_SEED", "0")) or system_random().randrange(1, 1 << 32)
    print(f"PANDO_CRASH_SEED={seed} python -m pytest -k test_hundreds_of_cycles tests/integration/test_crash_loops.py")
    with make_harness(tmp_path, seed) as harness:
        harness.run(FULL_CYCLES)
        assert len(harness.slow) <= FULL_CYCLES * SLOW_SHARE, harness.slow


# -- a replica's files are deleted ------------------------------------------------------------------------------------


def delete(directory, what):
    if what == "everything":
        shutil.rmtree(directory)
    elif what == "our own":
        shutil.rmtree(directory / ".pando")
    elif what == "log":
        shutil.rmtree(directory / ".pando" / "log")
    else:
        for path in directory.glob("data.db*"):
            path.unlink()


QUICK_DELETIONS = {("killed", "everything"), ("stopped", "database")}
DELETIONS = [
    pytest.param(how, what, marks=() if (how, what) in QUICK_DELETIONS else pytest.mark.full)
    for how in ("killed", "stopped")
    for what in ("everything", "our own", "log", "database")
]


@pytest.mark.parametrize(("how", "what"), DELETIONS)
def test_a_replica_whose_files_were_deleted_comes_back(shared, what, how):
    shared.begin(f"{what} of a replica is deleted, {how}")
    if how == "killed":
        gone = shared.wait_gone(shared.kill(Kill(0, Role.NODE, REPLICA, 0)))
    else:
        gone = shared.stop_node(REPLICA)
    delete(shared.cluster.nodes[REPLICA].directory, what)
    shared.checks.may_diverge = True  # what is left is kept as evidence
    shared.wait_healed(gone)
    shared.finish()


# -- another program writes -------------------------------------------------------------------------------------------


def write_foreign(path, key, timeout_s=0.0):
    """Insert a row as any program could; False when the file is locked."""
    connection = sqlite3.connect(path, timeout=timeout_s)
    try:
        with connection:
            connection.execute(FOREIGN, (key,))
    except sqlite3.OperationalError as error:
        assert error.sqlite_errorcode in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_BUSY_SNAPSHOT), error
        return False
    finally:
        connection.close()
    return True


def counts(harness, key):
    """How many rows of this key each node has in its own file."""
    sql = f"SELECT count(*) FROM strange WHERE key = '{key}'"
    return [harness.ask_locally(number, sql)[0][0] for number in range(NODES)]


def test_a_write_into_a_replicas_file_is_refused_or_healed(harness):
    path = harness.cluster.nodes[REPLICA].directory / "data.db"
    harness.checks.may_diverge = True
    harness.begin("foreign writes into a replica's file")
    done = [write_foreign(path, f"quick {number}") for number in range(200)]
    for number in range(5):  # with patience one gets in between two commits
        done.append(write_foreign(path, f"patient {number}", timeout_s=2.0))
        harness.wait_written(5)
    harness.finish()
    assert counts(harness, "patient 0") == [0, 0, 0]
    print(f"{sum(done)} of {len(done)} foreign writes took effect and were healed")


def test_an_idle_replicas_file_is_locked(harness):
    path = harness.cluster.nodes[REPLICA].directory / "data.db"
    assert not any(write_foreign(path, f"idle {number}", timeout_s=0.05) for number in range(5))


def test_a_write_into_the_stopped_primarys_file_is_taken_over(harness):
    harness.begin("the primary's file is changed while it is stopped")
    harness.checks.epoch = harness.epoch()
    gone = harness.stop_node(PRIMARY)
    assert write_foreign(harness.cluster.nodes[PRIMARY].directory / "data.db", "foreign")
    harness.wait_healed(gone)
    epoch, harness.checks.epoch = harness.checks.epoch, 0
    harness.checks.may_diverge = True  # replicas keep the end of the old history
    harness.finish()
    assert counts(harness, "foreign") == [1, 1, 1]
    assert harness.checks.epoch == epoch + 1


@pytest.mark.full
def test_a_write_into_the_killed_primarys_file_is_taken_over(harness):
    harness.begin("the primary's file is changed after a kill")
    gone = harness.wait_gone(harness.kill(Kill(0, Role.NODE, PRIMARY, 0)))
    assert write_foreign(harness.cluster.nodes[PRIMARY].directory / "data.db", "foreign", timeout_s=5.0)
    harness.wait_healed(gone)
    harness.checks.epoch, harness.checks.may_diverge = 0, True
    harness.finish()
    assert counts(harness, "foreign") == [1, 1, 1]


def test_writes_into_the_running_primarys_file_are_captured(harness):
    path = harness.cluster.nodes[PRIMARY].directory / "data.db"
    harness.begin("foreign writes into the primary's file")
    keys = [f"foreign {number}" for number in range(30)]
    written = [key for key in keys if write_foreign(path, key, timeout_s=5.0)]
    harness.finish()
    assert written
    for key in keys:
        assert counts(harness, key) == [int(key in written)] * NODES


# -- quorum -----------------------------------------------------------------------------------------------------------


def test_what_a_quorum_acknowledged_is_on_a_replica_when_the_primary_is_gone(harness):
    url = harness.cluster.node_urls[PRIMARY]
    harness.begin("the primary dies after quorum writes")
    keys = [f"quorum {number}" for number in range(20)]
    done = [key for key in keys if harness.write(url, "INSERT INTO strange VALUES (?, '')", key, "quorum")]
    gone = harness.wait_gone(harness.kill(Kill(0, Role.NODE, PRIMARY, 0)))
    assert done

    def kept():
        found = [harness.ask_locally(number, "SELECT key FROM strange") for number in (1, 2)]
        return {row[0] for rows in found for row in rows}

    wait_until(lambda: kept() >= set(done), NEVER_S, lambda: f"missing on both replicas: {set(done) - kept()}")
    harness.wait_healed(gone)
    harness.finish()
