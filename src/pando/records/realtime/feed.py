"""Reads the change feed (`pando.store.feed`) after a cursor, in bounded batches.

A cursor is the sequence number of the last change that was seen, the same on every node; 0 is the beginning.
Sequence numbers rise by one, so a hole means that changes were deleted, and whoever stood before it has missed some:
CursorGone. The last row must never be deleted (FORGET heeds that), or numbers would begin anew. Not here: when to
read (`pump`), who may read.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from pando import limits
from pando.errors import CorruptionError, invariant
from pando.records.engine import Reads, Row, Statement, Value
from pando.records.problems import ApiError, Problem
from pando.records.realtime.changes import OPERATIONS, Change, Cursor

_SIZES = (
    "SELECT sequence, ifnull(octet_length(old), 0) + ifnull(octet_length(new), 0) "
    "FROM _changes WHERE sequence > ? ORDER BY sequence LIMIT ?"
)
_ROWS = (
    'SELECT sequence, time_ms, "table", operation, key, old, new '
    "FROM _changes WHERE sequence BETWEEN ? AND ? ORDER BY sequence"
)
_HEAD = (
    'SELECT sequence, time_ms, "table", operation, key, octet_length(old), octet_length(new) '
    "FROM _changes WHERE sequence = ?"
)
_PIECES: Final = {
    name: f"SELECT substr(CAST({name} AS BLOB), ?, ?) FROM _changes WHERE sequence = ?" for name in ("old", "new")
}
_NEWEST = "SELECT ifnull(max(sequence), 0) FROM _changes"
_FORGET = "DELETE FROM _changes WHERE sequence <= ? AND time_ms < ? AND sequence < (SELECT max(sequence) FROM _changes)"


class CursorGone(ApiError):
    """Changes after a cursor are no longer kept: who stood there must begin anew.

    `oldest` is the first that is kept after the cursor, None if the cursor is none that the feed has given.
    """

    def __init__(self, cursor: Cursor, reason: str, *, oldest: Cursor | None = None) -> None:
        message = (
            f"The cursor {cursor} cannot be gone on from: {reason}. Read the records anew, then the newest changes."
        )
        super().__init__(410, message, {"since": Problem("validation_cursor_gone", reason)})
        self.cursor = cursor
        self.oldest = oldest


class Feed:
    """The feed of one database."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    async def newest(self) -> Cursor:
        """Give the cursor behind the newest change."""
        found = (await self._reads.query(_NEWEST))[0][0]
        invariant(isinstance(found, int), "a sequence is a whole number", found=found)
        return int(found or 0)

    async def read(self, after: Cursor, *, most: int = limits.CHANGES_BATCH_MAX) -> list[Change]:
        """Give the changes after a cursor, oldest first, none if there is nothing newer. Raises CursorGone.

        At most `most` of them, and at most CHANGES_BATCH_BYTES_MAX of rows, but one at least.
        """
        sizes = await self._reads.query(_SIZES, (after, most))
        if not sizes:
            return []
        last = _last_that_fits(after, sizes)
        if last == after + 1 and _whole(sizes[0][1]) > limits.CHANGES_BATCH_BYTES_MAX:
            return [await self._read_large(last)]
        changes = [_change(row) for row in await self._reads.query(_ROWS, (after + 1, last))]
        if [change.sequence for change in changes] != list(range(after + 1, last + 1)):
            raise _gone(after, last + 1)  # deleted between the two queries
        return changes

    async def get(self, sequence: Cursor) -> Change | None:
        """Give one change; None if it is no longer kept, or not there yet."""
        try:
            changes = await self.read(sequence - 1, most=1)
        except CursorGone:
            return None
        return changes[0] if changes else None

    async def check(self, cursor: Cursor) -> None:
        """Raise CursorGone unless one can go on from a cursor. On a replica ask when it shows what the cursor saw."""
        newest = await self.newest()
        if not 0 <= cursor <= newest:
            raise CursorGone(cursor, f"the newest change is {newest}; the feed was begun anew")
        if cursor < newest:
            await self.read(cursor, most=1)

    async def _read_large(self, sequence: Cursor) -> Change:
        """Read a change that is longer than what one statement gives."""
        head = await self._reads.query(_HEAD, (sequence,))
        if not head:
            raise _gone(sequence - 1, sequence + 1)
        *facts, old_size, new_size = head[0]
        old = await self._read_text("old", sequence, old_size)
        new = await self._read_text("new", sequence, new_size)
        return _change((*facts, old, new))

    async def _read_text(self, column: str, sequence: Cursor, size: Value) -> str | None:
        if size is None:
            return None
        piece = limits.CHANGES_BATCH_BYTES_MAX
        parts: list[bytes] = []
        for start in range(1, _whole(size) + 1, piece):
            rows = await self._reads.query(_PIECES[column], (start, piece, sequence))
            if not rows or not isinstance(rows[0][0], bytes):
                raise _gone(sequence - 1, sequence + 1)
            parts.append(rows[0][0])
        return b"".join(parts).decode()


UntilShown = Callable[[], Awaitable[None]]
"""Returns when other nodes show what was read here before."""


class SharedFeed(Feed):
    """Gives changes when other nodes show them too: who hears of one may ask any node for the record at once."""

    def __init__(self, reads: Reads, until_shown: UntilShown) -> None:
        super().__init__(reads)
        self._until_shown = until_shown

    async def read(self, after: Cursor, *, most: int = limits.CHANGES_BATCH_MAX) -> list[Change]:
        """Give the changes after a cursor, oldest first. Raises CursorGone."""
        changes = await super().read(after, most=most)
        if changes:
            await self._until_shown()
        return changes


def forget(up_to: Cursor, before_ms: int) -> Statement:
    """Make the statement that deletes changes which nobody needs: up to a cursor, and older than a moment."""
    return Statement(_FORGET, (up_to, before_ms))


def _last_that_fits(after: Cursor, sizes: list[Row]) -> Cursor:
    """Give the last sequence that goes into one batch; raises CursorGone if the first is not the next one."""
    last, total = after, 0
    for sequence, size in sizes:
        total += _whole(size)
        if sequence != last + 1 or (total > limits.CHANGES_BATCH_BYTES_MAX and last > after):
            break
        last += 1
    if last == after:
        raise _gone(after, _whole(sizes[0][0]))
    return last


def _whole(value: Value) -> int:
    invariant(isinstance(value, int), "a whole number", value=value)
    return int(value or 0)


def _gone(cursor: Cursor, oldest: Cursor) -> CursorGone:
    return CursorGone(cursor, f"changes up to {oldest - 1} are no longer kept", oldest=oldest)


def _change(row: Row) -> Change:
    sequence, time_ms, table, operation, key, old, new = row
    if operation not in OPERATIONS or not isinstance(table, str):
        raise CorruptionError(f"change {sequence!r} of the feed is none: {operation!r} of {table!r}")
    return Change(
        sequence=_whole(sequence),
        time_ms=_whole(time_ms),
        table=table,
        operation=OPERATIONS[str(operation)],
        key=key,
        old_json=old if isinstance(old, str) else None,
        new_json=new if isinstance(new, str) else None,
    )
