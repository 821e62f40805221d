"""What the body of a create or update means for a record: values, and how they change.

Keys that are no fields are ignored, so are hidden fields unless a superuser asks, and what only the server sets. Not
here: keys and modifiers (`pando.records.fields.modifiers`), checks (`writing`), passwords (`auth_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pando.clock import Random
from pando.records.desk import Asking
from pando.records.fields import FieldValue, dates, ops
from pando.records.fields.autogenerate import made_up_on_create, made_up_on_update
from pando.records.fields.modifiers import Change, interpret, permitted, values_of
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
    changes = changes_of(collection, body, asking=asking, stored=stored, random=random)
    return _of_new(collection, changes, asking, random) if stored is None else draft_onto(stored, changes, asking)


def changes_of(
    collection: Collection, body: Mapping[str, Any], *, asking: Asking, stored: Record | None, random: Random
) -> dict[str, Change]:
    """Say what a body changes; without modifiers that does not depend on what is stored. Raises ApiError 400."""
    changes = interpret(collection, body, None if stored is None else stored.values, random)
    return changes if asking.is_superuser else permitted(collection, changes)


def draft_onto(stored: Record, changes: dict[str, Change], asking: Asking) -> Draft:
    """Put changes onto the stored record."""
    values, changed = {**stored.values, **values_of(changes)}, list(changes)
    if changed:
        made = made_up_on_update(stored.collection, dates.from_unix_ms(asking.now_ms))
        values.update(made)
        changed += [name for name in made if name not in changes]
    return Draft(values, changed, changes)


def _of_new(collection: Collection, changes: dict[str, Change], asking: Asking, random: Random) -> Draft:
    values: dict[str, FieldValue] = {each.name: ops(each).zero for each in collection.fields}
    values.update(values_of(changes))
    values.update(made_up_on_create(collection, values, dates.from_unix_ms(asking.now_ms), random))
    return Draft(values, [each.name for each in collection.fields], changes)
