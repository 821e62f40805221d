"""The filter language, slowly: every combination of joined rows is made and looked at, in Python.

It shares the parser with the compiler and nothing else: paths, joins, comparisons and what several values mean are
written down here a second time, from the contract, without SQL. Values are SQL's: None, numbers, texts.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

from pando.records.filter.lexer import lex
from pando.records.filter.macros import MACROS, macro_value
from pando.records.filter.parser import parse
from pando.records.filter.syntax import AllOf, AnyOf, Comparison, Name, Operator, Text
from pando.records.model import (
    BoolField,
    FileField,
    GeoPointField,
    JsonField,
    NumberField,
    RelationField,
    SelectField,
)

LISTS = SelectField | RelationField | FileField
TEXT, NUMERIC, LIST = "text", "numeric", "list"


@dataclass(frozen=True)
class Value:
    """A SQL value and what SQL knows of where it comes from."""

    value: Any
    affinity: str | None = None
    is_json: bool = False
    is_fixed: bool = False
    is_full: bool = False  # is compared as if fixed and not empty


NULL = Value(None, is_fixed=True)


@dataclass
class World:
    """Records by collection name, and who asks."""

    schema: Any
    rows: dict[str, list[dict[str, Any]]]
    request: Any
    now: Any


@dataclass
class Operand:
    """A value, once a row for each of its joins is chosen. A join is known by the way to it: a tuple of steps."""

    joins: tuple = ()
    value: Any = None  # of chosen rows, a Value
    guard: Any = None  # of chosen rows, a truth value

    @property
    def first_many(self):
        return next((way for way in self.joins if way[-1].is_many), None)


@dataclass(frozen=True)
class Step:
    name: tuple
    is_many: bool
    choices: Any = field(compare=False)  # of chosen rows, the list of rows to choose from
    may_see: Any = field(compare=False, default=None)  # of a row, whether a client may see it


def find(world, collection, filters, row=None):
    """Give the rows that satisfy all filters, which are pairs of text and whether a client wrote it."""
    parsed = [Filtered(world, collection, text, is_client) for text, is_client in filters if text]
    joins = sorted({way for each in parsed for way in each.joins}, key=len)
    found = []
    hidden = {way for each in parsed if each.names.is_client for way in each.joins if way[-1].may_see}
    for each in world.rows[collection.name] if row is None else [row]:
        if any(
            all(one.truth(chosen) is True for one in parsed)
            and all(chosen[way] is None or way[-1].may_see(chosen[way]) for way in hidden)
            for chosen in combinations({(): each}, joins)
        ):
            found.append(each)
    return found


def combinations(chosen, joins, keep=False):
    """Choose a row for each join, in all ways; None where there is nothing to choose, or only what is hidden."""
    if not joins:
        yield chosen
        return
    way, *rest = joins
    rows = way[-1].choices(chosen)
    if keep and way[-1].may_see:
        rows = [row for row in rows if way[-1].may_see(row)]
    for row in rows or [None]:
        yield from combinations({**chosen, way: row}, rest, keep)


class Filtered:
    """One filter."""

    def __init__(self, world, collection, text, is_client):
        lexed = lex(text)
        self.literals = lexed.literals
        self.names = Names(world, collection, is_client)
        self.tests = {}
        self.tree = parse(lexed, comparisons_max=1000)
        self._collect(self.tree)
        self.joins = {way for sides in self.tests.values() for side in sides for way in side.joins}

    def _collect(self, node):
        if isinstance(node, Comparison):
            self.tests[id(node)] = (self._operand(node.left), self._operand(node.right))
        else:
            for each in node.items:
                self._collect(each)

    def _operand(self, term):
        if isinstance(term, Name):
            return self.names.operand(term.text)
        value = self.literals[term.position]
        assert isinstance(value, str) is isinstance(term, Text)
        return Operand(value=lambda chosen: Value(value, is_fixed=True))

    def truth(self, chosen):
        return self._truth(self.tree, chosen)

    def _truth(self, node, chosen):
        if isinstance(node, Comparison):
            return self._test(node, chosen)
        truths = [self._truth(each, chosen) for each in node.items]
        if isinstance(node, AllOf):
            return False if False in truths else None if None in truths else True
        assert isinstance(node, AnyOf)
        return True if True in truths else None if None in truths else False

    def _test(self, node, chosen):
        left, right = self.tests[id(node)]
        truth = holds(left, node.operator, right, chosen)
        firsts = {way for way in (left.first_many, right.first_many) if way}
        if node.any_match or not firsts or truth is not True:
            return truth
        return not any(
            holds(left, node.operator, right, one, other) is False
            for one in self._values(left, chosen)
            for other in self._values(right, chosen)
        )

    def _values(self, side, chosen):
        """Choose rows for the joins of one side from the first that has several; hidden ones count as none."""
        ways = sorted(
            (way for way in side.joins if side.first_many and way[: len(side.first_many)] == side.first_many), key=len
        )
        return combinations(chosen, ways, keep=self.names.is_client)


def holds(left, operator, right, chosen, other=None):
    """Compare two sides, with rows chosen for each."""
    values = [left.value(chosen), right.value(chosen if other is None else other)]
    if other is not None:
        values = [Value(each.value, each.affinity, each.is_json, each.is_fixed) for each in values]
    truths = [compare(values[0], operator, values[1])]
    truths += [side.guard(rows) for side, rows in ((left, chosen), (right, other or chosen)) if side.guard]
    return False if False in truths else None if None in truths else True


# -- names ------------------------------------------------------------------------------------------------------------


class Names:
    def __init__(self, world, collection, is_client):
        self.world = world
        self.collection = collection
        self.is_client = is_client

    def operand(self, name):
        if name in MACROS:
            return fixed(macro_value(name, self.world.now))
        if name in ("true", "false", "null"):
            return fixed({"true": 1, "false": 0, "null": None}[name])
        if name.startswith("@collection."):
            return self.other(name)
        *keys, last = name.split(".")
        last, _, modifier = last.partition(":")
        keys.append(last)
        if keys[0] == "@request":
            return self.asked(keys[1], keys[2:], modifier)
        return self.walk(self.collection, (), keys, modifier)

    def other(self, name):
        first, _, rest = name.removeprefix("@collection.").partition(".")
        reference, _, alias = first.partition(":")
        collection = self.world.schema.find(reference)
        step = Step(("all", collection.id, alias), True, lambda chosen: self.world.rows[collection.name])
        *keys, last = rest.split(".")
        last, _, modifier = last.partition(":")
        return self.walk(collection, (step,), [*keys, last], modifier)

    def asked(self, area, keys, modifier):
        request = self.world.request
        if area == "auth":
            if request.auth is None:
                return fixed(None)
            if keys[0] in ("collectionId", "collectionName"):
                collection = request.auth.collection
                return fixed(collection.id if keys[0] == "collectionId" else collection.name)
            record = request.auth.values
            step = Step(("auth",), False, lambda chosen: [record])
            found = self.walk(request.auth.collection, (step,), keys, modifier)
            return Operand(found.joins, lambda chosen: as_fixed(found.value(chosen), len(found.joins) == 1))
        source = {"context": request.context, "method": request.method}.get(area) or getattr(request, area)
        if not keys:
            return fixed(source)
        if modifier == "isset":
            return fixed(int(keys[0] in source))
        value = source.get(keys[0])
        if modifier == "changed":
            stored = self.walk(self.collection, (), keys, "")
            sent = Value(plain(value), is_fixed=True)
            return Operand(
                value=lambda chosen: Value(
                    int(keys[0] in source and compare(sent, Operator.NOT_EQUAL, stored.value(chosen)) is True),
                    is_fixed=keys[0] not in source,
                )
            )
        known = self.collection.field(keys[0])
        if known and (modifier in ("each", "length") or (isinstance(known, RelationField) and len(keys) > 1)):
            if isinstance(known, RelationField) and len(keys) > 1 and value in (None, "", []):
                return fixed(None)
            step = Step(("body",), False, lambda chosen: [{"id": None, **source}])
            if len(keys) == 1 and modifier == "length":
                return fixed(len(as_list(value, keep_empty=True)))
            if len(keys) == 1:
                way = ((step,), (step, items(known, (step,))))
                return Operand(way, lambda chosen: Value(plain(chosen[way[1]]), is_full=True))
            found = self.walk(self.collection, (step,), keys, modifier)
            return Operand(found.joins, lambda chosen: as_fixed(found.value(chosen), len(found.joins) == 1))
        found = fixed(plain(value))
        if modifier == "lower" and known:
            found = fixed("" if value is None else as_text(value))
        return lower(found) if modifier == "lower" else found

    def walk(self, collection, way, keys, modifier):
        """Follow keys from a way; the joins passed are all ways that begin it."""
        key, *rest = keys
        known = collection.field(key)
        if known is None:
            other = self.world.schema.find(key.partition("_via_")[0])
            back = other.field(key.partition("_via_")[2])
            return self.walk(other, (*way, self.back(other, back, way)), rest, modifier)
        is_sent = bool(way) and way[-1].name == ("body",)
        is_read = self.is_client if isinstance(known, LISTS) and known.is_multiple else modifier == "lower"
        is_local = rest == ["id"] and not is_sent and not is_read
        if isinstance(known, RelationField) and rest and not is_local:
            target = self.world.schema.find(known.collection_id)
            if known.is_multiple:
                way = (*way, items(known, way))
            return self.walk(target, (*way, self.record(known, target, way)), rest, modifier)
        if isinstance(known, LISTS) and (modifier == "each" or (rest == ["id"] and known.is_multiple)):
            way = (*way, items(known, way))
            found = Operand(prefixes(way), lambda chosen: Value(plain(chosen[way])))
            return lower(found) if modifier == "lower" else found
        if isinstance(known, LISTS) and modifier == "length" and not rest:
            return Operand(prefixes(way), lambda chosen: Value(len(as_list(column(chosen, way, key)))))
        found = Operand(prefixes(way), lambda chosen: stored(known, column(chosen, way, key), rest))
        if self.is_client and key == "email":
            found.guard = lambda chosen: None if chosen[way] is None else bool(chosen[way]["emailVisibility"])
        return lower(found) if modifier == "lower" else found

    def back(self, other, known, way):
        def choices(chosen):
            own = column(chosen, way, "id")
            found = [row for row in self.world.rows[other.name] if own in as_list(row[known.name], keep_empty=True)]
            return [row for row in found if not is_guarded or self.is_listed(other, row)]

        is_guarded = self.is_guarded(other)
        return Step(("back", other.id, known.name, is_guarded), not is_unique(other, known), choices)

    def record(self, known, target, way):
        def choices(chosen):
            wanted = chosen[way] if known.is_multiple else column(chosen, way, known.name)
            return [row for row in self.world.rows[target.name] if row["id"] == wanted]

        may_see = (lambda row: self.is_listed(target, row)) if self.is_guarded(target) else None
        return Step(("record", known.name), False, choices, may_see)

    def is_guarded(self, collection):
        return bool(self.is_client and collection.rules.list)

    def is_listed(self, collection, row):
        return bool(find(self.world, collection, [(collection.rules.list, False)], row))


def is_unique(collection, known):
    return not known.is_multiple and any(f"({known.name})" in each for each in collection.indexes)


def items(known, way):
    return Step(("items", known.name), True, lambda chosen: as_list(column(chosen, way, known.name), keep_empty=True))


def prefixes(way):
    return tuple(way[: place + 1] for place in range(len(way)))


def column(chosen, way, key):
    row = chosen[way]
    return None if row is None else row.get(key)


def as_list(value, keep_empty=False):
    if isinstance(value, list):
        return value
    return [] if value is None or (value == "" and not keep_empty) else [value]


def fixed(value):
    return Operand(value=lambda chosen: Value(value, is_fixed=True))


def as_fixed(value, is_fixed):
    return Value(value.value, value.affinity if value.affinity == NUMERIC else None, value.is_json, is_fixed)


def lower(operand):
    def of(chosen):
        found = operand.value(chosen)
        text = None if found.value is None else as_text(found.value)
        low = None if text is None else "".join(each.lower() if each.isascii() else each for each in text)
        return Value(low, None, found.is_json, found.is_fixed)

    return Operand(operand.joins, of, operand.guard)


def plain(value):
    """Make a SQL value of a JSON value."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, list | dict):
        return json.dumps(value, separators=(",", ":"), sort_keys=True)
    return value


