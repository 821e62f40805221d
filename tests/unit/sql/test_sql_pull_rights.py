"""Who may have all of a database: whoever may read it, unless its reads are blocked or it is the system's."""

import pytest
from service_bench import Node

from pando.errors import Blocked, UnknownDatabase
from pando.sql.access import Access
from pando.sql.calls import Call
from pando.sql.config import DatabaseConfig
from pando.sql.rules import rules_of
from pando.types import SYSTEM_DATABASE


@pytest.fixture
def service(tmp_path):
    node = Node(tmp_path, is_primary=False)
    yield node.service
    node.close()


def test_blocked_reads_and_the_system_database(service):
    reader = Access(read_only=True)
    service.check_copying(Call("data", reader))
    with pytest.raises(UnknownDatabase):
        service.check_copying(Call(SYSTEM_DATABASE, reader))
    service.check_copying(Call(SYSTEM_DATABASE, Access(is_admin=True)))
    service.set_rules(rules_of({"data": DatabaseConfig(block_writes=True)}))
    service.check_copying(Call("data", reader))
    service.set_rules(rules_of({"data": DatabaseConfig(block_reads=True, block_reason="moved")}))
    with pytest.raises(Blocked, match="moved"):
        service.check_copying(Call("data", reader))


def test_what_a_caller_wrote_and_the_node_does_not_show_is_owed(service):
    call = Call("data", caller=b"Bearer one")
    assert service.owed(call, (1, 5)) is None
    service._own_writes.remember(b"Bearer one", "data", (1, 9), 0.0)
    assert service.owed(call, (1, 5)) == (1, 9)
    assert service.owed(Call("data", caller=b"Bearer two"), (1, 5)) is None
    assert service.owed(call, (1, 9)) is None
