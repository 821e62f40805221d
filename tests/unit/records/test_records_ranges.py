import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.records.files.ranges import (
    HEADER_CHARS_MAX,
    RANGES_MAX,
    Conditions,
    Selection,
    Span,
    Version,
    format_date,
    multipart,
    parse_date,
    select,
)

MODIFIED = 1_772_600_767
DATE = "Wed, 04 Mar 2026 05:06:07 GMT"
BEFORE = "Wed, 04 Mar 2026 05:06:06 GMT"
AFTER = "Wed, 04 Mar 2026 05:06:08 GMT"
NOW = Version(100, '"abc"', MODIFIED)


def spans(*pairs):
    return Selection(206, tuple(Span(*pair) for pair in pairs))


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", spans((0, 1))),
        ("bytes=0-99", spans((0, 100))),
        ("bytes=0-", spans((0, 100))),
        ("bytes=10-19", spans((10, 20))),
        ("bytes=90-1000", spans((90, 100))),
        ("bytes=99-", spans((99, 100))),
        ("bytes=-5", spans((95, 100))),
        ("bytes=-500", spans((0, 100))),
        ("Bytes = 1 - 2 ", spans((1, 3))),
        ("bytes=0-1,5-6", spans((0, 2), (5, 7))),
        ("bytes=5-6, 0-1 ,", spans((5, 7), (0, 2))),
        ("bytes=0-1,200-300", spans((0, 2))),
        ("bytes=0-0,-1", spans((0, 1), (99, 100))),
        ("bytes=100-", Selection(416)),
        ("bytes=200-300,400-", Selection(416)),
        ("bytes=-0", Selection(416)),
        ("bytes=2-1", Selection(416)),
        ("bytes=a-b", Selection(416)),
        ("bytes=-", Selection(416)),
        ("bytes=1", Selection(416)),
        ("bytes=--1", Selection(416)),
        ("bytes=0-1,x", Selection(416)),
        ("bytes=1-2-3", Selection(416)),
        ("bytes=" + "9" * 30 + "-", Selection(416)),
        ("bytes=", Selection(200)),
        ("bytes=,,", Selection(200)),
        ("items=0-1", Selection(200)),
        ("0-1", Selection(200)),
        ("bytes=0-99,0-0", Selection(200)),
        ("bytes=0-60,0-60", Selection(200)),
        ("bytes=" + ",".join(["0-0"] * RANGES_MAX), spans(*[(0, 1)] * RANGES_MAX)),
        ("bytes=" + ",".join(["0-0"] * (RANGES_MAX + 1)), Selection(200)),
    ],
)
def test_ranges(header, expected):
    assert select(Conditions(range=header), NOW) == expected


@pytest.mark.parametrize("header", ["bytes=0-", "bytes=0-5", "bytes=-3", "bytes=10-"])
def test_an_empty_file_is_sent_whole(header):
    assert select(Conditions(range=header), Version(0, '"e"', MODIFIED)).status == 200


