import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.errors import InvariantError
from pando.records.realtime.client_ids import CLIENT_ID_CHARS, INDEX_MAX, make_client_id, parse_client_id

RANDOM = bytes(range(16))


@given(st.text(max_size=300), st.integers(0, INDEX_MAX), st.binary(min_size=16, max_size=16))
def test_an_id_says_where_its_stream_lives(node, index, random):
    text = make_client_id(node, index, random)
    assert len(text) == CLIENT_ID_CHARS
    assert text.isascii() and text.replace("-", "").replace("_", "").isalnum()
    home = parse_client_id(text)
    assert home is not None
    assert home.is_on(node) and home.index == index
    assert not home.is_on(node + "x")


def test_every_random_bit_counts():
    ids = {make_client_id("n", 0, RANDOM)}
    for bit in range(128):
        changed = bytearray(RANDOM)
        changed[bit // 8] ^= 1 << bit % 8
        ids.add(make_client_id("n", 0, bytes(changed)))
    assert len(ids) == 129


@given(st.text(max_size=60))
def test_what_is_no_id_of_ours_is_told_apart(text):
    assert parse_client_id(text) is None


@pytest.mark.parametrize("at", range(CLIENT_ID_CHARS))
def test_an_id_with_a_wrong_character_is_none(at):
    text = make_client_id("node-1", 3, RANDOM)
    for other in ("A", "B", "é", "=", "+", "\n"):
        if text[at] != other:
            assert parse_client_id(text[:at] + other + text[at + 1 :]) is None


@pytest.mark.parametrize(("index", "random"), [(0, b"short"), (-1, RANDOM), (INDEX_MAX + 1, RANDOM)])
def test_ids_are_made_of_what_they_must_be(index, random):
    with pytest.raises(InvariantError):
        make_client_id("n", index, random)
