"""`generate_series(start, stop, step)`, which SQLite's own shell and libSQL's clients have and the library has not.

A virtual table without storage, the same on the writer and on readers. Not here: other functions (SQLite has them).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

import apsw

_SCHEMA: Final = "CREATE TABLE generate_series(value, start HIDDEN, stop HIDDEN, step HIDDEN)"
_LAST: Final = 0xFFFF_FFFF
"""SQLite's own end of a series that was given none."""
_INTEGER_MAX: Final = (1 << 63) - 1
_INTEGER_MIN: Final = -(1 << 63)

_ARGUMENTS: Final = {1: "start", 2: "stop", 3: "step"}
_BOUNDS: Final = {
    apsw.SQLITE_INDEX_CONSTRAINT_EQ: "=",
    apsw.SQLITE_INDEX_CONSTRAINT_GE: ">=",
    apsw.SQLITE_INDEX_CONSTRAINT_GT: ">",
    apsw.SQLITE_INDEX_CONSTRAINT_LE: "<=",
    apsw.SQLITE_INDEX_CONSTRAINT_LT: "<",
}
"""Comparisons of `value` that shorten the series; SQLite checks them again."""


def offer_series(connection: apsw.Connection) -> None:
    """Let statements of a connection use the function; nobody can make a table of it."""
    module: Any = _Module()
    connection.create_module(
        "generate_series", module, use_bestindex_object=True, eponymous=True, eponymous_only=True, read_only=True
    )


class _Module:
    """What apsw asks for the table."""

    def Connect(self, *_names: object) -> tuple[str, _Table]:  # noqa: N802 - apsw's names
        """Give schema and table."""
        return _SCHEMA, _Table()


class _Table:
    """The series, before it has arguments."""

    def BestIndexObject(self, plan: Any) -> bool:  # noqa: N802, ANN401 - apsw's names
        """Choose the constraints that `Filter` wants; their names go along as text."""
        wanted: list[str] = []
        for index in range(plan.nConstraint):
            column, operator = plan.get_aConstraint_iColumn(index), plan.get_aConstraint_op(index)
            is_argument = column in _ARGUMENTS and operator == apsw.SQLITE_INDEX_CONSTRAINT_EQ
            if not is_argument and (column != 0 or operator not in _BOUNDS):
                continue
            if not plan.get_aConstraint_usable(index):
                if is_argument:
                    return False  # it depends on a table that this plan reads later
                continue
            wanted.append(_ARGUMENTS[column] if is_argument else _BOUNDS[operator])
            plan.set_aConstraintUsage_argvIndex(index, len(wanted))
            plan.set_aConstraintUsage_omit(index, is_argument)
        is_short = "stop" in wanted or "=" in wanted
        plan.estimatedCost = 2.0 if is_short else float(_LAST)
        plan.estimatedRows = 1000 if is_short else _LAST
        if plan.nOrderBy == 1 and plan.get_aOrderBy_iColumn(0) == 0:
            wanted.append("desc" if plan.get_aOrderBy_desc(0) else "asc")
            plan.orderByConsumed = True
        plan.idxStr = " ".join(wanted)
        return True

    def Open(self) -> _Cursor:  # noqa: N802
        """Give a cursor."""
        return _Cursor()

    def Disconnect(self) -> None:  # noqa: N802
        """Keep nothing."""

    Destroy = Disconnect


class _Cursor:
    """One run over a series."""

    def __init__(self) -> None:
        self._values: Iterator[int] = iter(())
        self._value: int | None = None
        self._arguments: tuple[int, int, int] = (0, 0, 1)

    def Filter(self, _number: int, text: str, values: tuple[object, ...]) -> None:  # noqa: N802
        """Begin. Raises apsw.SQLError without a start."""
        names = text.split()
        given = dict(zip(names, values, strict=False))
        if "start" not in given:
            raise apsw.SQLError('first argument to "generate_series()" missing or unusable')
        if any(given.get(name, 0) is None for name in _ARGUMENTS.values()):
            self._values, self._value = iter(()), None
            return
        start, stop, step = (_integer(given.get(name, usual)) for name, usual in _USUAL)
        self._arguments = start, stop, step or 1
        found = _series(*self._arguments)
        for name, value in zip(names, values, strict=False):
            found = _shortened(found, name, value)
        is_backwards = (names[-1] == "desc" and found.step > 0) or (names[-1] == "asc" and found.step < 0)
        self._values = reversed(found) if is_backwards else iter(found)
        self._value = next(self._values, None)

    def Eof(self) -> bool:  # noqa: N802
        """Tell whether it is over."""
        return self._value is None

    def Next(self) -> None:  # noqa: N802
        """Go on."""
        self._value = next(self._values, None)

    def Column(self, number: int) -> int | None:  # noqa: N802
        """Give the number, or an argument."""
        return self._value if number <= 0 else self._arguments[number - 1]

    def Rowid(self) -> int | None:  # noqa: N802
        """Give the number itself, which is there once."""
        return self._value

    def Close(self) -> None:  # noqa: N802
        """Keep nothing."""


_USUAL: Final = (("start", 0), ("stop", _LAST), ("step", 1))


def _integer(value: object) -> int:
    """Read a number as SQLite does: reals are cut, texts are read as far as they are one."""
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return int(max(_INTEGER_MIN, min(_INTEGER_MAX, value))) if math.isfinite(value) else 0
    try:
        return _integer(int(str(value)))
    except ValueError:
        return 0


def _series(start: int, stop: int, step: int) -> range:
    return range(start, stop + (1 if step > 0 else -1), step)


def _shortened(series: range, comparison: str, value: object) -> range:
    """Leave out numbers that a comparison excludes anyway, where that is plain."""
    if not isinstance(value, int | float) or not math.isfinite(value) or not series:
        return series
    step = series.step
    if comparison in {">", ">=", "="}:
        series = _from(series, math.floor(value)) if step > 0 else _to(series, math.floor(value))
    if comparison in {"<", "<=", "="} and series:
        series = _to(series, math.ceil(value)) if step > 0 else _from(series, math.ceil(value))
    return series


def _from(series: range, bound: int) -> range:
    """Leave out what comes before a bound."""
    skipped = (bound - series.start) // series.step
    return range(series.start + skipped * series.step, series.stop, series.step) if skipped > 0 else series


def _to(series: range, bound: int) -> range:
    """Leave out what comes after a bound."""
    end = bound + (1 if series.step > 0 else -1)
    stop = min(series.stop, end) if series.step > 0 else max(series.stop, end)
    return range(series.start, stop, series.step)
