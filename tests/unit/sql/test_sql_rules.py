"""Reads or writes of a database are blocked for SQL, and the system database is seen by administrators only."""

import pytest
from service_bench import CLOSE, Node, batch, sql

from pando.errors import Forbidden, UnknownDatabase
from pando.sql.access import Access
from pando.sql.config import DatabaseConfig
from pando.sql.rules import ONLY_SYSTEM, rules_of
from pando.store.requests import Execute, Failure, Statement
from pando.types import SYSTEM_DATABASE

ADMIN = Access(is_admin=True)


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path, is_primary=True)
    yield node
    node.close()


def block(node, *, reads=False, writes=False, reason=None):
    config = DatabaseConfig(block_reads=reads, block_writes=writes, block_reason=reason)
    node.service.set_rules(rules_of({"data": config}))


def count(node):
    return node(sql("select count(*) from t"), CLOSE).rows()


def test_databases_without_blocks_have_no_rule():
    configs = {"a": DatabaseConfig(max_db_size=1), "b": DatabaseConfig(block_reads=True)}
    assert set(rules_of(configs)) == {"b", SYSTEM_DATABASE}
    assert rules_of({}) == ONLY_SYSTEM


def test_blocked_writes_fail_with_the_reason_and_reads_go_on(node):
    block(node, writes=True, reason="the bill is not paid")
    asked = node(sql("insert into t values (2, 'two')"), CLOSE)
    assert asked.error() == {
        "message": "Operation was blocked: the bill is not paid",
        "code": "BLOCKED",
        **{key: value for key, value in asked.error().items() if key not in ("message", "code")},
    }
    assert asked.results[1]["type"] == "ok"
    assert node(batch("insert into t values (3, 'x')")).error()["code"] == "BLOCKED"
    assert count(node) == [["1"]]
    node.service.set_rules(ONLY_SYSTEM)
    node(sql("insert into t values (2, 'two')"), CLOSE)
    assert count(node) == [["2"]]


def test_a_transaction_that_only_reads_works_while_writes_are_blocked(node):
    block(node, writes=True)
    begun = node(sql("begin"), sql("select a from t"))
    assert begun.rows(1) == [["1"]]
    assert node(sql("commit"), CLOSE, baton=begun.baton).results[0]["type"] == "ok"


def test_a_transaction_that_wrote_is_rolled_back_when_writes_are_blocked(node):
    begun = node(sql("begin immediate"), sql("insert into t values (2, 'two')"))
    block(node, writes=True)
    assert node(sql("commit"), baton=begun.baton).error()["code"] == "BLOCKED"
    node.service.set_rules(ONLY_SYSTEM)
    assert count(node) == [["1"]]
    assert len(node.store.ended) == 1


def test_what_follows_in_a_stream_of_a_connection_is_blocked_too(node):
    stream = node.service.attach("data")
    from pando.sql.service import Call

    async def ask(text):
        return (await node.service.run_attached(stream, Execute(Statement(text)), Call("data")))[0]

    node.run(ask("begin immediate"))
    block(node, writes=True, reason="x")
    assert node.run(ask("insert into t values (2, 'two')")).code == "BLOCKED"
    node.service.set_rules(ONLY_SYSTEM)
    assert node.run(ask("insert into t values (3, 'three')")).code == "BLOCKED", "not outside of the transaction"
    assert isinstance(node.run(ask("commit")), Failure)
    assert count(node) == [["1"]]


def test_blocked_reads_fail_and_writes_go_on(node):
    block(node, reads=True)
    assert node(sql("select 1"), CLOSE).error()["message"] == "Operation was blocked"
    assert node(sql("insert into t values (2, 'two')"), CLOSE).results[0]["type"] == "ok"
    begun = node(sql("begin immediate"), sql("insert into t values (3, 'three')"))
    assert node(sql("select * from t"), baton=begun.baton).error()["code"] == "BLOCKED"
    node.service.set_rules(ONLY_SYSTEM)
    assert count(node) == [["2"]]


def test_a_read_in_a_writing_transaction_fails_alone_and_the_rest_can_be_committed(node):
    begun = node(sql("begin immediate"), sql("insert into t values (3, 'three')"))
    block(node, reads=True)
    then = node(sql("select * from t"), baton=begun.baton)
    assert then.error()["code"] == "BLOCKED"
    assert node(sql("commit"), CLOSE, baton=then.baton).results[0]["type"] == "ok"
    node.service.set_rules(ONLY_SYSTEM)
    assert count(node) == [["2"]]


def test_the_system_database_is_for_administrators_to_read(node):
    node.store.create(SYSTEM_DATABASE, "create table databases(name); insert into databases values ('shop')")
    with pytest.raises(UnknownDatabase):
        node(sql("select name from databases"), CLOSE, database=SYSTEM_DATABASE)
    assert node(sql("select name from databases"), CLOSE, database=SYSTEM_DATABASE, access=ADMIN).rows() == [["shop"]]
    with pytest.raises(Forbidden, match="Pando's own"):
        node(sql("delete from databases"), CLOSE, database=SYSTEM_DATABASE, access=ADMIN)


def test_a_replica_that_does_not_have_it_yet_lets_nobody_write_it(tmp_path):
    replica = Node(tmp_path, is_primary=False)
    with pytest.raises(Forbidden):
        replica(sql("delete from databases"), CLOSE, database=SYSTEM_DATABASE, access=ADMIN)
    with pytest.raises(UnknownDatabase):
        replica(sql("with a as (select 1) delete from t"), CLOSE, database="new", access=Access(read_only=True))
    assert [run.read_only for run in replica.store.runs] == [True], "the primary's store refuses to write then"
    replica.service.set_rules(rules_of({"new": DatabaseConfig(block_writes=True)}))
    assert replica(sql("insert into t values (1)"), CLOSE, database="new").error()["code"] == "BLOCKED"
    replica.close()


def test_what_only_reads_beside_a_blocked_write_is_answered(node):
    block(node, writes=True, reason="x")
    asked = node(sql("select a from t"), sql("insert into t values (2, 'two')"), sql("select count(*) from t"), CLOSE)
    assert (asked.rows(0), asked.error(1)["code"], asked.rows(2)) == ([["1"]], "BLOCKED", [["1"]])
    whole = node(sql("begin"), sql("select a from t"), sql("delete from t"), sql("commit"), CLOSE)
    assert [whole.error(index)["code"] for index in range(4)] == ["BLOCKED"] * 4
    assert len(node.service._streams) == 0
