"""Questions about records, and the SQL that answers them.

    compiler = Compiler(schema)
    found = compiler.select(Question(collection=posts, request=request, now=now, filters=(Filter(rule, Trust.RULE),)))
    rows = await reads.query(found.sql, found.args)

A compiler belongs to one schema, and so do the collections of its questions. It keeps compiled SQL under everything
that shapes it: collection, filters without their literals, sort, columns, and what it had to know of the request (is a
value there, is it empty); the values themselves are bound each time. Rows come once each, in the order of
`Compiled.columns`. Pure. Not here: reading rows, making records of them.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from pando import limits
from pando.errors import invariant
from pando.records.engine import Value
from pando.records.filter.conditions import Conditions
from pando.records.filter.context import Context, Trust
from pando.records.filter.dialect import Dialect, SqliteDialect
from pando.records.filter.lexer import Lexed, lex
from pando.records.filter.logic import Every, Logic, Scopes
from pando.records.filter.parser import parse
from pando.records.filter.parts import Column, Fragment, Join, joined
from pando.records.filter.paths import Rows
from pando.records.filter.request import RequestInfo
from pando.records.filter.slots import (
    Binding,
    Given,
    GivenFirstSlot,
    GivenSlot,
    LiteralSlot,
    OverlaySlot,
    Probe,
    Shapes,
    Slot,
    State,
    still_true,
)
from pando.records.filter.sort import Sorting
from pando.records.filter.syntax import (
    CLIENT_CHARS_MAX,
    CLIENT_COMPARISONS_MAX,
    RULE_CHARS_MAX,
    RULE_COMPARISONS_MAX,
    FilterError,
)
from pando.records.model import Collection, Schema
from pando.records.problems import ApiError, bad_request, forbidden

__all__ = ["Compiled", "Compiler", "Filter", "Question", "Referring", "Trust"]

CACHED_MAX: Final = 500
"""Questions kept compiled."""
SQL_CACHED_CHARS_MAX: Final = 16 * 1024
"""Longest SQL that is kept: with the above some megabytes."""
VARIANTS_MAX: Final = 8
"""Shapes of requests kept for one question."""
TEXTS_MAX: Final = 1000
"""Texts of filters kept read."""
TEXT_CACHED_CHARS_MAX: Final = 4096
"""Longest text of a filter that is kept read: with the above some megabytes."""
SLOTS_MAX: Final = 32_000
"""Most bound values: SQLite takes 32,766."""


@dataclass(frozen=True, slots=True)
class Filter:
    """A filter and who wrote it; an empty one asks nothing."""

    text: str
    trust: Trust


@dataclass(frozen=True, slots=True)
class Referring:
    """Only rows whose relation field holds one of these ids."""

    field: str
    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked of a collection's records.

    `columns` None means `id` first, then all others in the order of fields. `ids` restricts to records, `referring` to
    those that refer to records. `sort` is a client's, or a superuser's if the request is. `count` asks for the number
    of rows, without regard to sort, limit and offset. With an `overlay` (values by column) the question is about that
    one record instead of the stored ones; paths to other records still lead to stored ones.
    """

    collection: Collection
    request: RequestInfo
    now: datetime
    filters: tuple[Filter, ...] = ()
    sort: str = ""
    columns: tuple[str, ...] | None = None
    ids: tuple[str, ...] | None = None
    referring: Referring | None = None
    limit: int | None = None
    offset: int = 0
    count: bool = False
    overlay: Mapping[str, Value] | None = None


@dataclass(frozen=True, slots=True)
class Compiled:
    """SQL with its values; `columns` of its rows; names of collections read; whether clock or chance have a say."""

    sql: str
    args: tuple[Value, ...]
    columns: tuple[str, ...] = ()
    tables: frozenset[str] = frozenset()
    is_volatile: bool = False
    is_of_rows: bool = False
    """Whether nothing but the collection's own rows is looked at, each by itself."""

    @property
    def is_of_values(self) -> bool:
        """Whether the answer follows from the values alone: the same ones always give the same."""
        return not self.tables and not self.is_volatile


@dataclass(frozen=True, slots=True)
class _Template:
    """Compiled SQL without values, and what it presumes of the request."""

    sql: str
    slots: tuple[Slot, ...]
    columns: tuple[str, ...]
    tables: frozenset[str]
    is_volatile: bool
    is_of_rows: bool
    told: Mapping[Probe, State | bool | str]
    collection: Collection

    def suits(self, question: Question) -> bool:
        """Whether it answers another question that has the same key."""
        return self.collection is question.collection and still_true(self.told, question.request)


