"""What the body of a create or update request changes: plain keys, and `f+`, `+f`, `f-`, `f:autogenerate`.

`interpret` reads a body against the stored values and gives a `Change` per field. Keys are taken in sorted order, so
`+f` comes before `f`, and `f+`, `f-` and `f:autogenerate` behind it; a plain key forgets what came before it.

Two updates at the same time must not lose one another, though each was interpreted against what it read:

- A number that is only added to and subtracted from is a `delta`: the writer runs `n = n + ?`. If the field has bounds,
  the assignment also has a guard that the sum keeps within them.
- A list that is appended to or removed from is compared and set: `tags = ? WHERE tags IS <what was read>`. The lists
  are short, and what was validated (most values, related records) is then exactly what is written.

`assignment` gives both as a piece of SET and a guard for WHERE. An UPDATE that changes no row, though the record is
still there, met a change in between: the writer reads the row, interprets and validates again. The number of tries is
bounded by the writer; each failed one means that another writer has succeeded.

Pure. Not here: rules, hashing, storing files, SQL as a whole (`pando.records.writing`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, cast

from pando.clock import Random
from pando.records.engine import Value
from pando.records.fields import autogenerate, casting, jsontext
from pando.records.fields.choices import Choice, ChoiceOps
from pando.records.fields.ops import ops
from pando.records.fields.values import FieldValue, GeoPoint, NewFile, Number, PlainPassword
from pando.records.model import AutodateField, Collection, Field, NumberField, TextField


class Modifier(StrEnum):
    """What a key does to its field."""

    SET = ""
    PREPEND = "+f"
    APPEND = "f+"
    REMOVE = "f-"
    GENERATE = ":autogenerate"


@dataclass(frozen=True, slots=True)
class Change:
    """What becomes of one field.

    `value` is what it will hold if nobody else changes it meanwhile, and what is validated. `delta` is there if the
    stored number is added to; `needs_stored` says that `value` was made of the stored list.
    """

    field: Field
    value: FieldValue
    delta: Number | None = None
    needs_stored: bool = False


@dataclass(frozen=True, slots=True)
class Assignment:
    """`sql` belongs behind SET; `guard`, if any, joins the conditions behind WHERE with AND."""

    sql: str
    args: tuple[Value, ...]
    guard: str = ""
    guard_args: tuple[Value, ...] = ()


Changes = Mapping[str, Change]
"""By field name."""

_KINDS_WITH_LISTS: Final = frozenset(["select", "relation", "file"])
_PASSWORD: Final = "password"


def read_key(collection: Collection, key: str) -> tuple[Field, Modifier] | None:
    """Find the field that a key of a body speaks of, and what it does; None if it is no field's."""
    if (field := collection.field(key)) is not None:
        return field, Modifier.SET
    if key.endswith(Modifier.GENERATE) and (field := collection.field(key.removesuffix(Modifier.GENERATE))):
        return (field, Modifier.GENERATE) if isinstance(field, TextField) else None
    modifier = {"+": Modifier.APPEND, "-": Modifier.REMOVE}.get(key[-1:])
    if modifier and (field := collection.field(key[:-1])):
        return (field, modifier) if field.type in _KINDS_WITH_LISTS or isinstance(field, NumberField) else None
    if key[:1] == "+" and (field := collection.field(key[1:])):
        return (field, Modifier.PREPEND) if field.type in _KINDS_WITH_LISTS else None
    return None


def has_modifiers(collection: Collection, body: Mapping[str, object]) -> bool:
    """Tell whether what comes of a body depends on what is stored, or on chance."""
    read = (read_key(collection, key) for key in body)
    return any(each is not None and each[1] is not Modifier.SET for each in read)


def interpret(
    collection: Collection, body: Mapping[str, object], stored: Mapping[str, FieldValue] | None, random: Random
) -> dict[str, Change]:
    """Read a body: `stored` has the record's values, None for a new one. Moments that set themselves are left out.

    Raises ApiError 400 for malformed points and documents.
    """
    drafts: dict[str, _Draft] = {}
    for key in sorted(body):
        read = read_key(collection, key)
        if read is None or isinstance(read[0], AutodateField):
            continue
        field, modifier = read
        before = drafts.get(field.name) or _unchanged(field, stored)
        drafts[field.name] = _apply(before, modifier, body[key], random)
    return {name: draft.finish(is_new=stored is None) for name, draft in drafts.items()}


def permitted(collection: Collection, changes: Changes) -> dict[str, Change]:
    """Drop changes of hidden fields, which only superusers make; but a hidden password is its owner's to change."""
    return {
        name: change
        for name, change in changes.items()
        if not change.field.hidden or (collection.is_auth and name == _PASSWORD)
    }


