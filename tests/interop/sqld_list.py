"""Pipelines made by hand, for `sqld_run`: kinds of values, arguments, errors, streams and PRAGMAs, one by one."""

from sqld_twins import Ask


def text(value):
    return {"type": "text", "value": value}


def integer(value):
    return {"type": "integer", "value": str(value)}


def real(value):
    return {"type": "float", "value": value}


def blob(encoded):
    return {"type": "blob", "base64": encoded}


NULL = {"type": "null"}


def statement(sql, *args, **rest):
    given = {"args": list(args)} if args else {}
    return {"sql": sql, **given, **rest}


def run(sql, *args, **rest):
    return {"type": "execute", "stmt": statement(sql, *args, **rest)}


def named(sql, **given):
    return run(sql, named_args=[{"name": name, "value": value} for name, value in given.items()])


def named_as(sql, *pairs):
    return run(sql, named_args=[{"name": name, "value": value} for name, value in pairs])


def batch(*steps):
    """Make a batch of texts, statements, and pairs of a condition and one of them."""
    made = []
    for step in steps:
        condition, what = step if isinstance(step, tuple) else (None, step)
        stmt = statement(what) if isinstance(what, str) else what
        made.append({"stmt": stmt} if condition is None else {"stmt": stmt, "condition": condition})
    return {"type": "batch", "batch": {"steps": made}}


def ok(step):
    return {"type": "ok", "step": step}


def error(step):
    return {"type": "error", "step": step}


def negated(condition):
    return {"type": "not", "cond": condition}


def all_of(*conditions):
    return {"type": "and", "conds": list(conditions)}


def any_of(*conditions):
    return {"type": "or", "conds": list(conditions)}


def describe(sql):
    return {"type": "describe", "sql": sql}


def sequence(sql):
    return {"type": "sequence", "sql": sql}


AUTOCOMMIT = {"type": "is_autocommit"}
GET_AUTOCOMMIT = {"type": "get_autocommit"}


def each(*texts):
    """Make a pipeline of each statement by itself, so that one that is refused as a whole hides no other."""
    return [Ask(requests=(run(one) if isinstance(one, str) else one,)) for one in texts]


SCHEMA = each(
    "create table t(a integer primary key, b text, c real, d blob, e)",
    "create table u(id integer primary key, t integer references t(a), n text unique not null check(length(n) < 9))",
    "create table strictly(a int, b text, c any) strict",
    "create table keyed(k text primary key, v) without rowid",
    "create table made(a, b as (a * 2) stored, c as (a || 'x'))",
    "create index t_b on t(b)",
    "create index t_e on t(e) where e is not null",
    "create view v as select a, b || '!' as loud from t",
    "create table log(x, y default 7)",
    "create trigger t_log after insert on t begin insert into log(x) values(new.a); end",
    "create trigger v_in instead of insert on v begin insert into t(b) values(new.loud); end",
    "create trigger no_bad before insert on t when new.b = 'bad' begin select raise(abort, 'no bad rows'); end",
    "create virtual table words using fts5(body)",
    "create virtual table boxes using rtree(id, x0, x1)",
    "create table t(a)",
    "create table if not exists t(a)",
    "create index if not exists t_b on t(b)",
    "drop table missing",
    "drop table if exists missing",
    "alter table t add column late text default 'x'",
    "alter table log rename column x to z",
    "alter table t drop column late",
)

VALUES = each(
    *[
        run("select ?, typeof(?1), quote(?1)", value)
        for value in (
            NULL,
            *map(integer, (0, 1, -1, 2**31, -(2**31) - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63))),
            *map(real, (0.0, -0.0, 0.1, 1e15, 1e16, 123456789.125, 1e308, 5e-324, -1.5e-7, 3.0)),
            *map(
                text, ("", "abc", "it's", 'quo"te', "\u00e4\u4e16\U0001f600", "a\x00b", "\x00", "\ufeffx", "\x7f\x01")
            ),
            *map(blob, ("", "AA", "AAE=", "AAEC", "AAECAw", "/+8=", "////")),
        )
    ],
    "select 9223372036854775807 + 1, -9223372036854775808, 9223372036854775808, 0x7fffffffffffffff",
    "select 1e999, -1e999, 1e999 - 1e999, 0.0 / 0, 1 / 0, 1 % 0",
    "select abs(-9223372036854775808)",
    "select cast(x'80ff' as text)",
    "select cast('12abc' as integer), cast('1e3' as real), cast(x'3132' as text), cast(3.99 as int)",
    "select x'00ff', zeroblob(3), hex('a'), unhex('6162'), char(0, 65)",
    "select null is null, null = null, 1 in (1, null), 2 in (1, null), '1' = 1, 'a' < x'00'",
)

