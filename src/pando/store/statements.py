"""What a SQL text is and does, as SQLite's own parser and authorizer tell: classification and policy, cached by text.

One statement per text. The authorizer stays installed on the connection (setting it anew would make SQLite prepare
every cached statement again) and listens only while a text is classified; at other times the connection's owner is
trusted. PRAGMAs are switched off while they are classified, since many take effect when they are merely prepared.

Policy: nothing leads out of the database file (ATTACH, VACUUM INTO, load_extension, temporary objects), PRAGMAs follow
the table in `pando.store.pragmas`. Not here: execution (see `pando.store.runner`).
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import apsw

from pando import limits
from pando.errors import SqlError
from pando.store import tokens
from pando.store.pragmas import PragmaAnswer, PragmaRule, Treat, rule_of
from pando.store.requests import Value
from pando.store.series import offer_series
from pando.store.tokens import first_keyword

__all__ = [
    "ALL_TABLES",
    "BeginMode",
    "StatementInfo",
    "StatementKind",
    "StatementOptions",
    "Statements",
    "first_keyword",
    "harden",
    "sqlite_failure",
]


class StatementKind(enum.Enum):
    """What a statement asks of its surroundings."""

    READ = "read"
    WRITE = "write"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    RELEASE = "release"
    ROLLBACK_TO = "rollback to"
    SOLO = "solo"
    """Cannot share a transaction with other commands: VACUUM, PRAGMAs that change how the connection works."""
    NOTHING = "nothing"
    """Accepted for compatibility; `answer` is all that happens."""


class BeginMode(enum.StrEnum):
    """How a transaction begins. READONLY is libSQL's word; such a transaction must not write."""

    DEFERRED = "deferred"
    IMMEDIATE = "immediate"
    EXCLUSIVE = "exclusive"
    READONLY = "readonly"


class Verb(enum.Enum):
    """Which statements count rows (`affected_row_count`) and tell a rowid."""

    INSERT = "insert"
    UPDATE = "update"
    DELETE = "delete"
    OTHER = "other"


ALL_TABLES: Final = ("*",)
"""`tables` of a statement that changes the schema, or may change any table."""

