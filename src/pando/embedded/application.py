"""`Pando(dir)`: a node for a program of one's own, its collections, and its API as an ASGI application.

Making one does nothing; the node is found or started at the first use. Each event loop has a site of its own, so an
object may be used from several, and after a fork. Not here: the node itself (`attaching`), calls (`calling`).
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from pando.api.site import OpenSite
from pando.embedded.attaching import Attachment, NodeOptions
from pando.embedded.calling import SUPERUSER, Asked, Who, call
from pando.embedded.collections import Collection
from pando.embedded.hearing import Event, Handler, Subscription, events, newest, parse_topic
from pando.embedded.mounting import Mounted
from pando.embedded.records import Record, Rows, SignedIn, Value, record_of, rows_of
from pando.embedded.sites import Running, open_site
from pando.embedded.sync import Sync
from pando.errors import InvalidRequest, PandoError, SqlError
from pando.log import EventLog
from pando.node.embedded import NOWHERE, OURS
from pando.node.runtime import Runtime, sockets_directory
from pando.node.secret import read_or_create_secret
from pando.settings import Settings, load_settings
from pando.sql.service import Call
from pando.store import requests as store
from pando.types import DEFAULT_DATABASE

CALLER: Final = b"a program"
"""Who writes by SQL here, so that its reads on this node see what it wrote."""
LOG_LEVEL: Final = "warning"
"""What a node says on a program's standard error, unless told otherwise."""


