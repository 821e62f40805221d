"""Macros, from a moment that is passed in."""

from datetime import UTC, datetime, timedelta, timezone

import pytest
from records_filter_samples import posts
from records_filter_world import NOW

from pando.records.filter.macros import MACROS, macro_value, moment_text

VALUES = {  # at 2026-01-31 12:30:15.123, a Saturday
    "@now": "2026-01-31 12:30:15.123Z",
    "@yesterday": "2026-01-30 12:30:15.123Z",
    "@tomorrow": "2026-02-01 12:30:15.123Z",
    "@todayStart": "2026-01-31 00:00:00.000Z",
    "@todayEnd": "2026-01-31 23:59:59.999Z",
    "@monthStart": "2026-01-01 00:00:00.000Z",
    "@monthEnd": "2026-01-31 23:59:59.999Z",
    "@yearStart": "2026-01-01 00:00:00.000Z",
    "@yearEnd": "2026-12-31 23:59:59.999Z",
    "@second": 15,
    "@minute": 30,
    "@hour": 12,
    "@day": 31,
    "@month": 1,
    "@weekday": 6,
    "@year": 2026,
}


@pytest.mark.parametrize("name", sorted(MACROS))
def test_each_macro(name):
    assert macro_value(name, NOW) == VALUES[name]
    literal = repr(VALUES[name])
    assert posts(f"{name} = {literal}") == "p1 p2 p3 p4 p5"
    assert posts(f"{name} != {literal}") == ""


def test_months_end_where_they_end():
    for month, end in ((2, 28), (4, 30), (12, 31)):
        moment = datetime(2026, month, 3, tzinfo=UTC)
        assert macro_value("@monthEnd", moment) == f"2026-{month:02d}-{end} 23:59:59.999Z"
    assert macro_value("@monthEnd", datetime(2028, 2, 1, tzinfo=UTC)) == "2028-02-29 23:59:59.999Z"


def test_moments_of_other_zones_are_written_in_utc():
    moment = datetime(2026, 1, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))
    assert moment_text(moment) == "2025-12-31 23:30:00.000Z"
    assert macro_value("@year", moment) == 2025
    assert macro_value("@weekday", datetime(2026, 2, 1, tzinfo=UTC)) == 0


def test_early_years_have_four_digits():
    assert moment_text(datetime(33, 1, 1, tzinfo=UTC)) == "0033-01-01 00:00:00.000Z"