PAIR = "(select 1 as x union all select 2)"

FUNCTIONS = each(
    "select sqrt(2), pow(2, 10), ln(1), log(100), log2(8), exp(0), pi(), sin(0), degrees(pi()), mod(7, 3), trunc(-2.5)",
    "select ceil(1.2), floor(-1.2), round(2.5), round(-2.567, 2), sign(-3), max(1, 2), min('a', 'b'), atan2(1, 2)",
    "select json('{\"a\": [1,2 ,3]}'), json_extract('{\"a\":{\"b\":5}}', '$.a.b'), '{\"a\":\"x\"}' ->> 'a'",
    "select json_array(1, 'a', null, 2.5), json_object('a', 1), json_type('[1]', '$[0]'), json_valid('{')",
    "select json('{')",
    'select key, value, type, atom, fullkey from json_each(\'{"a":1,"b":[true,null]}\')',
    "select fullkey from json_tree('[1,[2]]') order by id",
    "select json_group_array(a), json_group_object(a, b) from (select 1 a, 'x' b union all select 2, 'y')",
    "select jsonb_extract(jsonb('{\"a\":1}'), '$.a'), json_set('{}', '$.a', 1), '[1,2]' -> 1",
    "select json_patch('{\"a\":1}', '{\"a\":null}')",
    "select json_pretty('[1]')",
    "select printf('%05d|%x|%.2f|%s|%q|%!.3f', 42, 255, 1.005, 'a', 'it''s', 2.0), format('%d', 1)",
    "select upper('\u00e4b'), lower('AB'), length('\u00e4\U0001f600'), length(x'0001'), octet_length('\u00e4')",
    "select substr('hello', 2, 3), substr('hello', -3), instr('hello', 'l'), replace('aaa', 'a', 'bb'), trim(' x ')",
    f"select group_concat(x, '-'), string_agg(x, '+'), total(x), avg(x), sum(x), count(*) from {PAIR}",
    "select date('2024-02-29', '+1 year'), strftime('%Y-%W', '2024-01-01'), unixepoch('2024-01-01'), julianday(0)",
    "select datetime('2024-01-31', 'start of month', '-1 day'), timediff('2024-03-01', '2024-02-28')",
    "select coalesce(null, 2), ifnull(null, 3), nullif(1, 1), iif(1, 'a', 'b'), likely(1), unicode('a'), typeof(1.0)",
    "select concat('a', null, 1), concat_ws('-', 'a', null, 'b')",
    "select 'abc' like 'A%', 'abc' glob 'a*', 'a_c' like 'a\\_c' escape '\\', like('a%', 'ab')",
    "select 'abc' regexp 'a.c'",
    f"select row_number() over (order by x), lag(x) over (order by x), ntile(2) over (order by x) from {PAIR}",
    "with recursive n(i) as (select 1 union all select i + 1 from n where i < 5) select sum(i), group_concat(i) from n",
    "select * from generate_series(1, 5, 2)",
    f"select median(x), percentile(x, 50) from {PAIR}",
    "select soundex('robert')",
    "select sqrt(-1)",
    "select sign('')",
    "create index t_sqrt on t(sqrt(a))",
    "drop index if exists t_sqrt",
    "select x'61' like 'a'",
    "select typeof(replace(-1, '', 'x'))",
    "select cast(9007199254740993.0 as text), 0.1 + 0.2 || ''",
    "select load_extension('x')",
    "select readfile('/etc/passwd')",
    "select writefile('/nowhere/x', 'y')",
    "select edit('x')",
    "select fts5('x')",
    "select sqlite_version()",
    "select nothing_like_this(1)",
    "select count(*) > 0 from dbstat",
    "select * from sqlite_stat1",
)

