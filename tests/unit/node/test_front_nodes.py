import pytest

from pando.errors import InvalidSetting
from pando.node.front_nodes import Rotation


@pytest.fixture
def changes():
    return []


@pytest.fixture
def rotation(changes):
    made = Rotation(["http://a", "http://b", "http://c"], lambda node: changes.append((node.url[7:], node.is_up)))
    for node in made.nodes:
        made.is_well(node)
    changes.clear()
    return made


def order(rotation):
    return "".join(node.url[7:] for node in rotation.order())


def test_nodes_take_turns(rotation):
    assert [order(rotation) for _ in range(4)] == ["abc", "bca", "cab", "abc"]


def test_a_node_that_is_away_is_left_out_and_comes_back(rotation, changes):
    rotation.is_away(rotation.nodes[1], "nobody listens there")
    assert sorted(order(rotation) for _ in range(2)) == ["ac", "ca"]
    assert "http://b: nobody listens there" in rotation.why_none()
    rotation.is_well(rotation.nodes[1])
    assert len(order(rotation)) == 3
    assert changes == [("b", False), ("b", True)]


def test_one_late_check_is_forgiven_two_are_not(rotation, changes):
    late = rotation.nodes[0]
    rotation.is_late(late, "no answer in time")
    rotation.is_well(late)
    rotation.is_late(late, "no answer in time")
    assert "a" in order(rotation)
    rotation.is_late(late, "no answer in time")
    assert "a" not in order(rotation)
    assert changes == [("a", False)]


def test_nobody_is_up_before_the_first_check(changes):
    rotation = Rotation(["http://a"], changes.append)
    assert rotation.order() == []
    rotation.is_late(rotation.nodes[0], "no answer in time")
    assert "no answer in time" in rotation.why_none()
    assert changes == []


def test_a_front_without_nodes_is_refused():
    with pytest.raises(InvalidSetting, match="--node"):
        Rotation([], print)
