"""A change of the application's settings: laid over what holds, then checked, by group and key.

What is only needed when a part is switched on may be missing while it is off; what is there must be well-formed in
any case. Codes are PocketBase's. Pure. Not here: what settings there are (`app_settings`), saving them (`saving`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_address, ip_network
from typing import Any, Final

import msgspec

from pando.records import schedules
from pando.records.app_settings import S3, AppSettings, Backups, Batch, Logs, Meta, RateLimits, RateRule, Smtp
from pando.records.fields import addresses
from pando.records.problems import REQUIRED, ApiError, Problem, Problems, ValidationFailed

WHOLE_MAX: Final = 2**53 - 1
"""Largest whole number that JavaScript holds exactly."""
NAME_CHARS_MAX: Final = 255
COLOUR_CHARS: Final = 7
AUDIENCES: Final = ("", "@guest", "@auth")
_AUTH_METHODS: Final = ("", "LOGIN", "PLAIN")
_COLOUR: Final = re.compile(r"#[0-9A-Fa-f]{6}")
_LABEL: Final = re.compile(r"(?:\w+ )?/[\w/-]*|(?:\w+|\*):\w+|\w+", re.ASCII)
_HOST_PART: Final = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
_NO_URL: Final = Problem("validation_is_url", "Must be a valid URL.")
_NO_EMAIL: Final = Problem("validation_is_email", "Must be a valid email address.")
_NO_HOST: Final = Problem("validation_is_host", "Must be an IP address or a DNS name.")
_NO_COLOUR: Final = Problem("validation_is_hex_color", "Must be a colour such as #1055c9.")
_NO_CHOICE: Final = Problem("validation_in_invalid", "Must be a valid value.")
_NO_SCHEDULE: Final = Problem("validation_invalid_cron", "Must be five fields of a schedule, or a name such as @daily.")
_NO_LABEL: Final = Problem("validation_match_invalid", "Must be a word, word:word, *:word, /path or METHOD /path.")
_NO_NETWORK: Final = Problem("validation_invlaid_ip_or_subnet", "Must be an IP address or a subnet.")  # sic

Found = Problem | Problems | None
"""What is wrong with one key, if anything."""


def merged(settings: AppSettings, change: Any) -> AppSettings:  # noqa: ANN401 - decoded JSON
    """Put a change into settings, object by object; lists are replaced, null empties. Raises ApiError."""
    if not isinstance(change, dict):
        raise ApiError(400, "The settings must be a JSON object.")
    value = _laid_over(msgspec.to_builtins(settings), change)
    try:
        made = msgspec.convert(value, AppSettings)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"The settings cannot be read: {error}.") from error
    problems = check(made)
    if problems:
        raise ValidationFailed(problems)
    return made


def _laid_over(old: dict[str, Any], change: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(old)
    for key, value in change.items():
        known = result.get(key)
        if value is None:
            result[key] = _emptied(known)
        elif isinstance(known, dict) and isinstance(value, dict):
            result[key] = _laid_over(known, value)
        elif isinstance(value, list):
            result[key] = [_without_nulls(each) for each in value]
        else:
            result[key] = value
    return result


def _emptied(known: Any) -> Any:  # noqa: ANN401 - any part of the settings
    if isinstance(known, dict):
        return {key: _emptied(value) for key, value in known.items()}
    return None if known is None else type(known)()


def _without_nulls(item: Any) -> Any:  # noqa: ANN401 - decoded JSON
    if isinstance(item, dict):
        return {key: value for key, value in item.items() if value is not None}
    return {} if item is None else item


# -- checks -----------------------------------------------------------------------------------------------------------


def check(settings: AppSettings) -> Problems:
    """Find what cannot be used, by group and key."""
    return _gathered(
        {
            "superuserIPs": _networks(settings.superuser_ips),
            "smtp": _smtp(settings.smtp),
            "backups": _backups(settings.backups),
            "s3": _s3(settings.s3),
            "meta": _meta(settings.meta),
            "rateLimits": _rate_limits(settings.rate_limits),
            "batch": _batch(settings.batch),
            "logs": _logs(settings.logs),
        }
    )


def _gathered(found: Mapping[str, Found]) -> Problems:
    return {key: each for key, each in found.items() if each}


def _listed(found: Iterable[Found]) -> Problems:
    return _gathered({str(place): each for place, each in enumerate(found)})


def _first(*found: Found) -> Found:
    return next((each for each in found if each), None)


def _needed(value: object) -> Found:
    return None if value else REQUIRED


def _at_least(value: int, least: int) -> Found:
    """Check a lower bound; 0 means that nothing is said."""
    if not value or value >= least:
        return None
    text = f"Must be no less than {least}."
    return Problem("validation_min_greater_equal_than_required", text, {"threshold": least})


def _at_most(value: int, most: int) -> Found:
    if value <= most:
        return None
    text = f"Must be no greater than {most}."
    return Problem("validation_max_less_equal_than_required", text, {"threshold": most})


def _name(text: str) -> Found:
    if len(text) <= NAME_CHARS_MAX:
        return _needed(text)
    params = {"min": 1, "max": NAME_CHARS_MAX}
    return Problem("validation_length_out_of_range", f"The length must be between 1 and {NAME_CHARS_MAX}.", params)


def _url(text: str) -> Found:
    return None if not text or addresses.is_url(text) else _NO_URL


def _host(text: str) -> Found:
    return None if not text or is_host(text) else _NO_HOST


def is_host(text: str) -> bool:
    """Tell whether a text is an IP address or a DNS name."""
    if _is_ip(text):
        return True
    return len(text) <= NAME_CHARS_MAX and all(_HOST_PART.fullmatch(part) for part in text.removesuffix(".").split("."))


def _is_ip(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _networks(texts: Sequence[str]) -> Found:
    return _listed(_first(_needed(each), None if is_network(each) else _NO_NETWORK) for each in texts)


def is_network(text: str) -> bool:
    """Tell whether a text is an IP address or a subnet."""
    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return True


# -- groups -----------------------------------------------------------------------------------------------------------


def _smtp(smtp: Smtp) -> Problems:
    return _gathered(
        {
            "host": _first(_needed(smtp.host) if smtp.enabled else None, _host(smtp.host)),
            "port": _first(_needed(smtp.port) if smtp.enabled else None, _at_least(smtp.port, 0)),
            "authMethod": None if smtp.auth_method in _AUTH_METHODS else _NO_CHOICE,
            "localName": _host(smtp.local_name),
        }
    )


def _backups(backups: Backups) -> Problems:
    is_scheduled = bool(backups.cron)
    return _gathered(
        {
            "cron": _NO_SCHEDULE if is_scheduled and schedules.parse(backups.cron) is None else None,
            "cronMaxKeep": _first(
                _needed(backups.cron_max_keep) if is_scheduled else None, _at_least(backups.cron_max_keep, 1)
            ),
            "s3": _s3(backups.s3),
        }
    )


def _s3(s3: S3) -> Problems:
    needed = {"bucket": s3.bucket, "region": s3.region, "accessKey": s3.access_key, "secret": s3.secret}
    missing = {key: _needed(value) if s3.enabled else None for key, value in needed.items()}
    endpoint = _first(_needed(s3.endpoint) if s3.enabled else None, _url(s3.endpoint))
    return _gathered({**missing, "endpoint": endpoint})


def _meta(meta: Meta) -> Problems:
    is_email = addresses.is_email(meta.sender_address)
    return _gathered(
        {
            "accentColor": _colour(meta.accent_color),
            "appName": _name(meta.app_name),
            "appURL": _first(_needed(meta.app_url), _url(meta.app_url)),
            "senderName": _name(meta.sender_name),
            "senderAddress": _first(_needed(meta.sender_address), None if is_email else _NO_EMAIL),
        }
    )


def _colour(text: str) -> Found:
    if text and len(text) != COLOUR_CHARS:
        params = {"min": COLOUR_CHARS, "max": COLOUR_CHARS}
        return Problem("validation_length_invalid", f"The length must be {COLOUR_CHARS}.", params)
    return None if not text or _COLOUR.fullmatch(text) else _NO_COLOUR


def _batch(batch: Batch) -> Problems:
    values = {"maxRequests": batch.max_requests, "timeout": batch.timeout}
    found = {
        key: _first(_needed(value) if batch.enabled else None, _at_least(value, 0)) for key, value in values.items()
    }
    return _gathered({**found, "maxBodySize": _at_least(batch.max_body_size, 0)})


def _logs(logs: Logs) -> Problems:
    return _gathered(
        {
            "maxDays": _first(_at_least(logs.max_days, 0), _at_most(logs.max_days, WHOLE_MAX)),
            "maxDataSize": _first(_at_least(logs.max_data_size, 0), _at_most(logs.max_data_size, WHOLE_MAX)),
            "minLevel": _at_most(logs.min_level, WHOLE_MAX),
        }
    )


def _rate_limits(limits: RateLimits) -> Problems:
    if limits.enabled and not limits.rules:
        rules: Found = REQUIRED
    else:
        rules = _first(_listed(_gathered(_rate_rule(each)) for each in limits.rules), _clash(limits.rules))
    return _gathered({"rules": rules, "excludedIPs": _networks(limits.excluded_ips)})


def _rate_rule(rule: RateRule) -> Mapping[str, Found]:
    return {
        "label": _first(_needed(rule.label), None if _LABEL.fullmatch(rule.label) else _NO_LABEL),
        "audience": None if rule.audience in AUDIENCES else _NO_CHOICE,
        "duration": _first(_needed(rule.duration), _at_least(rule.duration, 1)),
        "maxRequests": _first(_needed(rule.max_requests), _at_least(rule.max_requests, 1)),
    }


def _clash(rules: Sequence[RateRule]) -> Problems:
    """Name the first rule whose label an earlier one has for some of the same callers."""
    seen: dict[str, set[str]] = {}
    for place, rule in enumerate(rules):
        audiences = seen.setdefault(rule.label, set())
        if audiences and (not rule.audience or "" in audiences or rule.audience in audiences):
            text = "Another rule has this label for the same callers."
            problem = Problem("validation_conflicting_rate_limit_rule", text, {"label": rule.label})
            return {str(place): {"label": problem}}
        audiences.add(rule.audience)
    return {}
