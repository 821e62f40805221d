"""Tokens of records: JWTs (HS256) whose key is the record's `tokenKey` followed by the secret of the token's kind.

    header    {"alg":"HS256","typ":"JWT"}
    claims    type, id, collectionId, exp
              auth: refreshable; verification, passwordReset: email; emailChange: email, newEmail

Nothing is stored: a token dies with its time, with the record's token key or with the kind's secret. Checking one thus
takes three steps: read the claims unverified, look the record up, verify with its key. What was verified is remembered,
for the same key only, so that the usual request pays a dictionary lookup. Pure.
Not here: looking records up (`pando.records.desk`), tokens for SQL (`pando.node.tokens`).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec
from msgspec import UNSET, UnsetType

from pando.errors import invariant
from pando.jws import Jws, NoToken, holds_hs256, sign, take_apart
from pando.records.model import AuthOptions, TokenOptions

TOKEN_CHARS_MAX: Final = 4096
"""Longer texts are no tokens of ours: the longest claims are two addresses."""
TOKENS_CACHED_MAX: Final = 10_000
"""Verified tokens that a web process remembers; about 10 MB."""


class TokenKind(StrEnum):
    """What a token is good for."""

    AUTH = "auth"
    FILE = "file"
    VERIFICATION = "verification"
    PASSWORD_RESET = "passwordReset"
    EMAIL_CHANGE = "emailChange"


class Claims(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a token says. `exp` in seconds since 1970."""

    collection_id: str
    email: str | UnsetType = UNSET
    exp: int
    id: str
    new_email: str | UnsetType = UNSET
    refreshable: bool | UnsetType = UNSET
    type: TokenKind


_decode_claims: Final = msgspec.json.Decoder(Claims).decode
_encode: Final = msgspec.json.Encoder().encode
_UNREADABLE: Final = (NoToken, UnicodeError, msgspec.MsgspecError, RecursionError)
"""JSON that nests deeply makes msgspec raise RecursionError."""


# -- making -----------------------------------------------------------------------------------------------------------


def options_of(kind: TokenKind, auth: AuthOptions) -> TokenOptions:
    """Give the secret and life of a kind."""
    match kind:
        case TokenKind.AUTH:
            return auth.auth_token
        case TokenKind.FILE:
            return auth.file_token
        case TokenKind.VERIFICATION:
            return auth.verification_token
        case TokenKind.PASSWORD_RESET:
            return auth.password_reset_token
        case TokenKind.EMAIL_CHANGE:
            return auth.email_change_token


def make_token(claims: Claims, token_key: str, secret: str) -> str:
    """Sign claims. Without a record's key or a secret anybody could sign: an invariant."""
    invariant(bool(token_key) and bool(secret), "a token is signed with a record's key and a secret", kind=claims.type)
    return sign(_encode(claims), _key(token_key, secret))


def _key(token_key: str, secret: str) -> bytes:
    return (token_key + secret).encode("utf-8", "surrogatepass")


@dataclass(frozen=True, slots=True, kw_only=True)
class Issuer:
    """Makes the tokens of one record."""

    record_id: str
    collection_id: str
    token_key: str
    auth: AuthOptions

    def auth_token(self, now: float, *, is_refreshable: bool = True, duration_s: int = 0) -> str:
        """Make the token that signs requests; without a duration it lives as long as the collection says."""
        return self._issue(TokenKind.AUTH, now, duration_s=duration_s, refreshable=is_refreshable)

    def file_token(self, now: float) -> str:
        """Make the token that opens protected files."""
        return self._issue(TokenKind.FILE, now)

    def verification_token(self, now: float, email: str) -> str:
        """Make the token that proves who reads the mail of an address."""
        return self._issue(TokenKind.VERIFICATION, now, email=email)

    def password_reset_token(self, now: float, email: str) -> str:
        """Make the token that sets a new password."""
        return self._issue(TokenKind.PASSWORD_RESET, now, email=email)

    def email_change_token(self, now: float, email: str, new_email: str) -> str:
        """Make the token that sets a new address."""
        return self._issue(TokenKind.EMAIL_CHANGE, now, email=email, new_email=new_email)

    def _issue(
        self,
        kind: TokenKind,
        now: float,
        *,
        duration_s: int = 0,
        refreshable: bool | UnsetType = UNSET,
        email: str | UnsetType = UNSET,
        new_email: str | UnsetType = UNSET,
    ) -> str:
        options = options_of(kind, self.auth)
        claims = Claims(
            type=kind,
            id=self.record_id,
            collection_id=self.collection_id,
            exp=int(now) + (duration_s or options.duration),
            refreshable=refreshable,
            email=email,
            new_email=new_email,
        )
        return make_token(claims, self.token_key, options.secret)


# -- checking ---------------------------------------------------------------------------------------------------------


def read_claims(token: str) -> Claims | None:
    """Read what a token says of itself, unverified: good for looking up its key and for nothing else."""
    if len(token) > TOKEN_CHARS_MAX:
        return None
    read = _read(token)
    return None if read is None else read[1]


def _read(token: str) -> tuple[Jws, Claims] | None:
    try:
        parts = take_apart(token.encode("ascii"))
        return parts, _decode_claims(parts.payload)
    except _UNREADABLE:
        return None


def verify_token(token: str, token_key: str, secret: str, now: float) -> Claims | None:
    """Give the claims of a token that this key signed and that is not over at `now`, else None."""
    if len(token) > TOKEN_CHARS_MAX or not token_key or not secret:
        return None
    read = _read(token)
    if read is None or now >= read[1].exp or not holds_hs256(read[0], _key(token_key, secret)):
        return None
    return read[1]


class VerifiedTokens:
    """Checks tokens and remembers those that were good; the oldest go first."""

    def __init__(self, cached_max: int = TOKENS_CACHED_MAX) -> None:
        invariant(cached_max > 0, "the cache has room", cached_max=cached_max)
        self._cached_max = cached_max
        self._known: dict[str, tuple[Claims, int, str, str]] = {}

    def read(self, token: str) -> Claims | None:
        """Like `read_claims`: what comes out is unverified."""
        known = self._known.get(token)
        return known[0] if known is not None else read_claims(token)

    def verify(self, token: str, token_key: str, secret: str, now: float) -> Claims | None:
        """Like `verify_token`; what is remembered holds for the same key and secret only, and until it is over."""
        known = self._known.get(token)
        if known is not None:
            claims, expires, known_key, known_secret = known
            if now < expires and known_key == token_key and known_secret == secret:
                return claims
            del self._known[token]
        found = verify_token(token, token_key, secret, now)
        if found is not None:
            self._remember(token, (found, found.exp, token_key, secret))
        return found

    def _remember(self, token: str, known: tuple[Claims, int, str, str]) -> None:
        if len(self._known) >= self._cached_max:
            del self._known[next(iter(self._known))]
        self._known[token] = known

    def __len__(self) -> int:
        return len(self._known)
