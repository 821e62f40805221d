"""The judgement of the crash harness: if it were blind, its loops would prove nothing."""

from itertools import islice
from random import Random

import pytest

from pando.testing.crash import NODES, Role, plan_cycles
from pando.testing.crash_ledger import COMPLAINTS_MAX, Fate, Ledger, compare, fate_of
from pando.testing.sql_client import Answer, execute, statement, transaction


def settled(fate, size=3):
    ledger = Ledger()
    group = ledger.begin(size)
    ledger.settle(group, fate)
    return group, ledger.fates(0)


@pytest.mark.parametrize(
    ("fate", "rows", "violation"),
    [
        (Fate.DONE, 3, None),
        (Fate.DONE, 2, "acknowledged, 2 of 3"),
        (Fate.DONE, 0, "acknowledged, 0 of 3"),
        (Fate.DONE, 4, "acknowledged, 4 of 3"),
        (Fate.UNKNOWN, 0, None),
        (Fate.UNKNOWN, 3, None),
        (Fate.UNKNOWN, 1, "torn, 1 of 3"),
        (Fate.UNKNOWN, 6, "torn, 6 of 3"),
        (Fate.REFUSED, 0, None),
        (Fate.REFUSED, 3, "refused as not done, 3 of 3"),
    ],
)
def test_rows_are_compared_with_what_the_client_was_told(fate, rows, violation):
    group, fates = settled(fate)
    found = compare(fates, {group.name: rows} if rows else {}, "node1")
    assert ([] if violation is None else [True]) == [violation in line for line in found]


def test_rows_that_nobody_sent_are_found():
    assert compare({}, {"0-7": 1}, "node1") == ["node1: 0-7 was never sent"]


@pytest.mark.parametrize(
    ("error", "has_baton", "fate"),
    [
        (None, False, Fate.DONE),
        ({"code": "QUORUM_TIMEOUT"}, False, Fate.DONE),
        ({"code": "PRIMARY_UNAVAILABLE"}, False, Fate.REFUSED),
        ({"code": "STREAM_EXPIRED"}, True, Fate.REFUSED),
        ({"code": "HTTP_400"}, True, Fate.REFUSED),
        ({"code": "OUTCOME_UNKNOWN"}, False, Fate.UNKNOWN),
        ({"code": "HTTP_400"}, False, None),
        ({"code": "SQLITE_CONSTRAINT"}, False, None),
        ({"code": "INTERNAL"}, True, None),
        ({}, False, None),
    ],
)
def test_errors_are_promises(error, has_baton, fate):
    assert fate_of(error, has_baton=has_baton) is fate


def test_complaints_are_bounded_and_given_once():
    ledger = Ledger()
    for number in range(COMPLAINTS_MAX + 5):
        ledger.complain(str(number))
    assert ledger.take_complaints() == [str(number) for number in range(COMPLAINTS_MAX)]
    assert ledger.take_complaints() == []


def test_cycles_are_counted_and_forgotten_apart():
    ledger = Ledger()
    for cycle in (1, 2):
        ledger.cycle = cycle
        ledger.settle(ledger.begin(1), Fate.DONE)
        ledger.begin(1)
    assert (ledger.count(), ledger.count(Fate.UNKNOWN), ledger.cycles()) == (1, 1, [1, 2])
    ledger.forget(1)
    assert ledger.cycles() == [2]


def test_a_seed_gives_a_plan_that_kills_everything_once_to_begin_with():
    plan = list(islice(plan_cycles(Random("7 plan"), webs=2), 50))
    assert plan == list(islice(plan_cycles(Random("7 plan"), webs=2), 50))
    assert plan != list(islice(plan_cycles(Random("8 plan"), webs=2), 50))
    assert {cycle[0].role for cycle in plan[: len(Role)]} == set(Role)
    assert {len(cycle) for cycle in plan} == {1, 2}
    assert {kill.node for cycle in plan for kill in cycle} == set(range(NODES))
    assert 0 not in {kill.node for cycle in plan for kill in cycle if kill.role is Role.WIPE}


def test_errors_of_a_batch_are_found_in_its_steps():
    result = b'{"step_errors": [null, {"code": "X"}]}'
    body = b'{"results": [{"type": "ok", "response": {"type": "batch", "result": %b}}]}' % result
    assert Answer(200, body, "").error == {"code": "X"}
    assert Answer(503, b'{"code": "NOT_READY"}', "").error == {"code": "NOT_READY"}
    assert Answer(400, b"plain words", "").error == {"code": "HTTP_400", "message": "plain words"}


def test_rows_are_given_as_values():
    body = b"""{"results": [{"type": "ok", "response": {"type": "execute", "result":
        {"rows": [[{"type": "integer", "value": "7"}, {"type": "text", "value": "x"}, {"type": "null"}]]}}}]}"""
    assert Answer(200, body, "").rows == [[7, "x", None]]


def test_a_transaction_commits_only_if_every_step_went_well():
    steps = transaction([statement("A"), statement("B")])["batch"]["steps"]
    assert [step["stmt"]["sql"] for step in steps] == ["BEGIN IMMEDIATE", "A", "B", "COMMIT", "ROLLBACK"]
    assert [step.get("condition") for step in steps[1:4]] == [{"type": "ok", "step": number} for number in range(3)]
    assert steps[4]["condition"] == {"type": "not", "cond": {"type": "ok", "step": 3}}
    assert execute("S", 1, "t")["stmt"]["args"] == [{"type": "integer", "value": "1"}, {"type": "text", "value": "t"}]