def stored(known, value, rest):
    """Give what a field's column, or a place in it, holds."""
    if isinstance(known, JsonField | GeoPointField):
        for key in rest:
            if isinstance(value, list) and key.isdecimal():
                value = value[int(key)] if int(key) < len(value) else None
            else:
                value = value.get(key) if isinstance(value, dict) and not key.isdecimal() else None
        return Value(plain(value), is_json=isinstance(known, JsonField) or bool(rest))
    if isinstance(known, NumberField | BoolField):
        return Value(plain(value), NUMERIC)
    is_list = isinstance(known, LISTS) and known.is_multiple
    return Value(plain(value), LIST if is_list else TEXT)


# -- comparisons ------------------------------------------------------------------------------------------------------


def compare(left, operator, right):
    """Give True, False or None, by the table of the contract."""
    if operator in (Operator.LIKE, Operator.NOT_LIKE):
        found = like(left.value, right)
        return found if found is None or operator is Operator.LIKE else not found
    if operator is Operator.EQUAL:
        return equal(left, right)
    if operator is Operator.NOT_EQUAL:
        return unequal(left, right)
    if left.value is None or right.value is None:
        return None
    one, two = ranks(left, right)
    return {">": one > two, ">=": one >= two, "<": one < two, "<=": one <= two}[operator]