@pytest.mark.parametrize(
    ("given", "status"),
    [
        ({}, 200),
        ({"if_none_match": '"abc"'}, 304),
        ({"if_none_match": 'W/"abc"'}, 304),
        ({"if_none_match": '"x", "abc"'}, 304),
        ({"if_none_match": '"x" ,, "abc"'}, 304),
        ({"if_none_match": '"x,y", "abc"'}, 304),
        ({"if_none_match": "*"}, 304),
        ({"if_none_match": '"x"'}, 200),
        ({"if_none_match": "abc"}, 200),
        ({"if_none_match": '"x" "abc"'}, 200),
        ({"if_none_match": '"abc"', "method": "PUT"}, 412),
        ({"if_none_match": '"x"', "if_modified_since": AFTER}, 200),
        ({"if_modified_since": DATE}, 304),
        ({"if_modified_since": AFTER}, 304),
        ({"if_modified_since": BEFORE}, 200),
        ({"if_modified_since": DATE, "method": "PUT"}, 200),
        ({"if_modified_since": "yesterday"}, 200),
        ({"if_match": '"abc"'}, 200),
        ({"if_match": "*"}, 200),
        ({"if_match": '"x", "abc"'}, 200),
        ({"if_match": 'W/"abc"'}, 412),
        ({"if_match": '"x"'}, 412),
        ({"if_match": "abc"}, 412),
        ({"if_match": '"abc"', "if_unmodified_since": BEFORE}, 200),
        ({"if_unmodified_since": BEFORE}, 412),
        ({"if_unmodified_since": DATE}, 200),
        ({"if_unmodified_since": "never"}, 200),
        ({"if_match": '"abc"', "if_none_match": '"abc"'}, 304),
        ({"if_none_match": '"abc"', "range": "bytes=0-1"}, 304),
        ({"range": "bytes=0-1"}, 206),
        ({"range": "bytes=0-1", "method": "HEAD"}, 206),
        ({"range": "bytes=0-1", "method": "POST"}, 200),
        ({"range": "bytes=0-1", "if_range": '"abc"'}, 206),
        ({"range": "bytes=0-1", "if_range": '"x"'}, 200),
        ({"range": "bytes=0-1", "if_range": 'W/"abc"'}, 200),
        ({"range": "bytes=0-1", "if_range": DATE}, 206),
        ({"range": "bytes=0-1", "if_range": BEFORE}, 200),
        ({"range": "bytes=0-1", "if_range": AFTER}, 200),
        ({"range": "bytes=500-", "if_range": '"x"'}, 200),
    ],
)
def test_conditions(given, status):
    assert select(Conditions(**given), NOW).status == status


def test_conditions_come_from_headers():
    found = Conditions.of_headers("HEAD", {"range": " bytes=0-1 ", "if-range": '"a"', "if-match": "*", "x": "y"})
    assert found == Conditions(method="HEAD", range="bytes=0-1", if_range='"a"', if_match="*")
    assert Conditions.of_headers("GET", {"range": "bytes=0-1," * HEADER_CHARS_MAX}) == Conditions()


@given(
    st.fixed_dictionaries(
        {name: st.text(max_size=40) | st.from_regex(r"bytes=[0-9,\- ]{0,12}") for name in ("range", "if_match")}
        | {name: st.text(max_size=40) for name in ("if_none_match", "if_modified_since", "if_unmodified_since")}
    ),
    st.integers(0, 200),
)
def test_every_selection_lies_within_the_file(headers, size):
    found = select(Conditions(**headers), Version(size, '"abc"', MODIFIED))
    assert found.status in (200, 206, 304, 412, 416)
    assert bool(found.spans) == (found.status == 206)
    assert all(0 <= span.start < span.end <= size for span in found.spans)
    assert sum(span.length for span in found.spans) <= size


@given(st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)).map(sorted), min_size=1, max_size=4))
def test_ranges_give_what_they_name(pairs):
    header = "bytes=" + ",".join(f"{start}-{last}" for start, last in pairs)
    total = sum(last - start + 1 for start, last in pairs)
    expected = spans(*((start, last + 1) for start, last in pairs)) if total <= 100 else Selection(200)
    assert select(Conditions(range=header), NOW) == expected


def test_dates():
    assert format_date(MODIFIED) == DATE
    assert parse_date(DATE) == MODIFIED
    assert parse_date("Wednesday, 04-Mar-26 05:06:07 GMT") == MODIFIED
    assert parse_date("Wed Mar  4 05:06:07 2026") == MODIFIED
    assert [parse_date(text) for text in ("", "x", "2026", "Wed, 99 Mar 2026 05:06:07 GMT")] == [None] * 4


@given(st.text(max_size=60))
def test_reading_a_date_never_raises(text):
    assert parse_date(text) is None or isinstance(parse_date(text), int)


def test_a_body_of_several_ranges():
    content = bytes(range(100))
    made = multipart([Span(0, 2), Span(97, 100)], size=100, content_type="image/png", boundary="XX")
    body = b"".join(part.head + content[part.span.start : part.span.end] for part in made.parts) + made.tail
    assert made.content_type == "multipart/byteranges; boundary=XX"
    assert body == (
        b"--XX\r\nContent-Range: bytes 0-1/100\r\nContent-Type: image/png\r\n\r\n\x00\x01"
        b"\r\n--XX\r\nContent-Range: bytes 97-99/100\r\nContent-Type: image/png\r\n\r\nabc"
        b"\r\n--XX--\r\n"
    )
    assert made.length == len(body)
