"""The application's settings as PocketBase keeps them: one row of `_params`, JSON, with defaults for what is missing.

Pure: reading, merging, checking, showing. Not here: the node's own settings (`pando.settings`), the row's encryption
(a row that is encrypted is refused with what to do), who may see them.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from pando.errors import CorruptionError
from pando.records.problems import REQUIRED, ApiError, Problem, Problems, ValidationFailed

PARAMS_ID: Final = "settings"
_LARGEST: Final = 2**53 - 1


class Smtp(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """How mail is sent."""

    enabled: bool = False
    port: int = 587
    host: str = "smtp.example.com"
    username: str = ""
    password: str = ""
    auth_method: str = ""
    tls: bool = False
    local_name: str = ""


class S3(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Object storage."""

    enabled: bool = False
    bucket: str = ""
    region: str = ""
    endpoint: str = ""
    access_key: str = ""
    secret: str = ""
    force_path_style: bool = False


class Backups(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Backups on a schedule."""

    cron: str = ""
    cron_max_keep: int = 3
    s3: S3 = S3()


class Meta(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Names and addresses."""

    accent_color: str = "#1055c9"
    app_name: str = "Acme"
    app_url: str = msgspec.field(default="http://localhost:8090", name="appURL")
    sender_name: str = "Support"
    sender_address: str = "support@example.com"
    hide_controls: bool = False


class RateRule(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """So many requests of some kind in so many seconds."""

    label: str = ""
    audience: str = ""
    duration: int = 0
    max_requests: int = 0


def _rule(label: str, requests: int, seconds: int) -> RateRule:
    return RateRule(label=label, duration=seconds, max_requests=requests)


class RateLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits by client address."""

    rules: tuple[RateRule, ...] = (
        _rule("*:auth", 2, 3),
        _rule("*:create", 20, 5),
        _rule("/api/batch", 3, 1),
        _rule("/api/", 300, 10),
    )
    excluded_ips: tuple[str, ...] = msgspec.field(default=(), name="excludedIPs")
    enabled: bool = False


class TrustedProxy(msgspec.Struct, frozen=True, kw_only=True):
    """Which headers of a proxy tell the client's address."""

    headers: tuple[str, ...] = ()
    use_leftmost_ip: bool = msgspec.field(default=False, name="useLeftmostIP")


class Batch(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """Bounds of POST /api/batch; `timeout` in seconds."""

    enabled: bool = False
    max_requests: int = 50
    timeout: int = 3
    max_body_size: int = 0


class Logs(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What is logged, and how long it is kept in days."""

    max_data_size: int = 0
    max_days: int = 5
    min_level: int = 0
    log_ip: bool = msgspec.field(default=True, name="logIP")
    log_auth_id: bool = False


class AppSettings(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """All settings, in the order of their JSON."""

    superuser_ips: tuple[str, ...] = msgspec.field(default=(), name="superuserIPs")
    smtp: Smtp = Smtp()
    backups: Backups = Backups()
    s3: S3 = S3()
    meta: Meta = Meta()
    rate_limits: RateLimits = RateLimits()
    trusted_proxy: TrustedProxy = TrustedProxy()
    batch: Batch = Batch()
    logs: Logs = Logs()


def read_settings(text: str | bytes | None) -> AppSettings:
    """Read the value of the row, None for no row. Raises CorruptionError."""
    if text is None:
        return AppSettings()
    try:
        return msgspec.json.decode(text, type=AppSettings)
    except msgspec.MsgspecError as error:
        raise CorruptionError(
            f"the settings in `_params` cannot be read: {error}; if PocketBase has encrypted them (--encryptionEnv),"
            " save them once without encryption there"
        ) from error


def write_settings(settings: AppSettings) -> str:
    """Give the value of the row."""
    return msgspec.json.encode(settings).decode()


def shown(settings: AppSettings) -> bytes:
    """Give the JSON that superusers see: without secrets."""
    value = msgspec.to_builtins(settings)
    del value["smtp"]["password"], value["s3"]["secret"], value["backups"]["s3"]["secret"]
    return msgspec.json.encode(value)


def merged(settings: AppSettings, change: Any) -> AppSettings:  # noqa: ANN401 - decoded JSON
    """Put a change into settings, object by object; lists are replaced. Raises ApiError, ValidationFailed."""
    if not isinstance(change, dict):
        raise ApiError(400, "The settings must be a JSON object.")
    value = _merge(msgspec.to_builtins(settings), change)
    try:
        made = msgspec.convert(value, AppSettings)
    except msgspec.ValidationError as error:
        raise ApiError(400, f"The settings cannot be read: {error}.") from error
    problems = check(made)
    if problems:
        raise ValidationFailed(problems)
    return made


def _merge(old: dict[str, Any], change: dict[str, Any]) -> dict[str, Any]:
    merged = dict(old)
    for key, value in change.items():
        known = merged.get(key)
        merged[key] = _merge(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return merged


def check(settings: AppSettings) -> Problems:
    """Find what cannot be used, by group and key."""
    found = {
        "meta": _blank(app_name=settings.meta.app_name, sender_name=settings.meta.sender_name),
        "smtp": _smtp(settings.smtp),
        "batch": _batch(settings.batch),
        "logs": _range(0, _LARGEST, maxDays=settings.logs.max_days, maxDataSize=settings.logs.max_data_size),
        "rateLimits": _rates(settings.rate_limits),
        "s3": _s3(settings.s3),
    }
    return {key: problems for key, problems in found.items() if problems}


def _blank(**values: str) -> Problems:
    names = {"app_name": "appName", "sender_name": "senderName"}
    return {names.get(key, key): REQUIRED for key, value in values.items() if not value}


def _range(least: int, most: int, **values: int) -> dict[str, Problem]:
    low = Problem("validation_min_greater_equal_than_required", f"Must be no less than {least}.")
    high = Problem("validation_max_less_equal_than_required", f"Must be no greater than {most}.")
    found = {key: low for key, value in values.items() if value < least}
    return found | {key: high for key, value in values.items() if value > most}


def _smtp(smtp: Smtp) -> Problems:
    if not smtp.enabled:
        return {}
    ports = _range(1, 65535, port=smtp.port) if smtp.port else {"port": REQUIRED}
    return {**_blank(host=smtp.host), **ports}


def _batch(batch: Batch) -> Problems:
    if not batch.enabled:
        return {}
    found = _range(0, _LARGEST, maxBodySize=batch.max_body_size)
    required = {
        key: REQUIRED for key, value in (("maxRequests", batch.max_requests), ("timeout", batch.timeout)) if not value
    }
    return found | _range(1, _LARGEST, maxRequests=batch.max_requests or 1, timeout=batch.timeout or 1) | required


def _rates(limits: RateLimits) -> Problems:
    if not limits.enabled:
        return {}
    found: dict[str, Problems] = {}
    seen: dict[tuple[str, str], None] = {}
    for number, rule in enumerate(limits.rules):
        problems: dict[str, Problem | Problems] = {}
        if not rule.label:
            problems["label"] = REQUIRED
        problems |= _range(1, _LARGEST, duration=rule.duration, maxRequests=rule.max_requests)
        if rule.audience not in ("", "@guest", "@auth"):
            problems["audience"] = Problem("validation_in_invalid", "Must be empty, @guest or @auth.")
        clashes = [
            (rule.label, audience)
            for audience in (("", "@guest", "@auth") if not rule.audience else ("", rule.audience))
        ]
        if any(clash in seen for clash in clashes):
            problems["label"] = Problem(
                "validation_conflicting_rate_limit_rule", "Another rule has this label for the same audience."
            )
        seen[rule.label, rule.audience] = None
        if problems:
            found[str(number)] = problems
    return {"rules": found} if found else {}


def _s3(s3: S3) -> Problems:
    if not s3.enabled:
        return {}
    values = {"bucket": s3.bucket, "region": s3.region, "endpoint": s3.endpoint, "accessKey": s3.access_key}
    return {key: REQUIRED for key, value in {**values, "secret": s3.secret}.items() if not value}
