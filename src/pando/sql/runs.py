"""Where a plan runs, and that it does: on this node's own connections, or as one Run on the primary.

Reads run here if no transaction of their stream is open on the primary and this node is as fresh as asked. Short ones
run on the event loop, long ones again in a thread. Everything else is the primary's. Not here: batons and answers (see
`pando.sql.service`), links to the stores (see `pando.sql.store_client`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Final

from pando import limits
from pando.clock import Clock
from pando.errors import (
    Blocked,
    BookmarkTimeout,
    NotPrimary,
    NotReady,
    Overloaded,
    PrimaryUnavailable,
    StreamExpired,
    TransactionBusy,
    TransactionTimeout,
    UnknownDatabase,
)
from pando.sql.calls import Call
from pando.sql.freshness import SESSION, Level, Seen, Where, decide
from pando.sql.local_reads import LocalReads, only_text
from pando.sql.own_writes import OwnWrites
from pando.sql.plan import Plan
from pando.sql.readers import DatabaseReads, Held, ReadPool
from pando.sql.routing import Nature, may_set, nature_of, only_reads_anywhere, surely_writes
from pando.sql.rules import ONLY_SYSTEM, Rule, blocked
from pando.sql.statistics import Statistics
from pando.sql.store_client import Positions, StoreClient
from pando.sql.stream_settings import settings_after, with_settings
from pando.sql.streams import Stream, StreamTable
from pando.sql.visibility import Visibility
from pando.store.reading import ReadOptions
from pando.store.requests import Execute, Failure, Request, Result, Statement, StatementResult
from pando.store.runner import failure_of
from pando.store.tokens import first_keyword
from pando.types import TXID, Bookmark, Epoch

Done = tuple[list[Result], Bookmark | None]
"""Results of a plan's requests, and what they saw or made."""

WRITER_WAIT_S: Final = 1.0
"""How long a transaction that has only read so far waits for the writer, before it goes on from a snapshot of here."""
_TRANSACTIONS: Final = frozenset({Nature.READ_TRANSACTION, Nature.READONLY_TRANSACTION})
_AS_THE_PRIMARY: Final = frozenset({Level.BOUNDED, Level.STRONG})
_STALE: Final = Failure(
    "SQLite error: database is locked: others have written since this transaction read; roll it back and begin again,"
    " with BEGIN IMMEDIATE if it must not happen",
    "SQLITE_BUSY",
    "SQLITE_BUSY_SNAPSHOT",
)


