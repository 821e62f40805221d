"""What holds for SQL on some databases besides the caller's token: reads or writes blocked, the system database.

Made from a snapshot of the system database; databases without a rule are not in the dictionary, so that a usual request
pays a lookup. Not here: where the rules are asked (`pando.sql.runs`), sizes (`pando.store.quotas`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from pando.errors import Blocked, Forbidden, InvalidRequest, UnknownDatabase
from pando.sql.access import Access
from pando.sql.calls import Call
from pando.sql.config import DatabaseConfig
from pando.sql.freshness import SESSION, Freshness, Level, parse_freshness
from pando.types import SYSTEM_DATABASE


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockedAccess(Access):
    """Rights on a database whose writes are blocked."""

    reason: str

    def check_write(self, database: str = "") -> None:
        """Raise Blocked."""
        raise blocked(self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemAccess(Access):
    """An administrator's rights on the system database."""

    def check_write(self, database: str = "") -> None:
        """Raise Forbidden."""
        raise Forbidden(
            f"the database {SYSTEM_DATABASE!r} is Pando's own; `pando databases` and `pando token` write it"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What holds for one database."""

    blocks_reads: bool = False
    blocks_writes: bool = False
    reason: str = ""
    is_system: bool = False
    freshness: Freshness | None = None
    """For calls that say none."""

    @property
    def asks_for_nothing(self) -> bool:
        """Whether what may be answered without the rule may be answered with it."""
        is_free = not self.blocks_reads and not self.blocks_writes and not self.is_system
        return is_free and (self.freshness is None or self.freshness.level is Level.EVENTUAL)

    def applied(self, call: Call) -> Call:
        """Give the call with the rights that are left of it, and its freshness. Raises UnknownDatabase."""
        access = call.access
        if self.freshness is not None and call.freshness is SESSION:
            call = replace(call, freshness=self.freshness)
        if self.is_system:
            if not access.is_admin:
                raise UnknownDatabase(f"database {SYSTEM_DATABASE!r} does not exist, or this token is not for it")
            return replace(call, access=SystemAccess(read_only=True))
        if self.blocks_writes and access.may_write(call.database):
            return replace(call, access=BlockedAccess(read_only=True, databases=access.databases, reason=self.reason))
        return call


SYSTEM_RULE: Final = Rule(is_system=True)
ONLY_SYSTEM: Final[Mapping[str, Rule]] = {SYSTEM_DATABASE: SYSTEM_RULE}
"""The rules when nothing is configured."""


def rules_of(configs: Mapping[str, DatabaseConfig], usual: Rule | None = None) -> Mapping[str, Rule]:
    """Give the rules by database; what a configuration leaves open is as `usual`."""
    found = {name: _rule(config, usual) for name, config in configs.items()}
    return {**{name: rule for name, rule in found.items() if rule is not None}, **ONLY_SYSTEM}


def usual_rule(freshness: str) -> Rule | None:
    """Give what holds for databases without a rule, from the node's setting; None: nothing. Raises InvalidRequest."""
    parsed = parse_freshness(freshness)
    return None if parsed == SESSION else Rule(freshness=parsed)


def _rule(config: DatabaseConfig, usual: Rule | None) -> Rule | None:
    freshness = None if usual is None else usual.freshness
    if config.freshness:
        with contextlib.suppress(InvalidRequest):  # of a newer version: then the usual one holds
            freshness = parse_freshness(config.freshness)
    if freshness == SESSION:
        freshness = None
    if not config.block_reads and not config.block_writes and freshness is None and usual is None:
        return None
    return Rule(
        blocks_reads=config.block_reads,
        blocks_writes=config.block_writes,
        reason=config.block_reason or "",
        freshness=freshness,
    )


def blocked(reason: str) -> Blocked:
    """Make the error for what is blocked, in sqld's words."""
    return Blocked(f"Operation was blocked: {reason}" if reason else "Operation was blocked")
