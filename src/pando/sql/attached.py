"""Streams that live with a connection (a WebSocket, a program of ours) and not with batons.

Not here: where their requests run (see `pando.sql.runs`), their order (see `pando.sql.ws_session`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pando import limits
from pando.clock import Clock
from pando.errors import Blocked, Overloaded, PandoError, TransactionBusy, TransactionTimeout, invariant
from pando.sql.calls import Call
from pando.sql.plan import Plan
from pando.sql.routing import ends_transaction
from pando.sql.runs import Runs
from pando.sql.streams import Stream, StreamTable
from pando.store.requests import Failure, Request, Result
from pando.store.runner import failure_of
from pando.types import Bookmark

_LOSING_CODES: Final = frozenset({TransactionTimeout.code, TransactionBusy.code, Blocked.code})


class AttachedStreams:
    """The open ones of one web process."""

    def __init__(self, runs: Runs, streams: StreamTable, clock: Clock) -> None:
        self._runs = runs
        self._streams = streams
        self._clock = clock
        self._open: dict[int, Stream] = {}

    def __len__(self) -> int:
        return len(self._open)

    def __iter__(self) -> Iterator[Stream]:
        return iter(self._open.values())

    def attach(self, database: str) -> Stream:
        """Make a stream that lives until `detach`; no baton names it. Raises Overloaded."""
        if len(self._open) >= limits.STREAMS_MAX:
            raise Overloaded(f"this process has {limits.STREAMS_MAX} open streams; close some, or try again later")
        stream = self._streams.new(database)
        stream.is_attached = True
        self._open[stream.id] = stream
        return stream

    def detach(self, stream: Stream) -> None:
        """Forget such a stream; its transaction is rolled back, at the latest when its request has ended."""
        self._open.pop(stream.id, None)
        stream.is_gone = True
        if not stream.is_busy:
            self._runs.release(stream)

    async def run(self, stream: Stream, request: Request, call: Call, min_txid: int = 0) -> tuple[Result, int]:
        """Run one request of such a stream; gives its result and the TXID that it saw or made (0: none)."""
        result, bookmark = await self.run_at(stream, request, call, min_txid)
        return result, 0 if bookmark is None else int(bookmark.txid)

    async def run_at(
        self, stream: Stream, request: Request, call: Call, min_txid: int = 0
    ) -> tuple[Result, Bookmark | None]:
        """Run one request of such a stream; gives its result and the bookmark of what it saw or made.

        One at a time. Raises PandoError. When an open transaction is lost by that, or by its time, this and all
        further requests fail until one that was to end the transaction: a client may have sent them already, and
        outside of the transaction they would mean something else.
        """
        if stream.lost is not None:
            return self._still_lost(stream, request), None
        had_transaction = stream.has_transaction
        stream.is_busy = True
        try:
            results, bookmark = await self._runs.run(Plan(stream, [request], min_txid=min_txid), call)
            lost = results[0] if isinstance(results[0], Failure) and not stream.has_transaction else None
            if lost is not None and lost.code not in _LOSING_CODES:
                lost = None
        except BaseException as error:
            self._runs.release(stream)
            lost = failure_of(error) if isinstance(error, PandoError) else None
            raise
        finally:
            stream.is_busy = False
            stream.last_used = self._clock.monotonic()
            if had_transaction and lost is not None and not ends_transaction(request):
                stream.lost = lost
            if stream.is_gone:
                self._runs.release(stream)
        return results[0], bookmark

    def _still_lost(self, stream: Stream, request: Request) -> Failure:
        lost = stream.lost
        invariant(lost is not None, "asked only of a stream that lost its transaction")
        assert lost is not None
        if ends_transaction(request):
            stream.lost = None
        return lost
