"""Work in a thread is waited for even when nobody wants it any more, since what it uses is removed afterwards."""

import asyncio
import threading

import pytest

from pando.api.threads import in_thread


def test_results_and_errors_come_back():
    async def scenario():
        assert await in_thread(pow, 2, 3, mod=5) == 3
        with pytest.raises(ZeroDivisionError):
            await in_thread(divmod, 1, 0)

    asyncio.run(scenario())


@pytest.mark.parametrize("fails", [False, True])
def test_who_is_cancelled_ends_after_the_work(fails):
    may_end, events = threading.Event(), []

    def work():
        events.append("begun")
        may_end.wait(20)
        events.append("ended")
        if fails:
            raise ValueError("too late")

    async def scenario():
        task = asyncio.create_task(in_thread(work))
        while not events:
            await asyncio.sleep(0)
        for _ in range(3):
            task.cancel()
            await asyncio.sleep(0)
        assert not task.done()
        may_end.set()
        with pytest.raises(asyncio.CancelledError):
            await task
        events.append("cancelled")

    asyncio.run(asyncio.wait_for(scenario(), 20))
    assert events == ["begun", "ended", "cancelled"]
