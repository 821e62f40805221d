from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from pando import limits
from pando.errors import SqlError
from pando.store.statements import ALL_TABLES, BeginMode, StatementKind, StatementOptions, Statements, Verb

SCHEMA = """
create table t(a integer primary key, b text);
create table log(x);
create trigger tr after insert on t begin insert into log values(new.a); end;
create view v as select * from t;
create trigger vi instead of insert on v begin insert into t(b) values(new.b); end;
create table p(id integer primary key);
create table ch(id references p on delete cascade);
create virtual table f using fts5(body);
"""


@pytest.fixture
def connection() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    connection.execute("pragma foreign_keys=on")
    connection.execute(SCHEMA)
    return connection


@pytest.fixture
def statements(connection: apsw.Connection) -> Statements:
    return Statements(connection)


def refusal(statements: Statements, sql: str) -> SqlError:
    with pytest.raises(SqlError) as caught:
        statements.get(sql)
    return caught.value


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select * from t", StatementKind.READ),
        ("/* begin */ with x(a) as (values(1)) select * from x", StatementKind.READ),
        ("values(1)", StatementKind.READ),
        ("select * from pragma_table_info('t')", StatementKind.READ),
        ("explain insert into t values(1,2)", StatementKind.READ),
        ("explain query plan delete from t", StatementKind.READ),
        ("explain begin", StatementKind.READ),
        ("insert into t values(1,2)", StatementKind.WRITE),
        ("with x as (select 1) insert into t select 1, 2 from x", StatementKind.WRITE),
        ("create table if not exists t(a)", StatementKind.WRITE),
        ("insert into f(f) values('optimize')", StatementKind.WRITE),
        ("analyze", StatementKind.WRITE),
        ("drop trigger if exists not_there", StatementKind.WRITE),
        ("drop index if exists not_there", StatementKind.WRITE),
        ("create trigger if not exists tr after insert on t begin select 1; end", StatementKind.WRITE),
        ("create view if not exists v as select 1", StatementKind.WRITE),
        ("reindex t", StatementKind.WRITE),
        ("-- x\n;;begin", StatementKind.BEGIN),
        ("commit", StatementKind.COMMIT),
        ("end transaction", StatementKind.COMMIT),
        ("rollback", StatementKind.ROLLBACK),
        ("savepoint s", StatementKind.SAVEPOINT),
        ("release savepoint s", StatementKind.RELEASE),
        ("rollback to s", StatementKind.ROLLBACK_TO),
        ("vacuum", StatementKind.SOLO),
        ("pragma foreign_keys=off", StatementKind.SOLO),
        ("pragma foreign_keys", StatementKind.READ),
        ("pragma table_info(t)", StatementKind.READ),
        ("pragma user_version", StatementKind.READ),
        ("pragma user_version=7", StatementKind.WRITE),
        ("pragma main.journal_mode=delete", StatementKind.NOTHING),
        ("pragma synchronous=off", StatementKind.NOTHING),
    ],
)
def test_kind(statements: Statements, sql: str, kind: StatementKind) -> None:
    assert statements.get(sql).kind is kind


@pytest.mark.parametrize(
    ("sql", "mode"),
    [
        ("begin", BeginMode.DEFERRED),
        ("begin /* immediate */ transaction", BeginMode.DEFERRED),
        ("begin immediate", BeginMode.IMMEDIATE),
        ("begin exclusive transaction", BeginMode.EXCLUSIVE),
        ("BEGIN TRANSACTION READONLY;", BeginMode.READONLY),
        ("begin readonly", BeginMode.READONLY),
    ],
)
def test_begin_mode(statements: Statements, connection: apsw.Connection, sql: str, mode: BeginMode) -> None:
    info = statements.get(sql)
    assert (info.kind, info.begin_mode) == (StatementKind.BEGIN, mode)
    connection.execute(info.sql)
    assert connection.in_transaction


