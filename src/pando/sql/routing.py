"""Does a pipeline only read? Decided by the statements as SQLite prepares them on this node. No I/O but preparing.

A text that cannot be prepared here may be fine on the primary (a table that has not arrived): it is judged by its
words. A read that fails here is answered here, as is what no schema would make right; the rest is the primary's.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from typing import Final

import apsw

from pando.errors import SqlError
from pando.store.requests import Batch, Describe, Execute, GetAutocommit, Request, Sequence
from pando.store.statements import BeginMode, StatementInfo, StatementKind, Statements, first_keyword
from pando.store.tokens import tokens, words

SCRIPT_CHARS_MAX: Final = 64 * 1024
"""Longer scripts are not looked into: they go to the primary."""

_READING_WORDS = frozenset({"SELECT", "VALUES", "EXPLAIN", "PRAGMA"})
_CHANGING_WORDS = frozenset({"INSERT", "REPLACE", "UPDATE", "DELETE"})
_HOPELESS = frozenset({"SQL_PARSE_ERROR", "SQL_NO_STATEMENT", "SQL_MANY_STATEMENTS", "SQLITE_AUTH"})
"""Codes of texts that are wrong whatever the schema."""
_MAYBE_READING_WORDS = _READING_WORDS | {"WITH", "BEGIN", "COMMIT", "END", "ROLLBACK", "SAVEPOINT", "RELEASE", ""}
_NEVER_LOCAL = frozenset({StatementKind.WRITE, StatementKind.SOLO})
_READ: Final = StatementKind.READ


class Nature(enum.Enum):
    """What a pipeline needs."""

    READS = "reads"
    """Statements that read, each by itself."""
    READ_TRANSACTION = "read transaction"
    """As above, with BEGIN, COMMIT and the like among them."""
    READONLY_TRANSACTION = "readonly transaction"
    """As above; the client promised with BEGIN READONLY not to write."""
    WRITES = "writes"
    """Anything else: the primary's."""


def nature_of(requests: Iterable[Request], statements: Statements) -> Nature:
    """Classify all statements of a pipeline that is outside of any transaction."""
    nature = Nature.READS
    for request in requests:
        if type(request) is Execute:
            found = _text(request.statement.sql, statements)
            if found is _READ:
                continue
        else:
            found = _other(request, statements)
        if found is Nature.WRITES:
            return Nature.WRITES
        if isinstance(found, Nature):
            nature = _more(nature, found)
    return nature


def surely_writes(requests: Iterable[Request]) -> bool:
    """Tell from the first words alone that a pipeline is the primary's; False is "not sure"."""
    return any(first_keyword(sql) not in _MAYBE_READING_WORDS for sql in _texts(requests))


def only_reads_anywhere(requests: Iterable[Request]) -> bool:
    """Tell whether a pipeline only reads, whatever tables there are: judged on an empty database."""
    connection = apsw.Connection(":memory:")
    try:
        return nature_of(requests, Statements(connection)) is Nature.READS
    finally:
        connection.close(True)


def may_set(requests: Iterable[Request]) -> bool:
    """Tell whether requests may change settings of their connection: whether a text has the word PRAGMA."""
    return any("pragma" in sql.lower() for sql in _texts(requests))


def ends_transaction(request: Request) -> bool:
    """Tell from the first words whether a request ends a transaction, should one be open; of a script, those count."""
    return any(_is_end(words(sql, 3)) for sql in _texts((request,)))


def _is_end(first: tuple[str, ...]) -> bool:
    if first[:1] == ("ROLLBACK",):
        return "TO" not in first
    return first[:1] in {("COMMIT",), ("END",)}


def _texts(requests: Iterable[Request]) -> Iterator[str]:
    for request in requests:
        if isinstance(request, Execute):
            yield request.statement.sql
        elif isinstance(request, Batch):
            for step in request.steps:
                yield step.statement.sql
        elif isinstance(request, Sequence):
            yield request.sql


def _other(request: Request, statements: Statements) -> Nature | StatementKind:
    if isinstance(request, Batch):
        return _all((step.statement.sql for step in request.steps), statements)
    if isinstance(request, Sequence):
        if len(request.sql) > SCRIPT_CHARS_MAX or surely_writes((request,)):
            return Nature.WRITES
        return _all(statements.split(request.sql), statements)
    if isinstance(request, Describe):
        return _description(request.sql, statements)
    if isinstance(request, GetAutocommit):
        return _READ
    return _text(request.statement.sql, statements)


def _all(texts: Iterable[str], statements: Statements) -> Nature:
    nature = Nature.READS
    for sql in texts:
        found = _text(sql, statements)
        if found is Nature.WRITES:
            return Nature.WRITES
        if isinstance(found, Nature):
            nature = _more(nature, found)
    return nature


_ORDER = (Nature.READS, Nature.READ_TRANSACTION, Nature.READONLY_TRANSACTION)


def _more(one: Nature, other: Nature) -> Nature:
    return max(one, other, key=_ORDER.index)


def _text(sql: str, statements: Statements) -> Nature | StatementKind:
    """Judge one text; READ is given as the kind, so that the hot path allocates and compares little."""
    try:
        info = statements.get(sql)
    except (SqlError, apsw.Error) as error:
        return _READ if _fails_here(sql, error) else Nature.WRITES
    kind = info.kind
    if kind is _READ or kind is StatementKind.NOTHING:
        return _READ
    if kind in _NEVER_LOCAL:
        return Nature.WRITES
    return _begin(info) if kind is StatementKind.BEGIN else Nature.READ_TRANSACTION


def _fails_here(sql: str, error: SqlError | apsw.Error) -> bool:
    """Tell whether the error of a text is this node's to tell: no schema would make it right, or it would only read.

    On the primary it would wait for whoever has a transaction open.
    """
    if isinstance(error, SqlError) and error.code in _HOPELESS:
        return True
    first = first_keyword(sql)
    if first != "WITH":
        return first in _READING_WORDS
    return not any(kind == "word" and text.upper() in _CHANGING_WORDS for kind, text in tokens(sql))


def _begin(info: StatementInfo) -> Nature:
    if info.begin_mode is BeginMode.READONLY:
        return Nature.READONLY_TRANSACTION
    return Nature.READ_TRANSACTION if info.begin_mode is BeginMode.DEFERRED else Nature.WRITES


def _description(sql: str, statements: Statements) -> Nature | StatementKind:
    try:
        statements.get(sql)
    except (SqlError, apsw.Error) as error:
        return _READ if _fails_here(sql, error) else Nature.WRITES
    return _READ
