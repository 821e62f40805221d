import asyncio
import threading

import pytest

from pando.errors import Overloaded
from pando.records.workers import Workers


class Gate:
    """A function that waits in its thread until it is let go."""

    def __init__(self):
        self.started = threading.Semaphore(0)
        self.opened = threading.Event()

    def __call__(self, result):
        self.started.release()
        assert self.opened.wait(20)
        return result


async def wait_started(gate):
    await asyncio.get_running_loop().run_in_executor(None, gate.started.acquire)


def test_callers_past_the_bound_are_turned_away():
    async def run():
        gate, workers = Gate(), Workers("test", threads=1, waiting_max=1)
        running = asyncio.create_task(workers.run(gate, "first"))
        await wait_started(gate)
        waiting = asyncio.create_task(workers.run(gate, "second"))
        while not workers.waiting:
            await asyncio.sleep(0)
        with pytest.raises(Overloaded) as caught:
            await workers.run(gate, "third")
        gate.opened.set()
        assert (await running, await waiting, workers.waiting) == ("first", "second", 0)
        assert await workers.run(gate, "fourth") == "fourth"
        workers.close()
        return caught.value

    error = asyncio.run(run())
    assert error.retryable and error.status == 503


def test_a_thread_is_busy_until_its_work_ends_though_the_caller_went():
    async def run():
        gate, workers = Gate(), Workers("test", threads=1, waiting_max=0)
        running = asyncio.create_task(workers.run(gate, "first"))
        await wait_started(gate)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        with pytest.raises(Overloaded):
            await workers.run(gate, "second")
        gate.opened.set()
        workers.close()

    asyncio.run(run())


def test_one_who_goes_while_waiting_leaves_nothing_behind():
    async def run():
        gate, workers = Gate(), Workers("test", threads=1, waiting_max=1)
        running = asyncio.create_task(workers.run(gate, "first"))
        await wait_started(gate)
        waiting = asyncio.create_task(workers.run(gate, "second"))
        while not workers.waiting:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert workers.waiting == 0
        gate.opened.set()
        assert await running == "first"
        assert await workers.run(gate, "third") == "third"
        workers.close()

    asyncio.run(run())


def test_waiting_has_a_limit_in_time():
    async def run():
        gate, workers = Gate(), Workers("test", threads=1, waiting_max=5, wait_s=0.001)
        running = asyncio.create_task(workers.run(gate, "first"))
        await wait_started(gate)
        with pytest.raises(Overloaded, match="waited"):
            await workers.run(gate, "second")
        gate.opened.set()
        assert await running == "first"
        workers.close()

    asyncio.run(run())


def test_what_the_function_raises_comes_out_and_frees_the_thread():
    async def run():
        workers = Workers("test", threads=1, waiting_max=0)
        with pytest.raises(ValueError, match="invalid literal"):
            await workers.run(int, "x")
        assert await workers.run(int, "7") == 7
        workers.close()

    asyncio.run(run())
