"""Distances and formatted moments."""

import math

import pytest
from records_filter_samples import ROWS, SCHEMA, posts, users
from records_filter_world import NOW

from pando.records.filter import Compiler, Filter, FilterError, Question, RequestInfo, Trust

ALL = "p1 p2 p3 p4 p5"


def distance(lon_a, lat_a, lon_b, lat_b):
    """Give kilometres by the haversine formula, which is not how SQL has it."""
    lon_a, lat_a, lon_b, lat_b = map(math.radians, (lon_a, lat_a, lon_b, lat_b))
    inner = math.sin((lat_b - lat_a) / 2) ** 2
    inner += math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2 * 6371 * math.asin(math.sqrt(inner))


POINTS = [(10, 20, 10.5, 20), (-70, 40, 10, 20), (23.3, 42.7, 2.35, 48.85), (179, 0, -179, 0), (0, 90, 0, -90)]


@pytest.mark.parametrize("points", POINTS)
def test_distances(points):
    expected = distance(*points)
    call = f"geoDistance({', '.join(map(str, points))})"
    assert posts(f"{call} > {expected * 0.999:.6f} && {call} < {expected * 1.001:.6f}") == ALL


def test_a_point_is_at_no_distance_from_itself():
    for lon, lat in ((10.1, 20.2), (-179.99, 89.99), (0, 0), (33.33, -66.66)):
        assert posts(f"geoDistance({lon}, {lat}, {lon}, {lat}) < 0.001") == ALL


DISTANCES = [
    ("geoDistance(place.lon, place.lat, 10, 20) < 1", "p1"),
    ("geoDistance(place.lon, place.lat, 10, 20) < 60", "p1 p2"),
    ("geoDistance(10, 20, place.lon, place.lat) > 5000", "p4"),
    ("60 > geoDistance(place.lon, place.lat, 10, 20)", "p1 p2"),
    ("geoDistance(rank, rank, 1, 1) < 1", "p1"),
    ("geoDistance(author.level, 0, 1, 0) < 1", "p1 p5"),
    ("geoDistance(likers.level, 0, 1, 0) < 1", ""),
    ("geoDistance(likers.level, 0, 1, 0) ?< 1", "p1 p4"),
    ("geoDistance(@request.auth.level, 0, 1, 0) = null", ALL),
    ("geoDistance(title, 0, 1, 0) = null", ALL),
]


@pytest.mark.parametrize(("text", "expected"), DISTANCES)
def test_distances_of_fields(text, expected):
    assert posts(text) == expected


TIMES = [
    ("strftime('%Y') = '2026'", ALL),
    ("strftime('%Y-%m-%d %H', 'now') = '2026-01-31 12'", ALL),
    ("strftime('%Y-%m-%d', ' NOW ', '+1 day') = '2026-02-01'", ALL),
    ("strftime('%Y', '2024-05-06') = '2024'", ALL),
    ("strftime('%Y', @now) = '2026'", ALL),
    ("strftime('%s', 0) = '-210866760000'", ALL),
    ("strftime('%Y', title) = ''", "p1 p2 p3 p4 p5"),
    ("strftime('%Y', title) = null", "p1 p2 p3 p4 p5"),
    ("strftime('%J', rank) = '3'", "p3"),
    ("strftime('%J', author.level) = '2'", "p2"),
    ("strftime('%J', likers.level) ?= '1'", "p1 p4"),
    ("strftime('%J', likers.level) = '1'", ""),
    ("strftime('%J', likers.level) != '2'", "p2 p3 p4 p5"),
    ("strftime('', 'now') = ''", ALL),
]


@pytest.mark.parametrize(("text", "expected"), TIMES)
def test_formatted_moments(text, expected):
    assert posts(text) == expected


REFUSED = [
    *(
        "geoDistance(1, 2, 3) > 0",
        "geoDistance(1, 2, 3, 4, 5) > 0",
        "geoDistance() > 0",
        "geoDistance('1', 2, 3, 4) > 0",
    ),
    *("geoDistance(1, 2, 3, geoDistance(1, 2, 3, 4)) > 0", "geodistance(1, 2, 3, 4) > 0", "nothing(1) = 1"),
    *("strftime() = ''", "strftime(1) = ''", "strftime(title) = ''", "strftime('%Y', 'now', 1) = ''"),
    *("strftime('%Y', 'now', title) = ''", "strftime('%Y', strftime('%Y', 'now')) = ''", "geoDistance(x, 1, 1, 1) > 0"),
    "strftime('%Y', x) = ''",
]


@pytest.mark.parametrize("text", REFUSED)
def test_calls_that_are_refused(text):
    with pytest.raises(FilterError):
        posts(text)


def is_volatile(text):
    question = Question(
        collection=SCHEMA.find("posts"), request=RequestInfo(), now=NOW, filters=(Filter(text, Trust.RULE),)
    )
    return Compiler(SCHEMA).select(question).is_volatile


def test_what_depends_on_the_clock_is_said_to():
    assert is_volatile("title > @now")
    assert is_volatile("strftime('%Y') = title")
    assert is_volatile("strftime('%Y', 'now') = title")
    assert not is_volatile("strftime('%Y', title) = '2020' && title = 'now'")


def test_hidden_addresses_stay_hidden_in_functions():
    rows = {**ROWS, "users": [{**each, "email": "2020-01-01"} for each in ROWS["users"]]}
    assert users("strftime('%Y', email) = '2020'", Trust.CLIENT, rows=rows) == "ann cat"
    assert users("strftime('%Y', email) = '2020'", Trust.RULE, rows=rows) == "ann bob cat dan"
