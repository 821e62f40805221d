"""The node that most tests of the store write to."""

import pytest
from store_kit import Node


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path / "node")
    yield node
    node.close()
