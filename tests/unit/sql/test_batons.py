from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pando.sql.batons import INVALID, Baton, BatonCodec, BatonError

CODEC = BatonCodec(b"k" * 32)


@given(
    st.text(st.characters(codec="ascii", min_codepoint=33), max_size=64),
    st.integers(0, 65535),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
)
def test_round_trip(node: str, web: int, stream: int, sequence: int) -> None:
    baton = Baton(node, web, stream, sequence)
    assert CODEC.decode(CODEC.encode(baton)) == baton


@given(st.text(max_size=500))
def test_any_text_is_refused(text: str) -> None:
    with pytest.raises(BatonError, match=f"^{INVALID}$"):
        CODEC.decode(text)


def test_every_changed_character_is_noticed() -> None:
    text = CODEC.encode(Baton("node-a", 1, 2, 3))
    for index, character in enumerate(text):
        for other in {"A", "z", "/"} - {character}:
            changed = text[:index] + other + text[index + 1 :]
            try:
                assert CODEC.decode(changed) == Baton("node-a", 1, 2, 3)  # spare bits of the last character
                assert index == len(text) - 1
            except BatonError:
                continue


def test_key_of_another_cluster_is_refused() -> None:
    with pytest.raises(BatonError):
        BatonCodec(b"j" * 32).decode(CODEC.encode(Baton("n", 0, 1, 1)))
