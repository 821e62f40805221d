"""The links of a web process: one to the store of its node, on a replica one more to the primary's store.

Implements `pando.sql.store_client.StoreClient`. Who is primary is what the own store pushes (`Topology`). A write
fails at once with PrimaryUnavailable when there is no link; when the link breaks under it, nobody knows:
OutcomeUnknown. Not here: reads (`pando.sql.service`), HTTP.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from pando import limits
from pando.clock import system_random
from pando.errors import NotReady, OutcomeUnknown, Overloaded, PandoError, PrimaryUnavailable
from pando.log import EventLog
from pando.node.asking import AskedLink
from pando.node.keeping import LinkKeeper, Pauses
from pando.store import protocol as wire
from pando.store.handshake import LinkKind
from pando.store.link import Link
from pando.store.link_open import OnOpen, dial_tcp, dial_unix, new_dialer
from pando.store.requests import Request
from pando.types import Role

NO_TOPOLOGY = wire.Topology(node="", role="", epoch=0, primary_url="", ready=False, reason="the store is starting")
_SOON_S = 0.1
"""How long a write waits for a link that is being opened: a primary that is there answers within that."""
_HOPS_MAX = 8
"""Replicas of replicas that are followed on the way to the primary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreClientOptions:
    """Where the own store listens, and how this process proves itself to the primary's."""

    store_socket: str
    link_key: bytes
    index: int
    own_url: str
    silence_s: float = limits.LINK_SILENCE_S


