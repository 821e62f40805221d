"""What is sent again, what never, and what a transaction's loss means: the session against nodes that are functions."""

import contextlib
import json
import random

import pytest

from pando.client.batching import ROWS_MAX, execute_many
from pando.client.exceptions import (
    DataError,
    Error,
    IntegrityError,
    InterfaceError,
    OperationalError,
    OutcomeUnknown,
    ProgrammingError,
    TransactionLost,
)
from pando.client.judging import Broken, Reply, Send
from pando.client.nodes import Bookmarks, Nodes
from pando.client.session import Pause, Session
from pando.client.targets import make_target
from pando.testing.virtual_clock import VirtualClock

UNSENT = Broken("refused", is_sent=False)
SENT = Broken("reset", is_sent=True)
ROWS = {"type": "ok", "response": {"type": "execute", "result": {"cols": [], "rows": [], "affected_row_count": 1}}}
CLOSED = {"type": "ok", "response": {"type": "close"}}


def autocommit(value):
    return {"type": "ok", "response": {"type": "get_autocommit", "is_autocommit": value}}


def failed(code, message="it failed"):
    return {"type": "error", "error": {"message": message, "code": code}}


def batch(count, errors=()):
    """A batch of whose steps those in `errors` failed and those after them were skipped."""
    bad = min(errors, default=count)
    results = [ROWS["response"]["result"] if step < bad else None for step in range(count)]
    codes = dict.fromkeys(errors, "SQLITE_CONSTRAINT")
    found = [{"message": "no", "code": codes[step]} if step in codes else None for step in range(count)]
    return {"type": "ok", "response": {"type": "batch", "result": {"step_results": results, "step_errors": found}}}


def answer(*results, baton=None, bookmark=""):
    return Reply(200, bookmark, json.dumps({"baton": baton, "results": results}).encode())


def error(status, code, retryable):
    return Reply(status, "", json.dumps({"error": "x", "message": "x", "code": code, "retryable": retryable}).encode())


DONE = answer(ROWS, CLOSED)
OPEN = answer(ROWS, autocommit(False), baton="b1")
BEGUN = answer(batch(3), autocommit(False), baton="b1")
ENDED = answer(ROWS, autocommit(True))


class World:
    """A session and what its nodes answer, in order; every request is kept as (host, decoded body)."""

    def __init__(self, *outcomes, nodes="pando://a", **options):
        self.clock = VirtualClock()
        self.target = make_target(nodes, options, {})
        self.nodes = Nodes(self.target.nodes, first=-1)
        self.session = Session(self.target, self.nodes, Bookmarks(), self.clock.monotonic, random.Random(1))
        self.outcomes = list(outcomes)
        self.sent = []
        self.wishes = []
        self.given = []
        self.pauses = 0.0

    def run(self, steps):
        outcome = None
        try:
            while True:
                wish = steps.send(outcome)
                outcome = self.answer(wish) if isinstance(wish, Send) else self.pause(wish)
        except StopIteration as end:
            return end.value

    def pause(self, wish):
        assert type(wish) is Pause
        self.pauses += wish.seconds
        self.clock.advance(wish.seconds)

    def answer(self, wish):
        self.wishes.append(wish)
        if wish.path == "/health":
            return Reply(200, "", json.dumps({"role": "primary" if wish.node.host == "c" else "replica"}).encode())
        self.sent.append((wish.node.host, json.loads(wish.body)))
        outcome = self.outcomes.pop(0) if len(self.outcomes) > 1 else self.outcomes[0]
        self.given.append(outcome(wish) if callable(outcome) else outcome)
        return self.given[-1]

    def execute(self, sql, *args):
        return self.run(self.session.execute(sql, args))

    @property
    def hosts(self):
        return [host for host, _ in self.sent]

    def types(self, number=-1):
        return [request["type"] for request in self.sent[number][1]["requests"]]


# -- outside of transactions


