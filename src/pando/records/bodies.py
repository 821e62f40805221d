"""What the body of a create or update means for a record: values, and how they change.

Keys that are no fields are ignored, so are hidden fields unless a superuser asks, and what only the server sets. Not
here: modifiers (`pando.records.fields.modifiers`), checks (`writing`), passwords (`auth_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random  # noqa: TID251 - only the type; the generator is passed in
from typing import Any, Final

from pando.records.desk import Asking
from pando.records.engine import Value
from pando.records.fields import FieldValue, dates, ops
from pando.records.fields.autogenerate import made_up_on_create, made_up_on_update
from pando.records.fields.values import PlainPassword
from pando.records.model import AutodateField, Collection, Field
from pando.records.problems import Problem
from pando.records.record import Record

_SECRET: Final = frozenset({"tokenKey"})


@dataclass(frozen=True, slots=True)
class Assignment:
    """What a column is set to, in SQL that reads the stored value."""

    sql: str
    args: tuple[Value, ...]


@dataclass(slots=True)
class Draft:
    """A record as it is to become. `changed` names what is written, in the order of the fields."""

    values: dict[str, FieldValue]
    changed: list[str]
    assignments: dict[str, Assignment] = field(default_factory=dict)
    problems: dict[str, Problem] = field(default_factory=dict)


def draft_of(
    collection: Collection, body: Mapping[str, Any], *, asking: Asking, stored: Record | None, random: Random
) -> Draft:
    """Put a body onto the stored record, or onto a blank one. Raises ApiError 400 for malformed values."""
    now = dates.from_unix_ms(asking.now_ms)
    if stored is None:
        values: dict[str, FieldValue] = {each.name: ops(each).zero for each in collection.fields}
        draft = Draft(values, [each.name for each in collection.fields])
    else:
        draft = Draft(dict(stored.values), [])
    for each in collection.fields:
        if each.name in body and _may_set(each, collection, asking):
            draft.values[each.name] = ops(each).normalise(body[each.name])
            if stored is not None:
                draft.changed.append(each.name)
    made = (
        made_up_on_create(collection, draft.values, now, random)
        if stored is None
        else made_up_on_update(collection, now)
    )
    if stored is None or draft.changed:
        draft.values.update(made)
        draft.changed += [name for name in made if name not in draft.changed]
    return draft


def _may_set(each: Field, collection: Collection, asking: Asking) -> bool:
    if isinstance(each, AutodateField):
        return False
    if collection.is_auth and each.name in _SECRET:
        return asking.is_superuser
    return asking.is_superuser or not each.hidden or each.type == "password"


def shown_body(collection: Collection, body: Mapping[str, Any], draft: Draft | None) -> dict[str, Any]:
    """Give the body as rules see it (`@request.body`): fields in their JSON form, the rest as it came."""
    known = collection.by_name
    found: dict[str, Any] = {}
    for name, raw in body.items():
        each = known.get(name)
        if each is None:
            found[name] = raw
            continue
        value = draft.values[name] if draft is not None else ops(each).normalise(raw)
        found[name] = value.text if isinstance(value, PlainPassword) else ops(each).to_json(value)
    return found
