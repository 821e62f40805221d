"""What tests of definitions share: the columns of section 3.2, a database in memory, chance that repeats."""

import re
from random import Random

import apsw
import pytest

from pando.records.collections import bodies, checks, completing, directory, system
from pando.records.collections.asking import Asked
from pando.records.model import Schema
from pando.records.problems import ApiError, Problem

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


def bare():
    """A database that has no collections but could have some."""
    db = apsw.Connection(":memory:")
    for sql in directory.META_TABLES:
        db.execute(sql)
    return db


def is_regex(text):
    try:
        re.compile(text)
    except re.error:
        return False
    return True


ASKED = Asked(
    rule=lambda collection, text: "it is bad" if "bad" in text else None,
    pattern=is_regex,
    generate=lambda pattern: None if pattern == "(" else "made",
    takes=lambda field, text: not field.pattern or re.search(field.pattern, text) is not None,
    providers={"google", "github"},
)


def first_schema():
    return Schema(system.first_collections(Random(7), NOW))


def made(body, schema=None, asked=ASKED):
    """Do what a POST does: read, complete and check a body."""
    schema = schema or first_schema()
    found = completing.complete(bodies.read_new(body, Random(8)), None, schema, Random(9), NOW)
    checks.check(found, None, schema, asked)
    return found


def changed(body, old, schema=None, asked=ASKED):
    """Do what a PATCH does."""
    schema = schema or first_schema()
    if schema.find(old.id) is None:
        schema = Schema((*schema.collections, old))
    found = completing.complete(bodies.read_change(body, old), old, schema, Random(10), LATER)
    checks.check(found, old, schema, asked)
    return found


def refused(act, *args, **named):
    """Give the code at each place of a refusal's data."""
    with pytest.raises(ApiError) as caught:
        act(*args, **named)
    assert caught.value.status == 400
    return dict(codes(caught.value.data))


def codes(data, path=""):
    for key, each in data.items():
        at = f"{path}.{key}".lstrip(".")
        if isinstance(each, Problem):
            yield at, each.code.removeprefix("validation_")
        else:
            yield from codes(each, at)
