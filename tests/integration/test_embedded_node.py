"""Programs that use Pando as real processes: who runs the node, and what is left when one of them is killed."""

import os
import signal
import socket
import subprocess
import sys

import pytest
from cluster_kit import free_base_port, wait_until
from embedded_kit import READY_S, Program, programs, running

from pando import Pando, PandoError

pytestmark = pytest.mark.slow


@pytest.mark.full  # the examples of docs/python.md do it, too
def test_records_are_there_after_a_restart(tmp_path):
    with programs(tmp_path / "data") as (first,):
        assert first.ask("define", "posts") is None
        made = first.ask("create", "posts", {"title": "hello"})
        assert set(running(tmp_path / "data")) == {"supervisor", "store", "applier"}
        first.end()
        assert running(tmp_path / "data") == {}, "the node stops before its program does"
    with programs(tmp_path / "data") as (again,):
        assert again.ask("view", "posts", made["id"]) == made


@pytest.mark.full  # the workers of test_embedded_asgi do the same behind a server
def test_several_programs_share_one_node_and_outlive_each_other(tmp_path):
    with programs(tmp_path / "data", 3) as (first, second, third):
        supervisor = running(tmp_path / "data")["supervisor"]
        first.ask("define", "posts")
        for number, one in enumerate([first, second, third]):
            one.ask("create", "posts", {"title": str(number)})
        first.kill()
        second.end()
        assert sorted(each["title"] for each in third.ask("full_list", "posts")) == ["0", "1", "2"]
        third.ask("create", "posts", {"title": "3"})
        assert running(tmp_path / "data")["supervisor"] == supervisor, "those that are left went on with the same node"


def test_kills_of_the_node_and_of_its_programs_lose_nothing_and_leave_nothing_behind(tmp_path):
    with programs(tmp_path / "data", 2) as (first, second):
        first.ask("define", "posts")
        first.ask("listen", "posts")
        made = [second.ask("create", "posts", {"title": str(number)}) for number in range(10)]
        before = running(tmp_path / "data")
        os.kill(before["supervisor"], signal.SIGKILL)
        for number, one in enumerate([first, second]):
            wait_until(lambda: one.works("create", "posts", {"title": f"after {number}"}), READY_S, "a write")  # noqa: B023
            assert one.ask("view", "posts", made[0]["id"]) == made[0]
        after = running(tmp_path / "data")
        assert not set(before.values()) & set(after.values())
        assert set(after) == set(before)
        made.append(second.ask("create", "posts", {"title": "the last one"}))
        wait_until(lambda: made[-1]["id"] in first.ask("heard"), READY_S, "who listens hears of it")
        written = [each["id"] for each in second.ask("full_list", "posts")]
        assert sorted(first.ask("heard")) == sorted(written), "each of them once, over the kill"
        first.kill()
        second.kill()
    assert running(tmp_path / "data") == {}
    with programs(tmp_path / "data") as (again,):
        found = [each["id"] for each in again.ask("full_list", "posts")]
        assert [each for each in made if each["id"] not in found] == []


