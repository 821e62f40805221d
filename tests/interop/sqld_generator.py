"""Pipelines drawn from a seed, for `sqld_run`: schema changes, changes, queries, batches, scripts and transactions.

Names come from small pools, so that many statements fit and many do not. No statement depends on the clock or on
chance. While a stream has a transaction open, others only read, as neither server lets them write.
"""

import random

from sqld_list import (
    AUTOCOMMIT,
    GET_AUTOCOMMIT,
    NULL,
    all_of,
    any_of,
    batch,
    blob,
    describe,
    error,
    integer,
    named_as,
    negated,
    ok,
    real,
    run,
    sequence,
    statement,
    text,
)
from sqld_twins import Ask

TABLES = ("t1", "t2", "t3")
COLUMNS = ("a", "b", "c", "d")
TYPES = ("", "integer", "text", "real", "blob", "numeric", "varchar(10)", "BOOLEAN")
NUMBERS = (0, 1, -1, 2, 3, 7, 10, 255, 2**31, 2**40, -(2**40))
REALS = (0.0, 0.5, -1.25, 2.5, 1000.0)
TEXTS = (
    "",
    "a",
    "b",
    "abc",
    "ABC",
    "x'y",
    'q"q',
    "10",
    "1.5",
    "\u00e4\u00f6",
    "\u4e16\u754c",
    "\U0001f600",
    "a\x00b",
    "null",
)
BLOBS = ("", "AA", "AAE", "AAEC", "YWJj")
# A text with a NUL that begins with a number is a real number for newer SQLite: no NUL in what may be added up.
LITERALS = ("0", "1", "-1", "2.5", "'a'", "'abc'", "''", "x'0161'", "null", "'10'", "1099511627776", "1e3")
BINARY = ("+", "-", "%", "||", "=", "<>", "<", ">=", "is", "is not", "and", "or", "&", "|", "<<")
CALLS = (
    "abs({})", "length({})", "upper({})", "lower({})", "typeof({})", "quote({})", "coalesce({}, {})",
    "ifnull({}, {})", "nullif({}, {})", "max({}, {})", "min({}, {})", "round({}, 2)", "substr({}, 2)", "instr({}, {})",
    "trim({})", "json_quote({})", "json_array({}, {})", "iif({}, {}, {})", "cast({} as integer)", "cast({} as text)",
    "{} collate nocase", "{} between {} and {}", "{} in ({}, {})", "unicode({})", "not {}", "- {}",
    "case when {} then {} else {} end", "printf('%s', {})", "zeroblob(2)", "json_valid({})",
)  # fmt: skip
AGGREGATES = ("count(*)", "count({})", "sum({})", "total({})", "min({})", "max({})", "avg({})", "json_group_array({})")
CONFLICTS = ("", "", "", " or ignore", " or replace", " or fail", " or abort")
BROKEN = (
    "selec 1", "select", "select * from", "insert into", "create table", "select 1; select 2", "", ";", "-- x",
    "select )",
    "update t1 set", "select 'open", "select nothing_like_this(1)", "commit", "rollback", "release missing",
    "drop table missing",
)  # fmt: skip


