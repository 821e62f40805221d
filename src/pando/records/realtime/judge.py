"""Answers whether a subscriber may see a record, and how it looks to them; see `matching.Allowed`.

A rule is asked about the row that the feed tells, not about what is stored by now: so a change is judged as it was, and
a deleted record as it was before. Rows that rules refer to are read as this node shows them, which is the position of
the change or a later one; so are the collections (`Judge` reads them after each read of the feed). Not here: who asks
when (`matching`), the language of rules (`pando.records.filter`).
"""

from __future__ import annotations

from collections.abc import Sequence

from pando.records.desk import Asking, Desk, columns_of
from pando.records.engine import Row, Value
from pando.records.fields import ops
from pando.records.filter import Filter, RequestInfo, Trust
from pando.records.listing import encode, enriched
from pando.records.model import Collection, Field, Schema
from pando.records.projection import parse_fields
from pando.records.realtime.changes import Values
from pando.records.realtime.identities import Identity
from pando.records.realtime.topics import Options
from pando.records.record import GUEST, Record, Viewer, from_row, to_row
from pando.records.schema_cache import Known

CONTEXT = "realtime"
"""`@request.context` of rules that decide over events."""


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
        columns = columns_of(collection)
        row = tuple([values[each.name] if each.name in values else _zero(each) for each in collection.fields])
        if not await self._holds(asking, collection, dict(zip(columns, row, strict=True)), rule, options):
            return None
        record = from_row(collection, columns, row)
        shown = (await enriched(self._desk, asking, collection, [record], options.get("expand")))[0]
        projection = parse_fields(options.get("fields"))
        body = encode(shown)
        return body if projection is None else projection.apply_to_text(body)

    async def _holds(
        self, asking: Asking, collection: Collection, values: Values, rule: str | None, options: Options
    ) -> bool:
        filters: list[Filter] = []
        if not asking.is_superuser and rule and rule.strip():
            filters.append(Filter(rule, Trust.RULE))
        if wanted := options.get("filter").strip():
            filters.append(Filter(wanted, Trust.SUPERUSER if asking.is_superuser else Trust.CLIENT))
        if not filters:
            return True
        _, rows = await self._desk.ask(
            asking, collection, columns=("id",), filters=tuple(filters), overlay=values, limit=1
        )
        return bool(rows)

    def _asking(self, identity: Identity | None, options: Options) -> Asking:
        auth = self._record_of(identity)
        viewer = GUEST if auth is None else Viewer.of(auth)
        info = RequestInfo(
            context=CONTEXT,
            query=dict(options.query),
            headers=dict(options.headers),
            auth=auth,
            is_superuser=viewer.is_superuser,
        )
        return Asking(known=self._known, info=info, viewer=viewer, auth=auth, now_ms=self._desk.clock.wall_ms())

    def _record_of(self, identity: Identity | None) -> Record | None:
        """Give the signed-in record; None for guests, and when its collection is gone."""
        collection = None if identity is None else self.schema.find(identity.collection_id)
        if identity is None or collection is None or collection.id != identity.collection_id:
            return None
        columns = columns_of(collection)
        return from_row(collection, columns, tuple(identity.values.get(name) for name in columns))


def _zero(field: Field) -> Value:
    """Give what the column of a field holds that was added after the change."""
    its = ops(field)
    return its.to_column(its.zero)
