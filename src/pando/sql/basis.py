"""What an answer was made of, so that it can be told later whether the same question would be answered the same.

A `Reading` is opened before the first query and told each statement that ran. At the end it gives a `Basis`: the tables
that were read and the last commit that changed one of them. It holds until the table of positions says that another
commit is about to change one (answers by version, docs/architecture.md). Not here: keeping answers, and what they
depend on besides tables (the clock, chance).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import apsw

from pando.errors import SqlError
from pando.sql.readers import DatabaseReads, ReadPool
from pando.sql.store_client import Positions
from pando.store.positions import table_word
from pando.store.statements import StatementInfo

STATEMENTS_MAX: Final = 4096
"""Statements of which is remembered what they read; when there are more, all are forgotten."""


@dataclass(frozen=True, slots=True)
class Basis:
    """Tables of one database, as words of the table of positions, and the last commit that changed one of them."""

    generation: int
    epoch: int
    txid: int
    words: tuple[int, ...]


class Bases:
    """Reads of one database: what they read, and whether it is the same still."""

    def __init__(self, pool: ReadPool, positions: Positions, database: str) -> None:
        self._pool = pool
        self._positions = positions
        self._database = database
        self._words_of: dict[str, tuple[int, ...] | None] = {}
        self._schema_mark: tuple[int, int, int] = (0, 0, 0)

    def reading(self) -> Reading:
        """Begin to read."""
        reads = self._pool.ready(self._database)
        if reads is None:
            return Reading(self, 0, 0, 0)
        epoch, txid = self._positions.visible(reads.opened.slot)
        return Reading(self, reads.opened.generation, epoch, txid)

    def holds(self, basis: Basis) -> bool:
        """Tell whether nothing has changed that the basis names, and nothing is about to."""
        reads = self._pool.ready(self._database)
        if reads is None or reads.opened.generation != basis.generation:
            return False
        slot = reads.opened.slot
        if self._positions.newest(slot, basis.words) > basis.txid:
            return False
        return self._positions.about(slot)[0] == basis.epoch == self._positions.visible(slot)[0]

    def basis(self, generation: int, epoch: int, txid: int, words: set[int]) -> Basis | None:
        """Say what was read since (epoch, txid) was visible; None if one of the tables is changing."""
        reads = self._pool.ready(self._database)
        if reads is None or reads.opened.generation != generation or not epoch:
            return None
        slot = reads.opened.slot
        known = tuple(words)
        newest = self._positions.newest(slot, known)
        if newest > txid or self._positions.about(slot)[0] != epoch:
            return None
        return Basis(generation, epoch, newest, known)

    def refresh(self) -> None:
        """Notice whether the schema is another one, for `info`."""
        reads = self._pool.ready(self._database)
        if reads is not None:
            reads.inline.statements.refresh()

    def info(self, sql: str) -> StatementInfo | None:
        """Say what a statement does, as this node's schema has it; None if that cannot be said here."""
        reads = self._pool.ready(self._database)
        if reads is None:
            return None
        try:
            return reads.inline.statements.get(sql)
        except (SqlError, apsw.Error):
            return None

    def words_of(self, sql: str) -> tuple[int, ...] | None:
        """Give the words of the tables that a statement reads; None if that cannot be said."""
        reads = self._pool.ready(self._database)
        if reads is None:
            return None
        slot = reads.opened.slot
        mark = (reads.opened.generation, self._positions.visible(slot)[0], self._positions.newest(slot, ()))
        if mark != self._schema_mark or len(self._words_of) > STATEMENTS_MAX:
            self._words_of.clear()
            self._schema_mark = mark
        elif sql in self._words_of:
            return self._words_of[sql]
        words = _read_words(reads, sql)
        if mark[2] <= self._positions.visible(slot)[1]:  # else the schema may be changing just now
            self._words_of[sql] = words
        return words


def _read_words(reads: DatabaseReads, sql: str) -> tuple[int, ...] | None:
    reads.inline.statements.refresh()  # the statement may have run on another connection: a view may be another one
    tables = reads.inline.statements.get(sql).reads
    return None if tables is None else tuple({table_word(name) for name in tables})


class Reading:
    """What one question has read so far."""

    __slots__ = ("_bases", "_epoch", "_generation", "_is_known", "_txid", "_words")

    def __init__(self, bases: Bases, generation: int, epoch: int, txid: int) -> None:
        self._bases = bases
        self._generation = generation
        self._epoch = epoch
        self._txid = txid
        self._words: set[int] = set()
        self._is_known = bool(generation)

    def note(self, sql: str) -> None:
        """A statement was run."""
        if self._is_known:
            words = self._bases.words_of(sql)
            if words is None:
                self._is_known = False
            else:
                self._words.update(words)

    def include(self, basis: Basis | None) -> None:
        """Something was used that was read before; None: of which is not known what it depends on."""
        if basis is None:
            self._is_known = False
        else:
            self._words.update(basis.words)

    def basis(self) -> Basis | None:
        """Say what was read; None if that is not known, or has changed meanwhile."""
        if not self._is_known:
            return None
        return self._bases.basis(self._generation, self._epoch, self._txid, self._words)
