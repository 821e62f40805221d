"""`pando up` as a script runs it: lines up to `ready`, a row written anywhere is read everywhere, Ctrl-C ends all."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import threading
import urllib.request

import pytest
from cluster_kit import free_base_port

pytestmark = pytest.mark.slow

NODES = 3


class Up:
    """The command in a process of its own, with the lines that it printed up to `ready`."""

    def __init__(self, directory, *options):
        self.port = free_base_port(NODES)
        self.front = f"http://127.0.0.1:{self.port}"
        self.addresses = [f"http://127.0.0.1:{self.port + number}" for number in range(NODES + 1)]
        command = [sys.executable, "-m", "pando", "up", "--dir", str(directory), "--http", f"127.0.0.1:{self.port}"]
        heeded = signal.signal(signal.SIGINT, signal.default_int_handler)  # a run in the background ignores it
        self.process = subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True)
        signal.signal(signal.SIGINT, heeded)
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

    def line(self, part):
        return next(line for line in self.lines if part in line)

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
    cities = shell(one.line("curl -sG "))
    assert [city["name"] for city in cities["items"]][:2] == ["Berlin", "Hamburg"]
    assert cities["items"][0]["expand"]["country"]["name"] == "Germany"
    token = shell(one.line("auth-with-password"))["token"]
    heard = hear(one.line("curl -sN "), lambda: change(f"{one.addresses[2]}{BERLIN}", token, {"population": 7}))
    assert heard == {"action": "update", "record": heard["record"]}
    assert (heard["record"]["id"], heard["record"]["population"]) == ("2950159", 7)
    photo = shell(f"curl -sG {one.front}/api/collections/cities/records -d \"filter=photo!=''\" -d sort=id")["items"][0]
    with urllib.request.urlopen(f"{one.addresses[2]}/api/files/cities/{photo['id']}/{photo['photo']}") as picture:
        assert picture.read(3) == b"\xff\xd8\xff"
    change(f"{one.front}{BERLIN}", token, method="DELETE")
    one.stop()
    again = up("--nodes", "2")
    assert again.sql(again.addresses[2], "SELECT count(*) FROM cities")[0] == [["34005"]]
    assert again.line("auth-with-password").partition(" -d ")[2] == one.line("auth-with-password").partition(" -d ")[2]
    again.stop()


def test_a_superuser_of_a_running_cluster_is_the_primarys(up, tmp_path):
    one = up("--no-sample", "--nodes", "2")
    command = shlex.split(one.line("superuser upsert"))
    assert command[-2:] == ["--dir", str(tmp_path / "data")]
    command[-4:-2] = ["root@example.com", "rootpassword"]
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    signing_in = f"curl -s {one.addresses[2]}/api/collections/_superusers/auth-with-password"
    assert "token" in shell(f"{signing_in} -d identity=root@example.com -d password=rootpassword")
    one.stop()
    command[-3] = "rootpassword2"
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
    again = up("--no-sample", "--nodes", "2")
    signing_in = f"curl -s {again.addresses[2]}/api/collections/_superusers/auth-with-password"
    assert "token" in shell(f"{signing_in} -d identity=root@example.com -d password=rootpassword2")
    again.stop()


BERLIN = "/api/collections/cities/records/2950159"


def shell(line):
    done = subprocess.run(["bash", "-c", line], capture_output=True, text=True, timeout=30)
    return json.loads(done.stdout)


def change(url, token, body=None, *, method="PATCH"):
    headers = {"Authorization": token, "Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode() if body else None, headers, method=method)
    with urllib.request.urlopen(request, timeout=30) as answer:
        assert answer.status in (200, 204)


def hear(line, act):
    """Run a line that shows an event stream, act when it has subscribed; gives the data of the next event."""
    process = subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, text=True, start_new_session=True)
    timer = threading.Timer(60, os.killpg, (process.pid, signal.SIGKILL))
    timer.start()
    try:
        data = (text.removeprefix("data:") for text in process.stdout if text.startswith("data:"))
        assert "clientId" in json.loads(next(data))
        next(process.stdout)  # the end of that event; the answer to the subscription has no text
        acting = threading.Thread(target=repeat, args=(act, found := threading.Event()))
        acting.start()
        try:
            return json.loads(next(data))
        finally:
            found.set()
            acting.join()
    finally:
        timer.cancel()
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


def repeat(act, is_enough):
    """Act now and then: what happens before the subscription is not heard."""
    act()
    while not is_enough.wait(1):
        act()
