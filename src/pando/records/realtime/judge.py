"""Answers whether a subscriber may see a record, and how it looks to them; see `matching.Allowed`.

A rule is asked about the row that the feed tells, not about what is stored by now: so a change is judged as it was, and
a deleted record as it was before. Rows that rules refer to are read as this node shows them, which is the position of
the change or a later one; so are the collections (`Judge` reads them after each read of the feed). Not here: who asks
when (`matching`), the language of rules (`pando.records.filter`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pando.records.desk import Asking, Desk, columns_of
from pando.records.engine import Row, Value
from pando.records.fields import ops
from pando.records.filter import Filter, Question, RequestInfo, Trust
from pando.records.listing import encode, enriched
from pando.records.model import Collection, Field, Schema
from pando.records.projection import parse_fields
from pando.records.realtime.changes import Values
from pando.records.realtime.identities import Identity, IdentityKey
from pando.records.realtime.topics import Options
from pando.records.record import GUEST, Record, Viewer, from_row, to_row
from pando.records.schema_cache import Known

CONTEXT: Final = "realtime"
"""`@request.context` of rules that decide over events."""
CALLERS_MAX: Final = 20_000
"""Signed-in records that a process keeps for judging; when there are more, all are forgotten."""


def identity_of(asking: Asking) -> Identity | None:
    """Give who made a subscription request, for its stream; None for a guest."""
    auth = asking.auth
    if auth is None:
        return None
    return Identity(auth.collection.id, auth.id, auth.text("tokenKey"), to_row(auth))


class Judge:
    """Judges for the streams of one process; its reads are those that the feed must be read with."""

    def __init__(self, desk: Desk, known: Known) -> None:
        self._desk = desk
        self._known = known
        self._row: _Row | None = None
        self._callers: dict[IdentityKey, _Caller] = {}

    @property
    def schema(self) -> Schema:
        """The collections at the position of the last read, or later."""
        return self._known.schema

    async def query(self, sql: str, args: Sequence[Value] = ()) -> list[Row]:
        """Give all rows (see `Reads`); then look at the collections, which are no older then."""
        rows = await self._desk.engine.reads().query(sql, args)
        self._known = await self._desk.known()
        return rows

    async def allowed(
        self, collection: Collection, values: Values, rule: str | None, identity: Identity | None, options: Options
    ) -> bytes | None:
        """Give the JSON of a row as a subscriber sees it, None if it must not. Raises ApiError, PandoError."""
        asking = self._asking(identity, options)
        row = self._row_of(collection, values)
        if not await self._holds(asking, row, rule, options):
            return None
        expand, fields = options.get("expand"), options.get("fields")
        if collection.is_auth or expand.strip():  # then it matters who looks, beyond superusers
            return await self._shown(asking, row, expand, fields)
        key = asking.is_superuser, fields
        body = row.bodies.get(key)
        if body is None:
            body = row.bodies[key] = await self._shown(asking, row, "", fields)
        return body

    async def _shown(self, asking: Asking, row: _Row, expand: str, fields: str) -> bytes:
        shown = (await enriched(self._desk, asking, row.collection, [row.record], expand))[0]
        projection = parse_fields(fields)
        body = encode(shown)
        return body if projection is None else projection.apply_to_text(body)

    async def _holds(self, asking: Asking, row: _Row, rule: str | None, options: Options) -> bool:
        filters: list[Filter] = []
        if not asking.is_superuser and rule and rule.strip():
            filters.append(Filter(rule, Trust.RULE))
        if wanted := options.get("filter").strip():
            filters.append(Filter(wanted, Trust.SUPERUSER if asking.is_superuser else Trust.CLIENT))
        if not filters:
            return True
        question = Question(
            collection=row.collection,
            request=asking.info,
            now=asking.now,
            columns=("id",),
            filters=tuple(filters),
            overlay=row.columns,
            limit=1,
        )
        compiled = self._desk.compiler(asking.schema).select(question)
        key = (compiled.sql, compiled.args, tuple([type(arg) for arg in compiled.args]))  # else 1 would be 1.0
        answer = row.answers.get(key)
        if answer is None:
            answer = bool(await self._desk.engine.reads().query(compiled.sql, compiled.args))
            if not compiled.is_volatile:
                row.answers[key] = answer
        return answer

    def _row_of(self, collection: Collection, values: Values) -> _Row:
        """Give the row that is judged, which many ask about one after the other."""
        row = self._row
        if row is None or row.values is not values or row.collection is not collection:
            row = self._row = _Row.of(collection, values)
        return row

    def _asking(self, identity: Identity | None, options: Options) -> Asking:
        caller = _NOBODY if identity is None else self._caller_of(identity)
        info = RequestInfo(
            context=CONTEXT,
            query=dict(options.query),
            headers=dict(options.headers),
            auth=caller.auth,
            is_superuser=caller.viewer.is_superuser,
        )
        now_ms = self._desk.clock.wall_ms()
        return Asking(known=self._known, info=info, viewer=caller.viewer, auth=caller.auth, now_ms=now_ms)

    def _caller_of(self, identity: Identity) -> _Caller:
        """Give the signed-in record, kept for as long as neither it nor the collections are others."""
        caller = self._callers.get(identity.key)
        if caller is None or caller.identity is not identity or caller.known is not self._known:
            auth = self._record_of(identity)
            caller = _Caller(identity, self._known, auth, GUEST if auth is None else Viewer.of(auth))
            if len(self._callers) >= CALLERS_MAX:
                self._callers.clear()
            self._callers[identity.key] = caller
        return caller

    def _record_of(self, identity: Identity) -> Record | None:
        """Give the signed-in record; None when its collection is gone."""
        collection = self.schema.find(identity.collection_id)
        if collection is None or collection.id != identity.collection_id:
            return None
        columns = columns_of(collection)
        return from_row(collection, columns, tuple(identity.values.get(name) for name in columns))


@dataclass(frozen=True, slots=True)
class _Caller:
    """Who asks, as far as that follows from an identity and the collections."""

    identity: Identity | None = None
    known: Known | None = None
    auth: Record | None = None
    viewer: Viewer = GUEST


_NOBODY: Final = _Caller()


@dataclass(frozen=True, slots=True)
class _Row:
    """A row that the feed tells: by column, as a record, and as JSON for who has asked so far."""

    collection: Collection
    values: Values
    columns: Mapping[str, Value]
    record: Record
    bodies: dict[tuple[bool, str], bytes] = field(default_factory=dict)
    """By whether a superuser looks, and the fields that are wanted."""
    answers: dict[object, bool] = field(default_factory=dict)
    """Whether a question holds, by its SQL and arguments: callers who differ in nothing that it asks share one."""

    @classmethod
    def of(cls, collection: Collection, values: Values) -> _Row:
        """Give the columns that the feed does not tell what new columns hold."""
        columns = columns_of(collection)
        row = tuple([values[each.name] if each.name in values else _zero(each) for each in collection.fields])
        return cls(collection, values, dict(zip(columns, row, strict=True)), from_row(collection, columns, row))


def _zero(field: Field) -> Value:
    """Give what the column of a field holds that was added after the change."""
    its = ops(field)
    return its.to_column(its.zero)