class Caller:
    """What may be called in somebody's name."""

    def __init__(self, app: Pando, who: Who) -> None:
        self._app = app
        self._who = who

    def collection(self, name: str) -> Collection:
        """Give the records of a collection, by name or id."""
        return Collection(name, self.request)

    async def request(self, asked: Asked) -> Any:  # noqa: ANN401 - JSON
        """Ask for any route of the API; gives JSON. Raises ApiError and the errors of the node."""
        return await call((await self._app.running()).open, self._who, asked)

    async def send(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Ask for any route of the API, such as `send("GET", "/api/collections")`; gives JSON. Raises ApiError."""
        path, _, asked = path.partition("?")
        segments = tuple(unquote(part) for part in path.removeprefix("/").removeprefix("api/").split("/"))
        joined = {**dict(parse_qsl(asked, keep_blank_values=True)), **(query or {})}
        return await self.request(Asked(method=method, segments=segments, query=joined, body=body))


@dataclass(slots=True)
class _Loop:
    """What one event loop has: its site, being opened or open, and how many contexts want it."""

    opening: asyncio.Task[Running]
    users: int = 0

    @property
    def ready(self) -> Running | None:
        """The site, None if it is not open."""
        if not self.opening.done() or self.opening.cancelled() or self.opening.exception() is not None:
            return None
        return self.opening.result()


class Pando(Caller):
    """A node in this program. Calls of its own have all rights; `as_user` gives those of somebody."""

    def __init__(self, directory: str | os.PathLike[str] = "pando_data", **settings: object) -> None:
        """`settings` are those of docs/settings.md; with `http` the node listens there with its own web processes.

        Raises InvalidSetting.
        """
        super().__init__(self, SUPERUSER)
        given = {name: value for name, value in settings.items() if value is not None}
        given.setdefault("log_level", os.environ.get("PANDO_LOG_LEVEL") or LOG_LEVEL)
        path = Path(directory).absolute()
        environ = {name: value for name, value in os.environ.items() if name.startswith(OURS)}
        self.settings: Settings = load_settings(flags={**given, "dir": path}, environ=environ)
        secret = str(given.pop("secret", ""))
        options = NodeOptions(
            directory=path,
            flags={name: _plain(value) for name, value in given.items()},
            secret=secret,
            has_port="http" in given or bool(environ.get("PANDO_HTTP")),
        )
        self._log = EventLog("program", level=self.settings.log_level, form=self.settings.log_format)
        self._attachment = Attachment(options, self._log)
        self._loops: dict[asyncio.AbstractEventLoop, _Loop] = {}
        self._pid = os.getpid()
        self.asgi = Mounted(self)
        self._sync = Sync(self)

    # -- life --

    async def start(self) -> None:
        """Find or start the node, and wait until it serves; calls do that by themselves. Raises PandoError."""
        await self.running()

    async def stop(self) -> None:
        """End what this event loop has; the node stops when no process uses it any more."""
        self._look_around()
        ours = self._loops.pop(asyncio.get_running_loop(), None)
        if ours is not None:
            with contextlib.suppress(PandoError, asyncio.CancelledError):
                await (await ours.opening).close()
        if not self._loops:
            await asyncio.to_thread(self._attachment.detach)

    async def __aenter__(self) -> Pando:
        """Start."""
        await self.start()
        self._loops[asyncio.get_running_loop()].users += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        """Stop, unless another context of this event loop is open."""
        ours = self._loops.get(asyncio.get_running_loop())
        if ours is not None:
            ours.users -= 1
        if ours is None or ours.users <= 0:
            await self.stop()

    @contextlib.asynccontextmanager
    async def lifespan(self, _app: object = None) -> AsyncIterator[None]:
        """Be the `lifespan` of a Starlette or FastAPI application."""
        async with self:
            yield

    async def running(self) -> Running:
        """Give the site of this event loop, opened if need be. Raises PandoError."""
        self._look_around()
        loop = asyncio.get_running_loop()
        ours = self._loops.get(loop)
        if ours is None:
            ours = self._loops[loop] = _Loop(loop.create_task(self._open()))
        elif (found := ours.ready) is not None:
            if not found.is_broken:
                return found
            ours.opening = loop.create_task(self._open_another(found))
        try:
            return await asyncio.shield(ours.opening)
        except BaseException:
            if ours.opening.done() and ours.ready is None and self._loops.get(loop) is ours:
                del self._loops[loop]
            raise

    async def _open_another(self, broken: Running) -> Running:
        await broken.close()
        return await self._open()

    async def _open(self) -> Running:
        facts = await asyncio.to_thread(self._attachment.attach)
        where = {"public_url": facts.url} if facts.url else {"http": NOWHERE}
        runtime = Runtime(
            settings=replace(self.settings, **where),
            secret=read_or_create_secret(self.settings.dir, self.settings.secret),
            sockets=sockets_directory(self.settings.dir),
            alive_fd=-1,
        )
        return await open_site(runtime, self._log)

    def _look_around(self) -> None:
        """Let go what loops have left behind that were closed; after a fork, what the parent opened is the parent's."""
        if self._pid != os.getpid():
            self._pid = os.getpid()
            self._loops = {}
        for loop in [each for each in list(self._loops) if each.is_closed()]:
            left = self._loops.pop(loop).ready
            if left is not None:
                left.abandon()

    # -- what it is for --

    @property
    def sync(self) -> Sync:
        """The same for programs without an event loop: each call waits for its answer."""
        return self._sync

    def as_user(self, user: str | Record) -> Caller:
        """Give calls in somebody's name, with all rules applied: of a token, or of a record of an auth collection."""
        if isinstance(user, str):
            return Caller(self, Who(token=user))
        try:
            return Caller(self, Who(record=(user["collectionId"], user["id"])))
        except KeyError:
            raise InvalidRequest("this is no whole record: it has no id and collectionId") from None

    def as_guest(self) -> Caller:
        """Give calls of somebody who is not signed in."""
        return Caller(self, Who())

    async def sign_in(self, collection: str, identity: str, password: str) -> SignedIn:
        """Check a password, by the rules of the collection. Raises ApiError 400, 403."""
        body = {"identity": identity, "password": password}
        found = await self.as_guest().send("POST", f"/api/collections/{collection}/auth-with-password", body=body)
        return SignedIn(record_of(found["record"]), found["token"])

    def changes(self, since: int | None = None) -> AsyncIterator[Event]:
        """Give what happens to records, in the order of the commits: after an event's cursor, or from now on.

        Raises ApiError 410 if what comes after the cursor is no longer kept.
        """
        return events(self._open_site, since)

    async def subscribe(self, topic: str, handler: Handler) -> Subscription:
        """Call a function for each event of `COLLECTION/*` or `COLLECTION/ID` from now on."""
        parse_topic(topic)
        return Subscription(topic, handler, self.changes(await newest(await self._open_site())))

    async def _open_site(self) -> OpenSite:
        return (await self.running()).open

    async def sql(self, sql: str, *args: Value, database: str = DEFAULT_DATABASE) -> Rows:
        """Run one statement: a read on this node, anything else on the primary. Raises SqlError."""
        return (await self.sql_batch([(sql, args)], database=database))[0]

    async def sql_batch(
        self, statements: Sequence[tuple[str, Sequence[Value]]], *, database: str = DEFAULT_DATABASE
    ) -> list[Rows]:
        """Run statements, all or none of them. Raises SqlError of the first that fails."""
        service = (await self.running()).open.service
        made = [store.Statement(sql, tuple(args)) for sql, args in statements]
        request: store.Request = store.Execute(made[0]) if len(made) == 1 else _atomic(made)
        stream = service.attach(database)
        try:
            result, _ = await service.run_attached_at(stream, request, Call(database, caller=CALLER))
        finally:
            service.detach(stream)
        if isinstance(result, store.Failure):
            raise _sql_error(result)
        if isinstance(result, store.StatementResult):
            return [rows_of(result)]
        assert isinstance(result, store.BatchResult)
        failed = next((error for error in result.errors if error is not None), None)
        if failed is not None:
            raise _sql_error(failed)
        return [rows_of(each) for each in result.results[1 : len(made) + 1] if each is not None]


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return ",".join(map(str, value))
    return str(value)


def _sql_error(failure: store.Failure) -> SqlError:
    return SqlError(failure.message, code=failure.code, extended_code=failure.extended_code)


def _atomic(statements: Sequence[store.Statement]) -> store.Batch:
    """BEGIN, each statement if the one before it succeeded, COMMIT; ROLLBACK if that was not reached."""
    steps = [store.Step(store.Statement("BEGIN IMMEDIATE", want_rows=False))]
    steps += [store.Step(each, store.StepOk(number)) for number, each in enumerate(statements)]
    steps.append(store.Step(store.Statement("COMMIT", want_rows=False), store.StepOk(len(statements))))
    unfinished = store.And((store.StepOk(0), store.Not(store.StepOk(len(statements) + 1))))
    steps.append(store.Step(store.Statement("ROLLBACK", want_rows=False), unfinished))
    return store.Batch(tuple(steps))
