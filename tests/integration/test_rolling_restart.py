"""Every node is stopped in order and started again, one after the other, while clients read and write."""

import os
import signal

import pytest
from cluster_kit import READY_S, Cluster, wait_until
from rolling_kit import OK, REFUSED, RETRYABLE, load_on
from test_up_command import Up

from pando.node.local_cluster import is_healthy

pytestmark = [pytest.mark.full, pytest.mark.slow, pytest.mark.timeout(300)]

STEADY = 100
"""Requests of one kind that are answered before the next thing happens."""


def restart(cluster, node, load):
    load.phase = f"{node.name} stops"
    os.kill(node.supervisor.pid, signal.SIGTERM)
    assert node.supervisor.process.wait(30) == 0
    cluster.poll()
    wait_until(lambda: is_healthy(node.url), READY_S, cluster.logs, cluster.poll)
    load.phase = f"{node.name} is back"
    for name in ("front reads", "front writes", f"{node.name} reads", f"{node.name} writes"):
        before = load.count(name)
        wait_until(lambda name=name, before=before: load.count(name) > before + STEADY, 60, name, cluster.poll)


def test_reads_never_fail_and_writes_only_while_the_primary_is_away(tmp_path):
    cluster = Cluster(tmp_path)
    cluster.start(READY_S)
    try:
        cluster.create_table()
        answer = cluster.sql.run(cluster.front_url, "INSERT INTO kept VALUES ('first')")
        for url in cluster.node_urls:
            assert cluster.sql.run(url, "SELECT * FROM kept", bookmark=answer.bookmark).rows == [["first"]]
        with load_on(cluster.token()) as load:
            load.phase = "all are there"
            for number in range(3):
                load.add("front reads", cluster.front_url, writes=False, pause_s=0.05 * number)
                load.add("front writes", cluster.front_url, writes=True, pause_s=0.05 * number)
            for node in cluster.nodes:
                load.add(f"{node.name} reads", node.url, writes=False)
                load.add(f"{node.name} writes", node.url, writes=True)
                load.add(f"{node.name} sometimes", node.url, writes=True, pause_s=0.4)
            wait_until(lambda: load.count("front writes") > STEADY, 60, "writes", cluster.poll)
            for node in (*cluster.nodes[1:], cluster.nodes[0]):
                restart(cluster, node, load)
        assert load.failures("front reads") == {}
        primary = cluster.nodes[0].name
        away = {what for when, what in load.failures("front writes") if primary in when}
        assert load.failures("front writes").keys() == load.failures("front writes", primary).keys()
        assert away <= RETRYABLE, load.failures("front writes")
        for node in cluster.nodes:
            for kind in ("reads", "writes", "sometimes"):
                found = load.failures(f"{node.name} {kind}")
                assert {what for _, what in found} <= {REFUSED, *RETRYABLE}, found
        check_rows(cluster, load)
        cluster.check_kept(load.keys[OK])
    finally:
        cluster.stop()


def check_rows(cluster, load):
    """What was answered is there, what was refused is not."""
    rows = {row[0] for row in cluster.sql.run(cluster.node_urls[0], "SELECT key FROM kept").rows}
    for found, keys in load.keys.items():
        assert set(keys) <= rows if found == OK else not set(keys) & rows, found


def test_ctrl_c_under_load_refuses_what_is_not_done_and_the_next_start_goes_on(tmp_path):
    first = Up(tmp_path / "data", "--no-sample", "--nodes", "3")
    second = None
    try:
        first.sql(first.front, "CREATE TABLE kept (key TEXT PRIMARY KEY)")
        with load_on(first.token) as load:
            for number in range(4):
                load.add("front writes", first.front, writes=True, pause_s=0.1 * number)
                load.add("node2 writes", first.addresses[2], writes=True, pause_s=0.1 * number)
            wait_until(
                lambda: load.count("front writes") > STEADY and load.count("node2 writes") > STEADY, 60, "writes"
            )
            first.stop()
        found = {what for _, _, what in load.met}
        assert found <= {OK, REFUSED, *RETRYABLE}, load.met
        second = Up(tmp_path / "data", "--no-sample", "--nodes", "3")
        rows = {row[0] for row in second.sql(second.front, "SELECT key FROM kept")[0]}
        assert rows == set(load.keys[OK])
        second.stop()
    finally:
        for one in (first, second):
            if one is not None:
                if one.process.poll() is None:
                    one.process.kill()
                    one.process.wait()
                one.process.stdout.close()
