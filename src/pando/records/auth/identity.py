"""Who is asking: from the Authorization header to the record that it stands for.

A header that is missing, wrong, over or of another kind leaves its sender a guest; it never fails the request.
Collections and records are looked up by what the caller gives, so that this module needs no database. Pure.
Not here: what somebody may do (rules), from which addresses a superuser may ask (`settings.superuserIPs`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, Generic, Protocol, TypeVar

from pando.records.auth.tokens import Claims, TokenKind, VerifiedTokens, options_of
from pando.records.model import SUPERUSERS, Collection

_SCHEME: Final = "bearer "


class Signed(Protocol):
    """What is needed of a record to check its tokens."""

    @property
    def token_key(self) -> str:
        """The record's part of the key; it never leaves the server."""
        ...


RecordType = TypeVar("RecordType", bound=Signed)

FindCollection = Callable[[str], Collection | None]
FindRecord = Callable[[Collection, str], Awaitable[RecordType | None]]


@dataclass(frozen=True, slots=True)
class Identity(Generic[RecordType]):
    """A record that signed a request, as it is now."""

    collection: Collection
    record: RecordType
    claims: Claims
    token: str

    @property
    def is_superuser(self) -> bool:
        """Whether rules do not bind it."""
        return self.collection.name == SUPERUSERS

    @property
    def is_refreshable(self) -> bool:
        """Whether the token may be exchanged for one that lives longer."""
        return self.claims.refreshable is True


def token_of(header: str) -> str:
    """Take the token out of an Authorization header, which may or may not say `Bearer`; "" for none."""
    text = header.strip()
    return text[len(_SCHEME) :].strip() if text[: len(_SCHEME)].lower() == _SCHEME else text


class Identifier(Generic[RecordType]):
    """Finds out who is behind a token."""

    def __init__(
        self,
        find_collection: FindCollection,
        find_record: FindRecord[RecordType],
        tokens: VerifiedTokens | None = None,
    ) -> None:
        self._find_collection = find_collection
        self._find_record = find_record
        self._tokens = VerifiedTokens() if tokens is None else tokens

    async def of_header(self, header: str | None, now: float) -> Identity[RecordType] | None:
        """Give who signed a request; None for guests."""
        return await self.of_token(token_of(header), TokenKind.AUTH, now) if header else None

    async def of_token(self, token: str, kind: TokenKind, now: float) -> Identity[RecordType] | None:
        """Give whose token of a kind this is; None unless it holds now."""
        claims = self._tokens.read(token) if token else None
        if claims is None or claims.type is not kind or now >= claims.exp:
            return None
        collection = self._find_collection(claims.collection_id)
        if collection is None or collection.auth is None:
            return None
        record = await self._find_record(collection, claims.id)
        if record is None:
            return None
        verified = self._tokens.verify(token, record.token_key, options_of(kind, collection.auth).secret, now)
        return None if verified is None else Identity(collection, record, verified, token)
