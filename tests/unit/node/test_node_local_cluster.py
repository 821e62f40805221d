import json
import os
import signal
import socket
import stat
import subprocess
import sys
import textwrap
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest

from pando.errors import InvalidSetting, NotReady, PandoError
from pando.node.local_cluster import LOG_SIZE_MAX, LocalCluster
from pando.node.tokens import Authenticator

FAKE = (sys.executable, str(Path(__file__).with_name("fake_serve.py")))


def free_base_port(count):
    """A port with `count` free ones after it, below those that systems give to outgoing connections."""
    for base in range(11_000 + os.getpid() % 2000 * 8, 32_000, count + 1):
        taken = [socket.socket() for _ in range(count + 1)]
        try:
            for number, probe in enumerate(taken):
                probe.bind(("127.0.0.1", base + number))
        except OSError:
            continue
        finally:
            for probe in taken:
                probe.close()
        return base
    raise AssertionError("no free ports")


def wait_until(condition, seconds=15, meanwhile=lambda: None):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        meanwhile()
        time.sleep(0.02)


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def ask(url):
    try:
        with urllib.request.urlopen(url + "/facts", timeout=5) as answer:
            return json.load(answer)
    except (OSError, urllib.error.URLError):
        return {}


def make(directory, nodes=2, **more):
    more.setdefault("http", f"127.0.0.1:{free_base_port(nodes)}")
    return LocalCluster(directory, nodes=nodes, serve=FAKE, **more)


@contextmanager
def running(cluster):
    cluster.start(20)
    try:
        yield cluster
    finally:
        cluster.stop()


# -- what needs no process --------------------------------------------------------------------------------------------


def test_addresses_are_the_ports_in_a_row(tmp_path):
    cluster = LocalCluster(tmp_path, nodes=2, http="0.0.0.0:7000")
    assert [cluster.front_url, *cluster.node_urls] == [f"http://127.0.0.1:{port}" for port in (7000, 7001, 7002)]


@pytest.mark.parametrize("http", ["nonsense", "127.0.0.1:65535", "127.0.0.1:x"])
def test_an_address_that_cannot_be_is_refused(tmp_path, http):
    with pytest.raises(InvalidSetting):
        LocalCluster(tmp_path, nodes=2, http=http)


def test_the_secret_is_made_once_with_a_mode_for_us_alone(tmp_path):
    secret = LocalCluster(tmp_path, environ={}).secret
    assert LocalCluster(tmp_path, environ={}).secret == secret
    assert stat.S_IMODE((tmp_path / ".pando" / "secret").stat().st_mode) == 0o600


@pytest.mark.parametrize("name", ["PANDO_SECRET", "JWT_SECRET"])
def test_a_secret_of_the_environment_wins_as_it_does_for_commands(tmp_path, name):
    cluster = LocalCluster(tmp_path, environ={name: "from outside"})
    assert cluster.secret == "from outside"
    access = Authenticator("from outside").authenticate_admin(
        [(b"authorization", f"Bearer {cluster.token()}".encode())]
    )
    assert access.is_admin


def test_a_taken_port_is_named(tmp_path):
    base = free_base_port(2)
    with socket.create_server(("127.0.0.1", base + 1)):
        cluster = make(tmp_path, http=f"127.0.0.1:{base}", clock=HurriedClock())
        with pytest.raises(InvalidSetting, match=str(base + 1)):
            cluster.start()


class HurriedClock:
    """Every look at it is a second later: waiting for what does not come takes no time."""

    def __init__(self):
        self.now = 0.0

    def monotonic(self):
        self.now += 1.0
        return self.now

    def wall_ms(self):
        return 0


