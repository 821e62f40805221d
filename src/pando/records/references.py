"""Checks what rows of system collections say whose they are: `collectionRef` and `recordRef`.

Not here: relations (`writing`), which keep the ids of one collection; these name the collection beside the record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pando.records.collections.sql_tokens import quote
from pando.records.collections.system import AUTH_ORIGINS, EXTERNAL_AUTHS, MFAS, OTPS
from pando.records.engine import Reads
from pando.records.fields import FieldValue
from pando.records.model import Collection, Schema
from pando.records.problems import Problem

_REFERRING: Final = frozenset((MFAS, OTPS, EXTERNAL_AUTHS, AUTH_ORIGINS))
_NO_COLLECTION: Final = Problem("validation_invalid_collection_id", "There is no such auth collection.")
_NO_RECORD: Final = Problem("validation_invalid_record", "There is no such record.")


async def check_references(
    reads: Reads, schema: Schema, collection: Collection, values: Mapping[str, FieldValue]
) -> dict[str, Problem]:
    """Find what is wrong with the record that a row belongs to; nothing is for other collections."""
    if not collection.system or collection.name not in _REFERRING:
        return {}
    owner, id = values.get("collectionRef"), values.get("recordRef")
    if not isinstance(owner, str) or not isinstance(id, str) or not owner or not id:
        return {}  # told by their fields
    found = schema.find(owner)
    if found is None or found.id != owner or not found.is_auth:
        return {"collectionRef": _NO_COLLECTION}
    rows = await reads.query(f"SELECT 1 FROM {quote(found.name)} WHERE `id` = ?", (id,))
    return {} if rows else {"recordRef": _NO_RECORD}
