from __future__ import annotations

import apsw
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.store.series import offer_series


@pytest.fixture(scope="module")
def connection() -> apsw.Connection:
    connection = apsw.Connection(":memory:")
    offer_series(connection)
    connection.execute("create table t(n); insert into t values(1),(3)")
    return connection


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("select value from generate_series(1, 3)", [1, 2, 3]),
        ("select value from generate_series(1, 10, 4)", [1, 5, 9]),
        ("select value from generate_series(3, 1, -1)", [3, 2, 1]),
        ("select value from generate_series(3, 1)", []),
        ("select value from generate_series(1, 2, 0)", [1, 2]),
        ("select value from generate_series(7) limit 3", [7, 8, 9]),
        ("select value from generate_series(1, null)", []),
        ("select value from generate_series('2', 3.9)", [2, 3]),
        ("select value from generate_series(1, 3) order by value desc", [3, 2, 1]),
        ("select value from generate_series(3, 1, -1) order by value", [1, 2, 3]),
        ("select value from generate_series where start=1 and stop=2", [1, 2]),
        ("select value from generate_series(1) where value < 4", [1, 2, 3]),
        ("select value from generate_series(1) where value = 2 and value > 0 and value <= 9", [2]),
        ("select value from generate_series(1, 9) where value > 6.5", [7, 8, 9]),
        ("select value from generate_series(1, 3) where value > 'x'", []),
        ("select value from t, generate_series(1, t.n)", [1, 1, 2, 3]),
        ("select g.value from generate_series(1, t.n) g join t on t.n = 3", [1, 2, 3]),
        ("select start + stop + step from generate_series(1, 1)", [3]),
        ("select value from generate_series(9223372036854775806, 9223372036854775807)", [2**63 - 2, 2**63 - 1]),
        ("select rowid from generate_series(5, 6)", [5, 6]),
    ],
)
def test_series(connection: apsw.Connection, sql: str, expected: list[int]) -> None:
    assert [row[0] for row in connection.execute(sql)] == expected


def test_without_a_start_it_says_so(connection: apsw.Connection) -> None:
    with pytest.raises(apsw.SQLError, match="first argument"):
        connection.execute("select * from generate_series").fetchall()


def test_nobody_can_keep_a_table_of_it(connection: apsw.Connection) -> None:
    with pytest.raises(apsw.SQLError):
        connection.execute("create virtual table s using generate_series(1, 2)")
    with pytest.raises(apsw.SQLError):
        connection.execute("insert into generate_series values(1)")


_small = st.integers(-20, 20)
_comparisons = st.sampled_from(["<", "<=", "=", ">=", ">"])


@given(_small, _small, st.integers(-3, 3), _comparisons, st.one_of(_small, st.floats(-20, 20)), st.booleans())
def test_comparisons_leave_out_only_what_they_exclude(
    connection: apsw.Connection, start: int, stop: int, step: int, sign: str, bound: float, is_descending: bool
) -> None:
    order = "desc" if is_descending else "asc"
    text = f"select value from generate_series(?, ?, ?) where value {sign} ? order by value {order}"
    compare = {"<": "__lt__", "<=": "__le__", "=": "__eq__", ">=": "__ge__", ">": "__gt__"}[sign]
    step = step or 1
    every = range(start, stop + (1 if step > 0 else -1), step)
    expected = sorted((n for n in every if getattr(float(n), compare)(float(bound))), reverse=is_descending)
    assert [row[0] for row in connection.execute(text, (start, stop, step, bound))] == expected
