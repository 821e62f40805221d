"""Treats what web processes, peers and commands ask of the store on their links.

One `ClientLink` per link; the open database does the work and the answer goes back on the link, in any order. Not
here: accepting links (`pando.store.server`), replication links, the applier.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import msgspec

from pando import limits
from pando.errors import InternalError, InvalidRequest, NotReady, Overloaded, PandoError
from pando.store import protocol as wire
from pando.store.catalog import Catalog
from pando.store.commands import Command
from pando.store.confirming import Confirming
from pando.store.database import Database
from pando.store.handshake import LinkKind
from pando.store.link import Link, LinkEnd
from pando.store.stopping import split_work
from pando.store.watching import Watching
from pando.types import TXID, Epoch, Role, parse_database_name

TASKS_MAX = 1024
"""Requests of one link that wait for something (a database to open, an import) at the same time."""


class Services(Protocol):
    """What the store offers beyond its databases."""

    catalog: Catalog
    watching: Watching
    confirming: Confirming

    def now(self) -> float:
        """Monotonic seconds."""
        ...

    def topology(self) -> wire.Topology:
        """Who is who, now."""
        ...

    def node_status(self, request_id: int) -> wire.NodeStatus:
        """What the node says of itself."""
        ...

    async def create_database(self, name: str) -> Database:
        """Make an empty database and tell the replicas."""
        ...

    async def import_database(self, name: str, path: str, *, replace: bool) -> Database:
        """Take a SQLite file as the content of a database."""
        ...

    async def delete_database(self, name: str) -> None:
        """Remove a database and tell the replicas."""
        ...

    async def verify_database(self, name: str) -> wire.Verified:
        """Read all pages and compare."""
        ...

    async def checkpoint_database(self, name: str) -> None:
        """Move a database's WAL into its file."""
        ...

    async def sync_now(self) -> None:
        """Fetch what is missing from the upstream."""
        ...


