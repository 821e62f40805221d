"""The SQL that brings tables, views and rows of `_collections` from one definition to another, in order.

All statements of one change belong into one transaction. SQLite refuses to alter tables while a view does not fit, so
views are dropped first and made again last; indexes likewise when columns change. Columns that are renamed crosswise go
through names that no field can have. Values of select, relation and file fields that become single or multiple are
rewritten: a single one becomes a list of one, a list leaves its last. Pure. Not here: whether a change is allowed
(`pando.records.collections.checks`), and whether views still can be read (the caller prepares them).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from pando.errors import invariant
from pando.records.collections import indexes, rows
from pando.records.collections.defaults import ID
from pando.records.collections.sql_tokens import quote
from pando.records.engine import Statement, Value
from pando.records.model import Collection, Field

ColumnSql = Callable[[Field], str]
"""Gives type, default and constraints of a field's column (`FieldOps.column_sql`)."""


@dataclass(frozen=True, slots=True)
class ColumnChanges:
    """How the columns of one table change."""

    removed: tuple[Field, ...]
    renamed: tuple[tuple[Field, Field], ...]
    added: tuple[Field, ...]
    converted: tuple[Field, ...]

    @property
    def is_empty(self) -> bool:
        """Whether all columns stay as they are."""
        return not (self.removed or self.renamed or self.added or self.converted)


# -- whole changes ----------------------------------------------------------------------------------------------------


def create(collection: Collection, column_sql: ColumnSql) -> list[Statement]:
    """Make a collection: its table with indexes, or its view, and its row."""
    if collection.is_view:
        return [create_view(collection), insert_row(collection)]
    return [
        create_table(collection, column_sql),
        *(create_index(collection, each) for each in collection.indexes),
        insert_row(collection),
    ]


def change(
    old: Collection,
    new: Collection,
    column_sql: ColumnSql,
    *,
    views: Sequence[Collection] = (),
    previous: Sequence[Value] | None = None,
) -> list[Statement]:
    """Bring a collection from one definition to another of the same type.

    `views` are the other view collections of the database, `previous` is the row so far, for the keys in it that we do
    not know.
    """
    invariant(old.type is new.type, "a collection keeps its type", collection=old.name)
    table = _change_view(old, new) if new.is_view else _change_table(old, new, column_sql, views)
    return [*table, update_row(old.id, new, previous)]


def delete(collection: Collection) -> list[Statement]:
    """Remove a collection with all its rows; views that read it must be gone."""
    kind = "VIEW" if collection.is_view else "TABLE"
    return [Statement(f"DROP {kind} IF EXISTS {quote(collection.name)}"), delete_row(collection)]


# -- rows of _collections ---------------------------------------------------------------------------------------------


def insert_row(collection: Collection) -> Statement:
    """Add the row of a collection."""
    names = ", ".join(quote(name) for name in rows.COLUMNS)
    places = ", ".join("?" for _ in rows.COLUMNS)
    return Statement(f"INSERT INTO `_collections` ({names}) VALUES ({places})", rows.to_row(collection))


def update_row(id: str, collection: Collection, previous: Sequence[Value] | None = None) -> Statement:
    """Change the row of a collection."""
    names = ", ".join(f"{quote(name)} = ?" for name in rows.COLUMNS)
    return Statement(f"UPDATE `_collections` SET {names} WHERE `id` = ?", (*rows.to_row(collection, previous), id))


def delete_row(collection: Collection) -> Statement:
    """Remove the row of a collection."""
    return Statement("DELETE FROM `_collections` WHERE `id` = ?", (collection.id,))


# -- tables -----------------------------------------------------------------------------------------------------------


def create_table(collection: Collection, column_sql: ColumnSql) -> Statement:
    """Make the table; its columns are in the order of their names, as in PocketBase's."""
    fields = sorted(collection.fields, key=lambda each: each.name)
    columns = ", ".join(f"{quote(each.name)} {column_sql(each)}" for each in fields)
    return Statement(f"CREATE TABLE {quote(collection.name)} ({columns})")


def create_index(collection: Collection, statement: str) -> Statement:
    """Make one index on the collection's table."""
    index = indexes.parse(indexes.retabled(statement, collection.name))
    invariant(index is not None, "indexes are checked before they are made", statement=statement)
    return Statement(index.sql() if index else "")


def drop_index(statement: str) -> list[Statement]:
    """Remove an index, if the statement names one."""
    index = indexes.parse(statement)
    return [Statement(f"DROP INDEX IF EXISTS {quote(index.name)}")] if index else []


def column_changes(old: Collection, new: Collection) -> ColumnChanges:
    """Compare columns: a field is the same if its id and type are, and the primary key always is."""
    before = {_identity(each): each for each in old.fields}
    after = {_identity(each): each for each in new.fields}
    kept = [(before[key], after[key]) for key in after if key in before]
    return ColumnChanges(
        removed=tuple(each for key, each in before.items() if key not in after),
        renamed=tuple((one, other) for one, other in kept if one.name != other.name),
        added=tuple(each for key, each in after.items() if key not in before),
        converted=tuple(other for one, other in kept if one.is_multiple != other.is_multiple),
    )


