import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records import model
from pando.records.fields import jsontext
from pando.records.problems import ApiError
from pando.records.projection import parse_fields, plain_text
from pando.records.record import GUEST, from_row, record_json

RECORD = {
    "id": "a",
    "title": "One <b>two</b> three",
    "tags": ["x", "y"],
    "data": {"deep": [{"x": 1, "y": 2}, {"x": 3}], "z": None},
    "expand": {"author": {"id": "u", "name": "N"}, "many": [{"id": "1", "n": 1}, {"id": "2", "n": 2}]},
}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ("id", {"id": "a"}),
        (" id , tags ,", {"id": "a", "tags": ["x", "y"]}),
        ("*", RECORD),
        ("nothing", {}),
        ("data.deep.x", {"data": {"deep": [{"x": 1}, {"x": 3}]}}),
        ("data.*", {"data": RECORD["data"]}),
        ("data.deep.y,data.z", {"data": {"deep": [{"y": 2}, {}], "z": None}}),
        ("data,data.z", {"data": RECORD["data"]}),
        ("expand.many.id", {"expand": {"many": [{"id": "1"}, {"id": "2"}]}}),
        ("expand.*.id", {"expand": {"author": {"id": "u"}, "many": [{"id": "1"}, {"id": "2"}]}}),
        ("id,expand.author.name", {"id": "a", "expand": {"author": {"name": "N"}}}),
        ("*,expand.author.name", {**RECORD, "expand": {"author": {"name": "N"}}}),
        ("title:excerpt(5)", {"title": "One t"}),
        ("title:excerpt(4, true)", {"title": "One..."}),
        ("title:excerpt(100,true)", {"title": "One two three"}),
        ("*,title:excerpt(3)", {**RECORD, "title": "One"}),
        ("tags:excerpt(3)", {"tags": ["x", "y"]}),
        ("title.more", {"title": RECORD["title"]}),
    ],
)
def test_a_projection_shows_what_it_names(fields, expected):
    assert parse_fields(fields).apply_to_body(RECORD) == expected
    assert jsontext.decode(parse_fields(fields).apply_to_text(msgspec.json.encode(RECORD))) == expected


def test_of_a_list_of_records_the_items_are_projected():
    page = {"items": [RECORD, {"id": "b"}], "page": 1, "perPage": 30, "totalItems": 2, "totalPages": 1}
    assert parse_fields("id").apply_to_body(page) == {**page, "items": [{"id": "a"}, {"id": "b"}]}
    assert parse_fields("id").apply_to_body([RECORD]) == [{"id": "a"}]


def test_records_can_be_projected_before_they_are_text():
    collection = model.Collection(
        id="c",
        name="c",
        fields=(model.GeoPointField(name="at"), model.JsonField(name="data"), model.NumberField(name="n")),
    )
    row = ('{"lon":1e-6,"lat":2}', '{"a":1e21,"b":2}', 1e21)
    shown = record_json(from_row(collection, ("at", "data", "n"), row), GUEST)
    assert jsontext.encode(parse_fields("at.lon,data.a,n").apply(shown)) == (
        b'{"at":{"lon":0.000001},"data":{"a":1e+21},"n":1e+21}'
    )


@pytest.mark.parametrize("fields", ["", "  "])
def test_nothing_asked_is_no_projection(fields):
    assert parse_fields(fields) is None


@pytest.mark.parametrize(
    "fields",
    [
        *("title:excerpt", "title:excerpt()", "title:excerpt(x)", "title:excerpt(0)", "title:excerpt(-1)"),
        *("title:other(1)", "title:excerpt(1", "a b", "a:excerpt(1)b", ":excerpt(1)", "a" * 16385, ".".join("a" * 101)),
    ],
)
def test_what_cannot_be_read_is_refused(fields):
    with pytest.raises(ApiError) as caught:
        parse_fields(fields)
    assert caught.value.status == 400


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-100, 100), st.text("ab<>&", max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from("abc"), inner, max_size=3)),
    max_leaves=12,
)


@settings(deadline=None)
@given(value=json_values, fields=st.text("abc.,*:excerpt(1)", max_size=12))
def test_a_projection_shows_a_part_or_is_refused(value, fields):
    try:
        projection = parse_fields(fields)
    except ApiError:
        return
    shown = projection.apply(value) if projection else value
    assert type(shown) is type(value)
    if isinstance(value, dict):
        assert set(shown) <= set(value)


@settings(deadline=None)
@given(value=json_values)
def test_everything_is_everything(value):
    assert parse_fields("*").apply(value) == value


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a  b\n c", "a b c"),
        ("<p>one</p><p>two</p>", "one two"),
        ("a<b>b</b>c", "abc"),
        ("a<br>b", "a b"),
        ("a<script>x < y; <b></script>b", "ab"),
        ("<style>p{}</style>x", "x"),
        ("a<!-- <b>c</b> -->d", "ad"),
        ("a &amp; b &lt;c&gt;", "a & b <c>"),
        ("1 < 2 and 3 > 2", "1 < 2 and 3 > 2"),
        ("<a href='x'>link</a>, <unclosed", "link,"),
        ("<script>never closed", ""),
        ("", ""),
    ],
)
def test_text_is_what_is_between_tags(source, expected):
    assert plain_text(source) == expected