class Compiler:
    """Makes SQL of questions about the collections of one schema."""

    def __init__(self, schema: Schema, *, dialect: Dialect | None = None) -> None:
        self.schema = schema
        self._dialect: Dialect = dialect or SqliteDialect()
        self._texts: OrderedDict[str, Lexed] = OrderedDict()
        self._templates: OrderedDict[Hashable, list[_Template]] = OrderedDict()

    def select(self, question: Question) -> Compiled:
        """Make SQL; raises FilterError for a rule, ApiError for a filter or sort of a client."""
        filters = [(each, self._lex(each)) for each in question.filters if each.text]
        template = self._template(question, filters)
        binding = Binding(
            request=question.request,
            now=question.now,
            literals=tuple(lexed.literals for _, lexed in filters),
            overlay=question.overlay or {},
            ids=question.ids or (),
            referred=question.referring.ids if question.referring else (),
            limit=-1 if question.limit is None else question.limit,
            offset=question.offset,
        )
        try:
            args = tuple(each.value(binding) for each in template.slots)
        except FilterError as error:
            raise bad_request(error.message) from error
        return Compiled(
            template.sql, args, template.columns, template.tables, template.is_volatile, template.is_of_rows
        )

    def check(self, collection: Collection, rule: str, request: RequestInfo, now: datetime) -> None:
        """Raise FilterError unless a rule can be used for a collection."""
        self.select(Question(collection=collection, request=request, now=now, filters=(Filter(rule, Trust.RULE),)))

    # -- caches -------------------------------------------------------------------------------------------------------

    def _lex(self, filter: Filter) -> Lexed:
        _check_text(filter)
        found = self._texts.get(filter.text)
        if found is not None:
            self._texts.move_to_end(filter.text)
            return found
        try:
            found = lex(filter.text)
        except FilterError as error:
            raise _for_whom(error, filter.trust) from error
        if len(filter.text) <= TEXT_CACHED_CHARS_MAX:
            self._texts[filter.text] = found
            if len(self._texts) > TEXTS_MAX:
                self._texts.popitem(last=False)
        return found

    def _template(self, question: Question, filters: list[tuple[Filter, Lexed]]) -> _Template:
        key = _key(question, filters)
        variants = self._templates.get(key, [])
        for each in variants:
            if each.suits(question):
                self._templates.move_to_end(key)
                return each
        template = _Select(self.schema, self._dialect, question, filters).template()
        if len(template.sql) <= SQL_CACHED_CHARS_MAX:
            self._templates[key] = [template, *variants[: VARIANTS_MAX - 1]]
            self._templates.move_to_end(key)
            if len(self._templates) > CACHED_MAX:
                self._templates.popitem(last=False)
        return template


def _key(question: Question, filters: list[tuple[Filter, Lexed]]) -> Hashable:
    """Give all that shapes SQL but what is told of the request."""
    return (
        question.collection.id,
        tuple((each.trust, lexed.shape) for each, lexed in filters),
        (question.sort, question.request.is_superuser),
        question.count or (question.columns,),
        question.ids is not None and min(len(question.ids), 2),
        question.referring and (question.referring.field, min(len(question.referring.ids), 2)),
        question.limit is not None,
        question.offset > 0,
        question.overlay is not None,
    )


def _check_text(filter: Filter) -> None:
    if filter.trust is Trust.RULE:
        if len(filter.text) > RULE_CHARS_MAX:
            raise FilterError(f"a rule is longer than {RULE_CHARS_MAX} characters")
        return
    if len(filter.text) > CLIENT_CHARS_MAX:
        raise bad_request(f"The filter is longer than {CLIENT_CHARS_MAX} characters.")
    if filter.trust is Trust.CLIENT:
        _check_names(filter.text)


def _check_names(text: str) -> None:
    if "@collection." in text or "@request." in text:
        raise forbidden("Only superusers can filter and sort by @collection and @request fields.")


def _for_whom(error: FilterError, trust: Trust) -> FilterError | ApiError:
    """Give the error that the writer of a filter is told."""
    return error if trust is Trust.RULE else bad_request(f"Invalid filter: {error.message}.")


