"""Which PRAGMAs a client may use, and what each one does here: one table.

Pando owns journal mode, durability, checkpoints and caches, so PRAGMAs about them are accepted (ORMs and PocketBase
send them at each start) and change nothing. Not here: how a PRAGMA is found in a text (see `pando.store.statements`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import Final

from pando.store.requests import Value


class Treat(enum.Enum):
    """What becomes of a PRAGMA."""

    READ = "read"
    """Run where reads run."""
    WRITE = "write"
    """Run on the writer, inside a transaction with others."""
    SOLO = "solo"
    """Run on the writer, alone."""
    SCOPED = "scoped"
    """Run on the writer, alone, and put back at the end of the Run: it changes the connection."""
    NOTHING = "nothing"
    """Accept and ignore."""
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class PragmaAnswer:
    """The row that SQLite would give."""

    columns: tuple[str, ...]
    row: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class PragmaRule:
    """How one use of a PRAGMA is treated."""

    treat: Treat
    reason: str = ""
    answer: PragmaAnswer | None = None
    changes_schema: bool = False


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READ = PragmaRule(Treat.READ)
_NOTHING = PragmaRule(Treat.NOTHING)

_READ_ALWAYS = _names(
    "table_info table_xinfo table_list index_list index_info index_xinfo foreign_key_list foreign_key_check "
    "collation_list compile_options database_list function_list module_list pragma_list data_version freelist_count "
    "page_count integrity_check quick_check"
)
"""Read with and without an argument."""

_READ_WITHOUT_ARGUMENT = _names(
    "encoding schema_version user_version application_id page_size max_page_count auto_vacuum foreign_keys "
    "defer_foreign_keys recursive_triggers ignore_check_constraints legacy_alter_table synchronous cache_size "
    "temp_store cache_spill query_only read_uncommitted automatic_index analysis_limit threads trusted_schema "
    "cell_size_check checkpoint_fullfsync fullfsync reverse_unordered_selects writable_schema secure_delete "
    "soft_heap_limit hard_heap_limit"
)

_WRITE_WITH_ARGUMENT = frozenset({"user_version", "application_id"})

SETTINGS: Final = (
    "foreign_keys",
    "defer_foreign_keys",
    "ignore_check_constraints",
    "legacy_alter_table",
    "recursive_triggers",
)
"""Settings of a connection that a client may change: for one Run, and kept for its stream."""

_IGNORED_WITH_ARGUMENT = _names(
    "synchronous cache_size temp_store cache_spill automatic_index analysis_limit threads read_uncommitted "
    "cell_size_check checkpoint_fullfsync fullfsync shrink_memory page_size reverse_unordered_selects"
)

_GONE = _names(
    "count_changes full_column_names short_column_names empty_result_callbacks default_cache_size legacy_file_format "
    "stats lock_status vdbe_trace vdbe_listing vdbe_debug vdbe_addoptrace vdbe_eqp parser_trace"
)
"""What SQLite had once, or has when it is built to be looked into: such a PRAGMA does nothing in a normal build."""

_ANSWERS = {
    "journal_mode": PragmaAnswer(("journal_mode",), ("wal",)),
    "locking_mode": PragmaAnswer(("locking_mode",), ("normal",)),
    "wal_checkpoint": PragmaAnswer(("busy", "log", "checkpointed"), (0, 0, 0)),
    "secure_delete": PragmaAnswer(("secure_delete",), (0,)),
}
"""Answered with a fixed row; a checkpoint is said to be done, and Pando does it when it is due."""

_ECHOES = {
    "busy_timeout": ("timeout", 5000),
    "wal_autocheckpoint": ("wal_autocheckpoint", 1000),
    "mmap_size": ("mmap_size", 0),
    "journal_size_limit": ("journal_size_limit", -1),
}
"""Answered with the given number, or SQLite's usual one; column name and that number."""

_REASONS = {
    "writable_schema": "it can corrupt the database",
    "schema_version": "it can corrupt the database; SQLite counts it",
    "key": "databases are not encrypted by SQL",
    "rekey": "databases are not encrypted by SQL",
    "hexkey": "databases are not encrypted by SQL",
    "hexrekey": "databases are not encrypted by SQL",
    "temp_store_directory": "it names a directory of the server",
    "data_store_directory": "it names a directory of the server",
    "encoding": "it is fixed once a database has a table; import a database that has it",
    "case_sensitive_like": "it would change the connection for everybody; use GLOB",
    "trusted_schema": "it would change the connection for everybody",
    "query_only": "it would change the connection for everybody; use a read-only token",
    "max_page_count": "the size of a database is the operator's business",
    "soft_heap_limit": "memory is the operator's business",
    "hard_heap_limit": "memory is the operator's business",
}


def rule_of(name: str, value: str | None) -> PragmaRule:
    """Give the rule for a PRAGMA by its lower-case name and its argument, None without one."""
    if name in _READ_ALWAYS or (value is None and name in _READ_WITHOUT_ARGUMENT):
        return _READ
    answer = _fixed_answer(name, value)
    if answer is not None:
        return PragmaRule(Treat.NOTHING, answer=answer)
    if name in _IGNORED_WITH_ARGUMENT or name in _GONE:
        return _NOTHING
    if name in _WRITE_WITH_ARGUMENT or name == "incremental_vacuum":
        return PragmaRule(Treat.WRITE)
    if name == "optimize":
        return PragmaRule(Treat.WRITE, changes_schema=True)
    if name in SETTINGS:
        return PragmaRule(Treat.SCOPED)
    if name == "auto_vacuum":
        return PragmaRule(Treat.SOLO)
    return PragmaRule(Treat.REFUSE, reason=_REASONS.get(name, "SQLite or Pando does not offer it to clients"))


def _fixed_answer(name: str, value: str | None) -> PragmaAnswer | None:
    if name in _ANSWERS:
        return _ANSWERS[name]
    if name not in _ECHOES:
        return None
    column, usual = _ECHOES[name]
    try:
        number = usual if value is None else int(value)
    except ValueError:
        number = usual
    return PragmaAnswer((column,), (number,))