# -- with processes ---------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_nodes_are_started_with_what_they_need_and_nothing_else(tmp_path):
    outside = dict(os.environ) | {"PANDO_PRIMARY": "http://elsewhere:1", "DATA_DIR": "/elsewhere", "KEPT": "yes"}
    with running(make(tmp_path, environ=outside, flags=["--durability", "quorum"])) as cluster:
        first, second = (ask(url) for url in cluster.node_urls)
        assert first["flags"]["--node"] == "node1"
        assert "--primary" not in first["flags"]
        assert second["flags"]["--primary"] == cluster.node_urls[0]
        assert second["flags"]["--dir"] == str(tmp_path / "node2")
        assert (second["flags"]["--voters"], second["flags"]["--durability"]) == ("2", "quorum")
        for environment in (first["environment"], second["environment"]):
            assert environment["PANDO_SECRET"] == cluster.secret
            assert environment["KEPT"] == "yes"
            assert not {"PANDO_PRIMARY", "DATA_DIR"} & set(environment)
        for pid in (first["pid"], cluster.front_pid):
            assert cluster.secret.encode() not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert cluster.secret.encode() not in Path(f"/proc/{cluster.front_pid}/environ").read_bytes()


@pytest.mark.slow
def test_what_is_killed_runs_again_within_a_second(tmp_path):
    with running(make(tmp_path)) as cluster:
        before = [cluster.front_pid, *(node.supervisor.pid for node in cluster.nodes)]
        cluster.nodes[1].kill("supervisor")
        os.kill(cluster.front_pid, signal.SIGKILL)
        wait_until(lambda: cluster.front_pid not in (0, before[0]), 1, cluster.poll)
        wait_until(lambda: cluster.nodes[1].supervisor.pid not in (0, before[2]), 1, cluster.poll)
        wait_until(lambda: ask(cluster.front_url), meanwhile=cluster.poll)
        assert cluster.restarts() == {cluster.front_url: 1, cluster.node_urls[0]: 0, cluster.node_urls[1]: 1}
        assert cluster.nodes[0].supervisor.pid == before[1]


@pytest.mark.slow
def test_the_front_spreads_over_the_nodes(tmp_path):
    with running(make(tmp_path)) as cluster:
        wait_until(lambda: len({ask(cluster.front_url)["pid"] for _ in range(4)}) == 2)


@pytest.mark.slow
def test_stopping_ends_everything_and_starting_again_goes_on(tmp_path):
    cluster = make(tmp_path)
    with running(cluster):
        pids = [cluster.front_pid, *(node.supervisor.pid for node in cluster.nodes)]
        secret = cluster.secret
    assert not any(is_alive(pid) for pid in pids)
    cluster.stop()  # again does no harm
    with running(cluster):
        assert cluster.secret == secret
        assert ask(cluster.node_urls[1])["environment"]["PANDO_SECRET"] == secret


@pytest.mark.slow
def test_a_second_cluster_on_the_directory_is_refused(tmp_path):
    with running(make(tmp_path)) as cluster, pytest.raises(NotReady, match=str(os.getpid())):
        make(tmp_path, http=f"127.0.0.1:{free_base_port(2)}").start()
    assert cluster.front_pid == 0


@pytest.mark.slow
def test_a_node_that_does_not_start_says_why(tmp_path):
    cluster = make(tmp_path, flags=["--log-level", "error"])
    with pytest.raises(PandoError, match="no such luck"):
        cluster.start(20)
    assert cluster.front_pid == 0


@pytest.mark.slow
def test_a_large_log_is_put_aside(tmp_path):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "node1.log").write_bytes(b"x" * (LOG_SIZE_MAX + 1))
    with running(make(tmp_path)):
        assert (tmp_path / "logs" / "node1.log").stat().st_size < LOG_SIZE_MAX
        assert (tmp_path / "logs" / "node1.old.log").stat().st_size > LOG_SIZE_MAX


@pytest.mark.slow
def test_kill_9_of_the_owner_ends_all_processes(tmp_path):
    script = f"""
        import sys
        from pathlib import Path
        from pando.node.local_cluster import LocalCluster
        cluster = LocalCluster(Path({str(tmp_path)!r}), nodes=2, http="127.0.0.1:{free_base_port(2)}", serve={FAKE!r})
        cluster.start(20)
        print(cluster.front_pid, *(node.supervisor.pid for node in cluster.nodes), flush=True)
        sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        pids = [int(pid) for pid in owner.stdout.readline().split()]
        assert len(pids) == 3 and all(map(is_alive, pids))
        owner.kill()
        wait_until(lambda: not any(map(is_alive, pids)), 5)
