"""The order of a write: about, COMMIT, log, fsync, visible, answer; and all kinds of work at the same time."""

import asyncio
import random

import apsw
import pytest
from store_kit import Client, Node, check_copy, image_of, opened_primary, run, script, sql, wait_until

from pando.errors import PandoError
from pando.store.protocol import Ran
from pando.testing.flaky_files import FlakyFileSystem, Pause


class Recorder:
    """Writes down what happens to a database, in order."""

    def __init__(self, node, db):
        self.events = []
        self.table = node.positions
        self.db = db
        engine = db.database.writer._engine
        self.commits = engine.commits
        table, events = node.positions, self.events

        def committed(connection, name, frames):
            engine.commits += 1
            history = db.database.history
            about = table.about(0)[1]
            assert about > history.position.txid, "a commit became visible that was not announced"
            events.append(("commit", history.position.txid + 1))
            return apsw.SQLITE_OK

        db.database._connection.set_wal_hook(committed)
        visible = table.publish_visible

        def publish_visible(slot, epoch, txid, checksum):
            assert txid <= db.database.log.durable.txid, "visible before it is durable"
            events.append(("visible", txid))
            visible(slot, epoch, txid, checksum)

        table.publish_visible = publish_visible
        node.fs.hook = lambda operation, path: events.append((operation, path.suffix))

    def answered(self, ran):
        assert ran.txid <= self.db.database.log.durable.txid, "answered before it is durable"
        assert ran.txid <= self.table.visible(0)[1]
        self.events.append(("answer", ran.txid))


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path / "node", fs=FlakyFileSystem())
    yield node
    node.close()


@pytest.mark.parametrize("kind", ["group", "solo", "session"])
def test_the_steps_of_one_write(node, kind):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            recorder = Recorder(node, db)
            n = db.database.position.txid + 1
            if kind == "session":
                await db.ask(sql("BEGIN"), sql("INSERT INTO t VALUES (1)"), session=3)
                assert not recorder.events
                answer = await db.ask(sql("COMMIT"), session=3)
            elif kind == "solo":
                answer = await db.ask(sql("PRAGMA foreign_keys = 0"), sql("INSERT INTO t VALUES (1)"))
            else:
                answer = await db.ask(sql("INSERT INTO t VALUES (1)"))
            recorder.answered(answer)
            assert recorder.events == [
                ("commit", n), ("write", ".log"), ("fdatasync", ".log"), ("visible", n), ("answer", n),
            ]  # fmt: skip
            node.fs.hook = None

    run(scenario())


def test_the_announcement_of_a_running_commit_outlives_the_sync_of_an_earlier_one(node):
    async def scenario():
        async with opened_primary(node, group_max=4) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            pause = node.fs.hook = Pause("fdatasync")
            answers = [db.send(sql("INSERT INTO t VALUES (1)")) for _ in range(20)]
            await wait_until(pause.reached.is_set)
            long = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) INSERT INTO t SELECT i FROM n"
            running = db.send(sql(long))
            await wait_until(lambda: db.database.writer._running is not None)
            announced = db.database.position.txid, node.positions.about(0)[1]
            pause.go()
            assert all([isinstance(await answer, Ran) for answer in answers])
            assert node.positions.about(0)[1] == db.database.position.txid + 1 >= announced[1]
            db.database.cancel(1, db.client.ids)
            await running
            assert node.positions.about(0)[1] == db.database.position.txid

    run(scenario())


def test_a_commit_that_fails_takes_its_announcement_back(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v UNIQUE)"))
            await db.ask(sql("PRAGMA foreign_keys = 1"), sql("SELECT 1"))
            for text in (
                "INSERT INTO t VALUES (1), (1)",
                "SELECT nothing",
                "INSERT OR ROLLBACK INTO t VALUES (2), (2)",
            ):
                await db.send(sql(text))
                assert node.positions.about(0)[1] == node.positions.visible(0)[1] == db.database.position.txid

    run(scenario())