@pytest.mark.parametrize(
    ("sql", "tables", "verb"),
    [
        ("insert into t values(1,2)", {"t", "log"}, Verb.INSERT),
        ("replace into t values(1,2)", {"t", "log"}, Verb.INSERT),
        ("insert into t values(1,2) on conflict do update set b=3", {"t", "log"}, Verb.INSERT),
        ("insert into v(b) values(1)", {"v", "t", "log"}, Verb.INSERT),
        ("update t set b=1", {"t"}, Verb.UPDATE),
        ("delete from p", {"p", "ch"}, Verb.DELETE),
        ("with x as (select 1) delete from p where id in x", {"p", "ch"}, Verb.DELETE),
        ("insert into f values('x')", {"f"}, Verb.INSERT),
        ("create table n(a)", set(ALL_TABLES), Verb.OTHER),
        ("create table n as select * from t", set(ALL_TABLES), Verb.OTHER),
        ("alter table t add column c", set(ALL_TABLES), Verb.OTHER),
        ("drop index if exists nope", set(), Verb.OTHER),
        ("drop table t", set(ALL_TABLES), Verb.OTHER),
        ("vacuum", set(ALL_TABLES), Verb.OTHER),
    ],
)
def test_tables_and_verb(statements: Statements, sql: str, tables: set[str], verb: Verb) -> None:
    info = statements.get(sql)
    assert (set(info.tables), info.verb) == (tables, verb)


@pytest.mark.parametrize(
    "sql",
    [
        "attach 'other.db' as o",
        "attach ':memory:' as o",
        "detach o",
        "vacuum into 'copy.db'",
        "vacuum /* x */ main -- y\n into 'copy.db'",
        "create temp table n(a)",
        "create table temp.n(a)",
        "create temp view n as select 1",
        "create temp trigger n after insert on t begin select 1; end",
        "create trigger temp.n after insert on main.t begin select 1; end",
        "select load_extension('x')",
        "select * from t where b = load_extension('x', 'y')",
        "select fts3_tokenizer('simple')",
        "pragma writable_schema=1",
        "pragma temp_store_directory='/etc'",
        "pragma key='x'",
        "pragma schema_version=9",
        "pragma no_such_thing=1",
        "explain pragma writable_schema=on",
        "explain pragma foreign_keys=off",
        "pragma case_sensitive_like=1",
    ],
)
def test_policy_refuses_with_a_reason(statements: Statements, sql: str) -> None:
    error = refusal(statements, sql)
    assert error.code == "SQLITE_AUTH"
    assert error.message.startswith("SQLite error: not authorized: ")
    assert len(error.message.rsplit(": ", 1)[1]) > 10


def test_a_way_out_inside_the_schema_is_closed_too(connection: apsw.Connection, statements: Statements) -> None:
    connection.execute("create view bad as select load_extension('x') as y")
    assert "load_extension" in refusal(statements, "select * from bad").message


def test_judged_anew_after_the_cache_was_dropped(connection: apsw.Connection, statements: Statements) -> None:
    sql = "insert into t(b) values(?)"
    connection.execute(sql, ("x",))
    assert statements.get(sql).tables == ("t", "log")
    connection.execute(sql, ("y",))
    statements.expire()
    assert statements.get(sql).tables == ("t", "log")


def test_one_value_cannot_take_all_memory(connection: apsw.Connection, statements: Statements) -> None:
    sql = statements.get(f"select zeroblob({limits.VALUE_SIZE_BYTES_MAX + 1})").sql
    with pytest.raises(apsw.TooBigError):
        connection.execute(sql)


def test_classifying_a_pragma_does_not_run_it(connection: apsw.Connection, statements: Statements) -> None:
    for sql in ["pragma foreign_keys=off", "pragma legacy_alter_table=on", "pragma ignore_check_constraints=1"]:
        statements.get(sql)
    assert connection.pragma("foreign_keys") == 1
    assert connection.pragma("legacy_alter_table") == 0
    assert connection.pragma("ignore_check_constraints") == 0


