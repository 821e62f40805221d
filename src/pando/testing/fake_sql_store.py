"""A store process without databases, for tests of everything around it: real sockets, handshakes and messages.

It counts commits, echoes SQL texts as rows, and does what a test tells it: refuse, stay silent, hang up. Not here: SQL.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pando.store import protocol as wire
from pando.store.adopt import Taker
from pando.store.handshake import LinkKind, Peer
from pando.store.link import Link, LinkEnd, make_decoder
from pando.store.link_open import LinkHandlers, accept_link, adopt_socket, new_acceptor
from pando.store.requests import Execute, StatementResult

_REQUESTS = make_decoder(wire.StoreRequest)


class FakeStore:
    """Listens on `store.sock` and `adopt.sock` in `sockets`."""

    def __init__(
        self,
        sockets: Path,
        *,
        key: bytes,
        node: str = "n1",
        role: str = "primary",
        primary_url: str = "",
        ready: bool = True,
    ) -> None:
        self.sockets = sockets
        self.key = key
        self.topology = wire.Topology(
            node=node, role=role, epoch=1, primary_url=primary_url, ready=ready, reason="" if ready else "told so"
        )
        self.databases = ["data"]
        self.txid = 0
        self.received: list[Any] = []
        self.links: dict[Link, Peer] = {}
        self.answer: Callable[[Link, Any], bool] | None = None
        """May answer a message itself and return True; returning True without an answer leaves the caller waiting."""
        self._taker = Taker(str(sockets / "adopt.sock"), self._adopt)
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    async def start(self) -> None:
        """Listen."""
        loop = asyncio.get_running_loop()
        path = self.sockets / "store.sock"
        path.unlink(missing_ok=True)
        node = self.topology.node
        self._server = await loop.create_unix_server(lambda: accept_link(new_acceptor(node), self._opened), str(path))
        self._taker.start()

    async def stop(self) -> None:
        """Hang up, as a killed process does."""
        if self._server is not None:
            self._server.close()
        self._taker.close()
        for link in list(self.links):
            link.abort("the store was killed")
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def push_topology(self, **changes: Any) -> None:  # noqa: ANN401 - fields of Topology
        """Change who is who, and tell."""
        for name, value in changes.items():
            setattr(self.topology, name, value)
        for link in self.links:
            link.send(self.topology)

    def push(self, message: Any) -> None:  # noqa: ANN401 - any answer of the union
        """Say something to all links."""
        for link in self.links:
            link.send(message)

    def kinds(self) -> list[LinkKind]:
        """Who is connected."""
        return [peer.kind for peer in self.links.values()]

    def _adopt(self, sock: Any, data: bytes) -> None:  # noqa: ANN401 - a socket
        acceptor = new_acceptor(self.topology.node, key=self.key)
        task = asyncio.get_running_loop().create_task(adopt_socket(sock, data, acceptor, self._opened))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _opened(self, link: Link, peer: Peer) -> LinkHandlers:
        self.links[link] = peer
        link.send(self.topology)

        def on_messages(messages: list[Any]) -> None:
            for message in messages:
                self.received.append(message)
                if self.answer is None or not self.answer(link, message):
                    self._answer(link, message)

        def on_closed(_end: LinkEnd) -> None:
            self.links.pop(link, None)

        return LinkHandlers(decoder=_REQUESTS, on_messages=on_messages, on_closed=on_closed)

    def _answer(self, link: Link, message: Any) -> None:  # noqa: ANN401 - any request of the union
        if isinstance(message, wire.Run):
            self.txid += 1
            link.send(wire.Ran(message.id, [_echo(item) for item in message.requests], 1, self.txid, True))
        elif isinstance(message, wire.OpenDatabase | wire.CreateDatabase | wire.ImportDatabase):
            self._open(link, message)
        elif isinstance(message, wire.ListDatabases):
            link.send(wire.Listed(message.id, tuple(self.databases)))
        elif isinstance(message, wire.GetStatus):
            link.send(self.status(message.id))
        elif isinstance(message, wire.VerifyDatabase):
            link.send(wire.Verified(message.id, 1, self.txid, 1 << 63, 1 << 63, 7))
        elif not isinstance(message, wire.EndSession | wire.Cancel):
            link.send(wire.Finished(message.id))

    def _open(self, link: Link, message: wire.OpenDatabase | wire.CreateDatabase | wire.ImportDatabase) -> None:
        if isinstance(message, wire.OpenDatabase) and message.database not in self.databases:
            link.send(wire.Refused(message.id, "UNKNOWN_DATABASE", "there is no such database", 404, False))
            return
        with contextlib.suppress(ValueError):
            self.databases.remove(message.database)
        self.databases.append(message.database)
        link.send(wire.Opened(message.id, str(self.sockets / f"{message.database}.db"), 0, 1))

    def status(self, request_id: int) -> wire.NodeStatus:
        """What the node says of itself."""
        topology = self.topology
        return wire.NodeStatus(
            id=request_id,
            node=topology.node,
            role=topology.role,
            epoch=topology.epoch,
            primary_url=topology.primary_url,
            upstream_connected=topology.role != "primary",
            databases=[wire.DatabaseStatus(name=name, epoch=1, txid=self.txid) for name in self.databases],
            replicas=[],
        )


def _echo(request: Any) -> StatementResult:  # noqa: ANN401 - any request of the union
    text = request.statement.sql if isinstance(request, Execute) else type(request).__name__
    return StatementResult(columns=(("sql", None),), rows=[(text,)])
