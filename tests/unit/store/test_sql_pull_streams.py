"""Answers of `/pull-updates` that are longer than a client stays: nothing of them is left, nothing is held too long."""

import asyncio
import contextlib
import os
from types import SimpleNamespace

import pytest
from pull_client import decode_answer
from store_kit import opened_primary, run, sql, wait_until

from pando.api.http import Request, send_response
from pando.api.pull_updates import PULLS_MAX, PullServices, PullUpdates
from pando.errors import Overloaded
from pando.sql.access import FULL_ACCESS
from pando.sql.notices import Notices
from pando.store.protocol import Opened, Topology


class Store(SimpleNamespace):
    is_primary = True
    topology = Topology("n1", "primary", 1, "", True)

    async def open_database(self, name):
        return Opened(1, self.path, 0, 1)


def pulls_of(node):
    store = Store(path=str(node.layout.database("data")), on_committed=None)
    services = PullServices(
        store=store,
        service=SimpleNamespace(check_copying=lambda call: None, owed=lambda call, visible: None),
        authenticate=lambda headers: FULL_ACCESS,
        positions=node.positions,
        notices=Notices(store),
        layout=node.layout,
    )
    return PullUpdates(services)


def request():
    body = [{"type": "http.request", "body": b""}]

    async def receive():
        return body.pop() if body else {"type": "http.disconnect"}

    return Request({"path": "/pull-updates", "method": "POST", "headers": []}, receive)


def open_images():
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in names if name.endswith(".image")]


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="what is open is listed by Linux only")
def test_a_client_that_goes_in_the_middle_leaves_nothing_open(node):
    async def scenario():
        async with opened_primary(node) as db:
            await db.ask(sql("CREATE TABLE t (v)"))
            await db.ask(sql("INSERT INTO t SELECT randomblob(3000) FROM generate_series(1, 700)"))
            pulls = pulls_of(node)
            whole = b""

            async def take(message):
                nonlocal whole
                whole += message.get("body", b"")

            await send_response(await pulls.handle(request()), take)
            assert len(decode_answer(whole).as_list()) > 700
            left = asyncio.Event()

            async def leave(message):
                if message.get("body"):
                    left.set()
                    await asyncio.Event().wait()

            sending = asyncio.create_task(send_response(await pulls.handle(request()), leave))
            await left.wait()
            assert len(open_images()) == 1
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)
            await wait_until(lambda: not open_images())

            held = [await pulls.handle(request()) for _ in range(PULLS_MAX)]
            with pytest.raises(Overloaded, match="try again later"):
                await pulls.handle(request())
            for response in held:
                await anext(response.stream)
                await response.stream.aclose()
            await send_response(await pulls.handle(request()), take)
            pulls.close()

    run(scenario())
