"""A relay on loopback that changes the requests of clients which cannot be told what not to ask for."""

import asyncio
import contextlib
import threading


class Relay:
    """Passes connections on; `changes` are made in each piece from a client that begins a GET request."""

    def __init__(self, target, changes):
        self._host, port = target.rsplit(":", 1)
        self._port = int(port)
        self._changes = changes
        self.address = ""

    async def serve(self, ready, until):
        server = await asyncio.start_server(self._hold, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        ready.set()
        await until.wait()
        server.close()

    async def _hold(self, reader, writer):
        upstream_reader, upstream_writer = await asyncio.open_connection(self._host, self._port)
        await asyncio.gather(
            self._pass(reader, upstream_writer, self._changed), self._pass(upstream_reader, writer, lambda data: data)
        )

    def _changed(self, data):
        if data.startswith(b"GET "):
            for old, new in self._changes:
                data = data.replace(old, new)
        return data

    async def _pass(self, reader, writer, change):
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(change(data))
                await writer.drain()
        with contextlib.suppress(OSError, RuntimeError):
            writer.close()


@contextlib.contextmanager
def relay(target, changes):
    """Give the address of a relay to another address; it ends afterwards."""
    ready, made, held = threading.Event(), Relay(target, changes), {}

    async def main():
        held["loop"], held["until"] = asyncio.get_running_loop(), asyncio.Event()
        await made.serve(ready, held["until"])

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield made.address
    finally:
        held["loop"].call_soon_threadsafe(held["until"].set)
        thread.join(20)
