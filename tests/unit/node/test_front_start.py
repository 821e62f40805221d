"""When a front begins to listen."""

import asyncio

import aiohttp
from fake_http_node import FakeNode, answer

from pando.log import EventLog
from pando.node.front import Front, FrontOptions
from pando.testing.waiting import run, until


def test_it_listens_once_the_first_node_is_well():
    async def scenario():
        late = FakeNode("late", health=answer(b"{}", "503 Service Unavailable"))
        await late.start()
        given = FrontOptions(listen=("127.0.0.1", 0), nodes=(late.url, "http://127.0.0.1:1"), begin_wait_s=60)
        front = Front(given, EventLog("front", write=lambda line: None))
        starting = asyncio.ensure_future(front.start())
        await until(lambda: late.checks >= 2)
        assert not starting.done()
        late.health = answer(b"{}")
        await starting
        async with aiohttp.ClientSession(f"http://127.0.0.1:{front.port}") as client, client.get("/") as found:
            assert await found.text() == "late"
        await front.close()
        await late.die()

    run(scenario())


def test_whoever_wants_it_to_end_does_not_wait_for_nodes():
    async def scenario():
        given = FrontOptions(listen=("127.0.0.1", 0), nodes=("http://127.0.0.1:1",), begin_wait_s=60)
        front = Front(given, EventLog("front", write=lambda line: None))
        end = asyncio.Event()
        end.set()
        await front.start(end)
        await front.close()

    run(scenario())