def test_classifying_does_not_run_anything(connection: apsw.Connection, statements: Statements) -> None:
    before = connection.total_changes()
    statements.get("insert into t values(1, 2) returning a")
    statements.get("begin")
    statements.get("drop table t")
    assert not connection.in_transaction
    assert connection.total_changes() == before
    assert connection.execute("select count(*) from t").fetchall() == [(0,)]


@pytest.mark.parametrize(
    ("sql", "code", "message"),
    [
        ("", "SQL_NO_STATEMENT", "SQL string does not contain any statement"),
        (" -- nothing\n ; ", "SQL_NO_STATEMENT", None),
        ("select 1; select 2", "SQL_MANY_STATEMENTS", "SQL string contains more than one statement"),
        ("pragma foreign_keys; select 2", "SQL_MANY_STATEMENTS", None),
        ("sel", "SQL_PARSE_ERROR", 'SQL string could not be parsed: near "sel": syntax error (at offset 0)'),
        ("select (select 1", "SQL_PARSE_ERROR", "SQL string could not be parsed: incomplete input"),
        ("select 'x", "SQL_PARSE_ERROR", 'SQL string could not be parsed: unrecognized token: "\'x" (at offset 7)'),
        ("select nope from t", "SQL_INPUT_ERROR", "SQL input error: no such column: nope (at offset 7)"),
        ("select * from nope", "SQLITE_ERROR", "SQLite error: no such table: nope"),
        ("select '\ud800'", "SQL_PARSE_ERROR", None),
        ("select 1\0", "SQL_PARSE_ERROR", None),
        ("select " + "1" * limits.SQL_SIZE_BYTES_MAX, "SQL_PARSE_ERROR", None),
    ],
)
def test_errors(statements: Statements, sql: str, code: str, message: str | None) -> None:
    error = refusal(statements, sql)
    assert error.code == code
    if message is not None:
        assert error.message == message


@pytest.mark.parametrize("sql", ["select 1;", "select 1; -- x", "select 1 /* ; */ ; ;;", ";;\n select 1"])
def test_blanks_around_the_statement_do_not_count(
    connection: apsw.Connection, statements: Statements, sql: str
) -> None:
    info = statements.get(sql)
    assert connection.execute(info.sql).fetchall() == [(1,)]


def test_parameters_and_columns(statements: Statements) -> None:
    info = statements.get("select a, b as x, a+1 from t where a = :x or b = @x or b in (?, ?7, $y::z)")
    assert info.parameters == (":x", "@x", None, None, None, None, "?7", "$y::z")
    assert info.columns == (("a", "INTEGER"), ("x", "TEXT"), ("a+1", None))


def test_explain_is_told(statements: Statements) -> None:
    info = statements.get("explain insert into t values(1, 2)")
    assert (info.is_explain, info.is_readonly) == (True, False)


@pytest.mark.parametrize(
    ("sql", "column", "rows"),
    [
        ("pragma journal_mode=delete", "journal_mode", (("wal",),)),
        ("pragma journal_mode", "journal_mode", (("wal",),)),
        ("pragma busy_timeout=77", "timeout", ((77,),)),
        ("pragma busy_timeout", "timeout", ((5000,),)),
        ("pragma locking_mode=exclusive", "locking_mode", (("normal",),)),
    ],
)
def test_answers_of_ignored_pragmas(statements: Statements, sql: str, column: str, rows: object) -> None:
    info = statements.get(sql)
    assert info.columns == ((column, None),)
    assert info.answer == rows


def test_cached_until_the_schema_changes_here(connection: apsw.Connection, statements: Statements) -> None:
    sql = "select * from log"
    first = statements.get(sql)
    assert statements.get(sql) is first
    connection.execute("alter table log add column y text")
    statements.schema_changed_here()
    assert statements.get(sql).columns == (("x", None), ("y", "TEXT"))


def test_rolled_back_schema_is_noticed(connection: apsw.Connection, statements: Statements) -> None:
    statements.refresh()
    connection.execute("begin")
    connection.execute("alter table log add column y text")
    statements.schema_changed_here()
    statements.refresh()
    assert len(statements.get("select * from log").columns) == 2
    statements.check()
    assert statements.is_suspect
    connection.execute("rollback")
    statements.check()
    assert len(statements.get("select * from log").columns) == 1
    assert not statements.is_suspect


