"""SQL tokens: JWTs (HS256) under a key derived from the cluster's secret, hence good on every node.

Claims, as sqld names them: `a` is "rw" (default) or "ro"; `id` names one database, `db` a list of them (neither: all);
`exp` ends it; `admin` true opens the cluster routes. A checked token is remembered until it expires, in a bounded
cache, so that the usual request pays a dictionary lookup. Not here: what an Access allows (`pando.sql.access`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import jwt

from pando.clock import Clock, SystemClock
from pando.errors import Forbidden, InvalidDatabaseName, InvalidRequest, Unauthorized
from pando.node.secret import SQL_TOKEN_LABEL, derive_key
from pando.sql.access import Access
from pando.types import parse_database_name

TOKENS_CACHED_MAX: Final = 10_000
"""Checked tokens that a web process remembers; about 5 MB."""
TOKEN_SIZE_MAX: Final = 4096
_NEVER_MS: Final = 1 << 62
_CHECKS: Final[Any] = {  # times are compared with our clock, below
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
    "verify_iss": False,
    "verify_sub": False,
    "verify_jti": False,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenAccess(Access):
    """Rights of one request; `is_admin` opens /cluster/databases, import, export, verify, sync."""

    is_admin: bool = False

    def check_admin(self) -> None:
        """Raise Forbidden unless the token is an administrator's."""
        if not self.is_admin:
            raise Forbidden(
                "this token does not open the cluster's routes; `pando token` without restrictions makes one"
            )


OPEN_ACCESS: Final = TokenAccess()
"""What everybody has for SQL with `sql_auth = "open"`; the cluster's routes want a token still."""


def make_token(
    secret: str,
    *,
    read_only: bool = False,
    database: str = "",
    databases: Iterable[str] = (),
    life_s: float | None = None,
    is_admin: bool | None = None,
    clock: Clock | None = None,
) -> str:
    """Make a token. Without restrictions it is an administrator's unless `is_admin` says otherwise.

    Raises InvalidRequest for a restricted administrator, InvalidDatabaseName.
    """
    names = [parse_database_name(name) for name in (*([database] if database else ()), *databases)]
    is_restricted = read_only or bool(names)
    if is_admin and is_restricted:
        raise InvalidRequest("an administrator's token cannot be restricted to reading or to databases")
    claims: dict[str, Any] = {"a": "ro" if read_only else "rw"}
    if names:
        claims["db"] = names
    if is_admin or (is_admin is None and not is_restricted):
        claims["admin"] = True
    if life_s is not None:
        claims["exp"] = int((clock or SystemClock()).wall_ms() / 1000 + life_s)
    return jwt.encode(claims, derive_key(secret, SQL_TOKEN_LABEL), algorithm="HS256")


class Authenticator:
    """Checks the tokens of a web process. `is_open`: SQL needs none."""

    def __init__(
        self, secret: str, *, is_open: bool = False, clock: Clock | None = None, cached_max: int = TOKENS_CACHED_MAX
    ) -> None:
        self._key = derive_key(secret, SQL_TOKEN_LABEL)
        self._is_open = is_open
        self._cached_max = cached_max
        self._clock = clock or SystemClock()
        self._known: dict[bytes, tuple[TokenAccess, int]] = {}

    def authenticate(self, headers: Iterable[tuple[bytes, bytes]]) -> TokenAccess:
        """Give what a SQL request may do, from its ASGI headers. Raises Unauthorized."""
        for name, value in headers:
            if name == b"authorization":
                return self._check(value)
        if self._is_open:
            return OPEN_ACCESS
        raise Unauthorized("a token is needed: send `Authorization: Bearer TOKEN`; `pando token` makes one")

    def authenticate_admin(self, headers: Iterable[tuple[bytes, bytes]]) -> TokenAccess:
        """Give what a request to a cluster route may do. Raises Unauthorized, Forbidden."""
        access = next((self._check(value) for name, value in headers if name == b"authorization"), None)
        if access is None:
            raise Unauthorized("an administrator's token is needed: send `Authorization: Bearer TOKEN`")
        access.check_admin()
        return access

    def _check(self, value: bytes) -> TokenAccess:
        known = self._known.get(value)
        if known is not None:
            access, expires_ms = known
            if expires_ms == _NEVER_MS or self._clock.wall_ms() < expires_ms:
                return access
            del self._known[value]
        if self._is_open:
            return self._checked_or_open(value)
        return self._verified(value)

    def _checked_or_open(self, value: bytes) -> TokenAccess:
        try:
            return self._verified(value)
        except Unauthorized:
            return OPEN_ACCESS  # libSQL clients send whatever token they were configured with

    def _verified(self, value: bytes) -> TokenAccess:
        claims = self._claims(value)
        expires_ms = _expiry_ms(claims)
        if self._clock.wall_ms() >= expires_ms:
            raise Unauthorized("the token has expired; get a new one", code="AUTH_EXPIRED")
        access = _access(claims)
        if len(self._known) >= self._cached_max:
            del self._known[next(iter(self._known))]
        self._known[value] = (access, expires_ms)
        return access

    def _claims(self, value: bytes) -> dict[str, Any]:
        scheme, _, token = value.partition(b" ")
        if scheme.lower() != b"bearer" or not token or len(token) > TOKEN_SIZE_MAX:
            raise Unauthorized("the header must be `Authorization: Bearer TOKEN`")
        try:
            claims: dict[str, Any] = jwt.decode(token.strip(), self._key, algorithms=["HS256"], options=_CHECKS)
        except jwt.PyJWTError as error:
            raise Unauthorized("the token is not one of this cluster; `pando token` makes one") from error
        return claims


def _expiry_ms(claims: dict[str, Any]) -> int:
    expires = claims.get("exp")
    if expires is None:
        return _NEVER_MS
    if isinstance(expires, bool) or not isinstance(expires, int | float) or not 0 <= expires < 1e12:
        raise Unauthorized("the token's `exp` is no time")
    return int(expires * 1000)


def _access(claims: dict[str, Any]) -> TokenAccess:
    right = claims.get("a", "rw")
    if right not in ("rw", "ro"):
        raise Unauthorized("the token's `a` must be rw or ro")
    databases = _databases(claims)
    is_admin = claims.get("admin") is True and right == "rw" and databases is None
    return TokenAccess(read_only=right == "ro", databases=databases, is_admin=is_admin)


def _databases(claims: dict[str, Any]) -> frozenset[str] | None:
    named = [claims[key] for key in ("id", "db") if claims.get(key) is not None]
    if not named:
        return None
    texts = [text for item in named for text in (item if isinstance(item, list) else [item])]
    try:
        return frozenset(parse_database_name(text) for text in texts)
    except (InvalidDatabaseName, TypeError) as error:
        raise Unauthorized("the token names a database that cannot exist") from error
