"""Bodies of the admin routes: what sqld's clients send and read, and the configuration that comes of it. Pure.

Not here: the routes (`pando.api.admin`), where configurations are kept (`pando.sql.system`).
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from pando import limits
from pando.errors import InvalidRequest, PandoError
from pando.public_keys import parse_public_keys
from pando.sql.config import DatabaseConfig
from pando.sql.freshness import parse_freshness

SIZE_BYTES_MIN: Final = 64 * limits.KIB
"""Smallest maximum size: less would not hold a schema and what Pando writes beside it."""
TXN_TIMEOUT_S_MAX: Final = 3600.0
REASON_CHARS_MAX: Final = 1000
_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([KMGTP]?)(i?)B?\s*", re.IGNORECASE)
_POWERS: Final = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5}
_Body = TypeVar("_Body", bound=msgspec.Struct)
DurabilityMode = Literal["relaxed", "strong", "extra", "off"]


class ConfigBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """POST .../config: what is not named stays as it is, null takes it away."""

    block_reads: bool
    block_writes: bool
    block_reason: str | None = None
    max_db_size: str | int | UnsetType | None = UNSET
    jwt_key: str | UnsetType | None = UNSET
    txn_timeout_s: float | UnsetType | None = UNSET
    freshness: str | UnsetType | None = UNSET
    heartbeat_url: str | None = None
    allow_attach: bool | None = None
    durability_mode: DurabilityMode | None = None


class CreateBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """POST .../create."""

    dump_url: str | None = None
    max_db_size: str | int | None = None
    jwt_key: str | None = None
    txn_timeout_s: float | None = None
    freshness: str | None = None
    block_reads: bool = False
    block_writes: bool = False
    block_reason: str | None = None
    heartbeat_url: str | None = None
    allow_attach: bool | None = None
    durability_mode: DurabilityMode | None = None
    bottomless_db_id: str | None = None
    max_row_size: int | None = None
    shared_schema: bool | None = None
    shared_schema_name: str | None = None


class ForkBody(msgspec.Struct, forbid_unknown_fields=True):
    """POST .../fork/TO."""

    timestamp: str | None = None


_REFUSED: Final = {
    "heartbeat_url": "no heartbeats are sent; ask GET /v1/namespaces/NAME/stats",
    "allow_attach": "databases cannot be attached to each other: each is replicated by itself",
    "bottomless_db_id": "backups are made for the whole node",
    "max_row_size": "the longest row is the same for all databases",
    "shared_schema": "there are no shared schemas: run the same migrations on each database",
    "shared_schema_name": "there are no shared schemas: run the same migrations on each database",
}
"""Fields of sqld that would mean something and do not here; null, false and empty are fine."""


def decode_body(body: bytes, kind: type[_Body]) -> _Body:
    """Read a JSON body, nothing being `{}`; raises InvalidRequest."""
    try:
        wanted = msgspec.json.decode(body.strip() or b"{}", type=kind)
    except msgspec.MsgspecError as error:
        raise InvalidRequest(f"the body cannot be taken: {error}") from error
    for name, reason in _REFUSED.items():
        if getattr(wanted, name, None):
            raise InvalidRequest(f"{name} is not supported: {reason}")
    return wanted


def changed(config: DatabaseConfig, body: ConfigBody) -> DatabaseConfig:
    """Give a configuration after a POST. Raises InvalidRequest."""
    fields: dict[str, Any] = {
        "block_reads": body.block_reads,
        "block_writes": body.block_writes,
        "block_reason": body.block_reason,
    }
    for name in ("max_db_size", "jwt_key", "txn_timeout_s", "freshness"):
        value = getattr(body, name)
        if value is not UNSET:
            fields[name] = value
    return _checked(msgspec.structs.replace(config, **_read(fields)))


def wanted_config(body: CreateBody) -> DatabaseConfig:
    """Give the configuration of a new database. Raises InvalidRequest."""
    names = (
        *("block_reads", "block_writes", "block_reason"),
        *("max_db_size", "jwt_key", "txn_timeout_s", "freshness"),
    )
    return _checked(DatabaseConfig(**_read({name: getattr(body, name) for name in names})))


def config_view(config: DatabaseConfig) -> dict[str, object]:
    """Give the answer of GET .../config: sqld's fields, and `freshness`."""
    return {
        "block_reads": config.block_reads,
        "block_writes": config.block_writes,
        "block_reason": config.block_reason,
        "max_db_size": config.max_db_size,
        "heartbeat_url": None,
        "jwt_key": config.jwt_key,
        "allow_attach": False,
        "txn_timeout_s": config.txn_timeout_s,
        "durability_mode": "strong",
        "freshness": config.freshness or None,
    }


def _read(fields: dict[str, Any]) -> dict[str, Any]:
    size = fields.get("max_db_size")
    if isinstance(size, str):
        fields["max_db_size"] = parse_size(size)
    if fields.get("freshness", "") is None:
        fields["freshness"] = ""
    return fields


def _checked(config: DatabaseConfig) -> DatabaseConfig:
    size, seconds = config.max_db_size, config.txn_timeout_s
    if size is not None and not SIZE_BYTES_MIN <= size < 1 << 62:
        raise InvalidRequest(f"max_db_size is {size} bytes; it must be at least {SIZE_BYTES_MIN}")
    if seconds is not None and not 0 < seconds <= TXN_TIMEOUT_S_MAX:
        raise InvalidRequest(f"txn_timeout_s is {seconds:g}; it must be more than 0 and at most {TXN_TIMEOUT_S_MAX:g}")
    if config.block_reason is not None and len(config.block_reason) > REASON_CHARS_MAX:
        raise InvalidRequest(f"block_reason has {len(config.block_reason)} characters, over {REASON_CHARS_MAX}")
    if config.freshness:
        parse_freshness(config.freshness)
    if config.jwt_key is not None:
        check_key(config.jwt_key)
    return config


def check_key(text: str) -> None:
    """Raise InvalidRequest unless a text holds public keys that tokens can be checked with."""
    try:
        parse_public_keys(text)
    except PandoError as error:
        raise InvalidRequest(f"jwt_key cannot be used: {error.message}") from error


def parse_size(text: str) -> int:
    """Read a size such as `5MB` or `1.5 GiB`, in powers of 1000 and 1024; raises InvalidRequest."""
    found = _SIZE.fullmatch(text)
    if found is None or len(text) > 40:
        raise InvalidRequest(f'{text[:80]!r} is no size: write a number of bytes, or "5MB", "1.5GiB"')
    number, unit, binary = found.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.upper()])
