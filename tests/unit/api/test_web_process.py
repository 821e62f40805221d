"""A web process of its own, forked as the supervisor does it, on a fake store."""

import asyncio
import http.client
import json
import os
import signal
import socket
import traceback
from contextlib import asynccontextmanager

import apsw
import pytest

from pando.api import web
from pando.node.runtime import Runtime
from pando.node.tokens import make_token
from pando.settings import load_settings
from pando.store.layout import Layout
from pando.store.positions import PositionTable
from pando.store.protocol import Run
from pando.testing.fake_store import FakeStore

SECRET = "the cluster's secret"
INSERT = json.dumps({"requests": [{"type": "execute", "stmt": {"sql": "INSERT INTO t VALUES (1)"}}, {"type": "close"}]})


class Process:
    """The forked process, with the write end of its liveness pipe."""

    def __init__(self, folder):
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = probe.getsockname()[1]
        flags = {"dir": folder, "http": f"127.0.0.1:{self.port}", "log_level": "error"}
        Layout(folder).make_folders()
        table = PositionTable.create(Layout(folder).positions, 8)
        table.claim(0, 1)
        table.close()
        database = apsw.Connection(str(folder / "data.db"))
        database.execute("PRAGMA journal_mode=WAL; CREATE TABLE t(a)").fetchall()
        database.close()
        reading, self.alive = os.pipe()
        runtime = Runtime(settings=load_settings(flags=flags), secret=SECRET, sockets=folder, alive_fd=reading)
        self.key = runtime.link_key
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self.alive)
            try:
                web.main(runtime, 0, 1)
            except BaseException:
                traceback.print_exc()
                raise
            finally:
                os._exit(9)
        os.close(reading)

    def ask(self, method, path, body=None):
        """Ask over TCP; gives status and JSON, or None when nobody listens yet."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request(method, path, body, {"authorization": f"Bearer {make_token(SECRET)}"})
            response = connection.getresponse()
            return response.status, json.loads(response.read())
        except ConnectionError:
            return None
        finally:
            connection.close()

    def ended(self):
        """The exit status once it has ended."""
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if pid else None


async def until(condition, expected):
    """Ask in a thread, so that the fake store can answer, until the answer is the expected one."""
    async with asyncio.timeout(15):
        while (found := await asyncio.to_thread(condition)) != expected:
            assert found != 9
    return found


@asynccontextmanager
async def fake_store(folder, process, **options):
    store = FakeStore(folder, key=process.key, **options)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


@pytest.mark.slow
def test_a_web_process_serves_once_its_store_does_and_ends_when_told(folder):
    process = Process(folder)

    async def scenario():
        await until(lambda: (process.ask("GET", "/health") or [0])[0], 503)
        assert process.ask("POST", "/v2/pipeline", INSERT)[1]["code"] == "NOT_READY"
        async with fake_store(folder, process) as store:
            await until(lambda: (process.ask("GET", "/health") or [0])[0], 200)
            status, answer = await asyncio.to_thread(process.ask, "POST", "/v2/pipeline", INSERT)
            assert (status, answer["results"][0]["type"]) == (200, "ok")
            assert [type(message) for message in store.received if isinstance(message, Run)] == [Run]
        await until(lambda: (process.ask("GET", "/health") or [0])[0], 503)
        os.kill(process.pid, signal.SIGTERM)
        await until(process.ended, 0)

    asyncio.run(scenario())
    os.close(process.alive)


@pytest.mark.slow
def test_a_web_process_ends_with_its_supervisor(folder):
    process = Process(folder)

    async def scenario():
        await until(lambda: (process.ask("GET", "/health") or [0])[0], 503)
        os.close(process.alive)
        await until(process.ended, 1)

    asyncio.run(scenario())


def test_processes_share_the_port_and_replace_a_stale_unix_socket(folder):
    with web.listen_tcp(("127.0.0.1", 0)) as first:
        address = first.getsockname()
        with web.listen_tcp(address) as second:
            assert second.getsockname() == address
        with pytest.raises(OSError), socket.socket() as stranger:
            stranger.bind(address)
    web.listen_unix(folder / "w").close()
    with web.listen_unix(folder / "w"):
        client = socket.socket(socket.AF_UNIX)
        client.connect(str(folder / "w"))
        client.close()