def values_of(changes: Changes) -> dict[str, FieldValue]:
    """Give the values that fields will hold."""
    return {name: change.value for name, change in changes.items()}


def rule_body(collection: Collection, body: Mapping[str, object], changes: Changes) -> dict[str, object]:
    """Give the body as rules see it: results in place of modifiers, fields as JSON values, other keys as they came."""
    others = {key: value for key, value in body.items() if read_key(collection, key) is None}
    return others | {name: _for_rules(change.value) for name, change in changes.items()}


def assignment(change: Change, stored: Value = None) -> Assignment:
    """Give the SQL of a change; `stored` is what the column held when the change was interpreted."""
    column = quote(change.field.name)
    if change.delta is not None and isinstance(change.field, NumberField):
        amount = ops(change.field).to_column(change.delta)
        return _guarded_sum(change.field, column, amount)
    value = ops(change.field).to_column(change.value)
    if change.needs_stored:
        return Assignment(f"{column} = ?", (value,), f"{column} IS ?", (stored,))
    return Assignment(f"{column} = ?", (value,))


def quote(name: str) -> str:
    """Quote a name for SQL."""
    return '"' + name.replace('"', '""') + '"'


# -- one key ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Draft:
    """A field while keys are read. `is_set`: the body alone says what it holds."""

    field: Field
    value: FieldValue
    delta: Number = 0
    is_set: bool = False

    def finish(self, *, is_new: bool) -> Change:
        if self.is_set or is_new:
            return Change(self.field, self.value)
        if isinstance(self.field, NumberField):
            return Change(self.field, self.value, delta=self.delta)
        return Change(self.field, self.value, needs_stored=True)


def _unchanged(field: Field, stored: Mapping[str, FieldValue] | None) -> _Draft:
    zero: FieldValue = ops(field).zero
    return _Draft(field, zero if stored is None else stored.get(field.name, zero))


def _apply(before: _Draft, modifier: Modifier, raw: object, random: Random) -> _Draft:
    field = before.field
    if modifier is Modifier.SET:
        return _Draft(field, ops(field).normalise(raw), is_set=True)
    if isinstance(field, TextField):
        return _Draft(field, casting.to_text(raw) + autogenerate.from_field(field, random), is_set=True)
    if isinstance(field, NumberField):
        amount = casting.to_number(raw)
        return _add(before, -amount if modifier is Modifier.REMOVE else amount)
    return _edit(before, modifier, raw)


def _add(before: _Draft, amount: Number) -> _Draft:
    value = before.value if isinstance(before.value, int | float) else 0
    return replace(before, value=_sum(value, amount), delta=_sum(before.delta, amount))


def _sum(one: Number, other: Number) -> Number:
    return jsontext.number(float(one) + float(other))


def _edit(before: _Draft, modifier: Modifier, raw: object) -> _Draft:
    """Change a list, or the one value of a single field, which keeps the last of what comes out."""
    its = ops(before.field)
    if not isinstance(its, ChoiceOps):
        return before
    there, given = its.items(cast(Choice, before.value)), its.read_items(raw)
    if modifier is Modifier.REMOVE:
        names = {_name(each) for each in given}
        items = [each for each in there if _name(each) not in names]
    else:
        items = list(dict.fromkeys([*there, *given] if modifier is Modifier.APPEND else [*given, *there]))
    return replace(before, value=its.shape(items))


def _name(item: str | NewFile) -> str:
    return item if isinstance(item, str) else item.name


def _for_rules(value: FieldValue) -> object:
    if isinstance(value, PlainPassword):
        return value.text
    if isinstance(value, NewFile):
        return value.name
    if isinstance(value, GeoPoint):
        return {"lon": value.lon, "lat": value.lat}
    if isinstance(value, list):
        return [each.name if isinstance(each, NewFile) else each for each in value]
    return value


def _guarded_sum(field: NumberField, column: str, amount: Value) -> Assignment:
    total = f"(coalesce({column}, 0) + ?)"
    conditions: list[str] = []
    args: list[Value] = []
    if field.required:
        conditions.append(f"{total} <> 0")
        args.append(amount)
    if field.only_int:
        conditions.append(f"{total} = CAST({total} AS INTEGER)")
        args += [amount, amount]
    # Zero means "not set": bounds do not speak of it.
    for sign, bound in ((">=", field.min), ("<=", field.max)):
        if bound is not None:
            conditions.append(f"({total} = 0 OR {total} {sign} ?)")
            args += [amount, amount, bound]
    return Assignment(f"{column} = coalesce({column}, 0) + ?", (amount,), " AND ".join(conditions), tuple(args))
