"""A primary's store that is told to stop: what reached it is answered or refused, and replicas show all of it."""

import asyncio

import pytest
from store_world import Store

from pando.store import protocol
from pando.testing.waiting import until

pytestmark = pytest.mark.slow

CREATE = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"
INSERT = "INSERT INTO t (v) VALUES (?)"


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 50))


def test_every_write_is_answered_or_refused_and_the_replica_shows_those_that_were_answered(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            await primary.client.sql(CREATE)
            async with Store(tmp_path / "r", upstream=primary) as replica:
                await until(lambda: primary.server.confirming.keeping_up("data"))
                client, answers = primary.client, []

                async def write():
                    for number in range(10_000):
                        answers.append(await client.sql((INSERT, (number,))))
                        if isinstance(answers[-1], protocol.Refused):
                            return

                writers = [asyncio.ensure_future(write()) for _ in range(8)]
                await until(lambda: len(answers) > 100)
                primary.server.stop()
                await asyncio.gather(*writers)  # each has its answer
                refused = [answer for answer in answers if isinstance(answer, protocol.Refused)]
                assert {(answer.code, answer.retryable) for answer in refused} == {("PRIMARY_UNAVAILABLE", True)}
                assert client.topologies[-1].stopping and not client.topologies[-1].ready
                client.link.close()
                await primary.task
                last = max(answer.txid for answer in answers if isinstance(answer, protocol.Ran))
                assert replica.server.catalog.get("data").shown.txid >= last

    run(scenario())


def test_a_transaction_that_is_open_is_rolled_back(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            await primary.client.sql(CREATE)
            await primary.client.sql("BEGIN", (INSERT, (1,)), session=3)
            primary.server.stop()
            await until(lambda: primary.client.topologies[-1].stopping)
            refused = await primary.client.sql("COMMIT", session=3)
            assert (refused.code, refused.retryable) == ("PRIMARY_UNAVAILABLE", True)
        async with Store(tmp_path / "p") as again:
            assert (await again.client.sql("SELECT count(*) FROM t")).results[0].rows == [(0,)]

    run(scenario())
