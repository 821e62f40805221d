"""Whether a sign-in is done, or needs another method: the decision alone. Pure.

With a second factor on, the first method that succeeds leaves a row in `_mfas` and its id with the client; the client
comes back with another method and that id.
Not here: the rows, and the rule that says for which records it is on (both given).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from pando.records.model import MfaOptions
from pando.records.problems import bad_request


class Method(StrEnum):
    """How somebody signed in, as `_mfas` keeps it."""

    PASSWORD = "password"
    OAUTH2 = "oauth2"
    OTP = "otp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Begun:
    """A row of `_mfas`: who signed in by what, and when (seconds since 1970)."""

    id: str
    collection_id: str
    record_id: str
    method: str
    created: float


class Step(StrEnum):
    """What to do after a method has succeeded."""

    SIGN_IN = "sign_in"
    """Nothing more is needed."""
    BEGIN = "begin"
    """Keep a row in `_mfas`, answer 401 with its id."""
    FINISH = "finish"
    """Sign in, and remove the row."""


def decide(
    options: MfaOptions,
    *,
    is_rule_met: bool,
    method: Method,
    collection_id: str,
    record_id: str,
    asked_id: str,
    begun: Begun | None,
    now: float,
) -> Step:
    """Decide after `method` has proved who `record_id` is. `begun` is the row that `asked_id` names, if there is one.

    Raises 400 for an id that is unknown, too old, another record's, or begun by the same method.
    """
    if not options.enabled or not is_rule_met:
        return Step.SIGN_IN
    if not asked_id:
        return Step.BEGIN
    is_known = begun is not None and (begun.id, begun.collection_id, begun.record_id) == (
        asked_id,
        collection_id,
        record_id,
    )
    if begun is None or not is_known or now >= begun.created + options.duration:
        raise bad_request("The first step of this sign-in is not known, or was too long ago.")
    if begun.method == method:
        raise bad_request("Take another method than in the first step.")
    return Step.FINISH