@pytest.mark.full  # it waits for the port a while
def test_an_address_that_is_taken_is_told(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        app = Pando(tmp_path / "data", http=f"127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(PandoError, match="cannot be used: Address already in use; choose another") as refused:
            app.sync.sql("SELECT 1")
    assert refused.value.code == "INVALID_SETTING"
    app.sync.close()


def test_what_cannot_start_says_why(tmp_path):
    (tmp_path / "data").write_text("a file, no directory")
    program = Program(tmp_path / "data")
    assert program.process.stdout.read() == ""
    assert program.process.wait(READY_S) == 1
    program.process.stdin.close()
    program.process.stdout.close()


SCRIPT = """
import asyncio, os, sys
from pando import Pando

app = Pando(sys.argv[1])
assert asyncio.run(app.sql("SELECT 1")).value == 1  # a loop that is closed without a word, and another one
assert asyncio.run(app.sql("SELECT 2")).value == 2
app = app.sync
notes = app.send("POST", "/api/collections", body={"name": "notes", "fields": [{"name": "text", "type": "text"}]})
made = app.collection("notes").create({"text": "from the parent"})
if child := os.fork():
    assert os.waitpid(child, 0)[1] == 0
    assert {each.text for each in app.collection("notes").full_list()} == {"from the parent", "from the child"}
    assert app.sql("SELECT count(*) FROM notes").value == 2
    app.close()
    app.close()
    assert app.collection("notes").view(made.id) == made, "a call after the end begins again"
else:
    app.collection("notes").create({"text": "from the child"})
"""


def test_a_script_calls_without_a_loop_also_after_a_fork(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, tmp_path / "data"], capture_output=True, text=True, timeout=READY_S
    )
    assert done.returncode == 0, done.stderr
    wait_until(lambda: not running(tmp_path / "data"), READY_S, "the node's end")


def test_a_replica_passes_writes_to_the_primary_and_knows_them_then(tmp_path):
    port = free_base_port(1)
    secret = "the secret of both nodes"
    url = f"http://127.0.0.1:{port}"
    with (
        programs(tmp_path / "first", http=f"127.0.0.1:{port}", web=1, secret=secret) as (primary,),
        programs(tmp_path / "second", primary=url, secret=secret) as (replica,),
    ):
        primary.ask("define", "posts")
        made = primary.ask("create", "posts", {"title": "one"})
        wait_until(lambda: replica.ask("full_list", "posts") == [made], READY_S, "the replica has it")
        assert "superuser upsert" in replica.ask("create", "posts", {"title": "two"})["message"]
        password = {"password": "correct horse", "passwordConfirm": "correct horse"}
        primary.ask("create", "_superusers", {"email": "su@example.com", **password})
        wait_until(lambda: replica.works("create", "posts", {"title": "two"}), READY_S, "the replica knows of it")
        assert {each["title"] for each in replica.ask("full_list", "posts")} == {"one", "two"}
        refused = replica.ask("create", "posts", {"title": ""})
        assert refused == primary.ask("create", "posts", {"title": ""}) and refused["error"] == "INVALID_REQUEST"
        primary.ask("send", "PATCH", "/api/settings", {"superuserIPs": ["10.1.0.0/16"]})
        assert replica.works("create", "posts", {"title": "a program is no stranger"})
        replica.ask("sql", "CREATE TABLE notes (text)")
        replica.ask("sql", "INSERT INTO notes VALUES (?)", "hello")
        assert (
            replica.ask("sql", "SELECT text FROM notes") == primary.ask("sql", "SELECT text FROM notes") == [["hello"]]
        )


def serve(directory, port):
    command = [sys.executable, "-m", "pando", "serve", "--dir", str(directory), "--http", f"127.0.0.1:{port}"]
    return subprocess.Popen([*command, "--web", "1"], stderr=subprocess.PIPE, text=True)


def until_serving(process):
    while "node.ready" not in (line := process.stderr.readline()):
        assert line, process.wait(READY_S)


def stop(process, number=signal.SIGTERM):
    process.send_signal(number)
    process.communicate(timeout=READY_S)
    return process.returncode


@pytest.mark.full
def test_where_a_program_runs_a_node_no_other_is_served(tmp_path):
    with programs(tmp_path / "data") as (program,):
        second = serve(tmp_path / "data", free_base_port(1))
        _, said = second.communicate(timeout=READY_S)
        assert second.returncode == 1 and "runs a node in this directory already" in said
        assert program.ask("sql", "SELECT 1") == [[1]]


@pytest.mark.full
def test_a_node_that_is_served_is_used_and_never_started_from_here(tmp_path):
    port = free_base_port(1)
    first = serve(tmp_path / "data", port)
    until_serving(first)
    program = Program(tmp_path / "data").ready()
    program.ask("define", "posts")
    made = program.ask("create", "posts", {"title": "hello"})
    stop(first, signal.SIGKILL)
    wait_until(lambda: not running(tmp_path / "data"), READY_S, "its end")
    assert program.ask("view", "posts", made["id"]) == made, "reads need nobody"
    assert program.ask("create", "posts", {"title": "nobody there"})["error"] == "PRIMARY_UNAVAILABLE"
    second = serve(tmp_path / "data", port)
    until_serving(second)
    wait_until(lambda: program.works("create", "posts", {"title": "again"}), READY_S, "the next one is found")
    program.end()
    assert second.poll() is None, "it goes on without the program"
    assert stop(second) == 0


def test_superusers_are_made_beside_a_program(tmp_path):
    with programs(tmp_path / "data") as (program,):
        command = [sys.executable, "-m", "pando", "superuser", "upsert", "su@example.com", "correct horse"]
        done = subprocess.run([*command, "--dir", tmp_path / "data"], capture_output=True, text=True, timeout=READY_S)
        assert done.returncode == 0, done.stderr
        assert [each["email"] for each in program.ask("full_list", "_superusers")] == ["su@example.com"]
