"""Fields of types json and geoPoint.

Text that comes for a json field is parsed if it looks like JSON, so that forms can send documents; other text is a JSON
string. Pure. Not here: JSON itself (`jsontext`).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Final

import msgspec

from pando.records.engine import Value
from pando.records.fields import jsontext
from pando.records.fields.base import FieldOps
from pando.records.fields.values import GeoPoint, JsonValue, Number
from pando.records.model import GeoPointField, JsonField
from pando.records.problems import REQUIRED, Problem, bad_request

JSON_SIZE_BYTES_DEFAULT: Final = 1024 * 1024
"""What `maxSize` 0 of a json field means."""

_LOOKS_LIKE_JSON: Final = frozenset('0123456789-"[{')


_decode_point = msgspec.json.Decoder(GeoPoint).decode


class JsonOps(FieldOps[JsonValue]):
    """Any JSON; None is both JSON's null and SQL's NULL."""

    zero: JsonValue = None

    def __init__(self, field: JsonField) -> None:
        self.field = field

    def normalise(self, raw: object) -> JsonValue:
        """Take a JSON value; parse text that looks like JSON and is. Raises ApiError for what JSON cannot say."""
        if isinstance(raw, str):
            return _from_text(raw)
        try:
            return jsontext.canonical(raw)
        except jsontext.InvalidJson as error:
            raise bad_request(f"The value of the field {self.field.name} is not JSON.") from error

    def check(self, value: JsonValue) -> Problem | None:
        """Check its size; that it is neither null nor empty if it must be there."""
        most = self.field.max_size or JSON_SIZE_BYTES_DEFAULT
        if len(_dump(value)) > most:
            text = f"The JSON may have {most} bytes at most."
            return Problem("validation_json_size_limit", text, {"maxSize": most})
        is_empty = value is None or (isinstance(value, str | list | dict) and not value)
        return REQUIRED if self.field.required and is_empty else None

    def from_column(self, stored: Value) -> JsonValue:
        """Read JSON text; numbers may stand there as such, as the column's type gives it NUMERIC affinity."""
        if isinstance(stored, bytes):
            stored = stored.decode("utf-8", "replace")
        if isinstance(stored, int | float):
            return jsontext.number(stored) if isfinite(stored) else None
        if not stored:
            return None
        try:
            return jsontext.decode(stored)
        except jsontext.InvalidJson:
            return jsontext.mend(stored)  # SQL wrote it; better shown as text than not at all

    def to_column(self, value: JsonValue) -> Value:
        """Give JSON text with sorted keys; NULL for null."""
        return None if value is None else _dump(value).decode()

    def to_json(self, value: JsonValue) -> object:
        """Give it with numbers as JavaScript writes them."""
        return jsontext.to_wire(value)

    def column_sql(self) -> str:
        """Give the column's definition."""
        return "JSON DEFAULT NULL"


class GeoPointOps(FieldOps[GeoPoint]):
    """A place; 0/0 is none."""

    zero = GeoPoint()

    def __init__(self, field: GeoPointField) -> None:
        self.field = field

    def normalise(self, raw: object) -> GeoPoint:
        """Read an object or its JSON text; anything else is 0/0."""
        if isinstance(raw, GeoPoint):
            return raw
        try:
            return _point(jsontext.decode(raw) if isinstance(raw, str) and raw else raw or None)
        except (jsontext.InvalidJson, TypeError):
            return GeoPoint()

    def check(self, value: GeoPoint) -> Problem | None:
        """Check that it is there if it must be; latitude, then longitude."""
        if self.field.required and value == GeoPoint():
            return REQUIRED
        if not -90 <= value.lat <= 90:
            return Problem("validation_invalid_latitude", "Latitude must be between -90 and 90 degrees.")
        if not -180 <= value.lon <= 180:
            return Problem("validation_invalid_longitude", "Longitude must be between -180 and 180 degrees.")
        return None

    def from_column(self, stored: Value) -> GeoPoint:
        """Read JSON text; what is no point is 0/0."""
        try:
            found = _decode_point(stored) if isinstance(stored, str) else GeoPoint()
            return GeoPoint(jsontext.number(found.lon), jsontext.number(found.lat))
        except (msgspec.MsgspecError, UnicodeError):
            pass  # perhaps a coordinate is null
        try:
            return _point(jsontext.decode(stored) if isinstance(stored, str) and stored else None)
        except (jsontext.InvalidJson, TypeError):
            return GeoPoint()

    def to_column(self, value: GeoPoint) -> Value:
        """Give JSON text."""
        return jsontext.encode(self.to_json(value)).decode()

    def to_json(self, value: GeoPoint) -> object:
        """Give an object with `lon` and `lat`."""
        return _Wire(jsontext.number_to_wire(value.lon), jsontext.number_to_wire(value.lat))

    def column_sql(self) -> str:
        """Give the column's definition."""
        return """JSON DEFAULT '{"lon":0,"lat":0}' NOT NULL"""


class _Wire(msgspec.Struct):
    lon: Number | msgspec.Raw
    lat: Number | msgspec.Raw


def _from_text(text: str) -> JsonValue:
    if text in ("null", "true", "false"):
        return {"null": None, "true": True, "false": False}[text]
    if text[:1] in _LOOKS_LIKE_JSON and text:
        try:
            return jsontext.decode(text)
        except jsontext.InvalidJson:
            pass
    return jsontext.mend(text)


def _dump(value: JsonValue) -> bytes:
    return jsontext.encode(jsontext.to_wire(value))


def _point(raw: object) -> GeoPoint:
    """Read null or an object; a coordinate that is not there, or null, is 0. Raises TypeError."""
    if raw is None:
        return GeoPoint()
    if not isinstance(raw, Mapping):
        raise TypeError("not an object")
    return GeoPoint(_coordinate(raw.get("lon")), _coordinate(raw.get("lat")))


def _coordinate(raw: object) -> Number:
    if raw is None:
        return 0
    if isinstance(raw, bool) or not isinstance(raw, int | float) or not isfinite(raw):
        raise TypeError("not a number")
    return jsontext.number(raw)
