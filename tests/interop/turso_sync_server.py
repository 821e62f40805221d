"""What the Python suite of Turso's sync wants in `LOCAL_SYNC_SERVER`, started with `--sync-server HOST:PORT`.

It serves a new, empty directory without tokens on 127.0.0.1. The suite takes whatever answers for a ready server,
so the address opens only when the node is. Linux: the node ends with this process, however that ends.
"""

import asyncio
import ctypes
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from served_nodes import START_S, environment, free_port, wait_until_ready

DIE_WITH_PARENT = 1
PIECE_BYTES = 1 << 16


def die_with_parent():
    ctypes.CDLL(None).prctl(DIE_WITH_PARENT, signal.SIGTERM)


async def pipe(reader, writer):
    try:
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def relay(port, address):
    host, _, own_port = address.rpartition(":")

    async def serve(reader, writer):
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pipe(reader, there_writer), pipe(there_reader, writer))

    server = await asyncio.start_server(serve, "127.0.0.1" if host == "0.0.0.0" else host, int(own_port))
    await server.serve_forever()


def wait_until_all_are_ready(log):
    deadline = time.monotonic() + START_S
    while "node.ready" not in log.read_text():
        assert time.monotonic() < deadline, log.read_text()[-2000:]
        time.sleep(0.02)


def main():
    _, address = sys.argv[1:]
    port = free_port()
    with tempfile.TemporaryDirectory(prefix="pando-sync-", ignore_cleanup_errors=True) as folder:
        log = f"{folder}/log"
        command = [sys.executable, "-m", "pando", "serve", "--dir", f"{folder}/node", "--http", f"127.0.0.1:{port}"]
        with open(log, "w") as output:
            node = subprocess.Popen(
                [*command, "--sql-auth", "open"],
                env=environment(),
                stdout=output,
                stderr=output,
                preexec_fn=die_with_parent,
            )
        wait_until_ready(node, f"127.0.0.1:{port}", Path(log))
        wait_until_all_are_ready(Path(log))
        asyncio.run(relay(port, address))


if __name__ == "__main__":
    main()