ROWS = each(
    run("insert into t(b, c, d, e) values(?, ?, ?, ?)", text("x"), real(1.5), blob("AAEC"), integer(7)),
    run("insert into t values(?, ?, ?, ?, ?)", integer(10), text("ten"), NULL, NULL, text("e")),
    "insert into t(a, b) values(20, 'p'), (21, 'q'), (22, 'r')",
    "insert into t(a, b) values(20, 'again')",
    "insert or ignore into t(a, b) values(20, 'again'), (23, 'new')",
    "insert or replace into t(a, b) values(20, 'replaced')",
    "replace into t(a, b) values(21, 'replaced')",
    "insert into t(a, b) values(20, 'up') on conflict(a) do update set b = excluded.b || '-' || t.b",
    "insert into t(a, b) values(20, 'no') on conflict do nothing",
    "insert into t(b) values('bad')",
    "insert into t(a, b) values('nine', 'x')",
    "insert into t(b) values('r1'), ('r2') returning a, b, b || '?' as asked, typeof(a)",
    "insert into t(a, b) values(20, 'dup') returning a",
    "insert into v(a, loud) values(1, 'through a view')",
    "update t set c = 2.5 where a < 20",
    "update t set b = 'nobody' where a = -1",
    "update t set b = upper(b) where a in (20, 21) returning a, b",
    "update t set c = x.n from (select 20 as k, 9 as n) as x where t.a = x.k",
    "update or ignore t set a = 21 where a = 20",
    "delete from t where a = 22",
    "delete from t where a = 22",
    "delete from t where a = 23 returning *",
    "insert into u(t, n) values(10, 'ok')",
    "insert into u(t, n) values(999, 'bad')",
    "insert into u(t, n) values(10, 'ok')",
    "insert into u(t, n) values(10, null)",
    "create table needed(a integer primary key, b not null default 'd')",
    "insert into needed(a, b) values(1 || x'0001', 1 / 0) on conflict(a) do update set b = excluded.b",
    "insert into needed(a, b) values('x', null)",
    "insert into u(t, n) values(10, 'much too long')",
    "delete from t where a = 10",
    "insert into strictly values('x', 1, 2)",
    "insert into strictly values(1, 2, 3)",
    "insert into strictly values(1.0, 'b', 'c')",
    "insert into keyed values('k', 1), ('l', 2)",
    "insert into keyed values('k', 3)",
    "insert into made(a) values(3)",
    "insert into made(a, b) values(3, 4)",
    "insert into missing values(1)",
    "insert into t(missing) values(1)",
    "insert into t values(1)",
    "insert into log select a, b from t where a > 19",
    "with x(n) as (values(100), (101)) insert into t(a) select n from x",
    "with x(n) as (values(100)) update t set b = 'cte' where a in (select n from x)",
    "with x(n) as (values(101)) delete from t where a in x",
    "insert into words values('one two three'), ('four')",
    "select rowid, body, highlight(words, 0, '<', '>') from words where words match 'two'",
    "insert into boxes values(1, 0.5, 2.5)",
    "select * from boxes where x0 > 0 and x1 < 3",
    "create table copied as select a, b from t",
    "select * from copied order by a",
    run("insert into t(b) values('unwanted') returning a", want_rows=False),
    run("select * from t order by a", want_rows=False),
)

