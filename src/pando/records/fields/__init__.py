"""What values fields take, per type: reading, checking, columns, JSON. See the Contracts in records/DESIGN.md."""

from pando.records.fields.base import FieldOps
from pando.records.fields.ops import AnyOps, ops
from pando.records.fields.values import FieldValue, GeoPoint, JsonValue, NewFile, Number, PlainPassword

__all__ = [
    "AnyOps",
    "FieldOps",
    "FieldValue",
    "GeoPoint",
    "JsonValue",
    "NewFile",
    "Number",
    "PlainPassword",
    "ops",
]
