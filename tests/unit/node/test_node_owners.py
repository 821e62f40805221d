"""Connections that keep a node running, on the supervisor's side."""

import io
import select
import socket

import msgspec
import pytest

from pando.errors import NotReady
from pando.node.embedded import _Deaf
from pando.node.owners import NodeFacts, Owners, tell_failure


@pytest.fixture
def path(tmp_path):
    return tmp_path / "owners.sock"


def connect(path):
    found = socket.socket(socket.AF_UNIX)
    found.settimeout(20)
    try:
        found.connect(str(path))
    except OSError:
        found.close()
        raise
    return found


def look(owners):
    readable, _, _ = select.select(owners.watched, [], [], 20)
    return owners.look(readable)


def hello(connection):
    return msgspec.json.decode(connection.recv(4096), type=NodeFacts)


def test_who_connects_hears_who_the_node_is(path):
    facts = NodeFacts(pid=7, url="http://a", is_owned=True)
    owners = Owners(path, facts)
    with connect(path) as one:
        look(owners)
        assert hello(one) == facts
    owners.close()


def test_an_owned_node_is_abandoned_when_the_last_one_goes(path):
    ours, theirs = socket.socketpair()
    owners = Owners(path, NodeFacts(is_owned=True), first=theirs)
    assert not owners.is_abandoned
    second = connect(path)
    look(owners)
    ours.close()
    assert look(owners) == [] and not owners.is_abandoned
    second.close()
    gone = look(owners)
    assert len(gone) == 1 and owners.is_abandoned
    gone[0].close()
    owners.close()


def test_who_goes_first_is_told_at_once_who_goes_last_when_the_node_has_stopped(path):
    owners = Owners(path, NodeFacts(is_owned=True))
    first, last = connect(path), connect(path)
    look(owners)
    look(owners)
    for one in (first, last):
        hello(one)
    first.shutdown(socket.SHUT_WR)
    assert look(owners) == []
    assert first.recv(1) == b""
    last.shutdown(socket.SHUT_WR)
    (waiting,) = look(owners)
    assert select.select([last], [], [], 0)[0] == []
    waiting.close()
    assert last.recv(1) == b""
    for one in (owners, first, last):
        one.close()


def test_a_node_of_its_own_is_never_abandoned(path):
    owners = Owners(path, NodeFacts(pid=1))
    with connect(path):
        look(owners)
    look(owners)
    assert not owners.is_abandoned
    owners.close()


def test_a_child_has_none_of_it(path):
    ours, theirs = socket.socketpair()
    owners = Owners(path, NodeFacts(), first=theirs)
    owners.forget()
    hello(ours)
    assert ours.recv(1) == b""
    ours.close()
    with pytest.raises(ConnectionRefusedError):
        connect(path)


def test_a_failure_is_told_to_who_started_it():
    ours, theirs = socket.socketpair()
    with ours, theirs:
        tell_failure(theirs, NotReady("another one runs"))
        assert hello(ours) == NodeFacts(error="another one runs", code="NOT_READY")


def test_standard_error_that_nobody_reads_ends_nothing():
    class Broken(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

        def flush(self):
            raise BrokenPipeError

    deaf = _Deaf(Broken())
    assert deaf.write("abc") == 3
    deaf.flush()
    kept = io.StringIO()
    _Deaf(kept).write("abc")
    assert kept.getvalue() == "abc"