SELECTS = each(
    "select * from t order by a",
    "select a as x, b, c + 1, 'lit', count(*) over () n from t order by a limit 2",
    "select t.*, v.loud, rowid from t join v using(a) order by a",
    "select b, count(*) from t group by b having count(*) > 0 order by b",
    "select (select max(a) from t) as most, exists(select 1 from t)",
    "select a from t union select id from u order by 1",
    "select * from (select a, b from t order by a limit 1)",
    "select max(a), min(b), b from t",
    "values(1, 'a'), (2, 'b')",
    "select x.a, u.n from t x left join u on u.t = x.a order by x.a, u.n",
    "select distinct typeof(c) from t order by 1",
    "select a from t where b like 'r%' order by a",
    "select a from t order by a limit 2 offset 1",
    "select * from made",
    "select * from sqlite_master where name = 't'",
    "select missing from t",
    "select * from missing",
    "select t.a from t as x",
    "select a from t, u as t",
    "select sum(a, b) from t",
    "select max()",
    "select 1 order by 2",
    "select (select 1, 2)",
    "explain query plan select * from t where a = 1",
    "explain select 1",
)

TEXTS = each(
    "",
    " ",
    ";",
    ";;",
    "-- only a comment",
    "/* only a comment */",
    "select 1;",
    "select 1; ",
    "select 1; -- comment",
    "select 1;;",
    "; select 1",
    "-- comment\nselect 1",
    "select 1; select 2",
    "select 1; nonsense",
    "nonsense",
    "select",
    "select 1 +",
    "select 'open",
    'select "open',
    "select /* open",
    "sel\u00e9ct 1",
    "select 1 from from",
    "select \x00",
    "select 1\x00",
    "selec 1",
    "insert into t",
    "update t set",
    "select * frm t",
    "create table",
    "select :",
    "select @",
    "select #1",
    "select 1 where",
    "SELECT 1 AS \"a b\", 2 AS 'c', 3 AS [d], 4 AS `e`, 5 f",
    "select \u4e16 from (select 1 as \u4e16)",
)

ARGUMENTS = [
    *each(
        run("select ?, ?", integer(1), text("b")),
        run("select ?2, ?1", integer(1), text("b")),
        run("select ?1, ?1", integer(1)),
        run("select ?3", integer(1), integer(2), integer(3)),
        run("select ?, ?", integer(1)),
        run("select ?", integer(1), integer(2)),
        run("select ?"),
        run("select 1", integer(1)),
        run("select :a, @b, $c", integer(1), integer(2), integer(3)),
        named_as("select :a, @b, $c", ("a", integer(1)), ("b", integer(2)), ("c", integer(3))),
        named_as("select :a, @b, $c", (":a", integer(1)), ("@b", integer(2)), ("$c", integer(3))),
        named_as("select :a, :a", ("a", integer(1))),
        named_as("select :a", ("b", integer(1))),
        named_as("select :a", ("a", integer(1)), ("b", integer(2))),
        named_as("select :a, :b", ("a", integer(1))),
        named_as("select :a", ("@a", integer(1))),
        named_as("select :a, @a", ("a", integer(1))),
        named_as("select ?", ("a", integer(1))),
        named_as("select ?1", ("1", integer(1))),
        named_as("select ?1", ("?1", integer(1))),
        named_as("select :a", ("a", integer(1)), ("a", integer(2))),
        run("select ?, :a", integer(1), integer(2)),
        {
            "type": "execute",
            "stmt": {
                "sql": "select ?",
                "args": [integer(1)],
                "named_args": [named_as("", ("a", NULL))["stmt"]["named_args"][0]],
            },
        },
        named_as("select $a::b", ("$a::b", integer(1))),
    ),
]

DESCRIBED = each(
    *map(
        describe,
        (
            "select a, b as x, a + 1 from t where a = ? and b = :name",
            "insert into t(a) values(?3)",
            "insert into t(a) values(1) returning *",
            "explain select 1",
            "explain query plan select 1",
            "begin",
            "pragma table_info(t)",
            "select 1",
            "select missing",
            "nonsense",
            "",
            "select 1; select 2",
            "select @a, $b, ?, ?7",
            "create table if not exists t(x)",
            "values(?)",
        ),
    )
)

