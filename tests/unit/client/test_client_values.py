"""Values on the wire, words of statements, rows."""

import datetime
import math

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.client import (
    BINARY,
    DATETIME,
    NUMBER,
    STRING,
    Binary,
    DateFromTicks,
    TimeFromTicks,
    TimestampFromTicks,
    wire,
)
from pando.client.exceptions import DataError, Error, InterfaceError, ProgrammingError
from pando.client.texts import Kind, counts_rows, inserts, kind_of
from pando.client.values import decode_value, encode_value, make_statement

decode = msgspec.json.Decoder(wire.Value).decode


@given(
    st.none()
    | st.integers(-(2**63), 2**63 - 1)
    | st.text()
    | st.binary()
    | st.floats(allow_nan=False, allow_infinity=False)
)
def test_values_make_the_round_trip(value):
    found = decode_value(decode(msgspec.json.encode(encode_value(value))))
    assert type(found) is type(value) and repr(found) == repr(value)


def test_what_sqlite_has_not_becomes_what_it_has():
    assert encode_value(True) == encode_value(1)
    assert encode_value(math.nan) == encode_value(None)
    assert encode_value(datetime.datetime(2026, 1, 2, 3, 4, 5)).value == "2026-01-02 03:04:05"
    assert encode_value(datetime.date(2026, 1, 2)).value == "2026-01-02"
    assert encode_value(datetime.time(3, 4)).value == "03:04:00"
    assert math.isnan(decode_value(wire.Value("float")))


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (2**63, DataError),
        (-(2**70), DataError),
        (math.inf, DataError),
        (10**400, DataError),
        ({}, ProgrammingError),
        (1j, ProgrammingError),
    ],
)
def test_what_cannot_be_sent_is_refused(value, kind):
    with pytest.raises(kind):
        encode_value(value)


@pytest.mark.parametrize("parameters", ["text", b"bytes", 7, None, {1, 2}])
def test_parameters_are_sequences_or_mappings(parameters):
    with pytest.raises(ProgrammingError):
        make_statement("SELECT ?", parameters)


def test_only_named_parameters_of_the_statement_are_sent():
    found = make_statement("SELECT :a, '@no', @b -- :c\n, $d, :a", {"a": 1, "b": 2, "c": 3, "$d": 4})
    assert [(named.name, named.value.value) for named in found.named_args] == [(":a", "1"), ("@b", "2"), ("$d", "4")]
    with pytest.raises(ProgrammingError, match=":x"):
        make_statement("SELECT :x", {})


def test_the_objects_of_pep_249():
    assert STRING == "VARCHAR(10)" and NUMBER == "BIGINT" and BINARY == "BLOB" and DATETIME == "TIMESTAMP"
    assert STRING != "INTEGER" and STRING != NUMBER and STRING == STRING and STRING != None  # noqa: E711
    assert len({STRING, NUMBER, STRING}) == 2 and repr(STRING) == "STRING"
    assert Binary(b"a") == b"a"
    ticks = 1_700_000_000
    assert TimestampFromTicks(ticks).timestamp() == ticks
    assert DateFromTicks(ticks) == TimestampFromTicks(ticks).date()
    assert TimeFromTicks(ticks) == TimestampFromTicks(ticks).time()


@pytest.mark.parametrize(
    ("sql", "kind"),
    [
        ("select 1", Kind.READ),
        ("  -- hello\n/* x */ ; SELECT 1", Kind.READ),
        ("VALUES (1)", Kind.READ),
        ("EXPLAIN QUERY PLAN DELETE FROM t", Kind.READ),
        ("WITH a AS (SELECT 1) SELECT * FROM a", Kind.READ),
        ("WITH a AS (SELECT 1) INSERT INTO t SELECT * FROM a", Kind.WRITE),
        ("WITH a AS (SELECT 'insert') SELECT * FROM a", Kind.READ),
        ("PRAGMA user_version", Kind.READ),
        ("PRAGMA main.table_info('t')", Kind.READ),
        ("PRAGMA foreign_key_list(t)", Kind.READ),
        ("PRAGMA user_version = 7", Kind.ALONE),
        ("PRAGMA incremental_vacuum(7)", Kind.ALONE),
        ("VACUUM", Kind.ALONE),
        ("INSERT INTO t VALUES (1)", Kind.WRITE),
        ("CREATE TABLE t(a)", Kind.WRITE),
        ("", Kind.WRITE),
        ("'x", Kind.WRITE),
        ("BEGIN", Kind.BEGIN),
        ("begin immediate transaction", Kind.BEGIN),
        ("BEGIN READONLY", Kind.BEGIN_READ),
        ("COMMIT", Kind.END),
        ("end transaction", Kind.END),
        ("RELEASE s", Kind.END),
        ("ROLLBACK", Kind.ROLLBACK),
        ("ROLLBACK TO s", Kind.SAVEPOINT),
        ("ROLLBACK TRANSACTION TO s", Kind.SAVEPOINT),
        ("SAVEPOINT s", Kind.SAVEPOINT),
    ],
)
def test_kinds_of_statements(sql, kind):
    assert kind_of(sql) is kind


def test_what_counts_rows_and_what_inserts():
    assert counts_rows("delete from t") and not counts_rows("create table t(a)") and not counts_rows("select 1")
    assert (
        inserts("insert into t values (1)")
        and inserts("replace into t values (1)")
        and not inserts("update t set a = 1")
    )
    assert counts_rows("with x as (select 1) update t set a = 1")


@given(
    st.binary(max_size=80)
    | st.sampled_from([b"{}", b'{"results": [{}]}', b'{"results": [{"type": "ok", "response": {"type": "execute"}}]}'])
)
def test_any_answer_is_read_or_refused(body):
    wire.read_error(body)
    try:
        answer = wire.decode_answer(body, 1)
        wire.read_rows(answer.results[0])
        wire.read_batch(answer.results[0])
    except Error as error:
        assert isinstance(error, InterfaceError)


def test_what_is_too_large_is_not_sent():
    with pytest.raises(DataError, match="over the limit"):
        wire.encode_pipeline(None, [wire.sequence("x" * (33 << 20))])
