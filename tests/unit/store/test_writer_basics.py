import asyncio

import pytest
from store_kit import Node, check_copy, image_of, opened_primary, run, sql, transaction

from pando.store.protocol import Ran


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path / "node")
    yield node
    node.close()


def test_commands_of_one_turn_share_a_commit(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, k UNIQUE, v)"))
            answers = await asyncio.gather(*[db.send(sql("INSERT INTO t (k) VALUES (?)", n % 5)) for n in range(10)])
            assert len({answer.txid for answer in answers}) == 1
            assert [type(answer.results[0]).__name__ for answer in answers] == ["StatementResult"] * 5 + ["Failure"] * 5
            assert await db.rows("SELECT k FROM t") == [(n,) for n in range(5)]

    run(scenario())


def test_entries_lead_from_image_to_image(node, tmp_path):
    async def scenario():
        async with opened_primary(node) as db:
            image = image_of(db.database, tmp_path)
            assert image.checksum == db.database.position.checksum
            await db.ask(sql("CREATE TABLE t (id INTEGER PRIMARY KEY, v)"))
            await db.ask(transaction("INSERT INTO t (v) VALUES (randomblob(9000))", "DELETE FROM t WHERE id = 7"))
            await db.ask(sql("VACUUM"))
            await asyncio.sleep(0)
            for entry in db.entries:
                image.apply(entry)
            assert image.pages == image_of(db.database, tmp_path).pages
            check_copy(db.database, tmp_path)

    run(scenario())


def test_an_interactive_transaction_keeps_others_out_until_it_ends(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            begun = await db.ask(sql("BEGIN"), session=7)
            assert not begun.is_autocommit
            other = db.send(sql("INSERT INTO t VALUES ('other')"))
            await db.ask(sql("INSERT INTO t VALUES ('in')"), session=7)
            assert not other.done()
            ended = await db.ask(sql("COMMIT"), session=7)
            assert ended.is_autocommit
            assert isinstance(await other, Ran)
            assert await db.rows("SELECT v FROM t") == [("in",), ("other",)]

    run(scenario())
