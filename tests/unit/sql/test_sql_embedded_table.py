"""Generations and names that are written down come back, and a number is given once."""

import asyncio
import sqlite3

import pytest

from pando.sql.embedded_generations import LINE_SPACING, Chain, Generation
from pando.sql.embedded_table import KEPT_MAX, GenerationTable
from pando.sql.system import TABLES
from pando.types import TXID, Checksum, Epoch


class System:
    """The system database, in memory."""

    def __init__(self):
        self.connection = sqlite3.connect(":memory:")
        for text in TABLES.values():
            self.connection.execute(text)
        self.durability = []

    async def rows(self, text, *args):
        return self.connection.execute(text, args).fetchall()

    async def write(self, statements, durability=""):
        self.durability.append(durability)
        for statement in statements:
            self.connection.execute(statement.sql, statement.args)


@pytest.fixture
def system():
    made = System()
    yield made
    made.connection.close()


def generation(number, txid=5, *, is_first=False):
    return Generation(number, Epoch(2), TXID(txid), Checksum((1 << 64) - 3), is_first)


def test_generations_come_back(system):
    async def scenario():
        table = GenerationTable(system)
        await table.add("data", generation(10, is_first=True))
        await table.add("data", generation(11, 9))
        await table.add("data", generation(11, 1000))
        await table.add("other", generation(11))
        chain = await table.chain("data", 10)
        assert chain.by_number == {10: generation(10, is_first=True), 11: generation(11, 9)}, "a number is given once"
        assert (await table.newest("data")).newest_line() == generation(11, 9)
        assert (await table.newest("none")).newest_line() is None
        assert set(system.durability) == {"quorum"}

    asyncio.run(scenario())


def test_old_generations_go(system):
    async def scenario():
        table = GenerationTable(system)
        for number in range(KEPT_MAX + 5):
            await table.add("data", generation(number + 1))
        assert len((await table.chain("data", 0)).by_number) == KEPT_MAX + 1

    asyncio.run(scenario())


def test_a_name_is_given_once_and_forgotten_with_its_database(system):
    async def scenario():
        table = GenerationTable(system)
        assert await table.log_id("data") is None
        assert await table.make_log_id("data", "a") == await table.make_log_id("data", "b") == "a"
        await table.add("data", generation(1))
        await table.forget("data")
        assert await table.log_id("data") is None
        assert (await table.chain("data", 0)).by_number == {}
        count = len(system.durability)
        await table.forget("data")
        assert len(system.durability) == count, "nothing to forget is no write"

    asyncio.run(scenario())


def test_lines_do_not_run_into_each_other():
    chain = Chain([generation(10, is_first=True), generation(11), generation(12, is_first=True)])
    assert chain.top(10) == 11
    assert chain.following(11) is None
    assert chain.first_of_new_line(5) == 12 + LINE_SPACING
    assert chain.first_of_new_line(1 << 31) == 1 << 31
    assert Chain().first_of_new_line(77) == LINE_SPACING