def test_suspicion_ends_with_the_transaction_of_the_ddl(connection: apsw.Connection, statements: Statements) -> None:
    """An owner that is always inside a transaction when it runs something does not have to say when DDL is final."""
    connection.execute("begin; create table other(x)")
    statements.schema_changed_here()
    statements.check()
    assert statements.is_suspect
    connection.execute("commit; begin; insert into other values(1)")
    statements.check()
    assert not statements.is_suspect
    info = statements.get("select * from other")
    connection.execute("create table if not exists other(x)")
    statements.schema_changed_here()
    assert not statements.is_suspect
    assert statements.get("select * from other") is info
    connection.execute("alter table other add column y")
    statements.schema_changed_here()
    connection.execute("rollback; begin; alter table other rename column x to z")
    statements.schema_changed_here()
    assert statements.get("select * from other").columns == (("z", None),)


def test_schema_changed_by_another_connection_is_noticed(tmp_path: Path) -> None:
    writer = apsw.Connection(str(tmp_path / "a.db"))
    writer.pragma("journal_mode", "wal")
    writer.execute("create table t(a)")
    reader = apsw.Connection(str(tmp_path / "a.db"), flags=apsw.SQLITE_OPEN_READONLY)
    statements = Statements(reader, options=StatementOptions(schema_changes_elsewhere=True))
    assert len(statements.get("select * from t").columns) == 1
    writer.execute("insert into t values(1)")
    reader.execute("select * from t").fetchall()
    assert not statements.schema_moved()
    writer.execute("alter table t add column b")
    assert reader.execute("select * from t").fetchall() == [(1, None)]
    assert statements.schema_moved()
    assert len(statements.get("select * from t").columns) == 2
    assert not statements.schema_moved()


def test_cache_is_bounded_in_number_and_length(connection: apsw.Connection) -> None:
    statements = Statements(connection, options=StatementOptions(cached=2))
    first = statements.get("select 1")
    statements.get("select 2")
    statements.get("select 3")
    assert statements.get("select 1") is not first
    long = "select 1 --" + "x" * limits.STATEMENT_CACHED_CHARS_MAX
    assert statements.get(long) is not statements.get(long)


@pytest.mark.parametrize(
    "sql",
    [
        "alter table p rename column id to number",
        "alter table t rename to u",
        "alter table log drop column y",
        "alter table t add column d",
    ],
)
def test_alter_table_may_look_through_the_temporary_schema(
    connection: apsw.Connection, statements: Statements, sql: str
) -> None:
    connection.execute("alter table log add column y")
    info = statements.get(sql)
    assert info.kind is StatementKind.WRITE
    assert info.tables == ALL_TABLES
    connection.execute(info.sql)


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select 1", set()),
        ("select a from t", {"t"}),
        ("select count(*) from t", {"t"}),
        ("select 1 where exists (select 1 from p)", {"p"}),
        ("select t.a, (select max(x) from log) from t join ch on ch.id = t.a", {"t", "log", "ch"}),
        ("with q as (select id from p) select * from q", {"p"}),
        ("select b from v", {"v", "t"}),
        ("select body from f where f match 'x'", {"f"}),
        ("select value from json_each('[1]')", set()),
        ("select name from sqlite_schema", {"sqlite_master"}),
        ("select * from p union select id from ch", {"p", "ch"}),
    ],
)
def test_what_a_statement_reads(statements, sql, expected):
    reads = statements.get(sql).reads
    assert expected <= set(reads)
    assert set(reads) - expected <= {"json_each", "q", "f", ""}


@pytest.mark.parametrize(
    "sql", ["select * from sqlite_sequence", "explain select * from t", "insert into log values(1)"]
)
def test_of_some_statements_it_is_not_known_what_they_read(connection, sql):
    connection.execute("create table counted(id integer primary key autoincrement)")
    assert Statements(connection).get(sql).reads is None
