"""What an answer, or the lack of one, means for a request: done, surely not done, or not known. Pure.

Everything about trying again rests on this page. What surely had no effect may be sent again; what may have had one
never is. Not here: when and where it is sent again (`pando.client.session`).
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Final

from pando.client import wire
from pando.client.exceptions import (
    RETRYABLE_CODES,
    Error,
    InterfaceError,
    OperationalError,
    OutcomeUnknown,
    lost,
    make_error,
    unknown,
)
from pando.client.targets import Address


class Effect(enum.Enum):
    """What a request may leave behind when its answer is lost."""

    NONE = "none"
    """It reads, or it opens a transaction that nobody can commit any more: it may be sent again."""
    LASTING = "lasting"
    """It writes, or commits: it must not be sent twice."""


@dataclass(frozen=True, slots=True)
class Send:
    """Have this sent and answered."""

    node: Address
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    timeout_s: float = 60.0
    is_heard_out: bool = False
    """A transaction depends on the answer: who breaks the call off must still hear it, to end that."""

    @property
    def method(self) -> str:
        """GET for what has no body."""
        return "POST" if self.body else "GET"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer came."""

    status: int
    bookmark: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """None came. `is_sent` False: the whole request cannot have arrived."""

    reason: str
    is_sent: bool


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do: use the answer, try again, or raise the error."""

    answer: wire.Answer | None = None
    error: Error | None = None
    may_retry: bool = False
    is_node_bad: bool = False
    """The node should be left out for a while."""


_UNSURE_STATUS: Final = frozenset({500, 502, 503, 504})
"""Without a code of ours somebody between says this, perhaps after the request went on."""
_AWAY_STATUS: Final = frozenset({429, 502, 503, 504})
_BAD_NODE_CODES: Final = frozenset({"NOT_READY", "OVERLOADED"})


def judge(node: Address, outcome: Reply | Broken, effect: Effect, count: int) -> Verdict:
    """Judge what came of a request outside of any transaction; `count`: its requests."""
    verdict = _judge_transport(node, outcome, effect, count)
    if verdict.answer is not None and verdict.answer.results:
        refusal = verdict.answer.results[0].error
        if refusal is not None and refusal.code in RETRYABLE_CODES:
            return Verdict(error=refused(refusal), may_retry=True)
    return verdict


def judge_inside(node: Address, outcome: Reply | Broken, effect: Effect, count: int) -> Verdict:
    """Judge what came of a request inside of a transaction: any failure loses it, nothing is tried again."""
    verdict = _judge_transport(node, outcome, effect, count)
    error = verdict.error
    if error is None:
        return verdict
    if effect is Effect.LASTING:
        if isinstance(error, OutcomeUnknown):
            return Verdict(error=error, is_node_bad=verdict.is_node_bad)
        if isinstance(error, InterfaceError):
            return Verdict(error=unknown(error.message, error.code))
    return Verdict(error=lost(error.message, error.code), is_node_bad=verdict.is_node_bad)


def _judge_transport(node: Address, outcome: Reply | Broken, effect: Effect, count: int) -> Verdict:
    if isinstance(outcome, Broken):
        return _judge_broken(node, outcome, effect)
    if outcome.status != 200:
        return _judge_status(node, outcome, effect)
    try:
        return Verdict(answer=wire.decode_answer(outcome.body, count))
    except InterfaceError as error:
        return Verdict(error=error)


def _judge_broken(node: Address, outcome: Broken, effect: Effect) -> Verdict:
    reason = f"{node.url}: {outcome.reason}"
    if outcome.is_sent and effect is Effect.LASTING:
        return Verdict(error=unknown(reason), is_node_bad=True)
    return Verdict(error=OperationalError(reason, code="UNREACHABLE", retryable=True), may_retry=True, is_node_bad=True)


def _judge_status(node: Address, outcome: Reply, effect: Effect) -> Verdict:
    body = wire.read_error(outcome.body)
    message = body.message or body.error or f"status {outcome.status}"
    reason = f"{node.url}: {message}"
    if body.code is None or body.retryable is None:
        return _judge_stranger(outcome.status, reason, body, effect)
    error = make_error(reason, body.code, retryable=body.retryable)
    may_retry = body.retryable or (body.code == "OUTCOME_UNKNOWN" and effect is Effect.NONE)
    return Verdict(error=error, may_retry=may_retry, is_node_bad=may_retry and body.code in _BAD_NODE_CODES)


def _judge_stranger(status: int, reason: str, body: wire.ErrorBody, effect: Effect) -> Verdict:
    """Judge an error that has not our form: a balancer's, another server's, or plain text about the protocol."""
    if status in _UNSURE_STATUS and effect is Effect.LASTING:
        return Verdict(error=unknown(reason, f"HTTP_{status}"), is_node_bad=True)
    is_away = status in _AWAY_STATUS
    code = body.code or ("HRANA_PROTO_ERROR" if status == 400 else f"HTTP_{status}")
    error = make_error(reason, code, retryable=is_away)
    return Verdict(error=error, may_retry=is_away, is_node_bad=is_away and status != 429)


def refused(refusal: wire.Refusal, *, is_inside: bool = False) -> Error:
    """Make the exception for a request, or a step, that a node refused."""
    code = refusal.code or "SQLITE_ERROR"
    return make_error(
        refusal.message, code, refusal.extended_code, retryable=code in RETRYABLE_CODES, is_inside=is_inside
    )
