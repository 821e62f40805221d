"""What the claims of a SQL token allow: our own, and those of sqld.

    a      "rw" (default) or "ro"
    id     one database; `db` a list of them (ours); neither: all
    p      scopes instead of both: ro, rw, roa, rwa, ddl, each with databases in `ns` and with `tags`
    exp    seconds since 1970; `nbf` too
    aud    who is to take it: nobody who signs elsewhere can know us, so such tokens are refused (as sqld does)
    jti    id, by which a token can be revoked
    admin  opens the cluster's routes; means something only in tokens of the cluster's own secret

`roa` and `rwa` allow sqld to attach, which nobody can do here, so they count as `ro` and `rw`; `ddl` counts as `rw`. Of
tags only the one counts that the node is set to have: it stands for all databases. Pure. Not here: signatures
(`pando.jws`), which tokens are taken (`pando.node.tokens`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from pando.errors import Forbidden, InvalidDatabaseName, Unauthorized, UnknownDatabase
from pando.sql.access import Access
from pando.types import SYSTEM_DATABASE, parse_database_name

JWT_INVALID: Final = "AUTH_JWT_INVALID"
JWT_EXPIRED: Final = "AUTH_JWT_EXPIRED"
JWT_IMMATURE: Final = "AUTH_JWT_IMMATURE"
NEVER_MS: Final = 1 << 62
_TIME_MAX_S: Final = 1e12


class Scope(msgspec.Struct, frozen=True):
    """What a right is for."""

    ns: list[str] | None = None
    tags: list[str] | None = None


class Scopes(msgspec.Struct, frozen=True):
    """Rights and what each is for."""

    ro: Scope | None = None
    rw: Scope | None = None
    roa: Scope | None = None
    rwa: Scope | None = None
    ddl: Scope | None = None


class Claims(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a token says."""

    a: Literal["rw", "ro", "roa"] | None = None
    id: str | list[str] | None = None
    db: str | list[str] | None = None
    p: Scopes | None = None
    exp: int | float | None = None
    nbf: int | float | None = None
    aud: str | list[str] | None = None
    jti: str | None = None
    name: str | None = None
    admin: bool | None = None


_decode: Final = msgspec.json.Decoder(Claims).decode


def read_claims(payload: bytes) -> Claims:
    """Read a payload; raises Unauthorized."""
    try:
        claims = _decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Unauthorized(f"the token's claims cannot be read: {error}", code=JWT_INVALID) from error
    for what, time_s in (("exp", claims.exp), ("nbf", claims.nbf)):
        if time_s is not None and not 0 <= time_s < _TIME_MAX_S:
            raise Unauthorized(f"the token's `{what}` is no time", code=JWT_INVALID)
    return claims


def check_times(claims: Claims, now_ms: int, leeway_s: int) -> int:
    """Give until when, in milliseconds, the token holds. Raises Unauthorized outside of its time."""
    expires_ms = NEVER_MS if claims.exp is None else int((claims.exp + leeway_s) * 1000)
    if now_ms >= expires_ms:
        raise Unauthorized("the token has expired; get a new one", code=JWT_EXPIRED)
    if claims.nbf is not None and now_ms < (claims.nbf - leeway_s) * 1000:
        raise Unauthorized("the token does not hold yet; its `nbf` lies ahead", code=JWT_IMMATURE)
    return expires_ms


# -- rights ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccess(Access):
    """Rights of one request."""

    locked: frozenset[str] = frozenset()
    """Databases that take only tokens signed for them alone."""

    def check_database(self, name: str) -> None:
        """As for any access; the system database is for administrators. Raises UnknownDatabase, Unauthorized."""
        if name in self.locked:
            raise Unauthorized(
                f"database {name!r} has a key of its own, and only tokens that were signed with it", code=JWT_INVALID
            )
        if (self.databases is not None and name not in self.databases) or (
            name == SYSTEM_DATABASE and not self.is_admin
        ):
            raise UnknownDatabase(f"database {name!r} does not exist, or this token is not for it")

    def may_write(self, database: str) -> bool:
        """As for any access; nobody writes the system database by SQL."""
        return (not self.read_only or database in self.writable) and database != SYSTEM_DATABASE

    def check_admin(self) -> None:
        """Raise Forbidden unless the token is an administrator's."""
        if not self.is_admin:
            raise Forbidden(
                "this token does not open the cluster's routes; `pando token` without restrictions makes one"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyedAccess(TokenAccess):
    """Rights of a token that was signed elsewhere, while databases have keys of their own.

    Whether it holds is known once the database is. Until then it may read nothing and write nothing.
    """

    claimed: TokenAccess
    holds_for: Callable[[str], bool]
    """Whether the signature is one that this database takes."""
    otherwise: TokenAccess | None = None
    """What counts if it is not; None: nothing."""

    def check_database(self, name: str) -> None:
        """Raise Unauthorized if the token is not signed for this database, UnknownDatabase if it does not name it."""
        if self.holds_for(name):
            self.claimed.check_database(name)
        elif self.otherwise is not None:
            self.otherwise.check_database(name)
        else:
            raise Unauthorized("the token's signature is of no key that this database takes", code=JWT_INVALID)

    def may_write(self, database: str) -> bool:
        """Tell whether a database that may be used may be written too."""
        rights = self.claimed if self.holds_for(database) else self.otherwise
        return rights is not None and rights.may_write(database)


def access_of(claims: Claims, *, tag: str = "", may_be_admin: bool = False) -> TokenAccess:
    """Give what a token allows; raises Unauthorized. `tag`: the one that stands for all databases."""
    if claims.p is not None:
        return _access_of_scopes(claims.p, tag)
    databases = _databases(claims)
    is_reader = claims.a in {"ro", "roa"}
    is_admin = may_be_admin and claims.admin is True and not is_reader and databases is None
    return TokenAccess(read_only=is_reader, databases=databases, is_admin=is_admin)


def _access_of_scopes(scopes: Scopes, tag: str) -> TokenAccess:
    written = [scope for scope in (scopes.rw, scopes.rwa, scopes.ddl) if scope is not None]
    read = [scope for scope in (scopes.ro, scopes.roa) if scope is not None]
    if _covers_all(written, tag):
        return TokenAccess()
    writable = _named(written)
    databases = None if _covers_all(read, tag) else writable | _named(read)
    if databases == writable:
        return TokenAccess(databases=databases)
    return TokenAccess(read_only=True, databases=databases, writable=writable)


def _covers_all(scopes: Iterable[Scope], tag: str) -> bool:
    return bool(tag) and any(tag in (scope.tags or ()) for scope in scopes)


def _named(scopes: Iterable[Scope]) -> frozenset[str]:
    """Give the databases that scopes name. Names that no database can have here are those of other servers."""
    names = set()
    for scope in scopes:
        for text in scope.ns or ():
            try:
                names.add(parse_database_name(text))
            except InvalidDatabaseName:
                continue
    return frozenset(names)


def _databases(claims: Claims) -> frozenset[str] | None:
    named = [item for item in (claims.id, claims.db) if item is not None]
    if not named:
        return None
    texts = [text for item in named for text in (item if isinstance(item, list) else [item])]
    try:
        return frozenset(parse_database_name(text) for text in texts)
    except InvalidDatabaseName as error:
        raise Unauthorized("the token names a database that cannot exist", code=JWT_INVALID) from error