def test_a_read_that_broke_is_sent_to_another_node():
    for outcome in (UNSENT, SENT, error(503, "NOT_READY", True), Reply(502, "", b"bad gateway"), Reply(429, "", b"")):
        world = World(outcome, DONE, nodes="pando://a,b")
        world.execute("SELECT 1")
        assert world.hosts == ["a", "b"]
        assert world.pauses == 0


def test_a_write_that_surely_did_not_run_is_sent_to_another_node():
    busy = answer(failed("TRANSACTION_BUSY"), CLOSED)
    for outcome in (UNSENT, error(503, "PRIMARY_UNAVAILABLE", True), error(503, "OVERLOADED", True), busy):
        world = World(outcome, DONE, autocommit=True)
        assert world.execute("INSERT INTO t VALUES (1)").rowcount == 1
        assert len(world.sent) == 2


@pytest.mark.parametrize(
    "outcome",
    [
        SENT,
        error(503, "OUTCOME_UNKNOWN", False),
        error(504, "QUORUM_TIMEOUT", False),
        *(Reply(s, "", b"?") for s in (500, 502, 503, 504)),
    ],
)
def test_a_write_whose_outcome_is_unknown_is_never_sent_again(outcome):
    world = World(outcome, autocommit=True, nodes="pando://a,b")
    with pytest.raises(OutcomeUnknown):
        world.execute("INSERT INTO t VALUES (1)")
    assert len(world.sent) == 1
    assert not world.session.in_transaction


def test_trying_again_ends_in_time_and_says_what_was_in_the_way():
    world = World(UNSENT, nodes="pando://a,b,c", retry_s=5)
    began = world.clock.monotonic()
    with pytest.raises(OperationalError, match=r"refused \(tried for [45]\.\d s\)") as caught:
        world.execute("SELECT 1")
    assert caught.value.code == "UNREACHABLE"
    assert 4.0 < world.clock.monotonic() - began <= 5.0
    assert 9 < len(world.sent) < 60
    assert len(set(world.hosts[:3])) == 3


def test_without_time_nothing_is_tried_again():
    world = World(UNSENT, DONE, retry_s=0)
    with pytest.raises(OperationalError):
        world.execute("SELECT 1")


def test_errors_of_statements_and_tokens_are_not_tried_again():
    for outcome, kind in (
        (answer(failed("SQLITE_CONSTRAINT"), CLOSED), IntegrityError),
        (error(401, "AUTH_INVALID", False), OperationalError),
        (Reply(400, "", b"the body is no pipeline"), ProgrammingError),
        (Reply(404, "", b"<html>"), OperationalError),
        (Reply(200, "", b"<html>"), InterfaceError),
        (answer(ROWS), InterfaceError),
        (answer(failed("RESPONSE_TOO_LARGE"), CLOSED), DataError),
    ):
        world = World(outcome)
        with pytest.raises(kind):
            world.execute("SELECT 1")
        assert len(world.sent) == 1


def test_requests_carry_token_database_bookmark_and_wishes():
    world = World(
        answer(ROWS, CLOSED, bookmark="shop.1.7"), nodes="pando://tok@a/shop?freshness=strong&durability=quorum"
    )
    world.execute("SELECT 1")
    world.execute("SELECT 1")
    first, second = (wish.headers for wish in world.wishes)
    assert (first["authorization"], first["x-namespace"]) == ("Bearer tok", "shop")
    assert (first["pando-freshness"], first["pando-durability"]) == ("strong", "quorum")
    assert "pando-bookmark" not in first and second["pando-bookmark"] == "shop.1.7"


def test_reads_go_around_and_writes_to_the_primary():
    world = World(DONE, nodes="pando://a,b,c", autocommit=True)
    for _ in range(3):
        world.execute("SELECT 1")
    for _ in range(3):
        world.execute("DELETE FROM t")
    assert world.hosts == ["a", "b", "c", "c", "c", "c"]
    assert [wish.path for wish in world.wishes].count("/health") == 3
    world.outcomes = [UNSENT, DONE]
    world.execute("DELETE FROM t")
    assert world.hosts[-2] == "c" and world.hosts[-1] in "ab"


# -- transactions


