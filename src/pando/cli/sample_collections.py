"""What the sample collections look like: countries, and cities that refer to them. Public to read; who signed in may
write.

The id of a country is its code and that of a city its number in GeoNames, so that `.../countries/records/FR` works and
rows can be told apart before they are loaded. Not here: the rows (`sample`).
"""

from __future__ import annotations

COUNTRIES = "countries"
CITIES = "cities"
_SIGNED_IN = '@request.auth.id != ""'
_RULES = {
    "listRule": "",
    "viewRule": "",
    "createRule": _SIGNED_IN,
    "updateRule": _SIGNED_IN,
    "deleteRule": _SIGNED_IN,
}
_PICTURE_BYTES_MAX = 5_000_000


def countries_collection() -> dict[str, object]:
    """Give the definition of the countries."""
    fields = [
        _id(),
        _text("code", required=True, pattern="^[A-Z]{2}$"),
        _text("name", required=True, presentable=True),
        _text("capital"),
        _text("continent"),
        _count("population"),
        _count("area_km2"),
        _text("currency"),
        _text("languages"),
    ]
    indexes = [f"CREATE UNIQUE INDEX idx_{COUNTRIES}_code ON {COUNTRIES} (code)"]
    return {"name": COUNTRIES, "type": "base", **_RULES, "fields": fields, "indexes": indexes}


def cities_collection(countries_id: str) -> dict[str, object]:
    """Give the definition of the cities."""
    fields = [
        _id(),
        _text("name", required=True, presentable=True),
        {"name": "country", "type": "relation", "collectionId": countries_id, "maxSelect": 1, "required": True},
        {"name": "location", "type": "geoPoint"},
        _count("population"),
        _text("timezone"),
        {
            "name": "photo",
            "type": "file",
            "maxSelect": 1,
            "maxSize": _PICTURE_BYTES_MAX,
            "mimeTypes": ["image/jpeg", "image/png", "image/webp"],
            "thumbs": ["100x100"],
        },
    ]
    indexes = [
        f"CREATE INDEX idx_{CITIES}_country ON {CITIES} (country, population DESC)",
        f"CREATE INDEX idx_{CITIES}_population ON {CITIES} (population)",
    ]
    return {"name": CITIES, "type": "base", **_RULES, "fields": fields, "indexes": indexes}


def _id() -> dict[str, object]:
    """Records that people make get an id like all others'."""
    limits = {"min": 1, "max": 15, "pattern": "^[a-zA-Z0-9]+$", "autogeneratePattern": "[a-z0-9]{15}"}
    return {"name": "id", "type": "text", "primaryKey": True, "required": True, "system": True, **limits}


def _text(name: str, **options: object) -> dict[str, object]:
    return {"name": name, "type": "text", **options}


def _count(name: str) -> dict[str, object]:
    return {"name": name, "type": "number", "onlyInt": True, "min": 0}