SEQUENCES = each(
    sequence("create table s1(x); insert into s1 values(1); insert into s1 values(2);"),
    sequence("insert into s1 values(3); select missing; insert into s1 values(4)"),
    "select * from s1 order by x",
    sequence("insert into s1 values(5); nonsense here; insert into s1 values(6)"),
    "select * from s1 order by x",
    sequence("begin; insert into s1 values(7); commit"),
    sequence("begin; insert into s1 values(8)"),
    "select * from s1 order by x",
    sequence(""),
    sequence("-- missing"),
    sequence("select 1; select 2; /* the end */"),
    sequence("create trigger s1_t after insert on s1 begin update s1 set x = 0 where x = -1; select 1; end; select 1"),
    sequence("insert into s1 values(?)"),
    sequence("select 'a;b'; insert into s1 values(';')"),
    "select * from s1 order by x",
)

BATCHES = each(
    batch("select 1", "select 2"),
    batch("select 1", (ok(0), "select 2"), (error(0), "select 3"), (negated(ok(0)), "select 4")),
    batch("select missing", (ok(0), "select 2"), (error(0), "select 3"), (error(1), "select 4"), (ok(3), "select 5")),
    batch("select 1", "nonsense", (all_of(ok(0), ok(1)), "select 3"), (any_of(ok(0), ok(1)), "select 4")),
    batch("select 1", (all_of(), "select 2"), (any_of(), "select 3")),
    batch("begin", (AUTOCOMMIT, "select 1"), (negated(AUTOCOMMIT), "select 2"), "commit", (AUTOCOMMIT, "select 3")),
    batch(
        "begin immediate",
        (ok(0), "insert into t(a) values(200)"),
        (ok(1), "insert into t(a) values(200)"),
        (ok(2), "commit"),
        (negated(ok(3)), "rollback"),
    ),
    batch("begin", (ok(0), "insert into t(a) values(201)"), (ok(1), "commit"), (negated(ok(2)), "rollback")),
    batch(statement("insert into t(b) values(?) returning b", text("in a batch")), "select changes()"),
    batch(),
    batch("", "select 1"),
    batch("select 1; select 2", (error(0), "select 3")),
    "select a from t where a >= 200 order by a",
)

TRANSACTIONS = [
    Ask(stream="tx", requests=(run("begin"), GET_AUTOCOMMIT, run("insert into t(a, b) values(300, 'tx')"))),
    Ask(requests=(run("select count(*) from t where a = 300"), GET_AUTOCOMMIT)),
    Ask(stream="tx", requests=(run("select b from t where a = 300"), run("begin"), run("select missing"))),
    Ask(stream="tx", requests=(run("savepoint s"), run("delete from t where a = 300"), run("rollback to s"))),
    Ask(stream="tx", requests=(run("release s"), run("select b from t where a = 300"), run("release s"))),
    Ask(stream="tx", requests=(run("commit"), GET_AUTOCOMMIT, run("commit"), run("rollback"))),
    Ask(requests=(run("select b from t where a = 300"),)),
    Ask(stream="tx", requests=(run("begin immediate"), run("delete from t where a = 300"), run("rollback"))),
    Ask(stream="tx", requests=(run("begin exclusive"), run("update t set b = 'x' where a = 300"), run("end"))),
    Ask(stream="tx", requests=(run("begin"), run("insert or rollback into t(a) values(300)"), GET_AUTOCOMMIT)),
    Ask(stream="tx", requests=(run("rollback"),)),
    Ask(
        stream="tx", requests=(run("begin deferred transaction"), run("select count(*) from t"), run("end transaction"))
    ),
    Ask(
        stream="tx",
        requests=(run("begin readonly"), run("select 1"), run("insert into t(b) values('ro')"), run("commit")),
    ),
    Ask(stream="tx", requests=(run("savepoint outer"), GET_AUTOCOMMIT, run("insert into t(a) values(301)"))),
    Ask(stream="tx", requests=(run("rollback to outer"), run("release outer"), GET_AUTOCOMMIT)),
    Ask(stream="tx", requests=(run("begin"), run("pragma foreign_keys"), run("pragma defer_foreign_keys = on"))),
    Ask(stream="tx", requests=(run("insert into u(t, n) values(998, 'later')"), run("commit"), GET_AUTOCOMMIT)),
    Ask(stream="tx", requests=(run("insert into t(a) values(998)"), run("commit"), GET_AUTOCOMMIT)),
    Ask(stream="off", requests=(run("pragma foreign_keys = off"), run("pragma foreign_keys"))),
    Ask(stream="off", requests=(run("pragma foreign_keys"), run("insert into u(t, n) values(997, 'orphan')"))),
    Ask(stream="off", requests=(run("pragma foreign_keys = on"), run("pragma foreign_keys"), {"type": "close"})),
    Ask(requests=(run("pragma foreign_keys"), run("pragma foreign_key_check"))),
    Ask(
        stream="half",
        requests=(
            run("begin"),
            run("insert or ignore into needed(b, a) values('half', null), ('x', 'y')"),
            run("select b from needed where b = 'half'"),
            run("rollback"),
        ),
    ),
    Ask(stream="left", requests=(run("begin"), run("insert into t(a) values(400)"), {"type": "close"})),
    Ask(requests=(run("select count(*) from t where a = 400"),)),
    Ask(stream="kept", requests=({"type": "store_sql", "sql_id": 1, "sql": "select ? + 1"},)),
    Ask(stream="kept", requests=({"type": "execute", "stmt": {"sql_id": 1, "args": [integer(1)]}},)),
    Ask(stream="kept", requests=({"type": "describe", "sql_id": 1}, {"type": "close_sql", "sql_id": 1})),
    Ask(stream="kept", requests=({"type": "close_sql", "sql_id": 5}, {"type": "sequence", "sql": "select 1"})),
    Ask(stream="kept", requests=({"type": "close"}, run("select 1"))),
]

