"""Everything is killed or stopped and starts again, or one replica lost its directory: nothing acknowledged is lost."""

import shutil

import pytest
from cluster_kit import HEAL_S, READY_S, Cluster, Writer, is_alive, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def cluster(tmp_path):
    """A cluster that the test may kill as a whole."""
    made = Cluster(tmp_path)
    made.start(READY_S)
    try:
        made.create_table()
        yield made
    finally:
        made.stop()


def test_kill_9_of_everything_at_once_loses_nothing(cluster):
    acknowledged = []
    for round_number in range(3):
        with Writer(cluster.sql, cluster.urls, f"round {round_number}") as writer:
            wait_until(lambda writer=writer: len(writer.acknowledged) >= 50, 30, "rows before the kill", cluster.poll)
            pids = list(cluster.process_ids().values())
            cluster.kill_everything()
            wait_until(lambda pids=pids: not any(map(is_alive, pids)), HEAL_S, "all are gone", cluster.reap)
        acknowledged += writer.acknowledged
        cluster.stop()
        cluster.start(READY_S)
        cluster.check_kept(acknowledged)


def test_a_replica_whose_directory_was_deleted_comes_back(cluster):
    keys = [f"row {number}" for number in range(200)]
    for key in keys:
        assert cluster.sql.works(cluster.front_url, "INSERT INTO kept VALUES (?)", key)
    replica = cluster.nodes[2]
    pids = list(replica.processes().values())
    replica.kill_all()
    wait_until(lambda: not any(map(is_alive, pids)), HEAL_S, "the replica is gone", cluster.reap)
    shutil.rmtree(replica.directory)
    assert cluster.sql.works(cluster.node_urls[0], "INSERT INTO kept VALUES ('while it is away')")
    wait_until(cluster.is_whole, READY_S, cluster.logs, cluster.poll)
    cluster.check_kept([*keys, "while it is away"])


def test_stopping_and_starting_again_goes_on_where_it_was(cluster):
    with Writer(cluster.sql, cluster.urls, "before") as writer:
        wait_until(lambda: len(writer.acknowledged) >= 50, 30, "rows", cluster.poll)
    pids = list(cluster.process_ids().values())
    cluster.stop()
    assert not any(map(is_alive, pids))
    cluster.start(READY_S)
    cluster.check_kept(writer.acknowledged)
