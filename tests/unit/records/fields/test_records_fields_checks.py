"""Each type of field: what comes of what a caller sends, and what is wrong with it. Codes are PocketBase's."""

import pytest

from pando.errors import InvariantError
from pando.records.fields import GeoPoint, NewFile, PlainPassword, ops
from pando.records.model import (
    AutodateField,
    BoolField,
    DateField,
    EditorField,
    EmailField,
    FileField,
    GeoPointField,
    JsonField,
    NumberField,
    PasswordField,
    RelationField,
    SelectField,
    TextField,
    UrlField,
)
from pando.records.problems import REQUIRED, ApiError


def code(field, value):
    """The code without its prefix, "" if nothing is wrong."""
    found = ops(field).check(value)
    return found.code.removeprefix("validation_") if found else ""


SINGLE = SelectField(values=("a", "b"), max_select=1)
SEVERAL = SelectField(values=("a", "b", "c"), max_select=2)
SOME_FILE = NewFile("a.png", 10, "image/png")


@pytest.mark.parametrize(
    ("field", "raw", "expected"),
    [
        (TextField(), "a", "a"),
        (TextField(), None, ""),
        (TextField(), 5, "5"),
        (TextField(), 5.0, "5"),
        (TextField(), 0.25, "0.25"),
        (TextField(), 1e21, "1000000000000000000000"),
        (TextField(), 1e-7, "0.0000001"),
        (TextField(), True, "true"),
        (TextField(), {"a": 1}, ""),
        (TextField(), ["a"], ""),
        (EditorField(), "<p>", "<p>"),
        (EmailField(), "A@Example.com", "A@Example.com"),
        (UrlField(), 7, "7"),
        (NumberField(), 5, 5),
        (NumberField(), 5.0, 5),
        (NumberField(), "5.50", 5.5),
        (NumberField(), "1e3", 1000),
        (NumberField(), "5x", 0),
        (NumberField(), " 5", 0),
        (NumberField(), "1_000", 1000),
        (NumberField(), "-1_0.2_5e0_1", -102.5),
        (NumberField(), "1__000", 0),
        (NumberField(), "_1", 0),
        (NumberField(), "1_", 0),
        (NumberField(), "1e999", 0),
        (NumberField(), True, 1),
        (NumberField(), None, 0),
        (NumberField(), [5], 0),
        (BoolField(), True, True),
        (BoolField(), "true", True),
        (BoolField(), "T", True),
        (BoolField(), "1", True),
        (BoolField(), 2, True),
        (BoolField(), "yes", False),
        (BoolField(), "tRuE", False),
        (BoolField(), 0, False),
        (BoolField(), None, False),
        (BoolField(), [1], False),
        (SINGLE, "a", "a"),
        (SINGLE, ["a", "b"], "b"),
        (SINGLE, '["a","b"]', "b"),
        (SINGLE, [], ""),
        (SINGLE, None, ""),
        (SEVERAL, "a", ["a"]),
        (SEVERAL, ["b", "a", "b", ""], ["b", "a"]),
        (SEVERAL, '["a","b"]', ["a", "b"]),
        (SEVERAL, "[a", ["[a"]),
        (SEVERAL, "[1,2]", ["[1,2]"]),
        (SEVERAL, [1, True, None], ["1", "true"]),
        (SEVERAL, [1, True, {}], []),
        (SEVERAL, ["a", ["b"]], []),
        (SEVERAL, "", []),
        (RelationField(max_select=2), ["x", "y", "x"], ["x", "y"]),
        (RelationField(), "x", "x"),
        (FileField(max_select=2), [SOME_FILE, "b.png", SOME_FILE, ""], [SOME_FILE, "b.png"]),
        (FileField(max_select=1), [SOME_FILE, "b.png"], "b.png"),
        (FileField(max_select=2), SOME_FILE, [SOME_FILE]),
        (JsonField(), "", ""),
        (JsonField(), "null", None),
        (JsonField(), "true", True),
        (JsonField(), "-1.0", -1),
        (JsonField(), '"a"', "a"),
        (JsonField(), "[1, 2]", [1, 2]),
        (JsonField(), '{"b":1,"a":{}}', {"a": {}, "b": 1}),
        (JsonField(), "{broken", "{broken"),
        (JsonField(), "12abc", "12abc"),
        (JsonField(), "text", "text"),
        (JsonField(), {"x": [1.0, None]}, {"x": [1, None]}),
        (JsonField(), None, None),
        (PasswordField(), "secret", PlainPassword("secret")),
        (PasswordField(), 123, PlainPassword("123")),
        (PasswordField(), "", ""),
        (PasswordField(), None, ""),
        (GeoPointField(), {"lon": 1, "lat": 2.5}, GeoPoint(1, 2.5)),
        (GeoPointField(), '{"lon":1.0,"lat":2}', GeoPoint(1, 2)),
        (GeoPointField(), {"lat": 2, "other": "x"}, GeoPoint(0, 2)),
        (GeoPointField(), GeoPoint(3, 4), GeoPoint(3, 4)),
        (GeoPointField(), None, GeoPoint(0, 0)),
        (GeoPointField(), "", GeoPoint(0, 0)),
        (GeoPointField(), "null", GeoPoint(0, 0)),
        (GeoPointField(), {}, GeoPoint(0, 0)),
    ],
)
def test_what_a_caller_sends_becomes_a_value(field, raw, expected):
    found = ops(field).normalise(raw)
    assert found == expected and type(found) is type(expected)


