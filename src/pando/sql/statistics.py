"""What each database was asked in this process: counters by statement, how long statements took, the ten heaviest and
the ten slowest.

A request costs a few lookups and additions. Pure, bounded. Not here: adding up the processes of a node
(`pando.api.admin_stats`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import msgspec

from pando.store.requests import Batch, BatchResult, Execute, Request, Result, StatementResult

DATABASES_MAX: Final = 2000
"""Databases of which is kept what they were asked; past it the one that came first is forgotten."""
QUERIES_KEPT: Final = 10
"""Statements in each list (sqld's figure)."""
QUERY_CHARS: Final = 1000
"""How much of a statement's text is kept."""
TEXTS_KEPT: Final = 30
"""Statements that are counted each by itself."""
_REPLACE_EVERY: Final = 64
"""So often an unknown statement takes the place of one of them: those that come again and again stay."""
DURATIONS_KEPT: Final = 512
"""Statements of which is kept how long they took: the last ones."""


class Query(msgspec.Struct, frozen=True):
    """A statement that was heavy or slow: all of its runs of one list, the worst first."""

    query: str
    rows_read: int
    rows_written: int
    elapsed_ms: float

    @property
    def weight(self) -> int:
        """By what the heaviest are found."""
        return self.rows_read + self.rows_written


class Runs(msgspec.Struct):
    """All runs of one statement, or of several."""

    query: str = ""
    count: int = 0
    rows_read: int = 0
    rows_written: int = 0
    elapsed_ms: float = 0.0

    def add(self, other: Runs) -> None:
        """Add those of another one."""
        self.count += other.count
        self.rows_read += other.rows_read
        self.rows_written += other.rows_written
        self.elapsed_ms += other.elapsed_ms


class Counters(msgspec.Struct):
    """What one database was asked, since the process began."""

    queries: int = 0
    rows_read: int = 0
    rows_written: int = 0
    elapsed_ms: float = 0.0
    forwarded: int = 0
    """Requests that a replica sent on to the primary."""
    top: list[Query] = []
    slowest: list[Query] = []
    runs: list[Runs] = []
    """By statement, of those that are kept."""
    durations_ms: list[float] = []
    """How long the last statements took."""


@dataclass(slots=True)
class _Kept:
    counters: Counters
    least_weight: int = 0
    least_ms: float = 0.0
    weights: dict[str, int] = field(default_factory=dict)
    """Of the statements in the list of the heaviest."""
    times_ms: dict[str, float] = field(default_factory=dict)
    """Of the statements in the list of the slowest."""
    runs: dict[str, Runs] = field(default_factory=dict)
    """By the text of the statement."""
    others: Runs = field(default_factory=Runs)
    """Of statements that are not among them."""
    unknown: int = 0
    durations_ms: deque[float] = field(default_factory=lambda: deque(maxlen=DURATIONS_KEPT))

    def count(self, text: str, result: StatementResult) -> int:
        """Add one up; gives the rows that it read and wrote."""
        rows_read = result.rows_read or len(result.rows)
        rows_written = result.rows_written or result.affected_row_count
        runs = self.runs.get(text)
        if runs is None:
            runs = self._runs_of(text)
        runs.count += 1
        runs.rows_read += rows_read
        runs.rows_written += rows_written
        runs.elapsed_ms += result.duration_ms
        self.durations_ms.append(result.duration_ms)
        return rows_read + rows_written

    def _runs_of(self, text: str) -> Runs:
        """Give where a text is counted that was not known; now and then it takes the place of the least one."""
        if len(text) > QUERY_CHARS:
            return self.others
        if len(self.runs) >= TEXTS_KEPT:
            self.unknown += 1
            if self.unknown % _REPLACE_EVERY:
                return self.others
            least = min(self.runs.values(), key=lambda runs: runs.elapsed_ms)
            self.others.add(self.runs.pop(least.query))
        found = self.runs[text] = Runs(text)
        return found

    def told(self) -> Counters:
        """Give all of it."""
        total = Runs()
        for runs in (self.others, *self.runs.values()):
            total.add(runs)
        counters = self.counters
        counters.queries, counters.elapsed_ms = total.count, total.elapsed_ms
        counters.rows_read, counters.rows_written = total.rows_read, total.rows_written
        counters.runs, counters.durations_ms = list(self.runs.values()), list(self.durations_ms)
        return counters

    def enlist(self, text: str, rows: int, result: StatementResult) -> None:
        """Put a statement into the lists that it belongs into, unless it is there with a worse run."""
        text = text[:QUERY_CHARS]
        if rows > self.weights.get(text, 0) or result.duration_ms > self.times_ms.get(text, 0.0):
            _list(self, text, result)


class Statistics:
    """The databases of one process."""

    def __init__(self, *, databases_max: int = DATABASES_MAX) -> None:
        self._databases_max = databases_max
        self._kept: dict[str, _Kept] = {}

    def of(self, database: str) -> Counters:
        """Give what is known of a database; empty if nothing is."""
        kept = self._kept.get(database)
        return Counters() if kept is None else kept.told()

    def forget(self, database: str) -> None:
        """The database was deleted."""
        self._kept.pop(database, None)

    def reset(self, database: str, *, slowest: bool) -> None:
        """Begin one of the lists anew."""
        kept = self._kept.get(database)
        if kept is None:
            return
        if slowest:
            kept.counters.slowest, kept.least_ms, kept.times_ms = [], 0.0, {}
        else:
            kept.counters.top, kept.least_weight, kept.weights = [], 0, {}

    def note(self, database: str, requests: Sequence[Request], results: Sequence[Result]) -> None:
        """Count what was run."""
        kept = self._kept.get(database) or self._keep(database)
        for number, result in enumerate(results):
            if type(result) is StatementResult:
                request = requests[number]
                text = request.statement.sql if type(request) is Execute else ""
                rows = kept.count(text, result)
                if rows > kept.least_weight or result.duration_ms > kept.least_ms:
                    kept.enlist(text, rows, result)
            elif type(result) is BatchResult:
                _count_batch(kept, requests[number], result)

    def note_forwarded(self, database: str) -> None:
        """Count a request that goes to the primary."""
        kept = self._kept.get(database) or self._keep(database)
        kept.counters.forwarded += 1

    def _keep(self, database: str) -> _Kept:
        if len(self._kept) >= self._databases_max:
            del self._kept[next(iter(self._kept))]
        kept = self._kept[database] = _Kept(Counters())
        return kept


def _count_batch(kept: _Kept, request: Request, result: BatchResult) -> None:
    if type(request) is Batch:
        for step, done in zip(request.steps, result.results, strict=False):
            if done is not None:
                rows = kept.count(step.statement.sql, done)
                if rows > kept.least_weight or done.duration_ms > kept.least_ms:
                    kept.enlist(step.statement.sql, rows, done)


def _list(kept: _Kept, text: str, result: StatementResult) -> None:
    counters = kept.counters
    rows_read = result.rows_read or len(result.rows)
    rows_written = result.rows_written or result.affected_row_count
    query = Query(text, rows_read, rows_written, result.duration_ms)
    if query.weight > kept.least_weight:
        counters.top = _worst([*counters.top, query], _by_weight)
        kept.least_weight = counters.top[-1].weight if len(counters.top) == QUERIES_KEPT else 0
        kept.weights = {each.query: each.weight for each in counters.top}
    if query.elapsed_ms > kept.least_ms:
        counters.slowest = _worst([*counters.slowest, query], _by_time)
        kept.least_ms = counters.slowest[-1].elapsed_ms if len(counters.slowest) == QUERIES_KEPT else 0.0
        kept.times_ms = {each.query: each.elapsed_ms for each in counters.slowest}


def _by_weight(query: Query) -> float:
    return -query.weight


def _by_time(query: Query) -> float:
    return -query.elapsed_ms


def _worst(queries: Iterable[Query], order: Callable[[Query], float]) -> list[Query]:
    """Give the first of an order; a text is in it once, with its worst run."""
    found: dict[str, Query] = {}
    for query in sorted(queries, key=order):
        found.setdefault(query.query, query)
    return list(found.values())[:QUERIES_KEPT]


def joined(all_counters: Iterable[Counters]) -> Counters:
    """Add up what several processes know of one database."""
    total = Counters()
    for counters in all_counters:
        total.queries += counters.queries
        total.rows_read += counters.rows_read
        total.rows_written += counters.rows_written
        total.elapsed_ms += counters.elapsed_ms
        total.forwarded += counters.forwarded
        total.top = _worst([*total.top, *counters.top], _by_weight)
        total.slowest = _worst([*total.slowest, *counters.slowest], _by_time)
        total.runs = _added([*total.runs, *counters.runs])
        total.durations_ms = [*total.durations_ms, *counters.durations_ms]
    return total


def _added(all_runs: Iterable[Runs]) -> list[Runs]:
    """Add up what is of one text; those that took the most time come first."""
    found: dict[str, Runs] = {}
    for runs in all_runs:
        found.setdefault(runs.query, Runs(runs.query)).add(runs)
    return sorted(found.values(), key=lambda runs: -runs.elapsed_ms)[:TEXTS_KEPT]


def percentile_ms(ordered_ms: Sequence[float], part: float) -> float:
    """Give what so large a part of the durations, in order, does not exceed; 0 for none."""
    return ordered_ms[max(0, ceil(part * len(ordered_ms)) - 1)] if ordered_ms else 0.0
