"""Notices of commits from real stores: on the primary, on a replica, after faults, and none for who did not ask."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from store_world import Client, Store

from pando.store import protocol
from pando.testing.waiting import turns, until

pytestmark = pytest.mark.slow

CREATE = "CREATE TABLE t (id INTEGER PRIMARY KEY, v)"


class Watcher(Client):
    """A web process that wants to hear of commits."""

    def __init__(self):
        super().__init__()
        self.notices = []

    def _messages(self, messages):
        self.notices += [message for message in messages if isinstance(message, protocol.Committed)]
        super()._messages(messages)

    async def hears_of(self, ran):
        await until(lambda: self.notices and (self.notices[-1].epoch, self.notices[-1].txid) >= (ran.epoch, ran.txid))


async def watcher_of(store, database="data"):
    watcher = await Watcher().dial(store)
    assert isinstance(await watcher.ask(protocol.Watch, database), protocol.Finished)
    return watcher


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario, 60))


def changes_of(store):
    """How many changes readers of a file see. In a process of their own: closing a file here drops SQLite's locks."""
    code = (
        "import sqlite3, sys; c = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True); "
        "print(c.execute('SELECT count(*) FROM _changes').fetchone()[0])"
    )
    return int(subprocess.check_output([sys.executable, "-c", code, store.server.catalog.get("data").path]))


def write_as_another_program(store):
    code = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=10, isolation_level=None); "
        "c.execute('INSERT INTO t (v) VALUES (1)')"
    )
    subprocess.run([sys.executable, "-c", code, store.server.catalog.get("data").path], check=True)


def test_commits_are_told_on_both_nodes_when_they_can_be_read_there(tmp_path):
    async def scenario():
        async with (
            Store(tmp_path / "p", change_feed=frozenset({"data"})) as primary,
            Store(tmp_path / "r", upstream=primary) as replica,
        ):
            await primary.client.sql(CREATE)
            watchers = [await watcher_of(store) for store in (primary, replica)]
            for number in range(5):
                ran = await primary.client.sql(("INSERT INTO t (v) VALUES (?)", (number,)))
                for watcher, store in zip(watchers, (primary, replica), strict=True):
                    await watcher.hears_of(ran)
                    assert changes_of(store) == number + 1
            assert watchers[0].notices[-1].tables == ("t",)
            assert watchers[1].notices[-1].tables == ()
            for watcher in watchers:
                txids = [notice.txid for notice in watcher.notices]
                assert txids == sorted(txids)

    run(scenario())


def test_a_burst_is_few_notices_and_the_last_commit_is_always_told(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as store:
            await store.client.sql(CREATE)
            watcher = await watcher_of(store)
            quiet = await Watcher().dial(store)
            began = asyncio.get_running_loop().time()
            answers = [store.client.sql(("INSERT INTO t (v) VALUES (?)", (n,))) for n in range(2000)]
            ran = max(await asyncio.gather(*answers), key=lambda ran: ran.txid)
            await watcher.hears_of(ran)
            elapsed = asyncio.get_running_loop().time() - began
            assert len(watcher.notices) <= elapsed / 0.002 + 3
            assert quiet.notices == []

    run(scenario())


def test_what_another_program_or_a_large_commit_wrote_is_told(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as store:
            ran = await store.client.sql(CREATE)
            watcher = await watcher_of(store)
            write_as_another_program(store)
            await until(lambda: watcher.notices[-1].txid > ran.txid)
            assert watcher.notices[-1].tables == ()
            store.server.catalog.get("data").history._capture._entry_bytes_max = 1
            base = store.server.catalog.get("data").log.base
            ran = await store.client.sql("INSERT INTO t (v) VALUES (2)")
            await watcher.hears_of(ran)
            assert store.server.catalog.get("data").log.base != base, "no entry leads to this commit"

    run(scenario())


def test_a_watch_outlives_the_applier_and_ends_with_the_link_or_when_it_is_taken_back(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as primary:
            await primary.client.sql(CREATE)
            async with Store(tmp_path / "r", upstream=primary) as replica:
                watcher = await watcher_of(replica)
                os.kill(replica.applier.pid, signal.SIGKILL)
                replica.applier.wait(5)
                replica.applier.stdin.close()
                ran = await primary.client.sql("INSERT INTO t (v) VALUES (1)")
                replica.start_applier()
                await watcher.hears_of(ran)
                await watcher.ask(protocol.Watch, "data", False)
                told = len(watcher.notices)
                other = await watcher_of(replica)
                ran = await primary.client.sql("INSERT INTO t (v) VALUES (2)")
                await other.hears_of(ran)
                assert len(watcher.notices) == told
                other.link.close()
                await until(lambda: not replica.server.watching._watchers)

    run(scenario())


def test_a_database_that_is_made_later_is_told_of_when_it_is_there(tmp_path):
    async def scenario():
        async with Store(tmp_path / "p") as store:
            watcher = await watcher_of(store, "shop")
            await turns(20)
            assert watcher.notices == []
            await store.client.ask(protocol.CreateDatabase, "shop")
            ran = await store.client.sql(CREATE, database="shop")
            await watcher.hears_of(ran)
            assert {notice.database for notice in watcher.notices} == {"shop"}

    run(scenario())