@pytest.mark.parametrize("raw", ["text", "{", "[1,2]", [1, 2], 5, True, {"lon": "1"}, {"lat": True}, {"lon": [1]}])
def test_what_is_no_point_is_nowhere(raw):
    assert ops(GeoPointField(name="at")).normalise(raw) == GeoPoint()


def test_what_json_cannot_say_is_refused():
    deep = []
    for _ in range(300):
        deep = [deep]
    with pytest.raises(ApiError):
        ops(JsonField(name="data")).normalise(deep)


REQUIRED_OR_NOT = [
    (TextField, {}, "", "a"),
    (EditorField, {}, "", "a"),
    (NumberField, {}, 0, 1),
    (BoolField, {}, False, True),
    (EmailField, {}, "", "a@example.com"),
    (UrlField, {}, "", "https://example.com"),
    (DateField, {}, "", "2024-01-01 00:00:00.000Z"),
    (SelectField, {"values": ("a",), "max_select": 1}, "", "a"),
    (SelectField, {"values": ("a",), "max_select": 2}, [], ["a"]),
    (RelationField, {"max_select": 2, "min_select": 1}, [], ["a"]),
    (FileField, {"max_select": 1}, "", SOME_FILE),
    (JsonField, {}, None, 0),
    (JsonField, {}, "", False),
    (JsonField, {}, [], [0]),
    (JsonField, {}, {}, {"a": 1}),
    (PasswordField, {}, "", PlainPassword("x")),
    (PasswordField, {}, "", "$2a$10$hash"),
    (GeoPointField, {}, GeoPoint(0, 0), GeoPoint(0, 1)),
]


@pytest.mark.parametrize(("kind", "options", "empty", "some"), REQUIRED_OR_NOT)
def test_required_means_not_zero(kind, options, empty, some):
    needed, free = kind(required=True, **options), kind(**options)
    assert ops(needed).check(empty) == REQUIRED
    assert ops(free).check(empty) is None
    assert ops(needed).check(some) is None and ops(free).check(some) is None