class ClientLink:
    """One web process, peer or command."""

    def __init__(self, number: int, link: Link, services: Services, kind: LinkKind = LinkKind.WEB) -> None:
        self._number = number
        self._kind = kind
        self._link = link
        self._services = services
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting_runs: dict[str, list[wire.Run]] = {}
        self._ending: PandoError | None = None
        link.send(services.topology())

    def on_messages(self, messages: list[Any]) -> None:
        """Treat one frame."""
        if self._ending is not None:
            work, messages = split_work(messages)
            for request in work:
                self._refuse(request.id, self._ending)
        for message in messages:
            if type(message) is wire.Run:
                self._run(message)
            else:
                self._other(message)

    def on_closed(self, _end: LinkEnd) -> None:
        """Roll back what the other side left open."""
        for task in self._tasks:
            task.cancel()
        self._services.watching.left(self)
        for database in self._services.catalog.opened():
            database.end_link(self._number)

    @property
    def is_congested(self) -> bool:
        """Whether the other side does not keep up."""
        return self._link.is_congested

    def push(self, message: wire.StoreAnswer) -> None:
        """Say something unasked."""
        self._link.send(message)

    def refuse_work(self, error: PandoError) -> None:
        """Begin nothing more: the store stops."""
        self._ending = error

    def close(self) -> None:
        """End the link: the store stops."""
        self._link.close("the store stops")

    # -- Run --

    def _run(self, run: wire.Run) -> None:
        waiting = self._waiting_runs.get(run.database)
        if waiting is not None:
            if len(waiting) < limits.WRITE_QUEUE_MAX:
                waiting.append(run)  # behind those that came before it
            else:
                self._refuse(
                    run.id, Overloaded("too many requests wait for this database to be opened; try again later")
                )
            return
        database = self._services.catalog.get(run.database)
        if database is not None:
            self._submit(database, run)
            return
        if self._start(run.id, self._open_and_run(run.database)):
            self._waiting_runs[run.database] = [run]

    async def _open_and_run(self, name: str) -> None:
        """Open a database and submit what came for it meanwhile, in order."""
        error: PandoError | None = None
        database: Database | None = None
        try:
            database = await self._services.catalog.open(parse_database_name(name))
        except PandoError as refusal:
            error = refusal
        finally:
            runs = self._waiting_runs.pop(name)
            if database is None:  # after an error that is none of ours, `_guard` answers the first
                for run in runs[error is None :]:
                    self._refuse(run.id, error or InternalError("the database could not be opened"))
        if database is not None:
            for run in runs:
                self._submit(database, run)

    def _submit(self, database: Database, run: wire.Run) -> None:
        command = Command(run=run, key=(self._number, run.session), answer=self._answerer(run))
        try:
            database.submit(command)
        except PandoError as error:
            self._refuse(run.id, error)

    def _answerer(self, run: wire.Run) -> Callable[[wire.Ran | PandoError], None]:
        def answer(outcome: wire.Ran | PandoError) -> None:
            if isinstance(outcome, PandoError):
                self._refuse(run.id, outcome)
            else:
                self._link.send(outcome)

        return answer

    # -- everything else --

    def _other(self, message: Any) -> None:  # noqa: ANN401 - any request of the union
        services = self._services
        if isinstance(message, wire.Cancel):
            self._cancel(message.id)
        elif isinstance(message, wire.EndSession):
            self._end_session(message.session)
        elif isinstance(message, wire.WaitPosition):
            self._start(message.id, self._wait(message))
        elif isinstance(message, wire.WaitShown):
            self._wait_shown(message)
        elif isinstance(message, wire.ListDatabases):
            self._link.send(wire.Listed(message.id, tuple(services.catalog.names())))
        elif isinstance(message, wire.GetStatus):
            self._link.send(services.node_status(message.id))
        elif isinstance(message, wire.Watch):
            self._watch(message)
        else:
            self._start(message.id, self._slow(message))

    async def _slow(self, message: Any) -> None:  # noqa: ANN401 - any request of the union
        services = self._services
        if isinstance(message, wire.OpenDatabase):
            self._opened(message.id, await services.catalog.open(parse_database_name(message.database)))
        elif isinstance(message, wire.CreateDatabase):
            self._opened(message.id, await services.create_database(parse_database_name(message.database)))
        elif isinstance(message, wire.ImportDatabase):
            name = parse_database_name(message.database)
            self._opened(message.id, await services.import_database(name, message.path, replace=message.replace))
        elif isinstance(message, wire.DeleteDatabase):
            await services.delete_database(parse_database_name(message.database))
            self._link.send(wire.Finished(message.id))
        elif isinstance(message, wire.CheckpointDatabase):
            await services.checkpoint_database(parse_database_name(message.database))
            self._link.send(wire.Finished(message.id))
        elif isinstance(message, wire.VerifyDatabase):
            verified = await services.verify_database(parse_database_name(message.database))
            self._link.send(msgspec.structs.replace(verified, id=message.id))
        elif isinstance(message, wire.SyncNow):
            await services.sync_now()
            self._link.send(wire.Finished(message.id))
        else:
            raise InvalidRequest(f"the store does not take {type(message).__name__} here")

    async def _wait(self, message: wire.WaitPosition) -> None:
        database = await self._services.catalog.open(parse_database_name(message.database))
        timeout_s = min(max(0.0, message.timeout_s), limits.BOOKMARK_WAIT_S)

        def answer(error: PandoError | None) -> None:
            if error is None:
                self._link.send(wire.Finished(message.id))
            else:
                self._refuse(message.id, error)

        database.wait(Epoch(message.epoch), TXID(message.txid), self._services.now() + timeout_s, answer)

    def _wait_shown(self, message: wire.WaitShown) -> None:
        database = self._services.catalog.get(message.database)
        is_known = database is not None and database.slot.table.about(database.slot.number)[0] == message.epoch
        if not is_known or self._services.topology().role != Role.PRIMARY:
            self._link.send(wire.Finished(message.id))
            return

        def told(error: PandoError | None) -> None:
            if error is None:
                self._link.send(wire.Finished(message.id))
            else:
                self._refuse(message.id, error)

        self._services.confirming.when_shown(message.database, TXID(message.txid), told)

    def _watch(self, message: wire.Watch) -> None:
        services = self._services
        try:
            if self._kind is not LinkKind.WEB:
                raise InvalidRequest("commits are told to web processes of this node only")
            name = parse_database_name(message.database)
            if not message.wanted:
                services.watching.unwatch(self, name)
            else:
                services.watching.watch(self, name)
        except PandoError as error:
            self._refuse(message.id, error)
            return
        self._link.send(wire.Finished(message.id))
        database = services.catalog.get(name)
        if message.wanted and database is not None:
            epoch, txid = database.slot.table.visible(database.slot.number)
            self._link.send(wire.Committed(name, epoch, txid))

    def _cancel(self, run_id: int) -> None:
        for waiting in self._waiting_runs.values():
            for run in [run for run in waiting if run.id == run_id]:
                waiting.remove(run)
                self._refuse(run_id, NotReady("the request was cancelled before it ran"))
        for database in self._services.catalog.opened():
            database.cancel(self._number, run_id)

    def _end_session(self, session: int) -> None:
        for waiting in self._waiting_runs.values():
            for run in [run for run in waiting if run.session == session]:
                waiting.remove(run)
                self._refuse(run.id, NotReady("the session was ended before the request ran"))
        for database in self._services.catalog.opened():
            database.end_session((self._number, session))

    def _opened(self, request_id: int, database: Database) -> None:
        generation = self._services.catalog.generation(database)
        self._link.send(wire.Opened(request_id, database.path, database.slot.number, generation))

    def _refuse(self, request_id: int, error: PandoError) -> None:
        self._link.send(wire.Refused(request_id, error.code, error.message, error.status, error.retryable))

    def _start(self, request_id: int, work: Coroutine[Any, Any, None]) -> bool:
        """Run what has to wait; its errors are answers. False when it was refused."""
        if len(self._tasks) >= TASKS_MAX:
            work.close()
            self._refuse(request_id, Overloaded("too many requests of this link wait already; try again later"))
            return False
        task = asyncio.get_running_loop().create_task(self._guard(request_id, work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return True

    async def _guard(self, request_id: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except PandoError as error:
            self._refuse(request_id, error)
        except Exception as error:  # noqa: BLE001 - a request handler: the client must hear of it
            self._refuse(request_id, InternalError(f"{type(error).__name__}: {error}"))


def shrink(message: Any) -> Any:  # noqa: ANN401 - any answer of the union
    """Replace an answer that does not fit a frame by a refusal."""
    if isinstance(message, wire.Ran):
        return wire.Refused(message.id, "RESPONSE_TOO_LARGE", "the answer is too large; ask for fewer rows", 413, False)
    return None
