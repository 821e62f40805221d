"""The two web processes that most tests of the SQL service ask."""

import pytest
from service_bench import Node


@pytest.fixture
def primary(tmp_path):
    node = Node(tmp_path, is_primary=True)
    yield node
    node.close()


@pytest.fixture
def replica(tmp_path):
    node = Node(tmp_path, is_primary=False)
    yield node
    node.close()
