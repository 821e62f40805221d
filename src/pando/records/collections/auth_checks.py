"""Whether the options of an auth collection can be. What is switched off is not checked.

Pure. Not here: fields and indexes of auth collections (`pando.records.collections.field_checks`, `.index_checks`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pando.records.collections import indexes, providers
from pando.records.collections.asking import Asked, Found, gathered
from pando.records.collections.field_options import between
from pando.records.collections.providers import Provider
from pando.records.fields import addresses
from pando.records.model import (
    AuthOptions,
    Collection,
    MailTemplate,
    MfaOptions,
    OAuth2Options,
    OtpOptions,
    PasswordAuth,
    TokenOptions,
)
from pando.records.problems import REQUIRED, Problem

TOKEN_S_MIN, TOKEN_S_MAX = 10, 94_670_856
"""How long tokens may live: three years at most."""
FACTOR_S_MIN, FACTOR_S_MAX = 10, 86_400
"""How long a first factor, or a code that was mailed, may hold."""
OTP_LENGTH_MIN, OTP_LENGTH_MAX = 4, 100
SECRET_CHARS_MIN, SECRET_CHARS_MAX = 30, 255

_NOT_EMPTY: Final = Problem("validation_nil_or_not_empty_required", "Must be null or not empty.")
_TOO_FEW: Final = Problem("validation_mfa_not_enough_auths", "Two ways to sign in must be enabled.")
_NO_URL: Final = Problem("validation_is_url", "Must be a URL.")
_PROVIDER_TWICE: Final = Problem("validation_duplicated_provider", "The provider is there already.")


def check(new: Collection, options: AuthOptions, asked: Asked) -> dict[str, Found]:
    """Name what is wrong with the options, by key."""
    alert = options.auth_alert
    return {
        "authRule": check_rule(new, options.auth_rule, asked),
        "manageRule": _NOT_EMPTY if options.manage_rule == "" else check_rule(new, options.manage_rule, asked),
        "authAlert": gathered({"emailTemplate": _mail(alert.email_template)}) if alert.enabled else None,
        "oauth2": _oauth2(options.oauth2, asked),
        "passwordAuth": _password(new, options.password_auth),
        "mfa": _mfa(new, options, options.mfa, asked),
        "otp": _otp(options.otp),
        "authToken": _token(options.auth_token),
        "passwordResetToken": _token(options.password_reset_token),
        "emailChangeToken": _token(options.email_change_token),
        "verificationToken": _token(options.verification_token),
        "fileToken": _token(options.file_token),
        "verificationTemplate": _mail(options.verification_template),
        "resetPasswordTemplate": _mail(options.reset_password_template),
        "confirmEmailChangeTemplate": _mail(options.confirm_email_change_template),
    }


def check_rule(collection: Collection, rule: str | None, asked: Asked) -> Found:
    """Ask the compiler about a rule that is not null or empty."""
    wrong = asked.rule(collection, rule) if rule else None
    return Problem("validation_invalid_rule", f"Invalid rule: {wrong}") if wrong is not None else None


def _mail(template: MailTemplate) -> Found:
    return gathered(
        {
            "subject": None if template.subject else REQUIRED,
            "body": None if template.body else REQUIRED,
        }
    )


def _needed(value: int, least: int, most: int) -> Found:
    return between(value, least, most) if value else REQUIRED


def _token(token: TokenOptions) -> Found:
    is_long_enough = SECRET_CHARS_MIN <= len(token.secret) <= SECRET_CHARS_MAX
    text = f"The length must be between {SECRET_CHARS_MIN} and {SECRET_CHARS_MAX}."
    params = {"min": SECRET_CHARS_MIN, "max": SECRET_CHARS_MAX}
    return gathered(
        {
            "secret": None if is_long_enough else Problem("validation_length_out_of_range", text, params),
            "duration": _needed(token.duration, TOKEN_S_MIN, TOKEN_S_MAX),
        }
    )


def _password(new: Collection, options: PasswordAuth) -> Found:
    if not options.enabled:
        return None
    if not options.identity_fields:
        return {"identityFields": REQUIRED}
    for name in options.identity_fields:
        if problem := _identity(new, name):
            return {"identityFields": problem}
    return None


def _identity(new: Collection, name: str) -> Problem | None:
    if new.field(name) is None:
        return Problem("validation_missing_field", f"There is no field {name}.", {"fieldName": name})
    if indexes.unique_on(new.indexes, name) is None:
        text = f"The field {name} has no unique index."
        return Problem("validation_missing_unique_constraint", text, {"fieldName": name})
    return None


def _mfa(new: Collection, options: AuthOptions, mfa: MfaOptions, asked: Asked) -> Found:
    if not mfa.enabled:
        return None
    if wrong := _needed(mfa.duration, FACTOR_S_MIN, FACTOR_S_MAX):
        return {"duration": wrong}
    ways = (options.password_auth.enabled, options.oauth2.enabled, options.otp.enabled)
    return {"enabled": _TOO_FEW} if sum(ways) < 2 else gathered({"rule": check_rule(new, mfa.rule, asked)})


def _otp(otp: OtpOptions) -> Found:
    if not otp.enabled:
        return None
    return gathered(
        {
            "duration": _needed(otp.duration, FACTOR_S_MIN, FACTOR_S_MAX),
            "length": _needed(otp.length, OTP_LENGTH_MIN, OTP_LENGTH_MAX),
            "emailTemplate": _mail(otp.email_template),
        }
    )


def _oauth2(oauth2: OAuth2Options, asked: Asked) -> Found:
    if not oauth2.enabled:
        return None
    seen: set[str] = set()
    found: dict[str, Found] = {}
    for place, each in enumerate(providers.read(oauth2.providers)):
        found[str(place)] = gathered(_provider(each, seen, asked))
        seen.add(each.name)
    return gathered({"providers": gathered(found)})


def _provider(provider: Provider, seen: set[str], asked: Asked) -> Mapping[str, Found]:
    return {
        "name": _provider_name(provider.name, seen, asked),
        "clientId": None if provider.client_id else REQUIRED,
        "clientSecret": None if provider.client_secret else REQUIRED,
        "authURL": _url(provider.auth_url),
        "tokenURL": _url(provider.token_url),
        "userInfoURL": _url(provider.user_info_url),
    }


def _provider_name(name: str, seen: set[str], asked: Asked) -> Found:
    if not name:
        return REQUIRED
    if name not in asked.providers:
        return Problem("validation_missing_provider", "There is no such provider.", {"name": name})
    return _PROVIDER_TWICE if name in seen else None


def _url(text: str) -> Found:
    return None if not text or addresses.is_url(text) else _NO_URL
