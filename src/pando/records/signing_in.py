"""Sign-in with a password, refreshing, impersonating: from credentials to a token.

All of it can be answered by a replica, but that a second factor needs the primary. Not here: tokens and hashes
themselves (`pando.records.auth`), other ways of signing in (a later issue completes them).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pando.records.auth.mfa import Method
from pando.records.auth.passwords import COST_DEFAULT
from pando.records.auth.tokens import Issuer
from pando.records.collections import indexes
from pando.records.collections.sql_tokens import quote
from pando.records.desk import Asking, Desk, find_all, find_by_id, is_superusers
from pando.records.model import AuthOptions, Collection, PasswordField
from pando.records.origins_kept import note_origin
from pando.records.problems import REQUIRED, ApiError, Problem, ValidationFailed, forbidden, not_found, unauthorized
from pando.records.record import Record, Viewer
from pando.records.rules import holds
from pando.records.second_factor import asked_id, pass_factor

IDENTITY_CHARS_MAX: Final = 255
PASSWORD_CHARS_MAX: Final = 255
DURATION_S_MAX: Final = 1 << 40
"""Longest life of a token, beyond all that anybody waits for."""


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Who signed in, and the token that proves it."""

    record: Record
    token: str

    @property
    def viewer(self) -> Viewer:
        """The record looks at itself."""
        return Viewer.of(self.record)


def auth_of(collection: Collection) -> AuthOptions:
    """Give what an auth collection has. Raises ApiError 404 for others."""
    if collection.auth is None:
        raise not_found("Missing or invalid auth collection context.")
    return collection.auth


async def with_password(desk: Desk, asking: Asking, collection: Collection, body: dict[str, Any]) -> SignedIn:
    """Check identity and password. Raises ApiError; SecondFactorNeeded if that was the first of two steps."""
    options = auth_of(collection)
    if not options.password_auth.enabled:
        raise forbidden("The collection is not configured to allow password authentication.")
    identity, password, only = _credentials(options, body)
    mfa_id = asked_id(asking, body)
    record = await _find(desk, collection, [only] if only else _order(options, identity), identity)
    hashed = None if record is None else record.text("password")
    if not await desk.passwords.check(password, hashed, _cost(collection)) or record is None:
        raise ApiError(400, "Failed to authenticate.")
    if is_superusers(collection):
        desk.guard.check_superuser(asking.known.settings, asking.address)
    asking = asking.within("password")
    signed_in = await _admit(desk, asking, options, record)
    await pass_factor(desk, asking, options, record, Method.PASSWORD, mfa_id)
    note_origin(desk, asking, record)
    return signed_in


async def refresh(desk: Desk, asking: Asking, collection: Collection, token: str) -> SignedIn:
    """Give a new token for one that holds. A token that cannot be refreshed is given back as it is. Raises ApiError."""
    options = auth_of(collection)
    record = asking.auth
    if record is None:
        raise unauthorized()
    if record.collection.id != collection.id:
        raise forbidden("The authorized record model is from another collection.")
    token = token[7:] if token[:7].lower() == "bearer " else token
    claims = desk.tokens.read(token)
    signed_in = await _admit(desk, asking, options, record)
    return signed_in if claims is not None and claims.refreshable is True else SignedIn(record, token)


async def impersonate(desk: Desk, asking: Asking, collection: Collection, id: str, duration_s: int) -> SignedIn:
    """Give a superuser a token for somebody; it cannot be refreshed. Raises ApiError."""
    options = auth_of(collection)
    if duration_s < 0:
        problem = Problem("validation_min_greater_equal_than_required", "Must be no less than 0.", {"threshold": 0})
        raise ValidationFailed({"duration": problem})
    record = await find_by_id(desk.engine.reads(), collection, id)
    if record is None:
        raise not_found()
    issuer = issuer_of(record, options)
    return SignedIn(
        record,
        issuer.auth_token(asking.now_ms / 1000, is_refreshable=False, duration_s=min(duration_s, DURATION_S_MAX)),
    )


def file_token(asking: Asking) -> str:
    """Give whoever is signed in a token for protected files. Raises ApiError."""
    record = asking.auth
    if record is None:
        raise unauthorized()
    return issuer_of(record, auth_of(record.collection)).file_token(asking.now_ms / 1000)


def issuer_of(record: Record, options: AuthOptions) -> Issuer:
    """Give what makes tokens for a record."""
    return Issuer(
        record_id=record.id, collection_id=record.collection.id, token_key=record.text("tokenKey"), auth=options
    )


async def _admit(desk: Desk, asking: Asking, options: AuthOptions, record: Record) -> SignedIn:
    """The credentials are right: does the collection let this record in?"""
    if options.auth_rule is None or not await holds(desk, asking, record.collection, options.auth_rule, record.id):
        raise forbidden("The request doesn't satisfy the collection requirements to authenticate.")
    return SignedIn(record, issuer_of(record, options).auth_token(asking.now_ms / 1000))


def _credentials(options: AuthOptions, body: dict[str, Any]) -> tuple[str, str, str]:
    problems: dict[str, Problem] = {}
    values = {name: body.get(name) for name in ("identity", "password", "identityField")}
    texts = {name: value if isinstance(value, str) else "" for name, value in values.items()}
    for name, most in (("identity", IDENTITY_CHARS_MAX), ("password", PASSWORD_CHARS_MAX)):
        if not texts[name]:
            problems[name] = REQUIRED
        elif len(texts[name]) > most:
            text = f"The length must be between 1 and {most}."
            problems[name] = Problem("validation_length_out_of_range", text, {"min": 1, "max": most})
    only = texts["identityField"]
    if only and only not in options.password_auth.identity_fields:
        problems["identityField"] = Problem("validation_in_invalid", "Must be a valid value.")
    if problems:
        raise ValidationFailed(problems)
    return texts["identity"], texts["password"], only


def _order(options: AuthOptions, identity: str) -> list[str]:
    """Say which fields to try: what looks like an address is looked for among addresses first."""
    names = list(options.password_auth.identity_fields)
    if "@" in identity and "email" in names:
        names.remove("email")
        return ["email", *names]
    return names


async def _find(desk: Desk, collection: Collection, names: list[str], identity: str) -> Record | None:
    for name in names:
        if collection.field(name) is None:
            continue
        unique = indexes.unique_on(collection.indexes, name)
        collate = " COLLATE NOCASE" if unique is not None and unique.columns[0].collate.upper() == "NOCASE" else ""
        found = await find_all(desk.engine.reads(), collection, f"{quote(name)} = ?{collate} LIMIT 1", (identity,))
        if found:
            return found[0]
    return None


def _cost(collection: Collection) -> int:
    found = collection.field("password")
    return (found.cost if isinstance(found, PasswordField) else 0) or COST_DEFAULT