class Mixture:
    """Clients of every kind at once, and what each may rely on."""

    def __init__(self, db, rng):
        self.db, self.rng = db, rng
        self.kept, self.undone = set(), set()
        self.value = 0

    def next(self):
        self.value += 1
        return self.value

    async def single(self, client):
        value = self.next()
        answer = await client.send(sql("INSERT INTO t VALUES (?)", value))
        self.note(value, isinstance(answer, Ran))

    async def alone(self, client):
        value = self.next()
        answer = await client.send(sql("PRAGMA foreign_keys = 1"), sql("INSERT INTO t VALUES (?)", value))
        self.note(value, isinstance(answer, Ran))

    async def undo(self, client):
        value = self.next()
        await client.send(script(f"BEGIN; INSERT INTO t VALUES ({value}); ROLLBACK"))
        self.undone.add(value)

    async def slow(self, client):
        value = self.next()
        text = "INSERT INTO t WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60000) "
        answer = await client.send(sql(text + f"SELECT {value} FROM n WHERE i = 60000"))
        self.note(value, isinstance(answer, Ran))

    async def session(self, client):
        number, value = self.next() + 1000, self.next()
        steps = [sql("BEGIN"), sql("INSERT INTO t VALUES (?)", value), sql(self.rng.choice(["COMMIT", "ROLLBACK"]))]
        if self.rng.random() < 0.3:
            answers = [client.send(step, session=number) for step in steps]  # without waiting
            answers = [await answer for answer in answers]
        else:
            answers = [await client.send(step, session=number) for step in steps]
        if steps[-1].statement.sql == "ROLLBACK" or any(isinstance(answer, PandoError) for answer in answers[:2]):
            self.undone.add(value)
        else:
            self.note(value, isinstance(answers[-1], Ran) and answers[-1].is_autocommit)

    async def leaves(self, _client):
        link, value = self.next() + 1_000_000, self.next()
        gone = Client(self.db.database, link=link)
        answer = gone.send(sql("BEGIN"), sql("INSERT INTO t VALUES (?)", value), session=1)
        if self.rng.random() < 0.5:
            await answer
        self.db.database.end_link(link)
        self.undone.add(value)

    async def cancels(self, client):
        value = self.next()
        text = f"INSERT INTO t WITH RECURSIVE n (i) AS (SELECT {value} UNION ALL SELECT i FROM n) SELECT i FROM n"
        answer = client.send(sql(text))
        number = client.ids
        await asyncio.sleep(0)
        client.database.cancel(client.link, number)
        assert isinstance(await answer, PandoError | Ran)

    async def holds(self, _client):
        await self.db.database.writer.hold()
        assert self.db.database.history.is_settled
        self.db.database.writer.release()

    async def checkpoint(self, _client):
        await self.db.database.checkpointer.finish()

    def note(self, value, is_kept):
        if is_kept:
            self.kept.add(value)

    async def client(self, steps):
        client = Client(self.db.database, link=self.next())
        kinds = [self.single] * 6 + [self.alone, self.undo, self.slow, self.session, self.session, self.leaves]
        kinds += [self.cancels, self.holds, self.checkpoint]
        for _ in range(steps):
            await self.rng.choice(kinds)(client)
        client.assert_one_answer_each()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_everything_at_the_same_time(node, tmp_path, seed):
    async def scenario():
        async with opened_primary(node, group_max=6, transaction_s=0.5, capture_inline_bytes=2000) as db:
            await db.ask(sql("CREATE TABLE t (v UNIQUE)"))
            image, taken = image_of(db.database, tmp_path), len(db.entries)
            await asyncio.sleep(0)
            taken = len(db.entries)
            mixture = Mixture(db, random.Random(seed))
            db.database.checkpointer._pages_due = db.database.checkpointer._due = 20
            await asyncio.gather(*[mixture.client(25) for _ in range(16)])
            await db.ask(sql("SELECT 1"))
            await asyncio.sleep(0)
            values = {value for (value,) in await db.rows("SELECT v FROM t")}
            assert mixture.kept <= values
            assert not mixture.undone & values
            for entry in db.entries[taken:]:
                image.apply(entry)
            assert image.pages == image_of(db.database, tmp_path).pages
            assert image.checksum == db.database.position.checksum
            check_copy(db.database, tmp_path)
            assert db.database.writer.is_idle

    run(scenario())
