from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.records.schedules import NAMED, parse

MOMENT = datetime(2026, 2, 1, 10, 30, tzinfo=UTC)  # a Sunday


@pytest.mark.parametrize(
    ("text", "is_due"),
    [
        ("* * * * *", True),
        ("30 10 1 2 0", True),
        ("31 10 1 2 0", False),
        ("*/15 * * * *", True),
        ("*/7 * * * *", False),
        ("0-30/10 9-11 * * *", True),
        ("0,15,30 * * * 1,0", True),
        ("30 10 * * 1-6", False),
        ("01 10 * * *", False),
        ("@hourly", False),
        ("@weekly", False),
    ],
)
def test_a_minute_is_due(text, is_due):
    assert parse(text).is_due(MOMENT) is is_due


@pytest.mark.parametrize(
    "text",
    [
        *("", "@reboot", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 7"),
        *("5-1 * * * *", "*/0 * * * *", "*/61 * * * *", "5/2 * * * *", "1, * * * *", "a * * * *", " * * * * *"),
        *("*  * * * *", "* * * * MON", "1-2-3 * * * *", "-1 * * * *", "\u0661 * * * *"),
    ],
)
def test_what_is_no_schedule(text):
    assert parse(text) is None


@pytest.mark.parametrize("name", NAMED)
def test_names_are_schedules(name):
    assert parse(name) == parse(NAMED[name])


@given(st.text(alphabet="0123456789*/-, @d", max_size=30))
def test_any_text_is_a_schedule_or_none(text):
    found = parse(text)
    assert found is None or (found.minutes and found.hours and found.days and found.months and found.weekdays)
