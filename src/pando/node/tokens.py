"""Who asks for SQL: tokens (JWT) of the cluster's own secret, tokens of keys elsewhere, HTTP basic, or everybody.

Our own tokens are signed (HS256) with a key derived from the cluster's secret, hence good on every node, and only among
them are administrators'. Tokens signed with an Ed25519 key are taken where public keys are set, for the node or for one
database alone. What was checked is remembered until it expires, in a bounded cache, so that the usual request pays a
dictionary lookup; what is revoked, and keys of databases, come from outside. Not here: what claims mean
(`pando.node.claims`), signatures (`pando.jws`), where revocations are kept (`pando.sql.system`).
"""

from __future__ import annotations

import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import msgspec

from pando.clock import Clock, SystemClock, random_bytes
from pando.errors import InvalidRequest, Unauthorized
from pando.jws import EDDSA, HS256, Jws, NoToken, holds_ed25519, holds_hs256, sign, take_apart
from pando.node.claims import (
    JWT_INVALID,
    NEVER_MS,
    Claims,
    KeyedAccess,
    TokenAccess,
    access_of,
    check_times,
    read_claims,
)
from pando.node.secret import SQL_TOKEN_LABEL, derive_key
from pando.public_keys import parse_public_keys
from pando.types import parse_database_name

TOKENS_CACHED_MAX: Final = 10_000
"""Checked tokens that a web process remembers; about 10 MB."""
TOKEN_BYTES_MAX: Final = 16 * 1024
CACHED_BYTES_MAX: Final = 4096
"""Longer ones, which name hundreds of databases, are checked each time."""
KEY_TEXTS_CACHED_MAX: Final = 16_384
"""Each change of any database's configuration has all keys looked at again; about 10 MB."""
NAME_CHARS_MAX: Final = 200
LEEWAY_S: Final = 60
"""How far the clock of who signs elsewhere may be off, as with sqld; our own tokens end on the second."""
_ID_BYTES: Final = 12

HEADER_MISSING: Final = "AUTH_HEADER_NOT_FOUND"
HEADER_MALFORMED: Final = "AUTH_HEADER_MALFORMED"
UNSUPPORTED_SCHEME: Final = "AUTH_HTTP_HEADER_UNSUPPORTED_SCHEME"
BASIC_REJECTED: Final = "AUTH_BASIC_REJECTED"
FAILED: Final = "AUTH_FAILED"