ID = TextField(name="id", primary_key=True, pattern="", max=100)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        (TextField(min=3), "ab", "min_text_constraint"),
        (TextField(min=3), "äöü", ""),
        (TextField(min=3), "", ""),
        (TextField(max=3), "äöüß", "max_text_constraint"),
        (TextField(), "x" * 5000, ""),
        (TextField(), "x" * 5001, "max_text_constraint"),
        (TextField(max=6000), "x" * 5001, ""),
        (TextField(pattern="^[a-z]+$"), "abc", ""),
        (TextField(pattern="^[a-z]+$"), "abc\n", "invalid_format"),
        (TextField(pattern="b"), "abc", ""),
        (TextField(pattern="("), "abc", "invalid_format"),
        (TextField(min=5, pattern="^x$"), "ab", "min_text_constraint"),
        (ID, "", "required"),
        (ID, "Abc-1_é", ""),
        *((ID, f"a{char}b", "forbidden_pk_character") for char in "./\\|\"'`<>:?*%$ \t\n\x00\x7f\u200b\u00a0"),
        *((ID, name, "reserved_pk") for name in ("con", "NUL", "com1", "lpt9", "aux", "prn")),
        (ID, "console", ""),
        (TextField(), "con/.", ""),
        (EditorField(max_size=3), "abc", ""),
        (EditorField(max_size=3), "aé!", "content_size_limit"),
        (EditorField(), "x" * (5 * 1024 * 1024), ""),
        (EditorField(), "x" * (5 * 1024 * 1024 + 1), "content_size_limit"),
        (NumberField(), float("nan"), "not_a_number"),
        (NumberField(), float("inf"), "not_a_number"),
        (NumberField(only_int=True), 1.5, "only_int_constraint"),
        (NumberField(only_int=True), 2, ""),
        (NumberField(only_int=True), 1e18, ""),
        (NumberField(only_int=True), 1e30, "only_int_constraint"),
        (NumberField(min=5), 4.9, "min_number_constraint"),
        (NumberField(min=5), 5, ""),
        (NumberField(min=5), 0, ""),
        (NumberField(max=-5), 0, ""),
        (NumberField(max=5), 5.1, "max_number_constraint"),
        (NumberField(max=0), 1, "max_number_constraint"),
        (EmailField(), "no", "is_email"),
        (EmailField(only_domains=("a.com",)), "x@a.com", ""),
        (EmailField(only_domains=("a.com",)), "x@b.a.com", "email_domain_not_allowed"),
        (EmailField(except_domains=("a.com",)), "x@a.com", "email_domain_not_allowed"),
        (EmailField(except_domains=("a.com",)), "x@b.com", ""),
        (EmailField(except_domains=()), "x@b.com", ""),
        (UrlField(), "no url", "invalid_url"),
        (UrlField(only_domains=("a.com",)), "https://a.com/x", ""),
        (UrlField(only_domains=("a.com",)), "https://b.com/a.com", "url_domain_not_allowed"),
        (UrlField(only_domains=("a.com",)), "https://a.com@b.com", "url_domain_not_allowed"),
        (UrlField(except_domains=("a.com",)), "https://a.com", "url_domain_not_allowed"),
        (DateField(min="2024-01-01"), "2023-12-31 23:59:59.999Z", "min_greater_equal_than_required"),
        (DateField(min="2024-01-01"), "2024-01-01 00:00:00.000Z", ""),
        (DateField(max="2024-01-01"), "2024-01-01 00:00:00.001Z", "max_less_equal_than_required"),
        (AutodateField(), "", ""),
        (SINGLE, "c", "invalid_value"),
        (SEVERAL, ["a", "b"], ""),
        (SEVERAL, ["a", "b", "c"], "too_many_values"),
        (SEVERAL, ["a", "x"], "invalid_value"),
        (RelationField(max_select=3, min_select=2), ["a"], "not_enough_values"),
        (RelationField(max_select=3, min_select=2), [], ""),
        (RelationField(max_select=2), ["a", "b", "c"], "too_many_values"),
        (FileField(max_select=2), ["a", "b", "c"], "too_many_files"),
        (FileField(max_size=9), SOME_FILE, "file_size_limit"),
        (FileField(max_size=10), SOME_FILE, ""),
        (FileField(), NewFile("a", 5 * 1024 * 1024 + 1, "x/y"), "file_size_limit"),
        (FileField(mime_types=("image/png",)), SOME_FILE, ""),
        (FileField(mime_types=("text/plain",)), NewFile("a", 1, "text/plain; charset=utf-8"), ""),
        (FileField(mime_types=("image/jpeg",)), SOME_FILE, "invalid_mime_type"),
        (FileField(mime_types=("image/jpeg",)), "stored.png", ""),
        (JsonField(max_size=5), "abc", ""),
        (JsonField(max_size=5), "abcd", "json_size_limit"),
        (JsonField(), "x" * (1024 * 1024), "json_size_limit"),
        (JsonField(required=True, max_size=1), "", "json_size_limit"),
        (PasswordField(min=8), PlainPassword("short"), "min_text_constraint"),
        (PasswordField(), PlainPassword("x" * 71), ""),
        (PasswordField(), PlainPassword("x" * 72), "max_text_constraint"),
        (PasswordField(max=80), PlainPassword("x" * 72), ""),
        (PasswordField(pattern="[0-9]"), PlainPassword("word"), "invalid_format"),
        (PasswordField(min=8, pattern="[0-9]"), "$2a$a-hash", ""),
        (GeoPointField(), GeoPoint(180, 90), ""),
        (GeoPointField(), GeoPoint(181, 91), "invalid_latitude"),
        (GeoPointField(), GeoPoint(-180.5, 0), "invalid_longitude"),
    ],
)
def test_a_value_is_checked_against_the_options(field, value, expected):
    assert code(field, value) == expected


