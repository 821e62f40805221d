"""What the sign-in routes answer. Pure.

    auth-methods    {"password","oauth2","mfa","otp","authProviders","usernamePassword","emailPassword"}
    signed in       {"meta"?,"record","token"}

Not here: looking for who signs in (`pando.records.signing_in`), checking the password (`pando.records.auth.passwords`),
the second factor (`pando.records.auth.mfa`).
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from pando.errors import invariant
from pando.records.model import AuthOptions

# -- auth-methods -----------------------------------------------------------------------------------------------------


class ProviderMethod(msgspec.Struct, frozen=True, kw_only=True):
    """A provider of OAuth2, as a client needs it; `code_*` are empty without PKCE."""

    name: str
    display_name: str = msgspec.field(name="displayName")
    logo: str = ""
    state: str
    auth_url: str = msgspec.field(name="authURL")
    auth_url_old: str = msgspec.field(name="authUrl")
    code_verifier: str = msgspec.field(default="", name="codeVerifier")
    code_challenge: str = msgspec.field(default="", name="codeChallenge")
    code_challenge_method: str = msgspec.field(default="", name="codeChallengeMethod")


class _Password(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    identity_fields: Sequence[str]
    enabled: bool


class _OAuth2(msgspec.Struct, frozen=True, kw_only=True):
    providers: Sequence[ProviderMethod]
    enabled: bool


class _Timed(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool
    duration: int


class AuthMethods(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How one can sign in to a collection; the last three are what older clients read."""

    password: _Password
    oauth2: _OAuth2
    mfa: _Timed
    otp: _Timed
    auth_providers: Sequence[ProviderMethod]
    username_password: bool
    email_password: bool


def auth_methods(auth: AuthOptions, providers: Sequence[ProviderMethod] = ()) -> AuthMethods:
    """Say how one can sign in; what is off shows nothing of its settings."""
    fields = auth.password_auth.identity_fields if auth.password_auth.enabled else ()
    shown = providers if auth.oauth2.enabled else ()
    return AuthMethods(
        password=_Password(identity_fields=fields, enabled=auth.password_auth.enabled),
        oauth2=_OAuth2(providers=shown, enabled=auth.oauth2.enabled),
        mfa=_timed(auth.mfa.enabled, auth.mfa.duration),
        otp=_timed(auth.otp.enabled, auth.otp.duration),
        auth_providers=shown,
        username_password="username" in fields,
        email_password="email" in fields,
    )


def _timed(is_enabled: bool, duration: int) -> _Timed:
    return _Timed(enabled=is_enabled, duration=duration if is_enabled else 0)


# -- signed in --------------------------------------------------------------------------------------------------------


class SignedIn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a sign-in answers. `record` and `meta` are JSON made elsewhere."""

    meta: msgspec.Raw | UnsetType = UNSET
    record: msgspec.Raw
    token: str


def signed_in(record: bytes, token: str, meta: bytes | None = None) -> bytes:
    """Put the body of an answer together from JSON of the record and of what the provider said."""
    invariant(bool(record) and meta != b"", "the parts of an answer are JSON")
    answer = SignedIn(record=msgspec.Raw(record), token=token, meta=UNSET if meta is None else msgspec.Raw(meta))
    return msgspec.json.encode(answer)
