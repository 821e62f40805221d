"""Decides what a database needs before its writer may open: nothing, frames captured, the log redone, or a new history.

Pure: it is given the end of the log and the rolling checksum of the database as it would be read after each commit in
the WAL. The states before the last checkpoint may be mixtures that never existed; they match no position, so they do
no harm.

What can have happened, given the invariant of `docs/architecture.md`:

    crash of the process    the WAL has all commits, the log may lack the last ones        -> Capture
    loss of power           the log has all acknowledged commits, the WAL may lack some    -> Redo
    both in turn            as one of the above, since each recovery ends with both equal
    another program wrote   no state of the file is in the log                             -> NewHistory

Not here: reading the file, the WAL or the log (see `pando.store.opening`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pando.types import EMPTY_CHECKSUM, NO_POSITION, Checksum, Position


@dataclass(frozen=True, slots=True, kw_only=True)
class Clean:
    """File and log agree."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Capture:
    """The log ends at the state after WAL commit number `after_commit`; the commits behind it must be captured."""

    after_commit: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Redo:
    """The file is at an older position of the log; the entries after it must be applied."""

    start: Position
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewHistory:
    """What is in the file is nothing that the log knows: begin a new history with a snapshot."""

    reason: str


Decision = Clean | Capture | Redo | NewHistory


def decide_recovery(
    log_last: Position,
    states: Sequence[Checksum],
    find_in_log: Callable[[Checksum], Position | None],
) -> Decision:
    """Choose how to make file, WAL and log equal.

    `states[k]` is the rolling checksum after WAL commit k (0: the file alone); `find_in_log` gives the newest
    position of the log with a checksum, or None.
    """
    current = states[-1]
    if log_last == NO_POSITION:
        if current == EMPTY_CHECKSUM:
            return Clean(reason="new empty database")
        return NewHistory(reason="a database that Pando has not seen before")
    if current == log_last.checksum:
        return Clean(reason="file and log agree")
    for commit in range(len(states) - 2, -1, -1):
        if states[commit] == log_last.checksum:
            return Capture(
                after_commit=commit, reason=f"the WAL holds {len(states) - 1 - commit} commits that the log lacks"
            )
    start = find_in_log(current)
    if start is not None:
        return Redo(start=start, reason=f"the file is at TXID {start.txid}, the log at {log_last.txid}")
    return NewHistory(reason="the file was changed while the node was stopped")
