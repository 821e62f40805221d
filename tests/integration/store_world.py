"""Stores for tests: StoreServers on this loop, each with a real applier process and a TCP port that hands over."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from pathlib import Path

from pando.clock import SystemClock
from pando.store import protocol
from pando.store.adopt import Giver
from pando.store.handshake import LinkKind
from pando.store.link import make_decoder
from pando.store.link_open import LinkHandlers, dial_unix, new_dialer
from pando.store.primary import PrimaryOptions
from pando.store.receiving import UpstreamOptions
from pando.store.requests import Execute, Statement
from pando.store.server import StoreOptions, StoreServer
from pando.store.writer import WriterOptions
from pando.testing.waiting import turns, until
from pando.types import Durability, Role

KEY = b"k" * 32
APPLIER = (
    "import sys; from pathlib import Path; from pando.store.applier import ApplierOptions, run_applier; "
    "run_applier(ApplierOptions(socket_path=sys.argv[1], directory=Path(sys.argv[2]), "
    "positions_path=Path(sys.argv[3]), alive_fd=0))"
)


class Client:
    """Speaks to a store as a web process does."""

    def __init__(self):
        self.topologies = []
        self._waiting = {}
        self._number = 0

    async def dial(self, store):
        await dial_unix(str(store.sockets / "store.sock"), new_dialer(LinkKind.WEB, "test"), self._opened)
        return self

    def _opened(self, link, _peer):
        self.link = link
        return LinkHandlers(
            decoder=make_decoder(protocol.StoreAnswer), on_messages=self._messages, on_closed=lambda end: None
        )

    def _messages(self, messages):
        for message in messages:
            if isinstance(message, protocol.Topology):
                self.topologies.append(message)
            elif not isinstance(message, protocol.Committed):
                self._waiting.pop(message.id).set_result(message)

    async def ask(self, kind, *fields):
        self._number += 1
        self._waiting[self._number] = future = asyncio.get_running_loop().create_future()
        self.link.send(kind(self._number, *fields))
        return await asyncio.wait_for(future, 20)

    async def sql(self, *statements, database="data", session=0, durability=""):
        requests = tuple(Execute(Statement(*(one if isinstance(one, tuple) else (one,)))) for one in statements)
        return await self.ask(protocol.Run, database, session, requests, durability)


class Store:
    """One running store with its applier."""

    def __init__(self, directory: Path, *, upstream=None, durability=Durability.ASYNC, **primary):
        self.directory = directory
        self.sockets = directory / "s"
        self.listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listening.getsockname()[1]}"
        follows = None
        if upstream is not None:
            follows = UpstreamOptions(url=upstream.url, primary_url=upstream.url, public_url=self.url)
        self.options = StoreOptions(
            directory=directory,
            sockets=self.sockets,
            link_key=KEY,
            role=Role.PRIMARY if upstream is None else Role.REPLICA,
            node=directory.name,
            public_url=self.url,
            upstream=follows,
            primary=PrimaryOptions(writer=WriterOptions(transaction_s=0.3), **primary),
            durability=durability,
            quorum_wait_s=0.5,
        )

    async def __aenter__(self):
        self.sockets.mkdir(parents=True, exist_ok=True)
        (self.directory / ".pando" / "tmp").mkdir(parents=True, exist_ok=True)
        (self.directory / "databases").mkdir(exist_ok=True)
        self.server = StoreServer(self.options, SystemClock())
        self.task = asyncio.create_task(self.server.run())
        await until(lambda: (self.sockets / "store.sock").exists())
        self.start_applier()
        self.giver = Giver(str(self.sockets / "adopt.sock"))
        self.listening.setblocking(False)
        self.accepting = asyncio.create_task(self._accept())
        await until(lambda: self.server.topology().ready)
        self.client = await Client().dial(self)
        return self

    def start_applier(self):
        positions = self.directory / ".pando" / "positions"
        command = [sys.executable, "-c", APPLIER, str(self.sockets / "store.sock"), str(self.directory), str(positions)]
        self.applier = subprocess.Popen(command, stdin=subprocess.PIPE)

    async def _accept(self):
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(self.listening)
            with contextlib.closing(connection):
                self.giver.give(connection.fileno(), await loop.sock_recv(connection, 65536))

    async def __aexit__(self, *_error):
        self.accepting.cancel()
        self.listening.close()
        self.giver.close()
        self.client.link.close()
        self.server.stop()
        await self.task
        self.applier.stdin.close()
        self.applier.wait(10)
        await until(lambda: not self.server._clients)
        await turns()  # transports close in later turns of the loop
