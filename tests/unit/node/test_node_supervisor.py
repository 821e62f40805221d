"""The supervisor as a real process with children that do nothing but report."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pando.errors import InvalidSetting, NotReady
from pando.node import supervisor
from pando.node.runtime import Runtime, sockets_directory
from pando.node.supervisor import describe_status, require_port
from pando.settings import load_settings
from pando.store.files import FileLock

SCRIPT = """
import os, select, signal, sys
from pathlib import Path
from pando.node.children import Child
from pando.node.supervisor import run
from pando.settings import load_settings

folder = Path(sys.argv[1])
port = sys.argv[2]


def note(name, what):
    with (folder / "notes").open("a") as file:
        file.write(f"{name} {what} {os.getpid()}\\n")


def runner(name):
    def go(runtime):
        def stop(number, frame):
            note(name, "stopped")
            os._exit(0)

        signal.signal(signal.SIGTERM, stop if name != "stubborn" else signal.SIG_IGN)
        note(name, "runs")
        if name == "broken":
            raise RuntimeError("as told")
        select.select([runtime.alive_fd], [], [])
        note(name, "orphan")
        os._exit(1)

    return go


def children(runtime, count):
    return [Child(name, runner(name)) for name in sys.argv[3:]]


settings = load_settings(flags={"dir": folder / "node", "http": f"127.0.0.1:{port}", "web": 1, "log_format": "json"})
sys.exit(run(settings, make_children=children))
"""
ROLES = ("store", "applier", "web-0")


def wait_until(condition, seconds=15.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come about in time"
        os.sched_yield()


class Node:
    """A supervisor of its own, and what its children noted."""

    def __init__(self, folder: Path, roles=ROLES, **environment):
        self.folder = folder
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        self.roles = roles
        self.environment = environment
        self.started = []
        self.start()

    def start(self, **options):
        command = [sys.executable, "-c", SCRIPT, str(self.folder), str(self.port), *self.roles]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, **self.environment}, **options
            )
        self.started.append(self.process)

    def notes(self):
        path = self.folder / "notes"
        lines = path.read_text().splitlines() if path.exists() else []
        return [(name, what, int(pid)) for name, what, pid in map(str.split, lines)]

    def runs(self, name):
        return [pid for who, what, pid in self.notes() if (who, what) == (name, "runs")]

    def events(self, name):
        lines = (self.folder / "log").read_text().splitlines()
        return [found for line in lines if line.startswith("{") if (found := json.loads(line))["event"] == name]

    def processes(self):
        path = self.folder / "node" / ".pando" / "processes.json"
        return json.loads(path.read_text()) if path.exists() else {}

    def wait_started(self):
        wait_until(lambda: all(self.runs(role) for role in self.roles))

    def end(self):
        for process in self.started:
            process.kill()
            process.wait()


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path)
    yield made
    made.end()


@pytest.mark.slow
def test_children_are_started_listed_and_stopped_in_order(node):
    node.wait_started()
    wait_until(lambda: set(node.processes()) == {"supervisor", *ROLES})
    assert node.processes()["supervisor"] == node.process.pid
    assert {name: pid for name, _, pid in node.notes()} == {k: v for k, v in node.processes().items() if k in ROLES}
    node.process.send_signal(signal.SIGTERM)
    assert node.process.wait(10) == 0
    assert [name for name, what, _ in node.notes() if what == "stopped"] == ["web-0", "store", "applier"]
    assert node.events("node.stopped")


@pytest.mark.slow
def test_a_dead_child_is_started_again_at_once_with_a_new_pid_in_the_list(node):
    node.wait_started()
    for role in ROLES:
        wait_until(lambda role=role: node.processes().get(role) == node.runs(role)[0])
        os.kill(node.processes()[role], signal.SIGKILL)
        wait_until(lambda role=role: len(node.runs(role)) == 2)
        wait_until(lambda role=role: node.processes()[role] == node.runs(role)[1])
    died = node.events("process.died")
    assert [(event["child"], event["status"], event["pause_s"]) for event in died] == [
        (role, "SIGKILL", 0.0) for role in ROLES
    ]


@pytest.mark.slow
def test_children_end_when_the_supervisor_is_killed_and_the_next_one_waits_for_them(node):
    node.wait_started()
    node.process.kill()
    node.process.wait()
    node.start()
    wait_until(lambda: all(len(node.runs(role)) == 2 for role in ROLES))
    orphans = [name for name, what, _ in node.notes() if what == "orphan"]
    assert sorted(orphans) == sorted(ROLES)
    notes = [what for _, what, _ in node.notes()]
    assert notes.index("orphan") < len(notes) - 1 - notes[::-1].index("runs")


@pytest.mark.slow
def test_a_child_that_fails_at_once_is_tried_again_with_growing_pauses(tmp_path):
    node = Node(tmp_path, roles=("broken",))
    try:
        wait_until(lambda: len(node.events("process.died")) >= 4)
        assert [event["pause_s"] for event in node.events("process.died")[:4]] == [0.0, 0.1, 0.2, 0.4]
        assert "RuntimeError: as told" in node.events("process.failed")[0]["error"]
    finally:
        node.end()


@pytest.mark.slow
def test_a_second_supervisor_of_a_directory_is_refused_while_the_first_runs(node):
    node.wait_started()
    lock = FileLock(node.folder / "node" / ".pando" / "lock")
    assert not lock.try_acquire()
    assert lock.holder() == node.process.pid


@pytest.mark.slow
def test_the_end_of_whoever_started_the_node_ends_it(tmp_path):
    reading, writing = os.pipe()
    node = Node.__new__(Node)
    node.folder, node.roles, node.started = tmp_path, ROLES, []
    with socket.create_server(("127.0.0.1", 0)) as probe:
        node.port = probe.getsockname()[1]
    node.environment = {supervisor.ALIVE_VARIABLE: str(reading)}
    node.start(pass_fds=(reading,))
    try:
        node.wait_started()
        os.close(writing)
        assert node.process.wait(10) == 0
        assert [name for name, what, _ in node.notes() if what == "stopped"] == ["web-0", "store", "applier"]
    finally:
        os.close(reading)
        node.end()


def test_a_taken_port_is_an_error_that_names_it():
    class Clock:
        now = 0.0

        def monotonic(self):
            self.now += 10
            return self.now

    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = taken.getsockname()[:2]
        with pytest.raises(InvalidSetting, match=str(address[1])):
            require_port(address, Clock())
    require_port(address, Clock())


def test_statuses_in_words():
    assert describe_status(0) == "exit 0"
    assert describe_status(3 << 8) == "exit 3"
    assert describe_status(9) == "SIGKILL"


def test_a_held_lock_is_an_error_that_names_the_holder(tmp_path):
    class Clock:
        now = 0.0

        def monotonic(self):
            self.now += 20
            return self.now

    (tmp_path / ".pando").mkdir()
    lock = FileLock(tmp_path / ".pando" / "lock")
    assert lock.try_acquire()
    with pytest.raises(NotReady, match=str(os.getpid())):
        supervisor.run(load_settings(flags={"dir": tmp_path}), clock=Clock())
    lock.release()


def test_sockets_have_a_short_path_and_only_we_may_enter(tmp_path):
    folder = sockets_directory(tmp_path / ("long" * 60))
    assert folder == sockets_directory(tmp_path / ("long" * 60))
    assert folder != sockets_directory(tmp_path)
    assert folder.stat().st_mode & 0o777 == 0o700
    runtime = Runtime(settings=load_settings(flags={"dir": tmp_path}), secret="s" * 8, sockets=folder, alive_fd=-1)
    assert len(str(runtime.web_socket(63))) < 100
    assert len(runtime.link_key) == 32
    assert runtime.processes_file == tmp_path / ".pando" / "processes.json"
    folder.rmdir()
