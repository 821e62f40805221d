"""Replicas that fetch now and then, or when they are told to, instead of being sent each commit."""

import json
import sys
import time
import urllib.request
from pathlib import Path

import pytest
from cluster_kit import wait_until

sys.path.append(str(Path(__file__).parents[1] / "interop"))
from served_nodes import served_nodes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SOON_S = 30
QUIET_S = 6
"""Longer than a silence that counts as lag."""
ROWS = "SELECT v FROM t ORDER BY v"


def lag_s(nodes):
    with urllib.request.urlopen(f"http://{nodes.addresses['replica']}/cluster/status", timeout=20) as answer:
        status = json.load(answer)
    return next(found["lag_s"] for found in status["databases"] if found["name"] == "data")


@pytest.mark.full
def test_a_replica_that_fetches_every_second_is_not_late_when_nothing_is_new(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNC_INTERVAL", "1")
    with served_nodes(tmp_path) as nodes:
        nodes.rows("primary", "CREATE TABLE t(v)")
        nodes.rows("primary", "INSERT INTO t VALUES (1)")
        nodes.wait_for_rows("replica", ROWS, [["1"]], SOON_S)
        begun = time.monotonic()
        wait_until(lambda: time.monotonic() > begun + QUIET_S and lag_s(nodes) < QUIET_S / 2, SOON_S, "no lag")


def test_a_replica_that_waits_to_be_told_fetches_when_it_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("SYNC_INTERVAL", "0")
    with served_nodes(tmp_path) as nodes:
        nodes.rows("primary", "CREATE TABLE t(v)")
        for number in ("1", "2"):
            nodes.rows("primary", f"INSERT INTO t VALUES ({number})")
            nodes.post("replica", "/cluster/sync", {})
            expected = [[str(each)] for each in range(1, int(number) + 1)]
            nodes.wait_for_rows("replica", ROWS, expected, SOON_S)
        nodes.rows("primary", "INSERT INTO t VALUES (3)")
        assert nodes.rows("replica", ROWS, **{"Pando-Freshness": "eventual"}) == expected
