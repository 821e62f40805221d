from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from service_bench import ENDLESS, Node, sql

from pando.errors import StatementTimeout
from pando.store.reading import ReadOptions


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    options = ReadOptions(statement_s=0.02, foreign_keys=False)
    node = Node(tmp_path, is_primary=False, read_options=options)
    yield node
    node.close()


def test_the_setting_bounds_reads_too(node: Node) -> None:
    with pytest.raises(StatementTimeout, match=r"0\.02 s \(setting statement_time_s\)"):
        node(sql(ENDLESS))


def test_readers_say_of_foreign_keys_what_the_writer_does(node: Node) -> None:
    assert node(sql("pragma foreign_keys")).rows() == [["0"]]
