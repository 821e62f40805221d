"""Which freshness holds for a request that names none: the database's, else the node's, else session."""

import json

import pytest
from service_bench import CLOSE, Node, sql

from pando.errors import InvalidRequest
from pando.sql.calls import Call
from pando.sql.config import DatabaseConfig
from pando.sql.freshness import SESSION, Freshness, Level, parse_freshness
from pando.sql.messages import decode_pipeline
from pando.sql.rules import SYSTEM_RULE, Rule, rules_of, usual_rule

READ = sql("select count(*) from t")


@pytest.fixture
def node(tmp_path):
    node = Node(tmp_path, is_primary=False)
    yield node
    node.close()


def use(node, usual="session", **configs):
    rule = usual_rule(usual)
    found = {name: DatabaseConfig(freshness=text) for name, text in configs.items()}
    node.service.set_rules(rules_of(found, rule), rule)


def is_asked_of_the_primary(node, **more):
    before = len(node.store.runs)
    node(READ, CLOSE, **more)
    return len(node.store.runs) > before


@pytest.mark.parametrize(
    ("usual", "database", "said", "at_primary"),
    [
        ("session", "", None, False),
        ("strong", "", None, True),
        ("strong", "eventual", None, False),
        ("strong", "session", None, False),
        ("session", "strong", None, True),
        ("eventual", "strong", None, True),
        ("strong", "", "session", False),
        ("session", "strong", "session", False),
        ("session", "strong", "eventual", False),
        ("session", "", "strong", True),
        ("session", "of a newer version", None, False),
        ("strong", "of a newer version", None, True),
    ],
)
def test_what_is_said_counts_then_the_database_then_the_node(node, usual, database, said, at_primary):
    use(node, usual, data=database)
    more = {} if said is None else {"freshness": parse_freshness(said)}
    assert is_asked_of_the_primary(node, **more) is at_primary


def test_other_databases_are_as_before(node):
    use(node, other="strong")
    assert not is_asked_of_the_primary(node)


def test_bounded_by_configuration(node):
    slot = node.store.database("data").slot
    use(node, data="bounded=500")
    node.store.heads[slot] = (0, node.clock.wall_ms() - 400)
    assert not is_asked_of_the_primary(node)
    node.store.heads[slot] = (0, node.clock.wall_ms() - 600)
    assert is_asked_of_the_primary(node)


def test_a_blocked_database_keeps_the_nodes_freshness(node):
    rule = usual_rule("strong")
    node.service.set_rules(rules_of({"data": DatabaseConfig(block_writes=True)}, rule), rule)
    assert is_asked_of_the_primary(node)


def test_nothing_configured_costs_nothing():
    assert usual_rule("session") is None
    assert "data" not in rules_of({"data": DatabaseConfig(freshness="session")})
    with pytest.raises(InvalidRequest):
        usual_rule("newest")


def test_who_asks_for_session_is_told_from_who_asks_for_nothing():
    said = parse_freshness("session")
    assert said == SESSION == Freshness(Level.SESSION)
    assert said is not SESSION


@pytest.mark.parametrize(
    ("rule", "is_prompt"),
    [
        (Rule(freshness=parse_freshness("eventual")), True),
        (Rule(), True),
        (Rule(freshness=parse_freshness("strong")), False),
        (Rule(freshness=parse_freshness("bounded=5")), False),
        (Rule(freshness=parse_freshness("eventual"), blocks_reads=True), False),
        (Rule(freshness=parse_freshness("eventual"), blocks_writes=True), False),
        (SYSTEM_RULE, False),
    ],
)
def test_who_wants_nothing_new_is_answered_with_the_least_ado(node, rule, is_prompt):
    node(READ, CLOSE)  # opens the database
    node.service.set_rules({}, rule)
    pipeline = decode_pipeline(json.dumps({"requests": [READ, CLOSE]}))
    assert (node.service.answer_at_once(pipeline, Call("data")) is not None) is is_prompt