class NodeStoreClient:
    """The stores as a web process sees them."""

    def __init__(self, options: StoreClientOptions, log: EventLog) -> None:
        self._options = options
        self._log = log
        self._generation = 0
        self._writer: AskedLink | None = None
        self._peer: LinkKeeper | None = None
        self._closing: set[asyncio.Task[None]] = set()
        self._hint = ""
        self._hops = 0
        self.topology = NO_TOPOLOGY
        self.on_committed: Callable[[wire.Committed], None] | None = None
        """Called when commits of a watched database became visible on this node."""
        self._watched: set[str] = set()
        self._told: AskedLink | None = None
        self._changed = asyncio.Event()
        self._own = LinkKeeper(
            kind=LinkKind.WEB.value,
            url="the own store",
            dial=self._dial_own,
            pauses=Pauses(0.01, 0.1, system_random()),
            log=log,
            next_number=self._next_number,
            on_push=self._own_says,
            on_change=self._relink,
            quiet_tries=20,
        )

    def start(self) -> None:
        """Begin to open links; returns at once."""
        self._own.start()

    async def close(self) -> None:
        """Close all links."""
        keepers = [self._own] if self._peer is None else [self._own, self._peer]
        await asyncio.gather(*(keeper.close() for keeper in keepers), *self._closing)

    # -- who is who --

    @property
    def generation(self) -> int:
        """Number of the link to the primary's store; another one after each reconnect."""
        return self._writer.number if self._writer is not None else 0

    @property
    def is_primary(self) -> bool:
        """Whether this node takes the writes."""
        return self.topology.role == Role.PRIMARY.value

    @property
    def is_ready(self) -> bool:
        """Whether the node can serve."""
        return self.topology.ready and self._own.current is not None

    @property
    def reason(self) -> str:
        """Why the node cannot serve; empty if it can."""
        if self._own.current is None:
            return f"the store process is not there: {self._own.reason}"
        return "" if self.topology.ready else self.topology.reason or "the store is starting"

    @property
    def primary_reason(self) -> str:
        """Why writes cannot be sent now; empty if they can."""
        if self._writer is not None and self._writer.is_open:
            return ""
        if self._peer is not None:
            return self._peer.reason
        return self.reason

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait until the condition holds; it is looked at whenever links or the topology change."""
        while not condition():
            await self._changed.wait()

    # -- services of StoreClient --

    async def run(
        self,
        database: str,
        session: int,
        requests: Sequence[Request],
        durability: str,
        read_only: bool,
        is_patient: bool = False,
    ) -> wire.Ran:
        """Run requests on the primary.

        Raises PrimaryUnavailable if nothing was sent, OutcomeUnknown, what it refused.
        """
        writer = self._writer  # without waiting: whoever has looked at `generation` means this link and no other
        if writer is None:
            raise PrimaryUnavailable(f"writes are not possible now: {self.primary_reason}; nothing was done")
        message = wire.Run(writer.next_id(), database, session, tuple(requests), durability, read_only, is_patient)
        ran: wire.Ran = await writer.ask(message, _read_lost if read_only else _write_lost)
        return ran

    async def until_writer(self) -> None:
        """Try the primary once more now, not after the pause: it may have come back a moment ago."""
        if self._writer is not None:
            return
        keeper = self._own if self.is_primary else self._peer
        if keeper is not None:
            keeper.wake()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.until(lambda: self._writer is not None), _SOON_S)

    def end_session(self, session: int) -> None:
        """Roll back and forget a session on the primary."""
        if self._writer is not None:
            self._writer.tell(wire.EndSession(session))

    async def open_database(self, name: str) -> wire.Opened:
        """Open a database of this node for reading; raises UnknownDatabase, NotReady."""
        own = self._require_own()
        opened: wire.Opened = await own.ask(wire.OpenDatabase(own.next_id(), name), NotReady)
        return opened

    async def wait_position(self, database: str, epoch: int, txid: int, timeout_s: float) -> None:
        """Return once this node shows the commit; raises BookmarkTimeout."""
        own = self._require_own()
        await own.ask(wire.WaitPosition(own.next_id(), database, epoch, txid, timeout_s), NotReady)

    async def wait_shown(self, database: str, epoch: int, txid: int) -> None:
        """Return once every replica that keeps up shows the commit, or is waited for no longer."""
        writer = self._require_writer()
        await writer.ask(wire.WaitShown(writer.next_id(), database, epoch, txid), PrimaryUnavailable)

    def watch(self, database: str) -> None:
        """Have `on_committed` called for a database from now on, also after the own store was started anew.

        Raises Overloaded.
        """
        if database not in self._watched:
            if len(self._watched) >= limits.WATCHES_PER_LINK_MAX:
                raise Overloaded(f"{len(self._watched)} databases are watched already, which is the limit")
            self._watched.add(database)
            if self._told is not None:
                self._told.tell(wire.Watch(self._told.next_id(), database))

    def unwatch(self, database: str) -> None:
        """Hear no more of a database."""
        if database in self._watched:
            self._watched.discard(database)
            if self._told is not None:
                self._told.tell(wire.Watch(self._told.next_id(), database, wanted=False))

    def _watch_again(self) -> None:
        """Tell a new link to the own store what is watched; it answers with where the databases are."""
        own = self._own.current
        if own is self._told:
            return
        self._told = own
        if own is not None:
            for database in self._watched:
                own.tell(wire.Watch(own.next_id(), database))

    # -- services for the cluster's routes --

    async def list_databases(self) -> tuple[str, ...]:
        """Give the names of the node's databases."""
        own = self._require_own()
        listed: wire.Listed = await own.ask(wire.ListDatabases(own.next_id()), NotReady)
        return listed.names

    async def status(self) -> wire.NodeStatus:
        """Give what the own store says of the node."""
        own = self._require_own()
        status: wire.NodeStatus = await own.ask(wire.GetStatus(own.next_id()), NotReady)
        return status

    async def primary_status(self) -> wire.NodeStatus:
        """Give what the primary's store says of its node. Raises PrimaryUnavailable."""
        writer = self._require_writer()
        status: wire.NodeStatus = await writer.ask(wire.GetStatus(writer.next_id()), PrimaryUnavailable)
        return status

    async def create_database(self, name: str) -> None:
        """Make an empty database on the primary."""
        writer = self._require_writer()
        await writer.ask(wire.CreateDatabase(writer.next_id(), name), _write_lost)

    async def delete_database(self, name: str) -> None:
        """Remove a database on the primary."""
        writer = self._require_writer()
        await writer.ask(wire.DeleteDatabase(writer.next_id(), name), _write_lost)

    async def checkpoint_database(self, name: str) -> None:
        """Move the WAL of a database into its file, on the primary."""
        writer = self._require_writer()
        await writer.ask(wire.CheckpointDatabase(writer.next_id(), name), PrimaryUnavailable)

    async def import_database(self, name: str, path: str, *, replace: bool) -> None:
        """Take a file of this machine as the content of a database; on the primary's node only."""
        own = self._require_own()
        await own.ask(wire.ImportDatabase(own.next_id(), name, path, replace), _write_lost)

    async def verify_database(self, name: str) -> wire.Verified:
        """Read all pages of a database of this node."""
        own = self._require_own()
        verified: wire.Verified = await own.ask(wire.VerifyDatabase(own.next_id(), name), NotReady)
        return verified

    async def sync_now(self) -> None:
        """Fetch what is missing now; on a replica with a sync interval."""
        own = self._require_own()
        await own.ask(wire.SyncNow(own.next_id()), NotReady)

    def _require_own(self) -> AskedLink:
        if self._own.current is None:
            raise NotReady(f"the store process of this node is not there: {self._own.reason}")
        return self._own.current

    def _require_writer(self) -> AskedLink:
        if self._writer is None:
            raise PrimaryUnavailable(f"the primary cannot be asked now: {self.primary_reason}; nothing was done")
        return self._writer

    # -- links --

    def _next_number(self) -> int:
        self._generation += 1
        return self._generation

    async def _dial_own(self, on_open: OnOpen) -> Link:
        dialer = new_dialer(LinkKind.WEB, self.topology.node or "web", index=self._options.index)
        return await dial_unix(self._options.store_socket, dialer, on_open)

    def _own_says(self, asked: AskedLink, message: Any) -> None:  # noqa: ANN401 - Topology or Committed
        if isinstance(message, wire.Committed):
            if self.on_committed is not None:
                self.on_committed(message)
            return
        if asked is not self._own.current or message == self.topology:
            return
        self.topology = message
        self._hint, self._hops = "", 0
        facts = {name: getattr(message, name) for name in ("role", "epoch", "ready", "reason")}
        self._log.emit("web.topology", primary=message.primary_url, **facts)
        self._follow()
        if self._peer is not None:
            self._peer.wake()
        self._relink()

    def _follow(self) -> None:
        """Keep a link to the primary that the topology names, on a replica."""
        wanted = "" if self.is_primary else self._hint or self.topology.primary_url
        current = self._peer.url if self._peer is not None else ""
        if wanted == current:
            return
        if self._peer is not None:
            task = asyncio.get_running_loop().create_task(self._peer.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._peer = None
        if wanted:
            self._peer = self._make_peer(wanted)
            self._peer.start()

    def _make_peer(self, url: str) -> LinkKeeper:
        options = self._options

        async def dial(on_open: OnOpen) -> Link:
            node = self.topology.node
            dialer = new_dialer(LinkKind.PEER, node, key=options.link_key, url=options.own_url, index=options.index)
            return await dial_tcp(url, dialer, on_open)

        return LinkKeeper(
            kind=LinkKind.PEER.value,
            url=url,
            dial=dial,
            pauses=Pauses(0.05, 1.0, system_random()),
            log=self._log,
            next_number=self._next_number,
            on_push=lambda _asked, message: self._peer_says(url, message),
            on_change=self._relink,
            silence_s=options.silence_s,
        )

    def _peer_says(self, url: str, message: Any) -> None:  # noqa: ANN401 - Topology or Committed
        """The node that we follow is a replica itself: writes go to whom it follows."""
        if not isinstance(message, wire.Topology) or self._peer is None or self._peer.url != url:
            return
        known = {url, self.topology.primary_url, self._options.own_url, ""}
        if message.role == Role.REPLICA and message.primary_url not in known and self._hops < _HOPS_MAX:
            self._hops += 1
            self._hint = message.primary_url
            self._follow()
            self._relink()

    def _relink(self) -> None:
        """Choose the link for writes anew, and wake who waits for a change."""
        keeper = self._own if self.is_primary else self._peer
        self._writer = keeper.current if keeper is not None else None
        self._watch_again()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


def _write_lost(reason: str) -> PandoError:
    return OutcomeUnknown(
        f"{reason} after the write was sent: it may or may not have taken effect; look before repeating"
    )


def _read_lost(reason: str) -> PandoError:
    return PrimaryUnavailable(f"{reason}; nothing was written")