class Generator:
    """An endless program."""

    def __init__(self, seed):
        self.chance = random.Random(seed)
        self.open = ""
        self.left = 0
        self.number = 0

    def __iter__(self):
        yield from (Ask(requests=(run(self.create_table(name)),)) for name in TABLES)
        while True:
            yield self.next()

    def next(self):
        self.number += 1
        if self.open:
            return self.in_transaction()
        kinds = {self.plain: 10, self.begin: 2, self.of_batch: 4, self.of_script: 2, self.of_describe: 2}
        return self.chance.choices([*kinds], [*kinds.values()])[0]()

    # -- pipelines --

    def plain(self):
        return Ask(requests=tuple(self.execute() for _ in range(self.chance.randint(1, 4))))

    def of_describe(self):
        return Ask(requests=(describe(self.sound()),))

    def of_script(self):
        texts = [self.sound() for _ in range(self.chance.randint(1, 4))]
        if self.chance.random() < 0.3:
            texts = ["begin", *texts, "commit"]
        return Ask(requests=(sequence("; ".join(texts)), GET_AUTOCOMMIT))

    def of_batch(self):
        steps = [(self.condition(number), statement(self.sound())) for number in range(self.chance.randint(1, 6))]
        if self.chance.random() < 0.4:
            begin, first = (None, statement("begin")), len(steps)
            steps = [begin, *[(ok(0), each) for _, each in steps]]
            steps += [(ok(first), statement("commit")), (negated(ok(first + 1)), statement("rollback"))]
        return Ask(requests=(batch(*steps), GET_AUTOCOMMIT))

    def condition(self, number, depth=0):
        if number == 0 or self.chance.random() < 0.3:
            return AUTOCOMMIT if depth else None
        step = self.chance.randrange(number)
        kind = self.chance.randrange(6 if depth < 3 else 2)
        if kind < 2:
            return (ok, error)[kind](step)
        inner = [self.condition(number, depth + 1) for _ in range(2)]
        return (negated(inner[0]), all_of(*inner), any_of(*inner), AUTOCOMMIT)[kind - 2]

    def begin(self):
        self.open, self.left = f"s{self.number}", self.chance.randint(1, 5)
        how = self.chance.choice(("begin", "begin immediate", "begin deferred", "begin transaction", "savepoint sp"))
        return Ask(stream=self.open, requests=(run(how), run(self.change())))

    def in_transaction(self):
        if self.chance.random() < 0.2:
            return Ask(requests=(run(self.query()), GET_AUTOCOMMIT))
        self.left -= 1
        stream = self.open
        if self.left > 0:
            return Ask(stream=stream, requests=tuple(self.execute() for _ in range(self.chance.randint(1, 3))))
        self.open = ""
        end = self.chance.choice(("commit", "commit", "end", "rollback"))
        last = () if self.chance.random() < 0.1 else (run(end), GET_AUTOCOMMIT)
        return Ask(stream=stream, requests=(*last, {"type": "close"}))

    # -- statements --

    def execute(self):
        if self.chance.random() < 0.35:
            return self.with_arguments()
        return run(self.statement())

    def statement(self):
        kinds = {self.query: 8, self.change: 8, self.schema: 2, self.broken: 1, self.pragma: 1}
        return self.chance.choices([*kinds], [*kinds.values()])[0]()

    def sound(self):
        """Give a statement that sqld's parser takes: it refuses batches and scripts as a whole for any other."""
        kinds = {self.query: 8, self.change: 8, self.schema: 2, self.pragma: 1}
        return self.chance.choices([*kinds], [*kinds.values()])[0]()

    def broken(self):
        """Give what is wrong anywhere; what ends a transaction would let others write, so not within one."""
        texts = BROKEN if not self.open else [each for each in BROKEN if each not in {"commit", "rollback"}]
        return self.chance.choice(texts)

    def pragma(self):
        table = self.table()
        names = ("table_info", "table_xinfo", "index_list", "foreign_key_list")
        return self.chance.choice(
            (f"pragma {self.chance.choice(names)}({table})", "pragma user_version", "pragma foreign_keys")
        )

    def with_arguments(self):
        values = [self.value() for _ in range(self.chance.randint(1, 3))]
        table = self.table()
        if self.chance.random() < 0.5:
            marks = ", ".join(
                self.chance.choice(("?", f"?{n}")) if n == 1 else f"?{n}" for n in range(1, len(values) + 1)
            )
            if self.chance.random() < 0.15:
                values.append(NULL)
            names = ", ".join(self.chance.sample(COLUMNS, len(marks.split(", "))))
            sql = self.chance.choice((f"select {marks}", f"insert into {table}({names}) values({marks})"))
            return run(sql, *values)
        prefixes = [self.chance.choice(":@$") for _ in values]
        names = [f"{prefix}n{n}" for n, prefix in enumerate(prefixes)]
        given = [
            (name if self.chance.random() < 0.5 else name[1:], value) for name, value in zip(names, values, strict=True)
        ]
        self.chance.shuffle(given)
        where = " or ".join(f"{self.column()} {self.chance.choice(('=', '<', 'is'))} {name}" for name in names)
        return named_as(f"select {', '.join(COLUMNS)} from {table} where {where} order by 1, 2, 3, 4", *given)

    def value(self):
        kind = self.chance.randrange(5)
        if kind == 0:
            return integer(self.chance.choice(NUMBERS))
        if kind == 1:
            return real(self.chance.choice(REALS))
        if kind == 2:
            return text(self.chance.choice(TEXTS))
        return blob(self.chance.choice(BLOBS)) if kind == 3 else NULL

    def table(self):
        return "missing" if self.chance.random() < 0.02 else self.chance.choice(TABLES)

    def column(self):
        return "missing" if self.chance.random() < 0.02 else self.chance.choice(COLUMNS)

    def expression(self, depth=0, *, has_columns=True):
        kind = self.chance.randrange(5 if depth < 2 else 2)
        if kind == 0 and has_columns:
            return self.column()
        if kind <= 1:
            return self.chance.choice(LITERALS)
        again = [self.expression(depth + 1, has_columns=has_columns) for _ in range(3)]
        if kind == 2:
            return f"({again[0]} {self.chance.choice(BINARY)} {again[1]})"
        call = self.chance.choice(CALLS)
        return f"({call.format(*again[: call.count('{}')])})"

    def query(self):
        table, one, two = self.table(), self.expression(), self.expression()
        every = ", ".join(COLUMNS)
        other = self.chance.choice(TABLES)
        shapes = (
            f"select {every} from {table} order by {every}",
            f"select {one} as x, {two} from {table} order by 1, 2",
            f"select {every} from {table} where {one} order by {every} limit {self.chance.randint(0, 5)}",
            f"select {self.aggregate()}, {self.aggregate()} from (select * from {table} order by {every})",
            f"select {self.column()} g, count(*) from {table} group by g having count(*) > 0 order by g",
            f"select x.a, y.b from {table} x join {other} y on x.a = y.a order by 1, 2",
            f"select a from {table} union select b from {other} order by 1",
            f"select a from {table} intersect select a from {other} order by 1",
            f"select {self.expression(has_columns=False)}",
            f"values({self.expression(has_columns=False)}, 2), (3, 4)",
            f"with x(n) as (select {one} from {table}) select n, count(*) from x group by n order by n",
            f"select a, row_number() over (order by {every}) from {table} order by {every}",
            f"select exists(select 1 from {table} where {one}), (select count(*) from {other})",
            f"select distinct typeof({self.column()}) from {table} order by 1",
        )
        return self.chance.choice(shapes)

    def aggregate(self):
        return self.chance.choice(AGGREGATES).format(self.column())

    def change(self):
        table, other = self.table(), self.chance.choice(TABLES)
        one, two = self.expression(has_columns=False), self.expression(has_columns=False)
        first, second = self.chance.sample(COLUMNS, 2)
        third, fourth = self.chance.sample(COLUMNS[1:], 2)  # a bug of sqld's SQLite shows with keys, see `sqld_list`
        condition = f"{self.column()} {self.chance.choice(('=', '<', '>', 'is'))} {self.chance.choice(LITERALS)}"
        conflict = self.chance.choice(CONFLICTS)
        returning = self.chance.choice(("", "", f" returning {first}, {second}"))
        shapes = (
            f"insert{conflict} into {table}({first}, {second}) values({one}, {two}){returning}",
            f"insert{conflict} into {table}({third}, {fourth}) values({one}, {two}), ({two}, {one})",
            f"insert into {table}({first}) values({one}) on conflict do nothing{returning}",
            f"insert into {table}(a, b) values({one}, {two}) on conflict(a) do update set b = excluded.b{returning}",
            f"insert into {table}({first}) select {second} from {other} order by 1 limit 2",
            f"insert into {table} default values{returning}",
            f"update{conflict} {table} set {first} = {self.expression()} where {condition}",
            f"update {table} set {first} = {one}, {second} = {two} where {condition}",
            f"update {table} set {first} = o.{second} from {other} o where o.a = {table}.a and o.a = 1",
            f"delete from {table} where {condition}",
        )
        return self.chance.choice(shapes)

    def create_table(self, name):
        columns = ["a integer primary key"] if self.chance.random() < 0.6 else ["a unique"]
        columns += [f"{each} {self.chance.choice(TYPES)}{self.constraint(each)}" for each in COLUMNS[1:]]
        return f"create table {self.chance.choice(('', 'if not exists '))}{name}({', '.join(columns)})"

    def constraint(self, column):
        choices = (
            "",
            "",
            "",
            " not null default 'd'",
            " unique",
            f" check({column} is not 'abc')",
            " default (1 + 1)",
            " collate nocase",
        )
        return self.chance.choice(choices)

    def schema(self):
        table, column = self.table(), self.column()
        index = f"i{self.chance.randint(1, 3)}"
        shapes = (
            f"drop table if exists {table}",
            self.create_table(table),
            self.create_table(table),
            f"create index if not exists {index} on {table}({column})",
            f"create index {index} on {table}({self.expression()})",
            f"drop index if exists {index}",
            f"alter table {table} rename column {column} to {self.column()}",
            f"alter table {table} add column {self.column()} default 5",
            f"create view if not exists vv as select a, b from {table}",
            "drop view if exists vv",
            f"create trigger if not exists tr after insert on {table} begin "
            f"update {self.chance.choice(TABLES)} set b = 1 where a = 2; end",
            "drop trigger if exists tr",
            "pragma user_version = 5",
        )
        return self.chance.choice(shapes)
