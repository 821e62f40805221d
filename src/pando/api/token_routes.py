"""The routes about tokens: make one and note it, list those that were noted, revoke one. For administrators.

What is kept of a token is its id, name and rights, never the token itself. A token that was made without a node is in
no list, and can be revoked by its id all the same. Not here: what tokens hold (`pando.node.tokens`), the table
(`pando.sql.system`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final, Protocol, TypeVar

import msgspec

from pando.api.http import Handler, Request, Response, json_response
from pando.clock import Clock
from pando.errors import InvalidRequest
from pando.node.tokens import Authenticator, Made, issue_token
from pando.store.requests import Statement, Value

LISTED_MAX: Final = 10_000
"""Tokens in the list; those that have expired long ago make room."""
EXPIRED_KEPT_MS: Final = 30 * 86_400_000
LIFE_S_MAX: Final = 100 * 366 * 86_400
ID_CHARS_MAX: Final = 200
LIST_FULL: Final = "TOKENS_TOO_MANY"
UNLISTED: Final = "unlisted"
"""Rights of a token that was revoked without having been listed."""

_LIST: Final = (
    "SELECT id, name, rights, databases, created, expires, revoked FROM tokens ORDER BY created DESC, id LIMIT ?"
)
_FORGET: Final = "DELETE FROM tokens WHERE expires < ?"
_NOTE: Final = "INSERT INTO tokens(id, name, rights, databases, created, expires) VALUES (?, ?, ?, ?, ?, ?)"
_REVOKE: Final = (
    "INSERT INTO tokens(id, name, rights, created, revoked) VALUES (?1, '', ?2, ?3, ?3) "
    "ON CONFLICT(id) DO UPDATE SET revoked = coalesce(revoked, excluded.revoked)"
)


class TokenTable(Protocol):
    """What is needed of the system database."""

    async def rows(self, sql: str, *args: Value) -> list[tuple[Value, ...]]:
        """Read as this node shows it; nothing if there is no table yet."""
        ...

    async def write(self, statements: Sequence[Statement]) -> None:
        """Run statements in one transaction on the primary."""
        ...


class _Wanted(msgspec.Struct, forbid_unknown_fields=True):
    name: str = ""
    read_only: bool = False
    databases: list[str] = []
    expires_s: float | None = None
    admin: bool | None = None


class _Id(msgspec.Struct, forbid_unknown_fields=True):
    id: str


_Body = TypeVar("_Body", _Wanted, _Id)


class ListedToken(msgspec.Struct, frozen=True, kw_only=True):
    """A token in the list. `databases` None means all; times in UTC."""

    id: str
    name: str
    rights: str
    databases: list[str] | None
    created: str
    expires: str | None
    revoked: str | None


def token_routes(
    table: Callable[[], TokenTable],
    auth: Authenticator,
    secret: str,
    clock: Clock,
    *,
    listed_max: int = LISTED_MAX,
) -> dict[str, dict[str, Handler]]:
    """Give the handlers by path and method. `table` raises NotReady until there is one."""
    routes = _Routes(table, auth, secret, clock, listed_max)
    return {
        "/cluster/tokens": {"GET": routes.list, "POST": routes.create},
        "/cluster/tokens/revoke": {"POST": routes.revoke},
    }


class _Routes:
    def __init__(
        self, table: Callable[[], TokenTable], auth: Authenticator, secret: str, clock: Clock, listed_max: int
    ) -> None:
        self._table = table
        self._auth = auth
        self._secret = secret
        self._clock = clock
        self._listed_max = listed_max

    async def list(self, request: Request) -> Response:
        """All tokens that were noted, the newest first."""
        self._auth.authenticate_admin(request.headers)
        rows = await self._table().rows(_LIST, self._listed_max)
        return json_response({"tokens": [_listed(row) for row in rows]})

    async def create(self, request: Request) -> Response:
        """Make a token and note it. The answer is the only place where it can be seen."""
        self._auth.authenticate_admin(request.headers)
        wanted = _decode(await request.body(), _Wanted)
        if wanted.expires_s is not None and not 0 < wanted.expires_s <= LIFE_S_MAX:
            raise InvalidRequest(f"`expires_s` is {wanted.expires_s}; it must be a time from now in seconds")
        table = self._table()
        ((count,),) = await table.rows("SELECT count(*) FROM tokens") or [(0,)]
        if isinstance(count, int) and count >= self._listed_max:
            raise InvalidRequest(
                f"{count} tokens are listed, which is the limit; give tokens an end, so that they go", code=LIST_FULL
            )
        made = issue_token(
            self._secret,
            name=wanted.name,
            read_only=wanted.read_only,
            databases=wanted.databases,
            life_s=wanted.expires_s,
            is_admin=wanted.admin,
            clock=self._clock,
        )
        forget = Statement(_FORGET, (self._clock.wall_ms() - EXPIRED_KEPT_MS,), want_rows=False)
        await table.write([forget, Statement(_NOTE, _noted(made), want_rows=False)])
        answer = {"token": made.token, **msgspec.structs.asdict(_listed((*_noted(made), None)))}
        return json_response(answer, 201)

    async def revoke(self, request: Request) -> Response:
        """Have a token taken nowhere any more, within about a second on every node that is reached."""
        self._auth.authenticate_admin(request.headers)
        token_id = _decode(await request.body(), _Id).id
        if not 0 < len(token_id) <= ID_CHARS_MAX or not token_id.isprintable():
            raise InvalidRequest(f"an id of a token has 1 to {ID_CHARS_MAX} characters; `pando token list` shows them")
        table = self._table()
        known = await table.rows("SELECT rights FROM tokens WHERE id = ?", token_id)
        await table.write([Statement(_REVOKE, (token_id, UNLISTED, self._clock.wall_ms()), want_rows=False)])
        return json_response({"revoked": token_id, "listed": bool(known) and known[0][0] != UNLISTED})


def _decode(body: bytes, kind: type[_Body]) -> _Body:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"the body is not as it must be: {error}") from error


def _noted(made: Made) -> tuple[Value, ...]:
    rights = "admin" if made.is_admin else "ro" if made.read_only else "rw"
    databases = None if made.databases is None else json.dumps(made.databases)
    expires_ms = None if made.expires_s is None else made.expires_s * 1000
    return made.id, made.name, rights, databases, made.created_s * 1000, expires_ms


def _listed(row: Sequence[Value]) -> ListedToken:
    token_id, name, rights, databases, created, expires, revoked = row
    return ListedToken(
        id=str(token_id),
        name=str(name),
        rights=str(rights),
        databases=None if databases is None else json.loads(str(databases)),
        created=_time(created) or "",
        expires=_time(expires),
        revoked=_time(revoked),
    )


def _time(milliseconds: Value) -> str | None:
    if not isinstance(milliseconds, int):
        return None
    return datetime.fromtimestamp(milliseconds // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
