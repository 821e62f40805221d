"""`app.sync`: the same calls for programs without an event loop, such as scripts and shells.

One thread runs a loop for all of them; it begins with the first call. Whoever has an event loop uses the application
itself: a call here would hold it up. Not here: what the calls do (`pando.embedded.application`).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from pando.embedded.calling import Files
from pando.embedded.collections import BATCH, Collection
from pando.embedded.records import Page, Record, Rows, SignedIn, Value
from pando.types import DEFAULT_DATABASE

if TYPE_CHECKING:
    from pando.embedded.application import Caller, Pando

T = TypeVar("T")
Records: TypeAlias = list[Record]


class SyncCollection:
    """The records of one collection; see `pando.embedded.collections.Collection`."""

    def __init__(self, collection: Collection, loop: _LoopThread) -> None:
        self.name = collection.name
        self._collection = collection
        self._run = loop.run

    def list(
        self,
        page: int = 1,
        per_page: int = 30,
        *,
        filter: str = "",
        sort: str = "",
        expand: str = "",
        fields: str = "",
        skip_total: bool = False,
    ) -> Page:
        """Give a page of records."""
        its = self._collection
        return self._run(
            its.list(page, per_page, filter=filter, sort=sort, expand=expand, fields=fields, skip_total=skip_total)
        )

    def full_list(
        self, *, filter: str = "", sort: str = "", expand: str = "", fields: str = "", batch: int = BATCH
    ) -> Records:
        """Give all records."""
        its = self._collection
        return self._run(its.full_list(filter=filter, sort=sort, expand=expand, fields=fields, batch=batch))

    def first(self, filter: str = "", *, sort: str = "", expand: str = "", fields: str = "") -> Record:
        """Give the first record that a filter holds for. Raises ApiError 404 if there is none."""
        return self._run(self._collection.first(filter, sort=sort, expand=expand, fields=fields))

    def view(self, id: str, *, expand: str = "", fields: str = "") -> Record:
        """Give one record. Raises ApiError 404."""
        return self._run(self._collection.view(id, expand=expand, fields=fields))

    def create(
        self,
        values: Mapping[str, Any] | None = None,
        *,
        files: Files | None = None,
        expand: str = "",
        fields: str = "",
    ) -> Record:
        """Make a record."""
        return self._run(self._collection.create(values, files=files, expand=expand, fields=fields))

    def update(
        self,
        id: str,
        values: Mapping[str, Any] | None = None,
        *,
        files: Files | None = None,
        expand: str = "",
        fields: str = "",
    ) -> Record:
        """Change a record."""
        return self._run(self._collection.update(id, values, files=files, expand=expand, fields=fields))

    def delete(self, id: str) -> None:
        """Delete a record."""
        self._run(self._collection.delete(id))


class SyncCaller:
    """What may be called in somebody's name."""

    def __init__(self, caller: Caller, loop: _LoopThread) -> None:
        self._caller = caller
        self._loop = loop

    def collection(self, name: str) -> SyncCollection:
        """Give the records of a collection, by name or id."""
        return SyncCollection(self._caller.collection(name), self._loop)

    def send(self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: object = None) -> Any:  # noqa: ANN401 - JSON
        """Ask for any route of the API; gives JSON. Raises ApiError."""
        return self._loop.run(self._caller.send(method, path, query=query, body=body))


class Sync(SyncCaller):
    """A node in this program. Calls of its own have all rights; `as_user` gives those of somebody."""

    def __init__(self, app: Pando) -> None:
        super().__init__(app, _LoopThread())
        self._app = app

    def as_user(self, user: str | Record) -> SyncCaller:
        """Give calls in somebody's name, with all rules applied: of a token, or of a record of an auth collection."""
        return SyncCaller(self._app.as_user(user), self._loop)

    def as_guest(self) -> SyncCaller:
        """Give calls of somebody who is not signed in."""
        return SyncCaller(self._app.as_guest(), self._loop)

    def sign_in(self, collection: str, identity: str, password: str) -> SignedIn:
        """Check a password, by the rules of the collection. Raises ApiError 400, 403."""
        return self._loop.run(self._app.sign_in(collection, identity, password))

    def sql(self, sql: str, *args: Value, database: str = DEFAULT_DATABASE) -> Rows:
        """Run one statement. Raises SqlError."""
        return self._loop.run(self._app.sql(sql, *args, database=database))

    def sql_batch(
        self, statements: Sequence[tuple[str, Sequence[Value]]], *, database: str = DEFAULT_DATABASE
    ) -> Sequence[Rows]:
        """Run statements, all or none of them. Raises SqlError of the first that fails."""
        return self._loop.run(self._app.sql_batch(statements, database=database))

    def __enter__(self) -> Sync:
        """Start."""
        self._loop.run(self._app.start())
        return self

    def __exit__(self, *_: object) -> None:
        """Stop."""
        self.close()

    def close(self) -> None:
        """End the thread with its loop; the node stops when no process uses it any more."""
        if self._loop.is_running:
            self._loop.run(self._app.stop())
            self._loop.close()


class _LoopThread:
    """A thread with an event loop, from the first call on."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = 0

    @property
    def is_running(self) -> bool:
        """Whether it has begun, in this process."""
        return self._loop is not None and self._pid == os.getpid()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the loop; returns when it is done."""
        future = asyncio.run_coroutine_threadsafe(work, self._started())
        try:
            return future.result()
        except BaseException:
            future.cancel()  # Ctrl-C: nobody waits for it any more
            raise

    def _started(self) -> asyncio.AbstractEventLoop:
        if self._pid != os.getpid():  # after a fork the thread is the parent's, and the lock may be held by it
            self._lock = threading.Lock()
            self._loop, self._pid = None, os.getpid()
        with self._lock:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="pando calls", daemon=True)
                self._thread.start()
            return self._loop

    def close(self) -> None:
        """End the thread."""
        with self._lock:
            loop, self._loop = self._loop, None
            thread = self._thread
        if loop is None or thread is None:
            return
        ending = asyncio.run_coroutine_threadsafe(loop.shutdown_default_executor(), loop)
        ending.result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
