"""Arguments fit the parameters exactly, by place or by name, or the error says which does not."""

import pytest

from pando.errors import SqlError
from pando.store.arguments import bind
from pando.store.requests import Statement


@pytest.mark.parametrize(
    ("parameters", "args", "named", "bound"),
    [
        ((), (), (), ()),
        ((None, None), (1, "b"), (), (1, "b")),
        ((":a", "?2"), (1, "b"), (), (1, "b")),
        ((":a", "@b", "$c"), (), ((":a", 1), ("b", 2), ("$c", 3)), (1, 2, 3)),
        (("?1", "?2"), (), (("2", "b"), ("?1", "a")), ("a", "b")),
        ((":a", "@a"), (), (("a", 1),), (1, 1)),
    ],
)
def test_what_fits(parameters, args, named, bound):
    assert bind(parameters, Statement("select", args, named)) == bound


@pytest.mark.parametrize(
    ("parameters", "args", "named", "says"),
    [
        ((None,), (), (), "value for parameter 1 not found"),
        ((None, ":b"), (1,), (), "value for parameter :b not found"),
        ((None,), (1, 2), (), "too many parameters, expected 1 found 2"),
        ((":a",), (), (("b", 1),), "value for parameter :a not found"),
        ((":a",), (), (("a", 1), ("b", 1)), "the statement has no parameter 'b'"),
        ((None,), (), (("a", 1),), "value for parameter 1 not found"),
        ((":a",), (1,), (("a", 1),), "both positional and named"),
    ],
)
def test_what_does_not(parameters, args, named, says):
    with pytest.raises(SqlError, match=says):
        bind(parameters, Statement("select", args, named))
