"""One connection without its I/O: the state of its transaction, what is sent for each call, and when it is sent again.

Every call is a generator: it yields `Send` and `Pause`, is given what came of them, and returns the result; the sync
and the asyncio connection only carry that out. Clock and chance are passed in. The shells let in one call at a time.

    idle --first write, BEGIN--> open --COMMIT, ROLLBACK--> idle
                                 open --its node, its time, its request is lost--> lost --rollback--> idle

Not here: what an outcome means (`pando.client.judging`), batches (`pando.client.batching`).
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, TypeVar

import msgspec

from pando.client import wire
from pando.client.exceptions import LOSING_CODES, Error, OperationalError, TransactionLost, lost, make_error
from pando.client.judging import Broken, Effect, Reply, Send, judge, judge_inside, refused
from pando.client.nodes import Bookmarks, Nodes
from pando.client.results import EMPTY, Result, make_result
from pando.client.targets import Address, Target
from pando.client.texts import Kind, counts_rows, inserts, kind_of
from pando.client.values import Parameters, make_statement
from pando.clock import Random

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pause:
    """Have some time pass."""

    seconds: float


Outcome = Reply | Broken | None
Steps = Generator[Send | Pause, Outcome, T]
"""A call: what it wants done, and what it gives in the end."""

PAUSE_S_MIN: Final = 0.05
"""How long to wait when all nodes were tried in vain; doubled each time, with jitter."""
PAUSE_S_MAX: Final = 1.0
HEALTH_S: Final = 1.0
"""How long a node may take to say whether it is the primary."""
FAREWELL_S: Final = 2.0
"""How long the answer to a rollback may take: without it the transaction ends by its time."""
_ENDING: Final = frozenset({Kind.END, Kind.ROLLBACK})


class _Health(msgspec.Struct):
    role: str = ""


class Session:
    """See the module."""

    def __init__(
        self, target: Target, nodes: Nodes, bookmarks: Bookmarks, now: Callable[[], float], chance: Random
    ) -> None:
        self.target = target
        self.autocommit = target.autocommit
        self.isolation = target.isolation
        self._nodes = nodes
        self._bookmarks = bookmarks
        self._now = now
        self._chance = chance
        self._baton: str | None = None
        self._pinned: Address | None = None
        self._lost: TransactionLost | None = None

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open, or lost and not rolled back yet."""
        return self._pinned is not None or self._lost is not None

    @property
    def is_open(self) -> bool:
        """Whether a transaction is open."""
        return self._pinned is not None

    # -- calls --------------------------------------------------------------------------------------------------------

    def execute(self, sql: str, parameters: Parameters = ()) -> Steps[Result]:
        """Run one statement."""
        statement = make_statement(sql, parameters)
        kind = kind_of(sql)
        if kind is Kind.ROLLBACK and self.in_transaction:
            yield from self.rollback()
            return EMPTY
        self.check()
        if self._pinned is not None:
            effect = Effect.LASTING if kind in _ENDING else Effect.NONE
            answer = yield from self.inside([wire.execute(statement), wire.GET_AUTOCOMMIT], effect)
            return self._result(sql, answer.results[0])
        if kind in {Kind.BEGIN, Kind.BEGIN_READ} or (kind is Kind.SAVEPOINT and self.autocommit):
            answer = yield from self._open(wire.execute(statement), writes=kind is not Kind.BEGIN_READ)
            return self._result(sql, answer.results[0])
        if not self.autocommit and self._begins(kind):
            return (yield from self._execute_first(sql, statement))
        is_read = kind is Kind.READ
        requests = [wire.execute(statement), wire.CLOSE]
        answer, _ = yield from self.outside(requests, Effect.NONE if is_read else Effect.LASTING, writes=not is_read)
        return self._result(sql, answer.results[0])

    def begin(self, *, read_only: bool = False) -> Steps[None]:
        """Begin a transaction: one that holds the writer, or one that reads a snapshot of the node it is on."""
        self.check()
        yield from self.execute("BEGIN READONLY" if read_only else "BEGIN IMMEDIATE")

    def commit(self) -> Steps[None]:
        """Commit what is open; raises OutcomeUnknown when the answer does not come."""
        self.check()
        if self._pinned is not None:
            yield from self.execute("COMMIT")

    def rollback(self) -> Steps[None]:
        """Roll back what is open. Never fails: a transaction that cannot be reached is rolled back by its node."""
        node, baton = self._pinned, self._baton
        self._pinned = self._baton = self._lost = None
        if node is not None and baton is not None:
            yield from self._farewell(node, baton)

    def script(self, sql: str) -> Steps[None]:
        """Commit what is open, then run all statements of a text; what the text leaves open stays open."""
        yield from self.commit()
        answer = yield from self._open(wire.sequence(sql), writes=True, effect=Effect.LASTING)
        if (refusal := answer.results[0].error) is not None:
            raise refused(refusal)

    def check(self) -> None:
        """Raise TransactionLost if the transaction is lost and was not rolled back since."""
        if self._lost is not None:
            raise TransactionLost(self._lost.message, code=self._lost.code)

    def give_up(self, reason: str, *, is_loss: bool) -> Steps[None]:
        """Roll back what is open because a call was broken off; if more than that is lost, the program has to hear."""
        if self._pinned is not None:
            yield from self.rollback()
            if is_loss:
                self._lose(lost(reason))

    # -- inside of a transaction --------------------------------------------------------------------------------------

    def inside(self, requests: list[wire.Request], effect: Effect) -> Steps[wire.Answer]:
        """Run requests, the last of which asks for the state, in the open transaction; its loss is raised."""
        node, baton = self._pinned, self._baton
        assert node is not None
        body = wire.encode_pipeline(baton, requests)
        self._lose(lost("its last request was broken off"))  # until the answer says otherwise
        outcome = yield self._send(node, body, is_heard_out=True)
        assert outcome is not None
        self._lost = None
        verdict = judge_inside(node, self._note(outcome), effect, len(requests))
        if verdict.is_node_bad:
            self._nodes.failed(node, self._now())
        if verdict.answer is None:
            if isinstance(outcome, Reply) and baton is not None:
                yield from self._farewell(node, baton)  # it may be open still, and hold the writer
            assert verdict.error is not None
            if isinstance(verdict.error, TransactionLost):
                self._lost = verdict.error
            raise verdict.error
        refusal = verdict.answer.results[0].error
        self._keep(node, verdict.answer)
        if refusal is not None and self._pinned is None and refusal.code in LOSING_CODES:
            self._lost = lost(refusal.message, refusal.code)
            raise self._lost
        return verdict.answer

    def _keep(self, node: Address, answer: wire.Answer) -> None:
        """Take note of whether a transaction is open now; the last request has asked for it."""
        response = answer.results[-1].response
        is_open = response is not None and not response.is_autocommit and answer.baton is not None
        self._pinned, self._baton = (node, answer.baton) if is_open else (None, None)

    def _lose(self, error: TransactionLost) -> None:
        self._pinned = self._baton = None
        self._lost = error

    def _farewell(self, node: Address, baton: str) -> Steps[None]:
        outcome = yield self._send(node, wire.encode_pipeline(baton, [wire.CLOSE]), FAREWELL_S, is_heard_out=True)
        if isinstance(outcome, Reply):
            self._bookmarks.note(outcome.bookmark)

    # -- outside of any -----------------------------------------------------------------------------------------------

    def _begins(self, kind: Kind) -> bool:
        return kind in {Kind.WRITE, Kind.SAVEPOINT} or (kind is Kind.READ and self.isolation == "SERIALIZABLE")

    def _execute_first(self, sql: str, statement: wire.Statement) -> Steps[Result]:
        """Begin a transaction with its first statement; if that fails, nothing stays open."""
        answer = yield from self.open_with([statement])
        found = answer.step_results[1]
        assert found is not None
        return make_result(found, counts=counts_rows(sql), inserts=inserts(sql))

    def open_with(self, statements: list[wire.Statement]) -> Steps[wire.BatchRows]:
        """Begin a transaction with statements, in one request: all succeed and it is open, or nothing happened."""
        steps = chain([wire.Statement("BEGIN IMMEDIATE", want_rows=False), *statements])
        steps.append(wire.Step(wire.Statement("ROLLBACK", want_rows=False), _not_ok(len(statements))))
        answer = yield from self._open(wire.batch(steps), writes=True)
        return batch_of(answer.results[0], len(statements) + 1)

    def _open(self, request: wire.Request, *, writes: bool, effect: Effect = Effect.NONE) -> Steps[wire.Answer]:
        """Run a request that may leave a transaction open."""
        requests = [request, wire.GET_AUTOCOMMIT]
        answer, node = yield from self.outside(requests, effect, writes=writes, may_open=True)
        self._keep(node, answer)
        return answer

    def outside(
        self, requests: list[wire.Request], effect: Effect, *, writes: bool, may_open: bool = False
    ) -> Steps[tuple[wire.Answer, Address]]:
        """Run requests at any node; what surely had no effect is sent again for a while. Gives answer and node."""
        body = wire.encode_pipeline(None, requests)
        began = self._now()
        tried: set[Address] = set()
        rounds = 0
        while True:
            if writes:
                yield from self._find_primary()
            node = self._nodes.choose(self._now(), writes=writes, tried=tried)
            outcome = yield self._send(node, body, is_heard_out=may_open)
            assert outcome is not None
            verdict = judge(node, self._note(outcome), effect, len(requests))
            self._note_health(node, outcome, is_bad=verdict.is_node_bad)
            if verdict.answer is not None:
                return verdict.answer, node
            error = verdict.error
            assert error is not None
            if error.code in {"PRIMARY_UNAVAILABLE", "NOT_PRIMARY"}:
                self._nodes.forget_primary()
            tried.add(node)
            pause = 0.0
            if len(tried) >= len(self._nodes.addresses):
                tried.clear()
                pause = min(PAUSE_S_MIN * 2.0 ** min(rounds, 10), PAUSE_S_MAX) * (0.5 + self._chance.random() / 2)
                rounds += 1
            if not verdict.may_retry or self._now() + pause - began >= self.target.retry_s:
                raise _after(error, self._now() - began)
            if pause:
                yield Pause(pause)

    def _find_primary(self) -> Steps[None]:
        """Ask the nodes who is the primary, if that is due."""
        if not self._nodes.primary_is_wanted(self._now()):
            return
        for node in self._nodes.addresses:
            if self._nodes.is_away(node, self._now()):
                continue
            outcome = yield Send(node, "/health", {"accept-encoding": "identity"}, timeout_s=HEALTH_S)
            if isinstance(outcome, Broken):
                self._nodes.failed(node, self._now())
            elif outcome is not None and _role(outcome) == "primary":
                self._nodes.primary_is(node, self._now())
                return
        self._nodes.primary_is(None, self._now())

    # -- requests -----------------------------------------------------------------------------------------------------

    def _send(self, node: Address, body: bytes, timeout_s: float = 0.0, *, is_heard_out: bool = False) -> Send:
        target = self.target
        headers = {"content-type": "application/json", "accept-encoding": "identity", "x-namespace": target.database}
        if target.token:
            headers["authorization"] = f"Bearer {target.token}"
        if bookmark := self._bookmarks.of(target.database):
            headers["pando-bookmark"] = bookmark
        if target.freshness:
            headers["pando-freshness"] = target.freshness
        if target.durability:
            headers["pando-durability"] = target.durability
        return Send(node, wire.PATH, headers, body, timeout_s or target.timeout_s, is_heard_out)

    def _note(self, outcome: Reply | Broken) -> Reply | Broken:
        if isinstance(outcome, Reply):
            self._bookmarks.note(outcome.bookmark)
        return outcome

    def _note_health(self, node: Address, outcome: Reply | Broken, *, is_bad: bool) -> None:
        if is_bad:
            self._nodes.failed(node, self._now())
        elif isinstance(outcome, Reply):
            self._nodes.worked(node)

    def _result(self, sql: str, result: wire.Result) -> Result:
        if result.error is not None:
            raise refused(result.error)
        return make_result(wire.read_rows(result), counts=counts_rows(sql), inserts=inserts(sql))


