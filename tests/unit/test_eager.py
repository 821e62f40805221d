"""A coroutine that has begun gives its result at once, or goes on as if it had been awaited from the start."""

import asyncio

import pytest

from pando.eager import begun


async def waits(event, *, fails=False):
    for _ in range(2):
        await event.wait()
        await asyncio.sleep(0)
    if fails:
        raise ValueError("in the end")
    return "waited"


def test_what_does_not_wait_is_there_at_once():
    async def at_once():
        return "now"

    async def fails():
        raise ValueError("now")

    assert begun(at_once()) == "now"
    with pytest.raises(ValueError, match="now"):
        begun(fails())


def test_what_waits_goes_on_as_a_task_and_raises_there():
    async def scenario():
        event = asyncio.Event()
        rests = [begun(waits(event)), begun(waits(event, fails=True))]
        tasks = [asyncio.ensure_future(rest) for rest in rests]
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)
        event.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    good, bad = asyncio.run(scenario())
    assert good == "waited"
    assert str(bad) == "in the end"


def test_a_cancellation_reaches_it():
    cleaned = []

    async def cleans_up():
        try:
            await asyncio.Event().wait()
        finally:
            cleaned.append(True)

    async def scenario():
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await begun(cleans_up())

    asyncio.run(scenario())
    assert cleaned == [True]
