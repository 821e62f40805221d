"""What a client may assume of a statement from its words: does it only read, does it begin or end a transaction?

Only for choices that cost little when they are wrong: a statement that is not surely a read is sent once, and where it
runs is decided by the node with SQLite's own parser. Pure. Not here: that decision (`pando.sql.routing`).
"""

from __future__ import annotations

import enum
from functools import lru_cache
from typing import Final

from pando.store.tokens import first_keyword, tokens, words


class Kind(enum.Enum):
    """What a statement is, as far as its words tell."""

    READ = "read"
    """Changes nothing, whatever happens: may be sent again."""
    WRITE = "write"
    """Anything else."""
    ALONE = "alone"
    """Changes something, but never begins a transaction: PRAGMA, VACUUM, ATTACH."""
    BEGIN = "begin"
    BEGIN_READ = "begin readonly"
    END = "end"
    """COMMIT, END, and RELEASE, which may be one: sent once, its answer matters."""
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    """SAVEPOINT and ROLLBACK TO."""


_READING: Final = frozenset({"SELECT", "VALUES", "EXPLAIN"})
_CHANGING: Final = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE"})
_READING_PRAGMAS: Final = frozenset(
    {
        *("TABLE_INFO", "TABLE_XINFO", "TABLE_LIST", "INDEX_LIST", "INDEX_INFO", "INDEX_XINFO", "FOREIGN_KEY_LIST"),
        *("FOREIGN_KEY_CHECK", "INTEGRITY_CHECK", "QUICK_CHECK", "FUNCTION_LIST", "COLLATION_LIST"),
    }
)
"""PRAGMAs that take an argument and only read."""
_BY_WORD: Final = {
    "VACUUM": Kind.ALONE,
    "ATTACH": Kind.ALONE,
    "DETACH": Kind.ALONE,
    "COMMIT": Kind.END,
    "END": Kind.END,
    "RELEASE": Kind.END,
    "SAVEPOINT": Kind.SAVEPOINT,
}


@lru_cache(maxsize=512)
def kind_of(sql: str) -> Kind:
    """Give what a statement is."""
    word = first_keyword(sql)
    if word in _READING:
        return Kind.READ
    if word == "WITH":
        return Kind.WRITE if _has_changing_word(sql) else Kind.READ
    if word == "PRAGMA":
        return Kind.READ if _pragma_reads(sql) else Kind.ALONE
    if word == "BEGIN":
        return Kind.BEGIN_READ if "READONLY" in words(sql, 3) else Kind.BEGIN
    if word == "ROLLBACK":
        return Kind.SAVEPOINT if "TO" in words(sql, 3) else Kind.ROLLBACK
    return _BY_WORD.get(word, Kind.WRITE)


@lru_cache(maxsize=512)
def counts_rows(sql: str) -> bool:
    """Tell whether the number of changed rows means anything for a statement."""
    word = first_keyword(sql)
    return word in _CHANGING or (word == "WITH" and _has_changing_word(sql))


@lru_cache(maxsize=512)
def inserts(sql: str) -> bool:
    """Tell whether a statement may give a new rowid."""
    word = first_keyword(sql)
    return word in {"INSERT", "REPLACE"} or (word == "WITH" and _has_changing_word(sql))


def _has_changing_word(sql: str) -> bool:
    """REPLACE is a function, too: then this says yes for a statement that reads, which does no harm."""
    return any(kind == "word" and text.upper() in _CHANGING for kind, text in tokens(sql))


def _pragma_reads(sql: str) -> bool:
    found = [text.upper() for _, text in tokens(sql)]
    name = found[3] if found[2:3] == ["."] else found[1] if len(found) > 1 else ""
    return name in _READING_PRAGMAS or not {"=", "("} & set(found)