PRAGMAS = each(
    *[
        f"pragma {name}"
        for name in (
            "table_info(t)", "table_xinfo(made)", "table_list(t)", "index_list(u)", "index_info(t_b)",
            "index_xinfo(t_b)",
            "foreign_key_list(u)", "foreign_keys", "encoding", "user_version", "application_id", "user_version = 7",
            "user_version", "application_id = 9", "application_id", "journal_mode", "journal_mode = delete",
            "journal_mode = wal", "synchronous", "synchronous = off", "busy_timeout", "busy_timeout = 100",
            "cache_size",
            "cache_size = -2000", "temp_store", "temp_store = memory", "mmap_size", "mmap_size = 0", "page_size",
            "wal_autocheckpoint", "wal_autocheckpoint = 0", "wal_checkpoint", "wal_checkpoint(truncate)",
            "optimize", "locking_mode",
            "locking_mode = exclusive", "journal_size_limit = 1000", "writable_schema", "writable_schema = on",
            "trusted_schema = off",
            "recursive_triggers", "case_sensitive_like = on", "query_only = on", "schema_version = 1",
            "defer_foreign_keys",
            "legacy_alter_table = on", "ignore_check_constraints = on", "foreign_key_check", "integrity_check",
            "quick_check",
            "auto_vacuum", "secure_delete", "read_uncommitted = 1", "max_page_count", "max_page_count = 9",
            "key = 'x'",
            "temp_store_directory = '/tmp'", "no_such_pragma", "no_such_pragma = 1", "collation_list",
            "count_changes",
        )
    ],
    "select name, type from pragma_table_info('t')",
    "select * from pragma_foreign_key_list('u')",
)  # fmt: skip

REFUSED = each(
    "attach 'other.db' as other",
    "attach other as other",
    "attach database ':memory:' as other",
    "detach other",
    "vacuum",
    "vacuum into 'copy.db'",
    "analyze",
    "reindex",
    "create temp table n(a)",
    "create temporary view n as select 1",
    "create temp trigger n after insert on t begin select 1; end",
    "create table temp.n(a)",
    "create virtual table n using nothing_like_this(a)",
    "update sqlite_master set sql = ''",
    "insert into sqlite_sequence values('t', 1)",
    "drop table sqlite_master",
)


def raw(statement_json):
    """Make a pipeline of one statement, as JSON that may be wrong."""
    return '{"requests": [{"type": "execute", "stmt": ' + statement_json + '}, {"type": "close"}]}'