def chain(statements: list[wire.Statement]) -> list[wire.Step]:
    """Make steps that each run only if the one before succeeded."""
    return [
        wire.Step(statement, wire.Condition("ok", step=number - 1) if number else None)
        for number, statement in enumerate(statements)
    ]


def _not_ok(step: int) -> wire.Condition:
    return wire.Condition("not", cond=wire.Condition("ok", step=step))


def batch_of(result: wire.Result, count: int) -> wire.BatchRows:
    """Read what a batch gave; raises the error of the first of its `count` steps that failed."""
    if result.error is not None:
        raise refused(result.error)
    found = wire.read_batch(result)
    for refusal in found.step_errors[:count]:
        if refusal is not None:
            raise refused(refusal)
    return found


def _role(outcome: Reply) -> str:
    try:
        return msgspec.json.decode(outcome.body, type=_Health).role if outcome.status == 200 else ""
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return ""


def _after(error: Error, seconds: float) -> Error:
    """Say in the error how long it was tried, if it was for long."""
    if seconds < 0.5 or not isinstance(error, OperationalError):
        return error
    words = f"{error.message} (tried for {seconds:.1f} s)"
    if type(error) is OperationalError:
        return OperationalError(words, code=error.code, retryable=error.retryable)
    return make_error(words, error.code)
