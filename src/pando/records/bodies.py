"""What the body of a create or update means for a record: values, and how they change.

Keys that are no fields are ignored, so are hidden fields unless a superuser asks, and what only the server sets. Not
here: keys and modifiers (`pando.records.fields.modifiers`), checks (`writing`), passwords (`auth_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - only the type; the generator is passed in
from typing import Any

from pando.records.desk import Asking
from pando.records.fields import FieldValue, dates, ops
from pando.records.fields.autogenerate import made_up_on_create, made_up_on_update
from pando.records.fields.modifiers import Change, interpret, permitted, rule_body, values_of
from pando.records.model import Collection
from pando.records.problems import Problem
from pando.records.record import Record


@dataclass(slots=True)
class Draft:
    """A record as it is to become. `changed` names what is written, `changes` says how where a body told."""

    values: dict[str, FieldValue]
    changed: list[str]
    changes: dict[str, Change]
    problems: dict[str, Problem] = field(default_factory=dict)


def draft_of(
    collection: Collection, body: Mapping[str, Any], *, asking: Asking, stored: Record | None, random: Random
) -> Draft:
    """Put a body onto the stored record, or onto a blank one. Raises ApiError 400 for malformed values."""
    now = dates.from_unix_ms(asking.now_ms)
    changes = interpret(collection, body, None if stored is None else stored.values, random)
    if not asking.is_superuser:
        changes = permitted(collection, changes)
    if stored is None:
        values: dict[str, FieldValue] = {each.name: ops(each).zero for each in collection.fields}
        changed = [each.name for each in collection.fields]
    else:
        values, changed = dict(stored.values), list(changes)
    values.update(values_of(changes))
    made = made_up_on_create(collection, values, now, random) if stored is None else made_up_on_update(collection, now)
    if changed:
        values.update(made)
        changed += [name for name in made if name not in changed]
    return Draft(values, changed, changes)


def shown_body(collection: Collection, body: Mapping[str, Any], draft: Draft) -> dict[str, object]:
    """Give the body as rules see it (`@request.body`): fields in their JSON form, the rest as it came."""
    return rule_body(collection, body, draft.changes)