def equal(left, right):
    if left.is_json or right.is_json:
        return same(left, right)
    empty_left, empty_right = (each.is_fixed and each.value in (None, "") for each in (left, right))
    if empty_left and empty_right:
        return True
    if any(is_full(each) for each in (left, right)):
        return None if left.value is None or right.value is None else same(left, right)
    if empty_left or empty_right:
        return (right if empty_left else left).value in (None, "")
    return same(*(Value("" if each.value is None else each.value) for each in (left, right)))


def unequal(left, right):
    if left.is_json or right.is_json:
        return not same(left, right)
    if all(each.is_fixed and each.value in (None, "") for each in (left, right)):
        return False
    if any(is_full(each) for each in (left, right)):
        return not same(left, right)
    return not equal(left, right)


def is_full(value):
    return value.is_full or (value.is_fixed and value.value not in (None, ""))


def same(left, right):
    if left.value is None or right.value is None:
        return left.value is right.value
    one, two = ranks(left, right)
    return one == two


def ranks(left, right):
    """Make values that Python orders as SQLite does: by affinity first, then numbers before texts."""
    one, two = left.value, right.value
    numeric = [each.affinity in (NUMERIC, LIST) for each in (left, right)]  # JSON columns are numeric to SQLite
    if numeric == [True, False]:
        two = as_number(two)
    elif numeric == [False, True]:
        one = as_number(one)
    elif left.affinity == TEXT and right.affinity is None:
        two = as_text(two)
    elif right.affinity == TEXT and left.affinity is None:
        one = as_text(one)
    return (isinstance(one, str), one), (isinstance(two, str), two)


def as_number(value):
    return float(value) if isinstance(value, str) and re.fullmatch(r"\s*-?\d+(\.\d+)?\s*", value) else value


def as_text(value):
    return value if isinstance(value, str) else repr(value)


def like(left, right):
    if left is None or right.value is None:
        return None
    text = as_text(right.value)
    if right.is_fixed and isinstance(right.value, float) and right.value.is_integer():
        text = str(int(right.value))
    if not right.is_fixed:
        return matches(as_text(left), "%" + text + "%")
    if re.search(r"(?<!\\)(?:\\\\)*%", text):
        return matches(as_text(left), text)
    literal = re.sub(r"\\([\\%_])", r"\1", text)
    return ascii_lower(literal) in ascii_lower(as_text(left))


def matches(text, pattern):
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    expression = "".join({"%": ".*", "_": "."}.get(each) or re.escape(each[-1]) for each in parts)
    return re.fullmatch(ascii_lower(expression), ascii_lower(text), re.DOTALL) is not None


def ascii_lower(text):
    return "".join(each.lower() if each.isascii() else each for each in text)