def test_the_first_write_begins_in_the_same_request_and_reads_before_stand_alone():
    world = World(DONE, BEGUN, OPEN, ENDED)
    world.execute("SELECT 1")
    assert not world.session.in_transaction
    assert world.execute("INSERT INTO t VALUES (1)").rowcount == 1
    assert world.session.is_open
    steps = world.sent[-1][1]["requests"][0]["batch"]["steps"]
    assert [step["stmt"]["sql"] for step in steps] == ["BEGIN IMMEDIATE", "INSERT INTO t VALUES (1)", "ROLLBACK"]
    assert world.types() == ["batch", "get_autocommit"]
    world.execute("SELECT 1")
    assert world.sent[-1][1]["baton"] == "b1"
    world.run(world.session.commit())
    assert not world.session.in_transaction
    world.run(world.session.commit())
    assert len(world.sent) == 4


def test_serializable_begins_with_the_first_read():
    world = World(BEGUN, isolation="SERIALIZABLE")
    world.execute("SELECT 1")
    assert world.session.is_open


@pytest.mark.parametrize("outcome", [UNSENT, SENT, error(503, "OUTCOME_UNKNOWN", False), error(503, "NOT_READY", True)])
def test_a_beginning_can_be_sent_again_since_nobody_commits_it(outcome):
    world = World(outcome, BEGUN)
    world.execute("INSERT INTO t VALUES (1)")
    assert len(world.sent) == 2 and world.session.is_open
    world = World(outcome, OPEN, autocommit=True)
    world.execute("BEGIN")
    assert len(world.sent) == 2 and world.session.is_open


def test_a_first_statement_that_fails_leaves_nothing_open():
    world = World(answer(batch(3, errors=[1]), autocommit(True)))
    with pytest.raises(IntegrityError):
        world.execute("INSERT INTO t VALUES (1)")
    assert not world.session.in_transaction


def begun(*outcomes, **options):
    world = World(BEGUN, *outcomes, nodes="pando://a,b", **options)
    world.execute("INSERT INTO t VALUES (1)")
    return world


LOST = [UNSENT, SENT, error(503, "OUTCOME_UNKNOWN", False), error(503, "NOT_READY", True), Reply(500, "", b"")]
LOST += [Reply(400, "", json.dumps({"message": "x", "code": "STREAM_EXPIRED"}).encode()), Reply(200, "", b"?")]
LOST += [
    answer(failed("TRANSACTION_TIMEOUT"), failed("TRANSACTION_TIMEOUT")),
    answer(failed("STREAM_EXPIRED"), autocommit(True)),
]


@pytest.mark.parametrize("outcome", LOST)
def test_a_transaction_that_is_lost_is_not_gone_on_with_until_it_is_rolled_back(outcome):
    world = begun(outcome, DONE)
    with pytest.raises(TransactionLost, match="begin it again"):
        world.execute("INSERT INTO t VALUES (2)")
    sent = len(world.sent)
    assert sent <= 3 and world.hosts[0] == world.hosts[1]
    for again in ("INSERT INTO t VALUES (3)", "SELECT 1", "BEGIN", "COMMIT"):
        with pytest.raises(TransactionLost):
            world.execute(again)
    with pytest.raises(TransactionLost):
        world.run(world.session.commit())
    assert world.session.in_transaction and len(world.sent) == sent
    world.run(world.session.rollback())
    assert not world.session.in_transaction and len(world.sent) == sent
    world.outcomes = [BEGUN]
    world.execute("INSERT INTO t VALUES (4)")
    assert world.session.is_open


@pytest.mark.parametrize(
    "outcome", [SENT, error(503, "OUTCOME_UNKNOWN", False), Reply(502, "", b""), Reply(200, "", b"?")]
)
def test_a_commit_whose_answer_is_lost_is_unknown(outcome):
    world = begun(outcome, DONE)
    with pytest.raises(OutcomeUnknown):
        world.run(world.session.commit())
    assert len([body for _, body in world.sent if "COMMIT" in json.dumps(body)]) == 1
    assert not world.session.in_transaction


