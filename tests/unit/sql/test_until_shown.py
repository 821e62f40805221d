"""Answers to writes without a bookmark are held back until the node shows the write."""

import pytest
from service_bench import Node, marked


@pytest.fixture
def replica(tmp_path):
    node = Node(tmp_path, is_primary=False, own_write_wait_s=0.0)
    yield node
    node.close()


def test_each_write_is_waited_for_though_another_came_too_late(replica):
    asked = []

    def arrives(database, _epoch, txid):
        asked.append(txid)
        if txid != 5:
            replica.store.database(database).visible = txid

    replica.store.on_wait = arrives
    for txid in (3, 5, 6):
        replica.run(replica.service.until_shown(marked(txid)))
    assert asked == [3, 5, 6], "that 5 did not come in time is no reason not to wait for 6"
    assert replica.store.database("data").visible == 6


def test_what_is_shown_already_is_not_asked_for(replica):
    replica(*[{"type": "execute", "stmt": {"sql": "select 1"}}])  # opens the database
    replica.store.on_wait = lambda *_: pytest.fail("there is nothing to wait for")
    replica.run(replica.service.until_shown(marked(0)))