def test_problems_name_the_bound():
    assert ops(TextField(min=3)).check("a").params == {"min": 3}
    assert ops(NumberField(max=2.5)).check(3).params == {"max": 2.5}
    assert ops(DateField(min="2024-01-01")).check("2023-01-01 00:00:00.000Z").params == {
        "threshold": "2024-01-01T00:00:00Z"
    }


def test_a_file_is_named_only_if_the_record_has_it():
    its = ops(FileField(max_select=5))
    assert its.check_stored(["a", SOME_FILE], ["a", "b"]) is None
    assert its.check_stored(["a", "c"], ["a", "b"]).code == "validation_invalid_file"
    assert ops(FileField()).check_stored("a", "").code == "validation_invalid_file"


def test_new_files_stand_in_columns_and_json_by_their_names():
    its = ops(FileField(max_select=5))
    assert its.to_column(["a", SOME_FILE]) == '["a","a.png"]'
    assert its.to_json(["a", SOME_FILE]) == ["a", "a.png"]
    assert ops(FileField()).to_column(SOME_FILE) == "a.png"


def test_plain_passwords_are_neither_written_nor_shown():
    its = ops(PasswordField(name="password"))
    with pytest.raises(InvariantError):
        its.to_column(PlainPassword("secret"))
    assert its.to_json("$2a$hash") == "" and "secret" not in repr(PlainPassword("secret"))


@pytest.mark.parametrize(
    ("field", "stored", "expected"),
    [
        (TextField(), None, ""),
        (TextField(), 5, "5"),
        (NumberField(), None, 0),
        (NumberField(), "12.5", 12.5),
        (NumberField(), float("inf"), 0),
        (NumberField(), 1234567890123456789, 1234567890123456800),
        (BoolField(), 1, True),
        (BoolField(), None, False),
        (DateField(), "2024-01-02", "2024-01-02 00:00:00.000Z"),
        (DateField(), None, ""),
        (SEVERAL, None, []),
        (SEVERAL, "a", ["a"]),
        (SINGLE, None, ""),
        (JsonField(), None, None),
        (JsonField(), "null", None),
        (JsonField(), 5.0, 5),
        (JsonField(), "not json", "not json"),
        (JsonField(), '{"a":1.0}', {"a": 1}),
        (JsonField(), b"[1]", [1]),
        (GeoPointField(), "broken", GeoPoint(0, 0)),
        (GeoPointField(), None, GeoPoint(0, 0)),
        (GeoPointField(), '{"lat":1,"lon":2}', GeoPoint(2, 1)),
    ],
)
def test_columns_that_others_wrote_are_read(field, stored, expected):
    found = ops(field).from_column(stored)
    assert found == expected and type(found) is type(expected)