@pytest.mark.parametrize("outcome", [UNSENT, error(503, "NOT_READY", True), LOST[5], LOST[7]])
def test_a_commit_that_surely_did_not_run_is_a_transaction_that_is_lost(outcome):
    world = begun(outcome, DONE)
    with pytest.raises(TransactionLost):
        world.run(world.session.commit())
    world.run(world.session.rollback())


def test_a_statement_that_fails_leaves_the_transaction_open():
    world = begun(answer(failed("SQLITE_CONSTRAINT"), autocommit(False), baton="b2"), ENDED)
    with pytest.raises(IntegrityError):
        world.execute("INSERT INTO t VALUES (1)")
    assert world.session.is_open
    world.run(world.session.commit())
    assert world.sent[-1][1]["baton"] == "b2"


def test_a_statement_that_ends_the_transaction_by_itself_is_no_loss():
    world = begun(answer(failed("SQLITE_CONSTRAINT"), autocommit(True)))
    with pytest.raises(IntegrityError):
        world.execute("INSERT OR ROLLBACK INTO t VALUES (1)")
    assert not world.session.in_transaction


def test_rolling_back_never_fails():
    for outcome in (UNSENT, SENT, Reply(500, "", b"")):
        world = begun(outcome)
        world.run(world.session.rollback())
        assert world.types() == ["close"] and not world.session.in_transaction
        world.run(world.session.rollback())
        assert len(world.sent) == 2


def test_a_call_that_is_broken_off_loses_the_transaction():
    world = begun(OPEN)
    steps = world.session.execute("INSERT INTO t VALUES (2)")
    assert isinstance(next(steps), Send)
    steps.close()
    with pytest.raises(TransactionLost):
        world.execute("SELECT 1")


def test_what_cannot_be_sent_leaves_the_transaction_as_it_is():
    world = begun(ENDED)
    with pytest.raises(DataError):
        world.execute("INSERT INTO t VALUES (?)", 2**64)
    world.run(world.session.commit())


def test_savepoints_begin_a_transaction_around_them_unless_autocommit():
    world = World(BEGUN)
    world.execute("SAVEPOINT s")
    assert world.types() == ["batch", "get_autocommit"]
    world = World(OPEN, autocommit=True)
    world.execute("SAVEPOINT s")
    assert world.types() == ["execute", "get_autocommit"] and world.session.is_open


# -- many rows


def many(world, rows, sql="INSERT INTO t VALUES (?)"):
    return world.run(execute_many(world.session, sql, rows))


def obliging(wish):
    """A node that does everything it is told."""
    requests = json.loads(wish.body)["requests"]
    if requests[0]["type"] != "batch":
        return ENDED if len(requests) == 2 else answer(CLOSED)
    found = batch(len(requests[0]["batch"]["steps"]))
    if requests[-1]["type"] == "close":
        return answer(found, CLOSED)
    return answer(found, autocommit(False), baton="b")


def test_many_rows_are_one_request_and_one_transaction():
    world = World(obliging, autocommit=True)
    assert many(world, ([number] for number in range(100))).rowcount == 100
    steps = world.sent[0][1]["requests"][0]["batch"]["steps"]
    assert [steps[0]["stmt"]["sql"], steps[-2]["stmt"]["sql"], steps[-1]["stmt"]["sql"]] == [
        "BEGIN IMMEDIATE",
        "COMMIT",
        "ROLLBACK",
    ]
    assert all(step["condition"] == {"type": "ok", "step": number} for number, step in enumerate(steps[1:-1]))
    assert world.types() == ["batch", "close"]
    assert not world.session.in_transaction


def test_very_many_rows_are_several_requests_and_one_transaction():
    for options in ({"autocommit": True}, {}):
        world = World(obliging, **options)
        assert many(world, ([number] for number in range(2 * ROWS_MAX + 1))).rowcount == 2 * ROWS_MAX + 1
        assert len(world.sent) == (4 if options else 3)
        assert world.session.is_open is (not options)
    world = World(obliging)
    many(world, [["x" * (3 << 20)], ["y" * (3 << 20)]])
    assert len(world.sent) == 2


