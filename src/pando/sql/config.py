"""What can be configured for a database, as it is kept in the system database. Words only.

Not here: where it is kept (`pando.sql.system`), what holds it (`pando.sql.rules`, `pando.store.quotas`).
"""

from __future__ import annotations

import msgspec

from pando.errors import CorruptionError


class DatabaseConfig(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One database's configuration. `max_db_size` is in bytes; `freshness` is a value of Pando-Freshness."""

    block_reads: bool = False
    block_writes: bool = False
    block_reason: str | None = None
    max_db_size: int | None = None
    txn_timeout_s: float | None = None
    jwt_key: str | None = None
    """A public key for tokens of this database alone, as sqld takes it."""
    freshness: str = ""
    """For requests that name none; empty: the node's default."""


NO_CONFIG = DatabaseConfig()
"""What holds for a database that nobody has configured."""

_DECODER = msgspec.json.Decoder(DatabaseConfig)


def encode_config(config: DatabaseConfig) -> str:
    """Give the text that is kept."""
    return msgspec.json.encode(config).decode()


def decode_config(text: str) -> DatabaseConfig:
    """Read it back; fields of a newer version are left out. Raises CorruptionError."""
    try:
        return _DECODER.decode(text)
    except msgspec.MsgspecError as error:
        raise CorruptionError(f"the configuration {text[:200]!r} cannot be read: {error}") from error
