"""JSON as 0.40 reads and writes it. JavaScript's own figures are in the tables."""

import json
import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pando.records.fields import jsontext
from pando.records.fields.jsontext import DEPTH_MAX, InvalidJson


def written(value):
    return jsontext.encode(jsontext.to_wire(value)).decode()


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("1e5", "100000"),
        ("1.0", "1"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("0.10", "0.1"),
        ("12345678901234567890", "12345678901234567000"),
        ("9007199254740993", "9007199254740992"),
        ("1e20", "100000000000000000000"),
        ("123456789012345678901", "123456789012345680000"),
        ("1e21", "1e+21"),
        ("1.5e300", "1.5e+300"),
        ("0.000001", "0.000001"),
        ("0.0000015", "0.0000015"),
        ("1e-7", "1e-7"),
        ("1.25e-10", "1.25e-10"),
        ("123.456", "123.456"),
        ('{"b":1.0,"a":[1e1,{"d":2,"c":"1.0"}]}', '{"a":[10,{"c":"1.0","d":2}],"b":1}'),
        ('{"a":1,"a":2}', '{"a":2}'),
        ('"<&>\u2028"', '"<&>\u2028"'),
        (" [ true , null ] ", "[true,null]"),
        (r'"\ud83d\ude00 \ud800 \\ud800"', '"\U0001f600 \ufffd \\\\ud800"'),
    ],
)
def test_a_document_is_written_as_javascript_writes_it(sent, expected):
    assert written(jsontext.decode(sent)) == expected
    assert written(jsontext.decode(expected)) == expected


def test_bytes_that_are_no_utf8_are_replaced():
    assert jsontext.decode(b'{"a":"x\xffy","b":1.0}') == {"a": "x\ufffdy", "b": 1}


@pytest.mark.parametrize(
    "sent",
    [
        *("", " ", "{", "[1,]", '{"a":1,}', "{a:1}", "'a'", "NaN", "Infinity", "01", "1.", ".5", "+1", "nul", "1 2"),
        *('"\n"', "1e400", '"\\x41"', "9" * 400, "// x\n1", "\ufeff1"),
        *("[" * (DEPTH_MAX + 1) + "]" * (DEPTH_MAX + 1), "[" * 100_000, "[" * 300 + '"' + '\\"' * 100_000),
    ],
    ids=lambda sent: repr(sent)[:30],
)
def test_what_strict_json_does_not_allow_is_refused(sent):
    with pytest.raises(InvalidJson):
        jsontext.decode(sent)


def test_a_document_may_nest_as_deep_as_the_limit_and_brackets_in_texts_do_not_count():
    deepest = "[" * DEPTH_MAX + "]" * DEPTH_MAX
    assert written(jsontext.decode(deepest)) == deepest
    assert jsontext.decode(json.dumps(["[{" * DEPTH_MAX, '\\"[' * DEPTH_MAX])) is not None
    assert len(jsontext.decode("[" + "[]," * 1000 + "[]]")) == 1001


@pytest.mark.parametrize("value", [{1: 2}, object(), {"a": {1, 2}.__iter__()}])
def test_what_json_cannot_say_is_no_value(value):
    with pytest.raises(InvalidJson):
        jsontext.canonical(value)


def test_a_value_that_holds_itself_is_refused():
    knot = []
    knot.append(knot)
    with pytest.raises(InvalidJson):
        jsontext.canonical(knot)


def test_canonical_values_are_fresh_and_plain():
    source = {"b": (1.0, 2**70), "a": "x\ud800"}
    assert jsontext.canonical(source) == {"a": "x\ufffd", "b": [1, 1180591620717411303424.0]}
    assert jsontext.canonical(float("nan")) is None


finite = st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), finite, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=3), inner, max_size=4)),
    max_leaves=10,
)


@settings(deadline=None)
@given(value=documents)
def test_a_canonical_value_survives_its_text(value):
    canonical = jsontext.canonical(value)
    text = written(canonical)
    assert jsontext.decode(text) == canonical
    assert written(jsontext.decode(text)) == text


@settings(deadline=None)
@given(text=st.one_of(st.text(max_size=20), st.text('[]{}",:0123456789.eE+-\\u tfn', max_size=20)))
def test_it_accepts_what_pythons_reader_accepts_and_little_else(text):
    def refuse(name):
        raise ValueError(name)

    try:
        expected = json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError):
        with pytest.raises(InvalidJson):
            jsontext.decode(text)
        return
    if isinstance(expected, float) and not math.isfinite(expected):
        return
    jsontext.decode(text)


@settings(deadline=None)
@given(value=finite)
def test_a_number_keeps_its_value_in_text(value):
    text = jsontext.number_text(value)
    assert float(text) == value
    assert not text.endswith(".0") and ("e" not in text or not 1e-6 <= abs(value) < 1e21)
    wire = jsontext.number_to_wire(jsontext.number(value))
    assert msgspec.json.encode(wire).decode() == (text if value else "0")


def test_numbers_are_whole_where_javascript_shows_no_fraction():
    assert [type(jsontext.number(value)) for value in (5.0, 2**60, 1e20, 1e21, 0.5)] == [int, int, int, float, float]
    assert jsontext.number(12345678901234567890) == 12345678901234567000
