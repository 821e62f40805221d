"""After each commit the log's entries, applied by a plain model, must give what SQLite shows to readers."""

import asyncio
import random

import apsw
import pytest
from store_kit import Node, check_copy, image_of, opened_primary, read_pages, run, script

from pando.store.protocol import Ran
from pando.testing.sql_histories import SETUP, RandomSql


def make_file(path, page_size, auto_vacuum):
    connection = apsw.Connection(str(path))
    connection.execute(f"PRAGMA page_size={page_size}")
    connection.execute(f"PRAGMA auto_vacuum={auto_vacuum}")
    connection.execute("CREATE TABLE made (a)")
    connection.close()


async def walk(node, directory, *, seed, steps, big=200_000, check_every=1):
    rng = random.Random(seed)
    sqls = RandomSql(rng, big=big)
    async with opened_primary(node) as db:
        db.database._connection.execute("PRAGMA cache_size=8")
        image = image_of(db.database, directory)
        taken = 0
        for number in range(steps):
            text = "; ".join(SETUP) if not number else sqls.step()
            answer = await db.send(script(text))
            assert isinstance(answer, Ran), answer
            if rng.random() < 0.1:
                await db.database.checkpointer.finish()
            await asyncio.sleep(0)
            for entry in db.entries[taken:]:
                image.apply(entry)
            taken = len(db.entries)
            assert answer.txid == taken + 1
            if number % check_every == 0:
                assert image.pages == image_of(db.database, directory).pages, f"after step {number}: {text[:200]}"
        assert image.checksum == db.database.position.checksum
        check_copy(db.database, directory)
        db.assert_one_answer_each()
    pages, _ = read_pages(node.layout.database("data"))
    assert pages == image.pages


@pytest.mark.slow
@pytest.mark.parametrize("auto_vacuum", [0, 1, 2])
@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_random_histories(tmp_path, page_size, auto_vacuum):
    node = Node(tmp_path / "node")
    make_file(node.layout.database("data"), page_size, auto_vacuum)
    big = max(60_000, page_size * 40)
    run(walk(node, tmp_path, seed=page_size + auto_vacuum, steps=60, big=big))
    node.close()


@pytest.mark.full
@pytest.mark.parametrize("seed", range(40))
def test_many_random_histories(tmp_path, seed):
    rng = random.Random(seed)
    node = Node(tmp_path / "node")
    make_file(node.layout.database("data"), 512 << rng.randrange(8), rng.randrange(3))
    run(walk(node, tmp_path, seed=seed, steps=200, big=rng.choice([20_000, 200_000, 2_000_000]), check_every=5))
    node.close()


def test_a_short_random_history(tmp_path):
    node = Node(tmp_path / "node")
    make_file(node.layout.database("data"), 1024, 2)
    run(walk(node, tmp_path, seed=5, steps=12, big=30_000, check_every=4))
    node.close()
