"""What names mean: fields of the question's collection, macros, `@request...`, `@collection...`, true, false, null.

Pure. Not here: paths through records (`paths`), functions (`functions`).
"""

from __future__ import annotations

from typing import Final

from pando.records.filter.comparing import compare
from pando.records.filter.context import Context, Trust
from pando.records.filter.macros import MACROS
from pando.records.filter.operands import NOTHING, Operand, bound
from pando.records.filter.parts import FALSE, TRUE, enclosed
from pando.records.filter.paths import LISTS, Modifier, Path, Paths, Rows, Sent, split
from pando.records.filter.request import Area, RequestPath
from pando.records.filter.slots import Constant, MacroSlot, RequestSlot, State, TextSlot
from pando.records.filter.syntax import FilterError, Operator, UnknownName
from pando.records.model import Field, RelationField
from pando.records.problems import forbidden

YES: Final = Operand(TRUE, State.FULL)
NO: Final = Operand(FALSE, State.FULL)
_WORDS: Final = {"true": YES, "false": NO, "null": NOTHING}
_AUTH = Area.AUTH


class Resolver:
    """Resolves the names of one filter that is about rows of `rows`."""

    def __init__(self, context: Context, rows: Rows, paths: Paths, trust: Trust) -> None:
        self._context = context
        self._rows = rows
        self._paths = paths
        self._trust = trust

    def operand(self, name: str) -> Operand:
        """Give what a name stands for; raises FilterError, or ApiError 403 for what only superusers may name."""
        if name in MACROS:
            self._context.is_volatile = True
            return bound(MacroSlot(name))
        if name.startswith(("@request.", "@collection.")) and self._trust is Trust.CLIENT:
            raise forbidden("Only superusers can filter by @collection and @request fields.")
        if name.startswith("@collection."):
            return self._other(name)
        path = split(name)
        if name.startswith("@request."):
            return self._request(path)
        if len(path.keys) == 1 and self._rows.collection.field(name) is None and name.lower() in _WORDS:
            return _WORDS[name.lower()]
        return self._paths.operand(self._rows, path, path.keys)

    # -- @collection --------------------------------------------------------------------------------------------------

    def _other(self, name: str) -> Operand:
        first, _, rest = name.removeprefix("@collection.").partition(".")
        reference, colon, alias = first.partition(":")
        collection = self._context.schema.find(reference)
        path = split(rest)
        if collection is None or (colon and not alias) or ":" in alias:
            raise FilterError(f"unknown collection in {name!r}")
        return self._paths.operand(self._paths.open(collection, alias, path), path, path.keys)

    # -- @request -----------------------------------------------------------------------------------------------------

    def _request(self, path: Path) -> Operand:
        area, keys = path.keys[1], path.keys[2:]
        if area in (Area.CONTEXT, Area.METHOD) and not keys and path.modifier is Modifier.NONE:
            return self._value(RequestPath(Area(area)), path)
        if area in (Area.QUERY, Area.HEADERS) and keys:
            return self._value(RequestPath(Area(area), keys), path)
        if area == Area.BODY and keys:
            return self._body(path, keys)
        if area == _AUTH and keys:
            return self._auth(path, keys)
        raise path.unknown()

    def _value(self, at: RequestPath, path: Path) -> Operand:
        """Give a plain value of the request."""
        if path.modifier is Modifier.ISSET:
            return YES if self._context.shapes.is_present(at) else NO
        if path.modifier not in (Modifier.NONE, Modifier.LOWER):
            raise path.unsuitable()
        found = bound(RequestSlot(at), self._context.shapes.state(at))
        return self._paths.lower(found) if path.modifier is Modifier.LOWER else found

    def _body(self, path: Path, keys: tuple[str, ...]) -> Operand:
        collection = self._rows.collection
        field = collection.field(keys[0])
        if path.modifier is Modifier.CHANGED:
            return self._changed(path, keys, field)
        if isinstance(field, RelationField) and len(keys) > 1:
            refers = self._context.shapes.refers(RequestPath(Area.BODY, keys[:1]))
            return self._known(Sent(collection, Area.BODY), path, keys) if refers else NOTHING
        if isinstance(field, LISTS) and len(keys) == 1 and path.modifier in (Modifier.EACH, Modifier.LENGTH):
            return self._paths.operand(Sent(collection, Area.BODY), path, keys)
        if field is not None and len(keys) == 1 and path.modifier is Modifier.LOWER:
            at = RequestPath(Area.BODY, keys)
            is_full = self._context.shapes.state(at) is State.FULL
            return self._paths.lower(bound(TextSlot(at), State.FULL if is_full else State.EMPTY))
        return self._value(RequestPath(Area.BODY, keys), path)

    def _changed(self, path: Path, keys: tuple[str, ...], field: Field | None) -> Operand:
        """Tell whether a field is sent with another value than the stored one."""
        if field is None or len(keys) != 1:
            raise path.unsuitable()
        if not self._context.shapes.is_present(RequestPath(Area.BODY, keys)):
            return NO
        sent = Sent(self._rows.collection, Area.BODY).operand(self._context, field, ())
        stored = self._rows.operand(self._context, field, ())
        compared = compare(self._context.dialect, sent, Operator.NOT_EQUAL, stored)
        return Operand(enclosed(compared.sql), strict=False)

    def _auth(self, path: Path, keys: tuple[str, ...]) -> Operand:
        """Give a value of who has signed in."""
        collection = self._context.schema.find(self._context.shapes.auth_collection())
        if collection is None:
            return NOTHING
        if len(keys) == 1 and keys[0] in ("collectionId", "collectionName"):
            value = collection.id if keys[0] == "collectionId" else collection.name
            return bound(Constant(value))
        return self._known(Sent(collection, _AUTH), path, keys)

    def _known(self, source: Sent, path: Path, keys: tuple[str, ...]) -> Operand:
        """Follow a path; NULL if it leads nowhere, for with records of another collection it may not."""
        try:
            return self._paths.operand(source, path, keys)
        except UnknownName:
            return NOTHING