def raw_argument(value_json):
    return raw('{"sql": "select ?", "args": [' + value_json + "]}")


def raw_condition(condition_json):
    step = '{"stmt": {"sql": "select 1"}, "condition": ' + condition_json + "}"
    return '{"requests": [{"type": "batch", "batch": {"steps": [' + step + ']}}, {"type": "close"}]}'


PROTOCOL = [
    Ask(body=body)
    for body in (
        "",
        "{",
        "null",
        "[]",
        "{}",
        '{"requests": null}',
        '{"requests": []}',
        '{"requests": [{}]}',
        '{"requests": [{"type": "unknown"}]}',
        '{"requests": [{"type": "execute"}]}',
        raw("{}"),
        raw('{"sql": 1}'),
        raw('{"sql": "select 1", "sql_id": 1}'),
        raw('{"sql_id": 1}'),
        raw('{"sql": "select 1", "unknown": 1}'),
        raw_argument('{"type": "integer", "value": 1}'),
        raw_argument('{"type": "integer", "value": "x"}'),
        raw_argument('{"type": "integer", "value": "9223372036854775808"}'),
        raw_argument('{"type": "blob", "base64": "***"}'),
        raw_argument('{"type": "text"}'),
        raw_argument('{"type": "float", "value": 1e999}'),
        raw_argument('{"type": "float", "value": null}'),
        raw_argument('{"type": "float", "value": 1}'),
        raw_condition('{"type": "ok", "step": 0}'),
        raw_condition('{"type": "ok", "step": -1}'),
        raw_condition('{"type": "is_autocommit"}'),
        '{"baton": "nonsense", "requests": []}',
        '{"baton": 1, "requests": []}',
        '{"baton": "' + "A" * 64 + '", "requests": []}',
    )
] + [
    Ask(path="/v2/pipeline", body='{"requests": [{"type": "get_autocommit"}, {"type": "close"}]}'),
    Ask(path="/v1/execute", body='{"stmt": {"sql": "select 1"}}'),
    Ask(path="/v1/execute", body='{"stmt": {"sql": "select missing"}}'),
    Ask(path="/v1/execute", body='{"stmt": {"sql": "insert into t(a) values(20)"}}'),
    Ask(path="/v1/execute", body='{"stmt": {"sql": "select ?"}}'),
    Ask(path="/v1/execute", body='{"stmt": {"sql": ""}}'),
    Ask(path="/v1/batch", body='{"batch": {"steps": [{"stmt": {"sql": "select missing"}}]}}'),
    Ask(path="/v3/missing", body="{}"),
]

DIALECT = each(
    'select "nowhere"',
    'select a from t where b = "nowhere" order by a',
    "\ufeffselect 2 -- after a byte order mark",
    "select 1_000",
    "delete from t order by a limit 1",
    "select vector_extract(vector32('[1, 2]'))",
    "create table chance(a) random rowid",
    "select * from sqlite_stmt",
    "pragma function_list",
    "pragma module_list",
    "pragma pragma_list",
    "pragma compile_options",
    "select count(*) from (values " + ", ".join(["(?)"] * 600) + ")",
    run("select ?, typeof(?1), length(?1), hex(?1)", real(9.5)),
    "select 0x7fffffffffffffff, 9223372036854775808, -9223372036854775808",
    "select cast('1e3' as int), cast(1e30 as int), cast('abc' as real)",
    "select timediff('2020-01-02', '2020-01-01'), octet_length('\u00e9'), upper('\u00e9')",
    "select json('{a:1}'), json('[1,]'), json_error_position('x')",
    "with x(a) as not materialized (select 1) select * from x",
    "insert into t(a) values(77), (78) returning a, rowid > 0",
    "begin immediate; select 1; commit",
)

ALL = [
    *SCHEMA, *VALUES, *FUNCTIONS, *ROWS, *SELECTS, *TEXTS, *ARGUMENTS, *DESCRIBED, *SEQUENCES, *BATCHES, *TRANSACTIONS,
    *PRAGMAS, *REFUSED, *PROTOCOL, *DIALECT,
]  # fmt: skip
