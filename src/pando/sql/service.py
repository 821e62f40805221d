"""Answers decoded pipelines, and those of our own programs: one in, one answer out, streams kept between them.

Not here: where a pipeline runs (see `pando.sql.runs`), streams of a connection (see `pando.sql.attached`), HTTP (see
`pando.api.pipeline`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Mapping, Sequence
from itertools import chain, islice
from typing import Any, Final

from pando import limits
from pando.clock import Clock
from pando.errors import PandoError, TransactionTimeout, invariant
from pando.sql.answers import encode_answer, encode_failure, encode_stateless
from pando.sql.attached import AttachedStreams
from pando.sql.basis import Bases
from pando.sql.calls import Answer, BatonElsewhere, Call, CursorAnswer
from pando.sql.freshness import SESSION
from pando.sql.http_encodings import EncodeAnswer
from pando.sql.lateness import Lateness
from pando.sql.messages import (
    BatchRequest,
    CloseRequest,
    CloseSqlRequest,
    CursorBody,
    PipelineBody,
    StoreSqlRequest,
    WireBatch,
)
from pando.sql.own_writes import OwnWrites
from pando.sql.plan import Plan, make_plan
from pando.sql.routing import Nature, nature_of
from pando.sql.rules import Rule, blocked
from pando.sql.runs import Runs
from pando.sql.store_client import Positions, StoreClient
from pando.sql.streams import Stream, StreamTable
from pando.store.reading import ReadOptions
from pando.store.requests import Failure, Request, Result
from pando.types import Bookmark

__all__ = ["Answer", "BatonElsewhere", "Call", "SqlService"]

_KEEPS_TEXTS: Final = frozenset({StoreSqlRequest, CloseSqlRequest})


class SqlService:
    """The pipelines of one web process."""

    def __init__(
        self,
        *,
        store: StoreClient,
        positions: Positions,
        streams: StreamTable,
        clock: Clock,
        base_url: str | None = None,
        inline_budget_s: float = limits.INLINE_BUDGET_S,
        bookmark_wait_s: float = limits.BOOKMARK_WAIT_S,
        own_write_wait_s: float = limits.OWN_WRITE_WAIT_S,
        shown_wait_s: float = limits.SHOWN_WAIT_S,
        read_options: ReadOptions | None = None,
        own_writes: OwnWrites | None = None,
    ) -> None:
        self._store = store
        self._positions = positions
        self._streams = streams
        self._clock = clock
        self._base_url = base_url
        self._bookmark_wait_s = bookmark_wait_s
        self._shown_wait_s = shown_wait_s
        self._runs = Runs(
            store=store,
            positions=positions,
            streams=streams,
            clock=clock,
            inline_budget_s=inline_budget_s,
            bookmark_wait_s=bookmark_wait_s,
            own_write_wait_s=own_write_wait_s,
            read_options=read_options,
            own_writes=OwnWrites() if own_writes is None else own_writes,
        )
        self._pool, self._local, self._own_writes = self._runs.pool, self._runs.local, self._runs.own_writes
        self._attached = AttachedStreams(self._runs, streams, clock)
        self.attach, self.detach = self._attached.attach, self._attached.detach
        self.run_attached, self.run_attached_at = self._attached.run, self._attached.run_at
        self.statistics = self._runs.statistics
        self._lateness: dict[str, Lateness] = {}
        self._shown_everywhere: dict[str, Bookmark] = {}

    def set_rules(self, rules: Mapping[str, Rule], usual: Rule | None = None) -> None:
        """Have other rules hold from now on; `usual` for databases without one."""
        self._runs.rules, self._runs.usual_rule = rules, usual

    def check_copying(self, call: Call) -> None:
        """Raise PandoError if the caller may not have all of a database: its reads are blocked, it is the system's."""
        rule = self._runs.rules.get(call.database, self._runs.usual_rule)
        if rule is not None:
            rule.applied(call)
            if rule.blocks_reads:
                raise blocked(rule.reason)

    def owed(self, call: Call, visible: tuple[int, int]) -> tuple[int, int] | None:
        """Give the commit that the caller wrote and this node did not show in time; None if there is none."""
        return self._own_writes.owed(call.caller, call.database, visible) if self._own_writes else None

    async def answer(self, pipeline: PipelineBody, call: Call, encode: EncodeAnswer = encode_answer) -> Answer:
        """Run a pipeline. Raises HranaProtocolError, StreamExpired, BatonElsewhere and the errors of the node."""
        slots, baton, bookmark = await self._answer(pipeline, call)
        txid = None if bookmark is None else int(bookmark.txid)
        return Answer(encode(slots, baton=baton, base_url=self._base_url, txid=txid), bookmark)

    async def answer_cursor(self, body: CursorBody, call: Call) -> CursorAnswer:
        """Run the batch of a cursor over HTTP. Raises as `answer`."""
        slots, baton, bookmark = await self._answer(PipelineBody([BatchRequest(body.batch)], body.baton), call)
        return CursorAnswer(slots[0], baton, self._base_url, bookmark)

    async def answer_batch(self, batch: WireBatch, call: Call) -> CursorAnswer:
        """Run a batch that leaves nothing open. Raises as `answer`."""
        slots, _, bookmark = await self._answer(PipelineBody([BatchRequest(batch), CloseRequest()]), call)
        return CursorAnswer(slots[0], None, self._base_url, bookmark)

    def answer_at_once(self, pipeline: PipelineBody, call: Call) -> Answer | Coroutine[Any, Any, Answer] | None:
        """Answer the plainest pipelines with the least ado; None: use `answer`.

        Short reads that this node may answer now are answered at once. For writes that leave nothing open it gives
        what waits for the primary; nothing has happened before that is awaited. Raises HranaProtocolError and the
        errors of the node, and then nothing has happened either.
        """
        if pipeline.baton is not None or call.freshness is not SESSION:
            return None
        rule = self._runs.rules.get(call.database, self._runs.usual_rule)
        if rule is not None and not rule.asks_for_nothing:
            return None
        reads = self._pool.ready(call.database)
        if reads is None:
            return None
        for wire in pipeline.requests:
            if type(wire) in _KEEPS_TEXTS:
                return None
        plan = make_plan(pipeline, None, _no_stream)
        requests, slot = plan.requests, reads.opened.slot
        wanted = call.bookmark
        if plan.min_txid or (wanted is not None and not _is_visible(wanted, call, self._positions.visible(slot))):
            return None
        if self._own_writes and self._own_writes.owed(call.caller, call.database, self._positions.visible(slot)):
            return None
        nature = nature_of(requests, reads.inline.statements)
        if nature is Nature.WRITES:
            return self._write(plan, call) if plan.closes else None
        if nature is not Nature.READS or self._local.are_slow(requests):
            return None
        results = self._local.at_once(reads.inline, requests)
        if results is None:
            return None
        self.statistics.note(call.database, requests, results)
        return self._encoded(plan, results, self._runs.bookmark(call.database, slot) if requests else None)

    async def _write(self, plan: Plan, call: Call) -> Answer:
        results, bookmark = await self._runs.forward(plan, call, is_read=False)
        self.statistics.note(call.database, plan.requests, results)
        return self._encoded(plan, results, bookmark)

    def _encoded(self, plan: Plan, results: list[Result], bookmark: Bookmark | None) -> Answer:
        txid = None if bookmark is None else int(bookmark.txid)
        return Answer(encode_answer(plan.merge(results), baton=None, base_url=self._base_url, txid=txid), bookmark)

    async def answer_stateless(self, pipeline: PipelineBody, call: Call) -> tuple[Answer, Failure | None]:
        """Run a request of Hrana 1 over HTTP; a failure of a statement is given beside its JSON. Raises as `answer`."""
        slots, _, bookmark = await self._answer(pipeline, call)
        first = slots[0]
        if isinstance(first, Failure):
            return Answer(encode_failure(first), bookmark), first
        return Answer(encode_stateless(slots), bookmark), None

    async def _answer(
        self, pipeline: PipelineBody, call: Call
    ) -> tuple[list[Result | str], str | None, Bookmark | None]:
        stream = None if pipeline.baton is None else self._take(pipeline.baton, call.database)
        plan: Plan | None = None
        try:
            plan = make_plan(pipeline, stream, lambda: self._streams.new(call.database))
            results: list[Result] = []
            bookmark: Bookmark | None = None
            if plan.requests:
                results, bookmark = await self._runs.run(plan, call)
            slots = plan.merge(results)
            baton = None if plan.stream is None else self._end(plan, plan.stream)
        except BaseException:
            kept = stream if plan is None else plan.stream
            if kept is not None:
                self._drop(kept)
            raise
        return slots, baton, bookmark

    # -- for programs of ours (records) ---------------------------------------------------------------------------

    async def read(self, database: str, requests: Sequence[Request]) -> list[Result]:
        """Run requests that only read, on what this node shows; short ones wait for nothing. Raises PandoError."""
        reads = self._pool.ready(database) or await self._pool.open(database)
        return await self._local.read(reads, requests)

    def bases(self, database: str) -> Bases:
        """Give what tells whether answers from this node's reads of a database are right still."""
        return Bases(self._pool, self._positions, database)

    async def write(self, requests: Sequence[Request], call: Call) -> tuple[list[Result], Bookmark | None]:
        """Run requests on the primary as one command that leaves nothing open. Raises PandoError."""
        return await self._runs.forward(Plan(None, list(requests), closes=True), call, is_read=False)

    async def until_shown(self, bookmark: Bookmark) -> None:
        """Wait until this node shows a commit, as long as for any bookmark; never fails, the write is done.

        For callers whose next read will not say what it must see: unlike `_until_visible` it does not give up because
        others have waited in vain.
        """
        place = (int(bookmark.epoch), int(bookmark.txid))
        reads = self._pool.ready(bookmark.database)
        if reads is not None and self._positions.visible(reads.opened.slot) >= place:
            return
        with contextlib.suppress(PandoError):
            await self._store.wait_position(bookmark.database, *place, self._bookmark_wait_s)

    async def until_shown_everywhere(self, database: str) -> None:
        """Wait until every replica that keeps up shows what was read here before; not for long, never fails."""
        seen = self.seen(database)
        if seen is None or seen == self._shown_everywhere.get(database):
            return
        with contextlib.suppress(PandoError, TimeoutError):
            async with asyncio.timeout(self._shown_wait_s + 1):
                await self._store.wait_shown(database, int(seen.epoch), int(seen.txid))
                self._shown_everywhere[database] = seen

    @property
    def is_primary(self) -> bool:
        """Whether this node takes the writes."""
        return self._store.is_primary

    def seen(self, database: str) -> Bookmark | None:
        """Name the newest commit that reads before this moment can have seen; None before the database was opened."""
        reads = self._pool.ready(database)
        return None if reads is None else self._runs.bookmark(database, reads.opened.slot)

    def late_s(self, database: str) -> float:
        """Give for how long, at least, this node has known of commits that it does not show (see `lateness`)."""
        reads = self._pool.ready(database)
        if reads is None or self._store.is_primary:
            return 0.0
        slot = reads.opened.slot
        late = self._lateness.get(database)
        if late is None:
            if len(self._lateness) >= limits.OPEN_DATABASES_MAX:
                self._lateness.clear()  # they begin anew: lateness is then found a moment later
            late = self._lateness[database] = Lateness()
        return late.late_s(self._positions.visible(slot)[1], self._positions.head(slot)[0], self._clock.monotonic())

    # -- time -----------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Forget idle streams and end overdue transactions; call every second or so."""
        now = self._clock.monotonic()
        for stream in self._streams.expire(now):
            self._runs.release(stream)
        for stream in list(self._runs.holding.values()):
            if stream.held is not None and now - stream.held.since > limits.READ_TRANSACTION_S and not stream.is_busy:
                self._end_overdue(stream, now)
        for stream in self._attached:
            if stream.is_open and now - stream.last_used > limits.STREAM_IDLE_S and not stream.is_busy:
                self._end_overdue(stream, now)

    def _end_overdue(self, stream: Stream, now: float) -> None:
        if stream.is_attached:
            limit = (
                f"a read transaction may stay open for {limits.READ_TRANSACTION_S:g} s"
                if stream.held is not None
                else f"there was no request for {limits.STREAM_IDLE_S:g} s"
            )
            stream.lost = Failure(f"The transaction was rolled back: {limit}; begin it again", TransactionTimeout.code)
        else:
            self._streams.expire_now(stream, now)
        self._runs.release(stream)

    @property
    def long_reads(self) -> int:
        """Reads that run in threads now."""
        return self._pool.running

    def describe_streams(self, most: int) -> list[str]:
        """Give a line about each open stream."""
        now = self._clock.monotonic()
        return [_described(stream, now) for stream in islice(chain(self._streams, self._attached), most)]

    def forget_database(self, name: str) -> None:
        """Close the connections to a database that was deleted or replaced."""
        self._pool.forget(name)

    def close(self) -> None:
        """End all streams and close all connections."""
        for stream in [*self._streams.expire(float("inf")), *self._attached]:
            self._runs.release(stream)
        self._pool.close()

    # -- streams --------------------------------------------------------------------------------------------------

    def _take(self, text: str, database: str) -> Stream:
        baton = self._streams.owner(text)
        if not self._streams.is_here(baton):
            raise BatonElsewhere(baton)
        return self._streams.take(baton, database)

    def _end(self, plan: Plan, stream: Stream) -> str | None:
        """Give the next baton, or forget the stream."""
        if plan.closes:
            self._drop(stream)
            return None
        return self._streams.keep(stream, self._clock.monotonic())

    def _drop(self, stream: Stream) -> None:
        self._streams.close(stream)
        self._runs.release(stream)


def _described(stream: Stream, now: float) -> str:
    """Say what a stream is doing, without its baton."""
    transaction = "a transaction on the primary" if stream.is_open else "a read transaction" if stream.held else "none"
    kind = "connection" if stream.is_attached else "baton"
    state = "busy" if stream.is_busy else f"idle for {max(0.0, now - stream.last_used):.1f} s"
    return f"stream of {stream.database} by {kind}: transaction: {transaction}, {state}"


def _no_stream() -> Stream:
    invariant(False, "a pipeline that is answered at once needs no stream")
    raise AssertionError


def _is_visible(bookmark: Bookmark, call: Call, visible: tuple[int, int]) -> bool:
    """Tell whether a bookmark asks for nothing that the node does not show."""
    return bookmark.database != call.database or (int(bookmark.epoch), int(bookmark.txid)) <= visible
