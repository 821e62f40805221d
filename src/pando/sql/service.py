"""Answers decoded pipelines: reads on this node's own connections, everything else as one Run on the primary.

A pipeline runs here if all of its statements only read and no transaction of its stream is open on the primary. Short
reads run on the event loop, long ones again in a thread. A transaction that only reads stays on a connection of this
process until it ends. Not here: HTTP (see `pando.api.pipeline`), links to the stores (see `pando.sql.store_client`).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from pando import limits
from pando.clock import Clock
from pando.errors import (
    BookmarkTimeout,
    NotPrimary,
    NotReady,
    Overloaded,
    PandoError,
    PrimaryUnavailable,
    StreamExpired,
    TransactionBusy,
    TransactionTimeout,
    UnknownDatabase,
    invariant,
)
from pando.sql.access import FULL_ACCESS, Access
from pando.sql.answers import encode_answer, encode_failure, encode_stateless
from pando.sql.basis import Bases
from pando.sql.batons import Baton
from pando.sql.freshness import SESSION, Freshness, Level, Seen, Where, decide
from pando.sql.lateness import Lateness
from pando.sql.local_reads import LocalReads, only_text
from pando.sql.messages import CloseSqlRequest, PipelineBody, StoreSqlRequest
from pando.sql.own_writes import OwnWrites
from pando.sql.plan import Plan, make_plan
from pando.sql.readers import DatabaseReads, Held, ReadPool, Watch
from pando.sql.routing import Nature, ends_transaction, nature_of, surely_writes
from pando.sql.store_client import Positions, StoreClient
from pando.sql.streams import Stream, StreamTable
from pando.sql.visibility import Visibility
from pando.store.requests import Failure, Request, Result
from pando.store.runner import failure_of
from pando.types import TXID, Bookmark, Epoch


@dataclass(frozen=True, slots=True)
class Call:
    """What a request says besides its pipeline."""

    database: str
    access: Access = FULL_ACCESS
    bookmark: Bookmark | None = None
    freshness: Freshness = SESSION
    durability: str = ""
    caller: bytes = b""
    """Who asks: the token, as it was sent."""
    watch: Watch | None = None
    """Returns when the client is gone; asked only while a long read runs."""


@dataclass(frozen=True, slots=True)
class Answer:
    """JSON, and the bookmark of what was read and written (None if nothing was)."""

    body: bytes
    bookmark: Bookmark | None


_LOSING_CODES: Final = frozenset({TransactionTimeout.code, TransactionBusy.code})

_KEEPS_TEXTS: Final = frozenset({StoreSqlRequest, CloseSqlRequest})

_Done = tuple[list[Result], Bookmark | None]


class BatonElsewhere(PandoError):
    """The stream is held by another process: the request must be sent there as it is."""

    code = "BATON_ELSEWHERE"

    def __init__(self, baton: Baton) -> None:
        super().__init__(f"the stream is on node {baton.node}, web process {baton.web}")
        self.baton = baton


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
    ) -> None:
        self._store = store
        self._positions = positions
        self._streams = streams
        self._clock = clock
        self._base_url = base_url
        self._bookmark_wait_s = bookmark_wait_s
        self._own_write_wait_s = own_write_wait_s
        self._shown_wait_s = shown_wait_s
        self._pool = ReadPool(store, positions, clock)
        self._local = LocalReads(self._pool, clock, inline_budget_s)
        self._holding: dict[int, Stream] = {}
        self._attached: dict[int, Stream] = {}
        self._own_writes = OwnWrites()
        self._lateness: dict[str, Lateness] = {}
        self._shown_everywhere: dict[str, Bookmark] = {}
        self._visibility = Visibility(store, clock)
        self._last_bookmark: Bookmark | None = None

    async def answer(self, pipeline: PipelineBody, call: Call) -> Answer:
        """Run a pipeline. Raises HranaProtocolError, StreamExpired, BatonElsewhere and the errors of the node."""
        slots, baton, bookmark = await self._answer(pipeline, call)
        txid = None if bookmark is None else int(bookmark.txid)
        return Answer(encode_answer(slots, baton=baton, base_url=self._base_url, txid=txid), bookmark)

    def answer_at_once(self, pipeline: PipelineBody, call: Call) -> Answer | Coroutine[Any, Any, Answer] | None:
        """Answer the plainest pipelines with the least ado; None: use `answer`.

        Short reads that this node may answer now are answered at once. For writes that leave nothing open it gives
        what waits for the primary; nothing has happened before that is awaited. Raises HranaProtocolError and the
        errors of the node, and then nothing has happened either.
        """
        if pipeline.baton is not None or call.freshness is not SESSION:
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
        return self._encoded(plan, results, self._bookmark(call.database, slot) if requests else None)

    async def _write(self, plan: Plan, call: Call) -> Answer:
        return self._encoded(plan, *await self._forward(plan, call, is_read=False))

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
                results, bookmark = await self._run(plan, call)
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
        return await self._forward(Plan(None, list(requests), closes=True), call, is_read=False)

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
        return None if reads is None else self._bookmark(database, reads.opened.slot)

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

    # -- streams that live with a connection ----------------------------------------------------------------------

    def attach(self, database: str) -> Stream:
        """Make a stream that lives until `detach`; no baton names it. Raises Overloaded."""
        if len(self._attached) >= limits.STREAMS_MAX:
            raise Overloaded(f"this process has {limits.STREAMS_MAX} open streams; close some, or try again later")
        stream = self._streams.new(database)
        stream.is_attached = True
        self._attached[stream.id] = stream
        return stream

    def detach(self, stream: Stream) -> None:
        """Forget such a stream; its transaction is rolled back, at the latest when its request has ended."""
        self._attached.pop(stream.id, None)
        stream.is_gone = True
        if not stream.is_busy:
            self._release(stream)

    async def run_attached(self, stream: Stream, request: Request, call: Call, min_txid: int = 0) -> tuple[Result, int]:
        """Run one request of such a stream; gives its result and the TXID that it saw or made (0: none)."""
        result, bookmark = await self.run_attached_at(stream, request, call, min_txid)
        return result, 0 if bookmark is None else int(bookmark.txid)

    async def run_attached_at(
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
            results, bookmark = await self._run(Plan(stream, [request], min_txid=min_txid), call)
            lost = results[0] if isinstance(results[0], Failure) and not stream.has_transaction else None
            if lost is not None and lost.code not in _LOSING_CODES:
                lost = None
        except BaseException as error:
            self._release(stream)
            lost = failure_of(error) if isinstance(error, PandoError) else None
            raise
        finally:
            stream.is_busy = False
            stream.last_used = self._clock.monotonic()
            if had_transaction and lost is not None and not ends_transaction(request):
                stream.lost = lost
            if stream.is_gone:
                self._release(stream)
        return results[0], bookmark

    def _still_lost(self, stream: Stream, request: Request) -> Failure:
        lost = stream.lost
        invariant(lost is not None, "asked only of a stream that lost its transaction")
        assert lost is not None
        if ends_transaction(request):
            stream.lost = None
        return lost

    # -- time -----------------------------------------------------------------------------------------------------

    def sweep(self) -> None:
        """Forget idle streams and end overdue transactions; call every second or so."""
        now = self._clock.monotonic()
        for stream in self._streams.expire(now):
            self._release(stream)
        for stream in list(self._holding.values()):
            if stream.held is not None and now - stream.held.since > limits.READ_TRANSACTION_S and not stream.is_busy:
                self._end_overdue(stream, now)
        for stream in self._attached.values():
            if stream.is_open and now - stream.last_used > limits.STREAM_IDLE_S and not stream.is_busy:
                self._end_overdue(stream, now)

    def _end_overdue(self, stream: Stream, now: float) -> None:
        if stream.is_attached:
            stream.lost = Failure("The transaction was open for too long and was rolled back", TransactionTimeout.code)
        else:
            self._streams.expire_now(stream, now)
        self._release(stream)

    @property
    def long_reads(self) -> int:
        """Reads that run in threads now."""
        return self._pool.running

    def forget_database(self, name: str) -> None:
        """Close the connections to a database that was deleted or replaced."""
        self._pool.forget(name)

    def close(self) -> None:
        """End all streams and close all connections."""
        for stream in [*self._streams.expire(float("inf")), *self._attached.values()]:
            self._release(stream)
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
        self._release(stream)

    def _release(self, stream: Stream) -> None:
        """End what the stream holds elsewhere."""
        if stream.is_open:
            stream.is_open = False
            if stream.link_generation == self._store.generation:
                self._store.end_session(stream.session)
        held, stream.held = stream.held, None
        if held is not None:
            del self._holding[stream.id]
            held.release()

    # -- where it runs --------------------------------------------------------------------------------------------

    async def _run(self, plan: Plan, call: Call) -> _Done:
        stream = plan.stream
        if stream is not None and stream.is_open:
            return await self._forward(plan, call, is_read=False)
        if stream is not None and stream.held is not None:
            return await self._continue_reading(plan, call, stream, stream.held)
        reads = self._pool.ready(call.database)
        if reads is None:
            try:
                reads = await self._pool.open(call.database)
            except (UnknownDatabase, NotReady) as error:
                if self._store.is_primary or (isinstance(error, NotReady) and _must_be_read_here(plan, call)):
                    raise
                return await self._forward(plan, call, is_read=call.access.read_only)
        if call.bookmark is not None or plan.min_txid or self._own_writes or call.freshness is not SESSION:
            is_fresh = await self._freshen(plan, call, reads)
            if self._pool.ready(call.database) is not reads:
                return await self._run(plan, call)  # while this waited, another file took the place of this one
        else:
            is_fresh = True
        nature = nature_of(plan.requests, reads.inline.statements)
        if nature is Nature.READS and is_fresh:
            return await self._read(plan, call, reads)
        if nature is Nature.WRITES:
            return await self._forward(plan, call, is_read=False)
        if not is_fresh:
            return await self._forward_stale(plan, call, nature)
        return await self._read_in_transaction(plan, call, reads, nature)

    async def _freshen(self, plan: Plan, call: Call, reads: DatabaseReads) -> bool:
        """Wait until this node is as fresh as asked; False means that the primary must answer."""
        slot = reads.opened.slot
        visible = self._positions.visible(slot)
        head_txid, head_ms = self._positions.head(slot)
        age = max(0, self._clock.wall_ms() - head_ms)
        seen = Seen(visible, head_txid, age, self._store.is_primary)
        owed = self._own_writes.owed(call.caller, call.database, visible) if self._own_writes else None
        decision = decide(call.freshness, _wanted(call, plan.min_txid, visible, owed), seen)
        if decision.where is Where.LOCAL:
            return True
        if decision.where is Where.PRIMARY or surely_writes(plan.requests):
            return False
        if owed is not None and self._own_writes.is_behind(call.database, self._clock.monotonic()):
            return False
        try:
            await self._store.wait_position(call.database, *decision.position, self._bookmark_wait_s)
        except BookmarkTimeout:
            return False
        return True

    async def _forward_stale(self, plan: Plan, call: Call, nature: Nature) -> _Done:
        """Have the primary read, since this node is behind."""
        try:
            return await self._forward(plan, call, is_read=nature is Nature.READS or call.access.read_only)
        except (PrimaryUnavailable, NotPrimary) as error:
            if call.freshness.level is Level.STRONG:
                raise
            raise BookmarkTimeout(
                f"this node is behind what the request asks for, and the primary cannot be asked: {error.message}"
            ) from error

    # -- here -----------------------------------------------------------------------------------------------------

    async def _read(self, plan: Plan, call: Call, reads: DatabaseReads) -> _Done:
        """Run on this node's own connections."""
        results = await self._local.read(reads, plan.requests, call.watch)
        return results, self._bookmark(call.database, reads.opened.slot)

    def _bookmark(self, database: str, slot: int) -> Bookmark:
        """Name the newest commit that the reads before this moment can have seen."""
        epoch, txid = self._positions.about(slot)
        last = self._last_bookmark
        if last is None or last.txid != txid or last.epoch != epoch or last.database != database:
            last = self._last_bookmark = Bookmark(database=database, epoch=Epoch(epoch), txid=TXID(txid))
        return last

    async def _read_in_transaction(self, plan: Plan, call: Call, reads: DatabaseReads, nature: Nature) -> _Done:
        """Run BEGIN and reads on a connection of their own; what stays open is kept, or moves to the primary."""
        reader = reads.take()
        is_kept = False
        try:
            results = self._local.at_once(reader, plan.requests)
            if results is None:
                reader.roll_back()
                results = await self._local.in_thread(reader, plan.requests, call.watch)
            if reader.connection.in_transaction and not plan.closes:
                if nature is not Nature.READONLY_TRANSACTION and not call.access.read_only:
                    reader.roll_back()
                    return await self._forward(plan, call, is_read=False)
                self._hold(plan, call, Held(reader, reads, self._clock.monotonic()))
                is_kept = True
        finally:
            if not is_kept:
                reads.give_back(reader)
        return results, self._bookmark(call.database, reads.opened.slot)

    def _hold(self, plan: Plan, call: Call, held: Held) -> None:
        if len(self._holding) >= limits.READ_TRANSACTIONS_MAX:
            raise Overloaded(f"{len(self._holding)} read transactions are open in this process; try again later")
        if plan.stream is None:
            plan.stream = self._streams.new(call.database)
        plan.stream.held = held
        self._holding[plan.stream.id] = plan.stream

    async def _continue_reading(self, plan: Plan, call: Call, stream: Stream, held: Held) -> _Done:
        """Go on in a read transaction. Only what can be run twice may start on the event loop."""
        reader = held.reader
        results = None
        if nature_of(plan.requests[:-1], reader.statements) is Nature.READS and only_text(plan.requests[-1:]):
            results = self._local.at_once(reader, plan.requests)
        if results is None:
            results = await self._local.in_thread(reader, plan.requests, call.watch)
        if not reader.connection.in_transaction:
            self._release(stream)
        return results, self._bookmark(call.database, held.home.opened.slot)

    # -- on the primary -------------------------------------------------------------------------------------------

    async def _forward(self, plan: Plan, call: Call, *, is_read: bool) -> _Done:
        """Send all requests as one Run. Raises PandoError; what a transaction's end does to it becomes results."""
        if not is_read:
            call.access.check_write()
        stream = self._session_of(plan, call, is_read=is_read)
        session = 0 if stream is None else stream.session
        try:
            ran = await self._store.run(call.database, session, plan.requests, call.durability, is_read)
        except (TransactionTimeout, TransactionBusy) as error:
            if stream is not None:
                stream.is_open = False
            return [failure_of(error) for _ in plan.requests], None
        if stream is not None:
            stream.is_open = not ran.is_autocommit
        if ran.is_autocommit and not self._store.is_primary:
            if is_read and call.bookmark is None and not plan.min_txid:
                self._note_seen(call, (ran.epoch, ran.txid))
            elif not is_read:
                await self._until_visible(call, (ran.epoch, ran.txid))
        return ran.results, Bookmark(database=call.database, epoch=Epoch(ran.epoch), txid=TXID(ran.txid))

    async def _until_visible(self, call: Call, place: tuple[int, int]) -> None:
        """Wait a moment until this node shows what was written through it; never fails, the write is done."""
        reads = self._pool.ready(call.database)
        if reads is not None:
            visible = partial(self._positions.visible, reads.opened.slot)
            if visible() >= place:
                return
            if not self._own_writes.is_behind(call.database, self._clock.monotonic()) and await self._visibility.until(
                call.database, place, visible, self._own_write_wait_s
            ):
                return
        self._own_writes.remember(call.caller, call.database, place, self._clock.monotonic())

    def _note_seen(self, call: Call, place: tuple[int, int]) -> None:
        """The primary has answered a read: who carries no bookmark must not see older data here a moment later."""
        reads = self._pool.ready(call.database)
        if reads is None or self._positions.visible(reads.opened.slot) < place:
            self._own_writes.remember(call.caller, call.database, place, self._clock.monotonic())

    def _session_of(self, plan: Plan, call: Call, *, is_read: bool) -> Stream | None:
        """Give the stream whose session may keep a transaction open, None if nothing may stay open.

        Until the answer is there the transaction counts as open: if it never comes, the session is ended.
        """
        stream = plan.stream
        if is_read or (plan.closes and (stream is None or not stream.is_open)):
            return None
        generation = self._store.generation
        if stream is None:
            stream = plan.stream = self._streams.new(call.database)
        if stream.is_open and stream.link_generation != generation:
            stream.is_open = False
            raise StreamExpired("The connection to the primary was lost and the transaction with it; begin it again")
        stream.is_open, stream.link_generation = True, generation
        return stream


