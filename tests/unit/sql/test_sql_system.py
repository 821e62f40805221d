"""The system database as one process sees it: made by writing only, read again when it has moved."""

import asyncio
import io

import pytest
from service_bench import Node

from pando.errors import DatabaseExists, NotReady, SqlError
from pando.log import EventLog
from pando.sql.config import NO_CONFIG, DatabaseConfig, decode_config, encode_config
from pando.sql.notices import Notices
from pando.sql.system import SystemDatabase
from pando.store.protocol import Committed
from pando.store.requests import Statement
from pando.testing.waiting import until
from pando.types import SYSTEM_DATABASE

PUT = "INSERT INTO databases VALUES (?, ?, 1)"


class Source:
    """What the links of a node are to a SystemDatabase."""

    def __init__(self, store):
        self.store = store
        self.on_committed = None
        self.watched = []
        self.made = 0

    async def create_database(self, name):
        self.made += 1
        if name in self.store._databases:
            raise DatabaseExists(name)
        self.store.create(name)

    def watch(self, database):
        self.watched.append(database)

    def unwatch(self, database):
        self.watched.remove(database)


class World:
    def __init__(self, directory, *, is_primary=True):
        self.node = Node(directory, is_primary=is_primary)
        self.source = Source(self.node.store)
        self.lines = io.StringIO()
        log = EventLog("web", write=self.lines.write)
        self.system = SystemDatabase(self.node.service, self.source, Notices(self.source), log, poll_s=60.0)

    def run(self, work):
        return self.node.run(work)

    def put(self, name, config):
        text = config if isinstance(config, str) else encode_config(config)
        self.run(self.system.write([Statement(PUT, (name, text))]))


@pytest.fixture
def world(tmp_path):
    made = World(tmp_path)
    yield made
    made.node.close()


def test_reading_makes_nothing(world):
    world.run(world.system.look())
    assert world.run(world.system.rows("SELECT * FROM databases")) == []
    assert world.system.config("shop") is NO_CONFIG
    assert world.source.made == 0
    assert SYSTEM_DATABASE not in world.node.store._databases


def test_the_first_write_makes_it_and_what_it_says_holds_at_once(world):
    world.put("shop", DatabaseConfig(block_writes=True, block_reason="moving"))
    assert world.system.config("shop").block_reason == "moving"
    world.put("other", DatabaseConfig(max_db_size=5))
    assert world.system.config("other").max_db_size == 5
    assert world.system.config("shop").block_writes, "the earlier one holds on"
    assert world.source.made == 1


def test_somebody_else_may_have_made_it_meanwhile(world):
    world.node.store.create(SYSTEM_DATABASE)
    world.put("shop", DatabaseConfig(block_reads=True))
    assert world.system.config("shop").block_reads


def test_a_write_that_fails_changes_nothing(world):
    world.put("shop", DatabaseConfig(block_reads=True))
    with pytest.raises(SqlError, match="UNIQUE"):
        world.run(
            world.system.write([Statement(PUT, ("a", "{}")), Statement(PUT, ("shop", "{}")), Statement(PUT, ("b", ""))])
        )
    assert world.run(world.system.rows("SELECT name FROM databases")) == [("shop",)]


def test_revoked_tokens_are_known(world):
    insert = "INSERT INTO tokens VALUES (?, 'ci', 'rw', NULL, 1, NULL, ?)"
    world.run(world.system.write([Statement(insert, ("one", 5)), Statement(insert, ("two", None))]))
    assert world.system.snapshot.revoked == {"one"}


def test_a_text_that_cannot_be_read_leaves_what_was_known(world):
    world.put("shop", DatabaseConfig(block_reads=True))
    world.run(world.system.write([Statement("UPDATE databases SET config = '[' WHERE name = 'shop'")]))
    assert world.system.config("shop").block_reads
    assert "config.unreadable" in world.lines.getvalue()


def test_many_configurations_are_read_in_pages(world):
    rows = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 4001) "
    text = "INSERT INTO databases " + rows + "SELECT printf('d%05d', i), '{\"max_db_size\":7}', 1 FROM n"
    world.run(world.system.write([Statement(text)]))
    assert len(world.system.snapshot.configs) == 4001
    assert world.system.config("d04001").max_db_size == 7


def test_a_notice_has_it_looked_at_and_listeners_hear_of_what_is_new(tmp_path):
    world = World(tmp_path, is_primary=False)
    heard = []

    async def play():
        world.system.subscribe(heard.append)
        keeping_up = asyncio.create_task(world.system.run())
        await until(lambda: world.source.watched == [SYSTEM_DATABASE])
        database = world.node.store.create(SYSTEM_DATABASE, "CREATE TABLE databases(name, config, changed)")
        database.writer.execute("INSERT INTO databases VALUES ('shop', '{\"block_reads\":true}', 1)")
        database.txid += 1
        world.node.store.replicate(SYSTEM_DATABASE)
        world.source.on_committed(Committed(SYSTEM_DATABASE, 1, 2))
        await until(lambda: world.system.config("shop").block_reads)
        keeping_up.cancel()
        await asyncio.gather(keeping_up, return_exceptions=True)

    world.run(play())
    world.node.close()
    assert [len(snapshot.configs) for snapshot in heard] == [0, 1]
    assert world.source.watched == []


def test_what_was_known_holds_while_it_cannot_be_read(world):
    world.put("shop", DatabaseConfig(block_reads=True))
    world.node.service.forget_database(SYSTEM_DATABASE)
    world.node.store.fail_open = NotReady("the store is away")
    with pytest.raises(NotReady):
        world.run(world.system.look())
    assert world.system.config("shop").block_reads


def test_a_configuration_survives_its_text():
    config = DatabaseConfig(
        block_writes=True, block_reason="x", max_db_size=1 << 40, txn_timeout_s=2.5, freshness="strong"
    )
    assert decode_config(encode_config(config)) == config
    assert decode_config("{}") == NO_CONFIG
    assert decode_config('{"of_a_newer_version": 1, "block_reads": true}') == DatabaseConfig(block_reads=True)


def test_the_store_is_asked_while_somebody_listens():
    source = Source(None)
    notices = Notices(source)
    first, second = [], []
    notices.listen("a", first.append)
    notices.listen("a", second.append)
    source.on_committed(Committed("a", 1, 1))
    source.on_committed(Committed("b", 1, 1))
    notices.unlisten("a", second.append)
    assert source.watched == ["a"]
    source.on_committed(Committed("a", 1, 2))
    notices.unlisten("a", first.append)
    notices.unlisten("a", first.append)
    assert source.watched == []
    assert [notice.txid for notice in first] == [1, 2]
    assert [notice.txid for notice in second] == [1]
