"""Whether the options of a field can be, by type. Gives problems by option name.

Limits that are not said by a field (0 or null) are not checked. Pure. Not here: names, ids and lists of fields
(`pando.records.collections.field_checks`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pando.records import model
from pando.records.collections import defaults
from pando.records.collections.asking import Asked, Found, gathered
from pando.records.model import Collection, Field
from pando.records.problems import REQUIRED, Problem

SAFE_INT_MAX: Final = 2**53 - 1
"""Largest whole number that JavaScript holds exactly."""
PASSWORD_CHARS_MAX: Final = 71
COST_MIN, COST_MAX = 4, 31
"""What bcrypt takes."""

Key = tuple[str, Found]

_THUMB: Final = re.compile(r"(\d{1,5})x(\d{1,5})[tbf]?")
_DOMAIN: Final = re.compile(r"(?=.{1,253}$)(?:(?!-)[A-Za-z0-9_-]{1,63}(?<!-)\.)+[A-Za-z]{2,63}")
_EMPTY: Final = Problem("validation_empty", "Must be empty.")
_NO_REGEX: Final = Problem("validation_invalid_regex", "This is no regular expression that can be used.")
_NO_PATTERN: Final = Problem("validation_invalid_autogenerate_pattern", "No text can be made from this pattern.")
_BAD_VALUE: Final = Problem(
    "validation_invalid_autogenerate_pattern_value", "What is made from this pattern is not a valid value."
)
_SECOND_KEY: Final = Problem("validation_unsupported_composite_pk", "There can be one primary key only.")
_KEY_NAME: Final = Problem("validation_in_invalid", 'The primary key must be called "id".')
_NEVER: Final = Problem(REQUIRED.code, "One of onCreate and onUpdate must be on.")
_NOT_WHOLE: Final = Problem("validation_only_int_constraint", "Must be a whole number.")
_NO_DOMAIN: Final = Problem("validation_is_domain", "Must be a domain.")
_RELATION_CHANGED: Final = Problem("validation_field_relation_change", "The target of a relation cannot be changed.")
_NO_COLLECTION: Final = Problem("validation_field_relation_missing_collection", "There is no such collection.")
_TO_VIEW: Final = Problem(
    "validation_relation_field_non_view_base_collection", "Only views can have relations to views."
)
_NO_SIZE: Final = Problem("validation_match_invalid", "Must be WxH, WxHt, WxHb or WxHf.")
_ZERO_SIZE: Final = Problem("validation_not_in_invalid", "Width and height cannot both be 0.")


@dataclass(frozen=True, slots=True)
class Around:
    """What there is besides the field."""

    collection: Collection
    old: Collection | None
    by_id: Mapping[str, Collection]
    """All collections, the new definition among them."""
    asked: Asked


def check(field: Field, around: Around) -> Iterator[Key]:
    """Name what is wrong with the options of a field."""
    checker = _CHECKERS.get(type(field))
    return iter(()) if checker is None else checker(field, around)


# -- common ----------------------------------------------------------------------------------------------------------


def at_least(value: float | None, least: float) -> Found:
    """Check a lower bound, unless the value is not said."""
    if not value or value >= least:
        return None
    text = f"Must be no less than {least}."
    return Problem("validation_min_greater_equal_than_required", text, {"threshold": least})


def at_most(value: float | None, most: float) -> Found:
    """Check an upper bound, unless the value is not said."""
    if not value or value <= most:
        return None
    text = f"Must be no greater than {most}."
    return Problem("validation_max_less_equal_than_required", text, {"threshold": most})


def between(value: int, least: int, most: int) -> Found:
    """Check both bounds, unless the value is not said."""
    return at_least(value, least) or at_most(value, most)


def _bounds(least: int, most: int) -> Iterator[Key]:
    yield "min", between(least, 0, SAFE_INT_MAX)
    yield "max", between(most, least, SAFE_INT_MAX)


def _size(field: Any) -> Iterator[Key]:  # noqa: ANN401 - one of three types
    yield "maxSize", between(field.max_size, 0, SAFE_INT_MAX)


def _plain(field: model.EditorField | model.JsonField, around: Around) -> Iterator[Key]:
    return _size(field)


# -- text-like -------------------------------------------------------------------------------------------------------


def _text(field: model.TextField, around: Around) -> Iterator[Key]:
    yield from _bounds(field.min, field.max)
    yield "pattern", _pattern(field.pattern, around) or (REQUIRED if field.primary_key and not field.pattern else None)
    yield "autogeneratePattern", _generated(field, around)
    if field.primary_key:
        if field.name != defaults.ID:
            yield "name", _KEY_NAME
        yield "primaryKey", _other_key(around)
        yield "required", None if field.required else REQUIRED
        yield "hidden", _EMPTY if field.hidden else None


def _pattern(pattern: str, around: Around) -> Found:
    return None if not pattern or around.asked.pattern(pattern) else _NO_REGEX


def _generated(field: model.TextField, around: Around) -> Found:
    if not field.autogenerate_pattern:
        return None
    if not around.asked.pattern(field.autogenerate_pattern):
        return _NO_REGEX
    made = around.asked.generate(field.autogenerate_pattern)
    if made is None:
        return _NO_PATTERN
    usable = not field.pattern or around.asked.pattern(field.pattern)
    return _BAD_VALUE if usable and not around.asked.takes(field, made) else None


def _other_key(around: Around) -> Found:
    keys = [each for each in around.collection.fields if isinstance(each, model.TextField) and each.primary_key]
    return _SECOND_KEY if len(keys) > 1 else None


def _domains(field: model.EmailField | model.UrlField, around: Around) -> Iterator[Key]:
    only, without = field.only_domains or (), field.except_domains or ()
    yield "exceptDomains", _EMPTY if only and without else _each(without, _domain)
    yield "onlyDomains", _EMPTY if only and without else _each(only, _domain)


def _domain(text: str) -> Found:
    return None if _DOMAIN.fullmatch(text) else _NO_DOMAIN


def _each(values: Sequence[str], checker: Callable[[str], Found]) -> Found:
    return gathered({str(place): checker(each) for place, each in enumerate(values)})


def _password(field: model.PasswordField, around: Around) -> Iterator[Key]:
    yield "min", between(field.min, 1, PASSWORD_CHARS_MAX)
    yield "max", between(field.max, max(field.min, 1), PASSWORD_CHARS_MAX)
    yield "cost", between(field.cost, COST_MIN, COST_MAX)
    yield "pattern", _pattern(field.pattern, around)


# -- numbers and dates -----------------------------------------------------------------------------------------------


def _number(field: model.NumberField, around: Around) -> Iterator[Key]:
    yield "min", _whole(field.min, field)
    wrong = field.min is not None and field.max is not None and field.max < field.min
    yield "max", _whole(field.max, field) or (_under(field.min) if wrong else None)


def _whole(value: float | None, field: model.NumberField) -> Found:
    return _NOT_WHOLE if field.only_int and value is not None and not float(value).is_integer() else None


def _under(least: float | None) -> Problem:
    shown = int(least) if least is not None and float(least).is_integer() else least
    return Problem("validation_min_number_constraint", f"Must be no less than {shown}.", {"min": shown})


def _autodate(field: model.AutodateField, around: Around) -> Iterator[Key]:
    if not (field.on_create or field.on_update):
        yield "onCreate", _NEVER
        yield "onUpdate", _NEVER


# -- choices ---------------------------------------------------------------------------------------------------------


def _select(field: model.SelectField, around: Around) -> Iterator[Key]:
    yield "values", None if field.values else REQUIRED
    yield "maxSelect", between(field.max_select, 0, max(len(field.values), 1))


def _relation(field: model.RelationField, around: Around) -> Iterator[Key]:
    yield "collectionId", _target(field, around)
    yield "minSelect", between(field.min_select, 0, SAFE_INT_MAX)
    needed = REQUIRED if field.min_select > 0 and not field.max_select else None
    yield "maxSelect", needed or between(field.max_select, field.min_select, SAFE_INT_MAX)


def _target(field: model.RelationField, around: Around) -> Found:
    if not field.collection_id:
        return REQUIRED
    before = _field_by_id(around.old.fields, field.id) if around.old is not None else None
    if isinstance(before, model.RelationField) and not around.collection.is_view:
        return _RELATION_CHANGED if before.collection_id != field.collection_id else None
    target = around.by_id.get(field.collection_id)
    if target is None:
        return _NO_COLLECTION
    return _TO_VIEW if target.is_view and not around.collection.is_view else None


def _field_by_id(fields: Iterable[Field], own_id: str) -> Field | None:
    return next((each for each in fields if each.id == own_id), None)


def _file(field: model.FileField, around: Around) -> Iterator[Key]:
    yield from _size(field)
    yield "maxSelect", between(field.max_select, 0, SAFE_INT_MAX)
    yield "thumbs", _each(field.thumbs or (), _thumb)


def _thumb(text: str) -> Found:
    found = _THUMB.fullmatch(text)
    if found is None:
        return _NO_SIZE
    return _ZERO_SIZE if int(found[1]) == int(found[2]) == 0 else None


_CHECKERS: Final[dict[type[Field], Callable[[Any, Around], Iterator[Key]]]] = {
    model.TextField: _text,
    model.EditorField: _plain,
    model.JsonField: _plain,
    model.NumberField: _number,
    model.EmailField: _domains,
    model.UrlField: _domains,
    model.AutodateField: _autodate,
    model.SelectField: _select,
    model.RelationField: _relation,
    model.FileField: _file,
    model.PasswordField: _password,
}
