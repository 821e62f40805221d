"""The programs of tests/unit/client, against a real primary and a real replica instead of a node in the process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from cluster_kit import READY_S, Cluster

PROGRAMS = [
    Path(__file__).parents[1] / "unit" / "client" / name
    for name in ("test_client_conformance.py", "test_client_alchemy.py")
]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("served"))
    made.start(READY_S)
    try:
        body = b'{"name": "shop"}'
        made.sql.request(made.node_urls[0], body, path="/cluster/databases")
        yield made
    finally:
        made.stop()


@pytest.mark.full
@pytest.mark.timeout(600)
@pytest.mark.parametrize("number", [0, 1], ids=["primary", "replica"])
def test_programs_do_the_same_on_real_nodes(cluster, number):
    port = cluster.node_urls[number].rpartition(":")[2]
    environment = {**os.environ, "CLIENT_BENCH_PORT": port, "CLIENT_BENCH_TOKEN": cluster.sql.token}
    command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", *map(str, PROGRAMS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stdout[-5000:]
    assert " passed" in done.stdout
