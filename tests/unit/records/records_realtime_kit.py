"""What tests of realtime share: a database that the store's feed writes to, collections, streams that are read."""

import json

import apsw

from pando.records.model import AuthOptions, Collection, CollectionType, Rules, Schema
from pando.records.realtime.changes import Change, Operation
from pando.records.realtime.client_ids import make_client_id
from pando.records.realtime.clients import Registry
from pando.records.realtime.identities import Identity
from pando.records.realtime.topics import check_request
from pando.store.feed import ChangeFeed
from pando.store.statements import Statements
from pando.testing.virtual_clock import VirtualClock

POSTS = Collection(
    id="pbc_posts", name="posts", rules=Rules(list="list rule of @request", view="view rule of @request")
)
SECRETS = Collection(id="pbc_secrets", name="secrets", rules=Rules(list=None, view=None))
USERS = Collection(
    id="pbc_users", name="users", type=CollectionType.AUTH, auth=AuthOptions(), rules=Rules(list="", view="")
)
SCHEMA = Schema((POSTS, SECRETS, USERS))


class Database:
    """A connection with the store's feed on it; its reads count what they give."""

    def __init__(self):
        self.connection = apsw.Connection(":memory:")
        self.clock = VirtualClock()
        self._feed = ChangeFeed(self.connection, self.clock)
        self._statements = Statements(self.connection)
        self.before_query = None
        self.largest = 0

    def run(self, text, *args):
        info = self._statements.get(text)
        self._feed.before_statement()
        self.connection.execute(text, args)
        self._feed.after_statement(info)

    async def query(self, sql, args=()):
        if self.before_query is not None:
            self.before_query(sql)
        rows = self.connection.execute(sql, tuple(args)).fetchall()
        size = sum(len(value) for row in rows for value in row if isinstance(value, (str, bytes)))
        self.largest = max(self.largest, size)
        return rows


def make_id(number, node="node-1", index=0):
    return make_client_id(node, index, number.to_bytes(16, "big"))


def user(record_id="u1", token_key="key", collection_id="pbc_users", **values):
    return Identity(collection_id, record_id, token_key, {"id": record_id, "tokenKey": token_key, **values})


class Streams:
    """A registry with streams whose bytes are read as a client does."""

    def __init__(self):
        self.registry = Registry()
        self.now = 0.0
        self.ready = {}
        self._count = 0

    def connect(self, *, ip="1.1.1.1", place=None):
        self._count += 1
        client_id = make_id(self._count)
        self.ready[client_id] = 0

        def on_ready():
            self.ready[client_id] += 1

        client = self.registry.connect(client_id, ip, self.now, on_ready, place=place)
        assert self.read(client)[0][1] == "PB_CONNECT"
        return client

    def subscribe(self, client, *texts, identity=None, ip="1.1.1.1", seen=0):
        return self.registry.subscribe(client.id, check_request(client.id, texts), identity, ip, seen)

    def read(self, client):
        """Take what waits for a stream: (id, event, data) of each."""
        found = []
        for block in self.registry.take(client, self.now).decode().split("\n\n")[:-1]:
            lines = [line.partition(":") for line in block.split("\n")]
            assert [name for name, _, _ in lines] == ["id", "event", "data"]
            found.append((lines[0][2], lines[1][2], json.loads(lines[2][2])))
        return found


def change(sequence, record_id="r1", *, table="posts", operation="update", old=None, new=None, **values):
    """Make a change of a record whose row is the same before and after, but for what is given."""
    row = {"id": record_id, **values}
    return Change(
        sequence=sequence,
        time_ms=0,
        table=table,
        operation=Operation(operation),
        key=1,
        old_json=None if operation == "insert" else json.dumps(row | (old or {})),
        new_json=None if operation == "delete" else json.dumps(row | (new or {})),
    )