class Runs:
    """Runs the plans of one web process."""

    def __init__(
        self,
        *,
        store: StoreClient,
        positions: Positions,
        streams: StreamTable,
        clock: Clock,
        inline_budget_s: float,
        bookmark_wait_s: float,
        own_write_wait_s: float,
        read_options: ReadOptions | None = None,
        own_writes: OwnWrites,
    ) -> None:
        self._store = store
        self._positions = positions
        self._streams = streams
        self._clock = clock
        self._bookmark_wait_s = bookmark_wait_s
        self._own_write_wait_s = own_write_wait_s
        self.pool = ReadPool(store, positions, clock, read_options)
        self.local = LocalReads(self.pool, clock, inline_budget_s)
        self.own_writes = own_writes
        self.holding: dict[int, Stream] = {}
        """Streams that hold a read transaction here."""
        self.rules: Mapping[str, Rule] = ONLY_SYSTEM
        """What holds for some databases; replaced as a whole."""
        self.usual_rule: Rule | None = None
        """What holds for the others."""
        self.statistics = Statistics()
        self._visibility = Visibility(store, clock)
        self._last_bookmark: Bookmark | None = None

    def release(self, stream: Stream) -> None:
        """End what the stream holds elsewhere."""
        stream.begun = None
        if stream.is_open:
            stream.is_open = False
            if stream.link_generation == self._store.generation:
                self._store.end_session(stream.session)
        self._let_go(stream)

    # -- where it runs --------------------------------------------------------------------------------------------

    async def run(self, plan: Plan, call: Call) -> Done:
        """Run a plan's requests in order. Raises PandoError; failures of statements are results."""
        rule = self.rules.get(call.database, self.usual_rule)
        if rule is None:
            done = await self._run(plan, call)
            self.statistics.note(call.database, plan.requests, done[0])
            return done
        try:
            call = rule.applied(call)
            if rule.blocks_reads:
                await self._check_reads(plan, call, rule)
            done = await self._run(plan, call)
            self.statistics.note(call.database, plan.requests, done[0])
            return done
        except Blocked as error:
            had_transaction = plan.stream is not None and plan.stream.has_transaction
            if plan.stream is not None and rule.blocks_writes:
                self.release(plan.stream)
            failure: Result = failure_of(error)
            if had_transaction or rule.blocks_reads or len(plan.requests) == 1:
                return [failure for _ in plan.requests], None
            return await self._read_what_reads(plan, call, failure)

    async def _read_what_reads(self, plan: Plan, call: Call, failure: Result) -> Done:
        """Answer those of several requests that only read, each by itself; the others fail."""
        reads = self.pool.ready(call.database) or await self.pool.open(call.database)
        natures = [nature_of([request], reads.inline.statements) for request in plan.requests]
        if not {Nature.READS, Nature.WRITES}.issuperset(natures):
            return [failure for _ in natures], None  # a transaction: what it would read without its writes is no answer
        results, bookmark = [failure for _ in natures], None
        for index, nature in enumerate(natures):
            if nature is Nature.READS:
                one = Plan(plan.stream, [plan.requests[index]], closes=plan.closes, min_txid=plan.min_txid)
                (results[index],), bookmark = await self._run(one, call)
        return results, bookmark

    async def _check_reads(self, plan: Plan, call: Call, rule: Rule) -> None:
        """Raise Blocked for requests that read; those of a transaction that writes may also end it."""
        reads = self.pool.ready(call.database) or await self.pool.open(call.database)
        nature = nature_of(plan.requests, reads.inline.statements)
        may_end = plan.stream is not None and plan.stream.is_open and nature is not Nature.READS
        if nature is not Nature.WRITES and not may_end:
            raise blocked(rule.reason)

    async def _run(self, plan: Plan, call: Call) -> Done:
        stream = plan.stream
        if stream is not None and stream.is_open:
            return await self.forward(plan, call, is_read=False)
        if stream is not None and stream.begun is not None:
            return await self._begin_now(plan, call, stream, stream.begun)
        if stream is not None and stream.held is not None:
            held = stream.held
            if held.may_write and nature_of(plan.requests, held.reader.statements) is Nature.WRITES:
                return await self._upgrade(plan, call, stream, held)
            return await self._continue_reading(plan, call, stream, held)
        if stream is not None and stream.settings:
            return await self._forward_set(plan, call)
        reads = self.pool.ready(call.database)
        if reads is None:
            try:
                reads = await self.pool.open(call.database)
            except (UnknownDatabase, NotReady) as error:
                if self._store.is_primary or (isinstance(error, NotReady) and _must_be_read_here(plan, call)):
                    raise
                return await self._forward_unseen(plan, call)
        if call.bookmark is not None or plan.min_txid or self.own_writes or call.freshness is not SESSION:
            is_fresh = await self._freshen(plan, call, reads)
            if self.pool.ready(call.database) is not reads:
                return await self._run(plan, call)  # while this waited, another file took the place of this one
        else:
            is_fresh = True
        nature = nature_of(plan.requests, reads.inline.statements)
        if not is_fresh and nature in _TRANSACTIONS:
            is_fresh = await self._until_current(call)
            if self.pool.ready(call.database) is not reads:
                return await self._run(plan, call)
        if nature is Nature.READS and is_fresh:
            return await self._read(plan, call, reads)
        if nature is Nature.WRITES:
            if not plan.closes and may_set(plan.requests):
                return await self._forward_set(plan, call)
            return await self.forward(plan, call, is_read=False)
        if not is_fresh:
            try:
                return await self._forward_stale(plan, call, nature)
            except BookmarkTimeout:
                if is_fresh is False or nature is not Nature.READS or not await self._has_caught_up(plan, call, reads):
                    raise
                return await self._read(plan, call, reads)
        return await self._read_in_transaction(plan, call, reads, nature)

    async def _freshen(self, plan: Plan, call: Call, reads: DatabaseReads, *, is_last: bool = False) -> bool | None:
        """Wait until this node is as fresh as asked; False means that the primary must answer.

        None: it should, since waiting was in vain a moment ago. `is_last`: it cannot, so wait all the same.
        """
        slot = reads.opened.slot
        visible = self._positions.visible(slot)
        head_txid, head_ms = self._positions.head(slot)
        age = max(0, self._clock.wall_ms() - head_ms)
        seen = Seen(visible, head_txid, age, self._store.is_primary)
        owed = self.own_writes.owed(call.caller, call.database, visible) if self.own_writes else None
        decision = decide(call.freshness, _wanted(call, plan.min_txid, visible, owed), seen)
        if decision.where is Where.LOCAL:
            return True
        if decision.where is Where.PRIMARY or surely_writes(plan.requests):
            return False
        if not is_last and owed is not None and self.own_writes.is_behind(call.database, self._clock.monotonic()):
            return None
        try:
            await self._store.wait_position(call.database, *decision.position, self._bookmark_wait_s)
        except BookmarkTimeout:
            return False
        return True

    async def _has_caught_up(self, plan: Plan, call: Call, reads: DatabaseReads) -> bool:
        """Wait after all: the primary is away, and what it wrote last may be just coming in."""
        is_fresh = await self._freshen(plan, call, reads, is_last=True)
        return bool(is_fresh) and self.pool.ready(call.database) is reads

    async def _forward_unseen(self, plan: Plan, call: Call) -> Done:
        """Have the primary answer for a database that this node cannot show, judged without its tables."""
        may_write = call.access.may_write(call.database)
        if not may_write and surely_writes(plan.requests):
            call.access.check_write(call.database)
        return await self.forward(plan, call, is_read=not may_write or only_reads_anywhere(plan.requests))

    async def _until_current(self, call: Call) -> bool:
        """Wait until this node shows what the primary has now, for a transaction of reads; False: not in time.

        The primary tells its position without the writer, which such a transaction would keep for itself.
        """
        if self._store.is_primary:
            return True
        if call.freshness.level not in _AS_THE_PRIMARY:
            return False
        try:
            ran = await self._store.run(call.database, 0, (), call.durability, True)
            await self._store.wait_position(call.database, ran.epoch, ran.txid, self._bookmark_wait_s)
        except (BookmarkTimeout, PrimaryUnavailable, NotPrimary):
            return False
        return True

    async def _forward_stale(self, plan: Plan, call: Call, nature: Nature) -> Done:
        """Have the primary read, since this node is behind."""
        try:
            return await self.forward(
                plan, call, is_read=nature is Nature.READS or not call.access.may_write(call.database)
            )
        except (PrimaryUnavailable, NotPrimary) as error:
            if call.freshness.level is Level.STRONG:
                raise
            raise BookmarkTimeout(
                f"this node is behind what the request asks for, and the primary cannot be asked: {error.message}"
            ) from error

    # -- here -----------------------------------------------------------------------------------------------------

    async def _read(self, plan: Plan, call: Call, reads: DatabaseReads) -> Done:
        """Run on this node's own connections."""
        results = await self.local.read(reads, plan.requests, call.watch)
        return results, self.bookmark(call.database, reads.opened.slot)

    def bookmark(self, database: str, slot: int) -> Bookmark:
        """Name the newest commit that the reads before this moment can have seen."""
        epoch, txid = self._positions.about(slot)
        last = self._last_bookmark
        if last is None or last.txid != txid or last.epoch != epoch or last.database != database:
            last = self._last_bookmark = Bookmark(database=database, epoch=Epoch(epoch), txid=TXID(txid))
        return last

    async def _read_in_transaction(self, plan: Plan, call: Call, reads: DatabaseReads, nature: Nature) -> Done:
        """Run BEGIN and reads on a connection of their own; what stays open is kept, or moves to the primary."""
        may_write = nature is not Nature.READONLY_TRANSACTION and call.access.may_write(call.database)
        if may_write and not plan.closes and _only_begins(plan.requests):
            return self._begin_later(plan, call, reads)
        before = self._positions.visible(reads.opened.slot)
        reader = reads.take()
        is_kept = False
        try:
            results = self.local.at_once(reader, plan.requests)
            if results is None:
                reader.roll_back()
                results = await self.local.in_thread(reader, plan.requests, call.watch)
            if reader.connection.in_transaction and not plan.closes:
                position = before if before == self._positions.about(reads.opened.slot) else None
                if may_write and (done := await self._take_writer(plan, call)) is not None:
                    return done
                self._hold(plan, call, Held(reader, reads, self._clock.monotonic(), may_write, position))
                is_kept = True
        finally:
            if not is_kept:
                reads.give_back(reader)
        return results, self.bookmark(call.database, reads.opened.slot)

    # -- transactions that may read or write -----------------------------------------------------------------------

    def _begin_later(self, plan: Plan, call: Call, reads: DatabaseReads) -> Done:
        """Note a plain BEGIN; nothing is held for it before its client asks for something."""
        if plan.stream is None:
            plan.stream = self._streams.new(call.database)
        plan.stream.begun = plan.requests[0]
        return [StatementResult((), [])], self.bookmark(call.database, reads.opened.slot)

    async def _begin_now(self, plan: Plan, call: Call, stream: Stream, begun: Request) -> Done:
        """Run what follows such a BEGIN, together with it."""
        stream.begun = None
        whole = Plan(stream, [begun, *plan.requests], closes=plan.closes, min_txid=plan.min_txid)
        results, bookmark = await self._run(whole, call)
        if isinstance(results[0], Failure):
            self.release(stream)
            return [results[0] for _ in plan.requests], None
        return results[1:], bookmark

    async def _take_writer(self, plan: Plan, call: Call) -> Done | None:
        """Run what only reads so far on the primary, where it may go on to write; None: not to be had soon."""
        try:
            async with asyncio.timeout(WRITER_WAIT_S):
                return await self.forward(plan, call, is_read=False, is_patient=True)
        except (TimeoutError, PrimaryUnavailable, NotPrimary):
            if plan.stream is not None:
                self._end_session(plan.stream)
            return None

    async def _upgrade(self, plan: Plan, call: Call, stream: Stream, held: Held) -> Done:
        """Go on on the primary with a transaction that has read here, if what it has read is still the newest."""
        begin = Plan(stream, [Execute(Statement("BEGIN IMMEDIATE"))])
        (began,), bookmark = await self.forward(begin, call, is_read=False)
        if isinstance(began, Failure):
            return [began for _ in plan.requests], None
        place = None if bookmark is None else (int(bookmark.epoch), int(bookmark.txid))
        if held.position is None or place != held.position:
            self._end_session(stream)
            return [_STALE for _ in plan.requests], None
        self._let_go(stream)
        return await self.forward(plan, call, is_read=False)

    def _end_session(self, stream: Stream) -> None:
        """End a session on the primary whose stream goes on."""
        if stream.is_open:
            stream.is_open = False
            if stream.link_generation == self._store.generation:
                self._store.end_session(stream.session)
            self._streams.renew(stream)

    def _let_go(self, stream: Stream) -> None:
        """End what a stream holds here."""
        held, stream.held = stream.held, None
        if held is not None:
            del self.holding[stream.id]
            held.release()

    def _hold(self, plan: Plan, call: Call, held: Held) -> None:
        if len(self.holding) >= limits.READ_TRANSACTIONS_MAX:
            raise Overloaded(f"{len(self.holding)} read transactions are open in this process; try again later")
        if plan.stream is None:
            plan.stream = self._streams.new(call.database)
        plan.stream.held = held
        self.holding[plan.stream.id] = plan.stream

    async def _continue_reading(self, plan: Plan, call: Call, stream: Stream, held: Held) -> Done:
        """Go on in a read transaction. Only what can be run twice may start on the event loop."""
        reader = held.reader
        results = None
        if nature_of(plan.requests[:-1], reader.statements) is Nature.READS and only_text(plan.requests[-1:]):
            results = self.local.at_once(reader, plan.requests)
        if results is None:
            results = await self.local.in_thread(reader, plan.requests, call.watch)
        if not reader.connection.in_transaction:
            self.release(stream)
        return results, self.bookmark(call.database, held.home.opened.slot)

    # -- on the primary -------------------------------------------------------------------------------------------

    async def forward(self, plan: Plan, call: Call, *, is_read: bool, is_patient: bool = False) -> Done:
        """Send all requests as one Run. Raises PandoError; what a transaction's end does to it becomes results."""
        if not is_read:
            call.access.check_write(call.database)
            if not self._store.is_primary:
                self.statistics.note_forwarded(call.database)
        if not self._store.generation:  # before the session takes note of the link on which it begins
            await self._store.until_writer()
        stream = self._session_of(plan, call, is_read=is_read)
        session = 0 if stream is None else stream.session
        try:
            ran = await self._store.run(call.database, session, plan.requests, call.durability, is_read, is_patient)
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

    async def _forward_set(self, plan: Plan, call: Call) -> Done:
        """As `forward`, for a stream that has changed settings of its connection, or may do so now."""
        settings = {} if plan.stream is None else plan.stream.settings
        whole = Plan(plan.stream, with_settings(plan.requests, settings), closes=plan.closes, min_txid=plan.min_txid)
        try:
            results, bookmark = await self.forward(whole, call, is_read=False)
        finally:
            plan.stream = whole.stream
        own, settings = settings_after(results, settings, is_open=plan.stream is not None and plan.stream.is_open)
        if plan.stream is not None:
            plan.stream.settings = settings
        return own, bookmark

    async def _until_visible(self, call: Call, place: tuple[int, int]) -> None:
        """Wait a moment until this node shows what was written through it; never fails, the write is done."""
        reads = self.pool.ready(call.database)
        if reads is not None:
            visible = partial(self._positions.visible, reads.opened.slot)
            if visible() >= place:
                return
            if not self.own_writes.is_behind(call.database, self._clock.monotonic()) and await self._visibility.until(
                call.database, place, visible, self._own_write_wait_s
            ):
                return
        self.own_writes.remember(call.caller, call.database, place, self._clock.monotonic())

    def _note_seen(self, call: Call, place: tuple[int, int]) -> None:
        """The primary has answered a read: who carries no bookmark must not see older data here a moment later."""
        reads = self.pool.ready(call.database)
        if reads is None or self._positions.visible(reads.opened.slot) < place:
            self.own_writes.remember(call.caller, call.database, place, self._clock.monotonic())

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
            self._streams.renew(stream)
            raise StreamExpired("The connection to the primary was lost and the transaction with it; begin it again")
        stream.is_open, stream.link_generation = True, generation
        return stream


def _only_begins(requests: Sequence[Request]) -> bool:
    """Tell of a pipeline that leaves a transaction open whether it does nothing else."""
    text = only_text(requests)
    return text is not None and first_keyword(text) == "BEGIN"


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
