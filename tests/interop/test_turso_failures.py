"""Files that Turso's clients sync survive what happens to nodes: kills at any time, a history that is replaced."""

import json
import os
import signal
import sqlite3
import subprocess
import threading
import time
import urllib.request

import pytest
from client_packages import need_npm_package, need_pypi_package
from served_nodes import served_nodes
from test_turso_clients import CLIENTS, NPM_SYNC, PYTHON_SYNC, module_of

pytestmark = [pytest.mark.interop, pytest.mark.full, pytest.mark.timeout(600)]

ROW = 2000
"""Bytes of a value."""


@pytest.fixture
def nodes(tmp_path):
    with served_nodes(tmp_path / "nodes-of-this-test") as started:
        yield started


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "nodes-of-this-test").mkdir()


class Program:
    """A program with a file of its own; each step is a process."""

    def __init__(self, nodes, path):
        self.nodes = nodes
        self.path = path
        self.python = need_pypi_package(*PYTHON_SYNC)

    def start(self, role, word, *statements):
        command = [
            self.python,
            CLIENTS / "turso_sync_step.py",
            f"http://{self.nodes.addresses[role]}",
            self.nodes.token,
        ]
        whole = [*map(str, command), str(self.path), word, *statements]
        return subprocess.Popen(whole, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def step(self, role, word, *statements):
        return self.end(self.start(role, word, *statements))

    @staticmethod
    def end(process):
        said, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-2000:]
        return json.loads(said)


def kill(nodes, role):
    """Kill every process of a node at once."""
    for pid in json.loads((nodes.folder / role / ".pando" / "processes.json").read_text()).values():
        os.kill(pid, signal.SIGKILL)
    nodes.processes[role].kill()
    nodes.processes[role].wait(20)


def insert(count):
    return f"INSERT INTO t (v) SELECT randomblob({ROW}) FROM generate_series(1, {count})"


def whole(count, **more):
    return {"rows": [count, count * ROW, count], "whole": True, **more}


