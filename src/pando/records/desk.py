"""What the records of one process share, and who asks for one request.

Not here: the requests themselves (`listing`, `writing`, `signing_in`), HTTP.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final, cast

from pando.clock import Clock, Random
from pando.errors import NotReady
from pando.records.aside import Aside
from pando.records.auth.passwords import PasswordWorker
from pando.records.auth.tokens import TokenKind, VerifiedTokens, options_of
from pando.records.collections.sql_tokens import quote
from pando.records.engine import Basis, Engine, Reading, Reads, Row, Value
from pando.records.fields import jsontext
from pando.records.files.cabinet import Cabinet
from pando.records.filter import Compiler, Question, RequestInfo
from pando.records.guarding.addresses import client_address
from pando.records.guarding.guard import Guard
from pando.records.model import SUPERUSERS_ID, Collection, CollectionType, Schema
from pando.records.problems import not_found
from pando.records.record import GUEST, Record, Viewer, from_row
from pando.records.schema_cache import Known, SchemaCache
from pando.records.setup import ensure

COUNTS_MAX: Final = 500
"""Answers that follow from values alone and are kept; when there are more, all are forgotten."""
FOUND_MAX: Final = 2000
"""Records of which a process remembers that they are there; when there are more, all are forgotten."""
SIGNED_IN_MAX: Final = 2000
"""Records of signed-in callers that a process remembers; when there are more, all are forgotten."""


@dataclass(slots=True)
class Notes:
    """What was learnt while a request was treated."""

    is_volatile: bool = False
    """Whether clock or chance had a say in the answer."""
    expires_ms: int | None = None
    """When the token that was shown ends; None: none was."""
    engine: Engine | None = None
    """Whose reads are remembered: not those of a transaction that a part of the request runs in."""
    reading: Reading | None = None
    """What was read; None: that is of no interest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One request: what holds, who asks, when."""

    known: Known
    info: RequestInfo
    viewer: Viewer
    auth: Record | None
    now_ms: int
    peer: str = ""
    """The other end of the connection, "" if it has no address."""
    notes: Notes = field(default_factory=Notes)

    @property
    def schema(self) -> Schema:
        """The collections at this moment."""
        return self.known.schema

    @property
    def now(self) -> datetime:
        """The same moment, in UTC."""
        return datetime.fromtimestamp(self.now_ms / 1000, UTC)

    @property
    def address(self) -> str:
        """Where the client is."""
        return client_address(self.info.headers, self.peer, self.known.settings.trusted_proxy)

    @property
    def is_superuser(self) -> bool:
        """Whether rules do not apply."""
        return self.viewer.is_superuser

    def collection(self, reference: str) -> Collection:
        """Find a collection by id or name. Raises ApiError 404."""
        found = self.schema.find(reference)
        if found is None:
            raise not_found("Missing collection context.")
        return found

    def within(self, context: str, **change: Any) -> Asking:  # noqa: ANN401 - fields of RequestInfo
        """Give the same request in another context."""
        return replace(self, info=replace(self.info, context=context, **change))


@dataclass(slots=True, kw_only=True)
class Desk:
    """One database of a process, with what its requests share."""

    engine: Engine
    clock: Clock
    random: Random
    passwords: PasswordWorker
    files: Cabinet
    tokens: VerifiedTokens = field(default_factory=VerifiedTokens)
    guard: Guard = field(default_factory=Guard)
    aside: Aside = field(default_factory=Aside)
    cache: SchemaCache = field(init=False)
    _compiler: Compiler | None = field(default=None, init=False)
    _compiler_version: int = field(default=-1, init=False)
    _counts: dict[tuple[object, ...], int] = field(default_factory=dict, init=False)
    _found: dict[tuple[int, str, str], Basis] = field(default_factory=dict, init=False)
    _signed_in: dict[tuple[int, str, str], tuple[Record, Basis]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        """Make the cache of the schema."""
        self.cache = SchemaCache(self.engine)

    def within(self, engine: Engine) -> Desk:
        """Give the same for an open transaction; what is remembered of stored rows is not taken along."""
        found = replace(self, engine=engine)
        found._compiler, found._compiler_version, found._counts = self._compiler, self._compiler_version, self._counts
        return found

    async def known(self) -> Known:
        """Give collections and settings; they are made if there are none. Raises NotReady on a replica without."""
        found = await self.cache.current()
        if found is None:
            await ensure(self.engine, random=self.random, now_ms=self.clock.wall_ms())
            found = await self.cache.current()
        if found is None:
            raise NotReady("the collections are being made; try again")
        return found

    def compiler(self, schema: Schema) -> Compiler:
        """Give the compiler of filters for these collections."""
        if self._compiler is None or self._compiler_version != schema.version:
            self._compiler, self._compiler_version = Compiler(schema), schema.version
        return self._compiler

    async def ask(
        self,
        asking: Asking,
        collection: Collection,
        *,
        reads: Reads | None = None,
        **parts: Any,  # noqa: ANN401
    ) -> tuple[Sequence[str], list[Row]]:
        """Ask for rows of a collection; `parts` are those of a Question. Gives columns and rows. Raises ApiError."""
        question = Question(collection=collection, request=asking.info, now=asking.now, **parts)
        compiled = self.compiler(asking.schema).select(question)
        if compiled.is_volatile:
            asking.notes.is_volatile = True
        if reads is None:
            notes = asking.notes
            if notes.reading is not None and notes.engine is self.engine:
                reads = notes.reading
            elif compiled.is_of_rows and question.ids:
                reads = self.engine.reads_of(collection.name, question.ids)
            else:
                reads = self.engine.reads()
        rows = await reads.query(compiled.sql, compiled.args)
        return compiled.columns, rows

    async def count(self, asking: Asking, collection: Collection, **parts: Any) -> int:  # noqa: ANN401
        """Count rows of a collection; `parts` are those of a Question. Raises ApiError.

        What follows from values alone, as most rules for new records do, is computed once for the same values.
        """
        question = Question(collection=collection, request=asking.info, now=asking.now, count=True, **parts)
        compiled = self.compiler(asking.schema).select(question)
        key = (compiled.sql, compiled.args, tuple([type(arg) for arg in compiled.args]))  # else 1 would be 1.0
        if compiled.is_of_values and key in self._counts:
            return self._counts[key]
        rows = await self.engine.reads().query(compiled.sql, compiled.args)
        found = cast("int", rows[0][0])
        if compiled.is_of_values:
            if len(self._counts) >= COUNTS_MAX:
                self._counts.clear()
            self._counts[key] = found
        return found

    async def count_ids(self, schema: Schema, collection: Collection, ids: set[str]) -> int:
        """Count how many of these different ids name a record, rules aside; a single one from memory if possible."""
        if len(ids) > 1:
            sql = f"SELECT count(*) FROM {quote(collection.name)} WHERE `id` IN (SELECT value FROM json_each(?))"
            rows = await self.engine.reads().query(sql, (jsontext.encode([*ids]).decode(),))
            return cast("int", rows[0][0])
        [id] = ids
        key = (schema.version, collection.id, id)
        kept = self._found.get(key)
        if kept is not None and self.engine.holds(kept):
            return 1
        reading = self.engine.reading()
        if not await reading.query(f"SELECT 1 FROM {quote(collection.name)} WHERE `id` = ?", (id,)):
            return 0
        basis = reading.basis()
        if basis is not None:
            if len(self._found) >= FOUND_MAX:
                self._found.clear()
            self._found[key] = basis
        return 1

    async def asking(
        self, authorization: str, *, method: str, query: Mapping[str, str], headers: Mapping[str, str], peer: str = ""
    ) -> Asking:
        """Find out who asks; whoever cannot prove it is a guest. Raises NotReady, PandoError.

        What is read is noted for GET only: no other answer is given again.
        """
        reading = self.engine.reading() if method == "GET" else None
        known = await self.known()
        if reading is not None:
            reading.include(self.cache.basis)
        now_ms = self.clock.wall_ms()
        notes = Notes(engine=self.engine, reading=reading)
        auth = None
        if authorization:
            auth = await self.signed_in(known.schema, authorization, TokenKind.AUTH, now_ms, notes)
        viewer = GUEST if auth is None else Viewer.of(auth)
        info = RequestInfo(method=method, query=query, headers=headers, auth=auth, is_superuser=viewer.is_superuser)
        return Asking(known=known, info=info, viewer=viewer, auth=auth, now_ms=now_ms, peer=peer, notes=notes)

    async def signed_in(
        self, schema: Schema, authorization: str, kind: TokenKind, now_ms: int, notes: Notes | None = None
    ) -> Record | None:
        """Give the record that a token speaks for; None if it does not hold."""
        token = authorization[7:] if authorization[:7].lower() == "bearer " else authorization
        claims = self.tokens.read(token)
        if claims is None or claims.type is not kind:
            return None
        collection = schema.find(claims.collection_id)
        if collection is None or collection.auth is None or collection.id != claims.collection_id:
            return None
        record, basis = await self._who(schema, collection, claims.id)
        if notes is not None and notes.reading is not None:
            notes.reading.include(basis)
        if record is None:
            return None
        secret = options_of(kind, collection.auth).secret
        holds = self.tokens.verify(token, record.text("tokenKey"), secret, now_ms / 1000)
        if holds is None:
            return None
        if notes is not None:
            notes.expires_ms = claims.exp * 1000
        return record

    async def _who(self, schema: Schema, collection: Collection, id: str) -> tuple[Record | None, Basis | None]:
        """Give a record that signs in, and what that is based on; from memory while nothing changed."""
        key = (schema.version, collection.id, id)
        kept = self._signed_in.get(key)
        if kept is not None and self.engine.holds(kept[1]):
            return kept
        reading = self.engine.reading()
        record = await find_by_id(reading, collection, id)
        basis = reading.basis()
        if record is not None and basis is not None:
            if len(self._signed_in) >= SIGNED_IN_MAX:
                self._signed_in.clear()
            self._signed_in[key] = record, basis
        return record, basis


def is_superusers(collection: Collection) -> bool:
    """Whether the records of a collection are superusers."""
    return collection.type is CollectionType.AUTH and collection.id == SUPERUSERS_ID


def columns_of(collection: Collection) -> tuple[str, ...]:
    """Name the columns of a collection in the order in which records are read."""
    found: tuple[str, ...] | None = collection.__dict__.get("_columns")
    if found is None:
        found = collection.__dict__["_columns"] = tuple(each.name for each in collection.fields)
    return found


def select_of(collection: Collection) -> str:
    """Give `SELECT columns FROM table` of a collection."""
    found: str | None = collection.__dict__.get("_select")
    if found is None:
        names = ", ".join(quote(name) for name in columns_of(collection))
        found = collection.__dict__["_select"] = f"SELECT {names} FROM {quote(collection.name)}"
    return found


async def find_by_id(reads: Reads, collection: Collection, id: str) -> Record | None:
    """Read a record by its id, rules aside."""
    rows = await reads.query(f"{select_of(collection)} WHERE `id` = ?", (id,))
    return from_row(collection, columns_of(collection), rows[0]) if rows else None


async def find_all(reads: Reads, collection: Collection, where: str, args: Sequence[Value]) -> list[Record]:
    """Read records by a condition of ours, rules aside."""
    rows = await reads.query(f"{select_of(collection)} WHERE {where}", args)
    return [from_row(collection, columns_of(collection), row) for row in rows]
