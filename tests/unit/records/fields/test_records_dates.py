from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records.fields import dates


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("2024-02-29 01:02:03.456Z", "2024-02-29 01:02:03.456Z"),
        ("2024-02-29 01:02:03.456789Z", "2024-02-29 01:02:03.456Z"),
        ("2024-02-29 01:02:03.4Z", "2024-02-29 01:02:03.400Z"),
        ("2024-02-29T01:02:03Z", "2024-02-29 01:02:03.000Z"),
        ("2024-02-29T01:02:03.5+02:00", "2024-02-28 23:02:03.500Z"),
        ("2024-02-29T01:02:03-0130", "2024-02-29 02:32:03.000Z"),
        ("2024-02-29 01:02:03", "2024-02-29 01:02:03.000Z"),
        ("2024-02-29T01:02:03", "2024-02-29 01:02:03.000Z"),
        ("2024-02-29 01:02:03 +0100", "2024-02-29 00:02:03.000Z"),
        ("2024-02-29 01:02:03.999999999 +0100 CET", "2024-02-29 00:02:03.999Z"),
        ("2024-02-29 01:02:03 +0000 UTC", "2024-02-29 01:02:03.000Z"),
        ("2024-02-29", "2024-02-29 00:00:00.000Z"),
        ("0001-01-01 00:00:00.000Z", "0001-01-01 00:00:00.000Z"),
        ("Mon, 02 Jan 2006 15:04:05 GMT", "2006-01-02 15:04:05.000Z"),
        ("Mon, 02 Jan 2006 15:04:05 -0700", "2006-01-02 22:04:05.000Z"),
        ("Monday, 02-Jan-06 15:04:05 UTC", "2006-01-02 15:04:05.000Z"),
        ("02 Jan 06 15:04 UTC", "2006-01-02 15:04:00.000Z"),
        ("02 Jan 70 15:04 +0100", "1970-01-02 14:04:00.000Z"),
        ("02 Jan 2006", "2006-01-02 00:00:00.000Z"),
        ("Mon Jan  2 15:04:05 2006", "2006-01-02 15:04:05.000Z"),
        ("Mon Jan 2 15:04:05 UTC 2006", "2006-01-02 15:04:05.000Z"),
        ("Mon Jan 02 15:04:05 -0700 2006", "2006-01-02 22:04:05.000Z"),
        (0, "1970-01-01 00:00:00.000Z"),
        (1700000000, "2023-11-14 22:13:20.000Z"),
        (1700000000.0, "2023-11-14 22:13:20.000Z"),
        (-1, "1969-12-31 23:59:59.000Z"),
        (datetime(2024, 1, 2, 3, 4, 5, 678999, tzinfo=timezone(timedelta(hours=1))), "2024-01-02 02:04:05.678Z"),
        (datetime(2024, 1, 2), "2024-01-02 00:00:00.000Z"),
        ("", ""),
        ("soon", ""),
        ("2024-02-30", ""),
        ("2023-02-29 00:00:00.000Z", ""),
        ("2024-13-01", ""),
        ("2024-01-01 24:00:00", ""),
        ("2024-01-01 10:60:00.000Z", ""),
        ("2024-1-1", ""),
        (" 2024-01-01", ""),
        ("2024-01-01\n", ""),
        ("\u0662024-01-01", ""),
        ("9999-12-31T23:59:59-01:00", ""),
        ("0001-01-01T00:00:00+01:00", ""),
        ("2024-01-01T00:00:00+99:99", ""),
        ("2" * 100, ""),
        (1.5, ""),
        (10**15, ""),
        (-(10**15), ""),
        (True, ""),
        (None, ""),
        ([], ""),
        (float("nan"), ""),
    ],
)
def test_a_moment_is_read(raw, expected):
    assert dates.parse(raw) == expected


@settings(deadline=None)
@given(moment=st.datetimes(min_value=datetime(1, 1, 2), max_value=datetime(9999, 12, 30), timezones=st.just(UTC)))
def test_a_moment_is_read_as_it_is_written(moment):
    text = dates.format_moment(moment)
    assert len(text) == 24
    assert dates.parse(text) == text
    assert dates.parse(moment.isoformat()) == text


@settings(deadline=None)
@given(moments=st.lists(st.integers(-62135596800000, 253402300799999), min_size=2, max_size=2))
def test_moments_sort_as_texts(moments):
    first, second = sorted(moments)
    assert dates.from_unix_ms(first) <= dates.from_unix_ms(second)


@settings(deadline=None)
@given(raw=st.one_of(st.text(max_size=30), st.text("0123456789-:. TZ+JanMo,", max_size=30), st.integers(), st.floats()))
def test_anything_is_a_moment_or_none(raw):
    found = dates.parse(raw)
    assert found == "" or dates.parse(found) == found