class _Select:
    """Compiles one question."""

    def __init__(
        self, schema: Schema, dialect: Dialect, question: Question, filters: list[tuple[Filter, Lexed]]
    ) -> None:
        self._question = question
        self._filters = filters
        self._dialect = dialect
        self._shapes = Shapes(question.request)
        self._context = Context(schema, dialect, self._shapes)
        self._rows = Rows(question.collection, Join(self._context.new_alias(), 0))
        self._conditions = Conditions(self._context, self._rows)
        self._scopes = Scopes(dialect, self._context.new_alias)

    def template(self) -> _Template:
        """Write all parts and put them together."""
        question = self._question
        logic = self._filtered()
        order = self._order()  # what a client sorts by may be hidden from it: this counts, too
        columns = () if question.count else _columns(question)
        try:
            logic = Every((*logic.items, *self._conditions.visible()))
            where = [*self._asked_for(), *((self._scopes.write(logic),) if logic.items else ())]
            joins = self._scopes.tables(self._conditions.singles)
        except FilterError as error:
            raise self._for_all(error) from error
        body: Fragment = (
            *(("COUNT(*)",) if question.count else joined(", ", [self._rows.column(each) for each in columns])),
            f" FROM {self._table()} AS {self._dialect.name(self._rows.join.alias)}",
            *joins,
            *((" WHERE ", *joined(" AND ", where)) if where else ()),
            *((" ORDER BY ", *order) if order and not question.count else ()),
            *(() if question.count else self._window()),
        )
        parts: Fragment = (*(self._overlay(body) if question.overlay is not None else ()), "SELECT ", *body)
        sql, slots = _written(parts, self._dialect)
        if len(slots) > SLOTS_MAX or len(sql) > limits.SQL_SIZE_BYTES_MAX:
            raise self._for_all(FilterError("the filter is too long"))
        others, is_stored = self._context.tables, question.overlay is None
        return _Template(
            sql,
            slots,
            columns,
            tables=frozenset(others | ({question.collection.name} if is_stored else set())),
            is_volatile=self._context.is_volatile,
            is_of_rows=is_stored and not others and not question.collection.is_view,
            told=self._shapes.told,
            collection=question.collection,
        )

    def _for_all(self, error: FilterError) -> FilterError | ApiError:
        """Give the error that is told when filters together go too far."""
        trusts = {each.trust for each, _ in self._filters} | ({Trust.CLIENT} if self._question.sort else set())
        return _for_whom(error, Trust.RULE if trusts == {Trust.RULE} else Trust.CLIENT)

    def _table(self) -> str:
        name = self._question.collection.name
        return self._dialect.name(name if self._question.overlay is None else f"@{name}")

    def _overlay(self, body: Fragment) -> Fragment:
        """Make a table of what is asked of the one record, under a name that no collection has."""
        asked = {each.name for each in body if isinstance(each, Column) and each.join is self._rows.join}
        fields = [each for each in self._question.collection.fields if each.name in asked]
        if not fields:
            return (f"WITH {self._table()} AS (SELECT 1) ",)
        names = ", ".join(self._dialect.name(each.name) for each in fields)
        values = [self._dialect.as_column(each, (OverlaySlot(each.name),)) for each in fields]
        return (f"WITH {self._table()} ({names}) AS (SELECT ", *joined(", ", values), ") ")

    def _asked_for(self) -> list[Fragment]:
        question, found = self._question, []
        if question.ids is not None:
            found.append(self._among(self._rows.column("id"), len(question.ids), Given.IDS))
        if question.referring is not None:
            relation = question.collection.field(question.referring.field)
            invariant(relation is not None, "no such relation field", field=question.referring.field)
            if relation is not None and relation.is_multiple:
                items = self._dialect.items(self._rows.column(relation.name))
                holds = self._among(("value",), len(question.referring.ids), Given.REFERRED)
                found.append(("EXISTS (SELECT 1 FROM ", *items, " WHERE ", *holds, ")"))
            elif relation is not None:
                column = self._rows.column(relation.name)
                found.append(self._among(column, len(question.referring.ids), Given.REFERRED))
        return found

    def _among(self, column: Fragment, count: int, given: Given) -> Fragment:
        if count == 1:
            return (*column, " = ", GivenFirstSlot(given))
        return (*column, " IN (SELECT value FROM ", *self._dialect.listed((GivenSlot(given),)), ")")

    def _filtered(self) -> Every:
        """Translate the filters to one condition, since they share joins."""
        found: list[Logic] = []
        for number, (each, lexed) in enumerate(self._filters):
            most = RULE_COMPARISONS_MAX if each.trust is Trust.RULE else CLIENT_COMPARISONS_MAX
            try:
                tree = parse(lexed, comparisons_max=most)
                literals = [LiteralSlot(number, position) for position in range(len(lexed.literals))]
                found.append(self._conditions.logic(tree, each.trust, literals.__getitem__))
            except FilterError as error:
                raise _for_whom(error, each.trust) from error
        return Every(tuple(found))

    def _order(self) -> Fragment:
        trust = Trust.SUPERUSER if self._question.request.is_superuser else Trust.CLIENT
        if trust is Trust.CLIENT:
            _check_names(self._question.sort)
        try:
            return Sorting(self._context, self._rows, self._conditions, self._scopes).order(self._question.sort, trust)
        except FilterError as error:
            raise bad_request(f"Invalid sort: {error.message}.") from error

    def _window(self) -> Fragment:
        question = self._question
        if question.limit is None and question.offset <= 0:
            return ()
        # A bare parameter here would have SQLite prepare the statement anew each time: its planner looks at the value.
        offset: Fragment = (" OFFSET 0 + ", GivenSlot(Given.OFFSET)) if question.offset > 0 else ()
        return (" LIMIT 0 + ", GivenSlot(Given.LIMIT), *offset)


def _columns(question: Question) -> tuple[str, ...]:
    known = question.collection.by_name
    if question.columns is None:
        return ("id", *(each for each in known if each != "id"))
    invariant(all(each in known for each in question.columns), "unknown columns", columns=question.columns)
    return question.columns


def _written(parts: Fragment, dialect: Dialect) -> tuple[str, tuple[Slot, ...]]:
    """Make text of a fragment, with placeholders where slots are."""
    texts: list[str] = []
    slots: list[Slot] = []
    for each in parts:
        if isinstance(each, str):
            texts.append(each)
        elif isinstance(each, Column):
            texts.append(f"{dialect.name(each.join.alias)}.{dialect.name(each.name)}")
        else:
            slots.append(each)
            texts.append(dialect.placeholder(len(slots)))
    return "".join(texts), tuple(slots)
