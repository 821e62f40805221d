"""What a replica hears of databases that are opened for the first time while it connects."""

import asyncio
from types import SimpleNamespace

from pando.clock import system_random
from pando.replication.messages import REPLICATION_VERSION, DatabaseList, Subscribe
from pando.store.confirming import Confirming
from pando.store.files import RealFileSystem
from pando.store.handshake import LinkKind, Peer
from pando.store.layout import Layout
from pando.store.node_state import NodeState
from pando.store.sending import Downstream
from pando.testing.virtual_clock import VirtualClock
from pando.types import EMPTY_CHECKSUM, TXID, Durability, Epoch, Position

FIRST = Position(epoch=Epoch(1), txid=TXID(1), checksum=EMPTY_CHECKSUM)


class Shelf:
    """The catalog of a node with one database, which has no log before it is opened."""

    def __init__(self):
        self.opened = {}

    def names(self):
        return ["data"]

    def get(self, name):
        return self.opened.get(name)

    async def open(self, name):
        return self.opened.setdefault(name, SimpleNamespace(name=name, position=FIRST))


class Wire:
    """A link that keeps what was sent."""

    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)

    def flush_now(self):
        pass

    def close(self, reason):
        raise AssertionError(reason)


def make_downstream(tmp_path, shelf):
    layout, fs, clock = Layout(tmp_path), RealFileSystem(), VirtualClock()
    layout.make_folders()
    state = NodeState.load(fs, layout.node_state, chance=system_random(), node="n1")
    context = SimpleNamespace(layout=layout, fs=fs, clock=clock, state=state, executor=None)
    return Downstream(
        context=context,
        catalog=shelf,
        snapshots=None,
        confirming=Confirming(me="n1", known=[], clock=clock, default=Durability.ASYNC),
        is_primary=True,
        on_stale=lambda _epoch, reason: None,
    )


def names_heard(tmp_path, *, opened):
    """The databases in the lists that a replica gets; the database is opened by others at that moment, or never."""

    async def connect():
        shelf, wire = Shelf(), Wire()
        if opened == "before":
            await shelf.open("data")
        handlers = make_downstream(tmp_path, shelf).accept(wire, Peer(kind=LinkKind.REPLICA, node="n2"))
        if opened == "between":
            await shelf.open("data")
        handlers.on_messages([Subscribe("n2", "http://n2", True, REPLICATION_VERSION, 1)])
        for _ in range(5):
            await asyncio.sleep(0)
        lists = [message for message in wire.sent if isinstance(message, DatabaseList)]
        assert lists[-1].is_complete
        return {name for message in lists for name in message.names}

    return asyncio.run(connect())


def test_a_database_that_was_open_before_is_in_the_list(tmp_path):
    assert names_heard(tmp_path, opened="before") == {"data"}


def test_a_database_that_was_never_opened_is_opened_and_listed(tmp_path):
    assert names_heard(tmp_path, opened="never") == {"data"}


def test_a_database_that_opens_between_the_handshake_and_the_subscription_is_listed(tmp_path):
    assert names_heard(tmp_path, opened="between") == {"data"}