Columns = tuple[tuple[str | None, str | None], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementInfo:
    """One classified statement. `sql` is the text to run: one statement, in SQLite's own dialect."""

    sql: str
    kind: StatementKind
    verb: Verb = Verb.OTHER
    begin_mode: BeginMode = BeginMode.DEFERRED
    savepoint: str = ""
    is_readonly: bool = True
    is_explain: bool = False
    parameters: tuple[str | None, ...] = ()
    """Name with prefix of each parameter, None for `?` and for gaps before `?NNN`."""
    columns: Columns = ()
    """Name and declared type of each result column."""
    tables: tuple[str, ...] = ()
    """Tables that it may write, triggers and foreign key actions included; ALL_TABLES for DDL."""
    reads: tuple[str, ...] | None = None
    """Tables and views that it reads, for kind READ; None: that cannot be said."""
    scoped_pragma: str = ""
    """Name of the connection setting that it changes, to be put back after the Run."""
    says_fail: bool = False
    """Its text has the word FAIL: as a conflict clause that keeps what was done before the conflict."""
    answer: tuple[tuple[Value, ...], ...] = ()
    """Rows of a NOTHING statement."""

    @property
    def changes_schema(self) -> bool:
        """Tell whether other statements may mean something else afterwards."""
        return self.tables == ALL_TABLES


CONTROL_KINDS: Final = frozenset(
    {
        StatementKind.BEGIN,
        StatementKind.COMMIT,
        StatementKind.ROLLBACK,
        StatementKind.SAVEPOINT,
        StatementKind.RELEASE,
        StatementKind.ROLLBACK_TO,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementOptions:
    """How a connection's statements are kept."""

    cached: int = limits.STATEMENTS_CACHED_MAX
    """Classified texts kept, least recently used out first."""
    schema_changes_elsewhere: bool = False
    """Another process may change the schema (a replica, a web process): compare versions after each statement."""


@dataclass(frozen=True, slots=True)
class _Action:
    """One call of the authorizer."""

    code: int
    first: str | None
    second: str | None
    database: str | None
    trigger: str | None


@dataclass(slots=True)
class _Prepared:
    """What apsw says about a prepared statement."""

    text: str = ""
    has_program: bool = False
    is_readonly: bool = True
    is_explain: bool = False
    names: tuple[str | None, ...] = ()
    columns: Columns = ()


def harden(connection: apsw.Connection) -> None:
    """Close the ways out of the file that a connection setting can close, and bound what one value may take."""
    connection.enable_load_extension(False)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 0)
    connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FTS3_TOKENIZER, 0)
    connection.config(apsw.SQLITE_DBCONFIG_DEFENSIVE, 1)
    connection.limit(apsw.SQLITE_LIMIT_SQL_LENGTH, limits.SQL_SIZE_BYTES_MAX + 1)
    connection.limit(apsw.SQLITE_LIMIT_LENGTH, limits.VALUE_SIZE_BYTES_MAX)
    connection.limit(apsw.SQLITE_LIMIT_WORKER_THREADS, 0)


_NO_SQL: Final = re.compile(r'near ".*": syntax error$|incomplete input$|unrecognized token: ', re.DOTALL)
"""What SQLite says of a text that its parser refuses, whatever the schema."""


def sqlite_failure(error: apsw.Error) -> SqlError:
    """Translate an apsw exception: SQLite's text behind the words that clients look for, and both code names."""
    result = int(getattr(error, "result", apsw.SQLITE_ERROR))
    extended = int(getattr(error, "extendedresult", result))
    code = str(apsw.mapping_result_codes.get(result & 0xFF, "SQLITE_ERROR"))
    extended_code = apsw.mapping_extended_result_codes.get(extended)
    offset = getattr(error, "error_offset", -1)
    place = f" (at offset {offset})" if isinstance(offset, int) and offset >= 0 else ""
    if code == "SQLITE_ERROR" and _NO_SQL.match(str(error)):
        return SqlError(f"SQL string could not be parsed: {error}{place}", code="SQL_PARSE_ERROR", extended_code=code)
    if code == "SQLITE_ERROR" and place:
        return SqlError(f"SQL input error: {error}{place}", code="SQL_INPUT_ERROR", extended_code=code)
    extended_name = str(extended_code) if extended_code is not None else code
    return SqlError(f"SQLite error: {error}", code=code, extended_code=extended_name)


def _refused(what: str, reason: str) -> SqlError:
    return SqlError(f"SQLite error: not authorized: {what}: {reason}", code="SQLITE_AUTH", extended_code="SQLITE_AUTH")


class Statements:
    """Classifier of one connection. Owns the connection's authorizer. One thread at a time."""

    def __init__(self, connection: apsw.Connection, *, options: StatementOptions | None = None) -> None:
        self._options = options or StatementOptions()
        self._connection = connection
        self._actions: list[_Action] | None = None
        self._may_pragma = False
        self._prepared = _Prepared()
        self._cursor = connection.cursor()
        self._cursor.exec_trace = self._trace
        self._version_cursor = connection.cursor()
        self._cached: Callable[[str], StatementInfo] = lru_cache(maxsize=self._options.cached)(self._classify)
        self.watches_schema = self._options.schema_changes_elsewhere
        self.is_suspect = False
        self._data_version = -1
        self._schema_version = -1
        self._suspect_since = -1
        harden(connection)
        offer_series(connection)
        connection.authorizer = self._authorize
        if self.watches_schema:
            self.refresh()

    def get(self, sql: str) -> StatementInfo:
        """Classify a text that must hold exactly one statement; raises SqlError, apsw.Error if the file fails."""
        if len(sql) > limits.STATEMENT_CACHED_CHARS_MAX:
            return self._classify(sql)
        return self._cached(sql)

    def split(self, sql: str) -> list[str]:
        """Cut a script into statements. Each must still be classified when its turn comes."""
        return [text for _, text in tokens.split_script(sql)]

    def expire(self) -> None:
        """Forget everything: the schema changed."""
        self._cached.cache_clear()  # type: ignore[attr-defined]

    def schema_changed_here(self) -> None:
        """Note that DDL ran on this connection: it may still be rolled back, so versions are compared from now on."""
        known = self._schema_version
        if self._read_schema_version() == known != -1 and not self.is_suspect:
            return  # IF NOT EXISTS found it there
        self.expire()
        self.is_suspect = True
        self._suspect_since = self._data_version

    def check(self) -> None:
        """Before a run, while DDL may have been rolled back: compare, and see whether its transaction has ended.

        A commit of this connection moves the data version too; whatever was open at the DDL is over by then.
        """
        in_transaction = self._connection.in_transaction
        is_over = not in_transaction or self._connection.data_version() != self._suspect_since
        self.refresh()
        if is_over:
            self.is_suspect = False

    def schema_moved(self) -> bool:
        """After a statement: tell whether another connection's commit changed the schema; one call if nothing did."""
        if self._connection.data_version() == self._data_version:
            return False
        return self.refresh()

    def refresh(self) -> bool:
        """Compare the schema version; forget everything and say True if it is another."""
        known = self._schema_version
        before = self._read_schema_version()
        if before == known:
            return False
        for _ in range(10):
            # Reading the schema table makes SQLite load the schema anew, a bare `PRAGMA schema_version` does not.
            self._version_cursor.execute("SELECT 1 FROM sqlite_schema LIMIT 1").fetchall()
            if self._read_schema_version() == before:
                break
            before = self._schema_version
        self.expire()
        return known != -1

    def _read_schema_version(self) -> int:
        rows = self._version_cursor.execute("PRAGMA schema_version").fetchall()
        self._data_version = self._connection.data_version()
        self._schema_version = int(rows[0][0])  # type: ignore[arg-type]
        return self._schema_version

    # -- asking SQLite --

    def _authorize(
        self, code: int, first: str | None, second: str | None, database: str | None, trigger: str | None
    ) -> int:
        actions = self._actions
        if actions is None:
            return apsw.SQLITE_OK
        actions.append(_Action(code, first, second, database, trigger))
        if code == apsw.SQLITE_PRAGMA and not self._may_pragma:
            return apsw.SQLITE_IGNORE  # else flags and cache sizes change while it is prepared
        return apsw.SQLITE_OK

    def _trace(self, cursor: apsw.Cursor, text: str, _bindings: object) -> bool:
        columns: Columns = ()
        if cursor.has_vdbe:
            columns = tuple((name, kind) for name, kind in cursor.get_description())
        self._prepared = _Prepared(
            text=text,
            has_program=cursor.has_vdbe,
            is_readonly=cursor.is_readonly,
            is_explain=cursor.is_explain != 0,
            names=cursor.bindings_names,
            columns=columns,
        )
        return False

    def _prepare(self, sql: str, *, may_pragma: bool = False) -> tuple[_Prepared, list[_Action]]:
        """Prepare without running; raises SqlError for what SQLite's parser refuses, apsw.Error for the rest."""
        self._actions, self._may_pragma, self._prepared = [], may_pragma, _Prepared()
        try:
            # Never from apsw's cache: a statement prepared earlier asks the authorizer nothing and has old columns.
            self._cursor.execute(sql, _NO_BINDINGS, can_cache=False)
        except apsw.ExecTraceAbort:
            pass
        except apsw.SQLError as error:
            raise sqlite_failure(error) from error
        except UnicodeEncodeError as error:
            raise _unparsable("the text holds a lone surrogate, which UTF-8 cannot encode") from error
        except ValueError as error:
            raise _unparsable("the text holds a NUL character") from error
        finally:
            actions, self._actions, self._may_pragma = self._actions, None, False
        return self._prepared, actions or []

    def _classify(self, sql: str) -> StatementInfo:
        if len(sql) > limits.SQL_SIZE_BYTES_MAX:
            raise _too_long(sql)
        start = tokens.skip_blank(sql)
        if start == len(sql):
            raise SqlError("SQL string does not contain any statement", code="SQL_NO_STATEMENT")
        if sql.find(";", 0, start) >= 0:
            sql = sql[start:]  # an empty statement in front; comments stay, so that offsets are the client's
        if _is_begin_readonly(sql):
            return StatementInfo(sql="BEGIN", kind=StatementKind.BEGIN, begin_mode=BeginMode.READONLY)
        prepared, actions = self._prepare(sql)
        if tokens.skip_blank(sql, len(prepared.text)) < len(sql):
            raise SqlError("SQL string contains more than one statement", code="SQL_MANY_STATEMENTS")
        return self._judge(prepared, actions)

    # -- judging --

    def _judge(self, prepared: _Prepared, actions: list[_Action]) -> StatementInfo:
        for action in actions:
            _check_allowed(action)
        pragma = next((action for action in actions if action.code == apsw.SQLITE_PRAGMA), None)
        if pragma is not None:
            return self._judge_pragma(prepared, pragma)
        if not prepared.has_program:
            raise SqlError("SQL string does not contain any statement", code="SQL_NO_STATEMENT")
        if prepared.is_explain:
            return _info(prepared, StatementKind.READ)
        control = _judge_control(prepared, actions)
        if control is not None:
            return control
        first = first_keyword(prepared.text)
        if prepared.is_readonly and first in _READING_WORDS:
            return _info(prepared, StatementKind.READ, reads=_reads(actions))
        if first == "VACUUM":
            return _judge_vacuum(prepared)
        return _info(prepared, StatementKind.WRITE, verb=_verb(actions), tables=_tables(actions))

    def _judge_pragma(self, prepared: _Prepared, action: _Action) -> StatementInfo:
        name, value = (action.first or "").lower(), action.second
        rule = rule_of(name, value)
        if prepared.is_explain and rule.treat is not Treat.READ:
            raise _refused(f"EXPLAIN PRAGMA {name}", "only PRAGMAs that read can be explained")
        if rule.treat is Treat.REFUSE:
            raise _refused(f"PRAGMA {name}", rule.reason)
        if rule.treat is Treat.NOTHING:
            return _pragma_answer(prepared, rule.answer)
        if rule.treat is Treat.READ:
            prepared, _ = self._prepare(prepared.text, may_pragma=True)
        return _judge_pragma_kind(prepared, name, rule)


_READING_WORDS: Final = frozenset({"SELECT", "VALUES", "WITH"})
"""What else writes nothing now, like DROP TRIGGER IF EXISTS without one, may do so with the next schema."""

_NO_BINDINGS: Final = apsw._null_bindings  # type: ignore[attr-defined]
"""apsw's own way (`apsw.ext.query_info`) to prepare without arguments."""

_PRAGMA_KINDS = {
    Treat.READ: StatementKind.READ,
    Treat.WRITE: StatementKind.WRITE,
    Treat.SOLO: StatementKind.SOLO,
    Treat.SCOPED: StatementKind.SOLO,
}


def _judge_pragma_kind(prepared: _Prepared, name: str, rule: PragmaRule) -> StatementInfo:
    return StatementInfo(
        sql=prepared.text,
        kind=_PRAGMA_KINDS[rule.treat],
        is_readonly=rule.treat is Treat.READ,
        is_explain=prepared.is_explain,
        columns=prepared.columns,
        tables=ALL_TABLES if rule.changes_schema else (),
        scoped_pragma=name if rule.treat is Treat.SCOPED else "",
    )


def _pragma_answer(prepared: _Prepared, answer: PragmaAnswer | None) -> StatementInfo:
    return StatementInfo(
        sql=prepared.text,
        kind=StatementKind.NOTHING,
        columns=tuple((column, None) for column in answer.columns) if answer else (),
        answer=(answer.row,) if answer else (),
    )


def _unparsable(reason: str) -> SqlError:
    return SqlError(f"SQL string could not be parsed: {reason}", code="SQL_PARSE_ERROR")


def _too_long(sql: str) -> SqlError:
    return _unparsable(f"it is {len(sql)} characters long, the limit is {limits.SQL_SIZE_BYTES_MAX}")


def _is_begin_readonly(sql: str) -> bool:
    """libSQL's `BEGIN [TRANSACTION] READONLY`, which stock SQLite does not parse."""
    if first_keyword(sql) != "BEGIN":
        return False
    found = tuple(word for word in tokens.words(sql, 5) if word != ";")
    return found in {("BEGIN", "READONLY"), ("BEGIN", "TRANSACTION", "READONLY")}


_DENIED_FUNCTIONS = frozenset({"load_extension", "fts3_tokenizer", "sqlite_log"})
_TEMP_ALLOWED = frozenset({apsw.SQLITE_READ, apsw.SQLITE_SELECT, apsw.SQLITE_PRAGMA})


def _check_allowed(action: _Action) -> None:
    """Refuse what leads out of the database file or lives in one connection only."""
    if action.code == apsw.SQLITE_ATTACH or action.code == apsw.SQLITE_DETACH:
        word = "ATTACH" if action.code == apsw.SQLITE_ATTACH else "DETACH"
        raise _refused(word, "a connection works on one database only; choose it by address or x-namespace")
    if action.code == apsw.SQLITE_FUNCTION and (action.second or "").lower() in _DENIED_FUNCTIONS:
        raise _refused(f"{action.second}()", "this function reaches outside of the database")
    # ALTER TABLE looks through the temporary schema too, for what it has to rename there.
    is_rename = action.code == apsw.SQLITE_UPDATE and action.first == "sqlite_temp_master"
    if action.database == "temp" and action.code not in _TEMP_ALLOWED and not is_rename:
        raise _refused("temporary tables, views and triggers", "connections are shared, nobody keeps them for you")


_FAIL: Final = re.compile(r"\bfail\b", re.IGNORECASE)
_SAVEPOINT_KINDS = {
    "BEGIN": StatementKind.SAVEPOINT,
    "RELEASE": StatementKind.RELEASE,
    "ROLLBACK": StatementKind.ROLLBACK_TO,
}
_TRANSACTION_KINDS = {
    "BEGIN": StatementKind.BEGIN,
    "COMMIT": StatementKind.COMMIT,
    "ROLLBACK": StatementKind.ROLLBACK,
}


def _judge_control(prepared: _Prepared, actions: list[_Action]) -> StatementInfo | None:
    if len(actions) != 1:
        return None
    action = actions[0]
    if action.code == apsw.SQLITE_SAVEPOINT:
        return _info(prepared, _SAVEPOINT_KINDS[action.first or ""], savepoint=action.second or "")
    if action.code != apsw.SQLITE_TRANSACTION:
        return None
    kind = _TRANSACTION_KINDS[action.first or ""]
    mode = BeginMode.DEFERRED
    if kind is StatementKind.BEGIN:
        second = (*tokens.words(prepared.text, 2), "")[1]
        mode = BeginMode(second.lower()) if second in {"IMMEDIATE", "EXCLUSIVE"} else BeginMode.DEFERRED
    return _info(prepared, kind, begin_mode=mode)


def _judge_vacuum(prepared: _Prepared) -> StatementInfo:
    if "INTO" in tokens.words(prepared.text, 4):
        raise _refused("VACUUM INTO", "it writes a file on the server; use `pando export`")
    return _info(prepared, StatementKind.SOLO, tables=ALL_TABLES)


def _info(
    prepared: _Prepared,
    kind: StatementKind,
    *,
    verb: Verb = Verb.OTHER,
    begin_mode: BeginMode = BeginMode.DEFERRED,
    savepoint: str = "",
    tables: tuple[str, ...] = (),
    reads: tuple[str, ...] | None = None,
) -> StatementInfo:
    return StatementInfo(
        sql=prepared.text,
        kind=kind,
        verb=verb,
        begin_mode=begin_mode,
        savepoint=savepoint,
        is_readonly=prepared.is_readonly,
        is_explain=prepared.is_explain,
        parameters=_parameters(prepared),
        columns=prepared.columns,
        tables=tables,
        reads=reads,
        says_fail=says_fail(prepared.text),
    )


def says_fail(sql: str) -> bool:
    """Tell whether a text may have OR FAIL, ON CONFLICT FAIL or RAISE(FAIL, ...): it has the word."""
    return _FAIL.search(sql) is not None


def _parameters(prepared: _Prepared) -> tuple[str | None, ...]:
    """Give apsw's names their prefix back, which it cuts off."""
    names = prepared.names
    if not any(names):
        return names
    unseen = list(dict.fromkeys(text for text in tokens.parameter_names(prepared.text) if text != "?"))
    result: list[str | None] = []
    for name in names:
        written = next((text for text in unseen if text[1:] == name), None) if name else None
        if written is not None:
            unseen.remove(written)
        elif name:
            written = f"?{name}"  # `?007` is parameter 7
        result.append(written)
    return tuple(result)


_VERBS = {apsw.SQLITE_INSERT: Verb.INSERT, apsw.SQLITE_UPDATE: Verb.UPDATE, apsw.SQLITE_DELETE: Verb.DELETE}
_SCHEMA_ACTIONS = frozenset(
    {
        apsw.SQLITE_CREATE_INDEX,
        apsw.SQLITE_CREATE_TABLE,
        apsw.SQLITE_CREATE_TRIGGER,
        apsw.SQLITE_CREATE_VIEW,
        apsw.SQLITE_CREATE_VTABLE,
        apsw.SQLITE_DROP_INDEX,
        apsw.SQLITE_DROP_TABLE,
        apsw.SQLITE_DROP_TRIGGER,
        apsw.SQLITE_DROP_VIEW,
        apsw.SQLITE_DROP_VTABLE,
        apsw.SQLITE_ALTER_TABLE,
        apsw.SQLITE_ANALYZE,
    }
)


def _is_schema_change(actions: list[_Action]) -> bool:
    return any(
        action.code in _SCHEMA_ACTIONS or (action.code in _VERBS and action.first == "sqlite_master")
        for action in actions
    )


def _verb(actions: list[_Action]) -> Verb:
    """The first change that SQLite asks about is the statement's own; those of triggers follow."""
    if _is_schema_change(actions):
        return Verb.OTHER
    return next((_VERBS[action.code] for action in actions if action.code in _VERBS), Verb.OTHER)


def _tables(actions: list[_Action]) -> tuple[str, ...]:
    if _is_schema_change(actions):
        return ALL_TABLES
    return tuple(dict.fromkeys(action.first for action in actions if action.code in _VERBS and action.first))


def _reads(actions: list[_Action]) -> tuple[str, ...] | None:
    """Name what a statement reads; SQLite's own tables but the schema change without anybody being asked."""
    names = tuple(dict.fromkeys(action.first or "" for action in actions if action.code == apsw.SQLITE_READ))
    is_own = any(name.startswith("sqlite_") and name not in _SCHEMA_TABLES for name in names)
    return None if is_own or "" in names else names


_SCHEMA_TABLES = frozenset({"sqlite_master", "sqlite_schema"})