def test_a_row_that_fails_undoes_all_of_them_unless_a_transaction_was_open():
    world = World(
        obliging, lambda _: answer(batch(ROWS_MAX, errors=[3]), autocommit(False), baton="b"), DONE, autocommit=True
    )
    with pytest.raises(IntegrityError):
        many(world, ([number] for number in range(2 * ROWS_MAX)))
    assert world.types() == ["close"] and not world.session.in_transaction
    world = begun(answer(batch(2, errors=[1]), autocommit(False), baton="b2"))
    with pytest.raises(IntegrityError):
        many(world, [[1], [2]])
    assert world.session.is_open


def test_many_rows_whose_answer_is_lost_are_not_sent_again():
    world = World(SENT, autocommit=True)
    with pytest.raises(OutcomeUnknown):
        many(world, [[1]])
    assert len(world.sent) == 1


def test_only_what_writes_is_run_for_many_rows():
    world = World(obliging)
    for sql in ("SELECT ?", "COMMIT", "PRAGMA user_version = 1"):
        with pytest.raises(ProgrammingError):
            many(world, [[1]], sql)
    assert many(world, []).rowcount == 0
    assert world.sent == []


# -- nothing else


CODES = ["TRANSACTION_BUSY", "SQLITE_BUSY", "STREAM_EXPIRED", "OUTCOME_UNKNOWN", "WHATEVER"]
STATEMENTS = [
    "SELECT 1",
    "INSERT INTO t VALUES (1)",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "RELEASE s",
    "PRAGMA x",
]


def any_outcome(chance, wish):
    """Something that a bad network, or a bad server, may give."""
    requests = json.loads(wish.body)["requests"] if wish.body else []
    kind = chance.randrange(6)
    if kind == 0:
        return chance.choice([SENT, UNSENT])
    if kind == 1:
        return error(chance.choice([400, 401, 500, 503]), chance.choice(CODES), chance.random() < 0.5)
    if kind == 2:
        return Reply(chance.choice([200, 400, 502]), "data.1.1", chance.choice([b"", b"?", b"{}", b"[]"]))
    results = []
    for request in requests:
        if chance.random() < 0.2:
            results.append(failed(chance.choice(CODES)))
        elif request["type"] == "batch":
            count = len(request["batch"]["steps"])
            results.append(batch(count, errors=chance.choice([[], [0], [count - 2]])))
        else:
            results.append(autocommit(chance.random() < 0.5) if request["type"] == "get_autocommit" else ROWS)
    return answer(*results, baton=chance.choice([None, "b"]))


@pytest.mark.parametrize("seed", range(30))
def test_whatever_nodes_answer_only_errors_of_ours_come_out_and_no_write_is_sent_twice(seed):
    chance = random.Random(seed)
    world = World(
        lambda wish: any_outcome(chance, wish), nodes="pando://a,b", autocommit=chance.random() < 0.5, retry_s=2
    )
    for number in range(40):
        sql = chance.choice(STATEMENTS)
        text = f"{sql} -- {number}"
        stands_alone = (
            world.session.autocommit and not world.session.in_transaction and sql[:3] in {"INS", "COM", "REL"}
        )
        before = len(world.given)
        with contextlib.suppress(Error):
            world.execute(text)
        if stands_alone:
            assert sum(may_have_done(outcome) for outcome in world.given[before:]) <= 1
        if chance.random() < 0.2:
            world.run(world.session.rollback())
            assert not world.session.in_transaction
    assert len(world.given) > 20


def may_have_done(outcome):
    """Whether a write may have taken effect at a node that answered so."""
    if isinstance(outcome, Broken):
        return outcome.is_sent
    try:
        body = json.loads(outcome.body)
    except ValueError:
        return outcome.status != 429
    if not isinstance(body, dict):
        return True
    if outcome.status != 200:
        return not body.get("retryable")
    first = body["results"][0] if body.get("results") else {}
    return first.get("error", {}).get("code") != "TRANSACTION_BUSY"