def _no_stream() -> Stream:
    invariant(False, "a pipeline that is answered at once needs no stream")
    raise AssertionError


def _is_visible(bookmark: Bookmark, call: Call, visible: tuple[int, int]) -> bool:
    """Tell whether a bookmark asks for nothing that the node does not show."""
    return bookmark.database != call.database or (int(bookmark.epoch), int(bookmark.txid)) <= visible


def _must_be_read_here(plan: Plan, call: Call) -> bool:
    """Tell whether the primary's answer could be newer than this node's next one, with nothing to tell the client so.

    Without a bookmark a client that stays on one node must not see time go back.
    """
    says_nothing = call.bookmark is None and not plan.min_txid
    is_modest = call.freshness.level in {Level.SESSION, Level.EVENTUAL}
    return says_nothing and is_modest and not surely_writes(plan.requests)


def _wanted(call: Call, min_txid: int, visible: tuple[int, int], owed: tuple[int, int] | None) -> Bookmark | None:
    """Join bookmark, `replication_index` and own writes. An index has no epoch and means the current one."""
    place = owed or (0, 0)
    if call.bookmark is not None and call.bookmark.database == call.database:
        place = max(place, (int(call.bookmark.epoch), int(call.bookmark.txid)))
    if min_txid:
        place = max(place, (visible[0], min_txid))
    return Bookmark(database=call.database, epoch=Epoch(place[0]), txid=TXID(place[1])) if place[1] else None
