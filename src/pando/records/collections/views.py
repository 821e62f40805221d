"""The fields of a view collection, from its query, the names of its columns, and the collections that it reads.

A plain column of a collection becomes a copy of that field with an id of its own, so that what is hidden stays hidden;
an id of a collection under another name becomes a relation; count is a whole number, total a number, a CAST says what
it is; all else is JSON, sum and avg too, which have no value where there are no rows. Where the parts of a compound
disagree it is JSON, too. Who asks prepares the query, for SQLite to name its columns. Pure. Not here: reading the query
(`pando.records.collections.select_list`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection as Container
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace as replaced

from pando.clock import Random
from pando.records import model
from pando.records.collections import defaults, field_checks
from pando.records.collections.checks import view_refused
from pando.records.collections.select_list import Expression, Select, Shape, read_query
from pando.records.collections.sql_tokens import BadSql, tokens
from pando.records.model import Collection, Field, Schema
from pando.records.problems import REQUIRED, ValidationFailed

_NUMBERS: Final = frozenset({"total"})
_CASTS: Final[dict[str, Field]] = {
    **dict.fromkeys(("int", "integer"), model.NumberField(only_int=True)),
    **dict.fromkeys(("real", "numeric", "decimal"), model.NumberField()),
    "text": model.TextField(),
    **dict.fromkeys(("bool", "boolean"), model.BoolField()),
}
_JSON: Final = model.JsonField(max_size=1)
"""What a column is that says nothing of itself; its values are shown only, so there is nothing to limit."""
_CLONE: Final = "_clone_"
_CLONE_CHARS: Final = 4


def check_query(query: str) -> str:
    """Check that a text can be the query of a view, as far as that shows, and give it without what ends it.

    Raise ValidationFailed.
    """
    if not query.strip():
        raise ValidationFailed({"viewQuery": REQUIRED})
    _read(query)
    return query.strip().rstrip(";").rstrip()


def infer_fields(
    query: str, names: Sequence[str], schema: Schema, random: Random, before: Sequence[Field] = ()
) -> tuple[Field, ...]:
    """Make the fields of a view whose prepared query has columns of these names.

    `before` are its fields so far: those that stay the same keep their ids. Raise ValidationFailed.
    """
    parts = _read(query)
    _check_names(names)
    ids: set[str] = set()
    fields: list[Field] = []
    for place, name in enumerate(names):
        kinds = [_of_part(part, place, len(names), schema) for part in parts]
        field = _with_id(_named(_agreed(kinds), name), before, ids, random)
        ids.add(field.id)
        fields.append(field)
    return tuple(fields)


def _read(query: str) -> list[Select]:
    try:
        return read_query(query)
    except BadSql as error:
        raise view_refused(str(error)) from None


def _check_names(names: Sequence[str]) -> None:
    if defaults.ID not in names:
        raise ValidationFailed({**view_refused("there is no column id").data, "fields": field_checks.NO_KEY})
    twice = [name for name, count in Counter(name.lower() for name in names).items() if count > 1]
    if twice:
        raise view_refused(f"two columns are called {twice[0]}")


def in_order(views: Sequence[Collection]) -> tuple[Collection, ...]:
    """Put views behind those that they read, as far as they do not read each other."""
    waiting = list(views)
    done: list[Collection] = []
    while waiting:
        names = {each.name.lower() for each in waiting}
        ready = [each for each in waiting if not (_words(each.view_query) & names) - {each.name.lower()}]
        done += ready or waiting
        waiting = [each for each in waiting if ready and each not in ready]
    return tuple(done)


def _words(query: str) -> set[str]:
    """Name everything that a query could mean by a name."""
    try:
        return {token.name.lower() for token in tokens(query) if token.is_name}
    except BadSql:
        return set()


# -- one column -------------------------------------------------------------------------------------------------------


def _of_part(part: Select, place: int, width: int, schema: Schema) -> Field:
    """Give the nameless field that a column of one SELECT is."""
    if len(part.columns) != width:
        return _JSON
    found = part.columns[place]
    if found.shape is Shape.COLUMN:
        return _of_column(found, part, schema)
    if found.shape is Shape.CALL and found.name == "count":
        return model.NumberField(only_int=True)
    if found.shape is Shape.CALL and found.name in _NUMBERS:
        return model.NumberField()
    return _CASTS.get(found.name, _JSON) if found.shape is Shape.CAST else _JSON


def _of_column(found: Expression, part: Select, schema: Schema) -> Field:
    tables = [part.tables.get(found.table, "")] if found.table else list(part.tables.values())
    sources = [
        (collection, field)
        for table in tables
        if (collection := _collection(schema, table)) is not None
        if (field := _field(collection, found.name)) is not None
    ]
    if len(sources) != 1:
        return _JSON
    collection, field = sources[0]
    if field.name == defaults.ID:
        return model.RelationField(collection_id=collection.id, max_select=1)
    return replaced(field, id=_CLONE, system=False)


def _collection(schema: Schema, table: str) -> Collection | None:
    found = schema.find(table) if table else None
    return found if found is not None and found.name.lower() == table else None


def _field(collection: Collection, name: str) -> Field | None:
    return next((each for each in collection.fields if each.name.lower() == name), None)


def _agreed(kinds: Sequence[Field]) -> Field:
    """Give what the parts of a compound have in common."""
    first = kinds[0]
    fits = all(each.type == first.type and each.is_multiple == first.is_multiple for each in kinds)
    hidden = any(each.hidden for each in kinds)
    targets = {each.collection_id for each in kinds if isinstance(each, model.RelationField)}
    return replaced(first, hidden=hidden) if fits and len(targets) < 2 else replaced(_JSON, hidden=hidden)


def _named(kind: Field, name: str) -> Field:
    if name == defaults.ID:
        return model.TextField(name=name, system=True, required=True, primary_key=True, pattern=defaults.ID_PATTERN)
    return replaced(kind, name=name)


def _with_id(field: Field, before: Sequence[Field], taken: Container[str], random: Random) -> Field:
    if not field.id:
        return defaults.with_id(field, taken)
    old = next((each for each in before if each.name == field.name and each.id not in taken), None)
    if old is not None and old.id.startswith(_CLONE) and replaced(field, id=old.id) == old:
        return old
    while (made := _CLONE + defaults.secret(random, _CLONE_CHARS)) in taken:
        pass
    return replaced(field, id=made)
