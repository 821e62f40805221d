"""The application's settings as PocketBase keeps them: one row of `_params`, JSON, with defaults for what is missing.

Pure: reading, writing, showing. Not here: changing them (`settings_change`), the node's own settings
(`pando.settings`), the row's encryption (a row that is encrypted is refused with what to do), who may see them.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pando.errors import CorruptionError

PARAMS_ID: Final = "settings"


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
            " note them down there, delete the row of `_params` with the id `settings`, and enter them here"
        ) from error


def write_settings(settings: AppSettings) -> str:
    """Give the value of the row."""
    return msgspec.json.encode(settings).decode()


def shown(settings: AppSettings) -> bytes:
    """Give the JSON that superusers see: without secrets."""
    value = msgspec.to_builtins(settings)
    del value["smtp"]["password"], value["s3"]["secret"], value["backups"]["s3"]["secret"]
    return msgspec.json.encode(value)
