"""What tests of definitions share: the columns of section 3.2, a database in memory, chance that repeats."""

from random import Random

import apsw

from pando.records.collections import directory

NOW = "2026-01-31 12:00:00.123Z"
LATER = "2026-02-01 12:00:00.123Z"

SINGLE = "TEXT DEFAULT '' NOT NULL"
BY_TYPE = {
    "bool": "BOOLEAN DEFAULT FALSE NOT NULL",
    "number": "NUMERIC DEFAULT 0 NOT NULL",
    "json": "JSON DEFAULT NULL",
    "geoPoint": """JSON DEFAULT '{"lon":0,"lat":0}' NOT NULL""",
}


def column_sql(field):
    if getattr(field, "primary_key", False):
        return "TEXT PRIMARY KEY DEFAULT ('r'||lower(hex(randomblob(7)))) NOT NULL"
    if field.is_multiple:
        return "JSON DEFAULT '[]' NOT NULL"
    return BY_TYPE.get(field.type, SINGLE)


def run(db, statements):
    with db:
        for each in statements:
            db.execute(each.sql, each.args)


def fresh():
    db = apsw.Connection(":memory:")
    run(db, directory.new_directory(Random(1), NOW, 1_769_860_800_123_000, column_sql))
    return db
