import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records import model
from pando.records.fields import NewFile, casting
from pando.records.fields.forms import PARTS_MAX, guess, read_form, with_files
from pando.records.problems import ApiError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        ("true", True),
        ("false", False),
        ("True", "True"),
        ("null", "null"),
        ("0", 0),
        ("12", 12),
        ("-3.5", -3.5),
        ("0.1", 0.1),
        ("007", "007"),
        ("1.0", "1.0"),
        ("1.", "1."),
        (".5", ".5"),
        ("+1", "+1"),
        ("1e5", "1e5"),
        ("1-2", "1-2"),
        ("-", "-"),
        ("...", "..."),
        ("2024-01-02", "2024-01-02"),
        ("12345678901234567890", "12345678901234567890"),
        ("100000000000000000000000", 1e23),
        ("9007199254740993", "9007199254740993"),
        ("0.0000001", 1e-7),
        ("\u0661", "\u0661"),
        ("[1]", "[1]"),
    ],
)
def test_the_meaning_of_text_is_guessed(text, expected):
    found = guess(text)
    assert found == expected and type(found) is type(expected)


@settings(deadline=None)
@given(text=st.one_of(st.text(), st.text("0123456789.-", max_size=25)))
def test_a_guess_prints_back_as_what_was_sent(text):
    assert casting.to_text(guess(text)) == text


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([], {}),
        ([("a", "1"), ("b", "x")], {"a": 1, "b": "x"}),
        ([("a", "1"), ("a", "x"), ("a", "true")], {"a": [1, "x", True]}),
        ([("@jsonPayload", '{"a":1e2,"b":[null]}')], {"a": 100, "b": [None]}),
        ([("@jsonPayload", '{"a":1}'), ("@jsonPayload", '{"b":2,"a":3}')], {"a": 3, "b": 2}),
        ([("a", "part"), ("@jsonPayload", '{"a":1,"c":2}')], {"a": "part", "c": 2}),
        ([("@jsonPayload", "null")], {}),
    ],
)
def test_parts_become_a_body(parts, expected):
    assert read_form(parts) == expected


@pytest.mark.parametrize("payload", ["", "[1]", "1", "{", '{"a":1,}', '"x"', "{" * 10, '{"a":' * 300 + "1" + "}" * 300])
def test_a_payload_that_is_no_object_is_refused(payload):
    with pytest.raises(ApiError) as caught:
        read_form([("@jsonPayload", payload)])
    assert caught.value.status == 400


def test_a_form_has_a_limited_number_of_parts():
    with pytest.raises(ApiError):
        read_form([("a", "1")] * (PARTS_MAX + 1))


def test_files_join_the_names_that_the_form_keeps():
    posts = model.Collection(
        id="c",
        name="posts",
        fields=(
            model.FileField(name="docs", max_select=5),
            model.FileField(name="one", max_select=1),
            model.TextField(name="title"),
        ),
    )
    first, second = NewFile("1.txt", 1, "text/plain"), NewFile("2.txt", 1, "text/plain")
    body = {"docs": ["kept.txt"], "one": "", "title": "x"}
    files = [("docs", first), ("one", second), ("docs", second), ("docs+", first), ("title", first), ("other", first)]
    assert with_files(posts, body, files) == {
        "docs": ["kept.txt", first, second],
        "docs+": [first],
        "one": ["", second],
        "title": "x",
    }
    assert body["docs"] == ["kept.txt"]
