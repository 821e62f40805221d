import asyncio

import pytest

from pando.errors import BookmarkTimeout
from pando.sql.visibility import Visibility


class Store:
    """A node whose commits become visible when the test says so."""

    def __init__(self):
        self.shown = (1, 0)
        self.asked = []
        self.clock = 0.0
        self._changed = asyncio.Condition()
        self.is_broken = False

    def monotonic(self):
        return self.clock

    async def wait_position(self, database, epoch, txid, timeout_s):
        self.asked.append((database, (epoch, txid)))
        if self.is_broken:
            raise BookmarkTimeout("not now")
        async with self._changed:
            await self._changed.wait_for(lambda: self.shown >= (epoch, txid) or self.is_broken)
        if self.shown < (epoch, txid):
            raise BookmarkTimeout("not in time")

    async def show(self, place, *, broken=False):
        async with self._changed:
            self.shown, self.is_broken = place, broken
            self._changed.notify_all()


async def several_turns():
    for _ in range(20):
        await asyncio.sleep(0)


def begin(waits, store, place, database="data", timeout_s=1.0):
    return asyncio.ensure_future(waits.until(database, place, lambda: store.shown, timeout_s))


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 10))


def test_one_question_serves_all_that_became_visible_together():
    async def scenario():
        store = Store()
        waits = Visibility(store, store)
        tasks = [begin(waits, store, (1, number)) for number in (3, 4, 5, 9)]
        await several_turns()
        assert store.asked == [("data", (1, 3))]
        await store.show((1, 5))
        assert await asyncio.gather(*tasks[:3]) == [True, True, True]
        await several_turns()
        assert not tasks[3].done()
        assert store.asked == [("data", (1, 3)), ("data", (1, 9))]
        await store.show((2, 0))
        assert await tasks[3]

    run(scenario())


def test_databases_wait_for_themselves_and_a_wait_after_the_last_asks_again():
    async def scenario():
        store = Store()
        waits = Visibility(store, store)
        tasks = [begin(waits, store, (1, 1), name) for name in ("one", "two")]
        await several_turns()
        assert store.asked == [("one", (1, 1)), ("two", (1, 1))]
        await store.show((1, 1))
        assert await asyncio.gather(*tasks) == [True, True]
        later = begin(waits, store, (1, 2), "one")
        await several_turns()
        assert store.asked[-1] == ("one", (1, 2))
        await store.show((1, 2))
        assert await later

    run(scenario())


def test_who_waits_in_vain_is_told_so_and_the_others_go_on():
    async def scenario():
        store = Store()
        waits = Visibility(store, store)
        first, second = begin(waits, store, (1, 1)), begin(waits, store, (1, 2), timeout_s=5.0)
        await several_turns()
        store.clock = 2.0
        await store.show((1, 0), broken=True)
        assert not await first
        assert not await second
        third = begin(waits, store, (1, 2))
        assert not await third
        store.is_broken = False
        fourth = begin(waits, store, (1, 2))
        await several_turns()
        await store.show((1, 2))
        assert await fourth

    run(scenario())


def test_time_that_is_over_asks_nothing():
    async def scenario():
        store = Store()
        assert not await begin(Visibility(store, store), store, (1, 1), timeout_s=0.0)
        assert store.asked == []

    run(scenario())


def test_a_wait_that_is_cancelled_does_not_hold_up_the_others():
    async def scenario():
        store = Store()
        waits = Visibility(store, store)
        first, second = begin(waits, store, (1, 1)), begin(waits, store, (1, 2))
        await several_turns()
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        await store.show((1, 2))
        assert await second

    run(scenario())
