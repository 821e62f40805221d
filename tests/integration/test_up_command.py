"""`pando up` as a script runs it: lines up to `ready`, a row written anywhere is read everywhere, Ctrl-C ends all."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import urllib.request

import pytest

pytestmark = pytest.mark.slow

NODES = 3


def free_row_of_ports(count):
    for base in range(20_000 + os.getpid() % 5_000 * 5, 60_000, 7):
        try:
            for port in range(base, base + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return base
    raise AssertionError("no free ports")


class Up:
    """The command in a process of its own, with the lines that it printed up to `ready`."""

    def __init__(self, directory, *options):
        self.port = free_row_of_ports(NODES + 1)
        self.front = f"http://127.0.0.1:{self.port}"
        self.addresses = [f"http://127.0.0.1:{self.port + number}" for number in range(NODES + 1)]
        command = [sys.executable, "-m", "pando", "up", "--dir", str(directory), "--http", f"127.0.0.1:{self.port}"]
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        self.lines = []
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))
            if line.startswith("ready "):
                break
        assert self.lines and self.lines[-1] == f"ready {self.front}", self.lines

    def stop(self):
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(timeout=60) == 0

    @property
    def curl(self):
        return next(line for line in self.lines if line.startswith("curl "))

    @property
    def token(self):
        return re.search(r"Bearer ([\w.-]+)", self.curl).group(1)

    def sql(self, url, *statements, bookmark=""):
        """Run statements at one address; gives rows of the last one, and the bookmark of the answer."""
        requests = [{"type": "execute", "stmt": {"sql": sql}} for sql in statements] + [{"type": "close"}]
        headers = {"Authorization": f"Bearer {self.token}"} | ({"Pando-Bookmark": bookmark} if bookmark else {})
        request = urllib.request.Request(f"{url}/v2/pipeline", json.dumps({"requests": requests}).encode(), headers)
        with urllib.request.urlopen(request, timeout=30) as answer:
            results = json.load(answer)["results"]
            assert [result["type"] for result in results] == ["ok"] * len(requests), results
            rows = results[-2]["response"]["result"]["rows"]
            return [[value.get("value") for value in row] for row in rows], answer.headers["Pando-Bookmark"]


@pytest.fixture
def up(tmp_path):
    started = []

    def start(*options):
        started.append(Up(tmp_path / "data", *options))
        return started[-1]

    yield start
    for one in started:
        if one.process.poll() is None:
            one.process.kill()
            one.process.wait()
        one.process.stdout.close()


def test_a_row_written_anywhere_is_read_everywhere_and_survives_a_restart(up):
    first = up("--no-sample", "--nodes", str(NODES))
    first.sql(first.front, "CREATE TABLE t (a TEXT)")
    for address in first.addresses:
        _, bookmark = first.sql(address, f"INSERT INTO t VALUES ('{address}')")
        for other in first.addresses:
            rows, _ = first.sql(other, f"SELECT count(*) FROM t WHERE a = '{address}'", bookmark=bookmark)
            assert rows == [["1"]], f"written at {address}, read at {other}"
    first.stop()
    again = up("--no-sample", "--nodes", str(NODES))
    assert again.sql(again.front, "SELECT count(*) FROM t")[0] == [[str(len(first.addresses))]]
    again.stop()


def test_sample_data_are_there_before_it_says_ready_and_the_query_answers(up):
    one = up("--nodes", "2")
    done = subprocess.run(shlex.split(one.curl), capture_output=True, text=True, timeout=30)
    names = [row[0]["value"] for row in json.loads(done.stdout)["results"][0]["response"]["result"]["rows"]]
    assert names[:3] == ["Beijing", "Moscow", "London"]
    assert one.sql(one.addresses[2], "SELECT count(*) FROM cities")[0] == [["34006"]]
    one.stop()
