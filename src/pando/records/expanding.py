"""Puts related records beside records: `expand=author,comments_via_post.user`.

Each level is one query per relation for all records together. The target's view rule decides for each record; what a
caller may not see, and what does not exist, is silently not there. A path that leads nowhere (no such relation, or none
of the target's records may be viewed) adds nothing, not even its beginning, if there is a record from which it would go
on; one that can be followed adds an `expand`, be it empty. Not here: the records themselves (`listing`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pando.records.collections import indexes
from pando.records.desk import Asking, Desk, columns_of
from pando.records.filter import Filter, FilterError, Trust
from pando.records.filter.select import Referring
from pando.records.model import Collection, RelationField
from pando.records.problems import bad_request
from pando.records.record import Record, from_rows

DEPTH_MAX: Final = 6
BACK_MAX: Final = 1000
"""Records that point to one parent."""
PATHS_MAX: Final = 100
EXPANDED_MAX: Final = 100_000
"""Records beside those of one answer, each as often as it is shown: paths there and back again multiply."""
READ_MAX: Final = 20_000
"""Records that point to several parents and are read at once; if there are more, they are read parent by parent."""
_IDS_STEP: Final = 500
"""Ids asked for in one query."""
_VIA: Final = "_via_"


@dataclass(slots=True)
class _Branch:
    """Names to expand, each with what to expand in what is found there."""

    names: dict[str, _Branch] = field(default_factory=dict)


def read_paths(text: str) -> _Branch:
    """Read an `expand` parameter; paths over the bounds are left out."""
    root = _Branch()
    for path in text.split(",")[:PATHS_MAX]:
        branch = root
        names = [name.strip() for name in path.strip().split(".")]
        for name in names[:DEPTH_MAX] if all(names) else []:
            branch = branch.names.setdefault(name, _Branch())
    return root


async def expanded(
    desk: Desk, asking: Asking, collection: Collection, records: list[Record], text: str
) -> list[Record]:
    """Give the records with what `text` names beside them."""
    found = await _expand(desk, asking.within("expand"), collection, records, read_paths(text)) or records
    seen: dict[int, int] = {}
    if sum(_beside(record, seen) for record in found) > EXPANDED_MAX:
        raise _too_many()
    return found


def _too_many() -> Exception:
    return bad_request(f"There are more than {EXPANDED_MAX} records to expand; ask for fewer, or for shorter paths.")


def _beside(record: Record, seen: dict[int, int]) -> int:
    """Count what is shown beside a record; `seen` has the counts of records by identity, which stand in many places."""
    found = seen.get(id(record))
    if found is None:
        found = 0
        for each in (record.expand or {}).values():
            for one in [each] if isinstance(each, Record) else each:
                found += 1 + _beside(one, seen)
        seen[id(record)] = found
    return found


async def _expand(
    desk: Desk, asking: Asking, collection: Collection, records: list[Record], branch: _Branch
) -> list[Record] | None:
    """The same; None if none of the paths can be followed."""
    beside: list[dict[str, Record | Sequence[Record]]] = [dict(record.expand or {}) for record in records]
    is_followed = False
    for name, below in branch.names.items():
        found = collection.field(name)
        if isinstance(found, RelationField):
            if found.hidden and not asking.is_superuser:
                continue
            is_followed |= await _forward(desk, asking, records, beside, found, below)
        elif _VIA in name:
            is_followed |= await _back(desk, asking, collection, records, beside, name, below)
    if not is_followed:
        return None
    return [record.with_expand(others) for record, others in zip(records, beside, strict=True)]


async def _forward(
    desk: Desk,
    asking: Asking,
    records: list[Record],
    beside: list[dict[str, Record | Sequence[Record]]],
    relation: RelationField,
    below: _Branch,
) -> bool:
    """Put beside each record those that it refers to; False if the path cannot be followed."""
    target = asking.schema.find(relation.collection_id)
    if target is None:
        return False
    wanted = {id for record in records for id in record.texts(relation.name)}
    visible = await _visible(desk, asking, target, "id", wanted, below)
    if visible is None:
        return False
    found = {each.id: each for each in visible}
    for record, others in zip(records, beside, strict=True):
        ids = record.texts(relation.name)
        here = [found[id] for id in ids if id in found]
        if here:
            others[relation.name] = here if relation.is_multiple else here[0]
    return True


async def _back(
    desk: Desk,
    asking: Asking,
    collection: Collection,
    records: list[Record],
    beside: list[dict[str, Record | Sequence[Record]]],
    name: str,
    below: _Branch,
) -> bool:
    """Put beside each record those that refer to it; False if the path cannot be followed."""
    source_name, _, field_name = name.partition(_VIA)
    source = asking.schema.find(source_name)
    relation = None if source is None else source.field(field_name)
    if source is None or not isinstance(relation, RelationField) or relation.collection_id != collection.id:
        return False
    if relation.hidden and not asking.is_superuser:
        return False
    is_one = not relation.is_multiple and indexes.unique_on(source.indexes, relation.name) is not None
    found = await _visible(desk, asking, source, relation.name, {record.id for record in records}, below)
    if found is None:
        return False
    by_parent: dict[str, list[Record]] = {}
    for each in found:
        for parent in each.texts(relation.name):
            children = by_parent.setdefault(parent, [])
            if len(children) < BACK_MAX:
                children.append(each)
    for record, others in zip(records, beside, strict=True):
        here = by_parent.get(record.id)
        if here:
            others[name] = here[0] if is_one else here
    return True


async def _visible(
    desk: Desk, asking: Asking, target: Collection, column: str, ids: Iterable[str], below: _Branch
) -> list[Record] | None:
    """Read those records of a collection whose column names one of the ids, and which the caller may view.

    None if none may ever be viewed, or if there are some and the paths that go on from them cannot be followed.
    """
    rule = target.rules.view
    if rule is None and not asking.is_superuser:
        return None
    filters = (Filter(rule, Trust.RULE),) if rule and rule.strip() and not asking.is_superuser else ()
    found: dict[str, Record] = {}
    wanted = sorted(ids)
    for at in range(0, len(wanted), _IDS_STEP):
        some = tuple(wanted[at : at + _IDS_STEP])
        try:
            found |= {each.id: each for each in await _read(desk, asking, target, filters, column, some)}
        except FilterError:
            return None  # the rule names what is not there any more: nobody may view them
        if len(found) > EXPANDED_MAX:
            raise _too_many()
    visible = list(found.values())
    return await _expand(desk, asking, target, visible, below) if below.names and visible else visible


async def _read(
    desk: Desk, asking: Asking, target: Collection, filters: tuple[Filter, ...], column: str, ids: tuple[str, ...]
) -> list[Record]:
    """Read records by their ids or by whom they refer to, of those that refer to one no more than are shown."""
    limit = None if column == "id" else BACK_MAX if len(ids) == 1 else READ_MAX
    which: dict[str, Any] = {"ids": ids} if column == "id" else {"referring": Referring(column, ids)}
    columns, rows = await desk.ask(asking, target, columns=columns_of(target), filters=filters, limit=limit, **which)
    if len(ids) == 1 or limit is None or len(rows) < limit:
        return from_rows(target, columns, rows)
    parts = [await _read(desk, asking, target, filters, column, (id,)) for id in ids]
    return [record for part in parts for record in part]
