"""What the README tells people to run, runs: its blocks marked `sh try`, in order, against a node of their own."""

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from pando.clock import SystemClock, sleep_blocking

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
ADDRESS = "127.0.0.1:8090"
BLOCKS = re.findall(r"^```sh try\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
START = re.search(r"^pando serve --dir \./node1 .*$", README, re.MULTILINE).group()
START_REPLICA = re.search(r"^PANDO_SECRET=.* pando serve --dir \./node2 .*$", README, re.MULTILINE).group()


def wait_until_serving(address, process, deadline_s=30.0):
    clock = SystemClock()
    end = clock.monotonic() + deadline_s
    while clock.monotonic() < end:
        assert process.poll() is None, f"the node ended with status {process.returncode}"
        try:
            with urllib.request.urlopen(f"http://{address}/health", timeout=1.0) as answer:
                if answer.status == 200:
                    return
        except OSError:
            sleep_blocking(0.05)
    raise AssertionError(f"nothing serves at {address} after {deadline_s} s")


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Place:
    """A directory, free addresses instead of the README's, and the processes that were started there."""

    def __init__(self, folder):
        self.folder = folder
        self.addresses = {f"127.0.0.1:{port}": f"127.0.0.1:{free_port()}" for port in (8090, 8091)}
        binaries = Path(sys.executable).parent
        self.env = {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "PANDO_URL": f"http://{self.own(ADDRESS)}",
        }
        self._processes = []

    def own(self, text):
        for theirs, ours in self.addresses.items():
            text = text.replace(theirs, ours)
        return text

    def start(self, command, address):
        process = subprocess.Popen(["bash", "-c", f"exec env {self.own(command)}"], cwd=self.folder, env=self.env)
        self._processes.append(process)
        wait_until_serving(self.own(address), process)

    def run(self, script):
        command = ["bash", "-euo", "pipefail", "-c", self.own(script)]
        return subprocess.run(command, cwd=self.folder, env=self.env, capture_output=True, text=True, timeout=60)

    def stop(self):
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    yield made
    made.stop()


@pytest.mark.slow
def test_every_block_runs(place):
    assert len(BLOCKS) >= 2
    place.start(START, ADDRESS)
    for block in BLOCKS:
        done = place.run(block)
        assert done.returncode == 0, f"{block}\n{done.stdout}\n{done.stderr}"
    assert "hello" in place.run(BLOCKS[0]).stdout
    assert '"totalItems":1' in place.run(BLOCKS[1].splitlines()[1] + "\n" + BLOCKS[1].splitlines()[-1]).stdout
    assert (place.folder / "copy.db").read_bytes().startswith(b"SQLite format 3")


@pytest.mark.slow
def test_the_second_node_follows_the_first(place):
    place.start(START, ADDRESS)
    place.start(START_REPLICA, "127.0.0.1:8091")
    assert place.run(BLOCKS[0]).returncode == 0
    done = place.run(
        "pando verify --dir ./node1 --json && pando sql --dir ./node1 127.0.0.1:8091 -c 'SELECT text FROM notes'"
    )
    assert done.returncode == 0, done.stderr
    assert '"equal": true' in done.stdout
    assert done.stdout.endswith("hello\n")
