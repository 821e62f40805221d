"""Finds the `FieldOps` of a field; made once per definition.

Pure. Not here: what they do (the modules of the types).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final, TypeAlias

from pando.errors import invariant
from pando.records.fields.base import FieldOps
from pando.records.fields.choices import FileOps, RelationOps, SelectOps
from pando.records.fields.dates import AutodateOps, DateOps
from pando.records.fields.documents import GeoPointOps, JsonOps
from pando.records.fields.numbers import BoolOps, NumberOps
from pando.records.fields.passwords import PasswordOps
from pando.records.fields.texts import EditorOps, EmailOps, TextOps, UrlOps
from pando.records.model import Field

AnyOps: TypeAlias = FieldOps[Any]

OPS_CACHED_MAX: Final = 4096
"""Definitions kept with their FieldOps: several times the fields of a large schema."""

_MAKERS: Final[dict[str, Callable[[Any], AnyOps]]] = {
    "text": TextOps,
    "editor": EditorOps,
    "number": NumberOps,
    "bool": BoolOps,
    "email": EmailOps,
    "url": UrlOps,
    "date": DateOps,
    "autodate": AutodateOps,
    "select": SelectOps,
    "relation": RelationOps,
    "file": FileOps,
    "json": JsonOps,
    "password": PasswordOps,
    "geoPoint": GeoPointOps,
}


@lru_cache(maxsize=OPS_CACHED_MAX)
def ops(field: Field) -> AnyOps:
    """Give what can be done with values of a field."""
    make = _MAKERS.get(field.type)
    invariant(make is not None, "every type of field has its operations", type=field.type)
    return make(field)  # type: ignore[misc]