OPEN_ACCESS: Final = TokenAccess()
"""What everybody has for SQL with `sql_auth = "open"`; the cluster's routes want a token still."""

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A token, and what it says. `databases` None means all; times in seconds since 1970."""

    token: str
    id: str
    name: str
    read_only: bool
    databases: tuple[str, ...] | None
    is_admin: bool
    created_s: int
    expires_s: int | None


def issue_token(
    secret: str,
    *,
    name: str = "",
    read_only: bool = False,
    databases: Iterable[str] = (),
    life_s: float | None = None,
    is_admin: bool | None = None,
    clock: Clock | None = None,
) -> Made:
    """Make a token. Without restrictions it is an administrator's unless `is_admin` says otherwise.

    Raises InvalidRequest for a restricted administrator or a long name, InvalidDatabaseName.
    """
    names = tuple(dict.fromkeys(parse_database_name(text) for text in databases))
    is_restricted = read_only or bool(names)
    if is_admin and is_restricted:
        raise InvalidRequest("an administrator's token cannot be restricted to reading or to databases")
    if len(name) > NAME_CHARS_MAX:
        raise InvalidRequest(f"the name of a token has at most {NAME_CHARS_MAX} characters, not {len(name)}")
    is_admin = not is_restricted if is_admin is None else is_admin
    now_s = (clock or SystemClock()).wall_ms() / 1000
    expires_s = None if life_s is None else int(now_s + life_s)
    claims = Claims(
        a="ro" if read_only else "rw",
        db=list(names) or None,
        exp=expires_s,
        jti=random_bytes(_ID_BYTES).hex(),
        name=name or None,
        admin=is_admin or None,
    )
    token = sign(msgspec.json.encode(claims), derive_key(secret, SQL_TOKEN_LABEL))
    if len(token) > TOKEN_BYTES_MAX:
        raise InvalidRequest(f"a token for {len(names)} databases is longer than {TOKEN_BYTES_MAX} bytes; name fewer")
    assert claims.jti is not None
    return Made(
        token=token,
        id=claims.jti,
        name=name,
        read_only=read_only,
        databases=names or None,
        is_admin=is_admin,
        created_s=int(now_s),
        expires_s=expires_s,
    )


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
    """Make a token without a name, as `issue_token` does."""
    names = (*([database] if database else ()), *databases)
    made = issue_token(secret, read_only=read_only, databases=names, life_s=life_s, is_admin=is_admin, clock=clock)
    return made.token


def token_id(token: str) -> str:
    """Give the id of one of our tokens, unchecked; empty if it has none or is no token at all."""
    try:
        return read_claims(take_apart(token.strip().encode()).payload).jti or ""
    except (NoToken, Unauthorized):
        return ""


class Authenticator:
    """Checks who asks, in a web process. `is_open`: SQL needs no token."""

    def __init__(
        self,
        secret: str,
        *,
        is_open: bool = False,
        basic: str = "",
        keys: tuple[bytes, ...] = (),
        tag: str = "",
        clock: Clock | None = None,
        cached_max: int = TOKENS_CACHED_MAX,
    ) -> None:
        """`basic`: name and password, with a colon between. `keys`: Ed25519 public keys. `tag`: see `claims`."""
        self._key = derive_key(secret, SQL_TOKEN_LABEL)
        self._is_open = is_open
        self._basic = basic.encode()
        self._keys = keys
        self._tag = tag
        self._cached_max = cached_max
        self._clock = clock or SystemClock()
        self._revoked: frozenset[str] = frozenset()
        self._database_keys: Mapping[str, tuple[bytes, ...]] = {}
        self._open_access = OPEN_ACCESS
        self._known: dict[bytes, tuple[TokenAccess, int]] = {}

    # -- what changes while the process runs --

    def revoke(self, ids: frozenset[str]) -> None:
        """Take no tokens with these ids from now on."""
        if ids != self._revoked:
            self._revoked = ids
            self._known.clear()

    def use_database_keys(self, keys: Mapping[str, tuple[bytes, ...]]) -> None:
        """Take for these databases only tokens signed with their keys, besides our own."""
        if keys != self._database_keys:
            self._database_keys = dict(keys)
            self._open_access = TokenAccess(locked=frozenset(keys)) if keys else OPEN_ACCESS
            self._known.clear()

    # -- requests --

    def authenticate(self, headers: Headers) -> TokenAccess:
        """Give what a SQL request may do, from its ASGI headers. Raises Unauthorized."""
        other = b""
        for name, value in headers:
            if name == b"authorization":
                return self._check(value)
            if name == b"x-authorization":  # of gRPC-web
                other = value
        if other:
            return self._check(other)
        if self._is_open:
            return self._open_access
        raise Unauthorized(
            "a token is needed: send `Authorization: Bearer TOKEN`; `pando token` makes one", code=HEADER_MISSING
        )

    def authenticate_admin(self, headers: Headers) -> TokenAccess:
        """Give what a request to a cluster route may do. Raises Unauthorized, Forbidden."""
        access = next((self._check(value) for name, value in headers if name == b"authorization"), None)
        if access is None:
            raise Unauthorized(
                "an administrator's token is needed: send `Authorization: Bearer TOKEN`", code=HEADER_MISSING
            )
        access.check_admin()
        return access

    def _check(self, value: bytes) -> TokenAccess:
        known = self._known.get(value)
        if known is not None:
            access, expires_ms = known
            if expires_ms == NEVER_MS or self._clock.wall_ms() < expires_ms:
                return access
            del self._known[value]
        if not self._is_open:
            return self._verified(value)
        try:
            return self._verified(value)
        except Unauthorized:
            return self._open_access  # libSQL clients send whatever token they were configured with

    def _remember(self, value: bytes, access: TokenAccess, expires_ms: int) -> None:
        if len(value) > CACHED_BYTES_MAX:
            return
        if len(self._known) >= self._cached_max:
            del self._known[next(iter(self._known))]
        self._known[value] = (access, expires_ms)

    def _verified(self, value: bytes) -> TokenAccess:
        scheme, _, credentials = value.partition(b" ")
        credentials = credentials.strip()
        if not credentials or len(credentials) > TOKEN_BYTES_MAX:
            raise Unauthorized("the header must be `Authorization: Bearer TOKEN`", code=HEADER_MALFORMED)
        scheme = scheme.lower()
        if scheme == b"bearer":
            return self._of_token(value, credentials)
        if scheme == b"basic":
            return self._of_basic(value, credentials)
        raise Unauthorized("the header must be `Authorization: Bearer TOKEN`", code=UNSUPPORTED_SCHEME)

    def _of_basic(self, value: bytes, credentials: bytes) -> TokenAccess:
        if not self._basic:
            raise Unauthorized(
                "name and password are not taken here: send `Authorization: Bearer TOKEN`", code=UNSUPPORTED_SCHEME
            )
        try:
            given = b64decode(credentials + b"=" * (-len(credentials) % 4), validate=True)
        except (Base64Error, ValueError):
            given = b""
        if not hmac.compare_digest(given, self._basic):
            raise Unauthorized("name or password is wrong", code=BASIC_REJECTED)
        self._remember(value, self._open_access, NEVER_MS)
        return self._open_access

    def _of_token(self, value: bytes, token: bytes) -> TokenAccess:
        try:
            jws = take_apart(token)
        except NoToken:
            raise _not_ours() from None
        if jws.algorithm == EDDSA:
            return self._of_key_elsewhere(value, jws)
        if jws.algorithm != HS256 or not holds_hs256(jws, self._key):
            raise _not_ours()
        claims = self._claims(jws)
        expires_ms = check_times(claims, self._clock.wall_ms(), 0)
        access = access_of(claims, tag=self._tag, may_be_admin=True)
        self._remember(value, access, expires_ms)
        return access

    def _of_key_elsewhere(self, value: bytes, jws: Jws) -> TokenAccess:
        holds = holds_ed25519(jws, self._keys)
        if not holds and not self._database_keys:
            raise _not_ours()
        claims = self._claims(jws)
        if claims.aud is not None:
            raise Unauthorized("the token is for an audience, and this server is none that it could name", code=FAILED)
        expires_ms = check_times(claims, self._clock.wall_ms(), LEEWAY_S)
        access = access_of(claims, tag=self._tag)
        if self._database_keys:
            access = self._keyed(value, jws, access, expires_ms, holds=holds)
        if holds:
            self._remember(value, access, expires_ms)
        return access

    def _claims(self, jws: Jws) -> Claims:
        claims = read_claims(jws.payload)
        if claims.jti is not None and claims.jti in self._revoked:
            raise Unauthorized("the token was revoked; get a new one", code=JWT_INVALID)
        return claims

    def _keyed(self, value: bytes, jws: Jws, claimed: TokenAccess, expires_ms: int, *, holds: bool) -> KeyedAccess:
        """Put off the question whether a token holds until its database is known. Remembered once it does."""
        keys = self._database_keys
        found: dict[str, bool] = {}

        def holds_for(database: str) -> bool:
            own = keys.get(database)
            if own is None:
                return holds
            if database not in found:
                found[database] = holds_ed25519(jws, own)
                if found[database] and not holds and keys is self._database_keys:
                    self._remember(value, access, expires_ms)
            return found[database]

        if holds:
            given = KeyedAccess(
                read_only=claimed.read_only,
                databases=claimed.databases,
                writable=claimed.writable,
                claimed=claimed,
                holds_for=holds_for,
            )
        else:
            otherwise = self._open_access if self._is_open else None
            given = KeyedAccess(
                read_only=True, databases=frozenset(), claimed=claimed, holds_for=holds_for, otherwise=otherwise
            )
        access = given
        return access


def _not_ours() -> Unauthorized:
    return Unauthorized("the token is not one of this cluster; `pando token` makes one", code=JWT_INVALID)


def database_keys(texts: Mapping[str, str]) -> dict[str, tuple[bytes, ...]]:
    """Read the keys of databases; one that cannot be read locks its database for all but our own tokens."""
    return {name: _keys_of(text) for name, text in texts.items()}


@lru_cache(KEY_TEXTS_CACHED_MAX)
def _keys_of(text: str) -> tuple[bytes, ...]:
    try:
        return parse_public_keys(text)
    except InvalidRequest:
        return ()
