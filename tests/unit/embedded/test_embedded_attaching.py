"""Finding a node that runs, losing it and finding the next one; starting one is for tests with real processes."""

import asyncio
import contextlib
import os
import select
import socket
import threading
import warnings

import pytest

from pando.embedded.attaching import Attachment, NodeOptions, _failure, _hello, own_lock
from pando.embedded.sites import INDEX_FIRST, _first, claim_index
from pando.errors import InternalError, InvalidSetting, NotReady, PandoError
from pando.log import EventLog
from pando.node.owners import NodeFacts, Owners
from pando.node.runtime import Runtime, sockets_directory
from pando.settings import load_settings
from pando.store.files import FileLock
from pando.testing.waiting import until

WAIT_S = 20.0


class Supervisor:
    """The part of one that owners talk to, in a thread."""

    def __init__(self, directory, **facts):
        self._owners = Owners(sockets_directory(directory) / "owners.sock", NodeFacts(**facts))
        self._reading, self._writing = socket.socketpair()
        self.leaving = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        while True:
            readable, _, _ = select.select([self._reading, *self._owners.watched], [], [])
            self.leaving += self._owners.look(readable)
            if self._reading in readable or (self._owners.is_abandoned and self.leaving):
                break
        self._owners.close()
        for one in [self._reading, *self.leaving]:
            one.close()

    def end(self):
        with contextlib.suppress(OSError):
            self._writing.send(b"x")
        self._thread.join(WAIT_S)
        self._writing.close()
        assert not self._thread.is_alive()


@pytest.fixture
def attachment(tmp_path):
    lines = []
    options = NodeOptions(directory=tmp_path, flags={}, secret="", has_port=False)
    made = Attachment(options, EventLog("test", write=lines.append))
    made.lines = lines
    yield made
    made.detach()


def test_a_node_that_runs_is_found_once_and_let_go(tmp_path, attachment):
    node = Supervisor(tmp_path, pid=7, url="http://a", is_owned=True)
    assert attachment.attach() == attachment.attach() == NodeFacts(pid=7, url="http://a", is_owned=True)
    attachment.detach()
    assert len(node.leaving) == 1, "it was told, and has ended"
    node.end()
    assert attachment.lines == []


def test_a_node_that_goes_is_found_again_when_it_comes_back(tmp_path, attachment):
    first = Supervisor(tmp_path, pid=1)
    attachment.attach()
    first.end()
    second = Supervisor(tmp_path, pid=2)
    try:
        wait_for(lambda: attachment.facts.pid == 2)
        assert "process.died" in attachment.lines[0]
    finally:
        attachment.detach()
        second.end()


def wait_for(condition):
    asyncio.run(until(condition, WAIT_S))


def in_a_child(work):
    """What a function gives, a number, when a child of a fork calls it"""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of threads, which the child has no use for
        child = os.fork()
    if not child:
        with contextlib.suppress(BaseException):
            os.write(writing, b"%d" % work())
        os._exit(0)
    os.close(writing)
    found = os.read(reading, 10)
    os.close(reading)
    assert os.waitpid(child, 0)[1] == 0
    return int(found)


def test_a_child_finds_the_node_by_itself(tmp_path, attachment):
    node = Supervisor(tmp_path, pid=1)
    attachment.attach()

    def attached():
        facts = attachment.attach()
        attachment.detach()
        return facts.pid

    assert in_a_child(attached) == 1
    assert attachment.attach().pid == 1
    attachment.detach()
    node.end()


def test_a_child_holds_none_of_its_parents_locks(tmp_path):
    lock, other = own_lock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert lock.try_acquire()
    assert in_a_child(lambda: lock.is_held) == 0
    assert in_a_child(other.try_acquire) == 0, "the parent holds it still"
    lock.release()
    assert in_a_child(other.try_acquire) == 1


@pytest.mark.parametrize(
    ("facts", "kind", "words"),
    [
        (None, NotReady, "standard error"),
        (NodeFacts(error="the port is taken", code="INVALID_SETTING"), InvalidSetting, "the port is taken"),
        (NodeFacts(error="x", code="SOMETHING"), PandoError, "x"),
    ],
)
def test_a_start_that_failed_says_why(facts, kind, words):
    error = _failure(facts)
    assert type(error) is kind and words in error.message


@pytest.mark.parametrize("data", [b"", b"no json\n", b'{"pid": "x"}\n', b"x" * 100_000])
def test_what_is_no_supervisor_is_not_taken_for_one(data):
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.settimeout(WAIT_S)
        sending = threading.Thread(target=lambda: (theirs.sendall(data), theirs.shutdown(socket.SHUT_WR)))
        sending.start()
        assert _hello(ours) is None
        while ours.recv(65536):
            continue
        sending.join(WAIT_S)


def test_a_site_that_fails_while_it_opens_fails_at_once():
    async def never():
        await asyncio.Event().wait()

    async def scenario():
        broken = asyncio.Event()
        asyncio.get_running_loop().call_soon(broken.set)
        await _first(never(), broken)

    with pytest.raises(InternalError, match="standard error"):
        asyncio.run(scenario())


def test_event_loops_have_indexes_of_their_own(tmp_path):
    runtime = Runtime(settings=load_settings(flags={"dir": tmp_path}), secret="", sockets=tmp_path, alive_fd=-1)
    (first, lock), (second, other) = claim_index(runtime), claim_index(runtime)
    assert (first, second) == (INDEX_FIRST, INDEX_FIRST + 1)
    lock.release()
    third, again = claim_index(runtime)
    assert third == first
    for one in (other, again):
        one.release()
