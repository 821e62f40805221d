"""Answers by version, on the real table of positions and a real file: what a basis says against what is there."""

import asyncio
import tempfile
from pathlib import Path

import apsw
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.clock import SystemClock
from pando.sql.basis import Bases, Basis
from pando.sql.readers import ReadPool
from pando.store.positions import PositionTable
from pando.store.protocol import Opened
from pando.types import Checksum

QUERIES = (
    "SELECT count(*) FROM a",
    "SELECT max(v) FROM d",
    "SELECT count(*) FROM both",
    "SELECT (SELECT count(*) FROM a) + (SELECT count(*) FROM d)",
    "SELECT 1",
)


class World:
    """A database file whose writer publishes as a store does, and a process that keeps answers.

    The tables `a` and `d` have different words in the table of positions.
    """

    def __init__(self, directory):
        self.path = str(Path(directory) / "data.db")
        self.writer = apsw.Connection(self.path)
        self.writer.execute("PRAGMA journal_mode=wal; CREATE TABLE a (v); CREATE TABLE d (v);").fetchall()
        self.writer.execute("CREATE VIEW both AS SELECT v FROM a")
        self.table = PositionTable.create(Path(directory) / "positions", 2)
        self.generation, self.epoch, self.txid = 1, 1, 1000
        self.table.claim(0, self.generation)
        self.begin()
        self.pool = ReadPool(self, self.table, SystemClock())
        self.bases = Bases(self.pool, self.table, "data")
        self.kept = []

    async def open_database(self, _name):
        return Opened(0, self.path, 0, self.generation)

    def begin(self):
        self.table.publish_tables(0, self.txid)
        self.table.publish_about(0, self.txid, self.epoch)
        self.visible()

    def visible(self):
        self.table.publish_visible(0, self.epoch, self.txid, Checksum(1 << 63))

    def query(self, sql):
        return self.writer.execute(sql).fetchall()

    async def ask(self, sql):
        """Answer and keep, as a request would."""
        reads = self.pool.ready("data") or await self.pool.open("data")
        reading = self.bases.reading()
        rows = reads.inline.connection.execute(sql).fetchall()
        reading.note(sql)
        basis = reading.basis()
        if basis is not None:
            self.kept.append((sql, basis, rows))
        return basis

    def check(self):
        for sql, basis, rows in self.kept:
            if self.bases.holds(basis):
                assert rows == self.query(sql), sql

    def commit(self, script, tables, *, fails=False):
        """Publish, commit and publish, with a look at what is kept after each step."""
        self.table.publish_tables(0, self.txid + 1, tables)
        self.check()
        self.table.publish_about(0, self.txid + 1)
        if fails:
            self.table.publish_about(0, self.txid)
            self.check()
            return
        self.writer.execute(script)
        self.check()
        self.txid += 1
        self.visible()
        self.check()

    def close(self):
        self.pool.close()
        self.writer.close()
        self.table.close()


def in_world(steps):
    with tempfile.TemporaryDirectory() as directory:
        world = World(directory)
        try:
            return asyncio.run(steps(world))
        finally:
            world.close()


def test_an_answer_holds_until_one_of_its_tables_changes():
    async def steps(world):
        of_a, of_b, of_none = [await world.ask(QUERIES[number]) for number in (0, 1, 4)]
        world.commit("INSERT INTO a VALUES (1)", ("a",))
        assert [world.bases.holds(each) for each in (of_a, of_b, of_none)] == [False, True, True]
        assert world.bases.holds(await world.ask(QUERIES[0]))
        world.commit("DROP VIEW both; CREATE VIEW both AS SELECT v FROM d", ())
        assert not any(world.bases.holds(each) for each in (of_a, of_b, of_none))

    in_world(steps)


def test_nothing_is_kept_while_one_of_its_tables_is_changing():
    async def steps(world):
        await world.ask(QUERIES[0])
        world.table.publish_tables(0, world.txid + 1, ("a",))
        world.table.publish_about(0, world.txid + 1)
        assert await world.ask(QUERIES[0]) is None
        assert await world.ask(QUERIES[1]) is not None
        world.txid += 1
        world.visible()
        assert await world.ask(QUERIES[0]) is not None

    in_world(steps)


def test_what_changed_between_two_queries_of_one_answer_is_noticed():
    async def steps(world):
        await world.pool.open("data")
        reading = world.bases.reading()
        reading.note(QUERIES[0])
        world.commit("INSERT INTO a VALUES (1)", ("a",))
        reading.note(QUERIES[1])
        assert reading.basis() is None

    in_world(steps)


def test_what_was_read_before_counts_as_well():
    async def steps(world):
        of_a = await world.ask(QUERIES[0])
        reading = world.bases.reading()
        reading.note(QUERIES[1])
        reading.include(of_a)
        basis = reading.basis()
        world.commit("INSERT INTO a VALUES (1)", ("a",))
        assert not world.bases.holds(basis)
        again = world.bases.reading()
        again.include(None)
        assert again.basis() is None

    in_world(steps)


def test_before_a_database_is_open_nothing_is_known():
    async def steps(world):
        reading = world.bases.reading()
        reading.note(QUERIES[0])
        assert reading.basis() is None
        assert not world.bases.holds(Basis(1, 1, 99, ()))

    in_world(steps)


@settings(deadline=None)
@given(
    st.lists(
        st.sampled_from(["ask", "ask", "a", "d", "ad", "fails", "schema", "epoch", "generation", "claim"]),
        max_size=40,
    )
)
def test_what_is_kept_is_always_what_would_be_answered_now(names):
    async def steps(world):
        for number, name in enumerate(names):
            if name == "ask":
                for sql in QUERIES:
                    await world.ask(sql)
            elif name == "fails":
                world.commit("", ("a",), fails=True)
            elif name == "schema":
                source = "ad"[number % 2]
                world.commit(f"DROP VIEW both; CREATE VIEW both AS SELECT v FROM {source}", ())
            elif name == "epoch":
                world.epoch += 1
                world.txid -= 3
                world.writer.execute(f"INSERT INTO a VALUES ({number})")
                world.begin()
            elif name in ("generation", "claim"):
                world.generation += 1
                (world.table.renew if name == "generation" else world.table.claim)(0, world.generation)
                world.begin()
            else:
                script = "".join(f"INSERT INTO {table} VALUES ({number});" for table in name)
                world.commit(script, tuple(name))
            world.check()

    in_world(steps)