def test_steps_before_and_after_kills_of_both_nodes(nodes, tmp_path):
    one, two = Program(nodes, tmp_path / "one.db"), Program(nodes, tmp_path / "two.db")
    assert one.step("primary", "push", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", insert(500)) == whole(500)
    assert two.step("replica", "none") == whole(500)

    kill(nodes, "replica")
    assert one.step("primary", "push", insert(10)) == whole(510)
    refused = two.step("replica", "pull")
    assert "error" in refused
    nodes.start("replica")
    nodes.wait_for_rows("replica", "SELECT count(*) FROM t", [["510"]])
    assert two.step("replica", "pull") == whole(510, pulled=True)

    kill(nodes, "primary")
    assert two.step("replica", "pull", insert(10)) == whole(520, pulled=False), "its own rows stay its own"
    assert "error" in two.step("replica", "push"), "nobody takes the write"
    nodes.start("primary")
    deadline = time.monotonic() + 30
    while "error" in (said := two.step("replica", "push")):
        assert time.monotonic() < deadline, said
    assert one.step("primary", "pull") == whole(520, pulled=True)
    assert one.step("replica", "push+pull", insert(1))["rows"] == [521, 521 * ROW, 521]
    assert two.step("primary", "pull") == whole(521, pulled=True)
    for role in ("primary", "replica"):
        nodes.wait_for_rows(role, "SELECT count(*), max(id) FROM t", [["521", "521"]])


@pytest.mark.parametrize("role", ["primary", "replica"])
def test_a_kill_while_a_large_database_is_loaded(nodes, tmp_path, role):
    """The client never takes a part for the whole."""
    maker = Program(nodes, tmp_path / "maker.db")
    nodes.rows("primary", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    for _ in range(8):
        nodes.rows("primary", insert(5000))
    nodes.wait_for_rows(role, "SELECT count(*) FROM t", [["40000"]], timeout_s=60)
    broken = 0
    for attempt in range(4):
        program = Program(nodes, tmp_path / f"{attempt}.db")
        loading = program.start(role, "none")
        wait_for_pages(loading, program.path, (attempt + 1) << 22)
        kill(nodes, role)
        said = Program.end(loading)
        broken += "error" in said
        assert "error" in said or said == whole(40_000)
        nodes.start(role)
        nodes.wait_for_rows(role, "SELECT count(*) FROM t", [["40000"]], timeout_s=60)
        assert program.step(role, "none") == whole(40_000)
    assert broken, "one of the kills came while the pages did"
    assert maker.step(role, "none", insert(5))["rows"][0] == 40_005


def wait_for_pages(loading, path, size):
    """Wait until the file has so many bytes, or its program ended."""
    deadline = time.monotonic() + 20
    while loading.poll() is None and size_of(path) < size and time.monotonic() < deadline:
        time.sleep(0.001)


def size_of(path):
    """Bytes on disk: the client makes the file as long as it will be at first."""
    return path.stat().st_blocks * 512 if path.exists() else 0


@pytest.mark.parametrize("role", ["primary", "replica"])
def test_files_are_whole_however_much_is_written_meanwhile(nodes, tmp_path, role):
    nodes.rows("primary", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    nodes.rows("primary", insert(3000))
    nodes.wait_for_rows(role, "SELECT count(*) FROM t", [["3000"]], timeout_s=60)
    ends = threading.Event()

    def write():
        while not ends.is_set():
            nodes.rows("primary", insert(1))

    writers = [threading.Thread(target=write) for _ in range(4)]
    for writer in writers:
        writer.start()
    try:
        before = 0
        for attempt in range(6):
            program = Program(nodes, tmp_path / f"{attempt}.db")
            for word in ("none", "pull", "pull"):
                said = program.step(role, word)
                count = said["rows"][0]
                assert said == {**said, **whole(count)} and count >= max(3000, before)
                before = count
    finally:
        ends.set()
        for writer in writers:
            writer.join()
    assert before > 3000, "something was written meanwhile"


def replace_database(nodes, path):
    """Give the database another content, and so another history."""
    url = f"http://{nodes.addresses['primary']}/cluster/import?name=data&replace=true"
    request = urllib.request.Request(url, path.read_bytes(), {"Authorization": f"Bearer {nodes.token}"})
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 201


def test_a_replaced_history_replaces_the_pages_of_clients(nodes, tmp_path):

    one = Program(nodes, tmp_path / "one.db")
    assert one.step("primary", "push", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)", insert(300)) == whole(300)
    assert one.step("primary", "pull") == whole(300, pulled=True)  # now it knows that its changes are there
    database = sqlite3.connect(tmp_path / "other.db")
    database.execute("CREATE TABLE other (a)")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    database.executemany("INSERT INTO t (v) VALUES (?)", [(bytes(ROW),)] * 40)
    database.commit()
    database.close()
    replace_database(nodes, tmp_path / "other.db")
    nodes.wait_for_rows("replica", "SELECT count(*) FROM t", [["40"]])
    for role in ("replica", "primary"):
        assert one.step(role, "pull")["rows"] == [40, 40 * ROW, 40]
    assert one.step("replica", "push+pull", insert(2)) == whole(42, pulled=True)


def test_npm_client_takes_a_replaced_history(nodes, tmp_path):

    package = need_npm_package(*NPM_SYNC)
    program = tmp_path / "step.mjs"
    program.write_text(NPM_STEP)
    command = [
        "node",
        program,
        module_of(package),
        f"http://{nodes.addresses['replica']}",
        nodes.token,
        tmp_path / "n.db",
    ]

    def step(sql):
        done = subprocess.run([*map(str, command), sql], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr[-2000:]
        return json.loads(done.stdout)

    nodes.rows("primary", "CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    nodes.rows("primary", insert(100))
    assert step("INSERT INTO t VALUES (1000, 'own')") == [101, 1000, "ok"]
    database = sqlite3.connect(tmp_path / "other.db")
    database.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    database.execute("INSERT INTO t VALUES (7, 7)")
    database.commit()
    database.close()
    replace_database(nodes, tmp_path / "other.db")
    nodes.wait_for_rows("replica", "SELECT count(*) FROM t", [["1"]])
    assert step("INSERT INTO t VALUES (8, 8)") == [2, 8, "ok"]


NPM_STEP = """
const [module, url, authToken, path, sql] = process.argv.slice(2);
const { connect } = await import(module);
const db = await connect({ path, url, authToken, clientName: "step" });
await db.pull();
await db.exec(sql);
await db.push();
await db.pull();
const rows = await (await db.prepare("SELECT count(*) AS n, max(id) AS m FROM t")).all();
const check = await (await db.prepare("PRAGMA integrity_check")).all();
console.log(JSON.stringify([rows[0].n, rows[0].m, Object.values(check[0])[0]]));
process.exit(0);
"""