def _identity(each: Field) -> tuple[str, str]:
    return (ID, "") if each.name == ID else (each.id, each.type)


def _change_table(
    old: Collection, new: Collection, column_sql: ColumnSql, views: Sequence[Collection]
) -> list[Statement]:
    changes = column_changes(old, new)
    if changes.is_empty and old.name == new.name:
        return _change_indexes(old, new)
    return [
        *(drop_view(each) for each in views),
        *(each for statement in old.indexes for each in drop_index(statement)),
        *rename_table(old.name, new.name),
        *_change_columns(new.name, changes, column_sql),
        *(create_index(new, statement) for statement in new.indexes),
        *(create_view(each) for each in views),
    ]


def _change_indexes(old: Collection, new: Collection) -> list[Statement]:
    gone = [each for each in old.indexes if each not in new.indexes]
    come = [each for each in new.indexes if each not in old.indexes]
    return [
        *(each for statement in gone for each in drop_index(statement)),
        *(create_index(new, statement) for statement in come),
    ]


def rename_table(old: str, new: str) -> list[Statement]:
    """Rename a table; a change of case alone takes a detour, as SQLite finds the new name taken."""
    if old == new:
        return []
    if old.lower() != new.lower():
        return [_rename_table(old, new)]
    return [_rename_table(old, detour := _nobodys_name(0)), _rename_table(detour, new)]


def _rename_table(old: str, new: str) -> Statement:
    return Statement(f"ALTER TABLE {quote(old)} RENAME TO {quote(new)}")


def _change_columns(table: str, changes: ColumnChanges, column_sql: ColumnSql) -> list[Statement]:
    return [
        *(_drop_column(table, each.name) for each in changes.removed),
        *_rename_columns(table, [(one.name, other.name) for one, other in changes.renamed]),
        *(_add_column(table, each.name, column_sql(each)) for each in changes.added),
        *(each for field in changes.converted for each in _convert(table, field, column_sql(field))),
    ]


def _drop_column(table: str, name: str) -> Statement:
    return Statement(f"ALTER TABLE {quote(table)} DROP COLUMN {quote(name)}")


def _add_column(table: str, name: str, sql: str) -> Statement:
    return Statement(f"ALTER TABLE {quote(table)} ADD COLUMN {quote(name)} {sql}")


def _rename_column(table: str, old: str, new: str) -> Statement:
    return Statement(f"ALTER TABLE {quote(table)} RENAME COLUMN {quote(old)} TO {quote(new)}")


def _rename_columns(table: str, renames: list[tuple[str, str]]) -> list[Statement]:
    """Rename at once what may exchange names: first all that stand in the way get names of nobody."""
    leaving = {old.lower() for old, _ in renames}
    crossing = any(new.lower() in leaving for _, new in renames)
    if not crossing:
        return [_rename_column(table, old, new) for old, new in renames]
    away = [_rename_column(table, old, _nobodys_name(place)) for place, (old, _) in enumerate(renames)]
    back = [_rename_column(table, _nobodys_name(place), new) for place, (_, new) in enumerate(renames)]
    return away + back


def _nobodys_name(number: int) -> str:
    """Give a name that no collection and no field can have."""
    return f"~{number}"


# -- single and multiple values ---------------------------------------------------------------------------------------


def _convert(table: str, field: Field, sql: str) -> list[Statement]:
    """Put the values into a new column of the other kind, and that in the place of the old one."""
    detour = _nobodys_name(0)
    value = _as_list(field.name) if field.is_multiple else _as_single(field.name)
    return [
        _add_column(table, detour, sql),
        Statement(f"UPDATE {quote(table)} SET {quote(detour)} = {value}"),
        _drop_column(table, field.name),
        _rename_column(table, detour, field.name),
    ]


def _is_list(column: str) -> str:
    return f"(CASE WHEN json_valid({column}) THEN json_type({column}) = 'array' ELSE FALSE END)"


def _as_list(name: str) -> str:
    column = quote(name)
    return (
        f"CASE WHEN {column} IS NULL OR {column} = '' THEN '[]'"
        f" WHEN {_is_list(column)} THEN {column} ELSE json_array({column}) END"
    )


def _as_single(name: str) -> str:
    column = quote(name)
    return f"CASE WHEN {_is_list(column)} THEN coalesce(json_extract({column}, '$[#-1]'), '') ELSE {column} END"


# -- views ------------------------------------------------------------------------------------------------------------


def create_view(collection: Collection) -> Statement:
    """Make the view of a view collection; SQLite does not read the query before it is used."""
    query = collection.view_query.strip().rstrip(";").rstrip()
    return Statement(f"CREATE VIEW {quote(collection.name)} AS SELECT * FROM (\n{query}\n)")


def drop_view(collection: Collection) -> Statement:
    """Remove the view of a view collection."""
    return Statement(f"DROP VIEW IF EXISTS {quote(collection.name)}")


def drop_views(views: Iterable[Collection]) -> list[Statement]:
    """Remove views, before tables change that they may read."""
    return [drop_view(each) for each in views]


def _change_view(old: Collection, new: Collection) -> list[Statement]:
    if old.name == new.name and old.view_query == new.view_query:
        return []
    return [drop_view(old), create_view(new)]
