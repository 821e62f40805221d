"""Where SQL differs between engines: names, lists, JSON, LIKE, functions, placeholders. SQLite is the only one yet.

Everything here makes fragments; nothing decides what a filter means. Pure.
"""

from __future__ import annotations

from typing import Protocol

from pando.records.filter.parts import Fragment, joined
from pando.records.filter.slots import Constant
from pando.records.model import BoolField, Field, GeoPointField, JsonField, NumberField


class Dialect(Protocol):
    """What the compiler asks of an engine's SQL."""

    def name(self, name: str) -> str:
        """Quote a table, column or alias."""
        ...

    def placeholder(self, number: int) -> str:
        """Stand for the `number`-th bound value, from 1."""
        ...

    def row_id(self) -> str:
        """Name the column that tells the order of insertion."""
        ...

    def as_column(self, field: Field, value: Fragment) -> Fragment:
        """Give a bound value the type of a field's column, so that it compares as the column does."""
        ...

    def items(self, column: Fragment) -> Fragment:
        """Make a table with a column `value` of a JSON list; another value is a list of one."""
        ...

    def listed(self, json: Fragment) -> Fragment:
        """Make a table with a column `value` of a bound JSON list."""
        ...

    def length(self, column: Fragment) -> Fragment:
        """Count the items of a JSON list; another value is one, NULL and "" none."""
        ...

    def extracted(self, column: Fragment, path: tuple[str, ...]) -> Fragment:
        """Take a value out of JSON: a number, a text, or JSON text of a list or object; NULL if there is none."""
        ...

    def lower(self, value: Fragment) -> Fragment:
        """Make letters small."""
        ...

    def same(self, left: Fragment, right: Fragment, *, negative: bool = False) -> Fragment:
        """Ask whether two values are the same, NULL being a value like others."""
        ...

    def like(self, left: Fragment, pattern: Fragment, *, negative: bool) -> Fragment:
        r"""Compare with a pattern whose escape character is `\`."""
        ...

    def containing(self, value: Fragment) -> Fragment:
        """Make a pattern that finds a column's value anywhere."""
        ...

    def distance(self, lon_a: Fragment, lat_a: Fragment, lon_b: Fragment, lat_b: Fragment) -> Fragment:
        """Give the distance of two points in kilometres."""
        ...

    def formatted_time(self, arguments: tuple[Fragment, ...]) -> Fragment:
        """Format a moment as SQLite's strftime does."""
        ...

    def random(self) -> Fragment:
        """Give chance to sort by."""
        ...


class SqliteDialect:
    """SQLite 3.46 or later with JSON and mathematical functions."""

    def name(self, name: str) -> str:
        """See Dialect."""
        return '"' + name.replace('"', '""') + '"'

    def placeholder(self, number: int) -> str:
        """See Dialect."""
        return "?"

    def row_id(self) -> str:
        """See Dialect."""
        return "_rowid_"

    def as_column(self, field: Field, value: Fragment) -> Fragment:
        """See Dialect."""
        if isinstance(field, NumberField | BoolField):
            return ("CAST(", *value, " AS NUMERIC)")
        if isinstance(field, JsonField | GeoPointField) or field.is_multiple:
            return value
        return ("CAST(", *value, " AS TEXT)")

    def items(self, column: Fragment) -> Fragment:
        """See Dialect."""
        return ("json_each(CASE WHEN ", *_is_list(column), " THEN ", *column, " ELSE json_array(", *column, ") END)")

    def listed(self, json: Fragment) -> Fragment:
        """See Dialect."""
        return ("json_each(", *json, ")")

    def length(self, column: Fragment) -> Fragment:
        """See Dialect."""
        one = ("CASE WHEN ", *column, " = '' OR ", *column, " IS NULL THEN 0 ELSE 1 END")
        return ("CASE WHEN ", *_is_list(column), " THEN json_array_length(", *column, ") ELSE ", *one, " END")

    def extracted(self, column: Fragment, path: tuple[str, ...]) -> Fragment:
        """See Dialect."""
        steps = "".join(f"[{each}]" if each.isdecimal() else f'."{each}"' for each in path)
        found = ("CASE WHEN json_valid(", *column, ") THEN json_extract(", *column, ", ", Constant("$" + steps), ")")
        return (*found, " ELSE ", *(("NULL",) if path else column), " END")

    def lower(self, value: Fragment) -> Fragment:
        """See Dialect."""
        return ("LOWER(", *value, ")")

    def same(self, left: Fragment, right: Fragment, *, negative: bool = False) -> Fragment:
        """See Dialect."""
        return (*left, " IS NOT " if negative else " IS ", *right)

    def like(self, left: Fragment, pattern: Fragment, *, negative: bool) -> Fragment:
        """See Dialect."""
        return (*left, " NOT LIKE " if negative else " LIKE ", *pattern, " ESCAPE '\\'")

    def containing(self, value: Fragment) -> Fragment:
        """See Dialect."""
        return ("('%' || ", *value, " || '%')")

    def distance(self, lon_a: Fragment, lat_a: Fragment, lon_b: Fragment, lat_b: Fragment) -> Fragment:
        """See Dialect."""
        cosines = ("cos(radians(", *lat_a, ")) * cos(radians(", *lat_b, "))")
        turn = (" * cos(radians(", *lon_b, ") - radians(", *lon_a, "))")
        sines = (" + sin(radians(", *lat_a, ")) * sin(radians(", *lat_b, "))")
        return ("(6371 * acos(max(-1.0, min(1.0, ", *cosines, *turn, *sines, "))))")

    def formatted_time(self, arguments: tuple[Fragment, ...]) -> Fragment:
        """See Dialect."""
        return ("strftime(", *joined(", ", arguments), ")")

    def random(self) -> Fragment:
        """See Dialect."""
        return ("RANDOM()",)


def _is_list(column: Fragment) -> Fragment:
    return ("iif(json_valid(", *column, "), json_type(", *column, ") = 'array', 0)")
