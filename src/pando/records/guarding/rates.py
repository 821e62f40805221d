"""Which rate limit a request falls under. Pure.

Of all rules that fit, one counts, the first in this order: `collection:action`, `*:action`, `METHOD /path`, `/path`,
then labels that end in `/` and begin the path, with a method before those without. A rule for `@guest` or `@auth` fits
callers of that kind only. Requests for different collections, and ways to the same one, are counted apart; a collection
is the same by its id, its name and its name in other letters, and HEAD is a GET.
Not here: counting (`counts`), who is never limited (`guard`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pando.records.app_settings import RateLimits, RateRule


@dataclass(frozen=True, slots=True, kw_only=True)
class Aim:
    """What a request is for: `route` is the pattern that it was found by, `actions` the collection's names for it."""

    method: str
    path: str
    named_path: str = ""
    """The same with the collection's name, however the caller called it."""
    route: str = ""
    collection_id: str = ""
    collection: str = ""
    actions: tuple[str, ...] = ()

    def key(self, rule: RateRule) -> str:
        """Tell apart what is counted apart."""
        if self.actions:
            return f"{rule.label}|{rule.audience}|{self.collection_id}|{self.route}|{','.join(self.actions)}"
        return f"{rule.label}|{rule.audience}"


def find_rule(limits: RateLimits, aim: Aim, *, is_signed_in: bool) -> RateRule | None:
    """Give the rule that a request falls under; None if it may be made as often as one likes."""
    audience = "@auth" if is_signed_in else "@guest"
    rules = [each for each in limits.rules if each.audience in ("", audience)]
    by_label: dict[str, RateRule] = {}
    for each in rules:
        by_label.setdefault(each.label, each)
    for label in _labels(aim):
        if label in by_label:
            return by_label[label]
    folders = [path.rstrip("/") + "/" for path in _paths(aim)]
    for start in (*(f"{_method(aim)} {path}" for path in folders), *folders):
        for each in rules:
            if each.label.endswith("/") and start.startswith(each.label):
                return each
    return None


def _labels(aim: Aim) -> Iterator[str]:
    for action in aim.actions:
        yield f"{aim.collection}:{action}"
    for action in aim.actions:
        yield f"*:{action}"
    for path in _paths(aim):
        yield f"{_method(aim)} {path}"
    yield from _paths(aim)


def _paths(aim: Aim) -> tuple[str, ...]:
    return (aim.path, aim.named_path) if aim.named_path not in ("", aim.path) else (aim.path,)


def _method(aim: Aim) -> str:
    return "GET" if aim.method == "HEAD" else aim.method
